/// What KubeControllersConfiguration `default` says to us. Members of controllers that only Kubernetes has are passed over.
public import JSON
import HealthServer

public struct ControllersSettings: Hashable, Sendable {
  /// Nil: history is not compacted by us.
  public var compactionPeriod: Duration? = .seconds(600)
  /// 0: nothing is served.
  public var port = 9094
  public var servesHealth = true
  /// After this time a leaked address is given back; nil: never.
  public var leakGracePeriod: Duration? = .seconds(900)
  /// How often nodes, addresses and handles are looked through.
  public var reconcilerPeriod: Duration = .seconds(300)
  /// What is wrong with them, in words; the usual value is in force then.
  public var problems: [String] = []

  public init() {}

  /// `document`: the object as it is stored.
  public init(_ document: JSONValue) {
    guard let spec = document["spec"] else { return }
    func duration(_ value: JSONValue?, _ path: String, _ usual: Duration?) -> Duration? {
      guard let value, !value.isNull else { return usual }
      guard let text = value.string, let duration = GoDuration.parse(text) else {
        problems.append("KubeControllersConfiguration default: \(path) is \(value.text()), which is no time like \"10m\"; the usual one holds")
        return usual
      }
      return duration > .zero ? duration : nil
    }
    compactionPeriod = duration(spec["etcdV3CompactionPeriod"], "spec.etcdV3CompactionPeriod", compactionPeriod)
    let node = spec["controllers"]?["node"]
    leakGracePeriod = duration(node?["leakGracePeriod"], "spec.controllers.node.leakGracePeriod", leakGracePeriod)
    reconcilerPeriod = duration(node?["reconcilerPeriod"], "spec.controllers.node.reconcilerPeriod", reconcilerPeriod) ?? reconcilerPeriod
    if let value = spec["prometheusMetricsPort"], !value.isNull {
      if let port = value.integer, (0...65535).contains(port) {
        self.port = Int(port)
      } else {
        problems.append(
          "KubeControllersConfiguration default: spec.prometheusMetricsPort is \(value.text()), which is no port; \(port) is used")
      }
    }
    servesHealth = spec["healthChecks"]?.string != "Disabled"
  }

  /// `MARGAY_CONTROLLERS_PORT` overrules the datastore: several daemons on one machine, or a port that somebody else has.
  public static let variables = ["MARGAY_CONTROLLERS_PORT", "MARGAY_CONTROLLERS_HOST"]
  func plan(_ environment: [String: String]) -> ServingPlan {
    var plan = ServingPlan()
    var port = port
    if let text = environment["MARGAY_CONTROLLERS_PORT"], !text.isEmpty {
      if let number = UInt16(text) {
        port = Int(number)
      } else {
        plan.problems.append("the environment variable MARGAY_CONTROLLERS_PORT is \"\(text)\", which is no port; it is ignored")
      }
    }
    guard port > 0 else { return plan }
    let host = environment["MARGAY_CONTROLLERS_HOST"].flatMap { $0.isEmpty ? nil : $0 } ?? "localhost"
    plan.places[ServingPlace(host: host, port: port)] = servesHealth ? Set(HealthPage.allCases) : [.metrics]
    return plan
  }
}

/// Times as Go writes them: `10m`, `1h30m`, `1.5s`, `500ms`.
enum GoDuration {
  private static let units: [(name: String, nanoseconds: Double)] = [
    // A longer name before its beginning.
    ("ns", 1), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("h", 3600e9), ("m", 60e9), ("s", 1e9),
  ]
  static func parse(_ text: String) -> Duration? {
    if text == "0" { return .zero }
    var rest = Substring(text)
    var nanoseconds = 0.0
    guard !rest.isEmpty else { return nil }
    while !rest.isEmpty {
      let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
      rest = rest.dropFirst(digits.count)
      guard let number = Double(digits), let unit = units.first(where: { rest.hasPrefix($0.name) }) else { return nil }
      rest = rest.dropFirst(unit.name.count)
      nanoseconds += number * unit.nanoseconds
    }
    guard nanoseconds < 9e18 else { return nil }
    return .nanoseconds(Int64(nanoseconds))
  }
}

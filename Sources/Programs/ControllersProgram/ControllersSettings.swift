/// What KubeControllersConfiguration `default` says to us, and where the pages are served.
import Documents
public import HealthServer
import JSON
public import Resources

public struct ControllersSettings: Hashable, Sendable {
  /// Nil: history is not compacted by us.
  public var compactionPeriod: Duration? = .seconds(600)
  /// After this time a leaked address is given back; nil: never.
  public var leakGracePeriod: Duration? = .seconds(900)
  /// How often nodes, addresses and handles are looked through.
  public var reconcilerPeriod: Duration = .seconds(300)
  /// 0: nothing is served.
  public var port = 9094
  public var servesHealth = true
  /// What cannot be read of them, in words; the usual value is in force then.
  public var problems: [String] = []

  public init() {}

  public init(_ spec: KubeControllersConfigurationSpec) {
    compactionPeriod = spec.etcdV3CompactionPeriod.map { $0 > .zero ? $0 : nil } ?? compactionPeriod
    let node = spec.controllers?.node
    leakGracePeriod = node?.leakGracePeriod.map { $0 > .zero ? $0 : nil } ?? leakGracePeriod
    if let period = node?.reconcilerPeriod, period > .zero { reconcilerPeriod = period }
    port = spec.prometheusMetricsPort.map(Int.init) ?? port
    servesHealth = spec.healthChecks != .disabled
  }

  /// Of the object as it is stored.
  init(_ document: JSONValue) {
    do throws(DocumentError) {
      let found = try ResourceCodec.decodeReporting(kind: .kubeControllersConfiguration, value: document)
      if case .kubeControllersConfiguration(let spec) = found.resource.spec { self.init(spec) } else { self.init() }
      problems = found.faults.map { "\($0.description); the usual value holds" }
    } catch {
      self.init()
      problems = ["\(error.description); the usual values hold"]
    }
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

/// Where a daemon serves which pages: from FelixConfiguration, overruled by the environment, as Felix has always read it.
public import Resources

public enum HealthPage: String, Hashable, Sendable, CaseIterable {
  case liveness, readiness, metrics
}

public struct ServingPlace: Hashable, Sendable, CustomStringConvertible {
  public var host: String
  public var port: Int
  public init(host: String, port: Int) {
    self.host = host
    self.port = port
  }
  public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

public struct ServingPlan: Hashable, Sendable {
  public enum Role: String, Hashable, Sendable {
    case felix, bgp
    /// Felix's are Calico's. Those of bgp are no field of FelixConfiguration: two daemons with one number would never both get it.
    var ports: (health: Int, metrics: Int) {
      switch self {
      case .felix: (9099, 9091)
      case .bgp: (9097, 9095)
      }
    }
  }
  public var places: [ServingPlace: Set<HealthPage>] = [:]
  /// What is wrong with the settings.
  public var problems: [String] = []
  public init(places: [ServingPlace: Set<HealthPage>] = [:]) { self.places = places }

  /// What the environment may say.
  public static let variables =
    ["HEALTHENABLED", "HEALTHHOST", "HEALTHPORT", "PROMETHEUSMETRICSENABLED", "PROMETHEUSMETRICSHOST", "PROMETHEUSMETRICSPORT"]
    .map { "FELIX_\($0)" } + ["MARGAY_BGP_HEALTHPORT", "MARGAY_BGP_PROMETHEUSMETRICSPORT"]

  /// `configurations`: the cluster's, then the node's, each field of a later one overruling. The environment is that of the process:
  /// `FELIX_HEALTHENABLED` and the like for both daemons; `MARGAY_BGP_HEALTHPORT` and `MARGAY_BGP_PROMETHEUSMETRICSPORT` for bgp.
  public init(_ role: Role, _ configurations: [FelixConfigurationSpec], environment: [String: String]) {
    var problems: [String] = []
    func last<Value>(_ field: KeyPath<FelixConfigurationSpec, Value?>) -> Value? {
      configurations.last { $0[keyPath: field] != nil }?[keyPath: field]
    }
    func variable<Value>(_ name: String, _ rule: String, _ parse: (String) -> Value?) -> Value? {
      guard let text = environment[name], !text.isEmpty else { return nil }
      if let value = parse(text) { return value }
      problems.append("the environment variable \(name) is \"\(text)\", which is \(rule); it is ignored")
      return nil
    }
    func flag(_ name: String) -> Bool? {
      variable(name, "neither true nor false") { ["true": true, "false": false, "1": true, "0": false][$0.lowercased()] }
    }
    func port(_ felix: String, _ bgp: String, _ stored: UInt16?, _ usual: Int) -> Int {
      let own = variable(role == .felix ? felix : bgp, "no port from 1 to 65535") { UInt16($0).flatMap { $0 > 0 ? Int($0) : nil } }
      return own ?? (role == .felix ? stored.map(Int.init) : nil) ?? usual
    }
    if flag("FELIX_HEALTHENABLED") ?? last(\.healthEnabled) ?? true {
      let host = environment["FELIX_HEALTHHOST"] ?? last(\.healthHost) ?? "localhost"
      let port = port("FELIX_HEALTHPORT", "MARGAY_BGP_HEALTHPORT", last(\.healthPort), role.ports.health)
      places[ServingPlace(host: host, port: port)] = Set(HealthPage.allCases)
    }
    if flag("FELIX_PROMETHEUSMETRICSENABLED") ?? last(\.prometheusMetricsEnabled) ?? false {
      let host = environment["FELIX_PROMETHEUSMETRICSHOST"] ?? last(\.prometheusMetricsHost) ?? ""
      let port = port(
        "FELIX_PROMETHEUSMETRICSPORT", "MARGAY_BGP_PROMETHEUSMETRICSPORT", last(\.prometheusMetricsPort), role.ports.metrics)
      places[ServingPlace(host: host.isEmpty ? "0.0.0.0" : host, port: port), default: []].insert(.metrics)
    }
    self.problems = problems
  }
}

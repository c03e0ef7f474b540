/// Where a daemon serves which pages, from Felix's settings.
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

  /// What the environment says of bgp alone: two daemons with one number would never both get it.
  public static let variables = ["MARGAY_BGP_HEALTHPORT", "MARGAY_BGP_PROMETHEUSMETRICSPORT"]

  /// `settings`: what is in force.
  public init(_ role: Role, _ settings: FelixConfigurationSpec, environment: [String: String] = [:]) {
    var problems: [String] = []
    func port(_ stored: UInt16?, _ variable: String, _ usual: Int) -> Int {
      guard role == .bgp else { return stored.map(Int.init) ?? usual }
      guard let text = environment[variable], !text.isEmpty else { return usual }
      if let port = UInt16(text), port > 0 { return Int(port) }
      problems.append("the environment variable \(variable) is \"\(text)\", which is no port from 1 to 65535; it is ignored")
      return usual
    }
    if settings.healthEnabled ?? true {
      let place = ServingPlace(host: settings.healthHost ?? "localhost", port: port(settings.healthPort, Self.variables[0], role.ports.health))
      places[place] = Set(HealthPage.allCases)
    }
    if settings.prometheusMetricsEnabled ?? false {
      let port = port(settings.prometheusMetricsPort, Self.variables[1], role.ports.metrics)
      let place = ServingPlace(host: settings.prometheusMetricsHost ?? "0.0.0.0", port: port)
      if ["prometheusMetricsCertFile", "prometheusMetricsKeyFile", "prometheusMetricsCAFile"].contains(where: { settings.text($0) != nil }) {
        // Metrics that somebody wanted protected are not served open.
        problems.append("metrics are not served at \(place): prometheusMetrics…File ask for TLS, which is not there; keep them on localhost")
      } else {
        places[place, default: []].insert(.metrics)
      }
    }
    self.problems = problems
  }
}

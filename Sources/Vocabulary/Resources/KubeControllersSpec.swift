/// What the cluster's controllers do, and how often.
import Addresses

public enum EnabledOrDisabled: String, Hashable, Sendable, CaseIterable {
  case enabled = "Enabled"
  case disabled = "Disabled"
}

public struct KubeControllersConfigurationSpec: Hashable, Sendable {
  public enum LogLevel: String, Hashable, Sendable, CaseIterable {
    case none = "None"
    case debug = "Debug"
    case info = "Info"
    case warning = "Warning"
    case error = "Error"
    case fatal = "Fatal"
    case panic = "Panic"
  }
  public enum AssignIPs: String, Hashable, Sendable, CaseIterable {
    case allServices = "AllServices"
    case requestedServicesOnly = "RequestedServicesOnly"
  }
  /// Makes host endpoints of the nodes that it selects.
  public struct HostEndpointTemplate: Hashable, Sendable {
    /// The end of the endpoints' names.
    public var generateName: String?
    /// The node's addresses in these networks are the endpoint's.
    public var interfaceCIDRs: [IPPrefix] = []
    /// A regular expression: an endpoint for each interface that matches.
    public var interfacePattern: String?
    public var labels: [String: String] = [:]
    /// Nil selects all nodes.
    public var nodeSelector: String?
    public init() {}
  }
  public struct AutoHostEndpoint: Hashable, Sendable {
    public var autoCreate: EnabledOrDisabled?
    public var createDefaultHostEndpoint: EnabledOrDisabled?
    public var templates: [HostEndpointTemplate] = []
    public init() {}
  }
  public struct NodeController: Hashable, Sendable {
    /// Nil means the default, 5 minutes.
    public var reconcilerPeriod: Duration?
    public var syncLabels: EnabledOrDisabled?
    public var hostEndpoint: AutoHostEndpoint?
    /// After this time an address that nobody seems to use is released; zero: never. Nil means the default, 15 minutes.
    public var leakGracePeriod: Duration?
    public init() {}
  }
  /// A controller that has no setting but its period; nil means the default, 5 minutes.
  public struct PlainController: Hashable, Sendable {
    public var reconcilerPeriod: Duration?
    public init(reconcilerPeriod: Duration? = nil) { self.reconcilerPeriod = reconcilerPeriod }
  }
  public struct LoadBalancerController: Hashable, Sendable {
    /// Nil means the default, all services.
    public var assignIPs: AssignIPs?
    public init(assignIPs: AssignIPs? = nil) { self.assignIPs = assignIPs }
  }
  public struct PolicyMigration: Hashable, Sendable {
    /// Nil means the default, enabled.
    public var enabled: EnabledOrDisabled?
    public init(enabled: EnabledOrDisabled? = nil) { self.enabled = enabled }
  }
  /// A controller that is not mentioned does not run.
  public struct Controllers: Hashable, Sendable {
    public var node: NodeController?
    public var policy: PlainController?
    public var workloadEndpoint: PlainController?
    public var serviceAccount: PlainController?
    public var namespace: PlainController?
    public var loadBalancer: LoadBalancerController?
    public var policyMigration: PolicyMigration?
    public init() {}
  }
  /// Nil means the default, Info.
  public var logSeverityScreen: LogLevel?
  /// Nil means the default, enabled.
  public var healthChecks: EnabledOrDisabled?
  /// How often the history of etcd is compacted; zero: never. Nil means the default, 10 minutes.
  public var etcdV3CompactionPeriod: Duration?
  /// Zero: no metrics. Nil means the default, 9094.
  public var prometheusMetricsPort: UInt16?
  /// Zero and nil: none.
  public var debugProfilePort: UInt16?
  /// Nil means the default: all run.
  public var controllers: Controllers?
  public init() {}
}

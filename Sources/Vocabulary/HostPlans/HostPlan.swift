/// What one host's kernel should hold, as the calculation wants it and the drivers make it: no kernel words, no datastore words.
import Addresses
import Resources

/// All of it at one moment.
public struct HostPlan: Hashable, Sendable {
  public var settings = HostSettings()
  public var ipSets: [IPSetID: IPSetPlan] = [:]
  /// NetworkPolicy, GlobalNetworkPolicy and Profile keys.
  public var policies: [ResourceKey: PolicyPlan] = [:]
  /// By WorkloadEndpoint key.
  public var endpoints: [ResourceKey: EndpointPlan] = [:]
  /// By HostEndpoint key.
  public var hostEndpoints: [ResourceKey: HostEndpointPlan] = [:]
  public var routes: [IPPrefix: RoutePlan] = [:]
  public init() {}
}

public enum RoutePlan: Hashable, Sendable {
  /// To a workload of this host over its interface.
  case workload(interfaceName: String)
  /// A block of this host: what no workload holds goes nowhere.
  case blackhole
}

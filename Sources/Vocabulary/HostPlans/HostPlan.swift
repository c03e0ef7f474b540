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
  public var tunnels: [TunnelKind: TunnelPlan] = [:]
  public var tunnelPeers: [TunnelPeer: TunnelPeerPlan] = [:]
  public var tunnelDemands: [TunnelKind: TunnelDemand] = [:]
  public init() {}
}

public enum RoutePlan: Hashable, Sendable {
  /// To a workload of this host over its interface.
  case workload(interfaceName: String)
  /// A block of this host: what no workload holds goes nowhere.
  case blackhole
  /// To a host of this host's own subnet, by its address there, over the interface that has the address `from`.
  case direct(via: IPAddress, from: IPAddress)
  /// Into a tunnel, towards this address: of the other end of a VXLAN tunnel, of the other host for IPIP.
  case tunnel(TunnelKind, via: IPAddress)

  public var isToAnotherHost: Bool {
    switch self {
    case .workload, .blackhole: false
    case .direct, .tunnel: true
    }
  }
}

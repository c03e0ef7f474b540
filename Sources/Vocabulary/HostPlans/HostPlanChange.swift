/// The calculation speaks in changes, so that one update costs what it touches and not what the cluster holds.
import Addresses
import Resources

public enum HostPlanChange: Hashable, Sendable {
  case settings(HostSettings)
  /// A new set with all its members, or a set whose content kind or explanation changed.
  case ipSet(IPSetID, IPSetPlan)
  case ipSetMembers(IPSetID, added: Set<IPSetMember>, removed: Set<IPSetMember>)
  case policy(ResourceKey, PolicyPlan)
  case endpoint(ResourceKey, EndpointPlan)
  case hostEndpoint(ResourceKey, HostEndpointPlan)
  /// Nil: no such tunnel (any more).
  case tunnel(TunnelKind, TunnelPlan?)
  case tunnelPeer(TunnelPeer, TunnelPeerPlan?)
  case tunnelDemand(TunnelKind, TunnelDemand?)
  case route(IPPrefix, RoutePlan)
  case routeRemoved(IPPrefix)
  /// Removed as well, because BGP carries the route from now on.
  case routeHandedOver(IPPrefix)
  case endpointRemoved(ResourceKey)
  case hostEndpointRemoved(ResourceKey)
  case policyRemoved(ResourceKey)
  case ipSetRemoved(IPSetID)

  /// The order in which a batch is emitted: what is referred to comes before what refers to it, removals in reverse.
  public var rank: Int {
    switch self {
    case .settings: 0
    case .ipSet: 1
    case .ipSetMembers: 2
    case .policy: 3
    case .endpoint, .hostEndpoint: 4
    // A tunnel comes before what leads into it, and goes after it.
    case .tunnel(_, let plan): plan == nil ? 8 : 4
    case .tunnelPeer(_, let plan): plan == nil ? 7 : 4
    case .tunnelDemand: 4
    case .routeRemoved, .routeHandedOver: 5
    case .route: 6
    case .endpointRemoved, .hostEndpointRemoved: 7
    case .policyRemoved: 8
    case .ipSetRemoved: 9
    }
  }
}

extension HostPlan {
  /// Applies a batch in order. A dangling reference is a defect of the sender and traps: members of an unknown set, removal of the unknown.
  public mutating func apply(_ changes: some Sequence<HostPlanChange>) {
    for change in changes {
      switch change {
      case .settings(let settings): self.settings = settings
      case .ipSet(let id, let plan): ipSets[id] = plan
      case .ipSetMembers(let id, let added, let removed):
        precondition(ipSets[id] != nil, "members of \(id) arrive after the set itself")
        ipSets[id]!.members.subtract(removed)
        ipSets[id]!.members.formUnion(added)
      case .policy(let key, let plan): policies[key] = plan
      case .endpoint(let key, let plan): endpoints[key] = plan
      case .hostEndpoint(let key, let plan): hostEndpoints[key] = plan
      case .tunnel(let kind, let plan): tunnels[kind] = plan
      case .tunnelPeer(let peer, let plan): tunnelPeers[peer] = plan
      case .tunnelDemand(let kind, let demand): tunnelDemands[kind] = demand
      case .route(let prefix, let plan): routes[prefix] = plan
      case .routeRemoved(let prefix), .routeHandedOver(let prefix):
        precondition(routes.removeValue(forKey: prefix) != nil, "\(prefix) is removed once")
      case .endpointRemoved(let key): precondition(endpoints.removeValue(forKey: key) != nil, "\(key) is removed once")
      case .hostEndpointRemoved(let key): precondition(hostEndpoints.removeValue(forKey: key) != nil, "\(key) is removed once")
      case .policyRemoved(let key): precondition(policies.removeValue(forKey: key) != nil, "\(key) is removed once")
      case .ipSetRemoved(let id): precondition(ipSets.removeValue(forKey: id) != nil, "\(id) is removed once")
      }
    }
  }
}

/// The networks that are known by their place in the cluster and not by a selector: pools, hosts, services. Packets are translated, marked
/// and stopped by them. Each is a set of the plan while something needs it.
import Addresses
import HostPlans
import Resources

struct ClusterNetworks: Sendable {
  /// Why a set may be needed beside what the objects themselves ask for.
  struct Needs: Equatable, Sendable {
    /// Connections to hosts keep their source address (NATOutgoingExclusions).
    var sparesHosts = false
    /// Some local endpoint marks packets that leave the cluster.
    var marksLeaving = false
    var stopsServiceLoops = true
  }
  private struct Networks: Sendable {
    var trie = OverlapTrie()
    var count = 0
    var delta = MemberDelta()
    var isTold = false

    mutating func add(_ net: IPPrefix) {
      count += 1
      trie.insert(net, into: &delta)
    }
    mutating func remove(_ net: IPPrefix) {
      count -= 1
      trie.remove(net, into: &delta)
    }
  }
  private var networks: [IPSetID: Networks] = [:]
  private var contributions: [ResourceKey: [IPSetID: Set<IPPrefix>]] = [:]

  init() {}

  static let explanations: [IPSetID: String] = [
    .masqueradedPools: "pools with natOutgoing", .networkPools: "all pools", .hosts: "addresses of hosts", .services: "networks of services",
  ]

  /// Nil: the object is gone.
  mutating func set(_ key: ResourceKey, _ spec: Resource.Spec?) {
    switch spec {
    case .ipPool(let spec): set(key, Self.networks(of: spec))
    case .node(let spec): set(key, [.hosts: Self.addresses(of: spec)])
    case .bgpConfiguration(let spec) where key.name == "default":
      set(key, [.services: Set(spec.serviceClusterIPs + spec.serviceExternalIPs + spec.serviceLoadBalancerIPs)])
    default: set(key, [:])
    }
  }

  /// Disabled pools count: their addresses are in use until their workloads go. A pool for load balancers alone does not: its addresses
  /// are no workload's.
  private static func networks(of pool: IPPoolSpec) -> [IPSetID: Set<IPPrefix>] {
    if pool.allowedUses == [.loadBalancer] { return [:] }
    return pool.natOutgoing ? [.masqueradedPools: [pool.cidr], .networkPools: [pool.cidr]] : [.networkPools: [pool.cidr]]
  }

  /// ExternalIP is left out: it is what others see of a host behind somebody's translation.
  private static func addresses(of node: NodeSpec) -> Set<IPPrefix> {
    var addresses = node.addresses.filter { $0.type != "ExternalIP" }.compactMap {
      IPAddress($0.address) ?? InterfaceAddress($0.address)?.address
    }
    addresses += [node.bgp?.ipv4Address?.address, node.bgp?.ipv6Address?.address].compactMap { $0 }
    return Set(addresses.map(\.hostPrefix))
  }

  private mutating func set(_ key: ResourceKey, _ new: [IPSetID: Set<IPPrefix>]) {
    let old = contributions[key] ?? [:]
    for (id, nets) in new {
      for net in nets.subtracting(old[id] ?? []) { networks[id, default: Networks()].add(net) }
    }
    for (id, nets) in old {
      for net in nets.subtracting(new[id] ?? []) { networks[id]!.remove(net) }
    }
    let kept = new.filter { !$0.value.isEmpty }
    contributions[key] = kept.isEmpty ? nil : kept
  }

  private func isNeeded(_ id: IPSetID, _ needs: Needs) -> Bool {
    let translates = networks[.masqueradedPools]?.count ?? 0 > 0
    return switch id {
    case .masqueradedPools: translates
    case .networkPools: translates || needs.marksLeaving
    case .hosts: translates && needs.sparesHosts || needs.marksLeaving
    case .services: needs.stopsServiceLoops && networks[.services]?.count ?? 0 > 0
    default: false
    }
  }

  /// What changed since the last call.
  mutating func drain(_ needs: Needs) -> [HostPlanChange] {
    var changes: [HostPlanChange] = []
    for (id, explanation) in Self.explanations {
      var one = networks[id] ?? Networks()
      let isNeeded = isNeeded(id, needs)
      if isNeeded, !one.isTold {
        changes.append(.ipSet(id, IPSetPlan(content: .nets, members: one.trie.visible, explanation: explanation)))
      } else if isNeeded, !one.delta.isEmpty {
        changes.append(.ipSetMembers(id, added: one.delta.added, removed: one.delta.removed))
      } else if !isNeeded, one.isTold {
        changes.append(.ipSetRemoved(id))
      }
      one.isTold = isNeeded
      one.delta = MemberDelta()
      networks[id] = one
    }
    return changes
  }

  /// As of the last call of `drain`.
  var plans: [IPSetID: IPSetPlan] {
    networks.reduce(into: [:]) { plans, one in
      guard one.value.isTold else { return }
      plans[one.key] = IPSetPlan(content: .nets, members: one.value.trie.visible, explanation: Self.explanations[one.key]!)
    }
  }
}

/// A dataplane that accepts only well-ordered, minimal changes, and says what is wrong with others.
import HostPlans
import Resources

struct PlanFollower {
  private(set) var plan = HostPlan()
  private(set) var complaints: [String] = []

  mutating func follow(_ changes: [HostPlanChange]) {
    var rank = 0
    for change in changes {
      if change.rank < rank { complaints.append("\(change) comes after rank \(rank)") }
      rank = change.rank
      check(change)
      plan.apply([change])
    }
    for (id, set) in plan.ipSets {
      let nets = set.members.compactMap { if case .net(let net) = $0 { net } else { nil } }
      for net in nets where nets.contains(where: { $0 != net && $0.overlaps(net) }) { complaints.append("\(id): \(net) overlaps") }
    }
  }

  private mutating func check(_ change: HostPlanChange) {
    func require(_ condition: Bool, _ text: String) {
      if !condition { complaints.append("\(text): \(change)") }
    }
    switch change {
    case .settings(let settings): require(plan.settings != settings, "unchanged")
    case .ipSet(let id, let set): require(plan.ipSets[id] != set, "unchanged")
    case .ipSetMembers(let id, let added, let removed):
      guard let set = plan.ipSets[id] else { return require(false, "members of an unknown set") }
      require(!(added.isEmpty && removed.isEmpty), "empty")
      require(added.isDisjoint(with: set.members), "adds what is there")
      require(removed.isSubset(of: set.members), "removes what is not there")
    case .policy(let key, let policy):
      require(plan.policies[key] != policy, "unchanged")
      for id in Self.sets(of: policy) { require(plan.ipSets[id] != nil, "refers to the missing set \(id)") }
    case .endpoint(let key, let endpoint):
      require(plan.endpoints[key] != endpoint, "unchanged")
      for tier in endpoint.ingress + endpoint.egress {
        require(!tier.policies.isEmpty || !tier.staged.isEmpty, "empty tier")
        require(!tier.policies.isEmpty || tier.defaultAction == .pass, "a tier of staged policies decides something")
        for policy in tier.policies + tier.staged.map(\.policy) { require(plan.policies[policy] != nil, "refers to the missing \(policy)") }
      }
    case .route(let prefix, let route): require(plan.routes[prefix] != route, "unchanged")
    case .routeRemoved(let prefix), .routeHandedOver(let prefix): require(plan.routes[prefix] != nil, "unknown")
    case .tunnel(let kind, let tunnel): require(plan.tunnels[kind] != tunnel, "unchanged")
    case .tunnelPeer(let peer, let far): require(plan.tunnelPeers[peer] != far, "unchanged")
    case .tunnelDemand(let kind, let demand): require(plan.tunnelDemands[kind] != demand, "unchanged")
    case .hostEndpoint(let key, let endpoint):
      require(plan.hostEndpoints[key] != endpoint, "no difference")
      for tier in endpoint.tiers {
        require(!tier.policies.isEmpty, "empty tier")
        for policy in tier.policies { require(plan.policies[policy] != nil, "refers to the missing \(policy)") }
      }
    case .hostEndpointRemoved(let key): require(plan.hostEndpoints[key] != nil, "unknown")
    case .endpointRemoved(let key): require(plan.endpoints[key] != nil, "unknown")
    case .policyRemoved(let key):
      require(plan.policies[key] != nil, "unknown")
      require(!plan.endpoints.values.contains { ($0.ingress + $0.egress).contains { $0.policies.contains(key) } }, "still in use")
      require(!plan.hostEndpoints.values.contains { $0.tiers.contains { $0.policies.contains(key) } }, "still in use by a host endpoint")
    case .ipSetRemoved(let id):
      require(plan.ipSets[id] != nil, "unknown")
      require(!plan.policies.values.contains { Self.sets(of: $0).contains(id) }, "still in use")
    }
  }

  static func sets(of policy: PolicyPlan) -> Set<IPSetID> {
    Set(
      (policy.ingress + policy.egress).flatMap { rule in
        [rule.source, rule.destination].flatMap { $0.sets + $0.notSets + $0.namedPorts + $0.notNamedPorts }
      })
  }
}

extension HostEndpointPlan {
  var tiers: [TierPlan] { [normal, forward, untracked, preDNAT].flatMap { $0.ingress + $0.egress } }
}

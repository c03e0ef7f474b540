/// The same answer as the calculation, worked out from nothing each time, with loops over everything and no index.
///
/// It shares the folding of single rules with the calculation (the oracle's tests check those against packets); who matches what, what
/// is in use, and what the sets hold are its own reading.
import Addresses
import HostPlans
import Resources
import Selectors

@testable import Calculation

/// Everything that a host is told of, at one moment.
struct Facts: Equatable, Sendable {
  var resources: [ResourceKey: Resource] = [:]
  var blocks: [IPPrefix: BlockFact] = [:]
}

struct NaiveCalculation {
  let node: String
  let facts: Facts

  func labels(_ own: [String: String], _ parents: [String]) -> [String: String] {
    var labels = own
    for parent in parents {
      guard parent != "projectcalico-default-allow", case .profile(let spec)? = facts.resources[ResourceKey(.profile, name: parent)]?.spec
      else {
        continue
      }
      for (label, value) in spec.labelsToApply where labels[label] == nil { labels[label] = value }
    }
    return labels
  }

  struct Item {
    var key: ResourceKey
    var labels: [String: String]
    var nets: [IPPrefix]
    var ports: [WorkloadEndpointSpec.NamedPort] = []
  }

  var items: [Item] {
    facts.resources.values.compactMap { resource in
      var own = resource.metadata.labels
      switch resource.spec {
      case .workloadEndpoint(let spec):
        own["projectcalico.org/namespace"] = resource.key.namespace
        if !spec.orchestrator.isEmpty { own["projectcalico.org/orchestrator"] = spec.orchestrator }
        if !spec.serviceAccountName.isEmpty { own["projectcalico.org/serviceaccount"] = spec.serviceAccountName }
        return Item(key: resource.key, labels: labels(own, spec.profiles), nets: spec.ipNetworks, ports: spec.ports)
      case .networkSet(let spec):
        own["projectcalico.org/namespace"] = resource.key.namespace
        return Item(key: resource.key, labels: labels(own, ["kns.\(resource.key.namespace!)"]), nets: spec.nets)
      case .hostEndpoint(let spec):
        let ports = spec.ports.map { WorkloadEndpointSpec.NamedPort(name: $0.name, protocol: $0.ipProtocol, port: $0.port) }
        return Item(key: resource.key, labels: labels(own, spec.profiles), nets: spec.expectedIPs.map(\.hostPrefix), ports: ports)
      case .globalNetworkSet(let spec): return Item(key: resource.key, labels: own, nets: spec.nets)
      default: return nil
      }
    }
  }

  func members(_ demand: AddressSetDemand) -> Set<IPSetMember> {
    var members: Set<IPSetMember> = []
    let matching = items.filter { item in demand.selector?.matches { item.labels[$0] } ?? false }
    switch demand.membership {
    case .nets:
      let nets = Set(matching.flatMap(\.nets))
      for net in nets where !nets.contains(where: { $0 != net && $0.contains(net) }) { members.insert(.net(net)) }
    case .port(let name, let ipProtocol):
      for item in matching {
        for port in item.ports where port.name == name && port.ipProtocol == ipProtocol {
          for net in item.nets { members.insert(.addressPort(net.address, ipProtocol, port.port)) }
        }
      }
    case .service(let service): for slice in slices(of: service) { members.formUnion(slice.readyAddresses.map { .net($0.hostPrefix) }) }
    case .servicePorts(let service):
      for slice in slices(of: service) {
        for port in slice.ports { members.formUnion(slice.readyAddresses.map { .addressPort($0, port.ipProtocol, port.port) }) }
      }
    }
    return members
  }

  private func slices(of service: ServiceName) -> [EndpointSliceSpec] {
    facts.resources.values.compactMap { resource in
      guard case .kubernetesEndpointSlice(let slice) = resource.spec, resource.key.namespace == service.namespace,
        resource.metadata.labels["kubernetes.io/service-name"] == service.name
      else { return nil }
      return slice
    }
  }

  var plan: HostPlan {
    var plan = HostPlan()
    for name in ["default", "node.\(node)"] {
      guard case .felixConfiguration(let spec)? = facts.resources[ResourceKey(.felixConfiguration, name: name)]?.spec else { continue }
      plan.settings.interfacePrefixes = spec.interfacePrefixes ?? plan.settings.interfacePrefixes
      plan.settings.endpointToHostAction = spec.defaultEndpointToHostAction ?? plan.settings.endpointToHostAction
      plan.settings.ipv6 = spec.ipv6Support ?? plan.settings.ipv6
      plan.settings.logPrefix = spec.logPrefix ?? plan.settings.logPrefix
      plan.settings.logLimit = spec.logLimit ?? plan.settings.logLimit
      func word(_ field: String, _ take: (String) -> Void) { if case .text(let word)? = spec.values[field] { take(word) } }
      word("workloadSourceSpoofing") { plan.settings.filter.allowsSpoofing = $0 == "Any" }
      word("floatingIPs") { plan.settings.nat.floatingIPs = $0 == "Enabled" }
      word("natOutgoingExclusions") { plan.settings.nat.sparesHosts = $0 == "IPPoolsAndHostIPs" }
      word("serviceLoopPrevention") { plan.settings.filter.serviceLoops = .init(rawValue: $0)! }
    }

    let routed = HostSettings(
      ["default", "node.\(node)"].compactMap {
        if case .felixConfiguration(let spec)? = facts.resources[ResourceKey(.felixConfiguration, name: $0)]?.spec { spec } else { nil }
      })
    (plan.settings.routing, plan.settings.tunnels) = (routed.routing, routed.tunnels)

    // Records of this host, the best claims first; each interface goes to the first record that names it.
    let records = facts.resources.values.filter {
      if case .workloadEndpoint(let spec) = $0.spec { spec.node == node && !spec.interfaceName.isEmpty } else { false }
    }.sorted {
      let (a, b) = ($0.metadata.creationTimestamp ?? "", $1.metadata.creationTimestamp ?? "")
      return a == b ? $0.key < $1.key : a > b
    }
    var interfaces: Set<String> = []
    var demands: [IPSetID: AddressSetDemand] = [:]
    var used: [Applying] = []
    var profilesUsed: [String] = []
    let policies = facts.resources.values.filter { $0.kind == .networkPolicy || $0.kind == .globalNetworkPolicy || isStaged($0.key) }
    for (block, fact) in facts.blocks where fact.affinity == node && !block.isHost { plan.routes[block] = .blackhole }
    for record in records {
      guard case .workloadEndpoint(let spec) = record.spec, interfaces.insert(spec.interfaceName).inserted else { continue }
      let labels = items.first { $0.key == record.key }!.labels
      var endpoint = EndpointPlan(interfaceName: spec.interfaceName, mac: spec.mac, profiles: spec.profiles)
      endpoint.addresses = Set(spec.ipNetworks.map(\.address)).sorted()
      if plan.settings.filter.allowsSpoofing { endpoint.allowedSources = Set(spec.allowSpoofedSourcePrefixes).sorted() }
      endpoint.qos = spec.qosControls
      endpoint.isOpenStack = spec.orchestrator == "openstack"
      for address in endpoint.addresses where plan.routes[address.hostPrefix] == nil {
        plan.routes[address.hostPrefix] = .workload(interfaceName: spec.interfaceName)
      }
      var applying: [Applying] = []
      for policy in policies {
        guard let spec = policySpec(policy), !spec.doNotTrack, !spec.preDNAT else { continue }
        let matches: Bool
        if let selector = try? spec.foldedSelector(inNamespace: policy.key.namespace) {
          matches = selector.matches { labels[$0] }
        } else {
          matches = policy.key.namespace == record.key.namespace
        }
        if matches { applying.append((policy.key, spec)) }
      }
      (endpoint.ingress, endpoint.egress) = (tiers(applying, .ingress), tiers(applying, .egress))
      plan.endpoints[record.key] = endpoint
      used += applying
      profilesUsed += spec.profiles
    }

    for record in facts.resources.values {
      guard case .hostEndpoint(let spec) = record.spec, spec.node == node else { continue }
      let labels = items.first { $0.key == record.key }!.labels
      var endpoint = HostEndpointPlan(interfaceName: spec.interfaceName, expectedAddresses: Set(spec.expectedIPs).sorted())
      // A policy that cannot be read concerns no host.
      let applying = policies.compactMap { policy -> Applying? in
        guard let spec = policySpec(policy), let selector = try? spec.foldedSelector(inNamespace: policy.key.namespace),
          selector.matches({ labels[$0] })
        else { return nil }
        return (policy.key, spec)
      }
      for direction in Direction.allCases {
        func put(_ list: WritableKeyPath<HostEndpointPlan, TierLists>, _ belongs: (PolicySpec) -> Bool) {
          // Staged policies are asked for workloads' packets only.
          let found = tiers(applying.filter { !isStaged($0.key) && belongs($0.spec) }, direction)
          if direction == .ingress { endpoint[keyPath: list].ingress = found } else { endpoint[keyPath: list].egress = found }
        }
        put(\.untracked) { $0.doNotTrack }
        if direction == .ingress { put(\.preDNAT) { !$0.doNotTrack && $0.preDNAT } }
        put(\.normal) { !$0.doNotTrack && !$0.preDNAT }
        put(\.forward) { !$0.doNotTrack && !$0.preDNAT && $0.applyOnForward }
      }
      endpoint.profiles = spec.profiles
      plan.hostEndpoints[record.key] = endpoint
      used += applying
      profilesUsed += spec.profiles
    }

    for policy in policies {
      if let spec = policySpec(policy), spec.performanceHints.contains(.assumeNeededOnEveryNode) { used.append((policy.key, spec)) }
    }
    do {
      for (key, spec) in used where plan.policies[key] == nil {
        var folding = RuleFolding(namespace: key.namespace, tier: spec.tier)
        do {
          _ = try spec.foldedSelector(inNamespace: key.namespace)
          if spec.effectiveTypes.contains(.ingress) { folding.fold(spec.ingress, .ingress) }
          if spec.effectiveTypes.contains(.egress) { folding.fold(spec.egress, .egress) }
        } catch {
          folding.denyAll(spec.effectiveTypes, because: error.reason)
        }
        plan.policies[key] = folding.folded.plan
        demands.merge(folding.folded.demands) { a, _ in a }
      }
      for name in profilesUsed {
        let key = ResourceKey(.profile, name: name)
        if name == "projectcalico-default-allow" {
          plan.policies[key] = PolicyPlan(ingress: [RulePlan(.allow)], egress: [RulePlan(.allow)])
        } else if case .profile(let profile)? = facts.resources[key]?.spec {
          var folding = RuleFolding(namespace: nil)
          folding.fold(profile.ingress, .ingress)
          folding.fold(profile.egress, .egress)
          plan.policies[key] = folding.folded.plan
          demands.merge(folding.folded.demands) { a, _ in a }
        }
      }
    }
    addFloating(&plan, records)
    addRemote(to: &plan)
    addNetworks(&plan)
    for (id, demand) in demands {
      let content: IPSetPlan.Content =
        switch demand.membership {
        case .nets, .service: .nets
        case .port, .servicePorts: .addressPorts
        }
      plan.ipSets[id] = IPSetPlan(content: content, members: members(demand), explanation: demand.explanation)
    }
    return plan
  }

  private typealias Applying = (key: ResourceKey, spec: PolicySpec)

  private func tiers(_ applying: [Applying], _ direction: Direction) -> [TierPlan] {
    let relevant = applying.filter { $0.spec.effectiveTypes.contains(direction) }
    return Set(relevant.map(\.spec.tier)).sorted(by: isBefore).map { tier in
      let keys = relevant.filter { $0.spec.tier == tier }.sorted {
        let (a, b) = ($0.spec.order ?? .infinity, $1.spec.order ?? .infinity)
        return a == b ? tieBreak($0.key) < tieBreak($1.key) : a < b
      }.map(\.key)
      var plan = TierPlan(name: tier, policies: keys.filter { !isStaged($0) }, defaultAction: tierSpec(tier)?.defaultAction ?? .deny)
      for (index, key) in keys.enumerated() where isStaged(key) {
        plan.staged.append(StagedPlace(key, index: keys[..<index].count { !isStaged($0) }))
      }
      if plan.policies.isEmpty {
        plan.wouldDeny = plan.defaultAction == .deny
        plan.defaultAction = .pass
      }
      return plan
    }
  }

  private func isStaged(_ key: ResourceKey) -> Bool { key.kind.rawValue.hasPrefix("Staged") }
  private func enforcedKey(_ key: ResourceKey) -> ResourceKey {
    switch key.kind {
    case .stagedNetworkPolicy: ResourceKey(.networkPolicy, namespace: key.namespace, name: key.name)
    case .stagedKubernetesNetworkPolicy: ResourceKey(.networkPolicy, namespace: key.namespace, name: "knp.default." + key.name)
    case .stagedGlobalNetworkPolicy: ResourceKey(.globalNetworkPolicy, name: key.name)
    default: key
    }
  }

  /// In the order of the records, the best claim first.
  private func addFloating(_ plan: inout HostPlan, _ records: [Resource]) {
    var taken: Set<IPAddress> = []
    let own = Set(plan.endpoints.values.flatMap(\.addresses))
    for record in records where plan.endpoints[record.key] != nil {
      guard case .workloadEndpoint(let spec) = record.spec else { continue }
      guard spec.orchestrator == "openstack" || plan.settings.nat.floatingIPs else { continue }
      for external in Set(spec.ipNATs.map(\.externalIP)) where taken.insert(external).inserted {
        let inner = spec.ipNATs.filter { $0.externalIP == external }.map(\.internalIP).min()!
        let route = RoutePlan.workload(interfaceName: spec.interfaceName)
        guard !own.contains(external), plan.routes[inner.hostPrefix] == route else { continue }
        plan.endpoints[record.key]!.floating[external] = inner
        plan.routes[external.hostPrefix] = route
      }
    }
  }

  private func addNetworks(_ plan: inout HostPlan) {
    var sets: [IPSetID: Set<IPPrefix>] = [:]
    for resource in facts.resources.values {
      switch resource.spec {
      case .ipPool(let spec) where spec.allowedUses != [.loadBalancer]:
        sets[.networkPools, default: []].insert(spec.cidr)
        if spec.natOutgoing { sets[.masqueradedPools, default: []].insert(spec.cidr) }
      case .node(let spec):
        for address in spec.addresses where address.type != "ExternalIP" { sets[.hosts, default: []].insert(IPAddress(address.address)!.hostPrefix) }
        for address in [spec.bgp?.ipv4Address, spec.bgp?.ipv6Address] { if let address { sets[.hosts, default: []].insert(address.address.hostPrefix) } }
      case .bgpConfiguration(let spec) where resource.key.name == "default":
        sets[.services, default: []].formUnion(spec.serviceClusterIPs + spec.serviceExternalIPs + spec.serviceLoadBalancerIPs)
      default: break
      }
    }
    let marks = plan.endpoints.values.contains { $0.qos?.dscp != nil }
    let translates = sets[.masqueradedPools] != nil
    let needed: [(IPSetID, String, Bool)] = [
      (.masqueradedPools, "pools with natOutgoing", translates), (.networkPools, "all pools", translates || marks),
      (.hosts, "addresses of hosts", marks || translates && plan.settings.nat.sparesHosts),
      (.services, "networks of services", plan.settings.filter.serviceLoops != .disabled && !(sets[.services] ?? []).isEmpty),
    ]
    for (id, words, isNeeded) in needed where isNeeded {
      let nets = sets[id] ?? []
      let outermost = nets.filter { net in !nets.contains { $0 != net && $0.contains(net) } }
      plan.ipSets[id] = IPSetPlan(content: .nets, members: Set(outermost.map { .net($0) }), explanation: words)
    }
  }

  private func policySpec(_ resource: Resource) -> PolicySpec? {
    if isStaged(resource.key) {
      guard let (action, proposed) = resource.stagedProposal, action != .ignore else { return nil }
      let target = facts.resources[enforcedKey(resource.key)]
      guard let spec = action == .delete ? target.flatMap(rawSpec) : proposed else { return nil }
      // An unreadable one is without effect, in a namespace too.
      return (try? spec.foldedSelector(inNamespace: resource.key.namespace)) == nil ? nil : spec
    }
    return rawSpec(resource)
  }
  private func rawSpec(_ resource: Resource) -> PolicySpec? {
    switch resource.spec {
    case .networkPolicy(let spec), .globalNetworkPolicy(let spec):
      // An unreadable global policy is without effect.
      if resource.key.namespace == nil, (try? spec.foldedSelector(inNamespace: nil)) == nil { return nil }
      return spec
    default: return nil
    }
  }
  private func tieBreak(_ key: ResourceKey) -> String {
    let enforced = enforcedKey(key)
    return "\(enforced.name)/\(enforced.namespace ?? "")/\(enforced.kind.rawValue) \(isStaged(key) ? key.kind.rawValue : "~")"
  }
  private func tierSpec(_ name: String) -> TierSpec? {
    if case .tier(let spec)? = facts.resources[ResourceKey(.tier, name: name)]?.spec { return spec }
    switch name {
    case "default": return TierSpec(order: 1_000_000, defaultAction: .deny)
    case "kube-admin": return TierSpec(order: 1_000, defaultAction: .pass)
    case "kube-baseline": return TierSpec(order: 10_000_000, defaultAction: .pass)
    default: return nil
    }
  }
  private func isBefore(_ a: String, _ b: String) -> Bool {
    let (tierA, tierB) = (tierSpec(a), tierSpec(b))
    if (tierA == nil) != (tierB == nil) { return tierA != nil }
    let (orderA, orderB) = (tierA?.order ?? .infinity, tierB?.order ?? .infinity)
    return orderA == orderB ? a < b : orderA < orderB
  }
}

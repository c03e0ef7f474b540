/// From the plan of a host to the ruleset of its kernel, change by change.
///
/// A packet's walk (all in the table `inet margay`; the chains' names are those of `nft list ruleset`):
///
///     prerouting -300  source-check ─► workload-source     a workload's packet has one of its addresses, or is dropped
///     forward      -1  sent-forward ─► forward-from        established? accept ─►
///                        from-workload  ─vmap─► egress-…  ─► policy-out-…, profile-out-…
///     forward       0  forward ─► forward-to               interface known? ─► established? accept ─►
///                        to-workload    ─vmap─► ingress-… ─► policy-in-…, profile-in-…
///                      what goes on to a service's address that nothing has translated ends
///     input        -1  sent-input ─► input-from            established? neighbour discovery? from-workload
///     input         0  input ─► workload-to-host           the same checks, then DefaultEndpointToHostAction
///     output        0  output                              to known workloads everything, to unknown interfaces of ours nothing
///
/// Where the host's own interfaces have endpoints, more is asked (`Frame/HostEndpointStage.swift`): at -300 and -150 before connection tracking and
/// translation, at -2 and 1 of forward, behind the above in input and output, and where translated packets of the host leave.
///
/// Around it, while something needs them (a file of `Frame` each): `translate-in` and `translate-out` (floating addresses, metadata, pools with
/// natOutgoing), `packet-rate-…` and `connections-…` (limits of single endpoints), `mark-leaving` (DSCP), `openstack-services`.
///
/// Each base chain asks one question, and "accept" answers that one: the packet goes on to the next base chain, ours or another table's. What
/// does not come from or go to an interface with one of our prefixes is not policed. An endpoint is elements of maps and sets;
/// endpoints with the same policies share chains.
///
/// Fragments: connection tracking, which the rules above switch on, reassembles at priority -400, before the first of our chains; no
/// rule ever sees a packet without its ports. Extension headers are skipped by the kernel's search for the transport header.

import Addresses
import HostPlans
import Resources
import Rulesets

public struct PolicyRenderer: Sendable {
  private struct ChainKey: Hashable {
    var policy: ResourceKey
    var direction: Direction
    var form: PolicyForm
    var name: String { KernelNames.policy(policy, direction, form) }
  }
  private struct RenderedPolicy {
    var chains: Set<String> = []
    var sets: [String: SetSource]
    var setIDs: Set<IPSetID>
  }
  private struct GroupState {
    var group: PolicyGroup
    var users: Int
    var chains: Set<String> = []
  }
  private struct Interface {
    var endpoint: EndpointPlan
    var elements: Set<Placed>
    var groups: [PolicyGroup]
    /// With the endpoint's own limits.
    var chains: [String: Chain] = [:]
  }
  struct Placed: Hashable {
    var set: String
    var element: SetElement
  }
  private struct SetUse {
    var source: SetSource
    var users: Int
  }

  private(set) var settings = HostSettings()
  private var sets: [IPSetID: AddressSet] = [:]
  private var policies: [ResourceKey: PolicyPlan] = [:]
  private var endpoints: [ResourceKey: EndpointPlan] = [:]
  private var endpointsByInterface: [String: Set<ResourceKey>] = [:]

  // What follows from it and is in the ruleset.
  private(set) var base: BaseRuleset?
  var hosts = HostRendering()
  private var tunnels: Set<TunnelKind> = []
  private var tunnelHosts: [TunnelPeer: IPAddress] = [:]
  private var tunnelHostUses: [IPAddress: Int] = [:]
  /// How many elements endpoints have put into each set of the frame.
  private var placedCounts: [String: Int] = [:]
  private var interfaces: [String: Interface] = [:]
  private var groups: [String: GroupState] = [:]
  private var groupsByPolicy: [ChainKey: Set<String>] = [:]
  private var rendered: [ChainKey: RenderedPolicy] = [:]
  private var policiesBySet: [IPSetID: Set<ChainKey>] = [:]
  private var setUses: [String: SetUse] = [:]
  private var chains: [String: Chain] = [:]

  // What is to be looked at again before the next delta is complete.
  private var dirtyInterfaces: Set<String> = []
  private var dirtyGroups: Set<String> = []
  private var dirtyPolicies: Set<ChainKey> = []
  private var setsBefore: [String: Bool] = [:]
  var delta = RulesetDelta()

  private let tellsDrops: Bool

  /// `tellsDrops` is false where the kernel has no nfnetlink_log: it would refuse the whole ruleset.
  public init(tellsDrops: Bool = true) {
    self.tellsDrops = tellsDrops
    settings.filter.tellsDrops = tellsDrops
  }

  /// Takes a batch in, and answers with what becomes different in the ruleset; the first answer holds the frame as well.
  ///
  /// The ruleset is a function of the plan reached, not of the changes that led there.
  public mutating func apply(_ changes: [HostPlanChange]) -> RulesetDelta {
    if base == nil { renderBase(FrameNeeds()) }
    for change in changes { take(change) }
    resolveHosts()
    for name in dirtyInterfaces { resolve(interface: name) }
    dirtyInterfaces = []
    for key in dirtyPolicies { render(policy: key) }
    dirtyPolicies = []
    for name in dirtyGroups { render(group: name) }
    dirtyGroups = []
    let needs = frameNeeds
    if needs != base?.needs { renderBase(needs) }
    finishSets()
    defer { delta = RulesetDelta() }
    return delta
  }

  // MARK: Taking changes in

  private mutating func take(_ change: HostPlanChange) {
    switch change {
    case .settings(let new): take(settings: new)
    case .ipSet(let id, let plan): take(set: id, plan)
    case .ipSetMembers(let id, let added, let removed): take(members: id, added: added, removed: removed)
    case .ipSetRemoved(let id):
      forget(set: id)
      dirtyPolicies.formUnion(policiesBySet[id] ?? [])
    case .policy(let key, let plan):
      guard policies[key] != plan else { return }
      let old = policies.updateValue(plan, forKey: key)
      mark(policy: key, old, plan)
    case .policyRemoved(let key): mark(policy: key, policies.removeValue(forKey: key), nil)
    case .endpoint(let key, let plan):
      if let old = endpoints.updateValue(plan, forKey: key) { leave(old.interfaceName, key) }
      endpointsByInterface[plan.interfaceName, default: []].insert(key)
      dirtyInterfaces.insert(plan.interfaceName)
    case .endpointRemoved(let key): if let old = endpoints.removeValue(forKey: key) { leave(old.interfaceName, key) }
    case .hostEndpoint(let key, let plan): take(host: key, plan)
    case .hostEndpointRemoved(let key): take(host: key, nil)
    case .tunnel(let kind, let plan): if plan == nil { tunnels.remove(kind) } else { tunnels.insert(kind) }
    case .tunnelPeer(let peer, let far): take(far: far?.underlay, of: peer)
    case .route, .routeRemoved, .routeHandedOver, .tunnelDemand: break
    }
  }

  /// Several tunnels and nodes may have one address.
  private mutating func take(far address: IPAddress?, of peer: TunnelPeer) {
    let old = tunnelHosts.removeValue(forKey: peer)
    tunnelHosts[peer] = address
    guard old != address else { return }
    for (changed, step) in [(old, -1), (address, 1)] {
      guard let changed else { continue }
      let count = tunnelHostUses[changed, default: 0] + step
      tunnelHostUses[changed] = count == 0 ? nil : count
      // The first and the last.
      guard count == max(step, 0) else { continue }
      let set = KernelNames.tunnelHosts(changed.family)
      placedCounts[set, default: 0] += step
      if step > 0 { delta.add(SetElement(changed.octets), to: set) } else { delta.remove(SetElement(changed.octets), from: set) }
    }
  }

  private mutating func leave(_ interface: String, _ key: ResourceKey) {
    endpointsByInterface[interface]?.remove(key)
    if endpointsByInterface[interface]?.isEmpty ?? false { endpointsByInterface[interface] = nil }
    dirtyInterfaces.insert(interface)
  }

  private mutating func mark(policy key: ResourceKey, _ old: PolicyPlan?, _ new: PolicyPlan?) {
    for direction in Direction.allCases {
      for form in PolicyForm.allCases {
        let chain = ChainKey(policy: key, direction: direction, form: form)
        guard let users = groupsByPolicy[chain] else { continue }
        if old?.rules(direction) != new?.rules(direction) { dirtyPolicies.insert(chain) }
        if old?.traits(direction) != new?.traits(direction) { dirtyGroups.formUnion(users) }
      }
    }
  }

  private mutating func take(settings new: HostSettings) {
    var new = new
    new.filter.tellsDrops = tellsDrops
    guard new != settings else { return }
    let familiesChange = new.ipv6 != settings.ipv6
    let verdictsChange = new.filter != settings.filter
    let logsChange = new.logPrefix != settings.logPrefix || new.logLimit != settings.logLimit
    settings = new
    hosts.isDirty = !hosts.endpoints.isEmpty
    renderBase(base?.needs ?? FrameNeeds())
    if logsChange {
      dirtyPolicies.formUnion(groupsByPolicy.keys.filter { key in policies[key.policy]?.rules(key.direction).contains { $0.action == .log } ?? false })
    }
    if verdictsChange {
      dirtyPolicies.formUnion(groupsByPolicy.keys)
      dirtyGroups.formUnion(groups.keys)
    }
    guard familiesChange else { return }
    dirtyPolicies.formUnion(groupsByPolicy.keys)
    dirtyInterfaces.formUnion(endpointsByInterface.keys)
  }

  private mutating func take(set id: IPSetID, _ plan: IPSetPlan) {
    if let old = sets[id], old.content == plan.content, old.explanation == plan.explanation {
      let members = old.members
      take(members: id, added: plan.members.subtracting(members), removed: members.subtracting(plan.members))
    } else {
      forget(set: id)
      let new = AddressSet(plan)
      sets[id] = new
      for (name, use) in setUses where use.source.id == id {
        for element in new.elements(of: use.source) { delta.add(element, to: name) }
      }
      dirtyPolicies.formUnion(policiesBySet[id] ?? [])
    }
  }

  private mutating func forget(set id: IPSetID) {
    guard let old = sets.removeValue(forKey: id) else { return }
    for (name, use) in setUses where use.source.id == id {
      for element in old.elements(of: use.source) { delta.remove(element, from: name) }
    }
  }

  private mutating func take(members id: IPSetID, added: Set<IPSetMember>, removed: Set<IPSetMember>) {
    guard var set = sets.removeValue(forKey: id) else { preconditionFailure("members of \(id) arrive after the set itself") }
    let before = set.inhabited(id)
    for member in removed { if let change = set.remove(member, id) { take(change) } }
    for member in added { if let change = set.insert(member, id) { take(change) } }
    if before != set.inhabited(id) { dirtyPolicies.formUnion(policiesBySet[id] ?? []) }
    sets[id] = set
  }
  private mutating func take(_ change: AddressSet.Change) {
    guard let name = change.source.name, setUses[name] != nil else { return }
    for element in change.removed { delta.remove(element, from: name) }
    for element in change.added { delta.add(element, to: name) }
  }

  // MARK: Endpoints

  /// Makes the interface's elements what its endpoint wants. Two endpoints may name one interface while one replaces the other: the
  /// first by key has it.
  private mutating func resolve(interface name: String) {
    let owner = endpointsByInterface[name]?.min()
    let endpoint = owner.flatMap { endpoints[$0] }
    let old = interfaces[name]
    let groups = endpoint.map { plan in Direction.allCases.map { PolicyGroup(plan, $0) } } ?? []
    for group in groups { retain(group) }
    for group in old?.groups ?? [] { release(group) }
    let elements = endpoint.map { placed($0, groups) } ?? []
    let before = old?.elements ?? []
    for item in before.subtracting(elements) {
      placedCounts[item.set]! -= 1
      if base?.sets[item.set] != nil { delta.remove(item.element, from: item.set) }
    }
    for item in elements.subtracting(before) {
      placedCounts[item.set, default: 0] += 1
      delta.add(item.element, to: item.set)
    }
    let own = endpoint?.qos.map { EndpointLimits($0, interface: name).chains } ?? [:]
    for chain in (old?.chains ?? [:]).keys where own[chain] == nil { set(chain: chain, nil) }
    for (name, chain) in own { set(chain: name, chain) }
    // A name that no interface can have gives no elements: nothing to police, and nothing that could pass.
    interfaces[name] = endpoint.map { Interface(endpoint: $0, elements: elements, groups: groups, chains: own) }
  }

  private func placed(_ endpoint: EndpointPlan, _ groups: [PolicyGroup]) -> Set<Placed> {
    guard let name = KeyOctets.interfaceName(endpoint.interfaceName) else { return [] }
    var result: Set<Placed> = [Placed(set: KernelNames.workloads, element: SetElement(name))]
    for group in groups {
      let verdict = SetElement(name, data: .verdict(.jump(group.name)))
      result.insert(Placed(set: KernelNames.dispatch(group.direction), element: verdict))
    }
    let families: [IPFamily] = settings.ipv6 ? [.v4, .v6] : [.v4]
    for address in endpoint.addresses where families.contains(address.family) {
      if let mac = endpoint.mac {
        let key = KeyOctets.concatenated(name, mac.octets, address.octets)
        result.insert(Placed(set: KernelNames.sourceWithMAC(address.family), element: SetElement(key)))
      } else {
        let key = KeyOctets.concatenated(name, address.octets)
        result.insert(Placed(set: KernelNames.source(address.family), element: SetElement(key)))
      }
    }
    for family in families {
      for prefix in PrefixCover(endpoint.allowedSources.filter { $0.family == family }).outermost {
        let first = KeyOctets.concatenated(name, prefix.address.octets)
        let last = KeyOctets.concatenated(name, KeyOctets.last(of: prefix))
        result.insert(Placed(set: KernelNames.sourceNets(family), element: SetElement(first, last: last)))
      }
    }
    placeAroundPolicy(endpoint, name, families, &result)
    return result
  }

  private func placeAroundPolicy(_ endpoint: EndpointPlan, _ name: [UInt8], _ families: [IPFamily], _ result: inout Set<Placed>) {
    if endpoint.isOpenStack { result.insert(Placed(set: KernelNames.openStack, element: SetElement(name))) }
    var hairpins: [IPAddress: IPAddress] = [:]
    for (external, inner) in endpoint.floating where families.contains(external.family) {
      let element = SetElement(external.octets, data: .value(inner.octets))
      result.insert(Placed(set: KernelNames.floating(external.family), element: element))
      hairpins[inner] = hairpins[inner].map { min($0, external) } ?? external
    }
    for (inner, external) in hairpins {
      let key = KeyOctets.concatenated(inner.octets, inner.octets)
      result.insert(Placed(set: KernelNames.hairpin(inner.family), element: SetElement(key, data: .value(external.octets))))
    }
    guard let qos = endpoint.qos else { return }
    for (map, verdict) in EndpointLimits(qos, interface: endpoint.interfaceName).leads {
      result.insert(Placed(set: map, element: SetElement(name, data: .verdict(verdict))))
    }
  }

  mutating func retain(_ group: PolicyGroup) {
    let name = group.name
    groups[name, default: GroupState(group: group, users: 0)].users += 1
    guard groups[name]!.users == 1 else { return }
    dirtyGroups.insert(name)
    for policy in group.policies {
      let key = ChainKey(policy: policy, direction: group.direction, form: group.list.form)
      if groupsByPolicy[key] == nil { dirtyPolicies.insert(key) }
      groupsByPolicy[key, default: []].insert(name)
    }
  }
  mutating func release(_ group: PolicyGroup) {
    let name = group.name
    groups[name]!.users -= 1
    guard groups[name]!.users == 0 else { return }
    dirtyGroups.insert(name)
    for policy in group.policies {
      let key = ChainKey(policy: policy, direction: group.direction, form: group.list.form)
      groupsByPolicy[key]!.remove(name)
      if groupsByPolicy[key]!.isEmpty {
        groupsByPolicy[key] = nil
        dirtyPolicies.insert(key)
      }
    }
  }

  private mutating func render(group name: String) {
    guard let state = groups[name] else { return }
    var wanted: [String: Chain] = [:]
    if state.users > 0 {
      wanted = state.group.chains(settings) { policies[$0]?.traits(state.group.direction) }
      groups[name]!.chains = Set(wanted.keys)
    } else {
      groups[name] = nil
    }
    for chain in state.chains where wanted[chain] == nil { set(chain: chain, nil) }
    for (name, chain) in wanted { set(chain: name, chain) }
  }

  // MARK: Policies

  private mutating func render(policy key: ChainKey) {
    let name = key.name
    let old = rendered.removeValue(forKey: key)
    var new: RenderedPolicy?
    if groupsByPolicy[key] != nil, let plan = policies[key.policy] {
      var rules: [ChainRule] = []
      var rendering = RenderedPolicy(sets: [:], setIDs: [])
      let verdicts = Verdicts(settings, key.form, isStaged: key.policy.kind.isStagedPolicy)
      let log = LogRendering(settings, key.policy, tier: plan.tier).statements
      for (index, rule) in plan.rules(key.direction).enumerated() {
        var comment = KernelNames.comment(key.policy, key.direction, rule: (rule.place ?? index) + 1)
        for (word, text) in rule.annotations.sorted(by: { $0.key < $1.key }) { comment += " \(word)=\(text)" }
        let prefix = FlowPrefix(key.direction, .rule(FlowPrefix.id(key.policy), index: rule.place ?? index))
        let one = RuleRendering(rule, verdicts, prefix, comment: comment, log: log, in: self)
        rules += one.rules
        rendering.sets.merge(one.sets) { first, _ in first }
        rendering.setIDs.formUnion(one.setIDs)
      }
      let folded = PolicyFolding(rules, chain: name, literals: rendering.sets)
      rendering.sets.merge(folded.sets) { first, _ in first }
      for (part, chain) in folded.chains { set(chain: part, chain) }
      rendering.chains = Set(folded.chains.keys)
      new = rendering
    }
    for part in old?.chains ?? [] where !(new?.chains.contains(part) ?? false) { set(chain: part, nil) }
    for (name, source) in new?.sets ?? [:] { use(name, source) }
    for name in (old?.sets ?? [:]).keys { unuse(name) }
    for id in old?.setIDs ?? [] { policiesBySet[id]?.remove(key) }
    for id in new?.setIDs ?? [] { policiesBySet[id, default: []].insert(key) }
    for id in old?.setIDs ?? [] where policiesBySet[id]?.isEmpty ?? false { policiesBySet[id] = nil }
    rendered[key] = new
  }

  private mutating func use(_ name: String, _ source: SetSource) {
    if setUses[name] == nil, setsBefore[name] == nil { setsBefore[name] = false }
    setUses[name, default: SetUse(source: source, users: 0)].users += 1
  }
  private mutating func unuse(_ name: String) {
    setUses[name]!.users -= 1
    guard setUses[name]!.users == 0 else { return }
    setUses[name] = nil
    if setsBefore[name] == nil { setsBefore[name] = true }
  }

  /// Sets come and go with the rules that look into them.
  private mutating func finishSets() {
    for (name, existed) in setsBefore {
      switch (existed, setUses[name]) {
      case (false, let use?):
        let set = use.source.id.flatMap { sets[$0] }
        delta.sets[name] = use.source.spec(set?.explanation ?? "")
        if case .literal(let spec, _) = use.source { delta.sets[name] = spec }
        let elements = if case .literal(_, let elements) = use.source { elements } else { set?.elements(of: use.source) ?? [] }
        delta.elements[name] = elements.isEmpty ? nil : RulesetDelta.Elements(added: elements)
      case (true, nil):
        delta.sets[name] = .some(nil)
        delta.elements[name] = nil
      default: break
      }
    }
    setsBefore = [:]
    delta.elements = delta.elements.filter { !$0.value.isEmpty }
  }

  // MARK: The frame

  private var frameNeeds: FrameNeeds {
    var needs = FrameNeeds()
    for id in FrameNeeds.sets {
      guard let set = sets[id] else { continue }
      for family in IPFamily.allCases { needs.parts.formUnion([.hosts(id, family), .nets(id, family)].filter(set.hasElements)) }
    }
    for (name, count) in placedCounts where count > 0 { needs.inhabited.insert(name) }
    needs.hosts = hosts.frame
    needs.tunnels = tunnels
    return needs
  }

  private mutating func renderBase(_ needs: FrameNeeds) {
    let new = BaseRuleset(settings, needs)
    let old = base
    for (name, source) in new.uses { use(name, source) }
    for name in (old?.uses ?? [:]).keys { unuse(name) }
    for name in (old?.chains ?? [:]).keys where new.chains[name] == nil { set(chain: name, nil) }
    for (name, chain) in new.chains { set(chain: name, chain) }
    for (name, _) in old?.sets ?? [:] where new.sets[name] == nil {
      delta.sets[name] = .some(nil)
      delta.elements[name] = nil
    }
    for (name, spec) in new.sets {
      let before = old?.sets[name] == nil ? [] : old?.elements[name] ?? []
      let after = new.elements[name] ?? []
      if old?.sets[name] == nil { delta.sets[name] = spec }
      for element in before.subtracting(after) { delta.remove(element, from: name) }
      for element in after.subtracting(before) { delta.add(element, to: name) }
    }
    base = new
  }

  private mutating func set(chain name: String, _ chain: Chain?) {
    guard chains[name] != chain else { return }
    chains[name] = chain
    delta.chains[name] = .some(chain)
  }
}

extension PolicyRenderer: RenderingContext {
  var usesIPv6: Bool { settings.ipv6 }
  func content(of set: IPSetID) -> IPSetPlan.Content? { sets[set]?.content }
  func hasElements(_ source: SetSource) -> Bool { source.id.flatMap { sets[$0] }?.hasElements(source) ?? false }
}

extension PolicyPlan {
  func rules(_ direction: Direction) -> [RulePlan] { direction == .ingress ? ingress : egress }
  /// A rule with a fault denies, whatever its action.
  func traits(_ direction: Direction) -> PolicyGroup.Traits {
    PolicyGroup.Traits(passes: rules(direction).contains { $0.fault == nil && $0.action == .pass })
  }
}

/// From the cluster's objects to the plan of one host.
///
/// ```
///                        ┌─ AddressSets  (all endpoints, network sets) ◄── demands ──┐
///  inputs ─► pending ─►  ├─ PolicyTable  (policies × local endpoints) ── in use ─► RuleFolding ─► policy plans
///            per key     ├─ LocalEndpoints (interfaces, addresses, own blocks) ────────────────► endpoint plans, routes
///                        ├─ LocalHostEndpoint (this host's own interfaces) ────────────────────► host endpoint plans
///                        ├─ RemoteRoutes   (nodes, pools, blocks, claims) ─────────────────────► routes, tunnels
///                        └─ tiers, profiles, FelixConfiguration
/// ```
///
/// The contract: the output depends on the present inputs alone, never on the path to them; dangling references have a defined meaning
/// (a missing profile denies, a missing tier comes last); adding, changing and deleting are one operation. Inputs are only recorded;
/// `flush`
/// computes and answers with the minimal changes, in the order of `HostPlanChange.rank`. A change costs what it touches, not
/// what the cluster holds: endpoints of other hosts only feed the address sets, and only rules of policies in use are looked at.
import Addresses
public import FelixSettings
import HostPlans
import Resources

public struct HostCalculation: Sendable {
  public let node: String
  private var isInSync = false
  private var pending: [ResourceKey: Resource?] = [:]
  private var pendingBlocks: [IPPrefix: BlockFact?] = [:]

  private var tiers: [String: TierSpec] = [:]
  private var profiles: [String: ProfileSpec] = [:]
  private var storedSettings: StoredSettings
  /// Nil: to be found again.
  private var resolved: SettingsResolution?
  /// What this host says itself of its settings, weakest first.
  public var localSettings: [SettingsLayer] = [] { didSet { if localSettings != oldValue { resolved = nil } } }
  private(set) var policies = PolicyTable()
  /// Staged policies that would delete the enforced one of their name.
  private var stagedDeletions: Set<ResourceKey> = []
  private var addressSets = AddressSets()
  private var local = LocalEndpoints()
  private(set) var localHosts: [ResourceKey: LocalHostEndpoint] = [:]
  private var networks = ClusterNetworks()
  private var remote: RemoteRoutes

  /// Places of local endpoints, of workloads and hosts, in `policies`.
  private var itemByKey: [ResourceKey: Int] = [:]
  private var items = Arena<ResourceKey>()
  private var profileUses: [String: Int] = [:]
  private var profilesByEndpoint: [ResourceKey: [String]] = [:]

  private var dirtyPolicies: Set<ResourceKey> = []
  private var dirtyEndpoints: Set<ResourceKey> = []
  private var folded: [ResourceKey: FoldedPolicy] = [:]

  // What was told, to tell only differences.
  private var settings = HostSettings()
  private var endpointPlans: [ResourceKey: EndpointPlan] = [:]
  private var hostEndpointPlans: [ResourceKey: HostEndpointPlan] = [:]
  /// Endpoints that mark their packets.
  private var marking: Set<ResourceKey> = []
  private var routes: [IPPrefix: RoutePlan] = [:]

  /// `node` is the name under which this host's endpoints are stored.
  public init(node: String) {
    self.node = node
    remote = RemoteRoutes(node: node)
    storedSettings = StoredSettings(node: node)
  }

  /// Felix's settings as of the last flush, with where each comes from.
  public var settingsResolution: SettingsResolution { resolved ?? SettingsResolution(storedSettings, local: localSettings) }

  public mutating func receive(_ input: CalculationInput) {
    switch input {
    case .resource(let key, let resource): pending[key] = .some(resource)
    case .block(let prefix, let fact): pendingBlocks[prefix] = .some(fact)
    case .inSync: isInSync = true
    }
  }

  /// What changed in the host's plan since the last call; nothing before `.inSync`. Applied in order, each reference is to something
  /// present.
  public mutating func flush() -> [HostPlanChange] {
    guard isInSync else { return [] }
    absorb()
    var changes: [HostPlanChange] = []
    if resolved == nil {
      let resolution = settingsResolution
      resolved = resolution
      let settings = HostSettings(resolution.effective)
      if settings != self.settings {
        adopt(settings)
        changes.append(.settings(settings))
        remote.set(settings)
      }
    }
    settleLocalEndpoints()
    changes += foldPolicies()
    changes += addressSets.drain()
    changes += planEndpoints()
    changes += remote.drainTunnels()
    changes += networks.drain(
      ClusterNetworks.Needs(
        sparesHosts: settings.nat.sparesHosts, marksLeaving: !marking.isEmpty, stopsServiceLoops: settings.filter.serviceLoops != .disabled))
    for prefix in local.drain().union(remote.drain()) {
      // Whoever is here comes before whoever is elsewhere, and a block's rest goes nowhere.
      let elsewhere = remote.route(to: prefix)
      let route = local.workloadRoute(to: prefix) ?? elsewhere ?? (remote.countsBlocks ? local.blackhole(of: prefix) : nil)
      let before = routes[prefix]
      guard before != route else { continue }
      routes[prefix] = route
      if let route {
        changes.append(.route(prefix, route))
      } else {
        changes.append(before!.isToAnotherHost && remote.isCarriedByBGP(prefix) ? .routeHandedOver(prefix) : .routeRemoved(prefix))
      }
    }
    return changes.sorted { ($0.rank, $0.subject) < ($1.rank, $1.subject) }
  }

  /// The whole plan as of the last flush.
  public var plan: HostPlan {
    var plan = HostPlan()
    guard isInSync else { return plan }
    plan.settings = settings
    plan.ipSets = addressSets.plans.merging(networks.plans) { $1 }
    plan.policies = folded.mapValues(\.plan)
    plan.endpoints = endpointPlans
    plan.hostEndpoints = hostEndpointPlans
    plan.routes = routes
    remote.add(to: &plan)
    return plan
  }

  /// What is wrong with objects as of the last flush, in words, for status and log. Rules are looked at where the policy is in use on this
  /// host.
  public var findings: [ResourceKey: String] {
    var findings = local.findings.merging(remote.findings) { $1 }
    func add(_ text: String, to key: ResourceKey) { findings[key] = findings[key].map { "\($0); \(text)" } ?? text }
    for (key, fault) in policies.faults { add(fault, to: key) }
    for (name, finding) in settingsResolution.findings { add(finding, to: ResourceKey(.felixConfiguration, name: name)) }
    for (key, policy) in folded where !policy.faults.isEmpty { add(policy.faults.joined(separator: "; "), to: key) }
    for key in folded.keys {
      if let tier = policies.inUse(key)?.spec.tier, self.tier(tier) == nil {
        add("tier \(tier) does not exist; it counts as the last", to: key)
      }
    }
    for key in endpointPlans.keys where !settings.filter.allowsSpoofing {
      if let record = local.records[key], !record.spec.allowSpoofedSourcePrefixes.isEmpty {
        add("allowSpoofedSourcePrefixes: not in effect; set workloadSourceSpoofing to Any in FelixConfiguration", to: key)
      }
    }
    for (key, profiles) in endpointPlans.map({ ($0, $1.profiles) }) + hostEndpointPlans.map({ ($0, $1.profiles) }) {
      for name in profiles where profile(name) == nil { add("profile \(name) does not exist; it denies", to: key) }
    }
    return findings
  }

  // MARK: Taking in facts

  private mutating func absorb() {
    for (key, resource) in pending {
      if storedSettings.note(key, resource) { resolved = nil }
      switch key.kind {
      case .workloadEndpoint: absorbEndpoint(key, resource)
      case .hostEndpoint: absorbHostEndpoint(key, resource)
      case .networkSet, .globalNetworkSet: absorbNetworkSet(key, resource)
      case .kubernetesEndpointSlice: absorbSlice(key, resource)
      case .networkPolicy, .globalNetworkPolicy: absorbPolicy(key, resource)
      case .stagedNetworkPolicy, .stagedGlobalNetworkPolicy, .stagedKubernetesNetworkPolicy: absorbStaged(key, resource)
      case .profile: absorbProfile(key, resource)
      case .tier: absorbTier(key, resource)
      case .ipPool, .node, .bgpConfiguration:
        networks.set(key, resource?.spec)
        remote.set(key, resource)
      // The others say nothing about what this host must do.
      default: break
      }
    }
    pending.removeAll()
    for (prefix, fact) in pendingBlocks {
      local.setBlock(prefix, isOurs: fact?.affinity == node)
      remote.set(block: prefix, fact)
    }
    pendingBlocks.removeAll()
  }

  private mutating func absorbEndpoint(_ key: ResourceKey, _ resource: Resource?) {
    guard let resource, case .workloadEndpoint(let spec) = resource.spec else {
      addressSets.remove(key)
      local.set(key, nil)
      remote.set(endpoint: key, nil, created: nil)
      return
    }
    let shape = LabelIndex.Shape(labels: Self.labels(ofEndpoint: resource.metadata, key, spec), parents: spec.profiles)
    addressSets.place(key, shape, AddressSets.Holding(nets: spec.ipNetworks, ports: spec.ports))
    let endpoint = LocalEndpoints.Endpoint(
      spec: spec, shape: shape, claim: LocalClaim(key, created: resource.metadata.creationTimestamp))
    local.set(key, spec.node == node ? endpoint : nil)
    remote.set(endpoint: key, spec, created: resource.metadata.creationTimestamp)
  }

  private mutating func absorbHostEndpoint(_ key: ResourceKey, _ resource: Resource?) {
    let host = LocalHostEndpoint(resource)
    if let host { addressSets.place(key, host.shape, host.holding) } else { addressSets.remove(key) }
    if let host, host.spec.node == node {
      let item = itemByKey[key] ?? items.add(key)
      itemByKey[key] = item
      localHosts[key] = host
      let move = policies.place(host: item, host.shape)
      markPolicies(move.before.symmetricDifference(move.after))
      use(profiles: host.spec.profiles, by: key)
    } else if let item = itemByKey.removeValue(forKey: key) {
      localHosts[key] = nil
      markPolicies(policies.remove(host: item))
      items.remove(item)
      use(profiles: [], by: key)
    }
    dirtyEndpoints.insert(key)
  }

  /// Namespace, orchestrator and service account are facts of the record; its writer states them as labels, and a label cannot say
  /// otherwise.
  private static func labels(ofEndpoint metadata: Metadata, _ key: ResourceKey, _ spec: WorkloadEndpointSpec) -> [String: String] {
    var labels = metadata.labels
    func state(_ label: String, _ value: String) {
      if !value.isEmpty, labels[label] != value { labels[label] = value }
    }
    state(FoldedSelector.namespaceLabel, key.namespace ?? "")
    state(FoldedSelector.orchestratorLabel, spec.orchestrator)
    state(FoldedSelector.serviceAccountLabel, spec.serviceAccountName)
    return labels
  }

  private mutating func absorbNetworkSet(_ key: ResourceKey, _ resource: Resource?) {
    switch resource?.spec {
    case .networkSet(let spec):
      // A network set stands in its namespace like an endpoint does, and inherits the namespace's labels.
      var shape = LabelIndex.Shape(labels: resource!.metadata.labels, parents: [])
      if let namespace = key.namespace {
        shape.labels[FoldedSelector.namespaceLabel] = namespace
        shape.parents = ["kns.\(namespace)"]
      }
      addressSets.place(key, shape, AddressSets.Holding(nets: spec.nets))
    case .globalNetworkSet(let spec):
      addressSets.place(key, LabelIndex.Shape(labels: resource!.metadata.labels, parents: []), AddressSets.Holding(nets: spec.nets))
    default: addressSets.remove(key)
    }
  }

  private mutating func absorbSlice(_ key: ResourceKey, _ resource: Resource?) {
    guard let resource, case .kubernetesEndpointSlice(let slice) = resource.spec, let namespace = key.namespace,
      let service = resource.metadata.labels[EndpointSliceSpec.serviceLabel]
    else { return addressSets.place(slice: key, of: nil, AddressSets.Holding(nets: [])) }
    // A name given to a port of the service does not matter here: the set holds the ports themselves, each once.
    let ports = slice.ports.map { WorkloadEndpointSpec.NamedPort(name: "", protocol: $0.ipProtocol, port: $0.port) }
    addressSets.place(
      slice: key, of: ServiceName(namespace: namespace, name: service),
      AddressSets.Holding(nets: slice.readyAddresses.map(\.hostPrefix), ports: ports))
  }

  private mutating func absorbPolicy(_ key: ResourceKey, _ resource: Resource?) {
    let spec: PolicySpec? =
      switch resource?.spec {
      case .networkPolicy(let spec)?, .globalNetworkPolicy(let spec)?: spec
      default: nil
      }
    set(policy: key, spec)
    for staged in key.stagedCounterparts where stagedDeletions.contains(staged) { set(policy: staged, spec) }
  }

  private mutating func set(policy key: ResourceKey, _ spec: PolicySpec?) {
    dirtyPolicies.insert(key)
    for item in policies.set(key, spec) { dirtyEndpoints.insert(items[item]) }
  }

  private mutating func absorbStaged(_ key: ResourceKey, _ resource: Resource?) {
    stagedDeletions.remove(key)
    switch resource?.stagedProposal {
    case (.delete, _)?:
      stagedDeletions.insert(key)
      set(policy: key, policies.spec(key.enforcedCounterpart!))
    case (.set, let policy)?, (.learn, let policy)?: set(policy: key, policy)
    case (.ignore, _)?, nil: set(policy: key, nil)
    }
  }

  private mutating func absorbProfile(_ key: ResourceKey, _ resource: Resource?) {
    guard key.name != ProfileSpec.defaultAllowName else { return }
    let spec: ProfileSpec? = if case .profile(let spec)? = resource?.spec { spec } else { nil }
    profiles[key.name] = spec
    dirtyPolicies.insert(key)
    addressSets.setParent(key.name, labels: spec?.labelsToApply)
    for shift in policies.setParent(key.name, labels: spec?.labelsToApply) {
      for item in shift.items { dirtyEndpoints.insert(items[item]) }
      markPolicies(shift.gained.union(shift.lost))
    }
  }

  private mutating func absorbTier(_ key: ResourceKey, _ resource: Resource?) {
    let spec: TierSpec? = if case .tier(let spec)? = resource?.spec { spec } else { nil }
    guard tiers[key.name] != spec else { return }
    tiers[key.name] = spec
    dirtyEndpoints.formUnion(itemByKey.keys)
  }

  /// Endpoints whose plans depend on a setting are planned anew.
  private mutating func adopt(_ settings: HostSettings) {
    if settings.filter.allowsSpoofing != self.settings.filter.allowsSpoofing {
      dirtyEndpoints.formUnion(itemByKey.keys.filter { local.records[$0]?.spec.allowSpoofedSourcePrefixes.isEmpty == false })
    }
    local.translatesAll = settings.nat.floatingIPs
    self.settings = settings
  }

  private mutating func settleLocalEndpoints() {
    let (gone, present) = local.settle()
    for key in gone {
      guard let item = itemByKey.removeValue(forKey: key) else { continue }
      markPolicies(policies.remove(item))
      items.remove(item)
      use(profiles: [], by: key)
      dirtyEndpoints.insert(key)
    }
    for key in present {
      let record = local.records[key]!
      let item: Int
      if let known = itemByKey[key] {
        item = known
      } else {
        item = items.add(key)
        itemByKey[key] = item
      }
      let move = policies.place(item, record.shape)
      markPolicies(move.before.symmetricDifference(move.after))
      use(profiles: record.spec.profiles, by: key)
      dirtyEndpoints.insert(key)
    }
    dirtyEndpoints.formUnion(local.takeShifted())
  }

  private mutating func markPolicies(_ slots: Set<Int>) {
    for slot in slots { dirtyPolicies.insert(policies[slot].key) }
  }

  private mutating func use(profiles names: [String], by endpoint: ResourceKey) {
    let previous = profilesByEndpoint[endpoint] ?? []
    guard previous != names else { return }
    profilesByEndpoint[endpoint] = names.isEmpty ? nil : names
    for name in names {
      profileUses[name, default: 0] += 1
      if profileUses[name] == 1 { dirtyPolicies.insert(ResourceKey(.profile, name: name)) }
    }
    for name in previous {
      profileUses[name]! -= 1
      if profileUses[name] == 0 {
        profileUses[name] = nil
        dirtyPolicies.insert(ResourceKey(.profile, name: name))
      }
    }
  }

  // MARK: Policies and profiles

  private func tier(_ name: String) -> TierSpec? { tiers[name] ?? TierSpec.builtIn[name] }

  private func profile(_ name: String) -> ProfileSpec? { name == ProfileSpec.defaultAllowName ? .defaultAllow : profiles[name] }

  /// The rules of a policy or profile that is in use here; nil for one that is not, or does not exist.
  private func fold(_ key: ResourceKey) -> FoldedPolicy? {
    if key.kind == .profile {
      guard profileUses[key.name] != nil, let spec = profile(key.name) else { return nil }
      var folding = RuleFolding(namespace: nil)
      folding.fold(spec.ingress, .ingress)
      folding.fold(spec.egress, .egress)
      return folding.folded
    }
    guard let policy = policies.inUse(key) else { return nil }
    var folding = RuleFolding(namespace: key.namespace, tier: policy.spec.tier)
    let directions = policy.spec.effectiveTypes
    if case .denies(_, let fault) = policy.reading {
      folding.denyAll(directions, because: fault)
    } else {
      // Rules of a direction that the policy does not govern decide nothing; they cost the kernel nothing either.
      if directions.contains(.ingress) { folding.fold(policy.spec.ingress, .ingress) }
      if directions.contains(.egress) { folding.fold(policy.spec.egress, .egress) }
    }
    return folding.folded
  }

  private mutating func foldPolicies() -> [HostPlanChange] {
    var changes: [HostPlanChange] = []
    for key in dirtyPolicies {
      let old = folded[key]
      let new = fold(key)
      for (id, demand) in new?.demands ?? [:] where old?.demands[id] == nil { addressSets.demand(demand) }
      for id in (old?.demands ?? [:]).keys where new?.demands[id] == nil { addressSets.release(id) }
      folded[key] = new
      switch (old, new) {
      case (_, let new?) where old?.plan != new.plan: changes.append(.policy(key, new.plan))
      case (.some, nil): changes.append(.policyRemoved(key))
      default: break
      }
    }
    dirtyPolicies.removeAll()
    return changes
  }

  // MARK: Endpoints

  private mutating func planEndpoints() -> [HostPlanChange] {
    var changes: [HostPlanChange] = []
    // Endpoints of one class match the same policies; their tiers are worked out once.
    var tiersByClass: [Int: (ingress: [TierPlan], egress: [TierPlan])] = [:]
    for key in dirtyEndpoints {
      if key.kind == .hostEndpoint {
        let plan = itemByKey[key].map { hostEndpointPlan(localHosts[key]!.spec, matches: policies.hosts.matches(ofItem: $0)) }
        if let plan, hostEndpointPlans[key] != plan { changes.append(.hostEndpoint(key, plan)) }
        if plan == nil, hostEndpointPlans[key] != nil { changes.append(.hostEndpointRemoved(key)) }
        hostEndpointPlans[key] = plan
        continue
      }
      guard let item = itemByKey[key] else {
        if endpointPlans.removeValue(forKey: key) != nil { changes.append(.endpointRemoved(key)) }
        marking.remove(key)
        continue
      }
      let record = local.records[key]!
      let shared = policies.index.classSlot(ofItem: item)!
      let tiers = tiersByClass[shared] ?? tierPlans(policies.index.matches(ofItem: item))
      tiersByClass[shared] = tiers
      var plan = EndpointPlan(
        interfaceName: record.spec.interfaceName, mac: record.spec.mac, addresses: record.addresses, ingress: tiers.ingress,
        egress: tiers.egress, profiles: record.spec.profiles)
      if settings.filter.allowsSpoofing { plan.allowedSources = Set(record.spec.allowSpoofedSourcePrefixes).sorted() }
      plan.floating = local.floating(of: key)
      plan.qos = record.spec.qosControls.flatMap { $0 == QoSControls() ? nil : $0 }
      plan.isOpenStack = record.isOpenStack
      if plan.qos?.dscp == nil { marking.remove(key) } else { marking.insert(key) }
      if endpointPlans[key] != plan {
        endpointPlans[key] = plan
        changes.append(.endpoint(key, plan))
      }
    }
    dirtyEndpoints.removeAll()
    return changes
  }

  func tierPlans(_ matches: some Sequence<Int>) -> (ingress: [TierPlan], egress: [TierPlan]) {
    let byTier = Dictionary(grouping: matches.map { policies[$0] }, by: \.spec.tier)
    var ingress: [TierPlan] = []
    var egress: [TierPlan] = []
    let places = byTier.keys.map { TierPlace(isUnknown: tier($0) == nil, order: tier($0)?.order ?? .infinity, name: $0) }
    for place in places.sorted() {
      let ordered = byTier[place.name]!.sorted { $0.place < $1.place }
      let action = tier(place.name)?.defaultAction ?? .deny
      let ingressKeys = ordered.filter { $0.spec.effectiveTypes.contains(.ingress) }.map(\.key)
      let egressKeys = ordered.filter { $0.spec.effectiveTypes.contains(.egress) }.map(\.key)
      if let plan = TierPlan(name: place.name, enforcedAndStaged: ingressKeys, defaultAction: action) { ingress.append(plan) }
      if let plan = TierPlan(name: place.name, enforcedAndStaged: egressKeys, defaultAction: action) { egress.append(plan) }
    }
    return (ingress, egress)
  }
}

extension HostPlanChange {
  /// Orders changes of the same rank, so that the same inputs give the same list.
  fileprivate var subject: String {
    switch self {
    case .settings: ""
    case .ipSet(let id, _), .ipSetMembers(let id, _, _), .ipSetRemoved(let id): id.text
    case .policy(let key, _), .endpoint(let key, _), .hostEndpoint(let key, _), .endpointRemoved(let key), .hostEndpointRemoved(let key),
      .policyRemoved(let key): key.description
    case .route(let prefix, _), .routeRemoved(let prefix), .routeHandedOver(let prefix): prefix.description
    case .tunnel(let kind, _), .tunnelDemand(let kind, _): kind.rawValue
    case .tunnelPeer(let peer, _): peer.description
    }
  }
}

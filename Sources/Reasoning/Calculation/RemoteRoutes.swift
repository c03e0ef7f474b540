/// Routes to the workloads of other hosts, as far as Felix programs them and not BGP, and the tunnels that they need.
///
/// Who is behind a prefix is a matter of claims: a node has a block, borrows an address from another's block, has a workload with an address
/// (`routeSource: WorkloadIPs`), or has its tunnel's end there. One claim wins for each prefix; the pool and the claimant's place decide how
/// it is reached. A change costs what it touches: a block its addresses, a node its prefixes, a pool what lies within it.
import Addresses
import HostPlans
import Resources

struct RemoteRoutes: Sendable {
  /// The better claim is the smaller one: whoever has the very address, before whoever has a block of that size, before a tunnel's end.
  struct Claim: Hashable, Comparable, Sendable {
    enum Kind: Int, Hashable, Sendable { case workload, borrowed, block, tunnel }
    var kind: Kind
    /// The younger record is right more often than not; RFC 3339, compares as text.
    var created = ""
    var node: String
    static func < (a: Self, b: Self) -> Bool {
      if a.kind != b.kind { return a.kind.rawValue < b.kind.rawValue }
      return a.created != b.created ? a.created > b.created : a.node < b.node
    }
  }
  /// What claims come from.
  private enum Origin: Hashable { case block(IPPrefix), node(String), endpoint(ResourceKey) }

  private(set) var map: ClusterMap
  private var settings = HostSettings()
  private var blocks: [IPPrefix: BlockFact] = [:]
  private var endpoints: [ResourceKey: (node: String, created: String, addresses: [IPPrefix])] = [:]

  private var claims = PrefixTrie<[Claim]>()
  private var claimed: [Origin: [IPPrefix: Claim]] = [:]
  /// How many claims a node has on each prefix.
  private var prefixes: [String: [IPPrefix: Int]] = [:]

  private var dirty: Set<IPPrefix> = []
  private var dirtyNodes: Set<String> = []
  private var areTunnelsDirty = false
  private var tunnels: [TunnelKind: TunnelPlan] = [:]
  private var demands: [TunnelKind: TunnelDemand] = [:]
  private var peers: [TunnelPeer: TunnelPeerPlan] = [:]
  /// Why a prefix of another host has no route, although it should have one of ours: by prefix, with the host.
  private var unreachable: [IPPrefix: (node: String, reason: String)] = [:]

  init(node: String) { map = ClusterMap(node: node) }
  private var node: String { map.node }
  /// False where only workloads' own records say who is where.
  var countsBlocks: Bool { settings.routing.source == .calicoIPAM }

  // MARK: Taking in facts

  mutating func set(_ key: ResourceKey, _ resource: Resource?) {
    switch (key.kind, resource?.spec) {
    case (.node, .node(let spec)?):
      let status: NodeStatus? = if case .node(let status)? = resource?.status { status } else { nil }
      set(node: key.name, spec, status)
    case (.node, _): set(node: key.name, nil, nil)
    case (.ipPool, .ipPool(let spec)?): set(pool: key.name, spec)
    case (.ipPool, _): set(pool: key.name, nil)
    default: break
    }
  }

  mutating func set(node name: String, _ spec: NodeSpec?, _ status: NodeStatus?) {
    let facts = spec.map { ClusterMap.NodeFacts(name, $0, status) }
    let isSubnetChanged = name == node && map.own?.addresses != facts?.addresses
    guard map.set(node: name, facts) else { return }
    dirtyNodes.insert(name)
    if name == node { areTunnelsDirty = true }
    if isSubnetChanged { dirtyEverything() }
    for prefix in (prefixes[name] ?? [:]).keys { dirty.insert(prefix) }
    var ends: [IPPrefix: Claim] = [:]
    for address in (facts?.tunnels ?? [:]).values { ends[address.hostPrefix] = Claim(kind: .tunnel, node: name) }
    claim(ends, .node(name))
  }

  mutating func set(pool name: String, _ spec: IPPoolSpec?) {
    for network in map.set(pool: name, spec) {
      for (prefix, _) in claims.coveredBy(network) { dirty.insert(prefix) }
      areTunnelsDirty = true
    }
  }

  mutating func set(block prefix: IPPrefix, _ fact: BlockFact?) {
    blocks[prefix] = fact
    claimBlock(prefix)
  }
  private mutating func claimBlock(_ prefix: IPPrefix) {
    var ends: [IPPrefix: Claim] = [:]
    if countsBlocks, let fact = blocks[prefix] {
      if let owner = fact.affinity { ends[prefix] = Claim(kind: .block, node: owner) }
      for (address, holder) in fact.borrowers { ends[address.hostPrefix] = Claim(kind: .borrowed, node: holder) }
    }
    claim(ends, .block(prefix))
  }

  mutating func set(endpoint key: ResourceKey, _ spec: WorkloadEndpointSpec?, created: String?) {
    endpoints[key] = spec.map { ($0.node, created ?? "", $0.ipNetworks.filter(\.isHost)) }
    if settings.routing.source == .workloadIPs { claimEndpoint(key) }
  }
  private mutating func claimEndpoint(_ key: ResourceKey) {
    var ends: [IPPrefix: Claim] = [:]
    if settings.routing.source == .workloadIPs, let endpoint = endpoints[key] {
      for address in endpoint.addresses { ends[address] = Claim(kind: .workload, created: endpoint.created, node: endpoint.node) }
    }
    claim(ends, .endpoint(key))
  }

  mutating func set(_ settings: HostSettings) {
    let before = self.settings
    self.settings = settings
    if before.routing.source != settings.routing.source {
      for prefix in blocks.keys { claimBlock(prefix) }
      for key in endpoints.keys { claimEndpoint(key) }
    }
    guard before.routing.clusterRoutes != settings.routing.clusterRoutes || before.tunnels != settings.tunnels || before.ipv6 != settings.ipv6
    else { return }
    areTunnelsDirty = true
    dirtyEverything()
  }

  private mutating func dirtyEverything() { for (prefix, _) in claims.entries { dirty.insert(prefix) } }

  private mutating func claim(_ new: [IPPrefix: Claim], _ origin: Origin) {
    let old = claimed[origin] ?? [:]
    guard old != new else { return }
    claimed[origin] = new.isEmpty ? nil : new
    for (prefix, claim) in old where new[prefix] != claim { change(prefix, remove: claim) }
    for (prefix, claim) in new where old[prefix] != claim { change(prefix, add: claim) }
  }

  private mutating func change(_ prefix: IPPrefix, add: Claim? = nil, remove: Claim? = nil) {
    var all = claims[prefix] ?? []
    if let remove, let place = all.firstIndex(of: remove) {
      all.remove(at: place)
      count(prefix, remove.node, -1)
    }
    if let add {
      all.append(add)
      all.sort()
      count(prefix, add.node, +1)
    }
    claims[prefix] = all.isEmpty ? nil : all
    dirty.insert(prefix)
    // Who has what is behind a peer of WireGuard; a claim may have been won from, or lost to, another node.
    let hasPeers = settings.tunnels.wireguard || settings.tunnels.wireguardV6
    if hasPeers { for claim in all + [add, remove].compactMap({ $0 }) { dirtyNodes.insert(claim.node) } }
    // What a block covers needs no route of its own while both are of one host.
    guard (add ?? remove)?.kind == .block else { return }
    for (inside, others) in claims.coveredBy(prefix) {
      dirty.insert(inside)
      if hasPeers { for claim in others { dirtyNodes.insert(claim.node) } }
    }
  }

  private mutating func count(_ prefix: IPPrefix, _ name: String, _ change: Int) {
    let number = (prefixes[name]?[prefix] ?? 0) + change
    prefixes[name, default: [:]][prefix] = number > 0 ? number : nil
    if prefixes[name]?.isEmpty == true { prefixes[name] = nil }
  }

  // MARK: Answers

  /// Prefixes whose `route(to:)` may have changed since the last call.
  mutating func drain() -> Set<IPPrefix> {
    defer { dirty = [] }
    return dirty
  }

  /// Nil: no route of Felix', because nobody else is there, or BGP carries it, or it cannot be reached.
  mutating func route(to prefix: IPPrefix) -> RoutePlan? {
    if !unreachable.isEmpty { unreachable[prefix] = nil }
    guard let name = claimant(of: prefix), name != node else { return nil }
    switch way(to: prefix, of: name) {
    case .route(let plan): return plan
    case .notOurs: return nil
    case .unreachable(let reason):
      unreachable[prefix] = (name, reason)
      return nil
    }
  }

  /// Somebody else is there, and his routes are not for Felix to program.
  func isCarriedByBGP(_ prefix: IPPrefix) -> Bool {
    guard let name = claimant(of: prefix), name != node, case .notOurs = way(to: prefix, of: name) else { return false }
    return true
  }

  /// The node that has the prefix, and needs a route to it that a wider one does not give already.
  private func claimant(of prefix: IPPrefix) -> String? {
    guard let claim = claims[prefix]?.first else { return nil }
    if claim.kind != .block, prefix.isHost {
      let around = claims.covering(prefix).last { entry in entry.prefix != prefix && entry.value.contains { $0.kind == .block } }
      if around?.value.first(where: { $0.kind == .block })?.node == claim.node { return nil }
    }
    return claim.node
  }

  private enum Way {
    case route(RoutePlan)
    case notOurs
    case unreachable(String)
  }

  private func way(to prefix: IPPrefix, of name: String) -> Way {
    guard let pool = map.pool(of: prefix), prefix.family == .v4 || settings.ipv6 else { return .notOurs }
    let carrier = settings.routing.clusterRoutes
    let mode: IPPoolSpec.Encapsulation
    let kind: TunnelKind?
    if pool.vxlanMode != .never {
      (kind, mode) = (.vxlan(prefix.family), pool.vxlanMode)
    } else if pool.ipipMode != .never, prefix.family == .v4 {
      guard carrier == .enabled || carrier == .ipipOnly else { return .notOurs }
      (kind, mode) = (.ipip, pool.ipipMode)
    } else {
      guard carrier == .enabled || carrier == .noEncapOnly else { return .notOurs }
      (kind, mode) = (nil, .never)
    }
    guard let own = map.own?.addresses[prefix.family]?.address else {
      return .unreachable("this host's Node has no \(prefix.family) address")
    }
    guard let facts = map.nodes[name], let address = facts.addresses[prefix.family]?.address else {
      return .unreachable("its Node has no \(prefix.family) address")
    }
    let isNear = map.isNear(address)
    guard let kind else {
      return isNear ? .route(.direct(via: address, from: own))
        : .unreachable("it is in another subnet, and the pool has no encapsulation: let BGP carry its routes (programClusterRoutes)")
    }
    if mode == .crossSubnet, isNear { return .route(.direct(via: address, from: own)) }
    guard map.isEnabled(kind, settings) else { return .unreachable("its pool asks for \(kind.word), which FelixConfiguration switches off") }
    if kind == .ipip { return .route(.tunnel(kind, via: address)) }
    guard let end = facts.tunnels[kind] else { return .unreachable("its Node has no address for \(kind.word) yet") }
    return .route(.tunnel(kind, via: end))
  }

  /// What changed of the tunnels themselves since the last call.
  mutating func drainTunnels() -> [HostPlanChange] {
    guard areTunnelsDirty || !dirtyNodes.isEmpty else { return [] }
    var changes: [HostPlanChange] = []
    for kind in TunnelKind.allCases {
      var isSwitched = false
      if areTunnelsDirty {
        let plan = map.plan(kind, settings)
        isSwitched = (plan == nil) != (tunnels[kind] == nil)
        if tunnels[kind] != plan {
          tunnels[kind] = plan
          changes.append(.tunnel(kind, plan))
        }
        let demand = map.demand(kind, settings)
        if demands[kind] != demand {
          demands[kind] = demand
          changes.append(.tunnelDemand(kind, demand))
        }
      }
      guard isSwitched || tunnels[kind] != nil else { continue }
      let everybody = isSwitched || areTunnelsDirty && kind.isWireguard
      for name in everybody ? Set(map.nodes.keys).union(peers.keys.lazy.filter { $0.kind == kind }.map(\.node)) : dirtyNodes {
        let peer = TunnelPeer(kind, name)
        let plan = tunnels[kind] == nil || name == node ? nil : peerPlan(peer)
        guard peers[peer] != plan else { continue }
        peers[peer] = plan
        changes.append(.tunnelPeer(peer, plan))
      }
    }
    areTunnelsDirty = false
    dirtyNodes = []
    return changes
  }

  private func peerPlan(_ peer: TunnelPeer) -> TunnelPeerPlan? {
    guard var plan = map.peer(peer.kind, of: peer.node) else { return nil }
    guard peer.kind.isWireguard else { return plan }
    var networks = (prefixes[peer.node] ?? [:]).keys.filter { $0.family == peer.kind.family && claimant(of: $0) == peer.node }
    if settings.tunnels.wireguardHostEncryption { networks.append(plan.underlay.hostPrefix) }
    plan.networks = networks.sorted()
    return plan
  }

  func add(to plan: inout HostPlan) {
    plan.tunnels = tunnels
    plan.tunnelPeers = peers
    plan.tunnelDemands = demands
  }

  /// Of nodes that cannot be reached, and of this one's missing ends of tunnels.
  var findings: [ResourceKey: String] {
    var findings: [ResourceKey: String] = [:]
    for (prefix, (name, reason)) in unreachable.sorted(by: { $0.key < $1.key }) where findings[ResourceKey(.node, name: name)] == nil {
      findings[ResourceKey(.node, name: name)] = "no route to \(prefix): \(reason)"
    }
    for (kind, _) in demands where tunnels[kind]?.address == nil {
      let reason = map.own?.addresses[kind.family] == nil ? "this host's Node has no \(kind.family) address" : "it has no address yet"
      findings[ResourceKey(.node, name: node)] = "no \(kind.word) tunnel: \(reason)"
    }
    return findings
  }
}

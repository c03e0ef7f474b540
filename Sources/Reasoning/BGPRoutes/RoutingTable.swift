/// The routing information bases of one speaker: Adj-RIB-In ► import ► Loc-RIB ► export ► Adj-RIB-Out (RFC 4271, section 3.2).
///
/// Inputs go in as values, `flush` says what follows: changes to the forwarding table and packed streams of UPDATE messages. No
/// clock and no socket. Built for reflectors:
///  * one entry per prefix in a contiguous array, its paths a short list in another, attributes interned and counted;
///  * peers with equal `ExportConfiguration` form a group: one Adj-RIB-Out (eight octets per prefix), one encoding for all;
///  * a flush costs what the inputs since the last one touched.
///
/// What `flush` returns depends on the present state and on what was told before, never on the order of arrival.

import Addresses
import BGPMessages

public struct RoutingTable: Sendable {
  // MARK: Inputs and outputs

  public enum Input: Hashable, Sendable {
    /// Who we are: the BGP identifier and, on a reflector, the cluster.
    case identity(routerID: RouterID, clusterID: RouterID?)
    case peerUp(PeerID, RoutePeer)
    /// The session ended. With `keepStale` its paths stay in use until `endOfRIB` or `staleExpired` (RFC 4724, section 4.2).
    case peerDown(PeerID, keepStale: Bool)
    /// Destinations of other than the two unicast families must not be in it.
    case update(PeerID, Update)
    case endOfRIB(PeerID, IPFamily)
    case staleExpired(PeerID)
    /// All routes of one family go, although the session stays (RFC 7606, section 2, AFI/SAFI disable).
    case forget(PeerID, IPFamily)
    /// The peer asks to hear everything again (RFC 2918).
    case refresh(PeerID, IPFamily)
    case nextHop(IPAddress, NextHopState)
    /// A route of this host, with the metric that it has in the kernel.
    case originate(IPPrefix, metric: UInt32 = RoutingTable.normalMetric)
    case withdraw(IPPrefix)
    case exportPolicy(Int, ExportPolicy)
    /// While held, no peer is told that our routes are complete: after a restart of ours they are not, and a peer that keeps our
    /// old routes would drop them (RFC 4724, section 4.1). Routes themselves are never held back.
    case holdEndOfRIB(Bool)
  }

  /// What the forwarding table should hold for a prefix: BGP next hops (not yet resolved), in order; empty to remove.
  public struct ForwardingChange: Hashable, Sendable {
    public var prefix: IPPrefix
    public var nextHops: [IPAddress]
    public init(prefix: IPPrefix, nextHops: [IPAddress]) {
      self.prefix = prefix
      self.nextHops = nextHops
    }
  }

  /// Encoded UPDATE messages and who gets which parts of them, in order.
  public struct UpdateStream: Hashable, Sendable {
    public struct Delivery: Hashable, Sendable {
      public var peer: PeerID
      public var ranges: [Range<Int>]
    }
    public var octets: [UInt8]
    public var deliveries: [Delivery]
  }

  public enum Output: Hashable, Sendable {
    case forwarding([ForwardingChange])
    case updates(UpdateStream)
  }

  // MARK: State

  struct Path: Sendable {
    var peer: PeerID
    var attributes: AttributeID
    /// The next path to the same prefix, or the next free path; -1 ends the list.
    var next: Int32
    var isStale: Bool
    var rejection: Rejection
  }

  struct Entry: Sendable {
    var prefix: NLRI
    /// First of the list of paths; -1 for none.
    var paths: Int32 = -1
    var best: Int32 = -1
    /// See `forwardingSet`; -1 when nothing is installed.
    var installed: Int32 = -1
    /// Groups that have announced it.
    var advertised: Int32 = 0
    var because = DecisionStep.only
    var isDirty = false
    var isFree = false
  }

  struct PeerState: Sendable {
    var peer: RoutePeer
    var isUp = true
    var group: Int
    var received = 0
    var accepted = 0
    var stale = 0
    var owesEndOfRIB: Set<IPFamily> = []
    var rank: Int32 = 0
  }

  public private(set) var routerID: RouterID
  public private(set) var clusterID: RouterID?
  /// How many next hops may share the traffic of one prefix; 1 turns multipath off.
  public let multipathMax: Int

  var arena: AttributeArena
  var nextHops: NextHopTable
  var table: PrefixTable
  var entries: [Entry] = []
  var freeEntry: [Int32] = []
  var paths: [Path] = []
  private var freePath: Int32 = -1
  private(set) var pathCount = 0
  private var dirty: [Int32] = []
  private var decision = Decision()
  private var sets: [[NextHopID]] = []
  private var setIDs: [[NextHopID]: Int32] = [:]

  var peers: [PeerID: PeerState] = [:]
  var ranks: [Int32] = []
  var groups: [OutboundGroup] = []
  var groupIDs: [ExportConfiguration: Int] = [:]
  var policies: [Int: ExportPolicy] = [0: .everything]
  var holdsEndOfRIB = false

  /// - Parameter unknownNextHops: what a next hop counts as until its state is told. A reflector that forwards nothing may say
  ///   that all are resolvable.
  public init(
    routerID: RouterID, clusterID: RouterID? = nil, multipathMax: Int = 16, unknownNextHops: NextHopState = .unresolvable,
    hashSeed: UInt64 = 0x9e37_79b9_7f4a_7c15
  ) {
    self.routerID = routerID
    self.clusterID = clusterID
    self.multipathMax = max(1, multipathMax)
    table = PrefixTable(seed: hashSeed)
    arena = AttributeArena()
    nextHops = NextHopTable(unknown: unknownNextHops)
  }

  // MARK: Receiving

  public mutating func receive(_ input: Input) {
    switch input {
    case .identity(let routerID, let clusterID): changeIdentity(routerID, clusterID)
    case .peerUp(let id, let peer): peerUp(id, peer)
    case .peerDown(let id, let keepStale): peerDown(id, keepStale: keepStale)
    case .update(let id, let update): receive(update, from: id)
    case .endOfRIB(let id, let family): removePaths(of: id) { $0.isStale && $1 == family }
    case .staleExpired(let id): removePaths(of: id) { path, _ in path.isStale }
    case .forget(let id, let family): removePaths(of: id) { $1 == family }
    case .refresh(let id, let family):
      guard let state = peers[id], state.isUp, state.peer.export.families.contains(family) else { return }
      if !groups[state.group].joining.contains(id) { groups[state.group].joining.append(id) }
    case .nextHop(let address, let state): nextHop(address, state)
    case .originate(let prefix, let metric):
      var attributes = PathAttributes(nextHop: .v4(.unspecified))
      attributes.localPreference = Self.localPreference(ofMetric: metric)
      set(NLRI(prefix), from: .local, attributes: arena.intern(attributes, &nextHops), rejection: .none)
    case .withdraw(let prefix): remove(NLRI(prefix), from: .local)
    case .exportPolicy(let number, let policy): exportPolicy(number, policy)
    case .holdEndOfRIB(let isHeld): holdsEndOfRIB = isHeld
    }
  }

  /// The metric of an ordinary route in Calico; IPv6 routes have it in the kernel by default, and IPv4 routes without one count as such.
  public static let normalMetric: UInt32 = 1024

  /// The preference that Calico's speakers give to a route of their own: the lower its metric, the higher.
  static func localPreference(ofMetric metric: UInt32) -> UInt32 {
    0x7fff_ffff - min(metric == 0 ? normalMetric : metric, 0x7fff_ffff)
  }

  private mutating func receive(_ update: Update, from id: PeerID) {
    guard let peer = peers[id], peer.isUp else { return }
    for withdrawal in update.withdrawals {
      for prefix in withdrawal.destinations { remove(prefix, from: id) }
    }
    for announcement in update.announcements where !announcement.destinations.isEmpty {
      let rejection = rejection(of: announcement.attributes, from: peer.peer)
      let interned = arena.intern(announcement.attributes, &nextHops)
      for prefix in announcement.destinations { set(prefix, from: id, attributes: interned, rejection: rejection) }
    }
    if let family = update.endOfRIB?.unicast { receive(.endOfRIB(id, family)) }
  }

  /// Loops (RFC 4271, section 9.1.2; RFC 4456, section 8). Refused paths stay visible, with the reason, and are no candidates.
  private func rejection(of attributes: PathAttributes, from peer: RoutePeer) -> Rejection {
    if attributes.asPath.occurrences(of: peer.export.localAS) > peer.ownASAllowed { return .ownAS }
    if !peer.isExternal {
      if attributes.originatorID == routerID { return .ownOriginator }
      if let clusterID, attributes.clusterList.contains(clusterID) { return .ownCluster }
    }
    return .none
  }

  private mutating func changeIdentity(_ routerID: RouterID, _ clusterID: RouterID?) {
    guard routerID != self.routerID || clusterID != self.clusterID else { return }
    self.routerID = routerID
    self.clusterID = clusterID
    for entry in entries.indices where !entries[entry].isFree {
      var path = entries[entry].paths
      while path >= 0 {
        if let peer = peers[paths[Int(path)].peer] {
          let rejection = rejection(of: arena[paths[Int(path)].attributes], from: peer.peer)
          count(path, -1)
          paths[Int(path)].rejection = rejection
          count(path, +1)
        }
        path = paths[Int(path)].next
      }
      mark(Int32(entry))
    }
  }

  mutating func peerUp(_ id: PeerID, _ peer: RoutePeer) {
    if let old = peers[id], old.isUp { peerDown(id, keepStale: true) }
    let group: Int
    if let known = groupIDs[peer.export] {
      group = known
    } else {
      group = groups.count
      groupIDs[peer.export] = group
      groups.append(OutboundGroup(peer.export))
    }
    var state = PeerState(peer: peer, group: group)
    if let old = peers[id] { (state.received, state.accepted, state.stale) = (old.received, old.accepted, old.stale) }
    let isReranked = peers[id].map { ($0.peer.address, $0.peer.port) != (peer.address, peer.port) } ?? true
    let isReevaluated = peers[id].map { $0.peer != peer } ?? false
    state.rank = peers[id]?.rank ?? 0
    state.owesEndOfRIB = peer.export.families
    peers[id] = state
    groups[group].joining.append(id)
    if isReranked { rank() }
    // Kept stale paths are judged by what the new session says of the peer (its identifier, for one).
    if isReevaluated && state.stale > 0 { forEachPath(of: id) { table, entry, _ in table.mark(entry) } }
  }

  /// Orders peers by address, so that the last rung of the ladder compares integers.
  private mutating func rank() {
    let ordered = peers.sorted { a, b in
      (a.value.peer.address, a.value.peer.port, a.key) < (b.value.peer.address, b.value.peer.port, b.key)
    }
    for (rank, item) in ordered.enumerated() { peers[item.key]!.rank = Int32(rank) }
  }

  mutating func peerDown(_ id: PeerID, keepStale: Bool) {
    guard let state = peers[id] else { return }
    if state.isUp {
      peers[id]!.isUp = false
      leave(state.group, id)
    }
    guard keepStale else {
      removePaths(of: id) { _, _ in true }
      peers[id] = nil
      return
    }
    // RFC 4724, section 4.2: what was stale already goes when the session fails again.
    removePaths(of: id) { path, _ in path.isStale }
    forEachPath(of: id) { table, _, path in
      table.paths[Int(path)].isStale = true
      table.peers[id]!.stale += 1
    }
  }

  private mutating func nextHop(_ address: IPAddress, _ state: NextHopState) {
    let id = nextHops.id(of: address)
    guard nextHops.set(state, for: id), nextHops.references[Int(id)] > 0 else { return }
    for entry in entries.indices where !entries[entry].isFree && !entries[entry].isDirty {
      var path = entries[entry].paths
      while path >= 0 {
        if arena.summaries[Int(paths[Int(path)].attributes)].nextHop == id {
          mark(Int32(entry))
          break
        }
        path = paths[Int(path)].next
      }
    }
  }

  private mutating func exportPolicy(_ number: Int, _ policy: ExportPolicy) {
    let changed = policy.changed(from: policies[number] ?? .everything)
    policies[number] = policy
    for entry in entries.indices where !entries[entry].isFree && !entries[entry].isDirty {
      let prefix = entries[entry].prefix.prefix
      if changed?.contains(where: { $0.contains(prefix) }) ?? true { mark(Int32(entry)) }
    }
  }

  // MARK: Paths

  private mutating func set(_ prefix: NLRI, from peer: PeerID, attributes: AttributeID, rejection: Rejection) {
    let entry = find(prefix) ?? insert(prefix)
    var path = entries[Int(entry)].paths
    while path >= 0, paths[Int(path)].peer != peer { path = paths[Int(path)].next }
    if path < 0 {
      path = newPath(Path(peer: peer, attributes: attributes, next: entries[Int(entry)].paths, isStale: false, rejection: rejection))
      entries[Int(entry)].paths = path
      hold(attributes, for: peer)
      count(path, +1)
    } else {
      if paths[Int(path)].isStale {
        paths[Int(path)].isStale = false
        peers[peer]?.stale -= 1
      }
      guard paths[Int(path)].attributes != attributes || paths[Int(path)].rejection != rejection else { return }
      count(path, -1)
      hold(attributes, for: peer)
      release(paths[Int(path)].attributes, for: peer)
      paths[Int(path)].attributes = attributes
      paths[Int(path)].rejection = rejection
      count(path, +1)
    }
    mark(entry)
  }

  private mutating func remove(_ prefix: NLRI, from peer: PeerID) {
    guard let entry = find(prefix) else { return }
    removePaths(at: entry) { $0.peer == peer }
  }

  private mutating func removePaths(of id: PeerID, where condition: (Path, IPFamily) -> Bool) {
    for entry in entries.indices where !entries[entry].isFree {
      let family = entries[entry].prefix.family
      removePaths(at: Int32(entry)) { $0.peer == id && condition($0, family) }
    }
  }

  private mutating func removePaths(at entry: Int32, where condition: (Path) -> Bool) {
    var previous: Int32 = -1
    var path = entries[Int(entry)].paths
    while path >= 0 {
      let next = paths[Int(path)].next
      if condition(paths[Int(path)]) {
        if previous < 0 { entries[Int(entry)].paths = next } else { paths[Int(previous)].next = next }
        count(path, -1)
        if paths[Int(path)].isStale { peers[paths[Int(path)].peer]?.stale -= 1 }
        release(paths[Int(path)].attributes, for: paths[Int(path)].peer)
        if entries[Int(entry)].best == path { entries[Int(entry)].best = -1 }
        paths[Int(path)].next = freePath
        freePath = path
        pathCount -= 1
        mark(entry)
      } else {
        previous = path
      }
      path = next
    }
  }

  private mutating func forEachPath(of id: PeerID, _ body: (inout RoutingTable, _ entry: Int32, _ path: Int32) -> Void) {
    for entry in entries.indices where !entries[entry].isFree {
      var path = entries[entry].paths
      while path >= 0 {
        let next = paths[Int(path)].next
        if paths[Int(path)].peer == id { body(&self, Int32(entry), path) }
        path = next
      }
    }
  }

  private mutating func newPath(_ path: Path) -> Int32 {
    pathCount += 1
    guard freePath >= 0 else {
      paths.append(path)
      return Int32(paths.count - 1)
    }
    let index = freePath
    freePath = paths[Int(index)].next
    paths[Int(index)] = path
    return index
  }

  private mutating func count(_ path: Int32, _ change: Int) {
    let peer = paths[Int(path)].peer
    guard peer != .local else { return }
    peers[peer]?.received += change
    if paths[Int(path)].rejection == .none { peers[peer]?.accepted += change }
  }

  // MARK: Entries

  func find(_ prefix: NLRI) -> Int32? { table.find(prefix) { entries[Int($0)].prefix } }

  private mutating func insert(_ prefix: NLRI) -> Int32 {
    let entry: Int32
    if let free = freeEntry.popLast() {
      entry = free
      entries[Int(entry)] = Entry(prefix: prefix)
    } else {
      entry = Int32(entries.count)
      entries.append(Entry(prefix: prefix))
    }
    table.insert(prefix, entry: entry) { entries[Int($0)].prefix }
    return entry
  }

  mutating func mark(_ entry: Int32) {
    guard !entries[Int(entry)].isDirty else { return }
    entries[Int(entry)].isDirty = true
    dirty.append(entry)
  }

  /// A local path has no next hop to resolve.
  private mutating func hold(_ attributes: AttributeID, for peer: PeerID) {
    arena.retain(attributes)
    if peer != .local { nextHops.retain(arena.summaries[Int(attributes)].nextHop) }
  }

  private mutating func release(_ attributes: AttributeID, for peer: PeerID) {
    if peer != .local { nextHops.release(arena.summaries[Int(attributes)].nextHop) }
    arena.release(attributes)
  }

  // MARK: Flushing

  /// Next hops that came into use, or went out of it, since the last call. Tell their state with `.nextHop` before `flush` to
  /// spare a round.
  public mutating func takeNextHopChanges() -> (used: [IPAddress], unused: [IPAddress]) {
    var used: [IPAddress] = []
    var unused: [IPAddress] = []
    for id in Set(nextHops.changedUse).sorted() {
      if nextHops.references[Int(id)] > 0 { used.append(nextHops.addresses[Int(id)]) } else { unused.append(nextHops.addresses[Int(id)]) }
    }
    nextHops.changedUse.removeAll(keepingCapacity: true)
    return (used, unused)
  }

  /// True if `flush` may have something to say.
  public var needsFlush: Bool {
    !dirty.isEmpty || groups.contains { !$0.joining.isEmpty }
      || !holdsEndOfRIB && peers.values.contains { $0.isUp && !$0.owesEndOfRIB.isEmpty }
  }

  public mutating func flush() -> [Output] {
    var outputs: [Output] = []
    var forwarding: [ForwardingChange] = []
    // In the order of prefixes nothing is gained; in the order of arrival attribute sets stay together.
    for entry in dirty {
      decide(entry)
      let wanted = forwardingSet(entry)
      if wanted != entries[Int(entry)].installed {
        entries[Int(entry)].installed = wanted
        forwarding.append(ForwardingChange(prefix: entries[Int(entry)].prefix.prefix, nextHops: addresses(ofSet: wanted)))
      }
    }
    if !forwarding.isEmpty { outputs.append(.forwarding(forwarding)) }
    for group in groups.indices where !groups[group].isEmpty { advertise(dirty, to: group, into: &outputs) }
    if !holdsEndOfRIB, let markers = endOfRIBMarkers() { outputs.append(.updates(markers)) }
    for entry in dirty {
      entries[Int(entry)].isDirty = false
      if entries[Int(entry)].paths < 0 && entries[Int(entry)].advertised == 0 && entries[Int(entry)].installed == -1 {
        table.remove(entries[Int(entry)].prefix) { entries[Int($0)].prefix }
        entries[Int(entry)].isFree = true
        freeEntry.append(entry)
      }
    }
    dirty.removeAll(keepingCapacity: true)
    arena.sweep()
    return outputs
  }

  private mutating func decide(_ entry: Int32) {
    decision.candidates.removeAll(keepingCapacity: true)
    var path = entries[Int(entry)].paths
    while path >= 0 {
      if let candidate = candidate(path) { decision.candidates.append(candidate) }
      path = paths[Int(path)].next
    }
    if let (best, because) = decision.decide() {
      entries[Int(entry)].best = best
      entries[Int(entry)].because = because
    } else {
      entries[Int(entry)].best = -1
      decision.multipath.removeAll(keepingCapacity: true)
    }
  }

  /// The path as the ladder sees it, or nil if it cannot be used.
  func candidate(_ index: Int32) -> Candidate? {
    let path = paths[Int(index)]
    guard path.rejection == .none else { return nil }
    if path.peer == .local { return Candidate(path: index, isLocal: true, peerRank: -1) }
    let summary = arena.summaries[Int(path.attributes)]
    guard case .resolvable(let cost) = nextHops.states[Int(summary.nextHop)], let peer = peers[path.peer] else { return nil }
    return Candidate(
      path: index, isLocal: false, isExternal: peer.peer.isExternal, origin: summary.origin, localPreference: summary.localPreference,
      pathLength: summary.pathLength, multiExitDiscriminator: summary.multiExitDiscriminator, neighbourAS: summary.neighbourAS,
      interiorCost: cost, routerID: (summary.originatorID ?? peer.peer.routerID).rawValue, clusterListLength: summary.clusterListLength,
      peerRank: peer.rank)
  }

  /// The interned set of next hops for the entry just decided: -1 for none, a next hop's number when it is alone, from -2 downwards
  /// for sets.
  private mutating func forwardingSet(_ entry: Int32) -> Int32 {
    let best = entries[Int(entry)].best
    guard best >= 0, paths[Int(best)].peer != .local else { return -1 }
    if decision.multipath.count == 1 || multipathMax == 1 { return arena.summaries[Int(paths[Int(best)].attributes)].nextHop }
    var members = Set(decision.multipath.lazy.map { [paths, arena] in arena.summaries[Int(paths[Int($0)].attributes)].nextHop })
      .sorted { nextHops.addresses[Int($0)] < nextHops.addresses[Int($1)] }
    if members.count == 1 { return members[0] }
    if members.count > multipathMax {
      // The best path stays in the set, whatever its address.
      let first = arena.summaries[Int(paths[Int(best)].attributes)].nextHop
      let others = members.filter { $0 != first }.prefix(multipathMax - 1)
      members = (others + [first]).sorted { nextHops.addresses[Int($0)] < nextHops.addresses[Int($1)] }
    }
    if let known = setIDs[members] { return known }
    let id = Int32(-2 - sets.count)
    sets.append(members)
    setIDs[members] = id
    return id
  }

  func addresses(ofSet set: Int32) -> [IPAddress] {
    switch set {
    case -1: []
    case 0...: [nextHops.addresses[Int(set)]]
    default: sets[Int(-2 - set)].map { nextHops.addresses[Int($0)] }
    }
  }
}

/// The speaker of one host: sessions on one side, the kernel's routes on the other, the routing table between them. Everything runs on
/// the thread of one event loop.
///
/// One round, in this order, after whatever woke the loop:
///  1. what the kernel says: own routes and next hops into the routing table;
///  2. `RoutingTable.flush`;
///  3. the forwarding table: what changed, to the kernel in one batch;
///  4. updates to the peers: after the kernel, so that we attract no packets that we cannot forward yet.
///
/// Restart: routes in the kernel outlive us. After a start they are taken over as they stand (`inherited`). First they all stay, so that
/// the kernel is not led through the choices that lie between the first word of the first peer and the last word of the last one; this
/// ends after `deferralGrace` in any case. Then each stays until BGP says something of its prefix, and what is left goes when all peers
/// have ended their tables, or after `deferralMax`. Meanwhile peers get our routes but no End-of-RIB, so that they keep our old ones. A
/// stop closes connections without NOTIFICATION for the same reason.

import Addresses
import BGPMessages
import BGPRoutes
import BGPSessions
import BGPTransport
import Logging
import NetlinkEdge
import NetlinkMessages
import RouteDriver
import Sockets

public final class Speaker {
  public struct Options: Sendable {
    /// How long routes of an earlier run may wait for peers.
    public var deferralMax: Duration = .seconds(120)
    /// How long peers of whom no End-of-RIB can be expected have for telling what they know.
    public var deferralGrace: Duration = .seconds(3)
    public var holdTime: Duration = .seconds(90)
    public var connectRetry: Duration = .seconds(5)
    public var multipathMax = 16
    /// How long a route stays for Felix to replace, when its pool is Felix' to carry from now on.
    public var handOver: Duration = .seconds(30)
    /// Full read-back of the kernel's routes.
    public var resyncInterval: Duration = .seconds(60)
    public init() {}
  }

  public let loop: EventLoop
  public let options: Options
  let log: Logger
  private(set) var table: RoutingTable
  private(set) var plan: BGPPlan?
  private(set) var peers: [String: Peer] = [:]
  private(set) var view = KernelView()
  private(set) var problems: [String] = []
  /// What is wrong with the resources as they are stored; shown in the status.
  var storedProblems: [String] = []
  /// A session came up or went, or another problem stands.
  var onNews: () -> Void = {}
  /// Changes the kernel accepted from us since the start.
  public private(set) var kernelChanges = 0
  public let isRestart: Bool
  /// True until the routes of an earlier run have been judged.
  public private(set) var isDeferring: Bool

  private let netlink: RouteNetlink
  private let monitor: RouteMonitor
  private let driver: RouteDriver
  private var listeners: [IPFamily: BGPListener] = [:]
  private var peersByID: [PeerID: Peer] = [:]
  private var peerNumberLast = 0
  private var freePeerIDs: [PeerID] = []
  private var connectionLast: UInt64 = 0
  /// With the kernel's metric.
  private var originated: [IPPrefix: UInt32] = [:]
  /// BGP next hops in use and the way to them.
  private var resolutions: [IPAddress: Resolution?] = [:]
  /// What BGP wants in the forwarding table.
  private(set) var forwarding: [IPPrefix: [IPAddress]] = [:]
  private var inherited: Set<IPPrefix> = []
  /// True from a restart until peers had time to say what they know; meanwhile `spokenOf` collects what BGP says of inherited routes.
  private var isSettling: Bool
  private var spokenOf: Set<IPPrefix> = []
  private var settling: EventLoop.TimerHandle?
  private var isScheduled = false
  private var isKernelChanged = true
  private var isDriverTouched = true
  private var deferral: EventLoop.TimerHandle?
  private var again: EventLoop.TimerHandle?
  private var resyncTimer: EventLoop.TimerHandle?
  private var watch: EventLoop.Watch?

  /// Reads the kernel of the calling thread's network namespace. `wasRunning` tells that an earlier run has ended since boot; routes of
  /// it in the kernel tell the same.
  public init(loop: EventLoop, log: Logger, options: Options = Options(), wasRunning: Bool = false) throws {
    self.loop = loop
    self.log = log
    self.options = options
    table = RoutingTable(routerID: RouterID(rawValue: 0), multipathMax: options.multipathMax, hashSeed: UInt64.random(in: 1...UInt64.max))
    monitor = try RouteMonitor(RouteMonitor.linksAndAddresses + RouteMonitor.routes)
    netlink = try RouteNetlink()
    driver = RouteDriver(netlink: netlink, protocol: .bgp, deletionGrace: options.handOver)
    let old = try netlink.routes(protocol: .bgp)
    isRestart = wasRunning || !old.isEmpty
    isDeferring = isRestart
    isSettling = isRestart
    try resync()
    for route in old {
      guard let spec = route.spec(view.links) else { continue }
      inherited.insert(route.destination)
      driver.want(spec, for: route.destination)
    }
    watch = try loop.add(descriptor: monitor.descriptor, interest: .read) { [weak self] _ in self?.kernelSpoke() }
    if isDeferring {
      log.notice("restarted: \(old.count) routes of the last run stay until the peers have told theirs, at most \(options.deferralMax)")
      table.receive(.holdEndOfRIB(true))
      deferral = loop.schedule(after: options.deferralMax) { [weak self] in
        self?.endDeferral("the time for it is over")
      }
    }
    scheduleResync()
    schedule()
  }

  // MARK: Configuration

  /// Takes over a plan; nil (no Node resource, or one without address) ends all sessions.
  public func apply(_ new: BGPPlan?) {
    let old = plan
    guard new != old else { return }
    plan = new
    for problem in new?.problems ?? [] where !(old?.problems.contains(problem) ?? false) { log.error("\(problem)") }
    if let new {
      table.receive(.identity(routerID: new.routerID, clusterID: new.clusterID))
      isKernelChanged = true
    }
    if let new, let old, new.carriedHere != old.carriedHere || new.normalMetrics != old.normalMetrics {
      for (prefix, nextHops) in forwarding where !isHeld(prefix) { want(prefix, nextHops) }
    }
    listen(old)
    // Names of sessions that go, come, or stay.
    for (name, peer) in peers {
      if let wanted = new?.sessions[name], wanted.isSameEndpoint(as: peer.plan) { continue }
      peer.remove()
      peers[name] = nil
      peersByID[peer.id] = nil
      table.receive(.peerDown(peer.id, keepStale: false))
      freePeerIDs.append(peer.id)
      log.notice("session \(name) is removed")
    }
    for (name, session) in (new?.sessions ?? [:]).sorted(by: { $0.key < $1.key }) {
      if let peer = peers[name] {
        if peer.plan != session { peer.change(to: session) } else { peer.reconfigure() }
      } else {
        let id = freePeerIDs.popLast() ?? newPeerID()
        let peer = Peer(id, session, speaker: self)
        peers[name] = peer
        peersByID[id] = peer
        let how = session.isPassive ? "\(session.kind.rawValue), passive" : session.kind.rawValue
        log.notice("session \(name) with \(session.peer) AS \(session.peerAS), \(how)")
        peer.start()
      }
    }
    sessionsChanged()
    schedule()
  }

  private func newPeerID() -> PeerID {
    peerNumberLast += 1
    return PeerID(peerNumberLast)
  }

  private func listen(_ old: BGPPlan?) {
    for family in IPFamily.allCases {
      let isWanted = plan?.families.contains(family) ?? false
      if !isWanted || plan?.listenPort != old?.listenPort {
        listeners[family]?.close()
        listeners[family] = nil
      }
      if isWanted, listeners[family] == nil { openListener(family) }
    }
  }

  private func openListener(_ family: IPFamily) {
    guard let plan, plan.families.contains(family), listeners[family] == nil else { return }
    let address: IPAddress = family == .v4 ? .v4(.unspecified) : .v6(.unspecified)
    do throws(SystemError) {
      listeners[family] = try BGPListener(loop: loop, on: SocketAddress(address, port: plan.listenPort)) { [weak self] in
        self?.accept($0)
      }
    } catch {
      log.error("cannot listen for BGP: \(error); peers that are to dial us cannot; retrying in 5 s")
      loop.schedule(after: .seconds(5)) { [weak self] in self?.openListener(family) }
    }
  }

  private func accept(_ connection: BGPConnection) {
    let candidates = peers.values.filter { $0.plan.peer == connection.peer.address }
    // Two sessions with one address differ by port, which an accepted connection does not show.
    guard let peer = candidates.first(where: { $0.session.state != .established }) ?? candidates.first else {
      log.info("connection from \(connection.peer), which is no peer of this node: refused")
      return connection.close()
    }
    peer.accept(connection)
  }

  func configuration(for session: SessionPlan) -> SessionConfiguration {
    var configuration = SessionConfiguration(
      localAS: session.localAS, peerAS: session.peerAS, routerID: plan?.routerID ?? RouterID(rawValue: 1))
    configuration.families = [AddressFamily(unicast: session.peer.family)]
    configuration.holdTime = options.holdTime
    configuration.connectRetry = options.connectRetry
    configuration.idleHoldMin = min(configuration.idleHoldMin, options.connectRetry)
    configuration.isPassive = session.isPassive
    configuration.gracefulRestart?.restartTime = session.restartTime
    configuration.gracefulRestart?.isRestarting = isDeferring
    // On a first start there are no routes to forward by, and a peer must not believe so.
    configuration.gracefulRestart?.isForwarding = isRestart
    configuration.jitterSeed = UInt64(session.peer.hashSeed)
    return configuration
  }

  func nextConnectionID() -> ConnectionID {
    connectionLast += 1
    return ConnectionID(connectionLast)
  }

  // MARK: Inputs

  func receive(_ input: RoutingTable.Input) {
    table.receive(input)
    schedule()
  }

  /// A session came up or went, or ended its table.
  func sessionsChanged() {
    onNews()
    guard isDeferring, plan != nil else { return }
    if isSettling, settling == nil, peers.values.contains(where: { $0.session.negotiated != nil }) {
      settling = loop.schedule(after: options.deferralGrace) { [weak self] in
        self?.endSettling()
        self?.schedule()
      }
    }
    let waiting = peers.values.filter { !$0.hasToldEverything }
    if waiting.isEmpty, !peers.isEmpty {
      // In the next round: the last routes are in the table, and not yet in the kernel.
      loop.schedule(after: .zero) { [weak self] in self?.endDeferral("all peers have told theirs") }
    } else if waiting.allSatisfy(mayNeverTell), !waiting.isEmpty {
      loop.schedule(after: options.deferralGrace) { [weak self] in
        guard let self, self.isDeferring, self.peers.values.allSatisfy({ $0.hasToldEverything || self.mayNeverTell($0) }) else { return }
        self.endDeferral("all peers have told theirs, or will not mark the end")
      }
    }
  }

  /// RFC 4724, section 4.1, does not wait for peers without graceful restart, which need not mark the end of their table, nor for peers
  /// that restart themselves: these wait for us. Both kinds tell what they have soon after the session is up, so they get a moment.
  private func mayNeverTell(_ peer: Peer) -> Bool {
    guard let negotiated = peer.session.negotiated else { return false }
    return negotiated.gracefulRestart == nil || negotiated.isPeerRestarting
  }

  /// What BGP has said of inherited routes so far counts from now on.
  private func endSettling() {
    guard isSettling else { return }
    isSettling = false
    settling?.cancel()
    settling = nil
    for prefix in spokenOf {
      inherited.remove(prefix)
      want(prefix, forwarding[prefix] ?? [])
    }
    spokenOf = []
  }

  private func endDeferral(_ reason: String) {
    guard isDeferring else { return }
    round()
    endSettling()
    isDeferring = false
    deferral?.cancel()
    deferral = nil
    log.notice("routes of the last run: \(inherited.count) are not known to any peer and go: \(reason)")
    for prefix in inherited { driver.want(nil, for: prefix) }
    inherited = []
    isDriverTouched = true
    table.receive(.holdEndOfRIB(false))
    for peer in peers.values { peer.reconfigure() }
    round()
  }

  private func kernelSpoke() {
    let reception = monitor.receive { event in
      driver.handle(event)
      isDriverTouched = true
      if view.handle(event) { isKernelChanged = true }
    }
    if case .overrun = reception {
      log.warning("the kernel's notifications came faster than they were read: reading everything again")
      do { try resync() } catch { log.error("reading the kernel's routes: \(error)") }
    }
    schedule()
  }

  private func resync() throws {
    try driver.resync()
    view.reset(links: try netlink.links(), addresses: try netlink.addresses(), routes: try netlink.routes().filter { $0.protocol != .bgp })
    isKernelChanged = true
    isDriverTouched = true
  }

  private func scheduleResync() {
    resyncTimer = loop.schedule(after: options.resyncInterval) { [weak self] in
      guard let self else { return }
      do { try self.resync() } catch { self.log.error("reading the kernel's routes: \(error); retrying in \(self.options.resyncInterval)") }
      self.schedule()
      self.scheduleResync()
    }
  }

  // MARK: Rounds

  private func schedule() {
    guard !isScheduled else { return }
    isScheduled = true
    loop.schedule(after: .zero) { [weak self] in
      self?.isScheduled = false
      self?.round()
    }
  }

  private func round() {
    var changed: Set<IPAddress> = []
    if isKernelChanged { originate() }
    let (used, unused) = table.takeNextHopChanges()
    for nextHop in unused { resolutions[nextHop] = nil }
    for nextHop in isKernelChanged ? Array(Set(resolutions.keys).union(used)) : used {
      let resolution = view.resolve(nextHop)
      if let known = resolutions[nextHop], known == resolution { continue }
      resolutions[nextHop] = .some(resolution)
      changed.insert(nextHop)
      table.receive(.nextHop(nextHop, resolution.map { .resolvable(interiorCost: $0.interiorCost) } ?? .unresolvable))
    }
    isKernelChanged = false

    let outputs = table.flush()
    for case .forwarding(let changes) in outputs {
      for change in changes { forward(change) }
    }
    if !changed.isEmpty {
      for (prefix, nextHops) in forwarding where !isHeld(prefix) && nextHops.contains(where: changed.contains) { want(prefix, nextHops) }
    }
    if isDriverTouched { applyToKernel() }
    for case .updates(let stream) in outputs {
      for delivery in stream.deliveries { peersByID[delivery.peer]?.send(stream.octets, delivery.ranges) }
    }
  }

  /// Felix's routes into the routing table, and its blocks into the export policy.
  private func originate() {
    if let plan {
      table.receive(
        .exportPolicy(
          0,
          ExportPolicy(
            pools: plan.pools, poolsNotExported: plan.poolsNotExported, ownBlocks: view.ownBlocks, normalMetrics: plan.normalMetrics)))
    }
    for prefix in originated.keys where view.ownRoutes[prefix] == nil { table.receive(.withdraw(prefix)) }
    for (prefix, metric) in view.ownRoutes where originated[prefix] != metric { table.receive(.originate(prefix, metric: metric)) }
    originated = view.ownRoutes
  }

  /// As it was when the last run ended.
  private func isHeld(_ prefix: IPPrefix) -> Bool { isSettling && inherited.contains(prefix) }

  private func forward(_ change: RoutingTable.ForwardingChange) {
    forwarding[change.prefix] = change.nextHops.isEmpty ? nil : change.nextHops
    if isHeld(change.prefix) {
      spokenOf.insert(change.prefix)
      return
    }
    inherited.remove(change.prefix)
    want(change.prefix, change.nextHops)
  }

  private func want(_ prefix: IPPrefix, _ nextHops: [IPAddress]) {
    isDriverTouched = true
    guard plan?.carries(prefix) ?? true else { return driver.letGo(prefix, for: options.handOver) }
    var hops: [RouteSpec.Hop] = []
    for nextHop in nextHops {
      for hop in (resolutions[nextHop] ?? nil)?.hops ?? [] where !hops.contains(hop) { hops.append(hop) }
    }
    driver.want(hops.isEmpty ? nil : RouteSpec(hops: hops, metric: metric(prefix)), for: prefix)
  }

  /// That of Felix' routes: what the two pass on to each other must be one route to the kernel, and an address that is here stands in the
  /// place of what was learned of it.
  private func metric(_ prefix: IPPrefix) -> UInt32 {
    let normal = plan?.normalMetrics[prefix.family] ?? RoutingTable.normalMetric
    return prefix.family == .v4 && normal == RoutingTable.normalMetric ? 0 : normal
  }

  private func applyToKernel() {
    isDriverTouched = false
    do throws(NetlinkError) {
      let report = try driver.apply()
      kernelChanges += report.changed
      let now = report.problems.map(\.description)
      for problem in now where !problems.contains(problem) { log.warning("\(problem)") }
      if problems != now { onNews() }
      problems = now
      again?.cancel()
      again = report.again.map { instant in
        loop.schedule(at: instant) { [weak self] in
          self?.isDriverTouched = true
          self?.round()
        }
      }
    } catch {
      log.error("changing the kernel's routes: \(error); retrying in 1 s")
      again?.cancel()
      again = loop.schedule(after: .seconds(1)) { [weak self] in
        self?.isDriverTouched = true
        self?.round()
      }
    }
  }

  // MARK: Ending

  /// Ends all sessions as for a restart: without a word, routes stay in the kernel.
  public func stop() {
    for peer in peers.values { peer.abandon() }
    for listener in listeners.values { listener.close() }
    listeners = [:]
    watch?.cancel()
    deferral?.cancel()
    settling?.cancel()
    again?.cancel()
    resyncTimer?.cancel()
  }
}

extension Peer {
  /// Its table is complete: the End-of-RIB of every agreed family came.
  var hasToldEverything: Bool {
    guard let terms = session.negotiated else { return false }
    return terms.families.isSubset(of: ended)
  }
}

extension IPAddress {
  var hashSeed: UInt64 { octets.reduce(14_695_981_039_346_656_037) { ($0 ^ UInt64($1)) &* 1_099_511_628_211 } }
}

extension KernelRoute {
  /// The route in words that outlive the numbers of interfaces; nil when an interface is gone.
  func spec(_ links: [UInt32: Link]) -> RouteSpec? {
    var hops: [RouteSpec.Hop] = []
    for hop in nextHops {
      guard let index = hop.interface, let link = links[index] else { return nil }
      hops.append(RouteSpec.Hop(gateway: hop.gateway, device: link.name, weight: hop.weight, isOnLink: hop.isOnLink))
    }
    return RouteSpec(type: type, hops: hops, metric: metric, preferredSource: preferredSource)
  }
}

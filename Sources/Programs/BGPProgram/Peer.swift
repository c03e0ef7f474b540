/// One neighbour at run time: performs what its session machine asks for, and hands routes to and fro. The decisions are in
/// `PeerSession` and in `RoutingTable`; here are only connections and timers.

import Addresses
import BGPMessages
import BGPRoutes
import BGPSessions
import BGPTransport
import Logging
import Sockets

final class Peer {
  let id: PeerID
  private(set) var plan: SessionPlan
  private(set) var session: PeerSession
  /// Families whose End-of-RIB came in the present session.
  private(set) var ended: Set<AddressFamily> = []
  private(set) var establishedAt: MonotonicInstant?

  private unowned let speaker: Speaker
  private let loop: EventLoop
  private var log: Logger
  private var connections: [ConnectionID: BGPConnection] = [:]
  private var dial: BGPDial?
  private var timers: [PeerSession.Timer: EventLoop.TimerHandle] = [:]
  private var lastErrorLogged: PeerSession.LastError?
  private var isStalling = false

  init(_ id: PeerID, _ plan: SessionPlan, speaker: Speaker) {
    self.id = id
    self.plan = plan
    self.speaker = speaker
    loop = speaker.loop
    log = speaker.log
    log[metadataKey: "session"] = "\(plan.name)"
    session = PeerSession(speaker.configuration(for: plan), at: .monotonic)
  }

  func start() { feed(.start) }

  /// The session ends for good: the peer is told, and forgets our routes.
  func remove() { feed(.stop(.cease(.peerDeconfigured))) }

  /// Our process ends and means to come back: the connection closes without a word, so that a peer with graceful restart keeps
  /// our routes.
  func abandon() { feed(.abandon) }

  /// Takes over a plan with the same name and endpoints. What the peer has to agree on, or what would change what it was told,
  /// costs a new session; everything else is applied in place.
  func change(to new: SessionPlan) {
    let old = plan
    plan = new
    let (change, actions) = session.reconfigure(speaker.configuration(for: new), at: .monotonic)
    perform(actions)
    if change == .reset { return }
    let isToldDifferently = old.isReflectorClient != new.isReflectorClient || old.nextHopMode != new.nextHopMode
      || old.ownASAllowed != new.ownASAllowed
    if isToldDifferently, session.state == .established { feed(.reset(.cease(.otherConfigurationChange))) }
  }

  /// Something in what all sessions share has changed.
  func reconfigure() { perform(session.reconfigure(speaker.configuration(for: plan), at: .monotonic).actions) }

  func accept(_ connection: BGPConnection) {
    do throws(SystemError) {
      try connection.apply(plan.connectionOptions)
    } catch {
      log.warning("cannot set up the connection from \(connection.peer): \(error)")
    }
    attach(connection, .incoming)
  }

  func send(_ octets: [UInt8], _ ranges: [Range<Int>]) {
    guard let id = session.negotiated?.connection, let connection = connections[id] else { return }
    for range in ranges {
      connection.send(octets, range)
      session.noteSent(updates: 1, octets: range.count)
    }
    if connection.queuedCount > Self.queueMax { stall("\(connection.queuedCount >> 20) MiB of updates wait for the peer") }
  }

  /// What may wait for a peer that reads more slowly than we write: several full tables.
  static let queueMax = 64 << 20
  /// RFC 9687, section 3.4: at least eight minutes, and at least twice the hold time.
  static let sendHoldMin: Duration = .seconds(480)

  /// Later, since the caller may be in the midst of handing out updates to all peers.
  private func stall(_ reason: String) {
    guard !isStalling else { return }
    isStalling = true
    loop.schedule(after: .zero) { [weak self] in
      self?.isStalling = false
      self?.feed(.stalled(reason))
    }
  }

  private func noteProgress(_ connection: BGPConnection) {
    guard let since = connection.blockedSince, let holdTime = session.negotiated?.holdTime, holdTime > .zero else { return }
    let blocked = MonotonicInstant.now - since
    if blocked > max(Self.sendHoldMin, holdTime * 2) { stall("the peer has taken nothing for \(blocked)") }
  }

  // MARK: The machine

  private func feed(_ input: PeerSession.Input) { perform(session.receive(input, at: .monotonic)) }

  private func attach(_ connection: BGPConnection, _ direction: Direction) {
    let id = speaker.nextConnectionID()
    connections[id] = connection
    do throws(SystemError) {
      try connection.start(
        BGPConnection.Handlers(
          options: { [weak self] in self?.session.decodeOptions(for: id) ?? DecodeOptions() },
          message: { [weak self] in self?.feed(.message(id, $0, octets: $1)) },
          failure: { [weak self] in self?.feed(.failure(id, $0)) },
          closed: { [weak self] reason in
            self?.connections[id] = nil
            self?.feed(.closed(id, reason))
          }))
    } catch {
      connections[id] = nil
      connection.close()
      if direction == .outgoing { feed(.connectFailed("\(error)")) }
      return
    }
    feed(.connected(id, direction, local: connection.local.address, peer: connection.peer.address))
  }

  private func perform(_ actions: [PeerSession.Action]) {
    for action in actions {
      switch action {
      case .connect:
        dial = BGPDial(
          loop: loop, to: SocketAddress(plan.peer, port: plan.port), from: plan.localAddress, options: plan.connectionOptions
        ) { [weak self] result in
          guard let self else { return }
          self.dial = nil
          switch result {
          case .success(let connection): self.attach(connection, .outgoing)
          case .failure(let error): self.feed(.connectFailed("\(error)"))
          }
        }
      case .cancelConnect:
        dial?.cancel()
        dial = nil
      case .send(let id, let message):
        guard let connection = connections[id] else { break }
        connection.send(message.encoded())
        if message == .keepalive { noteProgress(connection) }
      case .close(let id):
        connections.removeValue(forKey: id)?.closeWhenSent()
      case .arm(let timer, let instant):
        timers[timer]?.cancel()
        timers[timer] = loop.schedule(at: MonotonicInstant(nanoseconds: Int64(instant.nanoseconds))) { [weak self] in
          self?.timers[timer] = nil
          self?.feed(.expired(timer))
        }
      case .disarm(let timer): timers.removeValue(forKey: timer)?.cancel()
      case .established(let terms):
        ended = []
        establishedAt = .now
        log.notice("session with \(plan.peer) AS \(terms.peerAS) is up")
        speaker.receive(.peerUp(id, routePeer(terms)))
        speaker.sessionsChanged()
      case .down(let down):
        establishedAt = nil
        log.notice("session with \(plan.peer) is down: \(down.reason)")
        speaker.receive(.peerDown(id, keepStale: !down.retained.isEmpty))
        speaker.sessionsChanged()
      case .deliver(let update):
        for remark in update.remarks { log.warning("UPDATE from \(plan.peer): \(remark)") }
        speaker.receive(.update(id, update))
        if let family = update.endOfRIB {
          ended.insert(family)
          speaker.sessionsChanged()
        }
      case .refresh(let refresh):
        if refresh.kind == .request, let family = refresh.family.unicast { speaker.receive(.refresh(id, family)) }
      case .disable(let family):
        if let family = family.unicast { speaker.receive(.forget(id, family)) }
      case .sweep(let families):
        for case let family? in families.map(\.unicast) { speaker.receive(.endOfRIB(id, family)) }
      }
    }
    if let error = session.lastError, error != lastErrorLogged {
      lastErrorLogged = error
      log.info("\(plan.peer): \(error.text)")
    }
  }

  private func routePeer(_ terms: Negotiated) -> RoutePeer {
    let families = Set(terms.families.compactMap(\.unicast))
    var export = ExportConfiguration(
      isExternal: terms.isExternal, localAS: plan.localAS, localAddress: terms.localAddress, families: families)
    export.isReflectorClient = plan.isReflectorClient
    export.nextHopMode = plan.nextHopMode
    export.encoding = terms.encodeOptions
    var peer = RoutePeer(
      name: plan.name, address: terms.peerAddress, asNumber: terms.peerAS, routerID: terms.peerRouterID, export: export)
    peer.port = plan.port
    peer.ownASAllowed = plan.ownASAllowed
    return peer
  }
}

extension SessionPlan {
  var connectionOptions: ConnectionOptions { ConnectionOptions(ttlSecurityHops: ttlSecurityHops) }
  /// What a running session cannot take over: a change makes it another one.
  func isSameEndpoint(as other: SessionPlan) -> Bool {
    peer == other.peer && port == other.port && localAddress == other.localAddress && ttlSecurityHops == other.ttlSecurityHops
  }
}

extension Instant {
  static var monotonic: Instant { Instant(nanoseconds: UInt64(MonotonicInstant.now.nanoseconds)) }
}

/// One BGP session: the finite state machine of RFC 4271, section 8, over the one or two TCP connections that it may have.
///
/// Values go in, values come out; sockets and clocks are the runner's. Hazards, and the answer to each:
/// - Two connections at once (section 6.8): each is a small machine of its own; when an OPEN shows that both reach the same peer, one goes.
/// - Timers that fire late: an expiry for a connection that is gone does nothing; the hold timer asks when the last message came.
/// - The transport may report a connection that was given up: what is not expected is closed.
import Addresses
import BGPMessages

public struct PeerSession: Sendable {
  public internal(set) var configuration: SessionConfiguration
  /// The terms of the session while it is established.
  public internal(set) var negotiated: Negotiated?
  public internal(set) var counters = Counters()
  public internal(set) var lastError: LastError?
  /// When `state` last changed; while established, since when it has been up.
  public private(set) var stateSince: Instant
  /// True between `start` and `stop`.
  public internal(set) var isEnabled = false
  /// Families whose routes are kept for a peer that was lost (RFC 4724).
  public internal(set) var staleFamilies: Set<AddressFamily> = []
  /// Families that a fault has turned off in this session.
  public internal(set) var disabledFamilies: Set<AddressFamily> = []

  var connections: [Connection] = []
  var isConnecting = false
  /// The pause after an error is running; nobody may connect.
  var isHeld = false
  /// Errors in a row; governs the pause.
  var errors = 0
  /// Attempts in a row that led to no lasting session; governs the pause until the next.
  var failures = 0
  private var random: UInt64

  /// One TCP connection and how far it has come.
  struct Connection: Sendable {
    enum Stage: Int, Sendable {
      case openSent
      case openConfirm
      case established
    }
    let id: ConnectionID
    let direction: Direction
    let localAddress: IPAddress
    let peerAddress: IPAddress
    var stage = Stage.openSent
    var terms: Negotiated?
    var lastReceived: Instant
    var holdTime: Duration
    /// False while our OPEN is held back: the connection stands beside an established one and may be a mistake.
    var hasSaidOpen = true
  }

  /// RFC 4271, section 8.2.2, suggests four minutes until the OPEN of the peer.
  static let openHoldTime: Duration = .seconds(240)
  /// An attempt to connect that began before the session was established is over after this time: whoever has heard our OPEN on one
  /// connection gives up the other, so only what was on its way then can still arrive.
  static let settlingTime: Duration = .seconds(2)
  /// How long a passive session leaves the peer to dial before it knocks.
  static let knockDelay: Duration = .milliseconds(250)
  /// A session that lasted this long ends a row of failures.
  static let steadyAfter: Duration = .seconds(10)
  /// A session that lasted this long was healthy: the next pause after an error is the shortest again.
  static let healthyAfter: Duration = .seconds(60)

  public init(_ configuration: SessionConfiguration, at now: Instant) {
    self.configuration = configuration
    stateSince = now
    random = configuration.jitterSeed &* 0x9e37_79b9_7f4a_7c15 ^ UInt64(configuration.routerID.rawValue) | 1
  }

  public var state: State {
    switch connections.map(\.stage.rawValue).max().flatMap(Connection.Stage.init) {
    case .established: .established
    case .openConfirm: .openConfirm
    case .openSent: .openSent
    case nil: isConnecting ? .connect : isEnabled && !isHeld ? .active : .idle
    }
  }

  /// How to read the next message of a connection: asked before each, since an OPEN changes it.
  public func decodeOptions(for id: ConnectionID) -> DecodeOptions {
    guard var options = connections.first(where: { $0.id == id })?.terms?.decodeOptions else { return DecodeOptions() }
    if !disabledFamilies.isEmpty { options.families.subtract(disabledFamilies) }
    return options
  }

  /// Counts what the caller has sent on its own: UPDATE messages of the established session.
  public mutating func noteSent(updates: Int, octets: Int) {
    counters.updatesOut += UInt64(updates)
    counters.messagesOut += UInt64(updates)
    counters.octetsOut += UInt64(octets)
  }

  /// The one entrance. Actions are to be performed in order.
  public mutating func receive(_ input: Input, at now: Instant) -> [Action] {
    let before = state
    var actions: [Action] = []
    step(input, now, &actions)
    if state != before { stateSince = now }
    return actions
  }

  private mutating func step(_ input: Input, _ now: Instant, _ actions: inout [Action]) {
    switch input {
    case .start:
      guard !isEnabled || isHeld else { return }
      isEnabled = true
      errors = 0
      failures = 0
      leaveHold(&actions)
      dial(now, &actions)

    case .stop(let notification):
      disable(now, &actions, sending: notification)
    case .abandon:
      disable(now, &actions, sending: nil)
    case .reset(let notification):
      guard isEnabled else { return }
      endAll(now, &actions, sending: notification, reason: "\(notification)")
      leaveHold(&actions)
      dial(now, &actions)

    case .connected(let id, let direction, let local, let peer):
      connected(Connection(
        id: id, direction: direction, localAddress: local, peerAddress: peer, lastReceived: now, holdTime: Self.openHoldTime),
        now, &actions)

    case .connectFailed(let cause):
      // Connect to Active.
      guard isConnecting else { return }
      isConnecting = false
      retry(now, &actions)
      lastError = LastError(text: "cannot connect: \(cause)", at: now, notification: nil, isFromPeer: false)

    case .closed(let id, let cause):
      guard let index = index(of: id) else { return }
      let text = "the connection was closed: \(cause)"
      lose(index, now, &actions, reason: text, notification: nil, isFromPeer: true)
      afterLoss(now, &actions, isError: false)

    case .message(let id, let message, let octets):
      guard let index = index(of: id) else { return }
      counters.messagesIn += 1
      counters.octetsIn += UInt64(octets)
      connections[index].lastReceived = now
      self.message(message, index, now, &actions)

    case .failure(let id, let failure):
      guard let index = index(of: id) else { return }
      counters.messagesIn += 1
      fail(index, failure, now, &actions)

    case .expired(let timer):
      expired(timer, now, &actions)

    case .stalled(let text):
      // RFC 9687: a peer that keeps talking and does not listen would keep routes of ours that are long gone. Pauses grow with each
      // repetition, since every new session begins with the whole table.
      guard let index = connections.firstIndex(where: { $0.stage == .established }) else { return }
      fail(index, MessageFailure(.cease(.outOfResources), text), now, &actions)

    case .prefixLimitExceeded(let family, let limit):
      guard let index = connections.firstIndex(where: { $0.stage == .established }) else { return }
      let failure = MessageFailure(.prefixCountMax(family, limit: limit), "more than \(limit) prefixes in \(family)")
      refuse(index, failure, now, &actions)
      hold(for: configuration.prefixLimitPause, now, &actions)
    }
  }

  // MARK: Messages, by stage

  private mutating func message(_ message: Message, _ index: Int, _ now: Instant, _ actions: inout [Action]) {
    if case .notification(let notification) = message { return notified(notification, index, now, &actions) }
    switch (connections[index].stage, message) {
    case (.openSent, .open(let open)): opened(open, index, now, &actions)
    case (.openConfirm, .keepalive): establish(index, now, &actions)
    case (.established, .keepalive): break
    case (.established, .update(let update)): updated(update, &actions)
    case (.established, .routeRefresh(let refresh)):
      // RFC 7313, section 5: unknown subtypes and families that were not agreed on are ignored.
      if refresh.kind != nil, negotiated?.families.contains(refresh.family) ?? false { actions.append(.refresh(refresh)) }
    case (let stage, let message):
      let notification = Notification.unexpectedMessage(
        message.type, inOpenSent: stage == .openSent, inOpenConfirm: stage == .openConfirm)
      fail(index, MessageFailure(notification, "\(message.type) is out of place"), now, &actions)
    }
  }

  private mutating func opened(_ open: Open, _ index: Int, _ now: Instant, _ actions: inout [Action]) {
    var index = index
    let id = connections[index].id
    let terms: Negotiated
    do throws(MessageFailure) {
      terms = try Negotiated(
        configuration, open, connection: id, localAddress: connections[index].localAddress,
        peerAddress: connections[index].peerAddress)
    } catch {
      return fail(index, error, now, &actions)
    }
    guard survivesCollision(index, terms, now, &actions) else { return }
    // Others may have gone.
    index = self.index(of: id) ?? index
    connections[index].terms = terms
    connections[index].stage = .openConfirm
    connections[index].holdTime = terms.holdTime
    // An attempt that is still under way could only collide with a connection that both sides have said OPEN on.
    stopDialing(&actions)
    send(id, .keepalive, &actions)
    // RFC 4271, section 8.2.2, OpenSent: with a hold time of zero neither timer runs.
    if terms.holdTime > .zero {
      actions.append(.arm(.hold(id), at: now + terms.holdTime))
      armKeepalive(id, terms, now, &actions)
    } else {
      actions.append(.disarm(.hold(id)))
    }
  }

  private mutating func establish(_ index: Int, _ now: Instant, _ actions: inout [Action]) {
    guard let terms = connections[index].terms else { return }
    let id = connections[index].id
    for other in connections where other.id != id {
      drop(other.id, sending: .cease(.connectionCollision), &actions)
    }
    stopDialing(&actions)
    if let index = self.index(of: id) { connections[index].stage = .established }
    negotiated = terms
    disabledFamilies = []
    counters.established += 1
    actions.append(.established(terms))
    returned(terms, now, &actions)
  }

  private mutating func updated(_ update: Update, _ actions: inout [Action]) {
    counters.updatesIn += 1
    counters.toleratedFaults += UInt64(update.remarks.count)
    actions.append(.deliver(update))
    for remark in update.remarks {
      if case .disableFamily(let family) = remark.fault, disabledFamilies.insert(family).inserted { actions.append(.disable(family)) }
    }
    if let family = update.endOfRIB { heardAll(of: family, &actions) }
  }

  private mutating func notified(_ notification: Notification, _ index: Int, _ now: Instant, _ actions: inout [Action]) {
    let wasEstablished = connections[index].stage == .established
    let text = "the peer ended the session: \(notification)"
    lose(index, now, &actions, reason: text, notification: notification, isFromPeer: true)
    // A cease is a decision, not an error: the peer may come back whenever it likes.
    afterLoss(now, &actions, isError: notification.code != NotificationCode.cease && !(wasEstablished && notification.code == 4))
  }

  // MARK: Timers

  private mutating func expired(_ timer: Timer, _ now: Instant, _ actions: inout [Action]) {
    switch timer {
    case .connectRetry:
      guard isEnabled, !isHeld, !connections.contains(where: { $0.stage == .established }) else { return }
      if isConnecting {
        lastError = LastError(text: "cannot connect: no answer", at: now, notification: nil, isFromPeer: false)
        actions.append(.cancelConnect)
        isConnecting = false
        // The one knock of a passive session was not heard.
        if configuration.isPassive { return }
      }
      if configuration.isPassive, !connections.isEmpty { return }
      // Once the peer has said OPEN on a connection of its own, dialling would only collide with that one.
      if connections.contains(where: { $0.stage == .openConfirm }) { armConnectRetry(now, &actions) } else { attempt(now, &actions) }
    case .idleHold:
      guard isEnabled, isHeld else { return }
      isHeld = false
      dial(now, &actions)
    case .hold(let id):
      guard let index = index(of: id), connections[index].holdTime > .zero else { return }
      let due = connections[index].lastReceived + connections[index].holdTime
      if now < due {
        actions.append(.arm(.hold(id), at: due))
      } else {
        let failure = MessageFailure(.holdTimerExpired, "nothing heard for \(connections[index].holdTime)")
        refuse(index, failure, now, &actions)
        // The peer or the way to it is gone: nothing is wrong with the session, so there is no pause.
        afterLoss(now, &actions, isError: false)
      }
    case .keepalive(let id):
      guard let index = index(of: id), let terms = connections[index].terms, terms.holdTime > .zero else { return }
      send(id, .keepalive, &actions)
      armKeepalive(id, connections[index].terms ?? terms, now, &actions)
    case .restart, .stale:
      sweepAll(&actions)
    }
  }

  // MARK: Connections

  private mutating func connected(_ connection: Connection, _ now: Instant, _ actions: inout [Action]) {
    if connection.direction == .outgoing {
      guard isConnecting else { return actions.append(.close(connection.id)) }
      isConnecting = false
    }
    // RFC 4271, section 8.2.2, Idle: connections are refused.
    guard isEnabled, !isHeld else {
      send(connection.id, .notification(.cease(.connectionRejected)), &actions)
      return actions.append(.close(connection.id))
    }
    // A second one of the same direction: the peer has given up the first, or it would have used it.
    for other in connections where other.direction == connection.direction && other.stage == .openSent {
      drop(other.id, sending: .cease(.connectionCollision), &actions)
    }
    let isEstablished = connections.contains { $0.stage == .established }
    guard !isEstablished || mayHaveRestarted(at: now) else {
      send(connection.id, .notification(.cease(.connectionCollision)), &actions)
      return actions.append(.close(connection.id))
    }
    var connection = connection
    connection.hasSaidOpen = !isEstablished
    connections.append(connection)
    if !isEstablished { send(connection.id, .open(configuration.open), &actions) }
    actions.append(.arm(.hold(connection.id), at: now + Self.openHoldTime))
  }

  func index(of id: ConnectionID) -> Int? { connections.firstIndex { $0.id == id } }

  mutating func send(_ id: ConnectionID, _ message: Message, _ actions: inout [Action]) {
    counters.messagesOut += 1
    counters.octetsOut += UInt64(message.encoded().count)
    actions.append(.send(id, message))
  }

  /// Closes one connection that was not established, and says why if there is something to say.
  mutating func drop(_ id: ConnectionID, sending notification: Notification?, _ actions: inout [Action]) {
    guard let index = index(of: id) else { return }
    connections.remove(at: index)
    actions.append(.disarm(.hold(id)))
    actions.append(.disarm(.keepalive(id)))
    if let notification { send(id, .notification(notification), &actions) }
    actions.append(.close(id))
  }

  /// An error of the peer's: tell it, close, pause.
  private mutating func fail(_ index: Int, _ failure: MessageFailure, _ now: Instant, _ actions: inout [Action]) {
    refuse(index, failure, now, &actions)
    afterLoss(now, &actions, isError: true)
  }

  /// Sends the notification and ends the connection.
  mutating func refuse(_ index: Int, _ failure: MessageFailure, _ now: Instant, _ actions: inout [Action]) {
    send(connections[index].id, .notification(failure.notification), &actions)
    lose(index, now, &actions, reason: "\(failure)", notification: failure.notification, isFromPeer: false)
  }

  /// Takes a connection out of the session and reports the end of what was established.
  mutating func lose(
    _ index: Int, _ now: Instant, _ actions: inout [Action], reason: String, notification: Notification?, isFromPeer: Bool
  ) {
    let connection = connections[index]
    drop(connection.id, sending: nil, &actions)
    // One of two colliding connections has to go; that is no error while the other lives.
    if connection.stage == .established || connections.isEmpty {
      lastError = LastError(text: reason, at: now, notification: notification, isFromPeer: isFromPeer)
    }
    guard connection.stage == .established, let terms = connection.terms else { return }
    counters.downs += 1
    negotiated = nil
    if now - stateSince >= Self.healthyAfter { errors = 0 }
    if now - stateSince >= Self.steadyAfter { failures = 0 }
    let retained = retain(terms, notification, now, &actions)
    disabledFamilies = []
    for index in connections.indices where !connections[index].hasSaidOpen {
      connections[index].hasSaidOpen = true
      send(connections[index].id, .open(configuration.open), &actions)
    }
    actions.append(.down(Down(reason: reason, notification: notification, retained: retained)))
  }

  /// What to do once a connection is gone and no other is left.
  private mutating func afterLoss(_ now: Instant, _ actions: inout [Action], isError: Bool) {
    guard isEnabled else { return }
    guard connections.isEmpty else {
      // What is left may never come up; then it is for us to dial again.
      if !isConnecting, state != .established { armConnectRetry(now, &actions) }
      return
    }
    if isError {
      errors += 1
      let factor = 1 << min(errors - 1, 16)
      hold(for: min(configuration.idleHoldMin * factor, configuration.idleHoldMax), now, &actions)
    } else if case .down? = actions.last, failures == 0 {
      // An established session was lost to the network: nobody has to wait, unless it keeps happening.
      failures = 1
      dial(now, &actions)
    } else if !isConnecting {
      retry(now, &actions)
    }
  }

  /// Ends every connection; what was established is reported.
  private mutating func endAll(_ now: Instant, _ actions: inout [Action], sending notification: Notification?, reason: String) {
    stopDialing(&actions)
    while let last = connections.indices.last {
      let id = connections[last].id
      if let notification { send(id, .notification(hardened(notification, connections[last])), &actions) }
      lose(last, now, &actions, reason: reason, notification: notification, isFromPeer: false)
    }
  }

  private mutating func disable(_ now: Instant, _ actions: inout [Action], sending notification: Notification?) {
    guard isEnabled else { return }
    endAll(now, &actions, sending: notification, reason: notification.map { "stopped: \($0)" } ?? "stopped")
    leaveHold(&actions)
    isEnabled = false
    // Whoever stops a session wants its routes gone.
    sweepAll(&actions)
  }

  // MARK: Dialling

  /// Connects at once; a passive session lets the peer go first and then knocks, once. Without the knock a passive side that has
  /// restarted would wait for as long as its peer's pauses have become meanwhile.
  private mutating func dial(_ now: Instant, _ actions: inout [Action]) {
    guard isEnabled, !isHeld, !isConnecting else { return }
    if configuration.isPassive {
      actions.append(.arm(.connectRetry, at: now + jittered(Self.knockDelay)))
    } else {
      attempt(now, &actions)
    }
  }

  private mutating func attempt(_ now: Instant, _ actions: inout [Action]) {
    isConnecting = true
    actions.append(.connect)
    actions.append(.arm(.connectRetry, at: now + jittered(configuration.connectRetry)))
  }

  private mutating func armConnectRetry(_ now: Instant, _ actions: inout [Action]) {
    guard !configuration.isPassive else { return }
    actions.append(.arm(.connectRetry, at: now + jittered(configuration.connectRetry)))
  }

  /// After an attempt that came to nothing: soon again, since most often the peer is just starting, and ever more seldom. RFC 4271,
  /// section 8, knows the one time only.
  private mutating func retry(_ now: Instant, _ actions: inout [Action]) {
    failures += 1
    if configuration.isPassive { return actions.append(.disarm(.connectRetry)) }
    let pause = min(configuration.connectRetryMin * (1 << min(failures - 1, 16)), configuration.connectRetry)
    actions.append(.arm(.connectRetry, at: now + jittered(pause)))
  }

  private mutating func stopDialing(_ actions: inout [Action]) {
    if isConnecting { actions.append(.cancelConnect) }
    isConnecting = false
    actions.append(.disarm(.connectRetry))
  }

  private mutating func hold(for pause: Duration?, _ now: Instant, _ actions: inout [Action]) {
    stopDialing(&actions)
    for connection in connections { drop(connection.id, sending: .cease(.connectionRejected), &actions) }
    isHeld = true
    if let pause { actions.append(.arm(.idleHold, at: now + jittered(pause))) }
  }

  private mutating func leaveHold(_ actions: inout [Action]) {
    if isHeld { actions.append(.disarm(.idleHold)) }
    isHeld = false
  }

  private mutating func armKeepalive(_ id: ConnectionID, _ terms: Negotiated, _ now: Instant, _ actions: inout [Action]) {
    actions.append(.arm(.keepalive(id), at: now + jittered(terms.keepaliveInterval)))
  }

  /// Between three quarters and the whole of a duration (RFC 4271, section 10).
  private mutating func jittered(_ duration: Duration) -> Duration {
    random ^= random << 13
    random ^= random >> 7
    random ^= random << 17
    return duration * Int(768 + random >> 56) / 1024
  }

  // MARK: Configuration

  /// What a change of configuration costs.
  public enum Change: Hashable, Sendable {
    case none
    /// Applied, or applied with the next OPEN; the session stays as it is.
    case inPlace
    /// The peer has to agree anew; the actions end the session and start another.
    case reset
  }

  /// Takes over a new configuration.
  public mutating func reconfigure(_ new: SessionConfiguration, at now: Instant) -> (change: Change, actions: [Action]) {
    guard new != configuration else { return (.none, []) }
    let old = configuration
    configuration = new
    if new.agreement != old.agreement, !connections.isEmpty {
      return (.reset, receive(.reset(.cease(.otherConfigurationChange)), at: now))
    }
    var actions: [Action] = []
    let before = state
    for index in connections.indices {
      guard var terms = connections[index].terms, terms.holdTime > .zero else { continue }
      terms.keepaliveInterval = max(.seconds(1), min(new.keepaliveInterval ?? terms.holdTime / 3, terms.holdTime / 3))
      terms.localAddresses = [terms.localAddress] + new.localAddresses.filter { $0 != terms.localAddress }
      terms.disablesFamilies = new.disablesFamilies
      if connections[index].terms?.keepaliveInterval != terms.keepaliveInterval {
        armKeepalive(connections[index].id, terms, now, &actions)
      }
      connections[index].terms = terms
      if connections[index].stage == .established { negotiated = terms }
    }
    if new.isPassive != old.isPassive, isEnabled, connections.isEmpty, !isHeld {
      if new.isPassive { stopDialing(&actions) } else { dial(now, &actions) }
    } else if new.agreement != old.agreement, isHeld {
      // The reason for the pause may have gone with the old configuration.
      errors = 0
      leaveHold(&actions)
      dial(now, &actions)
    }
    if state != before { stateSince = now }
    return (.inPlace, actions)
  }
}

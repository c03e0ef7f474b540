/// The transitions of RFC 4271, section 8.2.2, in its order.
import Addresses
import BGPMessages
import BGPSessions
import Testing

/// One cell of the state table.
struct Transition: CustomTestStringConvertible, Sendable {
  var from: PeerSession.State
  var on: PeerSession.Input
  var to: PeerSession.State
  /// The code and subcode of the NOTIFICATION to be sent, if one is due.
  var notifies: [UInt8]?
  var testDescription: String { "\(from), \(on)" }
  init(_ from: PeerSession.State, _ on: PeerSession.Input, _ to: PeerSession.State, notifies: [UInt8]? = nil) {
    self.from = from
    self.on = on
    self.to = to
    self.notifies = notifies
  }
}

private let id = ConnectionID(1)
private func hears(_ message: Message) -> PeerSession.Input { .message(id, message, octets: 19) }
private let shutdown = Notification.cease(.administrativeShutdown)
private let connected = PeerSession.Input.connected(id, .outgoing, local: here, peer: there)
private let accepted = PeerSession.Input.connected(ConnectionID(2), .incoming, local: here, peer: there)
private let headerError = PeerSession.Input.failure(id, MessageFailure(.badMessageLength(5), "test"))
private let refresh = Message.routeRefresh(RouteRefresh(.ipv4Unicast))
private let update = Message.update(Update(endOfRIB: .ipv4Unicast))

private let table: [Transition] = [
  // Idle
  Transition(.idle, .start, .connect),
  Transition(.idle, .stop(shutdown), .idle),
  Transition(.idle, accepted, .idle, notifies: [6, 5]),
  Transition(.idle, .expired(.connectRetry), .idle),
  Transition(.idle, .connectFailed("refused"), .idle),
  Transition(.idle, .closed(id, "end of stream"), .idle),
  // Connect
  Transition(.connect, .start, .connect),
  Transition(.connect, .stop(shutdown), .idle),
  Transition(.connect, connected, .openSent),
  Transition(.connect, accepted, .openSent),
  Transition(.connect, .connectFailed("refused"), .active),
  Transition(.connect, .expired(.connectRetry), .connect),
  Transition(.connect, .expired(.hold(id)), .connect),
  // Active
  Transition(.active, .start, .active),
  Transition(.active, .stop(shutdown), .idle),
  Transition(.active, accepted, .openSent),
  Transition(.active, connected, .active),
  Transition(.active, .expired(.connectRetry), .connect),
  // OpenSent
  Transition(.openSent, .start, .openSent),
  Transition(.openSent, .stop(shutdown), .idle, notifies: [6, 2]),
  Transition(.openSent, .abandon, .idle),
  Transition(.openSent, .closed(id, "end of stream"), .active),
  Transition(.openSent, hears(.open(peerOpen())), .openConfirm),
  Transition(.openSent, hears(.open(peerOpen(as: 64999))), .idle, notifies: [2, 2]),
  Transition(.openSent, hears(.open(peerOpen(id: "10.0.0.1"))), .idle, notifies: [2, 3]),
  Transition(.openSent, hears(.open(peerOpen(hold: 2))), .idle, notifies: [2, 6]),
  Transition(.openSent, hears(.open(peerOpen(capabilities: [.multiprotocol(.ipv6Unicast)]))), .idle, notifies: [2, 7]),
  Transition(.openSent, hears(.keepalive), .idle, notifies: [5, 1]),
  Transition(.openSent, hears(update), .idle, notifies: [5, 1]),
  Transition(.openSent, hears(refresh), .idle, notifies: [5, 1]),
  Transition(.openSent, hears(.notification(.unsupportedVersion)), .idle),
  Transition(.openSent, hears(.notification(.cease(.connectionRejected))), .active),
  Transition(.openSent, headerError, .idle, notifies: [1, 2]),
  // OpenConfirm
  Transition(.openConfirm, .stop(shutdown), .idle, notifies: [6, 2]),
  Transition(.openConfirm, .closed(id, "reset"), .active),
  Transition(.openConfirm, hears(.keepalive), .established),
  Transition(.openConfirm, hears(.open(peerOpen())), .idle, notifies: [5, 2]),
  Transition(.openConfirm, hears(update), .idle, notifies: [5, 2]),
  Transition(.openConfirm, hears(refresh), .idle, notifies: [5, 2]),
  Transition(.openConfirm, hears(.notification(.openMalformed)), .idle),
  Transition(.openConfirm, .expired(.keepalive(id)), .openConfirm),
  Transition(.openConfirm, headerError, .idle, notifies: [1, 2]),
  // Established
  Transition(.established, .start, .established),
  Transition(.established, .stop(shutdown), .idle, notifies: [6, 2]),
  Transition(.established, .abandon, .idle),
  Transition(.established, .reset(.cease(.administrativeReset)), .connect, notifies: [6, 4]),
  Transition(.established, .closed(id, "reset"), .connect),
  Transition(.established, hears(.keepalive), .established),
  Transition(.established, hears(update), .established),
  Transition(.established, hears(refresh), .established),
  Transition(.established, hears(.open(peerOpen())), .idle, notifies: [5, 3]),
  Transition(.established, hears(.notification(.malformedAttributeList)), .idle),
  Transition(.established, hears(.notification(.cease(.administrativeShutdown))), .connect),
  Transition(.established, .failure(id, MessageFailure(.malformedAttributeList, "test")), .idle, notifies: [3, 1]),
  Transition(.established, .prefixLimitExceeded(.ipv4Unicast, limit: 10), .idle, notifies: [6, 1]),
  Transition(.established, .stalled("nothing for 8 minutes"), .idle, notifies: [6, 8]),
  Transition(.established, .expired(.connectRetry), .established),
]

@Suite("RFC 4271, section 8.2.2: the state table")
struct StateTableTests {
  @Test("Each event leads to its state", arguments: table)
  func transition(cell: Transition) {
    var bench = Bench()
    bench.bring(to: cell.from)
    #expect(bench.session.state == cell.from)
    let actions = bench.send(cell.on)
    #expect(bench.session.state == cell.to)
    #expect(actions.notifications.first.map { [$0.code, $0.subcode] } == cell.notifies)
    // Who leaves Established says so, once.
    #expect(actions.downs.count == (cell.from == .established && cell.to != .established ? 1 : 0))
    #expect(actions.establishments.count == (cell.to == .established && cell.from != .established ? 1 : 0))
    if cell.notifies != nil, cell.from != .idle { #expect(actions.closes(ConnectionID(1))) }
  }

  @Test("Every event in every state leaves a session that can come up again", arguments: PeerSession.State.allCases)
  func total(from: PeerSession.State) {
    for cell in table {
      var bench = Bench()
      bench.bring(to: from)
      bench.send(cell.on)
      bench.send(.stop(shutdown))
      #expect(bench.session.state == .idle)
      bench.send(.start)
      bench.send(.connected(ConnectionID(9), .outgoing, local: here, peer: there))
      bench.hear(.open(peerOpen()), on: ConnectionID(9))
      bench.hear(.keepalive, on: ConnectionID(9))
      #expect(bench.session.state == .established, "after \(cell.on) in \(from)")
    }
  }

  @Test("The OPEN says what is configured, and OpenSent waits four minutes")
  func opens() {
    var bench = Bench(configuration { $0.families = [.ipv4Unicast, .ipv6Unicast] })
    #expect(bench.send(.start).contains(.connect))
    let actions = bench.connect()
    #expect(actions.sent == [.open(bench.session.configuration.open)])
    #expect(actions.due(.hold(bench.outgoing)) == epoch + .seconds(240))
    let open = bench.session.configuration.open
    #expect(open.holdTimeSeconds == 90 && open.asNumber == 64512)
    #expect(
      open.capabilities.contains(
        .gracefulRestart(
          .init(restartTimeSeconds: 120, families: [.init(.ipv4Unicast, isForwarding: true), .init(.ipv6Unicast, isForwarding: true)]))))
  }

  @Test("A connection that comes after the attempt was given up is closed")
  func late() {
    var bench = Bench()
    bench.bring(to: .connect)
    bench.send(.stop(shutdown))
    #expect(bench.connect() == [.close(bench.outgoing)])
  }

  @Test("A passive session lets the peer come first, knocks once, and then waits")
  func passive() throws {
    var bench = Bench(configuration { $0.isPassive = true })
    let start = bench.send(.start)
    #expect(!start.contains(.connect) && bench.session.state == .active)
    #expect(try #require(start.due(.connectRetry)) - epoch <= .milliseconds(250))
    #expect(bench.send(.expired(.connectRetry)).contains(.connect))
    let refused = bench.send(.connectFailed("refused"))
    #expect(!refused.contains(.connect) && refused.due(.connectRetry) == nil && bench.session.state == .active)
    #expect(bench.connect(.incoming).sent.count == 1 && bench.session.state == .openSent)
  }

  @Test("A passive session does not knock when the peer has come, nor again when its knock was not heard")
  func passiveCollision() {
    var bench = Bench(configuration { $0.isPassive = true })
    bench.send(.start)
    #expect(bench.connect(.incoming).sent.count == 1)
    #expect(bench.send(.expired(.connectRetry), after: .milliseconds(250)).isEmpty)
    var unheard = Bench(configuration { $0.isPassive = true })
    unheard.send(.start)
    unheard.send(.expired(.connectRetry))
    #expect(unheard.send(.expired(.connectRetry), after: .seconds(5)) == [.cancelConnect])
  }
}

@Suite("RFC 4271, section 4.2 and 6.5: hold time")
struct HoldTimeTests {
  @Test("The smaller hold time counts, and a third of it goes between KEEPALIVEs", arguments: [
    (90, 30, 30, 10), (90, 240, 90, 30), (0, 90, 0, 0), (90, 0, 0, 0), (9, 3, 3, 1),
  ] as [(Int, UInt16, Int, Int)])
  func negotiation(ours: Int, theirs: UInt16, hold: Int, keepalive: Int) throws {
    var bench = Bench(configuration { $0.holdTime = .seconds(ours) })
    bench.bring(to: .established, open: peerOpen(hold: theirs))
    let terms = try #require(bench.session.negotiated)
    #expect(terms.holdTime == .seconds(hold) && terms.keepaliveInterval == .seconds(keepalive))
  }

  @Test("A silent peer is dropped when the hold time is over, and dialled at once")
  func expiry() {
    var bench = Bench()
    bench.bring(to: .established)
    bench.hear(.keepalive, after: .seconds(60))
    // The timer of the OPEN fires, but a KEEPALIVE has come since.
    let early = bench.send(.expired(.hold(bench.outgoing)), after: .seconds(30))
    #expect(early == [.arm(.hold(bench.outgoing), at: epoch + .seconds(150))])
    let late = bench.send(.expired(.hold(bench.outgoing)), after: .seconds(60))
    #expect(late.notifications == [.holdTimerExpired] && late.closes(bench.outgoing) && late.contains(.connect))
    #expect(bench.session.lastError?.text.contains("nothing heard for 90.0 seconds") ?? false)
  }

  @Test("With a hold time of zero no timer runs")
  func zero() {
    var bench = Bench(configuration { $0.holdTime = .zero })
    bench.bring(to: .openSent)
    let actions = bench.hear(.open(peerOpen()))
    #expect(actions.due(.hold(bench.outgoing)) == nil && actions.due(.keepalive(bench.outgoing)) == nil)
    #expect(actions.contains(.disarm(.hold(bench.outgoing))))
    bench.hear(.keepalive)
    #expect(bench.send(.expired(.hold(bench.outgoing)), after: .seconds(9999)).isEmpty)
  }

  @Test("KEEPALIVEs are sent with jitter between three quarters and the whole (section 10)")
  func keepalives() throws {
    var bench = Bench()
    bench.bring(to: .established)
    for _ in 0..<50 {
      let actions = bench.send(.expired(.keepalive(bench.outgoing)))
      #expect(actions.sent == [.keepalive])
      let pause = try #require(actions.due(.keepalive(bench.outgoing))) - bench.now
      #expect(pause >= .milliseconds(22_500) && pause <= .seconds(30))
    }
  }
}

@Suite("RFC 4271, section 8.1.1: damping and retries")
struct DampingTests {
  @Test("Errors in a row double the pause, up to the maximum; connections are refused meanwhile")
  func backoff() throws {
    var bench = Bench()
    bench.send(.start)
    var pauses: [Duration] = []
    for round in 0..<8 {
      let id = ConnectionID(UInt64(round) + 10)
      bench.send(.connected(id, .outgoing, local: here, peer: there))
      let actions = bench.hear(.open(peerOpen(as: 1)), on: id)
      pauses.append(try #require(actions.due(.idleHold)) - bench.now)
      #expect(bench.connect(.incoming, ConnectionID(99)).closes(ConnectionID(99)))
      #expect(bench.send(.expired(.idleHold)).contains(.connect))
    }
    for (pause, whole) in zip(pauses, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]) {
      #expect(pause > .milliseconds(whole) * 3 / 4 - .milliseconds(1) && pause <= .milliseconds(whole))
    }
    #expect(bench.session.lastError?.text == "OPEN message error: bad peer AS: the peer is AS 1, configured is AS 64512")
  }

  /// The pause that follows a refused attempt.
  private func refusal(_ bench: inout Bench) throws -> Duration {
    let actions = bench.send(.connectFailed("Connection refused"))
    #expect(!actions.contains(.connect))
    let pause = try #require(actions.due(.connectRetry)) - bench.now
    #expect(bench.send(.expired(.connectRetry), after: pause).contains(.connect))
    return pause
  }
  private func expect(_ pause: Duration, milliseconds whole: Int) {
    #expect(pause > .milliseconds(whole) * 3 / 4 - .milliseconds(1) && pause <= .milliseconds(whole))
  }

  @Test("A refused attempt is repeated after 100 ms, then after twice as long each time, up to the configured pause")
  func refused() throws {
    var bench = Bench()
    bench.send(.start)
    for whole in [100, 200, 400, 800, 1600, 3200, 5000, 5000] { expect(try refusal(&bench), milliseconds: whole) }
    // An attempt without an answer has taken its time already.
    #expect(bench.send(.expired(.connectRetry), after: .seconds(5)).contains(.connect))
    bench.send(.stop(shutdown))
    #expect(bench.send(.start).contains(.connect))
    expect(try refusal(&bench), milliseconds: 100)
  }

  @Test("A connection that ends before the session is up counts like a refused one")
  func closedEarly() throws {
    var bench = Bench()
    bench.send(.start)
    for (number, whole) in [100, 200, 400].enumerated() {
      let id = ConnectionID(UInt64(number) + 10)
      _ = bench.connect(.outgoing, id)
      let actions = bench.send(.closed(id, "reset"))
      let pause = try #require(actions.due(.connectRetry)) - bench.now
      expect(pause, milliseconds: whole)
      bench.send(.expired(.connectRetry), after: pause)
    }
  }

  @Test("A lost session is dialled at once; one that is lost again and again is not")
  func flapping() throws {
    var bench = Bench()
    bench.bring(to: .established)
    #expect(bench.send(.closed(bench.outgoing, "reset"), after: .seconds(1)).contains(.connect))
    for (number, whole) in [200, 400].enumerated() {
      let id = ConnectionID(UInt64(number) + 10)
      _ = bench.connect(.outgoing, id)
      bench.hear(.open(peerOpen()), on: id)
      bench.hear(.keepalive, on: id)
      let actions = bench.send(.closed(id, "reset"), after: .seconds(1))
      #expect(!actions.contains(.connect))
      let pause = try #require(actions.due(.connectRetry)) - bench.now
      expect(pause, milliseconds: whole)
      bench.send(.expired(.connectRetry), after: pause)
    }
    _ = bench.connect(.outgoing, ConnectionID(20))
    bench.hear(.open(peerOpen()), on: ConnectionID(20))
    bench.hear(.keepalive, on: ConnectionID(20))
    #expect(bench.send(.closed(ConnectionID(20), "reset"), after: .seconds(11)).contains(.connect))
  }

  @Test("The prefix limit keeps the session down until it is started, or for the pause that is configured")
  func prefixLimit() {
    var bench = Bench()
    bench.bring(to: .established)
    let actions = bench.send(.prefixLimitExceeded(.ipv4Unicast, limit: 100))
    #expect(actions.due(.idleHold) == nil && actions.notifications == [.prefixCountMax(.ipv4Unicast, limit: 100)])
    #expect(bench.send(.start).contains(.connect))
    var pausing = Bench(configuration { $0.prefixLimitPause = .seconds(60) })
    pausing.bring(to: .established)
    #expect(pausing.send(.prefixLimitExceeded(.ipv4Unicast, limit: 100)).due(.idleHold) != nil)
  }
}

@Suite("Reconfiguration without a restart")
struct ReconfigurationTests {
  @Test("What the peer need not know is applied in place")
  func inPlace() {
    var bench = Bench()
    bench.bring(to: .established)
    let (change, actions) = bench.session.reconfigure(
      configuration {
        $0.keepaliveInterval = .seconds(10)
        $0.connectRetry = .seconds(1)
        $0.holdTime = .seconds(30)
        $0.isPassive = true
      }, at: bench.now)
    #expect(change == .inPlace && bench.session.state == .established)
    #expect(bench.session.negotiated?.keepaliveInterval == .seconds(10))
    #expect(actions.due(.keepalive(bench.outgoing)) != nil)
    #expect(bench.session.reconfigure(bench.session.configuration, at: bench.now).change == .none)
  }
  @Test("What both must agree on costs a reset, told as such")
  func reset() {
    var bench = Bench()
    bench.bring(to: .established)
    let (change, actions) = bench.session.reconfigure(configuration { $0.families = [.ipv6Unicast] }, at: bench.now)
    #expect(change == .reset && actions.notifications == [.cease(.otherConfigurationChange)])
    #expect(actions.contains(.connect) && bench.session.state == .connect)
  }
  @Test("A corrected AS number ends the pause after the error")
  func corrected() {
    var bench = Bench(configuration(peer: 1))
    bench.bring(to: .openSent)
    bench.hear(.open(peerOpen()))
    #expect(bench.session.state == .idle)
    let (change, actions) = bench.session.reconfigure(configuration(), at: bench.now)
    #expect(change == .inPlace && actions.contains(.connect) && bench.session.state == .connect)
  }
}

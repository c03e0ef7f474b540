/// Two sessions wired together over simulated TCP, in virtual time and in every order that a seed brings.
import Addresses
import BGPMessages
import BGPSessions
import Testing

/// A pair of speakers, the connections between them, and the events to come.
struct Fabric {
  enum Event {
    case input(side: Int, PeerSession.Input)
    /// A connection attempt of `side` reaches the other.
    case syn(side: Int, attempt: Int)
    case octets(side: Int, UInt64, [UInt8])
    case fin(side: Int, UInt64)
    case timer(side: Int, PeerSession.Timer, Instant)
  }
  var sessions: [PeerSession]
  var now = epoch
  private var queue: [(at: Instant, order: Int, event: Event)] = []
  private var order = 0
  private var nextConnection: UInt64 = 1
  private var attempts = [0, 0]
  private var dialling = [false, false]
  private var timers: [[PeerSession.Timer: Instant]] = [[:], [:]]
  private var framers: [[UInt64: MessageFramer]] = [[:], [:]]
  /// The last instant at which octets reach a side over a connection: TCP keeps their order.
  private var arrivals: [[UInt64: Instant]] = [[:], [:]]
  private var random: UInt64
  /// While true nothing arrives, in either direction.
  var isCut = false
  var established = [0, 0]
  var delivered: [[Update]] = [[], []]

  init(_ a: SessionConfiguration, _ b: SessionConfiguration, seed: UInt64) {
    sessions = [PeerSession(a, at: epoch), PeerSession(b, at: epoch)]
    random = seed &* 0x9e37_79b9_7f4a_7c15 | 1
  }

  private mutating func delay() -> Duration {
    random ^= random << 13
    random ^= random >> 7
    random ^= random << 17
    return .microseconds(Int(random % 20_000) + 10)
  }
  mutating func post(_ event: Event, after pause: Duration) {
    order += 1
    queue.append((now + pause, order, event))
  }
  mutating func input(_ side: Int, _ input: PeerSession.Input) { perform(side, sessions[side].receive(input, at: now)) }

  private mutating func perform(_ side: Int, _ actions: [PeerSession.Action]) {
    for action in actions {
      switch action {
      case .connect:
        attempts[side] += 1
        dialling[side] = true
        post(.syn(side: side, attempt: attempts[side]), after: delay())
      case .cancelConnect: dialling[side] = false
      case .send(let id, let message): transmit(side, id.rawValue, message.encoded())
      case .close(let id):
        framers[side][id.rawValue] = nil
        arrive(1 - side, id.rawValue) { .fin(side: 1 - side, id.rawValue) }
      case .arm(let timer, let instant):
        timers[side][timer] = instant
        order += 1
        queue.append((instant, order, .timer(side: side, timer, instant)))
      case .disarm(let timer): timers[side][timer] = nil
      case .established: established[side] += 1
      case .deliver(let update): delivered[side].append(update)
      case .down, .refresh, .disable, .sweep: break
      }
    }
  }
  mutating func transmit(_ side: Int, _ id: UInt64, _ octets: [UInt8]) {
    arrive(1 - side, id) { .octets(side: 1 - side, id, octets) }
  }
  private mutating func arrive(_ side: Int, _ id: UInt64, _ event: () -> Event) {
    let at = max(now + delay(), (arrivals[side][id] ?? now) + .nanoseconds(1))
    arrivals[side][id] = at
    order += 1
    queue.append((at, order, event()))
  }

  /// Runs until `end`, or until `condition` holds; false if it never did.
  @discardableResult
  mutating func run(for duration: Duration, until condition: (Fabric) -> Bool = { _ in false }) -> Bool {
    let end = now + duration
    while let index = queue.indices.min(by: { (queue[$0].at, queue[$0].order) < (queue[$1].at, queue[$1].order) }), queue[index].at <= end {
      let next = queue.remove(at: index)
      now = next.at
      handle(next.event)
      if condition(self) { return true }
    }
    now = end
    return false
  }

  private mutating func handle(_ event: Event) {
    switch event {
    case .input(let side, let input): self.input(side, input)
    case .timer(let side, let timer, let instant):
      guard timers[side][timer] == instant else { return }
      timers[side][timer] = nil
      input(side, .expired(timer))
    case .syn(let side, let attempt):
      guard !isCut, dialling[side], attempts[side] == attempt else { return }
      dialling[side] = false
      let id = nextConnection
      nextConnection += 1
      let addresses = [here, there]
      framers[0][id] = MessageFramer()
      framers[1][id] = MessageFramer()
      input(side, .connected(ConnectionID(id), .outgoing, local: addresses[side], peer: addresses[1 - side]))
      input(1 - side, .connected(ConnectionID(id), .incoming, local: addresses[1 - side], peer: addresses[side]))
    case .octets(let side, let id, let octets):
      guard !isCut, framers[side][id] != nil else { return }
      framers[side][id]?.append(octets)
      while framers[side][id] != nil {
        do throws(MessageFailure) {
          guard let message = try framers[side][id]!.next(options: sessions[side].decodeOptions(for: ConnectionID(id))) else { return }
          input(side, .message(ConnectionID(id), message, octets: framers[side][id]?.lastLength ?? 19))
        } catch {
          return input(side, .failure(ConnectionID(id), error))
        }
      }
    case .fin(let side, let id):
      guard !isCut, framers[side].removeValue(forKey: id) != nil else { return }
      input(side, .closed(ConnectionID(id), "end of stream"))
    }
  }
}

@Suite("Two sessions, one simulated network")
struct SimulationTests {
  func fabric(seed: UInt64, _ change: (inout SessionConfiguration) -> Void = { _ in }) -> Fabric {
    Fabric(
      configuration(id: "10.0.0.1") { change(&$0); $0.jitterSeed = seed },
      configuration(id: "10.0.0.2") { change(&$0); $0.jitterSeed = seed + 1000 }, seed: seed)
  }
  func bothUp(_ fabric: Fabric) -> Bool { fabric.sessions.allSatisfy { $0.state == .established } }

  @Test("Both dial, collide, and agree on one connection", arguments: 1...300)
  func collision(seed: Int) {
    var fabric = fabric(seed: UInt64(seed))
    fabric.input(0, .start)
    fabric.post(.input(side: 1, .start), after: .milliseconds(seed % 7 * 5))
    let came = fabric.run(for: .seconds(30), until: bothUp)
    #expect(came, "seed \(seed)")
    fabric.run(for: .seconds(600))
    #expect(bothUp(fabric) && fabric.sessions[0].negotiated?.connection == fabric.sessions[1].negotiated?.connection, "seed \(seed)")
    // KEEPALIVEs hold it up; nothing flaps.
    #expect(fabric.sessions.allSatisfy { $0.counters.downs == 0 }, "seed \(seed)")
    #expect(fabric.sessions[0].counters.messagesIn >= 20)
  }

  @Test("A cut longer than the hold time ends both sides, and both return", arguments: 1...20)
  func cut(seed: Int) {
    var fabric = fabric(seed: UInt64(seed))
    fabric.input(0, .start)
    fabric.input(1, .start)
    fabric.run(for: .seconds(20))
    #expect(bothUp(fabric), "seed \(seed)")
    fabric.isCut = true
    fabric.run(for: .seconds(100))
    #expect(fabric.sessions.allSatisfy { $0.counters.downs == 1 }, "seed \(seed)")
    fabric.isCut = false
    let came = fabric.run(for: .seconds(60), until: bothUp)
    #expect(came, "seed \(seed): \(fabric.sessions.map(\.state))")
  }

  @Test("A shutdown is told, and a start brings the session back", arguments: 1...5)
  func shutdown(seed: Int) {
    var fabric = fabric(seed: UInt64(seed))
    fabric.input(0, .start)
    fabric.input(1, .start)
    fabric.run(for: .seconds(20))
    fabric.input(0, .stop(.cease(.administrativeShutdown, message: "maintenance")))
    fabric.run(for: .seconds(60))
    #expect(fabric.sessions[0].state == .idle && fabric.sessions[1].state != .established)
    #expect(fabric.sessions[1].counters.downs == 1)
    fabric.input(0, .start)
    let came = fabric.run(for: .seconds(40), until: bothUp)
    #expect(came, "seed \(seed)")
  }

  @Test("An abandoned session leaves its routes with the peer, and takes them up again")
  func abandon() {
    var fabric = fabric(seed: 4)
    fabric.input(0, .start)
    fabric.input(1, .start)
    fabric.run(for: .seconds(20))
    fabric.input(0, .abandon)
    fabric.run(for: .seconds(1))
    #expect(fabric.sessions[1].staleFamilies == [.ipv4Unicast])
    fabric.input(0, .start)
    let came = fabric.run(for: .seconds(40), until: bothUp)
    #expect(came)
    let id = fabric.sessions[0].negotiated!.connection.rawValue
    fabric.transmit(0, id, Message.update(Update(endOfRIB: .ipv4Unicast)).encoded())
    fabric.run(for: .seconds(1))
    #expect(fabric.sessions[1].staleFamilies.isEmpty && fabric.delivered[1] == [Update(endOfRIB: .ipv4Unicast)])
  }

  @Test("Whichever side restarts after a long absence, the session is back within a second", arguments: 1...50)
  func longAbsence(seed: Int) {
    for returning in 0...1 {
      var fabric = Fabric(
        configuration(id: "10.0.0.1") { $0.jitterSeed = UInt64(seed) },
        configuration(id: "10.0.0.2") { $0.isPassive = true; $0.jitterSeed = UInt64(seed) + 1000 }, seed: UInt64(seed))
      fabric.input(0, .start)
      fabric.input(1, .start)
      let came = fabric.run(for: .seconds(1), until: bothUp)
      #expect(came, "seed \(seed)")
      fabric.run(for: .seconds(30))
      fabric.input(returning, .abandon)
      fabric.run(for: .seconds(60))
      fabric.input(returning, .start)
      let returned = fabric.run(for: .seconds(1), until: bothUp)
      #expect(returned, "seed \(seed), side \(returning): \(fabric.sessions.map(\.state))")
      fabric.run(for: .seconds(300))
      #expect(bothUp(fabric) && fabric.sessions.allSatisfy { $0.counters.downs <= 1 })
    }
  }

  @Test("One passive side, and no hold time, still make a session", arguments: 1...5)
  func passive(seed: Int) {
    var fabric = Fabric(
      configuration(id: "10.0.0.9") { $0.isPassive = true; $0.holdTime = .zero }, configuration(id: "10.0.0.2"), seed: UInt64(seed))
    fabric.input(0, .start)
    fabric.input(1, .start)
    let came = fabric.run(for: .seconds(30), until: bothUp)
    #expect(came)
    fabric.run(for: .seconds(3600))
    #expect(bothUp(fabric) && fabric.sessions[0].counters.messagesIn == 2)
  }
}

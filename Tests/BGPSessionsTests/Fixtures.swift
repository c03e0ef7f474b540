/// What the session tests share: configurations, addresses, a session brought to a given state.
import Addresses
import BGPMessages
@testable import BGPSessions
import Testing

let here = IPAddress("192.0.2.1")!
let there = IPAddress("192.0.2.2")!
let epoch = Instant(nanoseconds: 1_000_000_000_000)

func configuration(
  as localAS: ASNumber = 64512, peer: ASNumber? = 64512, id: String = "10.0.0.1", _ change: (inout SessionConfiguration) -> Void = { _ in }
) -> SessionConfiguration {
  var result = SessionConfiguration(localAS: localAS, peerAS: peer, routerID: RouterID(id)!)
  change(&result)
  return result
}

/// The OPEN of an ordinary peer.
func peerOpen(
  as number: ASNumber = 64512, hold: UInt16 = 90, id: String = "10.0.0.2",
  capabilities: [Capability]? = nil, restart: Capability.GracefulRestart? = nil
) -> Open {
  let usual: [Capability] = [.multiprotocol(.ipv4Unicast), .fourOctetAS(number), .routeRefresh]
  return Open(
    asNumber: number, holdTimeSeconds: hold, routerID: RouterID(id)!,
    capabilities: capabilities ?? usual + (restart.map { [.gracefulRestart($0)] } ?? []))
}

/// A session and the time it lives in.
struct Bench {
  var session: PeerSession
  var now = epoch
  let outgoing = ConnectionID(1)
  let incoming = ConnectionID(2)

  init(_ configuration: SessionConfiguration = BGPSessionsTests.configuration()) { session = PeerSession(configuration, at: epoch) }

  @discardableResult
  mutating func send(_ input: PeerSession.Input, after pause: Duration = .zero) -> [PeerSession.Action] {
    now = now + pause
    return session.receive(input, at: now)
  }
  @discardableResult
  mutating func hear(_ message: Message, on id: ConnectionID? = nil, after pause: Duration = .zero) -> [PeerSession.Action] {
    send(.message(id ?? outgoing, message, octets: 19), after: pause)
  }
  mutating func connect(_ direction: Direction = .outgoing, _ id: ConnectionID? = nil) -> [PeerSession.Action] {
    send(.connected(id ?? (direction == .outgoing ? outgoing : incoming), direction, local: here, peer: there))
  }
  /// Brings a fresh session to `state` over a connection of ours.
  mutating func bring(to state: PeerSession.State, open: Open = peerOpen()) {
    if state == .idle { return }
    send(.start)
    if state == .connect { return }
    if state == .active {
      send(.connectFailed("connection refused"))
      return
    }
    _ = connect()
    if state == .openSent { return }
    hear(.open(open))
    if state == .openConfirm { return }
    hear(.keepalive)
  }
}

extension [PeerSession.Action] {
  var sent: [Message] {
    compactMap { if case .send(_, let message) = $0 { message } else { nil } }
  }
  var notifications: [Notification] {
    compactMap { if case .send(_, .notification(let notification)) = $0 { notification } else { nil } }
  }
  var downs: [PeerSession.Down] { compactMap { if case .down(let down) = $0 { down } else { nil } } }
  var establishments: [Negotiated] { compactMap { if case .established(let terms) = $0 { terms } else { nil } } }
  func closes(_ id: ConnectionID) -> Bool { contains(.close(id)) }
  func due(_ timer: PeerSession.Timer) -> Instant? {
    for case .arm(timer, let instant) in self { return instant }
    return nil
  }
}

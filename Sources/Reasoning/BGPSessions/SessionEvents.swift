/// What a session hears and what it asks for: the events of RFC 4271, section 8.1, and their answers, as values.
import Addresses
import BGPMessages

/// Names a TCP connection; the transport chooses and never uses a number twice for a session.
@frozen
public struct ConnectionID: Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt64
  @inlinable public init(_ rawValue: UInt64) { self.rawValue = rawValue }
  public var description: String { "connection \(rawValue)" }
}

/// Who opened a connection.
public enum Direction: Hashable, Sendable {
  case outgoing
  case incoming
}

extension PeerSession {
  /// The states of RFC 4271, section 8.2.2; with two connections at once, that of the one which is furthest.
  public enum State: Int, Hashable, Comparable, Sendable, CaseIterable, CustomStringConvertible {
    case idle
    case connect
    case active
    case openSent
    case openConfirm
    case established
    public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
    /// As `birdc` and the RFC write it.
    public var description: String {
      switch self {
      case .idle: "Idle"
      case .connect: "Connect"
      case .active: "Active"
      case .openSent: "OpenSent"
      case .openConfirm: "OpenConfirm"
      case .established: "Established"
      }
    }
  }

  public enum Timer: Hashable, Sendable {
    case connectRetry
    /// The pause after an error.
    case idleHold
    /// A peer that is away keeps its routes until then (RFC 4724, section 4.2).
    case restart
    /// A peer that has returned must have told its routes again by then.
    case stale
    case hold(ConnectionID)
    case keepalive(ConnectionID)
  }

  public enum Input: Hashable, Sendable {
    /// Events 1, 4: bring the session up and keep it up.
    case start
    /// Event 2: send the notification and stay down until `start`.
    case stop(Notification)
    /// Close without a word and stay down: our process ends, and peers with graceful restart keep our routes.
    case abandon
    /// Like `stop`, but come back at once: for a reset by the operator.
    case reset(Notification)
    /// Events 16, 17: a connection is there, asked for or accepted.
    case connected(ConnectionID, Direction, local: IPAddress, peer: IPAddress)
    /// Event 18 for a connection that was asked for; the text is the cause in the kernel's words.
    case connectFailed(String)
    /// Event 18: the peer or the network has closed.
    case closed(ConnectionID, String)
    /// Events 19, 21, 24-27; `octets` is the length of the message.
    case message(ConnectionID, Message, octets: Int)
    /// Events 21, 22, 28: what cannot be read.
    case failure(ConnectionID, MessageFailure)
    /// Events 9-13 and the pause of event 8.
    case expired(Timer)
    /// The peer takes nothing any more, or too slowly; the text says which.
    case stalled(String)
    /// More prefixes than allowed came in a family (RFC 4486, section 4).
    case prefixLimitExceeded(AddressFamily, limit: UInt32)
  }

  public enum Action: Hashable, Sendable {
    /// Open a connection to the peer; answer with `connected` or `connectFailed`.
    case connect
    /// Give up the attempt that is under way; no answer is wanted.
    case cancelConnect
    case send(ConnectionID, Message)
    /// Close once everything that was sent is out; no `closed` is wanted.
    case close(ConnectionID)
    /// Replaces an earlier instant of the same timer.
    case arm(Timer, at: Instant)
    case disarm(Timer)
    /// Routes may flow.
    case established(Negotiated)
    /// Routes of the peer are void, but for those retained.
    case down(Down)
    case deliver(Update)
    /// The peer asks for our routes of a family, or bounds its answer to such a wish.
    case refresh(RouteRefresh)
    /// Drop the family's routes and ignore it until the session restarts (RFC 7606, section 2).
    case disable(AddressFamily)
    /// Drop what is still stale in these families (RFC 4724, section 4.2).
    case sweep([AddressFamily])
  }

  /// How an established session ended.
  public struct Down: Hashable, Sendable {
    public var reason: String
    /// What was sent or received, if anything.
    public var notification: Notification?
    /// Families whose routes stay, marked stale, until a `sweep`.
    public var retained: [AddressFamily]
  }

  /// What a status shows; all counts are since the session was created.
  public struct Counters: Hashable, Sendable {
    public var messagesIn: UInt64 = 0
    public var messagesOut: UInt64 = 0
    public var updatesIn: UInt64 = 0
    public var updatesOut: UInt64 = 0
    public var octetsIn: UInt64 = 0
    public var octetsOut: UInt64 = 0
    /// How often the session came up, and how often it ended.
    public var established: UInt64 = 0
    public var downs: UInt64 = 0
    /// Faults that were tolerated (RFC 7606).
    public var toleratedFaults: UInt64 = 0
  }

  /// Why the session is not up, or was not, in words for an operator.
  public struct LastError: Hashable, Sendable {
    public var text: String
    public var at: Instant
    public var notification: Notification?
    /// The peer said it; otherwise we did or the network.
    public var isFromPeer: Bool
  }
}

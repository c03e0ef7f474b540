/// What goes wrong in messages, worded by the reaction.
import Addresses

/// What an UPDATE we cannot accept as it stands costs us (RFC 7606, section 2).
public enum UpdateFault: Error, Hashable, Sendable {
  /// The attribute is dropped, the rest is used.
  case discardAttribute(code: UInt8)
  /// The destinations of the UPDATE become withdrawals.
  case treatAsWithdraw
  /// Routes of the family are deleted, and those to come are ignored until the session ends.
  case disableFamily(AddressFamily)
  case resetSession(Notification)
}

/// A fault that was tolerated, for the log.
public struct UpdateRemark: Hashable, Sendable, CustomStringConvertible {
  public var fault: UpdateFault
  public var reason: String
  public init(_ fault: UpdateFault, _ reason: String) {
    self.fault = fault
    self.reason = reason
  }
  public var description: String {
    switch fault {
    case .discardAttribute(let code): "\(AttributeCode.name(code)) is ignored: \(reason)"
    case .treatAsWithdraw: "the routes count as withdrawn: \(reason)"
    case .disableFamily(let family): "\(family) is off until the session restarts: \(reason)"
    case .resetSession(let notification): "the session ends (\(notification)): \(reason)"
    }
  }
}

/// A message that ends the session: what to tell the peer, and what to tell our operator.
public struct MessageFailure: Error, Hashable, Sendable, CustomStringConvertible {
  public var notification: Notification
  public var reason: String
  public init(_ notification: Notification, _ reason: String) {
    self.notification = notification
    self.reason = reason
  }
  public var description: String { "\(notification): \(reason)" }
}

/// What a decoder must know about the session. The values before OPENs are exchanged are the defaults.
public struct DecodeOptions: Hashable, Sendable {
  /// The peer is in another AS: what only makes sense inside an AS is discarded.
  public var isExternal: Bool
  /// AS numbers in AS_PATH and AGGREGATOR have four octets (RFC 6793).
  public var fourOctetAS: Bool
  /// Families whose routes we take; others are passed over in silence (RFC 4760, section 7).
  public var families: Set<AddressFamily>
  /// Families in which the peer sends path identifiers (RFC 7911).
  public var addPath: Set<AddressFamily>
  /// Families whose next hops may be of the other address family (RFC 8950).
  public var extendedNextHop: Set<AddressFamily>
  /// Messages may be up to 65535 octets long (RFC 8654).
  public var extendedMessages: Bool
  /// Our addresses towards the peer: no next hop may be one of them (RFC 4271, section 6.3).
  public var localAddresses: [IPAddress]
  /// Set to insist that the path begins with this number (RFC 4271, section 6.3); nil for route servers' clients.
  public var firstAS: ASNumber?
  /// The peer belongs to our confederation, so that it may send confederation segments (RFC 5065, section 5).
  public var isConfederationMember: Bool
  /// A broken MP_REACH_NLRI or MP_UNREACH_NLRI turns its family off rather than the session (RFC 7606, sections 2 and 7.11). The default is
  /// a session reset, which heals itself.
  public var disablesFamilies: Bool

  public init(
    isExternal: Bool = false, fourOctetAS: Bool = true, families: Set<AddressFamily> = [.ipv4Unicast],
    addPath: Set<AddressFamily> = [], extendedNextHop: Set<AddressFamily> = [], extendedMessages: Bool = false,
    localAddresses: [IPAddress] = [], firstAS: ASNumber? = nil, isConfederationMember: Bool = false, disablesFamilies: Bool = false
  ) {
    self.isExternal = isExternal
    self.fourOctetAS = fourOctetAS
    self.families = families
    self.addPath = addPath
    self.extendedNextHop = extendedNextHop
    self.extendedMessages = extendedMessages
    self.localAddresses = localAddresses
    self.firstAS = firstAS
    self.isConfederationMember = isConfederationMember
    self.disablesFamilies = disablesFamilies
  }
  public var messageLengthMax: Int { extendedMessages ? MessageLength.extendedMax : MessageLength.standardMax }
}

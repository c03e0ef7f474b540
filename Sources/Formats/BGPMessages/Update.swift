/// UPDATE: destinations that are gone, destinations that can be reached, and how (RFC 4271, section 4.3; RFC 4760).

public struct Update: Hashable, Sendable {
  /// Destinations of one family that the peer no longer offers.
  public struct Withdrawal: Hashable, Sendable {
    public var family: AddressFamily
    public var destinations: [NLRI]
    public init(_ family: AddressFamily, _ destinations: [NLRI]) {
      self.family = family
      self.destinations = destinations
    }
  }
  /// Destinations of one family with everything that is said about them.
  public struct Announcement: Hashable, Sendable {
    public var family: AddressFamily
    public var attributes: PathAttributes
    public var destinations: [NLRI]
    public init(_ family: AddressFamily, _ attributes: PathAttributes, _ destinations: [NLRI]) {
      self.family = family
      self.attributes = attributes
      self.destinations = destinations
    }
  }
  /// To be applied before the announcements.
  public var withdrawals: [Withdrawal]
  public var announcements: [Announcement]
  /// Set if this is the End-of-RIB marker of a family (RFC 4724, section 2).
  public var endOfRIB: AddressFamily?
  /// What was wrong and tolerated. A session looks here for `.disableFamily`.
  public var remarks: [UpdateRemark]

  public init(
    withdrawals: [Withdrawal] = [], announcements: [Announcement] = [], endOfRIB: AddressFamily? = nil, remarks: [UpdateRemark] = []
  ) {
    self.withdrawals = withdrawals
    self.announcements = announcements
    self.endOfRIB = endOfRIB
    self.remarks = remarks
  }
}

/// A wish for all routes of a family, or the bounds of an answer to it (RFC 2918, RFC 7313).
public struct RouteRefresh: Hashable, Sendable {
  public enum Kind: UInt8, Hashable, Sendable {
    case request = 0
    case begin = 1
    case end = 2
  }
  public var family: AddressFamily
  /// Nil for a subtype that we do not know, which is ignored (RFC 7313, section 5).
  public var kind: Kind?
  public init(_ family: AddressFamily, _ kind: Kind? = .request) {
    self.family = family
    self.kind = kind
  }
}

/// Any message, decoded.
public enum Message: Hashable, Sendable {
  case open(Open)
  case update(Update)
  case notification(Notification)
  case keepalive
  case routeRefresh(RouteRefresh)

  public var type: MessageType {
    switch self {
    case .open: .open
    case .update: .update
    case .notification: .notification
    case .keepalive: .keepalive
    case .routeRefresh: .routeRefresh
    }
  }
}

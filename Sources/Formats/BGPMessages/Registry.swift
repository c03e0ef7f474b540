/// Numbers from the registry https://www.iana.org/assignments/bgp-parameters.

/// Message types (RFC 4271, section 4.1; RFC 2918).
public enum MessageType: UInt8, Sendable, CaseIterable, CustomStringConvertible {
  case open = 1
  case update = 2
  case notification = 3
  case keepalive = 4
  case routeRefresh = 5

  /// The least length of the whole message, header included (RFC 4271, section 6.1; RFC 2918).
  public var lengthMin: Int {
    switch self {
    case .open: 29
    case .update: 23
    case .notification: 21
    case .keepalive: 19
    case .routeRefresh: 23
    }
  }
  public var description: String {
    switch self {
    case .open: "OPEN"
    case .update: "UPDATE"
    case .notification: "NOTIFICATION"
    case .keepalive: "KEEPALIVE"
    case .routeRefresh: "ROUTE-REFRESH"
    }
  }
}

/// Lengths in octets that the protocol fixes.
public enum MessageLength {
  /// Marker, length, type.
  public static let header = 19
  /// RFC 4271, section 4.1.
  public static let standardMax = 4096
  /// RFC 8654; OPEN and KEEPALIVE stay at the standard maximum.
  public static let extendedMax = 65535
}

/// Codes of path attributes.
public enum AttributeCode {
  public static let origin: UInt8 = 1
  public static let asPath: UInt8 = 2
  public static let nextHop: UInt8 = 3
  public static let multiExitDiscriminator: UInt8 = 4
  public static let localPreference: UInt8 = 5
  public static let atomicAggregate: UInt8 = 6
  public static let aggregator: UInt8 = 7
  public static let communities: UInt8 = 8
  public static let originatorID: UInt8 = 9
  public static let clusterList: UInt8 = 10
  public static let mpReach: UInt8 = 14
  public static let mpUnreach: UInt8 = 15
  public static let extendedCommunities: UInt8 = 16
  public static let as4Path: UInt8 = 17
  public static let as4Aggregator: UInt8 = 18
  public static let largeCommunities: UInt8 = 32
  public static let onlyToCustomer: UInt8 = 35

  /// The name in the registry, or the bare number.
  public static func name(_ code: UInt8) -> String {
    switch code {
    case origin: "ORIGIN"
    case asPath: "AS_PATH"
    case nextHop: "NEXT_HOP"
    case multiExitDiscriminator: "MULTI_EXIT_DISC"
    case localPreference: "LOCAL_PREF"
    case atomicAggregate: "ATOMIC_AGGREGATE"
    case aggregator: "AGGREGATOR"
    case communities: "COMMUNITIES"
    case originatorID: "ORIGINATOR_ID"
    case clusterList: "CLUSTER_LIST"
    case mpReach: "MP_REACH_NLRI"
    case mpUnreach: "MP_UNREACH_NLRI"
    case extendedCommunities: "EXTENDED COMMUNITIES"
    case as4Path: "AS4_PATH"
    case as4Aggregator: "AS4_AGGREGATOR"
    case largeCommunities: "LARGE_COMMUNITY"
    case onlyToCustomer: "ONLY_TO_CUSTOMER"
    default: "attribute \(code)"
    }
  }
}

/// The flag octet of a path attribute (RFC 4271, section 4.3).
enum AttributeFlag {
  static let optional: UInt8 = 0x80
  static let transitive: UInt8 = 0x40
  static let partial: UInt8 = 0x20
  static let extendedLength: UInt8 = 0x10
}

/// Codes of capabilities (RFC 5492).
public enum CapabilityCode {
  public static let multiprotocol: UInt8 = 1
  public static let routeRefresh: UInt8 = 2
  public static let extendedNextHop: UInt8 = 5
  public static let extendedMessage: UInt8 = 6
  public static let role: UInt8 = 9
  public static let gracefulRestart: UInt8 = 64
  public static let fourOctetAS: UInt8 = 65
  public static let addPath: UInt8 = 69
  public static let enhancedRouteRefresh: UInt8 = 70
}

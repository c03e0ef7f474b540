/// What the routing table knows of a neighbour whose session is established, and what makes two neighbours share one outbound
/// computation.

import Addresses
import BGPMessages

/// The number of a neighbour. The program hands them out; small numbers that are used again keep the tables small.
@frozen
public struct PeerID: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  public let rawValue: Int32
  @inlinable public init(rawValue: Int32) { self.rawValue = rawValue }
  @inlinable public init(_ number: Int) { rawValue = Int32(number) }
  /// The source of routes that this host originates.
  public static let local = PeerID(rawValue: -1)
  @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  public var description: String { self == .local ? "local" : "peer \(rawValue)" }
}

/// What becomes of the next hop of routes that are passed on.
public enum NextHopMode: Hashable, Sendable {
  /// Own address to external peers and for own routes; kept between internal peers (RFC 4271, section 5.1.3).
  case automatic
  case ownAddress
  /// As received wherever there is one.
  case keep
}

/// All that the form of outgoing UPDATE messages depends on. Peers with equal values form one outbound group: their updates are
/// computed and encoded once.
public struct ExportConfiguration: Hashable, Sendable {
  public var isExternal: Bool
  public var localAS: ASNumber
  public var isReflectorClient = false
  public var nextHopMode = NextHopMode.automatic
  /// Our end of the session: the next hop of what we announce as ours.
  public var localAddress: IPAddress
  /// Our address in the other family, for routes of that family over this session.
  public var localAddressOther: IPAddress?
  public var families: Set<IPFamily>
  /// What the peer's capabilities allow.
  public var encoding = EncodeOptions()
  /// Number of the export policy, see `RoutingTable.Input.exportPolicy`.
  public var policy = 0

  public init(isExternal: Bool, localAS: ASNumber, localAddress: IPAddress, families: Set<IPFamily>) {
    self.isExternal = isExternal
    self.localAS = localAS
    self.localAddress = localAddress
    self.families = families
  }
}

/// A neighbour with an established session.
public struct RoutePeer: Hashable, Sendable {
  public var name: String
  public var address: IPAddress
  public var port: UInt16 = 179
  public var asNumber: ASNumber
  /// From its OPEN.
  public var routerID: RouterID
  /// How often our own AS may stand in a received AS path.
  public var ownASAllowed = 0
  public var export: ExportConfiguration

  public init(name: String, address: IPAddress, asNumber: ASNumber, routerID: RouterID, export: ExportConfiguration) {
    self.name = name
    self.address = address
    self.asNumber = asNumber
    self.routerID = routerID
    self.export = export
  }

  public var isExternal: Bool { export.isExternal }
  public var isReflectorClient: Bool { export.isReflectorClient }
}

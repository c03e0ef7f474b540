/// What an UPDATE says about all of its destinations. Many routes share one `PathAttributes`: intern it once per UPDATE, hold an index.
import Addresses

/// Where packets for a destination go (RFC 4271, section 5.1.3; RFC 2545; RFC 8950).
@frozen
public enum NextHop: Hashable, Sendable, CustomStringConvertible {
  case v4(IPv4Address)
  /// The global address may be link-local itself or `::` where a peer has no other; the second address is for a shared subnet.
  case v6(IPv6Address, linkLocal: IPv6Address?)

  @inlinable public init(_ address: IPAddress) {
    switch address {
    case .v4(let address): self = .v4(address)
    case .v6(let address): self = .v6(address, linkLocal: nil)
    }
  }
  /// The address to resolve; the global one for IPv6.
  @inlinable public var address: IPAddress {
    switch self {
    case .v4(let address): .v4(address)
    case .v6(let address, _): .v6(address)
    }
  }
  public var description: String {
    switch self {
    case .v4(let address): address.description
    case .v6(let address, let linkLocal): linkLocal.map { "\(address) (\($0))" } ?? address.description
    }
  }
}

/// Smaller is preferred (RFC 4271, section 9.1.2.2 (b)).
public enum Origin: UInt8, Hashable, Comparable, Sendable, CustomStringConvertible {
  case igp = 0
  case egp = 1
  case incomplete = 2
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  public var description: String {
    switch self {
    case .igp: "IGP"
    case .egp: "EGP"
    case .incomplete: "incomplete"
    }
  }
}

/// Who made the aggregate (RFC 4271, section 5.1.7).
public struct Aggregator: Hashable, Sendable, CustomStringConvertible {
  public var asNumber: ASNumber
  public var address: IPv4Address
  public init(asNumber: ASNumber, address: IPv4Address) {
    self.asNumber = asNumber
    self.address = address
  }
  public var description: String { "AS \(asNumber) \(address)" }
}

/// RFC 1997: two halves of 16 bits.
@frozen
public struct Community: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let rawValue: UInt32
  @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  @inlinable public init(_ high: UInt16, _ low: UInt16) { rawValue = UInt32(high) << 16 | UInt32(low) }
  /// "65001:300".
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 2, let high = UInt16(decimal: parts[0]), let low = UInt16(decimal: parts[1]) else { return nil }
    self.init(high, low)
  }
  public static let noExport = Community(rawValue: 0xffff_ff01)
  public static let noAdvertise = Community(rawValue: 0xffff_ff02)
  public static let noExportSubconfed = Community(rawValue: 0xffff_ff03)
  /// RFC 3765.
  public static let noPeer = Community(rawValue: 0xffff_ff04)
  /// RFC 8326.
  public static let gracefulShutdown = Community(rawValue: 0xffff_0000)
  /// RFC 7999.
  public static let blackhole = Community(rawValue: 0xffff_029a)
  @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  public var description: String { "\(rawValue >> 16):\(rawValue & 0xffff)" }
}

/// RFC 4360: eight octets whose meaning the first one or two tell.
@frozen
public struct ExtendedCommunity: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue }
  /// RFC 4360, section 2: the T bit tells whether it may leave the AS.
  @inlinable public var isTransitive: Bool { rawValue >> 62 & 1 == 0 }
  @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  public var description: String {
    let digits = String(rawValue, radix: 16)
    return "0x" + String(repeating: "0", count: 16 - digits.count) + digits
  }
}

/// RFC 8092: three numbers of 32 bits.
@frozen
public struct LargeCommunity: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let global: UInt32
  public let local1: UInt32
  public let local2: UInt32
  @inlinable public init(_ global: UInt32, _ local1: UInt32, _ local2: UInt32) {
    self.global = global
    self.local1 = local1
    self.local2 = local2
  }
  /// "4200000001:1:2".
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 3, let global = UInt32(decimal: parts[0]), let local1 = UInt32(decimal: parts[1]),
      let local2 = UInt32(decimal: parts[2])
    else { return nil }
    self.init(global, local1, local2)
  }
  @inlinable public static func < (a: Self, b: Self) -> Bool { (a.global, a.local1, a.local2) < (b.global, b.local1, b.local2) }
  public var description: String { "\(global):\(local1):\(local2)" }
}

extension FixedWidthInteger {
  /// Decimal digits only; `Self(_:)` would take a sign as well.
  init?(decimal text: some StringProtocol) {
    guard !text.isEmpty, text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
    self.init(text)
  }
}

/// An optional transitive attribute that we do not know and pass on; its Partial bit is set when it is sent (RFC 4271, section 5).
public struct UnknownAttribute: Hashable, Sendable {
  public var code: UInt8
  public var octets: [UInt8]
  public init(code: UInt8, octets: [UInt8]) {
    self.code = code
    self.octets = octets
  }
}

/// Which of the optional transitive attributes that we know came with the Partial bit: it must stay set (RFC 4271, section 5).
@frozen
public struct PartialAttributes: OptionSet, Hashable, Sendable {
  public let rawValue: UInt8
  @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
  public static let aggregator = PartialAttributes(rawValue: 1)
  public static let communities = PartialAttributes(rawValue: 2)
  public static let extendedCommunities = PartialAttributes(rawValue: 4)
  public static let largeCommunities = PartialAttributes(rawValue: 8)
  public static let onlyToCustomer = PartialAttributes(rawValue: 16)
}

/// The path attributes of a route. Lists keep the order in which they came.
public struct PathAttributes: Hashable, Sendable {
  public var nextHop: NextHop
  public var asPath: ASPath
  public var origin: Origin
  public var isAtomicAggregate = false
  public var partial: PartialAttributes = []
  public var multiExitDiscriminator: UInt32?
  /// Only towards internal peers.
  public var localPreference: UInt32?
  public var aggregator: Aggregator?
  public var communities: [Community] = []
  public var extendedCommunities: [ExtendedCommunity] = []
  public var largeCommunities: [LargeCommunity] = []
  /// Who brought the route into the AS (RFC 4456, section 8).
  public var originatorID: RouterID?
  /// The clusters that the route was reflected through, latest first (RFC 4456, section 8).
  public var clusterList: [RouterID] = []
  /// RFC 9234, section 5.
  public var onlyToCustomer: ASNumber?
  /// Ascending by code.
  public var unknown: [UnknownAttribute] = []

  public init(nextHop: NextHop, asPath: ASPath = ASPath(), origin: Origin = .igp) {
    self.nextHop = nextHop
    self.asPath = asPath
    self.origin = origin
  }
}

/// The numbers that name things in BGP: autonomous systems, routers, address families.
import Addresses

/// An autonomous system number of four octets (RFC 6793).
@frozen
public struct ASNumber: Hashable, Comparable, Sendable {
  public let rawValue: UInt32
  @inlinable public init(_ rawValue: UInt32) { self.rawValue = rawValue }
  /// Stands for a number above 65535 towards a speaker of two-octet numbers (RFC 6793, section 4.2.2).
  public static let transition = ASNumber(23456)
  /// Reserved, never valid on the wire (RFC 7607).
  @inlinable public var isZero: Bool { rawValue == 0 }
  @inlinable public var fitsTwoOctets: Bool { rawValue <= 0xffff }
  /// RFC 6996: 64512-65534 and 4200000000-4294967294.
  public var isPrivate: Bool { (64512...65534).contains(rawValue) || (4_200_000_000...4_294_967_294).contains(rawValue) }
  /// The number, or `AS_TRANS` where it needs more than two octets.
  @inlinable public var twoOctets: UInt16 { fitsTwoOctets ? UInt16(truncatingIfNeeded: rawValue) : 23456 }
  @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }

  /// `asplain` ("4200000001") or `asdot` ("64086.59905", RFC 5396); an "AS" in front is tolerated.
  public init?(_ text: some StringProtocol) {
    var digits = Array(text.utf8)
    if digits.count > 2, digits[0] | 0x20 == UInt8(ascii: "a"), digits[1] | 0x20 == UInt8(ascii: "s") { digits.removeFirst(2) }
    func number(_ digits: ArraySlice<UInt8>, atMost limit: UInt64) -> UInt64? {
      guard (1...10).contains(digits.count) else { return nil }
      var value: UInt64 = 0
      for digit in digits {
        guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return nil }
        value = value * 10 + UInt64(digit - UInt8(ascii: "0"))
      }
      return value <= limit ? value : nil
    }
    if let dot = digits.firstIndex(of: UInt8(ascii: ".")) {
      guard let high = number(digits[..<dot], atMost: 0xffff), let low = number(digits[(dot + 1)...], atMost: 0xffff) else { return nil }
      rawValue = UInt32(high << 16 | low)
    } else {
      guard let value = number(digits[...], atMost: UInt64(UInt32.max)) else { return nil }
      rawValue = UInt32(value)
    }
  }
}

extension ASNumber: CustomStringConvertible, ExpressibleByIntegerLiteral {
  /// `asplain`, which RFC 5396 makes the standard form.
  public var description: String { String(rawValue) }
  public init(integerLiteral value: UInt32) { self.init(value) }
}

/// The BGP identifier of a speaker: four octets, unique within its AS, not zero (RFC 6286). Cluster ids have the same form.
@frozen
public struct RouterID: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let rawValue: UInt32
  @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  @inlinable public init(_ address: IPv4Address) { rawValue = address.rawValue }
  /// The dotted quad form.
  public init?(_ text: some StringProtocol) {
    guard let address = IPv4Address(text) else { return nil }
    rawValue = address.rawValue
  }
  @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  public var description: String { IPv4Address(rawValue: rawValue).description }
}

/// What kind of reachability is meant: AFI and SAFI (RFC 4760).
@frozen
public struct AddressFamily: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let afi: UInt16
  public let safi: UInt8
  @inlinable public init(afi: UInt16, safi: UInt8) {
    self.afi = afi
    self.safi = safi
  }
  public static let ipv4Unicast = AddressFamily(afi: 1, safi: 1)
  public static let ipv6Unicast = AddressFamily(afi: 2, safi: 1)
  @inlinable public init(unicast family: IPFamily) { self.init(afi: family == .v4 ? 1 : 2, safi: 1) }
  /// The family of the prefixes, for the two families whose routes we understand; nil for all others.
  @inlinable public var unicast: IPFamily? { safi != 1 ? nil : afi == 1 ? .v4 : afi == 2 ? .v6 : nil }
  @inlinable public static func < (a: Self, b: Self) -> Bool { (a.afi, a.safi) < (b.afi, b.safi) }
  public var description: String {
    switch self {
    case .ipv4Unicast: "ipv4-unicast"
    case .ipv6Unicast: "ipv6-unicast"
    default: "afi-\(afi)-safi-\(safi)"
    }
  }
}

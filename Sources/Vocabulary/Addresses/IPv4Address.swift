/// IPv4 and IPv6 addresses and prefixes are small integers here; text exists only at the rim.

/// A 32-bit Internet address.
@frozen
public struct IPv4Address: Hashable, Comparable, Sendable {
  /// The address as a number: 10.0.0.1 is 0x0a000001.
  public var rawValue: UInt32
  @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
  @inlinable public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) {
    rawValue = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
  }
  /// From exactly four octets in network order.
  @inlinable public init?(octets: some Collection<UInt8>) {
    guard octets.count == 4 else { return nil }
    rawValue = octets.reduce(0) { $0 << 8 | UInt32($1) }
  }
  @inlinable public var octets: [UInt8] {
    [UInt8(truncatingIfNeeded: rawValue >> 24), UInt8(truncatingIfNeeded: rawValue >> 16), UInt8(truncatingIfNeeded: rawValue >> 8),
     UInt8(truncatingIfNeeded: rawValue)]
  }
  @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }

  public static let unspecified = IPv4Address(rawValue: 0)
  public static let loopback = IPv4Address(127, 0, 0, 1)
  public var isMulticast: Bool { rawValue >> 28 == 0xe }
  public var isLoopback: Bool { rawValue >> 24 == 127 }
  public var isLinkLocal: Bool { rawValue >> 16 == 0xa9fe }
  public var isUnspecified: Bool { rawValue == 0 }

  /// Strict dotted quad: four decimal numbers without leading zeros (RFC 6943, section 3.1.1, warns of the looser forms).
  public init?(_ text: some StringProtocol) {
    var value: UInt32 = 0
    var parts = 0
    var number = -1
    var digits = 0
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"):
        if number == 0 { return nil }
        number = (number < 0 ? 0 : number) * 10 + Int(byte - UInt8(ascii: "0"))
        digits += 1
        if number > 255 || digits > 3 { return nil }
      case UInt8(ascii: "."):
        guard number >= 0, parts < 3 else { return nil }
        value = value << 8 | UInt32(number)
        parts += 1
        number = -1
        digits = 0
      default: return nil
      }
    }
    guard parts == 3, number >= 0 else { return nil }
    rawValue = value << 8 | UInt32(number)
  }
}

extension IPv4Address: CustomStringConvertible {
  public var description: String {
    "\(rawValue >> 24).\(rawValue >> 16 & 255).\(rawValue >> 8 & 255).\(rawValue & 255)"
  }
}

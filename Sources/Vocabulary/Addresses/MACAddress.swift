/// A 48-bit Ethernet address.
@frozen
public struct MACAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// The low 48 bits hold the address.
  public let rawValue: UInt64
  @inlinable public init(rawValue: UInt64) { self.rawValue = rawValue & 0xffff_ffff_ffff }
  @inlinable public init?(octets: some Collection<UInt8>) {
    guard octets.count == 6 else { return nil }
    rawValue = octets.reduce(0) { $0 << 8 | UInt64($1) }
  }
  /// Six pairs of hexadecimal digits joined by ":" or "-".
  public init?(_ text: some StringProtocol) {
    let bytes = Array(text.utf8)
    guard bytes.count == 17 else { return nil }
    var value: UInt64 = 0
    for (index, byte) in bytes.enumerated() {
      if index % 3 == 2 {
        guard byte == bytes[2], byte == UInt8(ascii: ":") || byte == UInt8(ascii: "-") else { return nil }
      } else {
        guard let digit = Character(UnicodeScalar(byte)).hexDigitValue else { return nil }
        value = value << 4 | UInt64(digit)
      }
    }
    rawValue = value
  }
  /// The address on the host's side of every workload interface, the same everywhere so that a workload may move.
  public static let hostSide = MACAddress(rawValue: 0xeeee_eeee_eeee)
  @inlinable public var octets: [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: rawValue >> UInt64(40 - $0 * 8)) } }
  @inlinable public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  /// The EUI-64 interface identifier under fe80::/64 (RFC 4291, appendix A): ee:ee:ee:ee:ee:ee gives fe80::ecee:eeff:feee:eeee.
  public var linkLocal: IPv6Address {
    IPv6Address(
      high: 0xfe80 << 48,
      low: ((rawValue >> 24) ^ 0x02_0000) << 40 | 0xff_fe00_0000 | (rawValue & 0xff_ffff))
  }
  public var description: String {
    octets.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
  }
}

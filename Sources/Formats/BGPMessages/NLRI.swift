/// One reachable destination as it travels in UPDATE messages, in the least space: collections of it are contiguous.
import Addresses

/// A prefix, with the path identifier of RFC 7911 where one was negotiated.
@frozen
public struct NLRI: Hashable, Sendable {
  /// The first 64 bits of the address, left aligned: 10.0.0.0/8 has 0x0a in its top octet. Bits past the length are zero.
  public let high: UInt64
  /// The last 64 bits of an IPv6 address; zero for IPv4.
  public let low: UInt64
  /// Zero where paths carry no identifier.
  public var pathID: UInt32
  /// 0...32 or 0...128
  public let length: UInt8
  public let family: IPFamily

  @inlinable public init(_ prefix: IPv4Prefix, pathID: UInt32 = 0) {
    high = UInt64(prefix.address.rawValue) << 32
    low = 0
    length = prefix.length
    family = .v4
    self.pathID = pathID
  }
  @inlinable public init(_ prefix: IPv6Prefix, pathID: UInt32 = 0) {
    high = prefix.address.high
    low = prefix.address.low
    length = prefix.length
    family = .v6
    self.pathID = pathID
  }
  @inlinable public init(_ prefix: IPPrefix, pathID: UInt32 = 0) {
    switch prefix {
    case .v4(let prefix): self.init(prefix, pathID: pathID)
    case .v6(let prefix): self.init(prefix, pathID: pathID)
    }
  }
  @inlinable public var prefix: IPPrefix {
    switch family {
    case .v4: .v4(IPv4Prefix(IPv4Address(rawValue: UInt32(truncatingIfNeeded: high >> 32)), length: length))
    case .v6: .v6(IPv6Prefix(IPv6Address(high: high, low: low), length: length))
    }
  }
  /// Octets on the wire.
  @inlinable func encodedCount(addPath: Bool) -> Int { 1 + (Int(length) + 7) >> 3 + (addPath ? 4 : 0) }
}

extension NLRI: Comparable, CustomStringConvertible {
  @inlinable public static func < (a: Self, b: Self) -> Bool {
    if a.family != b.family { return a.family < b.family }
    if a.high != b.high { return a.high < b.high }
    if a.low != b.low { return a.low < b.low }
    return a.length != b.length ? a.length < b.length : a.pathID < b.pathID
  }
  public var description: String { pathID == 0 ? "\(prefix)" : "\(prefix)#\(pathID)" }
}

extension NLRI {
  /// Reads the prefixes in `range` of `octets`, or answers nil where they are syntactically incorrect (RFC 7606, section 5.3).
  /// Bits past a prefix's length are of no consequence (RFC 4271, section 4.3) and are cleared.
  static func decode(_ octets: Span<UInt8>, _ range: Range<Int>, family: IPFamily, addPath: Bool) -> [NLRI]? {
    var result: [NLRI] = []
    result.reserveCapacity(range.count / (family == .v4 ? 4 : 8) + 1)
    var at = range.lowerBound
    let end = range.upperBound
    while at < end {
      var pathID: UInt32 = 0
      if addPath {
        guard end - at > 4 else { return nil }
        pathID = UInt32(octets[at]) << 24 | UInt32(octets[at + 1]) << 16 | UInt32(octets[at + 2]) << 8 | UInt32(octets[at + 3])
        at += 4
      }
      let length = octets[at]
      at += 1
      let count = (Int(length) + 7) >> 3
      guard Int(length) <= family.bits, end - at >= count else { return nil }
      var high: UInt64 = 0
      var low: UInt64 = 0
      var shift: UInt64 = 56
      for index in at..<(at + min(count, 8)) {
        high |= UInt64(octets[index]) << shift
        shift &-= 8
      }
      if count > 8 {
        shift = 56
        for index in (at + 8)..<(at + count) {
          low |= UInt64(octets[index]) << shift
          shift &-= 8
        }
      }
      at += count
      switch family {
      case .v4:
        result.append(NLRI(IPv4Prefix(IPv4Address(rawValue: UInt32(truncatingIfNeeded: high >> 32)), length: length), pathID: pathID))
      case .v6: result.append(NLRI(IPv6Prefix(IPv6Address(high: high, low: low), length: length), pathID: pathID))
      }
    }
    return result
  }
}

/// A 128-bit Internet address; text form as RFC 5952 recommends.
@frozen
public struct IPv6Address: Hashable, Comparable, Sendable {
  public var high: UInt64
  public var low: UInt64
  @inlinable public init(high: UInt64, low: UInt64) {
    self.high = high
    self.low = low
  }
  /// From exactly sixteen octets in network order.
  @inlinable public init?(octets: some Collection<UInt8>) {
    guard octets.count == 16 else { return nil }
    high = octets.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    low = octets.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) }
  }
  @inlinable public var octets: [UInt8] {
    (0..<16).map { UInt8(truncatingIfNeeded: ($0 < 8 ? high : low) >> UInt64(56 - ($0 & 7) * 8)) }
  }
  @inlinable public static func < (a: Self, b: Self) -> Bool { (a.high, a.low) < (b.high, b.low) }

  public static let unspecified = IPv6Address(high: 0, low: 0)
  public static let loopback = IPv6Address(high: 0, low: 1)
  public var isMulticast: Bool { high >> 56 == 0xff }
  public var isLoopback: Bool { self == .loopback }
  public var isLinkLocal: Bool { high >> 54 == 0xfe80 >> 6 }
  public var isUnspecified: Bool { high | low == 0 }
  /// The IPv4 address inside ::ffff:0:0/96, if it is one (RFC 4291, section 2.5.5.2).
  public var mappedIPv4: IPv4Address? {
    high == 0 && low >> 32 == 0xffff ? IPv4Address(rawValue: UInt32(truncatingIfNeeded: low)) : nil
  }
  var groups: [UInt16] { (0..<8).map { UInt16(truncatingIfNeeded: ($0 < 4 ? high : low) >> UInt64(48 - ($0 & 3) * 16)) } }

  /// Any form of RFC 4291, section 2.2, including a trailing dotted quad; no zone.
  public init?(_ text: some StringProtocol) {
    var groups: [UInt16] = []
    var gap: Int?
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count >= 3, parts.count <= 9 else { return nil }
    for (index, part) in parts.enumerated() {
      if part.isEmpty {
        // "::" gives one empty part inside, two at either end, three alone.
        if index == 0 {
          guard parts[1].isEmpty else { return nil }
        } else if index == parts.count - 1 {
          guard parts[index - 1].isEmpty else { return nil }
          if gap == nil { return nil }
        } else if gap == nil {
          gap = groups.count
        } else {
          return nil
        }
      } else if index == parts.count - 1, part.utf8.contains(UInt8(ascii: ".")) {
        guard let quad = IPv4Address(part) else { return nil }
        groups.append(UInt16(truncatingIfNeeded: quad.rawValue >> 16))
        groups.append(UInt16(truncatingIfNeeded: quad.rawValue))
      } else {
        guard part.utf8.count <= 4, let group = UInt16(hexadecimal: part) else { return nil }
        groups.append(group)
      }
    }
    if let gap {
      guard groups.count < 8 else { return nil }
      groups.insert(contentsOf: repeatElement(0, count: 8 - groups.count), at: gap)
    }
    guard groups.count == 8 else { return nil }
    high = groups[0..<4].reduce(0) { $0 << 16 | UInt64($1) }
    low = groups[4..<8].reduce(0) { $0 << 16 | UInt64($1) }
  }
}

extension UInt16 {
  /// Hexadecimal digits only; `UInt16(_:radix:)` would take a sign as well.
  init?(hexadecimal text: some StringProtocol) {
    guard !text.isEmpty, text.utf8.allSatisfy({ $0 != UInt8(ascii: "+") && $0 != UInt8(ascii: "-") }) else { return nil }
    self.init(text, radix: 16)
  }
}

extension IPv6Address: CustomStringConvertible {
  /// RFC 5952, section 4: lower case, the longest run of two or more zero groups (the first of equals) becomes "::".
  public var description: String {
    if let mappedIPv4 { return "::ffff:\(mappedIPv4)" }
    let groups = groups
    var best = 0..<0
    var index = 0
    while index < 8 {
      var end = index
      while end < 8, groups[end] == 0 { end += 1 }
      if end - index > best.count, end - index >= 2 { best = index..<end }
      index = max(end, index + 1)
    }
    func text(_ range: Range<Int>) -> String { groups[range].map { String($0, radix: 16) }.joined(separator: ":") }
    return best.isEmpty ? text(0..<8) : text(0..<best.lowerBound) + "::" + text(best.upperBound..<8)
  }
}

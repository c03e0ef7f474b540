/// A block of addresses: IPv4 or IPv6, always stored masked.

public enum IPFamily: UInt8, Hashable, Comparable, Sendable, CaseIterable, CustomStringConvertible {
  case v4 = 4
  case v6 = 6
  public var bits: Int { self == .v4 ? 32 : 128 }
  public var description: String { self == .v4 ? "IPv4" : "IPv6" }
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

@frozen
public struct IPv4Prefix: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let address: IPv4Address
  /// 0...32
  public let length: UInt8
  /// Host bits are cleared. `length` must be 0...32.
  @inlinable public init(_ address: IPv4Address, length: UInt8) {
    precondition(length <= 32, "an IPv4 prefix has at most 32 bits")
    self.address = IPv4Address(rawValue: address.rawValue & Self.mask(length))
    self.length = length
  }
  @inlinable public static func mask(_ length: UInt8) -> UInt32 { length == 0 ? 0 : ~0 << UInt32(32 - length) }
  @inlinable public func contains(_ other: IPv4Address) -> Bool { other.rawValue & Self.mask(length) == address.rawValue }
  @inlinable public func contains(_ other: IPv4Prefix) -> Bool { other.length >= length && contains(other.address) }
  @inlinable public static func < (a: Self, b: Self) -> Bool { (a.address.rawValue, a.length) < (b.address.rawValue, b.length) }
  /// In one word: the hash function's time goes by the number of words.
  @inlinable public func hash(into hasher: inout Hasher) { hasher.combine(UInt64(address.rawValue) << 8 | UInt64(length)) }
  public var description: String { "\(address)/\(length)" }
}

@frozen
public struct IPv6Prefix: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let address: IPv6Address
  /// 0...128
  public let length: UInt8
  /// Host bits are cleared. `length` must be 0...128.
  @inlinable public init(_ address: IPv6Address, length: UInt8) {
    precondition(length <= 128, "an IPv6 prefix has at most 128 bits")
    let mask = Self.mask(length)
    self.address = IPv6Address(high: address.high & mask.high, low: address.low & mask.low)
    self.length = length
  }
  @inlinable public static func mask(_ length: UInt8) -> (high: UInt64, low: UInt64) {
    (
      high: length == 0 ? 0 : length >= 64 ? ~0 : ~0 << UInt64(64 - length),
      low: length <= 64 ? 0 : ~0 << UInt64(128 - length)
    )
  }
  @inlinable public func contains(_ other: IPv6Address) -> Bool {
    let mask = Self.mask(length)
    return other.high & mask.high == address.high && other.low & mask.low == address.low
  }
  @inlinable public func contains(_ other: IPv6Prefix) -> Bool { other.length >= length && contains(other.address) }
  @inlinable public static func < (a: Self, b: Self) -> Bool { a.address == b.address ? a.length < b.length : a.address < b.address }
  public var description: String { "\(address)/\(length)" }
}

/// An address of either family.
@frozen
public enum IPAddress: Hashable, Comparable, Sendable, CustomStringConvertible {
  case v4(IPv4Address)
  case v6(IPv6Address)

  public init?(_ text: some StringProtocol) {
    if let address = IPv4Address(text) {
      self = .v4(address)
    } else if let address = IPv6Address(text) {
      self = .v6(address)
    } else {
      return nil
    }
  }
  /// From four or sixteen octets in network order.
  public init?(octets: some Collection<UInt8>) {
    if let address = IPv4Address(octets: octets) {
      self = .v4(address)
    } else if let address = IPv6Address(octets: octets) {
      self = .v6(address)
    } else {
      return nil
    }
  }
  @inlinable public var family: IPFamily {
    switch self {
    case .v4: .v4
    case .v6: .v6
    }
  }
  public var octets: [UInt8] {
    switch self {
    case .v4(let address): address.octets
    case .v6(let address): address.octets
    }
  }
  /// The /32 or /128 of this address.
  public var hostPrefix: IPPrefix { IPPrefix(self, length: family == .v4 ? 32 : 128) }
  public var isUnspecified: Bool {
    switch self {
    case .v4(let address): address.isUnspecified
    case .v6(let address): address.isUnspecified
    }
  }
  public var isLinkLocal: Bool {
    switch self {
    case .v4(let address): address.isLinkLocal
    case .v6(let address): address.isLinkLocal
    }
  }
  public var isLoopback: Bool {
    switch self {
    case .v4(let address): address.isLoopback
    case .v6(let address): address.isLoopback
    }
  }
  public var isMulticast: Bool {
    switch self {
    case .v4(let address): address.isMulticast
    case .v6(let address): address.isMulticast
    }
  }
  /// The address `offset` further on, or nil past the end of the family.
  public func advanced(by offset: UInt64) -> IPAddress? {
    switch self {
    case .v4(let address):
      let sum = UInt64(address.rawValue).addingReportingOverflow(offset)
      return sum.overflow || sum.partialValue > UInt64(UInt32.max)
        ? nil : .v4(IPv4Address(rawValue: UInt32(truncatingIfNeeded: sum.partialValue)))
    case .v6(let address):
      let low = address.low.addingReportingOverflow(offset)
      let high = address.high.addingReportingOverflow(low.overflow ? 1 : 0)
      return high.overflow ? nil : .v6(IPv6Address(high: high.partialValue, low: low.partialValue))
    }
  }
  /// IPv4 before IPv6, then by number.
  public static func < (a: Self, b: Self) -> Bool {
    switch (a, b) {
    case (.v4(let a), .v4(let b)): a < b
    case (.v6(let a), .v6(let b)): a < b
    default: a.family < b.family
    }
  }
  public var description: String {
    switch self {
    case .v4(let address): address.description
    case .v6(let address): address.description
    }
  }
}

/// A prefix of either family.
@frozen
public enum IPPrefix: Hashable, Comparable, Sendable, CustomStringConvertible {
  case v4(IPv4Prefix)
  case v6(IPv6Prefix)

  /// Without the case's number: the two families differ in the number of words.
  @inlinable public func hash(into hasher: inout Hasher) {
    switch self {
    case .v4(let prefix): prefix.hash(into: &hasher)
    case .v6(let prefix): prefix.hash(into: &hasher)
    }
  }

  /// Host bits are cleared. `length` must suit the family.
  public init(_ address: IPAddress, length: UInt8) {
    switch address {
    case .v4(let address): self = .v4(IPv4Prefix(address, length: length))
    case .v6(let address): self = .v6(IPv6Prefix(address, length: length))
    }
  }
  /// `address/length`, or a bare address as a host prefix. Host bits are cleared; see `InterfaceAddress` to keep them.
  public init?(_ text: some StringProtocol) {
    guard let parsed = InterfaceAddress(text) else { return nil }
    self = parsed.prefix
  }
  public var address: IPAddress {
    switch self {
    case .v4(let prefix): .v4(prefix.address)
    case .v6(let prefix): .v6(prefix.address)
    }
  }
  public var length: UInt8 {
    switch self {
    case .v4(let prefix): prefix.length
    case .v6(let prefix): prefix.length
    }
  }
  @inlinable public var family: IPFamily {
    switch self {
    case .v4: .v4
    case .v6: .v6
    }
  }
  /// True for a /32 or /128.
  public var isHost: Bool { Int(length) == family.bits }
  /// True for 0.0.0.0/0 and ::/0.
  public var isDefault: Bool { length == 0 }
  public func contains(_ other: IPAddress) -> Bool {
    switch (self, other) {
    case (.v4(let prefix), .v4(let address)): prefix.contains(address)
    case (.v6(let prefix), .v6(let address)): prefix.contains(address)
    default: false
    }
  }
  public func contains(_ other: IPPrefix) -> Bool {
    switch (self, other) {
    case (.v4(let prefix), .v4(let other)): prefix.contains(other)
    case (.v6(let prefix), .v6(let other)): prefix.contains(other)
    default: false
    }
  }
  public func overlaps(_ other: IPPrefix) -> Bool { contains(other) || other.contains(self) }
  /// IPv4 before IPv6, then by address, then shorter first.
  public static func < (a: Self, b: Self) -> Bool {
    switch (a, b) {
    case (.v4(let a), .v4(let b)): a < b
    case (.v6(let a), .v6(let b)): a < b
    default: a.family < b.family
    }
  }
  public var description: String {
    switch self {
    case .v4(let prefix): prefix.description
    case .v6(let prefix): prefix.description
    }
  }
}

/// An address together with the length of its subnet, host bits kept: `172.30.1.2/24` as it stands on an interface.
public struct InterfaceAddress: Hashable, Sendable, CustomStringConvertible {
  public let address: IPAddress
  public let length: UInt8
  public init(_ address: IPAddress, length: UInt8) {
    precondition(Int(length) <= address.family.bits, "the length must suit the family")
    self.address = address
    self.length = length
  }
  /// `address/length`; a bare address counts as a host prefix.
  public init?(_ text: some StringProtocol) {
    guard let slash = text.utf8.firstIndex(of: UInt8(ascii: "/")) else {
      guard let address = IPAddress(text) else { return nil }
      self.init(address, length: UInt8(address.family.bits))
      return
    }
    let digits = text[text.utf8.index(after: slash)...]
    guard let address = IPAddress(text[..<slash]), (1...3).contains(digits.utf8.count),
      digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
      digits.utf8.count == 1 || digits.utf8.first != UInt8(ascii: "0"), let length = Int(digits), length <= address.family.bits
    else { return nil }
    self.init(address, length: UInt8(length))
  }
  public var prefix: IPPrefix { IPPrefix(address, length: length) }
  /// True if the text form of a CIDR had no host bits.
  public var isMasked: Bool { prefix.address == address }
  public var description: String { "\(address)/\(length)" }
}

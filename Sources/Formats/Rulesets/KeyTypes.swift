/// What the keys and data of sets and maps are made of.
///
/// The kernel knows only lengths; the type numbers are an agreement among user space programs (libnftables), kept so that
/// `nft list ruleset` prints addresses as addresses and ports as ports.

import Addresses

/// One field of a key. The raw value is libnftables' type number (six bits).
public enum KeyType: UInt32, Hashable, Sendable, CaseIterable {
  case ipv4 = 7
  case ipv6 = 8
  case ether = 9
  case protocolNumber = 12
  case port = 13
  case icmpType = 14
  case mark = 19
  case ctState = 26
  case icmpv6Type = 29
  case interfaceName = 41

  /// Octets of the value itself.
  public var length: Int {
    switch self {
    case .ipv4, .mark, .ctState: 4
    case .ipv6, .interfaceName: 16
    case .ether: 6
    case .protocolNumber, .icmpType, .icmpv6Type: 1
    case .port: 2
    }
  }
  /// Octets it takes in a concatenation, where each field begins a new 32-bit register.
  public var paddedLength: Int { (length + 3) & ~3 }
  /// Kept in the byte order of the machine; everything else is as on the wire.
  public var isHostOrder: Bool { self == .mark || self == .ctState || self == .interfaceName }

  /// nft's word for it.
  public var word: String {
    switch self {
    case .ipv4: "ipv4_addr"
    case .ipv6: "ipv6_addr"
    case .ether: "ether_addr"
    case .protocolNumber: "inet_proto"
    case .port: "inet_service"
    case .icmpType: "icmp_type"
    case .mark: "mark"
    case .ctState: "ct_state"
    case .icmpv6Type: "icmpv6_type"
    case .interfaceName: "ifname"
    }
  }
}

/// The octets of keys and values, as the kernel compares them.
public enum KeyOctets {
  /// A name padded to 16 octets. Names of 16 octets and more do not exist as interfaces, so they are refused: nil.
  public static func interfaceName(_ name: String) -> [UInt8]? {
    let octets = Array(name.utf8)
    guard !octets.isEmpty, octets.count < 16, !octets.contains(0) else { return nil }
    return octets + [UInt8](repeating: 0, count: 16 - octets.count)
  }
  public static func port(_ port: UInt16) -> [UInt8] { [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)] }
  public static func host32(_ value: UInt32) -> [UInt8] {
    let big = value.bigEndian
    return (0..<4).map { UInt8(truncatingIfNeeded: big >> UInt32(24 - $0 * 8)) }
  }
  /// Fields one after the other, each padded to four octets.
  public static func concatenated(_ fields: [UInt8]...) -> [UInt8] {
    var result: [UInt8] = []
    for field in fields { result += field + [UInt8](repeating: 0, count: -field.count & 3) }
    return result
  }
  /// The address of a prefix with all host bits set.
  public static func last(of prefix: IPPrefix) -> [UInt8] {
    var octets = prefix.address.octets
    for bit in Int(prefix.length)..<(octets.count * 8) { octets[bit / 8] |= 0x80 >> UInt8(bit & 7) }
    return octets
  }
  /// The mask of a prefix length.
  public static func mask(length: UInt8, octets: Int) -> [UInt8] {
    (0..<octets).map { index in
      let bits = Int(length) - index * 8
      return bits >= 8 ? 0xff : bits <= 0 ? 0 : ~(0xff >> UInt8(bits))
    }
  }
  /// The next value of the same length, or nil after all ones.
  static func successor(_ octets: [UInt8]) -> [UInt8]? {
    var result = octets
    for index in result.indices.reversed() {
      result[index] &+= 1
      if result[index] != 0 { return result }
    }
    return nil
  }
  /// The value before, or nil before all zeros.
  static func predecessor(_ octets: [UInt8]) -> [UInt8]? {
    var result = octets
    for index in result.indices.reversed() {
      result[index] &-= 1
      if result[index] != 0xff { return result }
    }
    return nil
  }
}

extension [UInt8] {
  /// As memcmp orders them: what the kernel's interval sets are sorted by.
  static func precedes(_ a: [UInt8], _ b: [UInt8]) -> Bool { a.lexicographicallyPrecedes(b) }
}

public enum Verdict: Hashable, Sendable {
  case accept
  case drop
  case `return`
  case jump(String)
  case goto(String)

  /// The chain it leads to.
  public var target: String? {
    switch self {
    case .jump(let chain), .goto(let chain): chain
    case .accept, .drop, .return: nil
    }
  }
}

/// What a set or map is, apart from its elements.
public struct SetSpec: Hashable, Sendable {
  public enum Data: Hashable, Sendable {
    case value(KeyType)
    case verdict
  }
  /// One type, or the fields of a concatenation.
  public var key: [KeyType]
  /// Elements are ranges: disjoint ones (they may touch).
  public var isInterval: Bool
  /// Nil for a set; else it is a map.
  public var data: Data?
  public var comment: String?
  public init(_ key: KeyType..., isInterval: Bool = false, data: Data? = nil, comment: String? = nil) {
    self.init(key: key, isInterval: isInterval, data: data, comment: comment)
  }
  public init(key: [KeyType], isInterval: Bool = false, data: Data? = nil, comment: String? = nil) {
    precondition((1...5).contains(key.count), "a type number of 32 bits holds one to five fields of six")
    self.key = key
    self.isInterval = isInterval
    self.data = data
    self.comment = comment
  }
  public var isConcatenation: Bool { key.count > 1 }
  public var keyLength: Int { isConcatenation ? key.reduce(0) { $0 + $1.paddedLength } : key[0].length }
  /// libnftables' number of the key's type: six bits for each field.
  public var typeNumber: UInt32 { key.reduce(0) { $0 << 6 | $1.rawValue } }
}

public struct SetElement: Hashable, Sendable {
  public enum Data: Hashable, Sendable {
    case value([UInt8])
    case verdict(Verdict)
  }
  /// Of the set's key length. In an interval set, the first of the range.
  public var key: [UInt8]
  /// The last of the range, included; only in interval sets, and always there.
  public var last: [UInt8]?
  public var data: Data?
  public init(_ key: [UInt8], last: [UInt8]? = nil, data: Data? = nil) {
    self.key = key
    self.last = last
    self.data = data
  }
  public static func address(_ address: IPAddress) -> SetElement { SetElement(address.octets) }
  /// All addresses of a prefix, in an interval set.
  public static func prefix(_ prefix: IPPrefix) -> SetElement { SetElement(prefix.address.octets, last: KeyOctets.last(of: prefix)) }
  public static func ports(_ range: ClosedRange<UInt16>) -> SetElement {
    SetElement(KeyOctets.port(range.lowerBound), last: KeyOctets.port(range.upperBound))
  }
}

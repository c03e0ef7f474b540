/// The kernel's own instructions, of which a rule is made: each reads or writes registers, or decides.
///
/// Encoding is `NFTA_EXPR_NAME` and `NFTA_EXPR_DATA`; decoding reads what the kernel dumps, so that a rule in the kernel can be
/// compared with the one that we want, instruction by instruction. Counters compare equal whatever they have counted.

public import Addresses
import NetlinkMessages
public import Octets

/// One of sixteen 32-bit words. The kernel prints a multiple of four as the old 128-bit register's number; we write it so too.
public struct Register: Hashable, Sendable {
  public let word: UInt8
  public init(word: Int) {
    precondition((0..<16).contains(word), "there are 16 words of registers")
    self.word = UInt8(word)
  }
  /// NFT_REG_1 ... NFT_REG_4 are 1...4, NFT_REG32_00 ... are 8...
  var number: UInt32 { word & 3 == 0 ? UInt32(word / 4) + 1 : UInt32(word) + 8 }
  init?(number: UInt32) {
    switch number {
    case 1...4: word = UInt8(number - 1) * 4
    case 8...23: word = UInt8(number - 8)
    default: return nil
    }
  }
}

public enum MetaKey: UInt32, Hashable, Sendable {
  case mark = 3
  case inputIndex = 4
  case inputName = 6
  case outputName = 7
  case inputType = 8
  case networkProtocol = 15
  case transportProtocol = 16
}

public enum PayloadBase: UInt32, Hashable, Sendable {
  case link = 0
  case network = 1
  case transport = 2
}

public enum Comparison: UInt32, Hashable, Sendable {
  case equal = 0
  case notEqual = 1
}

public struct RateLimit: Hashable, Sendable {
  public var packets: UInt64
  /// The unit of time in seconds.
  public var perSeconds: UInt64
  public var burst: UInt32
  /// Matches what exceeds the rate, instead of what keeps it.
  public var isOver: Bool
  public init(packets: UInt64, perSeconds: UInt64, burst: UInt32 = 5, isOver: Bool = false) {
    self.packets = packets
    self.perSeconds = perSeconds
    self.burst = burst
    self.isOver = isOver
  }
}

public enum Expression: Hashable, Sendable {
  case meta(MetaKey, into: Register)
  case metaSet(MetaKey, from: Register)
  case payload(PayloadBase, offset: UInt32, length: UInt32, into: Register)
  case ctState(into: Register)
  /// NFT_CT_STATUS (2): the IPS_* bits of the connection.
  case ctStatus(into: Register)
  /// The source address of the original or of the reply tuple: NFT_CT_SRC_IP (19), NFT_CT_SRC_IP6 (21).
  case ctSource(IPFamily, isReply: Bool, into: Register)
  case compare(Register, Comparison, [UInt8])
  case range(Register, negated: Bool, [UInt8], [UInt8])
  case bitwise(from: Register, into: Register, mask: [UInt8], xor: [UInt8])
  /// `into` nil asks only whether the key is there.
  case lookup(String, Register, into: Register?, negated: Bool)
  case verdictLookup(String, Register)
  case immediate([UInt8], into: Register)
  case verdict(Verdict)
  case counter
  case log(prefix: String, level: UInt32)
  /// To whoever listens to this group of nfnetlink_log.
  case logGroup(UInt16, prefix: String)
  case limit(RateLimit)
  case connectionLimit(UInt32, isOver: Bool)
  /// `headerChecksum` is the offset of the IPv4 header's checksum, to be kept right.
  case payloadSet(PayloadBase, offset: UInt32, length: UInt32, from: Register, headerChecksum: UInt32?)
  case reject(Rejection)
  /// Takes the packet past connection tracking.
  case notrack
  case masquerade(ports: PortRegisters?)
  case translate(isSource: Bool, IPFamily, Register, ports: PortRegisters?)
  /// Something we never write: a foreign hand was here.
  case unknown(String)

  /// Where the first and the last port of a translation stand.
  public struct PortRegisters: Hashable, Sendable {
    public let first: Register
    public let last: Register
    public init(_ first: Register, _ last: Register) { (self.first, self.last) = (first, last) }
  }
}

// MARK: Encoding

/// Attribute numbers of `linux/netfilter/nf_tables.h`.
enum Attribute {
  static let listElement: UInt16 = 1
  static let expressionName: UInt16 = 1
  static let expressionData: UInt16 = 2
  static let dataValue: UInt16 = 1
  static let dataVerdict: UInt16 = 2
  static let verdictCode: UInt16 = 1
  static let verdictChain: UInt16 = 2
  static let hostProtocol: UInt16 = 0
}

extension Verdict {
  var code: Int32 {
    switch self {
    case .drop: 0
    case .accept: 1
    case .jump: -3
    case .goto: -4
    case .return: -5
    }
  }
  func encode(into writer: inout OctetWriter) {
    writer.nest(Attribute.dataVerdict) {
      $0.attribute(Attribute.verdictCode, u32: UInt32(bitPattern: code))
      if let target { $0.attribute(Attribute.verdictChain, text: target) }
    }
  }
  /// From the payload of NFTA_DATA_VERDICT.
  init?(decoding reader: inout OctetReader) throws(WireError) {
    var code: Int32?
    var chain: String?
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case Attribute.verdictCode: code = Int32(bitPattern: try value.u32())
      case Attribute.verdictChain: chain = try value.text()
      default: break
      }
    }
    switch (code, chain) {
    case (0, _): self = .drop
    case (1, _): self = .accept
    case (-5, _): self = .return
    case (-3, let chain?): self = .jump(chain)
    case (-4, let chain?): self = .goto(chain)
    default: return nil
    }
  }
}

extension OctetWriter {
  mutating func dataValue(_ type: UInt16, _ octets: [UInt8]) { nest(type) { $0.attribute(Attribute.dataValue, octets) } }
}

extension Expression {
  public var name: String {
    switch self {
    case .meta, .metaSet: "meta"
    case .payload, .payloadSet: "payload"
    case .ctState, .ctStatus, .ctSource: "ct"
    case .compare: "cmp"
    case .range: "range"
    case .bitwise: "bitwise"
    case .lookup, .verdictLookup: "lookup"
    case .immediate, .verdict: "immediate"
    case .counter: "counter"
    case .log, .logGroup: "log"
    case .limit: "limit"
    case .connectionLimit: "connlimit"
    case .reject: "reject"
    case .notrack: "notrack"
    case .masquerade: "masq"
    case .translate: "nat"
    case .unknown(let name): name
    }
  }

  public func encode(into writer: inout OctetWriter) {
    writer.nest(Attribute.listElement) {
      $0.attribute(Attribute.expressionName, text: name)
      $0.nest(Attribute.expressionData, body: encodeData)
    }
  }

  private func encodeData(_ writer: inout OctetWriter) {
    switch self {
    case .meta(let key, let into):
      writer.attribute(1, u32: into.number)
      writer.attribute(2, u32: key.rawValue)
    case .metaSet(let key, let from):
      writer.attribute(2, u32: key.rawValue)
      writer.attribute(3, u32: from.number)
    case .payload(let base, let offset, let length, let into):
      writer.attribute(1, u32: into.number)
      writer.attribute(2, u32: base.rawValue)
      writer.attribute(3, u32: offset)
      writer.attribute(4, u32: length)
    case .ctSource(let family, let isReply, let into):
      writer.attribute(1, u32: into.number)
      writer.attribute(2, u32: family == .v4 ? 19 : 21)
      writer.attribute(3, [isReply ? 1 : 0])
    case .ctState(let into):
      writer.attribute(1, u32: into.number)
      writer.attribute(2, u32: 0)
    case .ctStatus(let into):
      writer.attribute(1, u32: into.number)
      writer.attribute(2, u32: 2)
    case .compare(let register, let operation, let value):
      writer.attribute(1, u32: register.number)
      writer.attribute(2, u32: operation.rawValue)
      writer.dataValue(3, value)
    case .range(let register, let negated, let from, let to):
      writer.attribute(1, u32: register.number)
      writer.attribute(2, u32: negated ? 1 : 0)
      writer.dataValue(3, from)
      writer.dataValue(4, to)
    case .bitwise(let from, let into, let mask, let xor):
      writer.attribute(1, u32: from.number)
      writer.attribute(2, u32: into.number)
      writer.attribute(3, u32: UInt32(mask.count))
      writer.dataValue(4, mask)
      writer.dataValue(5, xor)
    case .lookup(let set, let key, let into, let negated):
      writer.attribute(1, text: set)
      writer.attribute(2, u32: key.number)
      if let into { writer.attribute(3, u32: into.number) }
      if negated { writer.attribute(5, u32: 1) }
    case .verdictLookup(let set, let key):
      writer.attribute(1, text: set)
      writer.attribute(2, u32: key.number)
      writer.attribute(3, u32: 0)
    case .immediate(let value, let into):
      writer.attribute(1, u32: into.number)
      writer.dataValue(2, value)
    case .verdict(let verdict):
      writer.attribute(1, u32: 0)
      writer.nest(2, body: verdict.encode)
    case .counter:
      writer.attribute(1, u64: 0)
      writer.attribute(2, u64: 0)
    case .log(let prefix, let level):
      writer.attribute(2, text: prefix)
      writer.attribute(5, u32: level)
    case .logGroup(let group, let prefix):
      writer.attribute(1, [UInt8(group >> 8), UInt8(group & 0xff)])
      writer.attribute(2, text: prefix)
    case .limit(let limit):
      writer.attribute(1, u64: limit.packets)
      writer.attribute(2, u64: limit.perSeconds)
      writer.attribute(3, u32: limit.burst)
      writer.attribute(4, u32: 0)
      writer.attribute(5, u32: limit.isOver ? 1 : 0)
    case .connectionLimit(let count, let isOver):
      writer.attribute(1, u32: count)
      writer.attribute(2, u32: isOver ? 1 : 0)
    case .payloadSet(let base, let offset, let length, let from, let checksum):
      writer.attribute(2, u32: base.rawValue)
      writer.attribute(3, u32: offset)
      writer.attribute(4, u32: length)
      writer.attribute(5, u32: from.number)
      writer.attribute(6, u32: checksum == nil ? 0 : 1)
      writer.attribute(7, u32: checksum ?? 0)
    case .notrack: break
    case .reject(.tcpReset): writer.attribute(1, u32: 1)
    case .reject(.prohibited):
      writer.attribute(1, u32: 2)
      writer.attribute(2, [3])
    case .masquerade(let ports):
      guard let ports else { return }
      writer.attribute(1, u32: Self.portsGiven)
      writer.attribute(2, u32: ports.first.number)
      writer.attribute(3, u32: ports.last.number)
    case .translate(let isSource, let family, let address, let ports):
      writer.attribute(1, u32: isSource ? 0 : 1)
      writer.attribute(2, u32: family == .v4 ? 2 : 10)
      writer.attribute(3, u32: address.number)
      guard let ports else { return }
      writer.attribute(5, u32: ports.first.number)
      writer.attribute(6, u32: ports.last.number)
      writer.attribute(7, u32: Self.portsGiven)
    case .unknown: preconditionFailure("an unknown expression is only read, never written")
    }
  }
  /// NF_NAT_RANGE_PROTO_SPECIFIED; the kernel adds NF_NAT_RANGE_MAP_IPS (1) by itself.
  static let portsGiven: UInt32 = 2
}

// MARK: Decoding

/// The attributes that our expressions use, by number, before they are understood.
private struct RawExpression {
  var numbers: [UInt16: [UInt8]] = [:]

  func u32(_ type: UInt16) -> UInt32? {
    guard let octets = numbers[type], octets.count == 4 else { return nil }
    return octets.reduce(0) { $0 << 8 | UInt32($1) }
  }
  func u64(_ type: UInt16) -> UInt64? {
    guard let octets = numbers[type], octets.count == 8 else { return nil }
    return octets.reduce(0) { $0 << 8 | UInt64($1) }
  }
  func register(_ type: UInt16) -> Register? { u32(type).flatMap(Register.init(number:)) }
  func text(_ type: UInt16) -> String? { numbers[type].map { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) } }
  /// The value inside NFTA_DATA_VALUE.
  func value(_ type: UInt16) -> [UInt8]? {
    guard let octets = numbers[type] else { return nil }
    var reader = OctetReader(octets.span)
    var found: [UInt8]?
    try? reader.attributes { type, value throws(WireError) in
      if type == Attribute.dataValue { found = value.rest() }
    }
    return found
  }
  func verdict(_ type: UInt16) -> Verdict? {
    guard let octets = numbers[type] else { return nil }
    var reader = OctetReader(octets.span)
    var found: Verdict?
    try? reader.attributes { type, value throws(WireError) in
      if type == Attribute.dataVerdict { found = try Verdict(decoding: &value) }
    }
    return found
  }
}

extension Expression {
  /// From the payload of one NFTA_LIST_ELEM. Whatever we would not write ourselves becomes `.unknown`.
  public init(decoding reader: inout OctetReader) throws(WireError) { self = try Self.read(&reader).expression }

  /// The same, with what a counter has counted.
  static func read(_ reader: inout OctetReader) throws(WireError) -> (expression: Expression, counted: (packets: UInt64, octets: UInt64)?) {
    var name = ""
    var raw = RawExpression()
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case Attribute.expressionName: name = try value.text()
      case Attribute.expressionData:
        try value.attributes { type, value throws(WireError) in raw.numbers[type] = value.rest() }
      default: break
      }
    }
    let expression = understand(name, raw) ?? .unknown(name)
    return (expression, expression == .counter ? (raw.u64(2) ?? 0, raw.u64(1) ?? 0) : nil)
  }

  private static func understand(_ name: String, _ raw: RawExpression) -> Expression? {
    switch name {
    case "meta":
      guard let key = raw.u32(2).flatMap(MetaKey.init(rawValue:)) else { return nil }
      if let into = raw.register(1) { return .meta(key, into: into) }
      return raw.register(3).map { .metaSet(key, from: $0) }
    case "payload":
      if let from = raw.register(5), let base = raw.u32(2).flatMap(PayloadBase.init(rawValue:)), let offset = raw.u32(3), let length = raw.u32(4) {
        guard raw.u32(8) ?? 0 == 0, let kind = raw.u32(6), kind < 2 else { return nil }
        return .payloadSet(base, offset: offset, length: length, from: from, headerChecksum: kind == 0 ? nil : raw.u32(7))
      }
      guard let into = raw.register(1), let base = raw.u32(2).flatMap(PayloadBase.init(rawValue:)), let offset = raw.u32(3),
        let length = raw.u32(4)
      else { return nil }
      return .payload(base, offset: offset, length: length, into: into)
    case "ct":
      switch raw.u32(2) {
      case 0: return raw.register(1).map { .ctState(into: $0) }
      case 2: return raw.register(1).map { .ctStatus(into: $0) }
      case 19, 21:
        guard let direction = raw.numbers[3]?.first else { return nil }
        return raw.register(1).map { .ctSource(raw.u32(2) == 19 ? .v4 : .v6, isReply: direction == 1, into: $0) }
      default: return nil
      }
    case "cmp":
      guard let register = raw.register(1), let operation = raw.u32(2).flatMap(Comparison.init(rawValue:)), let value = raw.value(3) else {
        return nil
      }
      return .compare(register, operation, value)
    case "range":
      guard let register = raw.register(1), let operation = raw.u32(2), operation < 2, let from = raw.value(3), let to = raw.value(4) else {
        return nil
      }
      return .range(register, negated: operation == 1, from, to)
    case "bitwise":
      guard raw.u32(6) ?? 0 == 0, let from = raw.register(1), let into = raw.register(2), let mask = raw.value(4), let xor = raw.value(5)
      else { return nil }
      return .bitwise(from: from, into: into, mask: mask, xor: xor)
    case "lookup":
      guard let set = raw.text(1), let key = raw.register(2) else { return nil }
      let negated = (raw.u32(5) ?? 0) & 1 == 1
      switch raw.u32(3) {
      case nil: return .lookup(set, key, into: nil, negated: negated)
      case 0: return negated ? nil : .verdictLookup(set, key)
      default: return negated ? nil : raw.register(3).map { .lookup(set, key, into: $0, negated: false) }
      }
    case "immediate":
      if raw.u32(1) == 0 { return raw.verdict(2).map { .verdict($0) } }
      guard let into = raw.register(1), let value = raw.value(2) else { return nil }
      return .immediate(value, into: into)
    case "counter": return .counter
    case "log":
      if let group = raw.numbers[1] {
        guard group.count == 2, let prefix = raw.text(2), raw.u32(3) ?? 0 == 0, raw.numbers[4] == nil else { return nil }
        return .logGroup(UInt16(group[0]) << 8 | UInt16(group[1]), prefix: prefix)
      }
      guard let prefix = raw.text(2), let level = raw.u32(5), raw.u32(6) ?? 0 == 0 else { return nil }
      return .log(prefix: prefix, level: level)
    case "limit":
      guard let packets = raw.u64(1), let unit = raw.u64(2), let burst = raw.u32(3), raw.u32(4) ?? 0 == 0, raw.u32(5) ?? 0 < 2
      else { return nil }
      return .limit(RateLimit(packets: packets, perSeconds: unit, burst: burst, isOver: raw.u32(5) == 1))
    case "connlimit":
      guard let count = raw.u32(1), raw.u32(2) ?? 0 < 2 else { return nil }
      return .connectionLimit(count, isOver: raw.u32(2) == 1)
    case "notrack": return .notrack
    case "reject":
      switch raw.u32(1) {
      case 1: return .reject(.tcpReset)
      case 2: return raw.numbers[2] == [3] ? .reject(.prohibited) : nil
      default: return nil
      }
    case "masq":
      guard (raw.u32(1) ?? 0) & ~portsGiven == 0 else { return nil }
      return .masquerade(ports: raw.register(2).map { PortRegisters($0, raw.register(3) ?? $0) })
    case "nat":
      // A single address is told as the first and the last of a range.
      guard let kind = raw.u32(1), kind < 2, let family = raw.u32(2), family == 2 || family == 10, let address = raw.register(3),
        raw.register(4) ?? address == address, (raw.u32(7) ?? 0) & ~(portsGiven | 1) == 0
      else { return nil }
      let ports = raw.register(5).map { PortRegisters($0, raw.register(6) ?? $0) }
      return .translate(isSource: kind == 0, family == 2 ? .v4 : .v6, address, ports: ports)
    default: return nil
    }
  }
}

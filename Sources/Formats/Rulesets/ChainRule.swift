/// Rules and chains in the words of policy: matches on fields, lookups, verdicts. `expressions` translates them for the kernel.

import Addresses

/// Something of a packet or of its surroundings that a rule can look at.
public enum Field: Hashable, Sendable {
  /// AF_INET (2) or AF_INET6 (10).
  case networkProtocol
  case transportProtocol
  case inputName
  case outputName
  /// ARPHRD_*: 1 is Ethernet.
  case inputType
  /// Of the interface that the packet came over; 0 for what the host itself sends.
  case inputIndex
  case mark
  case etherSource
  /// Only after a match of the network protocol: in a table of both families the same octets mean something else in the other.
  case source(IPFamily)
  case destination(IPFamily)
  /// Only after a match of a transport protocol that has ports.
  case sourcePort
  case destinationPort
  /// Only after a match of ICMP or ICMPv6.
  case icmpType
  case icmpCode
  /// The address of one end of the packet's connection; of a related packet's, the connection that it is about. `isReply` is the end
  /// that answers. Only in a connection of that family.
  case connectionEnd(isReply: Bool, IPFamily)

  /// Octets of the value.
  public var length: Int {
    switch self {
    case .networkProtocol, .transportProtocol, .icmpType, .icmpCode: 1
    case .inputType, .sourcePort, .destinationPort: 2
    case .mark, .inputIndex: 4
    case .etherSource: 6
    case .source(let family), .destination(let family), .connectionEnd(_, let family): family.bits / 8
    case .inputName, .outputName: 16
    }
  }
  func load(into register: Register) -> Expression {
    switch self {
    case .networkProtocol: .meta(.networkProtocol, into: register)
    case .transportProtocol: .meta(.transportProtocol, into: register)
    case .inputName: .meta(.inputName, into: register)
    case .outputName: .meta(.outputName, into: register)
    case .inputType: .meta(.inputType, into: register)
    case .inputIndex: .meta(.inputIndex, into: register)
    case .mark: .meta(.mark, into: register)
    case .etherSource: .payload(.link, offset: 6, length: 6, into: register)
    case .source(.v4): .payload(.network, offset: 12, length: 4, into: register)
    case .destination(.v4): .payload(.network, offset: 16, length: 4, into: register)
    case .source(.v6): .payload(.network, offset: 8, length: 16, into: register)
    case .destination(.v6): .payload(.network, offset: 24, length: 16, into: register)
    case .sourcePort: .payload(.transport, offset: 0, length: 2, into: register)
    case .destinationPort: .payload(.transport, offset: 2, length: 2, into: register)
    case .icmpType: .payload(.transport, offset: 0, length: 1, into: register)
    case .icmpCode: .payload(.transport, offset: 1, length: 1, into: register)
    case .connectionEnd(let isReply, let family): .ctSource(family, isReply: isReply, into: register)
    }
  }
}

/// IP_CT_* as the kernel's `ct state` has them.
public struct ConnectionState: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let invalid = ConnectionState(rawValue: 1)
  public static let established = ConnectionState(rawValue: 2)
  public static let related = ConnectionState(rawValue: 4)
  public static let new = ConnectionState(rawValue: 8)
  public static let untracked = ConnectionState(rawValue: 64)
}

/// IPS_* as the kernel's `ct status` has them.
public struct ConnectionStatus: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  /// Its destination was translated.
  public static let destinationNAT = ConnectionStatus(rawValue: 0x20)
}

/// One word of a rule. Matches come before what they guard; the first that fails ends the rule.
public enum Statement: Hashable, Sendable {
  case match(Field, Comparison, [UInt8])
  /// The first octets of the field: `iifname "cali*"`.
  case matchStart(Field, [UInt8])
  case matchMasked(Field, Comparison, mask: [UInt8], [UInt8])
  case matchRange(Field, negated: Bool, [UInt8], [UInt8])
  case lookup([Field], set: String, negated: Bool)
  /// One or more of these states.
  case connectionState(ConnectionState)
  /// One or more of these bits.
  case connectionStatus(ConnectionStatus)
  /// Straight from the packet's fields to the verdict. Two lookups in a row, whose second takes the result of the first, would spare the
  /// kernel its walk over the table when an endpoint comes, but `nft list ruleset` 1.0.6 ends with an assertion when it meets them.
  case verdictMap([Field], map: String)
  case setMarkBits(UInt32)
  case clearMarkBits(UInt32)
  case markBitsSet(UInt32)
  case counter
  case log(prefix: String)
  case logGroup(UInt16, prefix: String)
  case limit(RateLimit)
  /// Of the connections that came here, more than so many are alive, this one counted.
  case connectionsAbove(UInt32)
  case setDSCP(IPFamily, UInt8)
  case reject(Rejection)
  /// Only before connection tracking.
  case notrack
  /// In chains of the kind `nat` only; there a connection's first packet is seen and no other.
  case translate(Translation)
  case verdict(Verdict)
}

/// What the sender of a refused packet is told.
public enum Rejection: Hashable, Sendable {
  /// Only after a match of TCP.
  case tcpReset
  /// By ICMP in the packet's family: communication is administratively prohibited.
  case prohibited
}

/// What becomes of one end of a connection.
public enum Translation: Hashable, Sendable {
  /// Ports only after a match of a protocol that has them.
  case masquerade(ports: ClosedRange<UInt16>?)
  case source(IPAddress, ports: ClosedRange<UInt16>?)
  case destination(IPAddress, port: UInt16?)
  /// To what the map says; what it does not know goes on untranslated.
  case sourceByMap([Field], map: String, IPFamily)
  case destinationByMap([Field], map: String, IPFamily)
}

extension Statement {
  public static func family(_ family: IPFamily) -> Statement { .match(.networkProtocol, .equal, [family == .v4 ? 2 : 10]) }
  public static func transport(_ number: UInt8, _ comparison: Comparison = .equal) -> Statement {
    .match(.transportProtocol, comparison, [number])
  }
  /// The field begins with `prefix` (an interface name pattern `prefix*`).
  public static func name(_ field: Field, startsWith prefix: String) -> Statement { .matchStart(field, Array(prefix.utf8)) }
  public static func address(_ field: Field, _ comparison: Comparison = .equal, in prefix: IPPrefix) -> Statement {
    prefix.isHost
      ? .match(field, comparison, prefix.address.octets)
      : .matchMasked(field, comparison, mask: KeyOctets.mask(length: prefix.length, octets: prefix.family.bits / 8), prefix.address.octets)
  }
  public static func port(_ field: Field, in range: ClosedRange<UInt16>, negated: Bool = false) -> Statement {
    range.count == 1
      ? .match(field, negated ? .notEqual : .equal, KeyOctets.port(range.lowerBound))
      : .matchRange(field, negated: negated, KeyOctets.port(range.lowerBound), KeyOctets.port(range.upperBound))
  }
  public static func jump(_ chain: String) -> Statement { .verdict(.jump(chain)) }
  public static func goto(_ chain: String) -> Statement { .verdict(.goto(chain)) }
  public static let accept = Statement.verdict(.accept)
  public static let drop = Statement.verdict(.drop)
  public static let `return` = Statement.verdict(.return)

  /// The set or map it looks into.
  public var sets: [String] {
    switch self {
    case .lookup(_, let set, _): [set]
    case .verdictMap(_, let map): [map]
    case .translate(.sourceByMap(_, let map, _)), .translate(.destinationByMap(_, let map, _)): [map]
    default: []
    }
  }

  private static let first = Register(word: 0)

  /// Loads the fields one after the other, as a concatenated key stands in the registers.
  static func load(_ fields: [Field]) -> [Expression] {
    var word = 0
    return fields.map { field in
      defer { word += (field.length + 3) / 4 }
      return field.load(into: Register(word: word))
    }
  }

  var expressions: [Expression] {
    let first = Self.first
    switch self {
    case .match(let field, let comparison, let value): return [field.load(into: first), .compare(first, comparison, value)]
    case .matchStart(let field, let value): return [field.load(into: first), .compare(first, .equal, value)]
    case .matchMasked(let field, let comparison, let mask, let value):
      return [
        field.load(into: first), .bitwise(from: first, into: first, mask: mask, xor: [UInt8](repeating: 0, count: mask.count)),
        .compare(first, comparison, value),
      ]
    case .matchRange(let field, let negated, let from, let to): return [field.load(into: first), .range(first, negated: negated, from, to)]
    case .lookup(let fields, let set, let negated): return Self.load(fields) + [.lookup(set, first, into: nil, negated: negated)]
    case .connectionState(let states):
      return [
        .ctState(into: first),
        .bitwise(from: first, into: first, mask: KeyOctets.host32(states.rawValue), xor: [0, 0, 0, 0]),
        .compare(first, .notEqual, [0, 0, 0, 0]),
      ]
    case .connectionStatus(let bits):
      return [
        .ctStatus(into: first),
        .bitwise(from: first, into: first, mask: KeyOctets.host32(bits.rawValue), xor: [0, 0, 0, 0]),
        .compare(first, .notEqual, [0, 0, 0, 0]),
      ]
    case .verdictMap(let fields, let map): return Self.load(fields) + [.verdictLookup(map, first)]
    case .setMarkBits(let bits): return Self.changeMark(mask: ~bits, xor: bits)
    case .clearMarkBits(let bits): return Self.changeMark(mask: ~bits, xor: 0)
    case .markBitsSet(let bits):
      return [
        .meta(.mark, into: first), .bitwise(from: first, into: first, mask: KeyOctets.host32(bits), xor: [0, 0, 0, 0]),
        .compare(first, .equal, KeyOctets.host32(bits)),
      ]
    case .counter: return [.counter]
    case .log(let prefix): return [.log(prefix: prefix, level: 5)]
    case .logGroup(let group, let prefix): return [.logGroup(group, prefix: prefix)]
    case .limit(let limit): return [.limit(limit)]
    case .connectionsAbove(let count): return [.connectionLimit(count, isOver: true)]
    case .setDSCP(let family, let value):
      // The first two octets: version and header length, then the octet; in IPv6 the octet lies half-way between them.
      let (mask, bits): ([UInt8], [UInt8]) = family == .v4 ? ([0xff, 0x03], [0, value << 2]) : ([0xf0, 0x3f], [value >> 2, value << 6])
      return [
        .payload(.network, offset: 0, length: 2, into: first), .bitwise(from: first, into: first, mask: mask, xor: bits),
        .payloadSet(.network, offset: 0, length: 2, from: first, headerChecksum: family == .v4 ? 10 : nil),
      ]
    case .reject(let rejection): return [.reject(rejection)]
    case .notrack: return [.notrack]
    case .translate(let translation): return translation.expressions
    case .verdict(let verdict): return [.verdict(verdict)]
    }
  }
  private static func changeMark(mask: UInt32, xor: UInt32) -> [Expression] {
    [
      .meta(.mark, into: first), .bitwise(from: first, into: first, mask: KeyOctets.host32(mask), xor: KeyOctets.host32(xor)),
      .metaSet(.mark, from: first),
    ]
  }
}

extension Translation {
  var expressions: [Expression] {
    let first = Register(word: 0)
    switch self {
    case .masquerade(let ports):
      guard let ports else { return [.masquerade(ports: nil)] }
      return [
        .immediate(KeyOctets.port(ports.lowerBound), into: first), .immediate(KeyOctets.port(ports.upperBound), into: Register(word: 4)),
        .masquerade(ports: Expression.PortRegisters(first, Register(word: 4))),
      ]
    case .source(let address, let ports):
      let loaded = Expression.immediate(address.octets, into: first)
      guard let ports else { return [loaded, .translate(isSource: true, address.family, first, ports: nil)] }
      return [
        loaded, .immediate(KeyOctets.port(ports.lowerBound), into: Register(word: 4)),
        .immediate(KeyOctets.port(ports.upperBound), into: Register(word: 8)),
        .translate(isSource: true, address.family, first, ports: Expression.PortRegisters(Register(word: 4), Register(word: 8))),
      ]
    case .destination(let address, let port):
      let loaded = Expression.immediate(address.octets, into: first)
      guard let port else { return [loaded, .translate(isSource: false, address.family, first, ports: nil)] }
      let register = Register(word: 4)
      return [
        loaded, .immediate(KeyOctets.port(port), into: register),
        .translate(isSource: false, address.family, first, ports: Expression.PortRegisters(register, register)),
      ]
    case .sourceByMap(let fields, let map, let family):
      return Statement.load(fields)
        + [.lookup(map, first, into: first, negated: false), .translate(isSource: true, family, first, ports: nil)]
    case .destinationByMap(let fields, let map, let family):
      return Statement.load(fields)
        + [.lookup(map, first, into: first, negated: false), .translate(isSource: false, family, first, ports: nil)]
    }
  }
}

public struct ChainRule: Hashable, Sendable {
  public var statements: [Statement]
  /// At most 128 octets reach the kernel, as nft would have it; what is beyond is cut.
  public var comment: String?
  public init(_ statements: [Statement], comment: String? = nil) {
    self.statements = statements
    self.comment = comment
  }
  public init(_ statements: Statement..., comment: String? = nil) { self.init(statements, comment: comment) }
  public var expressions: [Expression] { statements.flatMap(\.expressions) }
  /// The sets and maps that must exist.
  public var sets: [String] { statements.flatMap(\.sets) }
  /// The chains that must exist.
  public var targets: [String] {
    statements.compactMap { if case .verdict(let verdict) = $0 { verdict.target } else { nil } }
  }
}

/// Where a base chain is hung in the packet's path; the hook numbers are those of the inet families.
public struct ChainHook: Hashable, Sendable {
  public enum Point: UInt32, Hashable, Sendable {
    case prerouting = 0
    case input = 1
    case forward = 2
    case output = 3
    case postrouting = 4
  }
  /// The raw value is the kernel's word.
  public enum Kind: String, Hashable, Sendable {
    case filter
    /// Sees the first packet of each connection, and may translate it.
    case nat
  }
  public var kind: Kind
  public var point: Point
  /// -400 defragmentation, -300 raw, -200 connection tracking, -150 mangle, -100 dstnat, 0 filter, 100 srcnat.
  public var priority: Int32
  public init(_ point: Point, priority: Int32, _ kind: Kind = .filter) {
    self.kind = kind
    self.point = point
    self.priority = priority
  }
}

public struct Chain: Hashable, Sendable {
  /// Nil for a chain that is only jumped to. A base chain's policy is accept: what we do not police passes.
  public var hook: ChainHook?
  public var rules: [ChainRule]
  public var comment: String?
  /// What its rules decide belongs to policies: one that the kernel refuses can be a drop instead.
  public var isPolicy: Bool
  public init(hook: ChainHook? = nil, comment: String? = nil, isPolicy: Bool = false, _ rules: [ChainRule] = []) {
    self.hook = hook
    self.comment = comment
    self.isPolicy = isPolicy
    self.rules = rules
  }
}

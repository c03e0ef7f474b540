/// A ruleset as text, close to what `nft list ruleset` prints, and always the same for the same ruleset: for goldens and messages.

import Addresses

public enum RulesetText {
  /// Everything, chains and sets by name; base chains first.
  public static func text(_ ruleset: Ruleset) -> String {
    var lines: [String] = []
    for (name, spec) in ruleset.sets.sorted(by: { $0.key < $1.key }) {
      lines += set(name, spec, ruleset.elements[name] ?? [])
      lines.append("")
    }
    let chains = ruleset.chains.sorted { ($0.value.hook == nil ? 1 : 0, $0.key) < ($1.value.hook == nil ? 1 : 0, $1.key) }
    for (name, value) in chains {
      lines += chain(name, value)
      lines.append("")
    }
    return lines.joined(separator: "\n")
  }

  public static func set(_ name: String, _ spec: SetSpec, _ elements: Set<SetElement>) -> [String] {
    let key = spec.key.map(\.word).joined(separator: " . ")
    var lines = ["\(spec.data == nil ? "set" : "map") \(name) {"]
    switch spec.data {
    case nil: lines.append("  type \(key)")
    case .value(let type)?: lines.append("  type \(key) : \(type.word)")
    case .verdict?: lines.append("  type \(key) : verdict")
    }
    if spec.isInterval { lines.append("  flags interval") }
    if let comment = spec.comment { lines.append("  comment \"\(comment)\"") }
    if !elements.isEmpty {
      let sorted = elements.sorted { $0.key == $1.key ? "\($0)" < "\($1)" : $0.key.lexicographicallyPrecedes($1.key) }
      lines.append("  elements = {")
      lines += sorted.map { "    \(element($0, spec))" }
      lines.append("  }")
    }
    return lines + ["}"]
  }

  public static func chain(_ name: String, _ chain: Chain) -> [String] {
    var lines = ["chain \(name) {"]
    if let comment = chain.comment { lines.append("  comment \"\(comment)\"") }
    if let hook = chain.hook { lines.append("  type \(hook.kind) hook \(hook.point) priority \(hook.priority); policy accept;") }
    return lines + chain.rules.map { "  \($0)" } + ["}"]
  }

  public static func element(_ element: SetElement, _ spec: SetSpec) -> String {
    var text = fields(element.key, spec.key, element.last)
    switch element.data {
    case nil: break
    case .value(let octets)?:
      if case .value(let type)? = spec.data { text += " : \(value(octets, type))" } else { text += " : \(octets)" }
    case .verdict(let verdict)?: text += " : \(verdict)"
    }
    return text
  }

  private static func fields(_ key: [UInt8], _ types: [KeyType], _ last: [UInt8]?) -> String {
    var offset = 0
    return types.map { type in
      let step = types.count == 1 ? type.length : type.paddedLength
      defer { offset += step }
      guard key.count >= offset + type.length else { return "?" }
      let from = Array(key[offset..<(offset + type.length)])
      guard let last, last.count >= offset + type.length else { return value(from, type) }
      let to = Array(last[offset..<(offset + type.length)])
      return from == to ? value(from, type) : range(from, to, type)
    }.joined(separator: " . ")
  }
  private static func range(_ from: [UInt8], _ to: [UInt8], _ type: KeyType) -> String {
    if type == .ipv4 || type == .ipv6, let address = IPAddress(octets: from) {
      let common = zip(from, to).map { $0 ^ $1 }
      let length = common.firstIndex { $0 != 0 }.map { $0 * 8 + common[$0].leadingZeroBitCount } ?? from.count * 8
      let prefix = IPPrefix(address, length: UInt8(length))
      if prefix.address == address, KeyOctets.last(of: prefix) == to { return prefix.description }
    }
    return "\(value(from, type))-\(value(to, type))"
  }

  static func host32(_ octets: [UInt8]) -> UInt32 { octets.reduce(0) { $0 << 8 | UInt32($1) }.bigEndian }
  static func hexadecimal(_ value: UInt32) -> String {
    let digits = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
  }

  static func value(_ octets: [UInt8], _ type: KeyType) -> String {
    switch type {
    case .ipv4, .ipv6: IPAddress(octets: octets)?.description ?? "\(octets)"
    case .ether: MACAddress(octets: octets)?.description ?? "\(octets)"
    case .protocolNumber: protocolName(octets[0])
    case .port: "\(UInt16(octets[0]) << 8 | UInt16(octets[1]))"
    case .icmpType, .icmpv6Type: "\(octets[0])"
    case .mark: hexadecimal(host32(octets))
    case .ctState: states(ConnectionState(rawValue: host32(octets)))
    case .interfaceName: "\"\(String(decoding: octets.prefix { $0 != 0 }, as: UTF8.self))\""
    }
  }
  package static func protocolName(_ number: UInt8) -> String {
    switch number {
    case 1: "icmp"
    case 6: "tcp"
    case 17: "udp"
    case 58: "ipv6-icmp"
    case 132: "sctp"
    case 136: "udplite"
    default: "\(number)"
    }
  }
  static func unit(_ seconds: UInt64) -> String {
    [1: "second", 60: "minute", 3600: "hour", 86_400: "day", 604_800: "week"][seconds] ?? "\(seconds)s"
  }
  static func states(_ states: ConnectionState) -> String {
    [(ConnectionState.invalid, "invalid"), (.established, "established"), (.related, "related"), (.new, "new"), (.untracked, "untracked")]
      .filter { states.contains($0.0) }.map(\.1).joined(separator: ",")
  }

  static func value(_ octets: [UInt8], _ field: Field) -> String {
    switch field {
    case .networkProtocol: octets == [2] ? "ipv4" : octets == [10] ? "ipv6" : "\(octets)"
    case .transportProtocol: protocolName(octets[0])
    case .inputName, .outputName: value(octets, KeyType.interfaceName)
    case .inputType: octets == ArpHardware.ether ? "ether" : "\(octets)"
    case .inputIndex: "\(host32(octets))"
    case .mark: value(octets, KeyType.mark)
    case .etherSource: value(octets, KeyType.ether)
    case .source(let family), .destination(let family), .connectionEnd(_, let family): value(octets, family == .v4 ? KeyType.ipv4 : KeyType.ipv6)
    case .sourcePort, .destinationPort: value(octets, KeyType.port)
    case .icmpType, .icmpCode: "\(octets[0])"
    }
  }
}

/// ARPHRD_* as `meta iiftype` has them.
public enum ArpHardware {
  public static let ether: [UInt8] = [UInt8(truncatingIfNeeded: UInt16(1).bigEndian >> 8), UInt8(truncatingIfNeeded: UInt16(1).bigEndian)]
}

extension Verdict: CustomStringConvertible {
  public var description: String {
    switch self {
    case .accept: "accept"
    case .drop: "drop"
    case .return: "return"
    case .jump(let chain): "jump \(chain)"
    case .goto(let chain): "goto \(chain)"
    }
  }
}

extension Field: CustomStringConvertible {
  public var description: String {
    switch self {
    case .networkProtocol: "meta nfproto"
    case .transportProtocol: "meta l4proto"
    case .inputName: "iifname"
    case .outputName: "oifname"
    case .inputType: "meta iiftype"
    case .inputIndex: "iif"
    case .mark: "meta mark"
    case .etherSource: "ether saddr"
    case .source(let family): family == .v4 ? "ip saddr" : "ip6 saddr"
    case .destination(let family): family == .v4 ? "ip daddr" : "ip6 daddr"
    case .sourcePort: "th sport"
    case .destinationPort: "th dport"
    case .icmpType: "icmp type"
    case .icmpCode: "icmp code"
    case .connectionEnd(let isReply, let family): "ct \(isReply ? "reply" : "original") \(family == .v4 ? "ip" : "ip6") saddr"
    }
  }
}

extension Statement: CustomStringConvertible {
  public var description: String {
    switch self {
    case .match(let field, let comparison, let value): "\(field) \(comparison == .equal ? "" : "!= ")\(RulesetText.value(value, field))"
    case .matchStart(let field, let start): "\(field) \"\(String(decoding: start, as: UTF8.self))*\""
    case .matchMasked(let field, let comparison, let mask, let value):
      "\(field) \(comparison == .equal ? "" : "!= ")\(RulesetText.value(value, field))/\(mask.reduce(0) { $0 + $1.nonzeroBitCount })"
    case .matchRange(let field, let negated, let from, let to):
      "\(field) \(negated ? "!= " : "")\(RulesetText.value(from, field))-\(RulesetText.value(to, field))"
    case .lookup(let fields, let set, let negated):
      "\(fields.map(\.description).joined(separator: " . ")) \(negated ? "!= " : "")@\(set)"
    case .connectionState(let states): "ct state \(RulesetText.states(states))"
    case .connectionStatus(let bits): "ct status \(bits == .destinationNAT ? "dnat" : "\(bits.rawValue)")"
    case .verdictMap(let fields, let map): "\(fields.map(\.description).joined(separator: " . ")) vmap @\(map)"
    case .setMarkBits(let bits): "meta mark set meta mark | \(RulesetText.hexadecimal(bits))"
    case .clearMarkBits(let bits): "meta mark set meta mark & \(RulesetText.hexadecimal(~bits))"
    case .markBitsSet(let bits): "meta mark & \(RulesetText.hexadecimal(bits)) == \(RulesetText.hexadecimal(bits))"
    case .counter: "counter"
    case .log(let prefix): "log prefix \"\(prefix)\" level notice"
    case .logGroup(let group, let prefix): "log prefix \"\(prefix)\" group \(group)"
    case .limit(let limit): "limit rate \(limit.isOver ? "over " : "")\(limit.packets)/\(RulesetText.unit(limit.perSeconds)) burst \(limit.burst) packets"
    case .connectionsAbove(let count): "ct count over \(count)"
    case .setDSCP(let family, let value): "\(family == .v4 ? "ip" : "ip6") dscp set \(value)"
    case .notrack: "notrack"
    case .reject(.tcpReset): "reject with tcp reset"
    case .reject(.prohibited): "reject with icmpx admin-prohibited"
    case .translate(let translation): "\(translation)"
    case .verdict(let verdict): "\(verdict)"
    }
  }
}

extension Translation: CustomStringConvertible {
  public var description: String {
    func family(_ family: IPFamily) -> String { family == .v4 ? "ip" : "ip6" }
    func key(_ fields: [Field]) -> String { fields.map(\.description).joined(separator: " . ") }
    func with(_ address: IPAddress, _ ports: String) -> String {
      ports.isEmpty ? "\(address)" : address.family == .v4 ? "\(address):\(ports)" : "[\(address)]:\(ports)"
    }
    switch self {
    case .masquerade(let ports): return "masquerade" + (ports.map { " to :\($0.lowerBound)-\($0.upperBound)" } ?? "")
    case .source(let address, let ports):
      return "snat \(family(address.family)) to \(with(address, ports.map { "\($0.lowerBound)-\($0.upperBound)" } ?? ""))"
    case .destination(let address, let port): return "dnat \(family(address.family)) to \(with(address, port.map { "\($0)" } ?? ""))"
    case .sourceByMap(let fields, let map, let kind): return "snat \(family(kind)) to \(key(fields)) map @\(map)"
    case .destinationByMap(let fields, let map, let kind): return "dnat \(family(kind)) to \(key(fields)) map @\(map)"
    }
  }
}

extension ChainRule: CustomStringConvertible {
  public var description: String {
    (statements.map(\.description) + (comment.map { ["comment \"\($0)\""] } ?? [])).joined(separator: " ")
  }
}

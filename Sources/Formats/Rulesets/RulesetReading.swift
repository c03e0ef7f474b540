/// What the kernel says it holds: the bodies of table, chain, rule, set and element messages as values.

import NetlinkMessages
public import Octets

/// `inet <table>` as it was read.
public struct KernelRuleset: Equatable, Sendable {
  public struct KernelChain: Equatable, Sendable {
    public var hook: ChainHook?
    /// Of a base chain: 1 accepts.
    public var policy: UInt32?
    public var userData: [UInt8] = []
    public var rules: [KernelRule] = []
    public init() {}
  }
  public struct KernelRule: Equatable, Sendable {
    public var handle: UInt64 = 0
    public var expressions: [Expression] = []
    public var userData: [UInt8] = []
    /// What its counter has counted.
    public var packets: UInt64 = 0
    public var octets: UInt64 = 0
    public init() {}
  }
  public struct KernelSet: Equatable, Sendable {
    public var flags: UInt32 = 0
    public var typeNumber: UInt32 = 0
    public var keyLength: UInt32 = 0
    public var dataType: UInt32?
    public var dataLength: UInt32?
    public var userData: [UInt8] = []
    public var elements: Set<SetElement> = []
    public init() {}
  }
  public var flags: TableFlags
  /// The port of the socket that owns it.
  public var owner: UInt32?
  public var chains: [String: KernelChain] = [:]
  public var sets: [String: KernelSet] = [:]
  public init(flags: TableFlags = [], owner: UInt32? = nil) {
    self.flags = flags
    self.owner = owner
  }
}

extension KernelRuleset.KernelChain {
  public init(_ chain: Chain) {
    self.init()
    hook = chain.hook
    policy = chain.hook == nil ? nil : 1
    userData = UserData.comment(chain.comment)
    rules = chain.rules.map(KernelRuleset.KernelRule.init)
  }
  /// True if it does what `chain` says and says so in the same words.
  public func holds(_ chain: Chain) -> Bool {
    hook == chain.hook && (hook == nil || policy == 1) && rules.count == chain.rules.count && userData == UserData.comment(chain.comment)
      && zip(rules, chain.rules).allSatisfy { $0.holds($1) }
  }
}
extension KernelRuleset.KernelRule {
  public init(_ rule: ChainRule) {
    self.init()
    expressions = rule.expressions
    userData = UserData.comment(rule.comment)
  }
  public func holds(_ rule: ChainRule) -> Bool { userData == UserData.comment(rule.comment) && expressions == rule.expressions }
}
extension KernelRuleset.KernelSet {
  public init(_ spec: SetSpec) {
    self.init()
    flags = spec.flags
    typeNumber = spec.typeNumber
    keyLength = UInt32(spec.keyLength)
    userData = UserData.set(spec)
    switch spec.data {
    case nil: break
    case .value(let type)?:
      dataType = type.rawValue
      dataLength = UInt32(type.length)
    case .verdict?: dataType = 0xffff_ff00
    }
  }
  /// True if it is made as `spec` says; elements and comment apart, since a set cannot be given another comment.
  public func holds(_ spec: SetSpec) -> Bool {
    var spec = spec
    spec.comment = nil
    let wanted = KernelRuleset.KernelSet(spec)
    return flags == wanted.flags && typeNumber == wanted.typeNumber && keyLength == wanted.keyLength && dataType == wanted.dataType
      && (wanted.dataLength == nil || dataLength == wanted.dataLength) && userData.starts(with: wanted.userData)
  }
}

/// A body that follows `nfgenmsg`.
public enum RulesetReading {
  /// The family and table that a message is about, whatever its kind: attribute 1 is the table's name in all of them.
  public static func table(_ reader: inout OctetReader) throws(WireError) -> (family: UInt8, name: String) {
    let family = try reader.u8()
    try reader.skip(3)
    var name = ""
    try reader.attributes { type, value throws(WireError) in
      if type == 1 { name = try value.text() }
    }
    return (family, name)
  }

  public struct Table: Sendable {
    public var name = ""
    public var flags: TableFlags = []
    public var owner: UInt32?
  }
  public static func table(body reader: inout OctetReader) throws(WireError) -> Table {
    try reader.skip(4)
    var table = Table()
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case 1: table.name = try value.text()
      case 2: table.flags = TableFlags(rawValue: try value.u32())
      case 7: table.owner = try value.u32()
      default: break
      }
    }
    return table
  }

  public static func chain(
    body reader: inout OctetReader
  ) throws(WireError) -> (table: String, name: String, chain: KernelRuleset.KernelChain) {
    try reader.skip(4)
    var table = ""
    var name = ""
    var chain = KernelRuleset.KernelChain()
    var kind = ""
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case 1: table = try value.text()
      case 3: name = try value.text()
      case 4:
        var point: UInt32?
        var priority: Int32 = 0
        try value.attributes { type, value throws(WireError) in
          switch type {
          case 1: point = try value.u32()
          case 2: priority = Int32(bitPattern: try value.u32())
          default: break
          }
        }
        if let point = point.flatMap(ChainHook.Point.init(rawValue:)) { chain.hook = ChainHook(point, priority: priority) }
      case 5: chain.policy = try value.u32()
      case 7: kind = try value.text()
      case 12: chain.userData = value.rest()
      default: break
      }
    }
    // A kind that we never make is another hook than any we want.
    if let hook = chain.hook { chain.hook = ChainHook.Kind(rawValue: kind).map { ChainHook(hook.point, priority: hook.priority, $0) } }
    return (table, name, chain)
  }

  public static func rule(
    body reader: inout OctetReader
  ) throws(WireError) -> (table: String, chain: String, rule: KernelRuleset.KernelRule) {
    try reader.skip(4)
    var table = ""
    var chain = ""
    var rule = KernelRuleset.KernelRule()
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case 1: table = try value.text()
      case 2: chain = try value.text()
      case 3: rule.handle = try value.u64()
      case 4:
        try value.attributes { type, value throws(WireError) in
          guard type == Attribute.listElement else { return }
          let (expression, counted) = try Expression.read(&value)
          rule.expressions.append(expression)
          if let counted { (rule.packets, rule.octets) = counted }
        }
      case 7: rule.userData = value.rest()
      default: break
      }
    }
    return (table, chain, rule)
  }

  public static func set(body reader: inout OctetReader) throws(WireError) -> (table: String, name: String, set: KernelRuleset.KernelSet) {
    try reader.skip(4)
    var table = ""
    var name = ""
    var set = KernelRuleset.KernelSet()
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case 1: table = try value.text()
      case 2: name = try value.text()
      case 3: set.flags = try value.u32()
      case 4: set.typeNumber = try value.u32()
      case 5: set.keyLength = try value.u32()
      case 6: set.dataType = try value.u32()
      case 7: set.dataLength = try value.u32()
      case 13: set.userData = value.rest()
      default: break
      }
    }
    if set.dataType == 0xffff_ff00 { set.dataLength = nil }
    return (table, name, set)
  }

  /// One element as the kernel keeps it: in a plain interval set it is half a range.
  public struct RawElement: Sendable {
    public var element: SetElement
    public var isEnd: Bool
  }
  public static func elements(body reader: inout OctetReader) throws(WireError) -> [RawElement] {
    try reader.skip(4)
    var result: [RawElement] = []
    try reader.attributes { type, value throws(WireError) in
      guard type == 3 else { return }
      try value.attributes { type, value throws(WireError) in
        guard type == Attribute.listElement else { return }
        var raw = RawElement(element: SetElement([]), isEnd: false)
        try value.attributes { type, value throws(WireError) in
          switch type {
          case 1: raw.element.key = try data(&value)
          case 10: raw.element.last = try data(&value)
          case 2:
            try value.attributes { type, value throws(WireError) in
              switch type {
              case Attribute.dataValue: raw.element.data = .value(value.rest())
              case Attribute.dataVerdict: raw.element.data = try Verdict(decoding: &value).map { .verdict($0) }
              default: break
              }
            }
          case 3: raw.isEnd = try value.u32() & 1 == 1
          default: break
          }
        }
        result.append(raw)
      }
    }
    return result
  }
  private static func data(_ reader: inout OctetReader) throws(WireError) -> [UInt8] {
    var octets: [UInt8] = []
    try reader.attributes { type, value throws(WireError) in
      if type == Attribute.dataValue { octets = value.rest() }
    }
    return octets
  }

  /// Joins starts and ends into ranges where the set has them; else takes the elements as they are.
  public static func join(_ raw: [RawElement], flags: UInt32) -> Set<SetElement> {
    guard flags & SetSpec.Flags.interval != 0, flags & SetSpec.Flags.concatenation == 0 else { return Set(raw.map(\.element)) }
    // At the same key the end of one range comes before the start of the next.
    let sorted = raw.sorted {
      $0.element.key == $1.element.key ? $0.isEnd && !$1.isEnd : $0.element.key.lexicographicallyPrecedes($1.element.key)
    }
    var result: Set<SetElement> = []
    var start: SetElement?
    for item in sorted {
      if item.isEnd {
        if var open = start, let last = KeyOctets.predecessor(item.element.key) {
          open.last = last
          result.insert(open)
        }
        start = nil
      } else {
        start = item.element
      }
    }
    if var open = start {
      open.last = [UInt8](repeating: 0xff, count: open.key.count)
      result.insert(open)
    }
    return result
  }

  /// The generation and the process name of its maker from NFT_MSG_NEWGEN.
  public static func generation(body reader: inout OctetReader) throws(WireError) -> (id: UInt32, process: String) {
    try reader.skip(4)
    var id: UInt32 = 0
    var process = ""
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case 1: id = try value.u32()
      case 3: process = try value.text()
      default: break
      }
    }
    return (id, process)
  }
}

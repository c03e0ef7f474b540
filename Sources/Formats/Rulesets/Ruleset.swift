/// The whole content of one table, and changes of it.

public struct Ruleset: Hashable, Sendable {
  public var chains: [String: Chain] = [:]
  public var sets: [String: SetSpec] = [:]
  /// By set name. A set without elements has no entry.
  public var elements: [String: Set<SetElement>] = [:]
  public init() {}
}

/// What is to become different: only what is named here changes.
public struct RulesetDelta: Hashable, Sendable {
  public struct Elements: Hashable, Sendable {
    public var added: Set<SetElement>
    public var removed: Set<SetElement>
    public init(added: Set<SetElement> = [], removed: Set<SetElement> = []) {
      self.added = added
      self.removed = removed
    }
    public var isEmpty: Bool { added.isEmpty && removed.isEmpty }
  }
  /// The whole new content of each; `.some(nil)` removes.
  public var chains: [String: Chain?] = [:]
  /// A removed set takes its elements along. A set that is given again with the same spec keeps them.
  public var sets: [String: SetSpec?] = [:]
  public var elements: [String: Elements] = [:]
  public init() {}
  public var isEmpty: Bool { chains.isEmpty && sets.isEmpty && elements.allSatisfy { $0.value.isEmpty } }

  public mutating func add(_ element: SetElement, to set: String) {
    if elements[set, default: Elements()].removed.remove(element) == nil { elements[set]!.added.insert(element) }
  }
  public mutating func remove(_ element: SetElement, from set: String) {
    if elements[set, default: Elements()].added.remove(element) == nil { elements[set]!.removed.insert(element) }
  }
}

extension Ruleset {
  public mutating func apply(_ delta: RulesetDelta) {
    for (name, spec) in delta.sets {
      sets[name] = spec
      if spec == nil { elements[name] = nil }
    }
    for (name, change) in delta.elements where sets[name] != nil {
      guard var members = elements.removeValue(forKey: name) else {
        // The storage is shared, not copied.
        if !change.added.isEmpty { elements[name] = change.added }
        continue
      }
      members.subtract(change.removed)
      members.formUnion(change.added)
      if !members.isEmpty { elements[name] = members }
    }
    for (name, chain) in delta.chains { chains[name] = chain }
  }
}

/// One step of a transaction.
public enum RulesetMutation: Hashable, Sendable {
  case addTable(TableFlags)
  case deleteTable
  /// Without its rules.
  case addChain(String, ChainHook?, comment: String?)
  case deleteChain(String)
  /// At the end of its chain.
  case addRule(chain: String, ChainRule)
  case flushChain(String)
  case addSet(String, SetSpec)
  case deleteSet(String)
  case addElements(set: String, SetSpec, [SetElement])
  case deleteElements(set: String, SetSpec, [SetElement])
  /// All rules of another program's table whose work ours takes over.
  case flushPredecessor(ForeignTable)
  case deletePredecessor(ForeignTable)
}

/// A table that is not ours.
public struct ForeignTable: Hashable, Sendable, CustomStringConvertible {
  /// NFPROTO_IPV4 (2), NFPROTO_ARP (3), NFPROTO_IPV6 (10).
  public let family: UInt8
  public let name: String
  public init(family: UInt8, name: String) { (self.family, self.name) = (family, name) }
  public var description: String { "\([2: "ip", 3: "arp", 10: "ip6"][family] ?? "\(family)") \(name)" }
  /// What Calico's own Felix programs in its nftables mode.
  public static let calico = [2, 10, 3].map { ForeignTable(family: $0, name: "calico") }
}

public struct TableFlags: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  /// Only the socket that made it may change it.
  public static let owner = TableFlags(rawValue: 2)
  /// It outlives its owner (kernel 6.9); the next start takes it over.
  public static let persist = TableFlags(rawValue: 4)
}

extension RulesetMutation: CustomStringConvertible {
  public var description: String {
    switch self {
    case .addTable: "add table"
    case .deleteTable: "delete table"
    case .addChain(let name, _, _): "add chain \(name)"
    case .deleteChain(let name): "delete chain \(name)"
    case .addRule(let chain, let rule): "add rule to chain \(chain): \(rule)"
    case .flushChain(let name): "flush chain \(name)"
    case .addSet(let name, let spec): "add \(spec.data == nil ? "set" : "map") \(name)"
    case .deleteSet(let name): "delete set \(name)"
    case .addElements(let set, let spec, let elements): "add \(Self.text(elements, spec)) to set \(set)"
    case .flushPredecessor(let table): "flush table \(table)"
    case .deletePredecessor(let table): "delete table \(table)"
    case .deleteElements(let set, let spec, let elements): "delete \(Self.text(elements, spec)) from set \(set)"
    }
  }
  private static func text(_ elements: [SetElement], _ spec: SetSpec) -> String {
    elements.count == 1 ? "element \(RulesetText.element(elements[0], spec))" : "\(elements.count) elements"
  }
  /// The one object it changes, for the counts of a report.
  public var elementCount: Int {
    switch self {
    case .addElements(_, _, let elements), .deleteElements(_, _, let elements): elements.count
    default: 0
    }
  }
}

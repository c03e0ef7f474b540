/// Values by prefix, with the questions routing asks: which entry matches an address best, which cover a prefix, which lie inside it.
///
/// A path-compressed binary trie for each family, in one arena: nodes refer to each other by index, so a walk touches no reference counts
/// and copying a trie copies one array. A node without a value is a fork and always has two children; that keeps the number of nodes below
/// twice the number of entries.

@frozen
public struct PrefixTrie<Value> {
  /// A prefix of either family as 128 bits from the top; IPv4 stands in the upper 32.
  @frozen @usableFromInline
  struct Key {
    @usableFromInline var high: UInt64
    @usableFromInline var low: UInt64
    @usableFromInline var length: UInt8

    @inlinable init(high: UInt64, low: UInt64, length: UInt8) {
      self.high = high
      self.low = low
      self.length = length
    }
    @inlinable init(_ prefix: IPPrefix) {
      switch prefix {
      case .v4(let prefix): self.init(high: UInt64(prefix.address.rawValue) << 32, low: 0, length: prefix.length)
      case .v6(let prefix): self.init(high: prefix.address.high, low: prefix.address.low, length: prefix.length)
      }
    }
    @inlinable init(_ address: IPAddress) {
      switch address {
      case .v4(let address): self.init(high: UInt64(address.rawValue) << 32, low: 0, length: 32)
      case .v6(let address): self.init(high: address.high, low: address.low, length: 128)
      }
    }
    @inlinable func bit(_ index: UInt8) -> Bool {
      index < 64 ? high >> UInt64(63 - index) & 1 == 1 : low >> UInt64(127 - index) & 1 == 1
    }
    /// Bits from the top in which both prefixes agree, within both lengths.
    @inlinable func common(_ other: Key) -> UInt8 {
      let different = high ^ other.high
      let agreeing = different != 0 ? different.leadingZeroBitCount : 64 + (low ^ other.low).leadingZeroBitCount
      return min(UInt8(agreeing), min(length, other.length))
    }
    @inlinable func truncated(to length: UInt8) -> Key {
      let mask = IPv6Prefix.mask(length)
      return Key(high: high & mask.high, low: low & mask.low, length: length)
    }
    @inlinable func covers(_ other: Key) -> Bool { length <= other.length && common(other) == length }
    @inlinable func prefix(_ family: IPFamily) -> IPPrefix {
      switch family {
      case .v4: .v4(IPv4Prefix(IPv4Address(rawValue: UInt32(truncatingIfNeeded: high >> 32)), length: length))
      case .v6: .v6(IPv6Prefix(IPv6Address(high: high, low: low), length: length))
      }
    }
  }

  @frozen @usableFromInline
  struct Node {
    @usableFromInline var key: Key
    @usableFromInline var value: Value?
    /// Children by their first bit beyond this prefix; `none` if absent.
    @usableFromInline var zero: Int32
    @usableFromInline var one: Int32
    @inlinable init(key: Key, value: Value?, zero: Int32 = PrefixTrie.none, one: Int32 = PrefixTrie.none) {
      self.key = key
      self.value = value
      self.zero = zero
      self.one = one
    }
    @inlinable func child(_ bit: Bool) -> Int32 { bit ? one : zero }
  }

  @inlinable static var none: Int32 { -1 }
  @usableFromInline var nodes: [Node] = []
  /// Places in `nodes` that are free again.
  @usableFromInline var free: [Int32] = []
  @usableFromInline var root4: Int32 = -1
  @usableFromInline var root6: Int32 = -1
  /// The number of prefixes that have a value.
  public private(set) var count = 0

  public init() {}
  @inlinable public var isEmpty: Bool { count == 0 }

  @inlinable func root(_ family: IPFamily) -> Int32 { family == .v4 ? root4 : root6 }

  /// The value of exactly this prefix.
  @inlinable
  public subscript(prefix: IPPrefix) -> Value? {
    get {
      let key = Key(prefix)
      var index = root(prefix.family)
      while index != Self.none {
        let nodeKey = nodes[Int(index)].key
        guard nodeKey.covers(key) else { return nil }
        if nodeKey.length == key.length { return nodes[Int(index)].value }
        index = nodes[Int(index)].child(key.bit(nodeKey.length))
      }
      return nil
    }
    set {
      if let newValue { insert(newValue, for: prefix) } else { remove(prefix) }
    }
  }

  /// The longest prefix that contains the address, with its value.
  @inlinable
  public func longestMatch(_ address: IPAddress) -> (prefix: IPPrefix, value: Value)? { longestMatch(Key(address), address.family) }

  /// The longest prefix that contains this one (it may be this one), with its value.
  @inlinable
  public func longestMatch(_ prefix: IPPrefix) -> (prefix: IPPrefix, value: Value)? { longestMatch(Key(prefix), prefix.family) }

  @inlinable
  func longestMatch(_ key: Key, _ family: IPFamily) -> (prefix: IPPrefix, value: Value)? {
    var best = Self.none
    var index = root(family)
    while index != Self.none {
      let nodeKey = nodes[Int(index)].key
      guard nodeKey.covers(key) else { break }
      if nodes[Int(index)].value != nil { best = index }
      if nodeKey.length == key.length { break }
      index = nodes[Int(index)].child(key.bit(nodeKey.length))
    }
    guard best != Self.none, let value = nodes[Int(best)].value else { return nil }
    return (nodes[Int(best)].key.prefix(family), value)
  }

  /// All entries that contain the prefix, itself included, shortest first.
  @inlinable
  public func covering(_ prefix: IPPrefix) -> [(prefix: IPPrefix, value: Value)] {
    let key = Key(prefix)
    var result: [(prefix: IPPrefix, value: Value)] = []
    var index = root(prefix.family)
    while index != Self.none {
      let nodeKey = nodes[Int(index)].key
      guard nodeKey.covers(key) else { break }
      if let value = nodes[Int(index)].value { result.append((nodeKey.prefix(prefix.family), value)) }
      if nodeKey.length == key.length { break }
      index = nodes[Int(index)].child(key.bit(nodeKey.length))
    }
    return result
  }

  /// All entries inside the prefix, itself included, in the order of `IPPrefix`.
  @inlinable
  public func coveredBy(_ prefix: IPPrefix) -> [(prefix: IPPrefix, value: Value)] {
    let key = Key(prefix)
    var index = root(prefix.family)
    while index != Self.none, !key.covers(nodes[Int(index)].key) {
      let nodeKey = nodes[Int(index)].key
      guard nodeKey.covers(key) else { return [] }
      index = nodes[Int(index)].child(key.bit(nodeKey.length))
    }
    var result: [(prefix: IPPrefix, value: Value)] = []
    forEach(from: index, prefix.family) { result.append(($0, $1)) }
    return result
  }

  /// Every entry, IPv4 first, in the order of `IPPrefix`.
  @inlinable
  public var entries: [(prefix: IPPrefix, value: Value)] {
    var result: [(prefix: IPPrefix, value: Value)] = []
    result.reserveCapacity(count)
    for family in IPFamily.allCases { forEach(from: root(family), family) { result.append(($0, $1)) } }
    return result
  }

  @inlinable
  func forEach(from start: Int32, _ family: IPFamily, _ body: (IPPrefix, Value) -> Void) {
    if start == Self.none { return }
    var pending = [start]
    while let index = pending.popLast() {
      let node = nodes[Int(index)]
      if let value = node.value { body(node.key.prefix(family), value) }
      if node.one != Self.none { pending.append(node.one) }
      if node.zero != Self.none { pending.append(node.zero) }
    }
  }

  // MARK: Changes

  /// Sets the value of a prefix and returns the one before.
  @discardableResult
  public mutating func insert(_ value: Value, for prefix: IPPrefix) -> Value? {
    let key = Key(prefix)
    let family = prefix.family
    var parent = Self.none
    var index = root(family)
    while index != Self.none {
      let node = nodes[Int(index)]
      let common = node.key.common(key)
      if common < node.key.length {
        count += 1
        if common == key.length {
          // The new prefix contains this node and takes its place.
          let bit = node.key.bit(common)
          let new = allocate(Node(key: key, value: value, zero: bit ? Self.none : index, one: bit ? index : Self.none))
          link(new, under: parent, family)
        } else {
          let leaf = allocate(Node(key: key, value: value))
          let bit = key.bit(common)
          let fork = allocate(Node(key: key.truncated(to: common), value: nil, zero: bit ? index : leaf, one: bit ? leaf : index))
          link(fork, under: parent, family)
        }
        return nil
      }
      if node.key.length == key.length {
        if node.value == nil { count += 1 }
        nodes[Int(index)].value = value
        return node.value
      }
      parent = index
      index = node.child(key.bit(node.key.length))
    }
    count += 1
    link(allocate(Node(key: key, value: value)), under: parent, family)
    return nil
  }

  /// Removes a prefix and returns its value, if it had one.
  @discardableResult
  public mutating func remove(_ prefix: IPPrefix) -> Value? {
    let key = Key(prefix)
    let family = prefix.family
    var grandparent = Self.none
    var parent = Self.none
    var index = root(family)
    while index != Self.none {
      let nodeKey = nodes[Int(index)].key
      guard nodeKey.covers(key) else { return nil }
      if nodeKey.length == key.length { break }
      (grandparent, parent) = (parent, index)
      index = nodes[Int(index)].child(key.bit(nodeKey.length))
    }
    guard index != Self.none, let value = nodes[Int(index)].value else { return nil }
    count -= 1
    let node = nodes[Int(index)]
    if node.zero != Self.none, node.one != Self.none {
      nodes[Int(index)].value = nil
      return value
    }
    let child = node.zero != Self.none ? node.zero : node.one
    if child != Self.none || parent == Self.none {
      replace(index, by: child, under: parent, family)
    } else if nodes[Int(parent)].value == nil {
      // A leaf leaves its fork with one child, which takes the fork's place.
      let sibling = nodes[Int(parent)].zero == index ? nodes[Int(parent)].one : nodes[Int(parent)].zero
      replace(parent, by: sibling, under: grandparent, family)
      release(parent)
    } else {
      replace(index, by: Self.none, under: parent, family)
    }
    release(index)
    return value
  }

  public mutating func removeAll() { self = PrefixTrie() }

  private mutating func allocate(_ node: Node) -> Int32 {
    if let index = free.popLast() {
      nodes[Int(index)] = node
      return index
    }
    precondition(nodes.count < Int(Int32.max), "a trie has fewer than 2^31 nodes")
    nodes.append(node)
    return Int32(nodes.count - 1)
  }

  private mutating func release(_ index: Int32) {
    nodes[Int(index)].value = nil
    free.append(index)
  }

  private mutating func setRoot(_ index: Int32, _ family: IPFamily) {
    if family == .v4 { root4 = index } else { root6 = index }
  }

  private mutating func link(_ index: Int32, under parent: Int32, _ family: IPFamily) {
    if parent == Self.none { return setRoot(index, family) }
    let bit = nodes[Int(index)].key.bit(nodes[Int(parent)].key.length)
    if bit { nodes[Int(parent)].one = index } else { nodes[Int(parent)].zero = index }
  }

  private mutating func replace(_ index: Int32, by other: Int32, under parent: Int32, _ family: IPFamily) {
    if parent == Self.none { return setRoot(other, family) }
    if nodes[Int(parent)].zero == index { nodes[Int(parent)].zero = other } else { nodes[Int(parent)].one = other }
  }
}

extension PrefixTrie.Key: Sendable {}
extension PrefixTrie.Node: Sendable where Value: Sendable {}
extension PrefixTrie: Sendable where Value: Sendable {}

/// The prefixes of one address set, counted, of which only the widest are visible.
///
/// The kernel's interval sets refuse overlapping elements, and a prefix inside another adds nothing to the set's meaning. So a prefix is
/// visible while nothing that contains it is present. Each prefix counts its claims: an address that two endpoints hold stays until both
/// have given it up. The shape is a path-compressed binary trie over 128 bits in one array; IPv4 uses the top 32 of them in a tree of its
/// own.
import Addresses
import HostPlans

/// What became visible and invisible since the last look; a change and its reverse cancel out.
struct MemberDelta: Sendable {
  private(set) var added: Set<IPSetMember> = []
  private(set) var removed: Set<IPSetMember> = []
  var isEmpty: Bool { added.isEmpty && removed.isEmpty }

  mutating func appear(_ member: IPSetMember) {
    if removed.remove(member) == nil { added.insert(member) }
  }
  mutating func disappear(_ member: IPSetMember) {
    if added.remove(member) == nil { removed.insert(member) }
  }
}

struct OverlapTrie: Sendable {
  private struct Node: Sendable {
    var high: UInt64
    var low: UInt64
    var length: UInt8
    /// Claims; zero for a node that only branches.
    var count: Int32
    var zero: Int32 = -1
    var one: Int32 = -1

    /// The bit behind this node's own prefix decides the side.
    func child(_ bit: Bool) -> Int32 { bit ? one : zero }
  }
  private var nodes: [Node] = []
  private var free: [Int32] = []
  private var rootV4: Int32 = -1
  private var rootV6: Int32 = -1

  init() {}

  mutating func insert(_ prefix: IPPrefix, into delta: inout MemberDelta) {
    let (high, low, length) = Self.bits(prefix)
    var covered = false
    var parent: Int32 = -1
    var side = false
    var current = prefix.family == .v4 ? rootV4 : rootV6
    while current >= 0 {
      let node = nodes[Int(current)]
      let common = min(Self.commonLength(high, low, node.high, node.low), min(length, node.length))
      if common == node.length, node.length == length {
        nodes[Int(current)].count += 1
        if node.count == 0, !covered {
          delta.appear(.net(prefix))
          for below in [node.zero, node.one] { top(below, prefix.family) { delta.disappear(.net($0)) } }
        }
        return
      }
      if common == node.length {
        covered = covered || node.count > 0
        parent = current
        side = Self.bit(high, low, node.length)
        current = node.child(side)
        continue
      }
      // The new prefix either contains this node or parts ways with it further up.
      let leaf: Int32
      if common == length {
        leaf = allocate(Node(high: high, low: low, length: length, count: 1))
        adopt(current, under: leaf, side: Self.bit(node.high, node.low, length))
        link(leaf, parent, side, prefix.family)
        if !covered { top(current, prefix.family) { delta.disappear(.net($0)) } }
      } else {
        leaf = allocate(Node(high: high, low: low, length: length, count: 1))
        let masked = Self.masked(high, low, common)
        let fork = allocate(Node(high: masked.high, low: masked.low, length: common, count: 0))
        let bit = Self.bit(high, low, common)
        adopt(leaf, under: fork, side: bit)
        adopt(current, under: fork, side: !bit)
        link(fork, parent, side, prefix.family)
      }
      if !covered { delta.appear(.net(prefix)) }
      return
    }
    link(allocate(Node(high: high, low: low, length: length, count: 1)), parent, side, prefix.family)
    if !covered { delta.appear(.net(prefix)) }
  }

  /// Gives up one claim. The prefix must be present.
  mutating func remove(_ prefix: IPPrefix, into delta: inout MemberDelta) {
    let (high, low, length) = Self.bits(prefix)
    var covered = false
    var parent: Int32 = -1
    var grandparent: Int32 = -1
    var side = false
    var parentSide = false
    var current = prefix.family == .v4 ? rootV4 : rootV6
    while true {
      precondition(current >= 0, "a claim is given up once")
      let node = nodes[Int(current)]
      if node.length == length { break }
      covered = covered || node.count > 0
      grandparent = parent
      parentSide = side
      parent = current
      side = Self.bit(high, low, node.length)
      current = node.child(side)
    }
    precondition(nodes[Int(current)].count > 0, "a claim is given up once")
    nodes[Int(current)].count -= 1
    let node = nodes[Int(current)]
    guard node.count == 0 else { return }
    if !covered {
      delta.disappear(.net(prefix))
      for below in [node.zero, node.one] { top(below, prefix.family) { delta.appear(.net($0)) } }
    }
    if node.zero >= 0, node.one >= 0 { return }
    link(max(node.zero, node.one), parent, side, prefix.family)
    free.append(current)
    // A fork that has lost one side is a fork no more.
    if parent >= 0, nodes[Int(parent)].count == 0 {
      let fork = nodes[Int(parent)]
      if fork.zero < 0 || fork.one < 0 {
        link(max(fork.zero, fork.one), grandparent, parentSide, prefix.family)
        free.append(parent)
      }
    }
  }

  var visible: Set<IPSetMember> {
    var members: Set<IPSetMember> = []
    top(rootV4, .v4) { members.insert(.net($0)) }
    top(rootV6, .v6) { members.insert(.net($0)) }
    return members
  }

  /// The topmost present prefixes at or below a node.
  private func top(_ start: Int32, _ family: IPFamily, _ body: (IPPrefix) -> Void) {
    var stack = [start]
    while let index = stack.popLast() {
      guard index >= 0 else { continue }
      let node = nodes[Int(index)]
      if node.count > 0 {
        body(Self.prefix(node.high, node.low, node.length, family))
      } else {
        stack.append(node.zero)
        stack.append(node.one)
      }
    }
  }

  private mutating func allocate(_ node: Node) -> Int32 {
    if let index = free.popLast() {
      nodes[Int(index)] = node
      return index
    }
    nodes.append(node)
    return Int32(nodes.count - 1)
  }
  private mutating func adopt(_ child: Int32, under parent: Int32, side: Bool) {
    if side { nodes[Int(parent)].one = child } else { nodes[Int(parent)].zero = child }
  }
  private mutating func link(_ child: Int32, _ parent: Int32, _ side: Bool, _ family: IPFamily) {
    if parent >= 0 {
      adopt(child, under: parent, side: side)
    } else if family == .v4 {
      rootV4 = child
    } else {
      rootV6 = child
    }
  }

  // MARK: Bits

  private static func bits(_ prefix: IPPrefix) -> (high: UInt64, low: UInt64, length: UInt8) {
    switch prefix {
    case .v4(let prefix): (UInt64(prefix.address.rawValue) << 32, 0, prefix.length)
    case .v6(let prefix): (prefix.address.high, prefix.address.low, prefix.length)
    }
  }
  private static func prefix(_ high: UInt64, _ low: UInt64, _ length: UInt8, _ family: IPFamily) -> IPPrefix {
    family == .v4
      ? .v4(IPv4Prefix(IPv4Address(rawValue: UInt32(truncatingIfNeeded: high >> 32)), length: length))
      : .v6(IPv6Prefix(IPv6Address(high: high, low: low), length: length))
  }
  private static func commonLength(_ a: UInt64, _ b: UInt64, _ c: UInt64, _ d: UInt64) -> UInt8 {
    let high = a ^ c
    return UInt8(high != 0 ? high.leadingZeroBitCount : 64 + (b ^ d).leadingZeroBitCount)
  }
  private static func bit(_ high: UInt64, _ low: UInt64, _ index: UInt8) -> Bool {
    index < 64 ? high >> UInt64(63 - index) & 1 == 1 : low >> UInt64(127 - index) & 1 == 1
  }
  private static func masked(_ high: UInt64, _ low: UInt64, _ length: UInt8) -> (high: UInt64, low: UInt64) {
    let mask = IPv6Prefix.mask(length)
    return (high & mask.high, low & mask.low)
  }
}

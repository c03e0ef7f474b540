/// The prefixes of one family in a set, and those among them that no other contains.
///
/// The kernel's interval sets refuse overlapping ranges, while a selector may well select 10.0.0.0/8 and 10.1.0.0/16. Only the
/// outermost prefixes become elements; one change costs a few searches, not a walk over the set.

import Addresses

struct PrefixCover: Equatable {
  /// Sorted: every prefix is followed by all that it contains.
  private(set) var members: [IPPrefix]
  /// How many members have each length, to search only for lengths that occur.
  private var lengths: [UInt8: Int]

  init(_ members: some Sequence<IPPrefix> = []) {
    self.members = Set(members).sorted()
    lengths = [:]
    for member in self.members { lengths[member.length, default: 0] += 1 }
  }

  var isEmpty: Bool { members.isEmpty }

  /// The outermost prefixes.
  var outermost: [IPPrefix] { Self.outermost(members[...]) }

  private static func outermost(_ members: ArraySlice<IPPrefix>) -> [IPPrefix] {
    var result: [IPPrefix] = []
    for member in members where result.last.map({ !$0.contains(member) }) ?? true { result.append(member) }
    return result
  }

  /// The index of the first member that is not before `prefix`.
  private func position(of prefix: IPPrefix) -> Int {
    var low = 0
    var high = members.count
    while low < high {
      let middle = (low + high) / 2
      if members[middle] < prefix { low = middle + 1 } else { high = middle }
    }
    return low
  }
  private func holds(_ prefix: IPPrefix) -> Bool {
    let index = position(of: prefix)
    return index < members.count && members[index] == prefix
  }
  private func isCovered(_ prefix: IPPrefix) -> Bool {
    lengths.keys.contains { $0 < prefix.length && holds(IPPrefix(prefix.address, length: $0)) }
  }
  /// The outermost among the members that `prefix` properly contains; `index` is where they begin.
  private func inside(_ prefix: IPPrefix, from index: Int) -> [IPPrefix] {
    var end = index
    while end < members.count, prefix.contains(members[end]) { end += 1 }
    return Self.outermost(members[index..<end])
  }

  /// What becomes an outermost prefix and what ceases to be one.
  struct Change: Equatable {
    var added: [IPPrefix] = []
    var removed: [IPPrefix] = []
  }

  mutating func insert(_ prefix: IPPrefix) -> Change {
    let index = position(of: prefix)
    guard index == members.count || members[index] != prefix else { return Change() }
    let covered = isCovered(prefix)
    let swallowed = covered ? [] : inside(prefix, from: index)
    members.insert(prefix, at: index)
    lengths[prefix.length, default: 0] += 1
    return covered ? Change() : Change(added: [prefix], removed: swallowed)
  }

  mutating func remove(_ prefix: IPPrefix) -> Change {
    let index = position(of: prefix)
    guard index < members.count, members[index] == prefix else { return Change() }
    members.remove(at: index)
    lengths[prefix.length]! -= 1
    if lengths[prefix.length] == 0 { lengths[prefix.length] = nil }
    return isCovered(prefix) ? Change() : Change(added: inside(prefix, from: index), removed: [prefix])
  }
}

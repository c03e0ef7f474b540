/// How full pools and blocks are. Reserved and held addresses overlap, so what is available is counted as a set, not as a difference.
public import Addresses

public struct AddressUsage: Hashable, Sendable {
  /// 2⁶⁴ − 1 stands for that and more.
  public var capacity: UInt64
  public var inUse: UInt64 = 0
  public var cooling: UInt64 = 0
  /// Reserved and not in use.
  public var reserved: UInt64 = 0
  public var available: UInt64 { capacity == .max ? .max : capacity - min(capacity, inUse + cooling + reserved) }

  /// Of one block.
  public init(_ block: AllocationBlock, reserved prefixes: [IPPrefix]) {
    capacity = UInt64(block.capacity)
    inUse = UInt64(block.assignments.count)
    let resting = Set(block.cooling)
    cooling = UInt64(resting.count)
    guard prefixes.contains(where: { $0.overlaps(block.cidr) }) else { return }
    let held = Set(block.assignments.map(\.address)).union(resting)
    reserved = UInt64(
      (0..<block.capacity).count { ordinal in
        let address = block.address(ordinal)
        return !held.contains(address) && prefixes.contains { $0.contains(address) }
      })
  }

  /// Of a pool, with the blocks that lie in it.
  public init(_ pool: IPPrefix, blocks: [AllocationBlock], reserved prefixes: [IPPrefix]) {
    capacity = Self.size(pool)
    var heldAndReserved: UInt64 = 0
    let within = Self.union(of: prefixes, within: pool)
    for block in blocks where pool.contains(block.cidr) {
      for (address, _, _) in block.assignments {
        inUse += 1
        if within.contains(where: { $0.contains(address) }) { heldAndReserved += 1 }
      }
      for address in block.cooling {
        cooling += 1
        if within.contains(where: { $0.contains(address) }) { heldAndReserved += 1 }
      }
    }
    let all = within.reduce(UInt64(0)) { $0.addingReportingOverflow(Self.size($1)).overflow ? .max : $0 &+ Self.size($1) }
    reserved = all == .max ? .max : all - min(all, heldAndReserved)
  }

  static func size(_ prefix: IPPrefix) -> UInt64 {
    let bits = prefix.family.bits - Int(prefix.length)
    return bits >= 64 ? .max : 1 << UInt64(bits)
  }
  /// The parts of `prefixes` that lie in `pool`, none of which lies in another.
  private static func union(of prefixes: [IPPrefix], within pool: IPPrefix) -> [IPPrefix] {
    var parts: [IPPrefix] = []
    for prefix in prefixes.filter({ $0.overlaps(pool) }).map({ $0.contains(pool) ? pool : $0 }).sorted()
    where !(parts.last?.contains(prefix) ?? false) { parts.append(prefix) }
    return parts
  }
}

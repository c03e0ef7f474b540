/// A pool is divided into equal ones.
public import Addresses
public import Resources

public enum PoolSplit {
  public struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
  }
  /// One transaction carries them all, and etcd's takes 128 operations.
  public static let countMax = 64

  public static func parts(of pool: IPPoolSpec, count: Int) throws(Refusal) -> [IPPrefix] {
    guard count >= 2, count & (count - 1) == 0 else {
      throw Refusal(description: "a pool is split into 2, 4, 8 … equal parts, not into \(count)")
    }
    guard count <= countMax else { throw Refusal(description: "at most \(countMax) parts at a time; split the parts again") }
    let length = Int(pool.cidr.length) + count.trailingZeroBitCount
    guard length <= Int(pool.blockSize) else {
      let most = 1 << (Int(pool.blockSize) - Int(pool.cidr.length))
      throw Refusal(
        description: "\(pool.cidr) has \(most) block\(most == 1 ? "" : "s") of /\(pool.blockSize), and a part needs at least one: "
          + (most == 1 ? "it cannot be split" : "split it into \(most) or fewer"))
    }
    // Twice the half rather than a shift by 64: the parts of a large IPv6 pool lie far apart.
    func halves(_ prefix: IPPrefix) -> [IPPrefix] { Int(prefix.length) == length ? [prefix] : prefix.halves.flatMap(halves) }
    return halves(pool.cidr)
  }
}

extension IPPrefix {
  fileprivate var halves: [IPPrefix] {
    let longer = length + 1
    let low = IPPrefix(address, length: longer)
    switch address {
    case .v4(let base): return [low, IPPrefix(.v4(IPv4Address(rawValue: base.rawValue | 1 << UInt32(32 - longer))), length: longer)]
    case .v6(let base):
      let high =
        longer <= 64
        ? IPv6Address(high: base.high | 1 << UInt64(64 - longer), low: base.low)
        : IPv6Address(high: base.high, low: base.low | 1 << UInt64(128 - longer))
      return [low, IPPrefix(.v6(high), length: longer)]
    }
  }
}

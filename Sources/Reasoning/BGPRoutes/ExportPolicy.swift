/// Which prefixes may be announced: Calico's rule about blocks and pools, as a value. It looks at the prefix and at whether a block covers
/// it, so a change of policy touches only the prefixes inside what changed.

import Addresses

/// Calico's export filter (`calico_aggr` and `calico_export_to_bgp_peers` in its BIRD configuration), in order:
/// a pool with export disabled refuses; a block of this host is announced, what lies inside it is not (the block covers it), but for a
/// workload that arrives (its old host still announces the address on its own) and for what was learned from others (a reflector passes on
/// that an address of its own block has moved away); an enabled pool accepts what lies inside, for example addresses borrowed from another
/// host's block; all else is refused.
public struct ExportPolicy: Hashable, Sendable {
  public enum Verdict: Hashable, Sendable, CustomStringConvertible {
    case accepted(String)
    case refused(String)
    public var isAccepted: Bool { if case .accepted = self { true } else { false } }
    public var description: String {
      switch self {
      case .accepted(let why), .refused(let why): why
      }
    }
  }

  /// Announces everything: for reflectors outside a Calico cluster.
  public var acceptsAll: Bool
  public var pools: Set<IPPrefix>
  public var poolsNotExported: Set<IPPrefix>
  /// Blocks that this host holds.
  public var ownBlocks: Set<IPPrefix>
  /// The metric of an ordinary route of this host; one below it is that of a workload on its way here.
  public var normalMetrics: [IPFamily: UInt32]

  public init(
    acceptsAll: Bool = false, pools: Set<IPPrefix> = [], poolsNotExported: Set<IPPrefix> = [], ownBlocks: Set<IPPrefix> = [],
    normalMetrics: [IPFamily: UInt32] = [:]
  ) {
    self.acceptsAll = acceptsAll
    self.pools = pools
    self.poolsNotExported = poolsNotExported
    self.ownBlocks = ownBlocks
    self.normalMetrics = normalMetrics
  }

  public static let everything = ExportPolicy(acceptsAll: true)

  public func verdict(on prefix: IPPrefix, isCovered: Bool = true) -> Verdict {
    if acceptsAll { return .accepted("everything is announced") }
    if let pool = poolsNotExported.first(where: { $0.contains(prefix) }) { return .refused("pool \(pool) is not exported") }
    if ownBlocks.contains(prefix) { return .accepted("block of this host") }
    if isCovered, let block = ownBlocks.first(where: { $0.contains(prefix) }) { return .refused("inside this host's block \(block)") }
    if let pool = pools.first(where: { $0.contains(prefix) }) { return .accepted("inside pool \(pool)") }
    return .refused("in no enabled pool")
  }

  /// The verdict without its reason, for the hot path. Sets are small: a host has few blocks and a cluster few pools.
  func accepts(_ prefix: IPPrefix, isCovered: Bool) -> Bool {
    if acceptsAll { return true }
    if poolsNotExported.contains(where: { $0.contains(prefix) }) { return false }
    if ownBlocks.contains(prefix) { return true }
    if isCovered, ownBlocks.contains(where: { $0.contains(prefix) }) { return false }
    return pools.contains { $0.contains(prefix) }
  }

  /// Prefixes outside these have the same verdict under both policies; nil means any prefix may differ.
  func changed(from old: ExportPolicy) -> Set<IPPrefix>? {
    if acceptsAll != old.acceptsAll || normalMetrics != old.normalMetrics { return nil }
    return pools.symmetricDifference(old.pools).union(poolsNotExported.symmetricDifference(old.poolsNotExported))
      .union(ownBlocks.symmetricDifference(old.ownBlocks))
  }
}

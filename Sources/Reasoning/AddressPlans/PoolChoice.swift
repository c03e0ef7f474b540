/// Which pools a workload may take addresses from, and in which order a host looks for a block of its own.
public import Addresses
public import Resources
import Selectors

public enum PoolChoice {
  /// Enabled pools of the family whose node selector matches, in order of names. `requested` (names or CIDRs) narrows them and
  /// admits pools whose assignment is manual; the second result names each requested one that cannot be used, and why.
  public static func pools(
    _ all: [Resource], family: IPFamily, nodeLabels: [String: String], requested: [String] = [], use: IPPoolSpec.Use = .workload
  ) -> (pools: [IPPoolSpec], problems: [String]) {
    var problems: [String] = []
    func pool(_ resource: Resource) -> IPPoolSpec? { if case .ipPool(let pool) = resource.spec { pool } else { nil } }
    func fault(_ pool: IPPoolSpec) -> String? {
      if let fault = sizeFault(pool) { return fault }
      if pool.disabled { return "is disabled" }
      if !pool.allowedUses.contains(use) { return "is not for workloads" }
      guard let selector = try? Selector(parsing: pool.nodeSelector) else { return "has a nodeSelector that cannot be read" }
      return selector.matches({ nodeLabels[$0] }) ? nil : "does not select this node (\(pool.nodeSelector))"
    }
    let ofFamily = all.sorted { $0.metadata.name < $1.metadata.name }.filter { pool($0)?.cidr.family == family }
    guard !requested.isEmpty else {
      return (ofFamily.compactMap(pool).filter { $0.assignmentMode == .automatic && fault($0) == nil }, [])
    }
    var chosen: [IPPoolSpec] = []
    for word in requested {
      guard let found = ofFamily.first(where: { $0.metadata.name == word || pool($0)?.cidr.description == word }).flatMap(pool) else {
        problems.append("no \(family) pool is called or covers \(word)")
        continue
      }
      if let fault = fault(found) { problems.append("pool \(word) \(fault)") } else { chosen.append(found) }
    }
    return (chosen, problems)
  }

  /// Why the pool cannot be cut into blocks, whatever a stored document says.
  public static func sizeFault(_ pool: IPPoolSpec) -> String? {
    let sizes: ClosedRange<UInt8> = pool.cidr.family == .v4 ? 20...32 : 116...128
    if !sizes.contains(pool.blockSize) { return "has block size \(pool.blockSize); it must be \(sizes.lowerBound) to \(sizes.upperBound)" }
    return pool.blockSize < pool.cidr.length ? "is smaller than one of its blocks (/\(pool.blockSize))" : nil
  }

  /// How many blocks the pool has, at most 2³² of them counted.
  public static func blockCount(_ pool: IPPoolSpec) -> UInt64 { 1 << UInt64(min(32, Int(pool.blockSize) - Int(pool.cidr.length))) }

  /// The pool's blocks, beginning at a place that depends on the host and going once round: hosts that start together do not race for
  /// the same block, and a host that lost its records looks in the same order again.
  public static func candidateBlocks(_ pool: IPPoolSpec, host: String) -> some Sequence<IPPrefix> {
    let count = blockCount(pool)
    let start = UInt64(fnv1a(host)) % count
    let size = UInt64(pool.cidr.family.bits - Int(pool.blockSize))
    return (0..<count).lazy.map { step in
      IPPrefix(pool.cidr.address.advanced(by: ((start + step) % count) << size)!, length: pool.blockSize)
    }
  }

  /// 32-bit FNV-1a (draft-eastlake-fnv).
  static func fnv1a(_ text: String) -> UInt32 { text.utf8.reduce(0x811c_9dc5) { ($0 ^ UInt32($1)) &* 0x0100_0193 } }
}

/// Which pools a workload may take addresses from, and in which order a host looks for a block of its own.
public import Addresses
public import Resources
import Selectors

public enum PoolChoice {
  /// A pool as assignment sees it.
  public struct Pool: Hashable, Sendable {
    public var name: String
    public var spec: IPPoolSpec
    /// Empty and `all()`: every namespace.
    public var namespaceSelector: String
    /// On its way out: what it gave stays, more it does not give.
    public var isDeleting: Bool
    public init(name: String, spec: IPPoolSpec, namespaceSelector: String = "", isDeleting: Bool = false) {
      self.name = name
      self.spec = spec
      self.namespaceSelector = namespaceSelector
      self.isDeleting = isDeleting
    }
    public init?(_ resource: Resource) {
      guard case .ipPool(let spec) = resource.spec else { return nil }
      self.init(name: resource.metadata.name, spec: spec, namespaceSelector: spec.namespaceSelector ?? "")
    }
    public var selectsNamespaces: Bool { !namespaceSelector.isEmpty && namespaceSelector != "all()" }
  }

  /// Enabled pools of the family whose selectors match the node and the namespace, in order of names. `requested` (names or CIDRs) narrows
  /// them and admits pools whose assignment is manual; the second result names each requested one that cannot be used, and why.
  /// Without node labels (a virtual owner) node selectors are not asked; without labels of a namespace, a pool that asks for some is none.
  public static func pools(
    _ all: [Pool], family: IPFamily, nodeLabels: [String: String]?, namespaceLabels: [String: String]? = nil, requested: [String] = [],
    use: IPPoolSpec.Use = .workload
  ) -> (pools: [IPPoolSpec], problems: [String]) {
    var problems: [String] = []
    let ofFamily = all.sorted { $0.name < $1.name }.filter { $0.spec.cidr.family == family }
    func fault(_ pool: Pool) -> String? { self.fault(pool, nodeLabels, namespaceLabels, use) }
    guard !requested.isEmpty else {
      return (ofFamily.filter { $0.spec.assignmentMode == .automatic && fault($0) == nil }.map(\.spec), [])
    }
    var chosen: [IPPoolSpec] = []
    for word in requested {
      guard let found = ofFamily.first(where: { $0.name == word || $0.spec.cidr.description == word }) else {
        problems.append("no \(family) pool is called or covers \(word)")
        continue
      }
      if let fault = fault(found) { problems.append("pool \(word) \(fault)") } else { chosen.append(found.spec) }
    }
    return (chosen, problems)
  }

  /// Pools that do not select this node (any more), whatever else they are.
  public static func poolsLeft(_ all: [Pool], family: IPFamily, nodeLabels: [String: String]?) -> [IPPoolSpec] {
    guard let nodeLabels else { return [] }
    return all.filter { pool in
      guard pool.spec.cidr.family == family, let selector = try? Selector(parsing: pool.spec.nodeSelector) else { return false }
      return !selector.matches { nodeLabels[$0] }
    }.map(\.spec)
  }

  /// Why the pool gives nothing.
  private static func fault(
    _ pool: Pool, _ nodeLabels: [String: String]?, _ namespaceLabels: [String: String]?, _ use: IPPoolSpec.Use
  ) -> String? {
    if let fault = sizeFault(pool.spec) { return fault }
    if pool.spec.disabled { return "is disabled" }
    if pool.isDeleting { return "is being deleted" }
    if !pool.spec.allowedUses.contains(use) { return "is not for \(noun(use))" }
    if let nodeLabels {
      guard let selector = try? Selector(parsing: pool.spec.nodeSelector) else { return "has a nodeSelector that cannot be read" }
      if !selector.matches({ nodeLabels[$0] }) { return "does not select this node (\(pool.spec.nodeSelector))" }
    }
    guard pool.selectsNamespaces else { return nil }
    guard let selector = try? Selector(parsing: pool.namespaceSelector) else { return "has a namespaceSelector that cannot be read" }
    guard let namespaceLabels else { return "is for chosen namespaces (\(pool.namespaceSelector)), and this is for none of known labels" }
    return selector.matches({ namespaceLabels[$0] }) ? nil : "does not select this namespace (\(pool.namespaceSelector))"
  }

  private static func noun(_ use: IPPoolSpec.Use) -> String {
    switch use {
    case .workload: "workloads"
    case .tunnel: "tunnels"
    case .loadBalancer: "load balancers"
    }
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

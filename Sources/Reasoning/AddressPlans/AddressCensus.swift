/// Everything that is recorded of addresses at one time: blocks, handles, affinities, and who uses what. What is wrong with it is a function
/// of it (`AddressFindings`), and so is what to do about it (`AddressRepair`).
///
/// Whoever fills it reads blocks, handles and affinities first, users and nodes after that: an address that is in use is written down as
/// assigned before it is written down as used, so a user that is missing here came later, or not at all.
public import Addresses

public struct AddressCensus: Sendable {
  public struct Block: Sendable {
    public var block: AllocationBlock
    /// Of the datastore; changes with every write.
    public var revision: Int64
    public init(_ block: AllocationBlock, revision: Int64) {
      self.block = block
      self.revision = revision
    }
  }
  public struct Handle: Sendable {
    public var counts: [IPPrefix: Int64]
    public var revision: Int64
    public init(counts: [IPPrefix: Int64], revision: Int64) {
      self.counts = counts
      self.revision = revision
    }
  }
  public struct AffinityName: Hashable, Comparable, Sendable {
    public var owner: BlockOwner
    public var cidr: IPPrefix
    public init(_ owner: BlockOwner, _ cidr: IPPrefix) {
      self.owner = owner
      self.cidr = cidr
    }
    public static func < (a: Self, b: Self) -> Bool { (a.owner, a.cidr) < (b.owner, b.cidr) }
  }
  public struct Affinity: Sendable {
    public var isConfirmed: Bool
    public var revision: Int64
    public init(isConfirmed: Bool, revision: Int64) {
      self.isConfirmed = isConfirmed
      self.revision = revision
    }
  }
  /// Who has an address in the kernel, as the datastore says.
  public enum User: Hashable, Sendable, CustomStringConvertible {
    /// The workload whatever its host, and the object.
    case endpoint(workload: String, object: String)
    case tunnel(node: String)
    case hostEndpoint(String)
    public var description: String {
      switch self {
      case .endpoint(_, let object): object
      case .tunnel(let node): "a tunnel of node \(node)"
      case .hostEndpoint(let name): "HostEndpoint \(name)"
      }
    }
  }
  public var blocks: [IPPrefix: Block] = [:]
  /// Keys of blocks that cannot be read, and why.
  public var unreadable: [String: String] = [:]
  public var handles: [String: Handle] = [:]
  public var affinities: [AffinityName: Affinity] = [:]
  public var users: [IPAddress: [User]] = [:]
  public var nodes: Set<String> = []
  public var pools: [PoolChoice.Pool] = []
  public init() {}

  // MARK: What follows from it

  /// How many addresses of each block each handle holds.
  public var held: [String: [IPPrefix: Int64]] {
    var held: [String: [IPPrefix: Int64]] = [:]
    for (cidr, stored) in blocks {
      for (_, attribute, _) in stored.block.assignments {
        for handle in Set([attribute.handleID, attribute.alternate?.handleID].compactMap { $0 }) { held[handle, default: [:]][cidr, default: 0] += 1 }
      }
    }
    return held
  }

  public enum Usage: Hashable, Sendable {
    case inUse
    /// It does not say for what, so nobody can say that it is not needed: assigned by hand, or for a load balancer.
    case unknown
    case unused
    /// Unused, and the node is gone that it was assigned for.
    case unusedOfLostNode
  }

  /// What an assignment, seen alone, is good for.
  public func usage(_ address: IPAddress, _ attribute: AllocationBlock.Attribute, in block: AllocationBlock) -> Usage {
    if users[address]?.isEmpty == false { return .inUse }
    guard block.affinity.flatMap({ BlockOwner(affinity: $0) })?.isHost != false else { return .unknown }
    guard let node = attribute.secondary["node"], !node.isEmpty else { return .unknown }
    // Without any node it is not known what a missing one means.
    let isLost = !nodes.isEmpty && !nodes.contains(node)
    if attribute.isNodes { return isLost ? .unusedOfLostNode : .inUse }
    // Calico's records of workloads name their namespace; whoever names none keeps what he has.
    guard attribute.secondary["namespace"] != nil else { return .unknown }
    return isLost ? .unusedOfLostNode : .unused
  }
}

extension AllocationBlock {
  /// What is held, without what rests: address, holder, sequence number.
  public var assignments: [(address: IPAddress, attribute: Attribute, sequence: UInt64)] {
    allocations.enumerated().compactMap { ordinal, index in
      guard let index, !attributes[index].isCooling else { return nil }
      return (address(ordinal), attributes[index], sequenceNumberForAllocation[ordinal] ?? 0)
    }
  }
}

extension AllocationBlock.Attribute {
  /// Held as long as the node exists: its tunnels, what other plugins made interfaces for, what is kept out of use on Windows.
  public var isNodes: Bool {
    secondary["type"]?.hasSuffix("TunnelAddress") == true || secondary["margay/endpoint"] == "none"
      || handleID?.hasPrefix("windows-reserved-ipam-handle") == true
  }
}

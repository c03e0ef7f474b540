/// What is wrong with the records of addresses, for people and for `release --from-report`.
public import Addresses
import Resources

public struct AddressFindings: Sendable {
  /// An assignment as a report names it: good for a release only while the sequence number is the same.
  public struct Assigned: Hashable, Comparable, Sendable {
    public var address: IPAddress
    public var handle: String?
    public var sequence: UInt64
    public var block: IPPrefix
    public var attributes: [String: String]
    public static func < (a: Self, b: Self) -> Bool { a.address < b.address }
  }
  public struct MiscountedHandle: Hashable, Comparable, Sendable {
    public var handle: String
    public var block: IPPrefix
    public var counted: Int64
    public var held: Int64
    public static func < (a: Self, b: Self) -> Bool { (a.handle, a.block) < (b.handle, b.block) }
  }
  /// Assigned to a workload that no endpoint stands for, or to a node that is gone.
  public var leaked: [Assigned] = []
  /// In use, and recorded as nobody's although a pool covers it: may be given to somebody else.
  public var unassigned: [(address: IPAddress, users: [String])] = []
  /// In use by several workloads.
  public var contested: [(address: IPAddress, users: [String])] = []
  public var cooling: [(address: IPAddress, since: String)] = []
  /// Assigned, in use or not known to be unused.
  public var assignedCount = 0
  public var miscounted: [MiscountedHandle] = []
  public var blocksOutsidePools: [IPPrefix] = []
  public var overlappingBlocks: [(IPPrefix, IPPrefix)] = []
  /// An affinity without its block, for another owner's, or not confirmed; a block whose owner has no affinity.
  public var affinities: [(owner: BlockOwner, block: IPPrefix, problem: String)] = []
  public var unreadable: [(key: String, why: String)] = []

  /// A handle without a record, or one that counts nothing any more.
  public var missingHandles: [String] { Set(miscounted.filter { $0.counted == 0 }.map(\.handle)).sorted() }

  public var problemCount: Int {
    leaked.count + unassigned.count + contested.count + miscounted.count + blocksOutsidePools.count + overlappingBlocks.count
      + affinities.count + unreadable.count
  }

  public init(_ census: AddressCensus) {
    unreadable = census.unreadable.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    var assigned: Set<IPAddress> = []
    let blocks = census.blocks.sorted { $0.key < $1.key }
    let handlesInUse = census.handlesInUse
    for (cidr, stored) in blocks {
      for (address, attribute, sequence) in stored.block.assignments {
        assigned.insert(address)
        assignedCount += 1
        guard !attribute.handles.contains(where: handlesInUse.contains) else { continue }
        switch census.usage(address, attribute, in: stored.block) {
        case .inUse, .unknown: break
        case .unused, .unusedOfLostNode:
          leaked.append(
            Assigned(address: address, handle: attribute.handleID, sequence: sequence, block: cidr, attributes: attribute.secondary))
        }
      }
      for address in stored.block.cooling { cooling.append((address, stored.block.holder(of: address)?.releasedAt ?? "")) }
      if !census.pools.contains(where: { $0.spec.cidr.contains(cidr) }) { blocksOutsidePools.append(cidr) }
    }
    // In order of their networks an overlap is between neighbours: a network comes before what lies in it.
    for (a, b) in zip(blocks, blocks.dropFirst()) where a.key.overlaps(b.key) { overlappingBlocks.append((a.key, b.key)) }
    for (address, users) in census.users.sorted(by: { $0.key < $1.key }) {
      if !assigned.contains(address), census.pools.contains(where: { $0.spec.cidr.contains(address) }) {
        unassigned.append((address, users.map(\.description).sorted()))
      }
      let workloads = Set(users.map { user in if case .endpoint(let workload, _) = user { workload } else { user.description } })
      if workloads.count > 1 { contested.append((address, users.map(\.description).sorted())) }
    }
    let held = census.held
    for handle in Set(held.keys).union(census.handles.keys) {
      let (counted, truth) = (census.handles[handle]?.counts ?? [:], held[handle] ?? [:])
      for block in Set(counted.keys).union(truth.keys) where counted[block] ?? 0 != truth[block] ?? 0 {
        miscounted.append(.init(handle: handle, block: block, counted: counted[block] ?? 0, held: truth[block] ?? 0))
      }
    }
    miscounted.sort()
    for (name, affinity) in census.affinities.sorted(by: { $0.key < $1.key }) {
      let owner = census.blocks[name.cidr]?.block.affinity
      let problem: String? =
        if owner == nil, census.blocks[name.cidr] == nil {
          "it has no block"
        } else if owner != name.owner.affinity {
          "the block is of \(owner ?? "nobody")"
        } else if !affinity.isConfirmed {
          "it is not confirmed"
        } else {
          nil
        }
      if let problem { affinities.append((name.owner, name.cidr, problem)) }
    }
    for (cidr, stored) in blocks {
      guard let owner = stored.block.affinity.flatMap({ BlockOwner(affinity: $0) }), census.affinities[.init(owner, cidr)] == nil else { continue }
      affinities.append((owner, cidr, "its record is missing"))
    }
  }
}

extension AllocationBlock.Attribute {
  var handles: [String] { [handleID, alternate?.handleID].compactMap { $0 } }
}

extension AddressCensus {
  /// All or none: a handle of which one address is in use has none that is leaked.
  var handlesInUse: Set<String> {
    var handles: Set<String> = []
    for stored in blocks.values {
      for (address, attribute, _) in stored.block.assignments where usage(address, attribute, in: stored.block) == .inUse {
        handles.formUnion(attribute.handles)
      }
    }
    return handles
  }
}

/// A node leaves for good: what its workloads held is free, and its blocks are nobody's.
import AddressPlans
public import Addresses
public import Datastore
import JSON

extension AddressBook {
  public struct Departure: Hashable, Sendable {
    /// Addresses that nobody holds any more.
    public var released: [IPAddress] = []
    /// Blocks that are gone.
    public var deletedBlocks: [IPPrefix] = []
    /// Blocks that stay without an owner, since other nodes' workloads hold addresses of them.
    public var orphanedBlocks: [IPPrefix] = []
    public var isEmpty: Bool { released.isEmpty && deletedBlocks.isEmpty && orphanedBlocks.isEmpty }
  }

  /// Releases what is held for workloads of this node, in whatever block, and gives its blocks up. Nothing is success, and so is a second
  /// call after one that stopped half-way.
  public func leave() async throws(AddressBookError) -> Departure {
    var departure = Departure()
    for family in IPFamily.allCases {
      for item in try await list(AddressKeys.blocks(family)) {
        let block = try block(item)
        let holders = Set(block.attributes + block.attributes.compactMap(\.alternate)).filter { $0.secondary["node"] == node }
        for handle in Set(holders.compactMap(\.handleID)).sorted() {
          departure.released += try await release(in: block.cidr, handle: handle) { $0.addresses(heldBy: handle).map { .init($0) } }
        }
        // Assignments without a handle, as the oldest programs made them.
        let unnamed = block.addresses { $0.handleID == nil && !$0.isCooling && $0.secondary["node"] == node }
        if !unnamed.isEmpty { departure.released += try await release(unnamed) }
      }
    }
    try await giveUpBlocks(&departure) { _ in true }
    // What is left under the node's name: Calico's marker that it exists, and keys that name no block.
    let rest = try await list(affinityRoot).map(\.key) + [String(affinityRoot.dropLast())]
    _ = try await transact(.giveUp, [], rest.map { .delete($0) })
    departure.released.sort()
    return departure
  }

  /// Gives up the owner's blocks within `range`; with `onlyIfEmpty` those alone in which nobody holds an address.
  public func releaseAffinities(in range: IPPrefix, onlyIfEmpty: Bool) async throws(AddressBookError) -> Departure {
    var departure = Departure()
    try await giveUpBlocks(&departure, onlyIfEmpty: onlyIfEmpty) { range.contains($0) }
    return departure
  }

  /// Gives up every owner's blocks of a pool: its addresses stay with whoever holds them, and nobody gets more of those blocks as his own.
  public static func releaseAffinities(
    ofPool range: IPPrefix, onlyIfEmpty: Bool, _ datastore: any Datastore
  ) async throws(AddressBookError) -> Departure {
    var departure = Departure()
    var owners: Set<BlockOwner> = []
    for prefix in AddressKeys.owners {
      do throws(DatastoreError) {
        for item in try await datastore.list(prefix: prefix).items {
          if let (owner, cidr) = AddressKeys.affinity(ofKey: item.key), range.contains(cidr) { owners.insert(owner) }
        }
      } catch {
        throw .datastore(error)
      }
    }
    for owner in owners.sorted() {
      let book = AddressBook(datastore: datastore, owner: owner)
      try await book.giveUpBlocks(&departure, onlyIfEmpty: onlyIfEmpty) { range.contains($0) }
    }
    return departure
  }

  private func giveUpBlocks(
    _ departure: inout Departure, onlyIfEmpty: Bool = false, where isWanted: (IPPrefix) -> Bool
  ) async throws(AddressBookError) {
    for family in IPFamily.allCases {
      for affinity in try await list(AddressKeys.affinities(of: owner, family)) {
        guard let cidr = AddressKeys.cidr(ofKey: affinity.key), isWanted(cidr) else { continue }
        switch try await giveUp(cidr, onlyIfEmpty: onlyIfEmpty) {
        case .deleted: departure.deletedBlocks.append(cidr)
        case .orphaned: departure.orphanedBlocks.append(cidr)
        case .onlyAffinity, .kept: break
        }
      }
    }
  }

  enum GivenUp { case deleted, orphaned, onlyAffinity, kept }

  /// One block goes back to nobody: it is deleted with its affinity, or stays without an owner while addresses of it are held.
  /// `unlessHeldBy` a node: if addresses of that node's own workloads are in it, or it is another owner's, it is left alone.
  func giveUp(
    _ cidr: IPPrefix, onlyIfEmpty: Bool = false, unlessHeldBy holder: BlockOwner? = nil
  ) async throws(AddressBookError) -> GivenUp {
    let (blockKey, affinityKey) = (AddressKeys.block(cidr), AddressKeys.affinity(of: owner, cidr))
    for _ in 0..<Self.attempts {
      guard let affinity = try await get(affinityKey) else { return .kept }
      let item = try await get(blockKey)
      var comparisons: [Comparison] = [.modRevision(affinityKey, equals: affinity.modRevision)]
      comparisons.append(item.map { .modRevision(blockKey, equals: $0.modRevision) } ?? .absent(blockKey))
      var operations: [DatastoreOperation] = [.delete(affinityKey)]
      var outcome = GivenUp.onlyAffinity
      if let item, case var block = try block(item), block.affinity == owner.affinity {
        block.collectCold(at: now(), after: Int64(try await configuration().cooldownSeconds))
        if block.isEmpty {
          operations.append(.delete(blockKey))
          outcome = .deleted
        } else {
          if onlyIfEmpty { return .kept }
          if let holder, block.assignments.contains(where: { $0.attribute.secondary["node"] == holder.name }) { return .kept }
          block.affinity = nil
          block.affinityClaimTime = nil
          operations.append(.put(blockKey, block.json().bytes))
          outcome = .orphaned
        }
      }
      if case .committed = try await transact(.giveUp, comparisons, operations) {
        desk?.know(cidr, nil)
        return outcome
      }
    }
    throw .contention("block \(cidr)")
  }
}

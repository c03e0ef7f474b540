/// A node leaves for good: what its workloads held is free, and its blocks are nobody's.
import AddressPlans
public import Addresses
import Datastore
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
          departure.released += try await release(in: block.cidr, handle: handle) { $0.addresses(heldBy: handle) }
        }
        // Assignments without a handle, as the oldest programs made them.
        let unnamed = block.addresses { $0.handleID == nil && $0.secondary["node"] == node }
        if !unnamed.isEmpty { departure.released += try await release(unnamed) }
      }
      for affinity in try await list(AddressKeys.affinities(node: node, family)) {
        if let cidr = AddressKeys.cidr(ofKey: affinity.key) { try await giveUp(cidr, &departure) }
      }
    }
    // What is left under the node's name: Calico's marker that it exists, and keys that name no block.
    let rest = try await list(affinityRoot).map(\.key) + [String(affinityRoot.dropLast())]
    _ = try await transact([], rest.map { .delete($0) })
    departure.released.sort()
    return departure
  }

  private func giveUp(_ cidr: IPPrefix, _ departure: inout Departure) async throws(AddressBookError) {
    let (blockKey, affinityKey) = (AddressKeys.block(cidr), AddressKeys.affinity(node: node, cidr))
    for _ in 0..<Self.attempts {
      guard let affinity = try await get(affinityKey) else { return }
      let item = try await get(blockKey)
      var comparisons: [Comparison] = [.modRevision(affinityKey, equals: affinity.modRevision)]
      comparisons.append(item.map { .modRevision(blockKey, equals: $0.modRevision) } ?? .absent(blockKey))
      var operations: [DatastoreOperation] = [.delete(affinityKey)]
      var outcome: WritableKeyPath<Departure, [IPPrefix]>?
      if let item, case var block = try block(item), block.affinity == owner {
        if block.isEmpty {
          operations.append(.delete(blockKey))
          outcome = \.deletedBlocks
        } else {
          block.affinity = nil
          block.affinityClaimTime = nil
          operations.append(.put(blockKey, block.json().bytes))
          outcome = \.orphanedBlocks
        }
      }
      if case .committed = try await transact(comparisons, operations) {
        if let outcome { departure[keyPath: outcome].append(cidr) }
        return
      }
    }
    throw .contention("block \(cidr)")
  }
}

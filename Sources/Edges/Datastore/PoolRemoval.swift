/// A pool goes in steps, so that no address of it is given while it goes: it is disabled, its blocks are given up, then it is removed.
///
/// Whoever stops half-way leaves a disabled pool, which is safe; the next attempt goes on from there. An attempt that is refused leaves the
/// pool as it was.
import Addresses
import Documents
import JSON
import Names
import Resources

extension ResourceStore {
  /// A block of addresses as it is stored.
  struct StoredBlock {
    var cidr: IPPrefix
    var item: KeyValue
    var document: JSONValue

    /// Who the block belongs to: `host:node1` has its key under `host/node1`.
    var affinityKey: String? {
      guard let parts = document["affinity"]?.string?.split(separator: ":", maxSplits: 1), parts.count == 2 else { return nil }
      return ResourceStore.ipamRoot + parts[0] + "/" + KeyPart.escape(String(parts[1])) + "/"
        + item.key.split(separator: "/").suffix(3).joined(separator: "/")
    }

    /// Addresses that somebody holds, those in cooldown left out.
    var inUse: (count: Int, example: IPAddress?) {
      let attributes = document["attributes"]?.array ?? []
      var count = 0
      var example: IPAddress?
      for (ordinal, value) in (document["allocations"]?.array ?? []).enumerated() {
        guard let index = value.integer else { continue }
        if let holder = Int(exactly: index).flatMap({ attributes.indices.contains($0) ? attributes[$0] : nil }),
          let released = holder["releasedAt"], !released.isNull
        {
          continue
        }
        count += 1
        example = example ?? cidr.address.advanced(by: UInt64(ordinal))
      }
      return (count, example)
    }
  }

  static let ipamRoot = "/calico/ipam/v2/"

  /// The stored blocks that lie in the network.
  func blocks(within cidr: IPPrefix) async throws(ResourceStoreError) -> [StoredBlock] {
    let prefix = Self.ipamRoot + "assignment/" + (cidr.family == .v4 ? "ipv4" : "ipv6") + "/block/"
    return try await fetchAll(prefix).compactMap { item in
      guard let block = Self.cidr(ofKey: item.key), block.overlaps(cidr) else { return nil }
      return StoredBlock(cidr: block, item: item, document: (try? JSONValue(parsing: item.value)) ?? .null)
    }
  }

  /// Of a key that ends in `10.65.0.0-26`.
  static func cidr(ofKey key: String) -> IPPrefix? {
    guard let last = key.split(separator: "/").last, let dash = last.lastIndex(of: "-") else { return nil }
    return IPPrefix(last[..<dash] + "/" + last[last.index(after: dash)...])
  }

  func remove(pool key: ResourceKey, revision: Revision?, uid: String?, force: Bool) async throws(ResourceStoreError) {
    for _ in 0..<Self.attempts {
      let old = try await present(key, revision, uid)
      guard case .ipPool(let pool)? = (try? Self.decode(old, key))?.resource.spec else {
        // What is no pool has no addresses.
        if try await deletePlainly(key, old, []) { return }
        continue
      }
      if !force { try await refuseIfUsed(pool, key) }
      guard let disabled = try await disable(old, key) else {
        if revision != nil { throw .conflict(key, base: revision?.description, present: try await fetch(key.path)?.modRevision) }
        continue
      }
      do throws(ResourceStoreError) {
        for block in try await blocks(within: pool.cidr) { try await giveUp(block, key, force: force) }
        try await dropAffinities(within: pool.cidr)
      } catch {
        if case .refused = error, disabled.modRevision != old.modRevision {
          _ = try await transact(if: [.modRevision(key.path, equals: disabled.modRevision)], then: [.put(key.path, old.value)])
        }
        throw error
      }
      if try await deletePlainly(key, disabled, []) { return }
      if revision != nil { throw .conflict(key, base: revision?.description, present: try await fetch(key.path)?.modRevision) }
    }
    throw .conflict(key, base: nil, present: try await fetch(key.path)?.modRevision)
  }

  private func refuseIfUsed(_ pool: IPPoolSpec, _ key: ResourceKey) async throws(ResourceStoreError) {
    var count = 0
    var example: IPAddress?
    for block in try await blocks(within: pool.cidr) {
      let use = block.inUse
      count += use.count
      example = example ?? use.example
    }
    if let example { throw Self.inUse(key, count, example) }
  }

  private static func inUse(_ key: ResourceKey, _ count: Int, _ example: IPAddress) -> ResourceStoreError {
    let addresses = count == 1 ? "address \(example) of it is" : "\(count) addresses of it are, such as \(example),"
    return .refused(
      key,
      reason: """
        \(addresses) in use. Disable the pool, move its workloads to another, and delete it then; or repeat with --force, and the workloads \
        keep addresses that no pool covers any more
        """)
  }

  /// The pool as it is stored once it gives no addresses; nil if somebody was faster.
  private func disable(_ old: KeyValue, _ key: ResourceKey) async throws(ResourceStoreError) -> KeyValue? {
    guard var document = try? JSONValue(parsing: old.value), document["spec"]?["disabled"]?.bool != true else { return old }
    document["spec"]?["disabled"] = true
    guard
      case .committed(let revision) = try await transact(
        if: [.modRevision(key.path, equals: old.modRevision)], then: [.put(key.path, document.bytes)])
    else { return nil }
    var item = old
    item.value = document.bytes
    item.modRevision = revision
    return item
  }

  /// What is left of claims that never came to a block.
  private func dropAffinities(within cidr: IPPrefix) async throws(ResourceStoreError) {
    for root in ["host/", "virtual/"] {
      for item in try await fetchAll(Self.ipamRoot + root) {
        guard let block = Self.cidr(ofKey: item.key), block.overlaps(cidr) else { continue }
        _ = try await transact(if: [.modRevision(item.key, equals: item.modRevision)], then: [.delete(item.key)])
      }
    }
  }

  /// The block is nobody's afterwards, and gone if it is empty.
  private func giveUp(_ block: StoredBlock, _ pool: ResourceKey, force: Bool) async throws(ResourceStoreError) {
    var block = block
    for _ in 0..<Self.attempts {
      let use = block.inUse
      if !force, let example = use.example { throw Self.inUse(pool, use.count, example) }
      var comparisons: [Comparison] = [.modRevision(block.item.key, equals: block.item.modRevision)]
      var operations: [DatastoreOperation] = []
      if use.count == 0 {
        operations.append(.delete(block.item.key))
      } else {
        block.document["affinity"] = nil
        block.document["affinity_claim_time"] = nil
        operations.append(.put(block.item.key, block.document.bytes))
      }
      if let affinity = block.affinityKey, let item = try await fetch(affinity) {
        comparisons.append(.modRevision(affinity, equals: item.modRevision))
        operations.append(.delete(affinity))
      }
      switch try await transact(if: comparisons, then: operations) {
      case .committed: return
      case .conflict(let present):
        guard let item = present[0] else { return }
        block.item = item
        block.document = (try? JSONValue(parsing: item.value)) ?? .null
      }
    }
    throw .conflict(pool, base: nil, present: nil)
  }
}

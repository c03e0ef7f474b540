/// The way to an address: what this node owns, then a block that nobody has, then an empty one that another node left, then a spare address
/// in another node's block.
import AddressPlans
import Addresses
import Datastore
import JSON
import Names
import Resources

/// A block with the records that are written together with it.
///
/// The first write of an attachment guesses that the handle is new, which saves a read; the answer to a wrong guess brings the truth.
struct Records {
  let book: AddressBook
  let cidr: IPPrefix
  var blockItem: KeyValue?
  var handle: HandleRecord?
  /// Nil while unknown: then only a claim compares it.
  var affinity: KeyValue?

  init(book: AddressBook, cidr: IPPrefix, handle: String?, block: KeyValue? = nil, affinity: KeyValue? = nil) {
    self.book = book
    self.cidr = cidr
    self.handle = handle.map { HandleRecord(key: AddressKeys.handle($0)) }
    blockItem = block
    self.affinity = affinity
  }

  /// Reads block and handle afresh.
  mutating func read() async throws(AddressBookError) {
    blockItem = try await book.get(AddressKeys.block(cidr))
    if let key = handle?.key {
      let stored = try await book.get(key)
      handle?.stored = stored
    }
  }
  func block() throws(AddressBookError) -> AllocationBlock? {
    guard let blockItem else { return nil }
    return try book.block(blockItem)
  }
  /// True if the handle's count for this block is `count` already.
  func handleCounts(_ count: Int64) -> Bool {
    guard let handle else { return true }
    var isSame = false
    _ = handle.operation(cidr) { before in
      isSame = before == count
      return before
    }
    return isSame
  }

  /// Writes block and handle, and with `claiming` this node's confirmed affinity, in one transaction; a nil block is deleted.
  /// False if any of them was changed meanwhile: then this holds what is stored now.
  mutating func write(
    _ block: AllocationBlock?, claiming: Bool = false, leaving other: (key: String, item: KeyValue?)? = nil,
    handleBy change: (Int64) -> Int64
  ) async throws(AddressBookError) -> Bool {
    let key = AddressKeys.block(cidr)
    var comparisons: [Comparison] = [blockItem.map { .modRevision(key, equals: $0.modRevision) } ?? .absent(key)]
    var operations: [DatastoreOperation] = []
    if let block {
      operations.append(.put(key, block.json().bytes))
    } else if blockItem != nil {
      operations.append(.delete(key))
    }
    if let handle {
      comparisons.append(handle.comparison)
      if let operation = handle.operation(cidr, change) { operations.append(operation) }
    }
    if claiming {
      let key = AddressKeys.affinity(node: book.node, cidr)
      comparisons.append(affinity.map { .modRevision(key, equals: $0.modRevision) } ?? .absent(key))
      operations.append(.put(key, AddressKeys.confirmed))
    }
    if let other, let item = other.item {
      comparisons.append(.modRevision(other.key, equals: item.modRevision))
      operations.append(.delete(other.key))
    }
    guard case .conflict(let present) = try await book.transact(comparisons, operations) else { return true }
    blockItem = present[0]
    if handle != nil { handle?.stored = present[1] }
    if claiming { affinity = present[handle == nil ? 1 : 2] }
    return false
  }
}

/// One request for addresses of one family.
struct Search {
  private let book: AddressBook
  private let family: IPFamily
  private let attribute: AllocationBlock.Attribute
  private let pools: [IPPoolSpec]
  private let configuration: AddressConfiguration
  private let reserved: [IPPrefix]
  /// Why there are fewer addresses than asked for.
  private(set) var shortage: String

  init(
    _ book: AddressBook, family: IPFamily, attribute: AllocationBlock.Attribute, requested: [String]
  ) async throws(AddressBookError) {
    self.book = book
    self.family = family
    self.attribute = attribute
    let (pools, problems) = PoolChoice.pools(
      try await book.pools(), family: family, nodeLabels: try await book.nodeLabels(), requested: requested)
    self.pools = pools
    shortage = problems.isEmpty ? "no enabled \(family) pool selects node \(book.node)" : problems.joined(separator: "; ")
    configuration = pools.isEmpty ? AddressConfiguration() : try await book.configuration()
    reserved = pools.isEmpty ? [] : try await book.reserved()
  }

  private func isReserved(_ address: IPAddress) -> Bool { reserved.contains { $0.contains(address) } }
  private func isInPools(_ cidr: IPPrefix) -> Bool { pools.contains { $0.cidr.contains(cidr) } }

  /// Takes up to `count` addresses.
  mutating func take(_ count: Int) async throws(AddressBookError) -> [IPAddress] {
    guard !pools.isEmpty else { return [] }
    var taken: [IPAddress] = []
    let affinities = try await book.list(AddressKeys.affinities(node: book.node, family))
    for affinity in affinities where taken.count < count {
      if let cidr = AddressKeys.cidr(ofKey: affinity.key), isInPools(cidr) {
        taken += try await takeFromOwn(cidr, affinity, count - taken.count)
      }
    }
    if taken.count == count { return taken }

    var reasons: [String] = []
    let limit = configuration.blocksPerHostMax > 0 ? configuration.blocksPerHostMax : AddressBook.blocksPerHostMax
    var owned = affinities.count
    // All blocks: needed to see what is free, what others left and what they can spare. Read only when the own blocks are full.
    let present = try await book.list(AddressKeys.blocks(family))
    if !configuration.autoAllocateBlocks {
      reasons.append("new blocks are not allocated automatically (auto_allocate_blocks is false)")
    } else {
      while taken.count < count, owned < limit {
        let more = try await claimNew(present, count - taken.count)
        if more.isEmpty { break }
        taken += more
        owned += 1
      }
      for item in present where taken.count < count && owned < limit {
        let more = try await reclaim(item, count - taken.count)
        if !more.isEmpty { owned += 1 }
        taken += more
      }
      if owned >= limit { reasons.append("node \(book.node) has \(owned) blocks, the most it may have") }
    }
    if configuration.strictAffinity {
      reasons.append("strict affinity forbids addresses of other nodes' blocks")
    } else {
      for item in present where taken.count < count {
        if let cidr = AddressKeys.cidr(ofKey: item.key), isInPools(cidr) { taken += try await borrow(cidr, item, count - taken.count) }
      }
    }
    let names = pools.map(\.cidr.description).joined(separator: ", ")
    shortage = (["no block of \(names) has a free address for node \(book.node)"] + reasons).joined(separator: "; ")
    return taken
  }

  private func takeFromOwn(_ cidr: IPPrefix, _ affinity: KeyValue, _ count: Int) async throws(AddressBookError) -> [IPAddress] {
    var records = Records(
      book: book, cidr: cidr, handle: attribute.handleID, block: try await book.get(AddressKeys.block(cidr)), affinity: affinity)
    for _ in 0..<AddressBook.attempts {
      // An affinity without its block was left between Calico's two steps: make the block.
      var block = try records.block() ?? book.newBlock(cidr)
      guard block.affinity == book.owner else {
        // Another node won this block while we were between the two steps; the record would keep us from our limit of blocks.
        if let affinity = records.affinity, let item = records.blockItem {
          _ = try await book.transact(
            [.modRevision(affinity.key, equals: affinity.modRevision), .modRevision(item.key, equals: item.modRevision)],
            [.delete(affinity.key)])
        }
        return []
      }
      let addresses = block.allocate(count, for: attribute, isReserved: isReserved)
      if addresses.isEmpty, records.blockItem != nil { return [] }
      let isConfirmed = records.affinity.map { AddressKeys.isConfirmed(affinity: $0.value) } ?? false
      let claims = records.blockItem == nil || !isConfirmed
      if try await records.write(block, claiming: claims, handleBy: { $0 + Int64(addresses.count) }) { return addresses }
    }
    throw .contention("block \(cidr)")
  }

  /// A block that does not exist yet, in the order of this node.
  private func claimNew(_ present: [KeyValue], _ count: Int) async throws(AddressBookError) -> [IPAddress] {
    var taken = Set(present.compactMap { AddressKeys.cidr(ofKey: $0.key) })
    for pool in pools {
      // Blocks of another size, from an earlier life of the pool, must not be overlapped.
      let foreign = taken.filter { $0.length != pool.blockSize && $0.overlaps(pool.cidr) }
      // Each candidate is taken, or tried, or makes us give up: no more steps than that, however large the pool.
      var left = taken.count + AddressBook.attempts + foreign.reduce(0) { $0 + (1 << max(0, Int(pool.blockSize) - Int($1.length))) }
      for candidate in PoolChoice.candidateBlocks(pool, host: book.node) {
        left -= 1
        if left < 0 { throw .contention("the free blocks of \(pool.cidr)") }
        if taken.contains(candidate) || foreign.contains(where: { $0.overlaps(candidate) }) { continue }
        var records = Records(book: book, cidr: candidate, handle: attribute.handleID)
        // A wrong guess about the handle is no reason to leave the block.
        for _ in 0..<AddressBook.attempts where records.blockItem == nil {
          var block = book.newBlock(candidate)
          let addresses = block.allocate(count, for: attribute, isReserved: isReserved)
          // Nothing but reserved addresses in it: not worth a block.
          if addresses.isEmpty { break }
          if try await records.write(block, claiming: true, handleBy: { $0 + Int64(addresses.count) }) { return addresses }
        }
        // Somebody of this node was faster, for instance another attachment that runs now: the block is ours as well.
        if let block = try records.block(), block.affinity == book.owner, let affinity = records.affinity {
          let addresses = try await takeFromOwn(candidate, affinity, count)
          if !addresses.isEmpty { return addresses }
        }
        taken.insert(candidate)
      }
    }
    return []
  }

  /// An empty block of another node, claimed more than a minute ago, becomes ours.
  private func reclaim(_ item: KeyValue, _ count: Int) async throws(AddressBookError) -> [IPAddress] {
    guard let cidr = AddressKeys.cidr(ofKey: item.key), pools.contains(where: { $0.cidr.contains(cidr) && $0.blockSize == cidr.length })
    else { return [] }
    let block = try book.block(item)
    let now = book.now()
    guard block.isEmpty, block.affinity != book.owner else { return [] }
    var other: (key: String, item: KeyValue?)?
    if let affinity = block.affinity {
      // Blocks of load balancers (`virtual:`) are not for workloads, however empty.
      guard affinity.hasPrefix("host:") else { return [] }
      // Without the time of the claim it may be of this moment.
      guard let claimed = block.affinityClaimTime.flatMap({ UTCTime($0) }),
        now.unixSeconds - claimed.unixSeconds > AddressBook.reclaimAgeSeconds
      else { return [] }
      let key = AddressKeys.affinity(node: String(affinity.dropFirst(5)), cidr)
      other = (key, try await book.get(key))
    }
    var records = Records(book: book, cidr: cidr, handle: attribute.handleID, block: item)
    for _ in 0..<AddressBook.attempts where records.blockItem?.modRevision == item.modRevision {
      var mine = block
      mine.affinity = book.owner
      mine.affinityClaimTime = now.text
      let addresses = mine.allocate(count, for: attribute, isReserved: isReserved)
      if addresses.isEmpty { return [] }
      let before = (records.handle?.stored?.modRevision, records.affinity?.modRevision)
      if try await records.write(mine, claiming: true, leaving: other, handleBy: { $0 + Int64(addresses.count) }) { return addresses }
      // Neither our handle nor our affinity was in the way, so it was the other node's record: it is at work on its block.
      if before == (records.handle?.stored?.modRevision, records.affinity?.modRevision) { return [] }
    }
    return []
  }

  /// Spare addresses of another node's block.
  private func borrow(_ cidr: IPPrefix, _ item: KeyValue, _ count: Int) async throws(AddressBookError) -> [IPAddress] {
    var records = Records(book: book, cidr: cidr, handle: attribute.handleID, block: item)
    for _ in 0..<AddressBook.attempts {
      guard var block = try records.block(), block.affinity?.hasPrefix("virtual:") != true else { return [] }
      let addresses = block.allocate(count, for: attribute, isReserved: isReserved)
      if addresses.isEmpty { return [] }
      if try await records.write(block, handleBy: { $0 + Int64(addresses.count) }) { return addresses }
    }
    throw .contention("block \(cidr)")
  }
}

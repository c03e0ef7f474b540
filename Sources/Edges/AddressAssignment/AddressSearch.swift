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

  /// How many more addresses of the block's family the handle may hold.
  func allowance(_ most: Int?) -> Int {
    guard let most else { return .max }
    let held = handle?.counts.filter { $0.key.family == cidr.family }.values.reduce(0, +) ?? 0
    return max(0, most - Int(held))
  }

  /// Writes block and handle, and with `claiming` this owner's confirmed affinity, in one transaction; a nil block is deleted.
  /// False if any of them was changed meanwhile: then this holds what is stored now.
  mutating func write(
    _ step: AddressStep, _ block: AllocationBlock?, claiming: Bool = false, leaving other: (key: String, item: KeyValue?)? = nil,
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
      let key = AddressKeys.affinity(of: book.owner, cidr)
      comparisons.append(affinity.map { .modRevision(key, equals: $0.modRevision) } ?? .absent(key))
      operations.append(.put(key, AddressKeys.confirmed))
    }
    if let other, let item = other.item {
      comparisons.append(.modRevision(other.key, equals: item.modRevision))
      operations.append(.delete(other.key))
    }
    switch try await book.transact(step, comparisons, operations) {
    case .committed(let revision):
      book.desk?.know(cidr, block.map { .init(revision: revision, block: $0) })
      return true
    case .conflict(let present):
      blockItem = present[0]
      if handle != nil { handle?.stored = present[1] }
      if claiming { affinity = present[handle == nil ? 1 : 2] }
      return false
    }
  }
}

/// One request for addresses of one family.
struct Search {
  private let book: AddressBook
  private let family: IPFamily
  private let attribute: AllocationBlock.Attribute
  private let terms: AssignmentTerms
  private let pools: [IPPoolSpec]
  /// Pools that no longer select this node: empty blocks of them are given back on the way.
  private let left: [IPPoolSpec]
  private let configuration: AddressConfiguration
  private let reserved: [IPPrefix]
  /// Why there are fewer addresses than asked for.
  private(set) var shortage: String

  init(
    _ book: AddressBook, family: IPFamily, attribute: AllocationBlock.Attribute, terms: AssignmentTerms
  ) async throws(AddressBookError) {
    self.book = book
    self.family = family
    self.attribute = attribute
    self.terms = terms
    let all = try await book.pools()
    let labels = try await book.nodeLabels()
    var namespace: [String: String]?
    if let name = attribute.secondary["namespace"], all.contains(where: { $0.selectsNamespaces && $0.spec.cidr.family == family }) {
      namespace = try await book.labels(ofNamespace: name)
    }
    let (pools, problems) = PoolChoice.pools(
      all, family: family, nodeLabels: labels, namespaceLabels: namespace, requested: terms.pools, use: terms.use)
    self.pools = pools
    left = PoolChoice.poolsLeft(all, family: family, nodeLabels: labels)
    shortage = problems.isEmpty ? "no enabled \(family) pool selects \(book.owner)" : problems.joined(separator: "; ")
    configuration = pools.isEmpty ? AddressConfiguration() : try await book.configuration()
    reserved = pools.isEmpty ? [] : try await book.reserved()
  }

  private func isReserved(_ address: IPAddress) -> Bool { reserved.contains { $0.contains(address) } }
  private func isInPools(_ cidr: IPPrefix) -> Bool { pools.contains { $0.cidr.contains(cidr) } }

  /// Takes up to `count` addresses.
  mutating func take(_ count: Int) async throws(AddressBookError) -> [IPAddress] {
    guard !pools.isEmpty else { return [] }
    var taken: [IPAddress] = []
    let affinities = try await book.list(AddressKeys.affinities(of: book.owner, family))
    var owned = affinities.count
    for affinity in affinities {
      guard let cidr = AddressKeys.cidr(ofKey: affinity.key) else { continue }
      if isInPools(cidr) {
        if taken.count < count { taken += try await takeFromOwn(cidr, affinity, count - taken.count) }
      } else if left.contains(where: { $0.cidr.contains(cidr) }), try await book.giveUp(cidr, onlyIfEmpty: true) != .kept {
        owned -= 1
      }
    }
    if taken.count == count { return taken }

    var reasons: [String] = []
    let most = configuration.blocksPerHostMax > 0 ? configuration.blocksPerHostMax : AddressBook.blocksPerHostMax
    let limit = min(most, terms.blocksMax ?? most)
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
      if owned >= limit { reasons.append("\(book.owner) has \(owned) blocks, the most it may have") }
    }
    if configuration.strictAffinity {
      reasons.append("strict affinity forbids addresses of other nodes' blocks")
    } else {
      for item in present where taken.count < count {
        if let cidr = AddressKeys.cidr(ofKey: item.key), isInPools(cidr) { taken += try await borrow(cidr, item, count - taken.count) }
      }
    }
    if let most = terms.perHandleMax { reasons.append("a handle may hold at most \(most)") }
    let names = pools.map(\.cidr.description).joined(separator: ", ")
    shortage = (["no block of \(names) has a free address for \(book.owner)"] + reasons).joined(separator: "; ")
    return taken
  }

  /// Takes addresses of a block, as many as the handle may still have.
  private func allocate(_ count: Int, in block: inout AllocationBlock, _ records: Records) -> [IPAddress] {
    block.collectCold(at: book.now(), after: Int64(configuration.cooldownSeconds))
    return block.allocate(min(count, records.allowance(terms.perHandleMax)), for: attribute, isReserved: isReserved)
  }

  private func takeFromOwn(_ cidr: IPPrefix, _ affinity: KeyValue, _ count: Int) async throws(AddressBookError) -> [IPAddress] {
    var records = Records(
      book: book, cidr: cidr, handle: attribute.handleID, block: try await book.get(AddressKeys.block(cidr)), affinity: affinity)
    for _ in 0..<AddressBook.attempts {
      // An affinity without its block was left between Calico's two steps: make the block.
      var block = try records.block() ?? book.newBlock(cidr)
      guard block.affinity == book.owner.affinity else {
        // Another node won this block while we were between the two steps; the record would keep us from our limit of blocks.
        if let affinity = records.affinity, let item = records.blockItem {
          _ = try await book.transact(
            .dropAffinity, [.modRevision(affinity.key, equals: affinity.modRevision), .modRevision(item.key, equals: item.modRevision)],
            [.delete(affinity.key)])
        }
        return []
      }
      let addresses = allocate(count, in: &block, records)
      if addresses.isEmpty, records.blockItem != nil { return [] }
      let isConfirmed = records.affinity.map { AddressKeys.isConfirmed(affinity: $0.value) } ?? false
      let claims = records.blockItem == nil || !isConfirmed
      let step = claims ? AddressStep.finishAffinity : .assignOwn
      if try await records.write(step, block, claiming: claims, handleBy: { $0 + Int64(addresses.count) }) { return addresses }
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
      for candidate in PoolChoice.candidateBlocks(pool, host: book.owner.name) {
        left -= 1
        if left < 0 { throw .contention("the free blocks of \(pool.cidr)") }
        if taken.contains(candidate) || foreign.contains(where: { $0.overlaps(candidate) }) { continue }
        var records = Records(book: book, cidr: candidate, handle: attribute.handleID)
        // A wrong guess about the handle is no reason to leave the block.
        for _ in 0..<AddressBook.attempts where records.blockItem == nil {
          var block = book.newBlock(candidate)
          let addresses = allocate(count, in: &block, records)
          // Nothing but reserved addresses in it: not worth a block.
          if addresses.isEmpty { break }
          if try await records.write(.claim, block, claiming: true, handleBy: { $0 + Int64(addresses.count) }) { return addresses }
        }
        if records.allowance(terms.perHandleMax) == 0 { return [] }
        // Somebody of this node was faster, for instance another attachment that runs now: the block is ours as well.
        if let block = try records.block(), block.affinity == book.owner.affinity, let affinity = records.affinity {
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
    guard block.isEmpty, block.affinity != book.owner.affinity else { return [] }
    var other: (key: String, item: KeyValue?)?
    if let affinity = block.affinity {
      // Blocks of load balancers (`virtual:`) are not for workloads, however empty, nor the other way round.
      guard let owner = BlockOwner(affinity: affinity), owner.isHost == book.owner.isHost else { return [] }
      // Without the time of the claim it may be of this moment.
      guard let claimed = block.affinityClaimTime.flatMap({ UTCTime($0) }),
        now.unixSeconds - claimed.unixSeconds > AddressBook.reclaimAgeSeconds
      else { return [] }
      let key = AddressKeys.affinity(of: owner, cidr)
      other = (key, try await book.get(key))
    }
    var records = Records(book: book, cidr: cidr, handle: attribute.handleID, block: item)
    for _ in 0..<AddressBook.attempts where records.blockItem?.modRevision == item.modRevision {
      var mine = block
      mine.affinity = book.owner.affinity
      mine.affinityClaimTime = now.text
      let addresses = allocate(count, in: &mine, records)
      if addresses.isEmpty { return [] }
      let before = (records.handle?.stored?.modRevision, records.affinity?.modRevision)
      if try await records.write(.reclaim, mine, claiming: true, leaving: other, handleBy: { $0 + Int64(addresses.count) }) { return addresses }
      // Neither our handle nor our affinity was in the way, so it was the other node's record: it is at work on its block.
      if before == (records.handle?.stored?.modRevision, records.affinity?.modRevision) { return [] }
    }
    return []
  }

  /// Spare addresses of another node's block.
  private func borrow(_ cidr: IPPrefix, _ item: KeyValue, _ count: Int) async throws(AddressBookError) -> [IPAddress] {
    var records = Records(book: book, cidr: cidr, handle: attribute.handleID, block: item)
    for _ in 0..<AddressBook.attempts {
      guard var block = try records.block() else { return [] }
      // A block that nobody owns is for nodes.
      if (block.affinity.flatMap { BlockOwner(affinity: $0) }?.isHost ?? true) != book.owner.isHost { return [] }
      let addresses = allocate(count, in: &block, records)
      if addresses.isEmpty { return [] }
      if try await records.write(.borrow, block, handleBy: { $0 + Int64(addresses.count) }) { return addresses }
    }
    throw .contention("block \(cidr)")
  }
}

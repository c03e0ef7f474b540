/// Addresses go back, and questions of who holds what.
import AddressPlans
public import Addresses
import Datastore
import JSON

extension AddressBook {
  /// What a handle holds.
  public struct Holding: Hashable, Sendable {
    public var addresses: [IPAddress] = []
    /// Those of them that another attachment of the same pod holds as well.
    public var shared: [IPAddress] = []
    public init() {}
  }

  public func holding(of handle: String) async throws(AddressBookError) -> Holding {
    var holding = Holding()
    let key = AddressKeys.handle(handle)
    let record = HandleRecord(key: key, stored: try await get(key))
    desk?.know(handle: record.stored)
    for cidr in record.blocks {
      guard let item = try await get(AddressKeys.block(cidr)) else { continue }
      let block = try block(item)
      desk?.know(cidr, .init(revision: item.modRevision, block: block))
      holding.addresses += block.addresses(heldBy: handle)
      holding.shared += block.addresses(sharedBy: handle)
    }
    holding.addresses.sort()
    holding.shared.sort()
    return holding
  }
  public func addresses(heldBy handle: String) async throws(AddressBookError) -> [IPAddress] { try await holding(of: handle).addresses }
  /// What another attachment of the same pod holds as well.
  public func addresses(sharedBy handle: String) async throws(AddressBookError) -> [IPAddress] { try await holding(of: handle).shared }

  /// How long the prefix of the address's block is; full length for an address that is in none.
  public func blockLength(of address: IPAddress) async throws(AddressBookError) -> UInt8 {
    try await blockCIDR(of: address)?.length ?? UInt8(address.family.bits)
  }

  /// Releases everything the handle holds, in one transaction. Nothing is success. Returns what is given up now; what is shared stays with
  /// the other holder.
  @discardableResult
  public func release(handle: String) async throws(AddressBookError) -> [IPAddress] {
    let key = AddressKeys.handle(handle)
    var stored = desk?.handle(key)
    var isKnown = stored != nil
    let cooldown = try await configuration().cooldownSeconds
    for _ in 0..<Self.attempts {
      if !isKnown { stored = try await get(key) }
      guard let item = stored else { return [] }
      isKnown = false
      var writes = BlockWrites(handle: HandleRecord(key: key, stored: item))
      var freed: [IPAddress] = []
      for cidr in writes.handle.blocks {
        // What remains is counted rather than subtracted: counts without an address (a crash between Calico's two steps) heal on the way.
        writes.counts[cidr] = 0
        var known = desk?.block(cidr)
        if known == nil, let item = try await get(AddressKeys.block(cidr)) { known = .init(revision: item.modRevision, block: try block(item)) }
        guard let known else {
          writes.conditions.append(.absent(AddressKeys.block(cidr)))
          continue
        }
        var block = known.block
        freed += block.release(
          block.addresses(heldBy: handle).map { .init($0) }, handle: handle, restingFrom: cooldown > 0 ? now() : nil
        ).map(\.address)
        guard block != known.block else {
          // Nothing is held here, if this is still what is stored.
          writes.conditions.append(.modRevision(AddressKeys.block(cidr), equals: known.revision))
          continue
        }
        writes.blocks.append(.init(cidr: cidr, before: known.revision, after: block.isEmpty && block.affinity == nil ? nil : block))
      }
      desk?.know(handle: nil)
      if try await write(.release, &writes) { return freed.sorted() }
      desk?.forgetBlocks()
    }
    throw .contention("handle \(handle)")
  }

  /// Releases those of the addresses that somebody holds; with `handle`, only what that one holds. Returns what was released.
  @discardableResult
  public func release(_ addresses: [IPAddress], handle: String? = nil) async throws(AddressBookError) -> [IPAddress] {
    try await release(addresses.map { .init($0) }, handle: handle)
  }

  /// The same, each only as it was assigned under its sequence number.
  @discardableResult
  public func release(
    _ releases: [AllocationBlock.Release], handle: String? = nil
  ) async throws(AddressBookError) -> [IPAddress] {
    var released: [IPAddress] = []
    var byBlock: [IPPrefix: [AllocationBlock.Release]] = [:]
    for release in releases {
      if let cidr = try await blockCIDR(of: release.address) { byBlock[cidr, default: []].append(release) }
    }
    for (cidr, releases) in byBlock.sorted(by: { $0.key < $1.key }) {
      let present = try await get(AddressKeys.block(cidr))
      guard let present, case let block = try block(present) else { continue }
      // Each holder's count is a record of its own: one transaction per holder. A number is good for one of them.
      let wanted = releases.filter { $0.sequence == nil || $0.sequence == block.sequence(of: $0.address) }
      let holders = wanted.compactMap { block.holder(of: $0.address) }.filter { !$0.isCooling }
      for holder in Set(holders.compactMap(\.handleID) + holders.compactMap { $0.alternate?.handleID }).sorted()
      where handle == nil || handle == holder {
        released += try await release(in: cidr, handle: holder) { block in
          wanted.filter { block.holder(of: $0.address)?.isHeld(by: holder) == true }
        }
      }
      func isUnnamed(_ release: AllocationBlock.Release, _ block: AllocationBlock) -> Bool {
        block.holder(of: release.address).map { $0.handleID == nil && !$0.isCooling } ?? false
      }
      if handle == nil, wanted.contains(where: { isUnnamed($0, block) }) {
        released += try await release(in: cidr, handle: nil) { block in wanted.filter { isUnnamed($0, block) } }
      }
    }
    return released.sorted()
  }

  func release(
    in cidr: IPPrefix, handle: String?, _ choose: (AllocationBlock) -> [AllocationBlock.Release]
  ) async throws(AddressBookError) -> [IPAddress] {
    var records = Records(book: self, cidr: cidr, handle: handle)
    let cooldown = try await configuration().cooldownSeconds
    for _ in 0..<Self.attempts {
      try await records.read()
      guard let stored = try records.block() else {
        // The handle counts addresses of a block that is gone: drop the count.
        if try await records.write(.healHandle, nil, handleBy: { _ in 0 }) { return [] }
        continue
      }
      var block = stored
      let freed = block.release(choose(block), handle: handle, restingFrom: cooldown > 0 ? now() : nil).map(\.address)
      let left = handle.map { Int64(block.addresses(heldBy: $0).count) } ?? 0
      if block == stored, records.handleCounts(left) { return [] }
      if try await records.write(.release, block.isEmpty && block.affinity == nil ? nil : block, handleBy: { _ in left }) { return freed }
    }
    throw .contention("block \(cidr)")
  }

  /// Frees what has rested long enough, in every block. Returns what is free now.
  @discardableResult
  public func collectCold() async throws(AddressBookError) -> [IPAddress] {
    var freed: [IPAddress] = []
    let seconds = Int64(try await configuration().cooldownSeconds)
    for family in IPFamily.allCases {
      for item in try await list(AddressKeys.blocks(family)) {
        guard var block = try? block(item), case let cold = block.collectCold(at: now(), after: seconds), !cold.isEmpty else { continue }
        let isGone = block.isEmpty && block.affinity == nil
        let operation = isGone ? DatastoreOperation.delete(item.key) : .put(item.key, block.json().bytes)
        // Changed meanwhile: whoever did that collected them as well, or the next pass does.
        if case .committed = try await transact(.release, [.modRevision(item.key, equals: item.modRevision)], [operation]) { freed += cold }
      }
    }
    return freed.sorted()
  }

  /// Sets the attributes of the address's owner and of whoever else has it; nil leaves as it is.
  public func setOwners(
    of address: IPAddress, handle: String, active: [String: String]?, alternate: [String: String]?
  ) async throws(AddressBookError) {
    guard let cidr = try await blockCIDR(of: address) else { throw .noPool(address) }
    var records = Records(book: self, cidr: cidr, handle: nil)
    for _ in 0..<Self.attempts {
      try await records.read()
      guard var block = try records.block() else { throw .noPool(address) }
      do throws(AllocationBlock.Fault) {
        try block.setOwners(of: address, handle: handle, active: active, alternate: alternate)
      } catch {
        throw .store("\(error)")
      }
      if try await records.write(.assignExact, block, handleBy: { $0 }) { return }
    }
    throw .contention("block \(cidr)")
  }
}

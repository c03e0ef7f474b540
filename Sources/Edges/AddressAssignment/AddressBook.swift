/// Addresses for workloads: decisions of `AddressPlans`, carried out on a datastore by compare-and-swap.
///
/// Calico writes handle, affinity and block one after another. Here one transaction writes them together, so a crash at any point leaves
/// all or nothing, and one attachment costs one write. What Calico's own steps left half-way (a pending affinity, a count without an
/// address) is taken up where it stands.
import AddressPlans
public import Addresses
public import Datastore
import JSON
import Names
import Resources

public enum AddressBookError: Error, Sendable, CustomStringConvertible {
  /// Nothing to give; the text says why, by pool.
  case exhausted(String)
  case taken(IPAddress, by: String?)
  case noPool(IPAddress)
  case contention(String)
  /// Strict affinity forbids it.
  case refused(String)
  /// What is stored cannot be used.
  case store(String)
  case datastore(DatastoreError)
  init(_ error: ResourceStoreError) {
    self = if case .datastore(let error) = error { .datastore(error) } else { .store(error.description) }
  }
  public var description: String {
    switch self {
    case .exhausted(let why): "no address to give: \(why)"
    case .taken(let address, let holder): "\(address) is taken" + (holder.map { " by \($0)" } ?? "")
    case .noPool(let address): "\(address) is in no enabled pool"
    case .contention(let what): "gave up after \(AddressBook.attempts) attempts, others kept changing \(what)"
    case .refused(let why): why
    case .store(let why): why
    case .datastore(let error): error.description
    }
  }
}

/// What an assignment gave. Fewer than asked for is not an error; `messages` say why.
public struct Assignment: Hashable, Sendable {
  public var v4: [IPAddress] = []
  public var v6: [IPAddress] = []
  public var messages: [String] = []
}

public struct AddressBook: Sendable {
  public let datastore: any Datastore
  public let node: String
  let now: @Sendable () -> UTCTime
  static let blocksPerHostMax = 20
  static let attempts = 100
  /// A block of another node that is empty may be taken over when it was claimed longer ago than this.
  static let reclaimAgeSeconds: Int64 = 60

  public init(datastore: any Datastore, node: String) { self.init(datastore: datastore, node: node, now: { UTCTime.now() }) }
  init(datastore: any Datastore, node: String, now: @escaping @Sendable () -> UTCTime) {
    self.datastore = datastore
    self.node = node
    self.now = now
  }

  /// Everything that says which blocks are this node's.
  public var affinityRoot: String { AddressKeys.affinities(node: node) }
  public static func cidr(keyPart text: some StringProtocol) -> IPPrefix? { AddressKeys.cidr(keyPart: text) }
  public static func isConfirmed(affinity value: [UInt8]) -> Bool { AddressKeys.isConfirmed(affinity: value) }
  var owner: String { "host:\(node)" }

  // MARK: Assigning

  /// One address of `family` for `handle`. `pools` are names or CIDRs; none means any automatic pool.
  public func assign(
    _ family: IPFamily, handle: String, attributes: [String: String] = [:], pools: [String] = []
  ) async throws(AddressBookError) -> IPAddress {
    var search = try await Search(
      self, family: family, attribute: .init(handleID: handle, secondary: attributes), requested: pools)
    if let address = try await search.take(1).first { return address }
    throw .exhausted(search.shortage)
  }

  /// Up to `v4` and `v6` addresses for `handle`. `pools` are names or CIDRs of either family.
  public func autoAssign(
    v4: Int = 0, v6: Int = 0, handle: String, attributes: [String: String] = [:], pools: [String] = []
  ) async throws(AddressBookError) -> Assignment {
    var assignment = Assignment()
    for (family, count) in [(IPFamily.v4, v4), (.v6, v6)] where count > 0 {
      var search = try await Search(
        self, family: family, attribute: .init(handleID: handle, secondary: attributes), requested: pools)
      let addresses = try await search.take(count)
      if family == .v4 { assignment.v4 = addresses } else { assignment.v6 = addresses }
      if addresses.count < count {
        assignment.messages.append("\(addresses.count) of \(count) \(family) addresses assigned: \(search.shortage)")
      }
    }
    return assignment
  }

  /// Exactly this address, from whatever pool holds it. If another attachment of the same pod has it, both hold it: the pod moves from one
  /// host to another.
  public func assign(_ address: IPAddress, handle: String, attributes: [String: String] = [:]) async throws(AddressBookError) {
    guard let pool = try await pool(of: address), !pool.disabled, PoolChoice.sizeFault(pool) == nil else { throw .noPool(address) }
    let isStrict = try await configuration().strictAffinity
    let cidr = IPPrefix(address, length: pool.blockSize)
    var records = Records(book: self, cidr: cidr, handle: handle)
    for _ in 0..<Self.attempts {
      try await records.read()
      var block = try records.block() ?? newBlock(cidr)
      if isStrict, block.affinity != owner {
        throw .refused("\(address) is in block \(cidr) of \(block.affinity ?? "nobody"), and strict affinity is set")
      }
      do throws(AllocationBlock.Fault) {
        try block.assignOrJoin(address, for: .init(handleID: handle, secondary: attributes))
      } catch {
        if case .taken(_, let holder) = error { throw .taken(address, by: holder) }
        throw .store("\(error)")
      }
      if try await records.write(block, claiming: records.blockItem == nil, handleBy: { $0 + 1 }) { return }
    }
    throw .contention("block \(cidr)")
  }

  // MARK: Releasing and asking

  public func addresses(heldBy handle: String) async throws(AddressBookError) -> [IPAddress] {
    try await addresses(of: handle) { $0.addresses(heldBy: handle) }
  }
  /// What another attachment of the same pod holds as well.
  public func addresses(sharedBy handle: String) async throws(AddressBookError) -> [IPAddress] {
    try await addresses(of: handle) { $0.addresses(sharedBy: handle) }
  }
  private func addresses(
    of handle: String, _ choose: (AllocationBlock) -> [IPAddress]
  ) async throws(AddressBookError) -> [IPAddress] {
    var addresses: [IPAddress] = []
    let record = HandleRecord(key: AddressKeys.handle(handle), stored: try await get(AddressKeys.handle(handle)))
    for cidr in record.blocks {
      if let item = try await get(AddressKeys.block(cidr)) { addresses += choose(try block(item)) }
    }
    return addresses.sorted()
  }

  /// How long the prefix of the address's block is; full length for an address that is in none.
  public func blockLength(of address: IPAddress) async throws(AddressBookError) -> UInt8 {
    try await blockCIDR(of: address)?.length ?? UInt8(address.family.bits)
  }

  /// Releases everything the handle holds. Nothing is success. Returns what is free now; what is shared stays with the other holder.
  @discardableResult
  public func release(handle: String) async throws(AddressBookError) -> [IPAddress] {
    var released: [IPAddress] = []
    let record = HandleRecord(key: AddressKeys.handle(handle), stored: try await get(AddressKeys.handle(handle)))
    for cidr in record.blocks {
      released += try await release(in: cidr, handle: handle) { $0.addresses(heldBy: handle) }
    }
    return released.sorted()
  }

  /// Releases those of the addresses that somebody holds; with `handle`, only what that one holds. Returns what was released.
  @discardableResult
  public func release(_ addresses: [IPAddress], handle: String? = nil) async throws(AddressBookError) -> [IPAddress] {
    var released: [IPAddress] = []
    var byBlock: [IPPrefix: [IPAddress]] = [:]
    for address in addresses {
      if let cidr = try await blockCIDR(of: address) { byBlock[cidr, default: []].append(address) }
    }
    for (cidr, addresses) in byBlock.sorted(by: { $0.key < $1.key }) {
      let present = try await get(AddressKeys.block(cidr))
      guard let present, case let block = try block(present) else { continue }
      // Each holder's count is a record of its own: one transaction per holder.
      let holders = addresses.compactMap { block.holder(of: $0) }
      for holder in Set(holders.compactMap(\.handleID) + holders.compactMap { $0.alternate?.handleID }).sorted()
      where handle == nil || handle == holder {
        released += try await release(in: cidr, handle: holder) { block in
          addresses.filter { block.holder(of: $0)?.isHeld(by: holder) == true }
        }
      }
      if handle == nil, addresses.contains(where: { block.holder(of: $0).map { $0.handleID == nil } ?? false }) {
        released += try await release(in: cidr, handle: nil) { block in
          addresses.filter { block.holder(of: $0).map { $0.handleID == nil } ?? false }
        }
      }
    }
    return released.sorted()
  }

  func release(
    in cidr: IPPrefix, handle: String?, _ choose: (AllocationBlock) -> [IPAddress]
  ) async throws(AddressBookError) -> [IPAddress] {
    var records = Records(book: self, cidr: cidr, handle: handle)
    for _ in 0..<Self.attempts {
      try await records.read()
      guard let stored = try records.block() else {
        // The handle counts addresses of a block that is gone: drop the count.
        if try await records.write(nil, handleBy: { _ in 0 }) { return [] }
        continue
      }
      var block = stored
      let freed = block.release(choose(block), handle: handle).map(\.address)
      // What remains is counted rather than subtracted: counts without an address (a crash between Calico's two steps) heal on the way.
      let left = handle.map { Int64(block.addresses(heldBy: $0).count) } ?? 0
      if block == stored, records.handleCounts(left) { return [] }
      if try await records.write(block.isEmpty && block.affinity == nil ? nil : block, handleBy: { _ in left }) { return freed }
    }
    throw .contention("block \(cidr)")
  }

  // MARK: Datastore

  func get(_ key: String) async throws(AddressBookError) -> KeyValue? {
    do throws(DatastoreError) { return try await datastore.get(key) } catch { throw .datastore(error) }
  }
  func list(_ prefix: String) async throws(AddressBookError) -> [KeyValue] {
    do throws(DatastoreError) { return try await datastore.list(prefix: prefix).items } catch { throw .datastore(error) }
  }
  func transact(_ comparisons: [Comparison], _ operations: [DatastoreOperation]) async throws(AddressBookError) -> TransactionResult {
    do throws(DatastoreError) { return try await datastore.transact(if: comparisons, then: operations) } catch { throw .datastore(error) }
  }
  func pools() async throws(AddressBookError) -> [Resource] {
    do throws(ResourceStoreError) {
      return try await ResourceStore(datastore).list(.ipPool).items.map(\.resource)
    } catch {
      throw AddressBookError(error)
    }
  }
  func nodeLabels() async throws(AddressBookError) -> [String: String] {
    do throws(ResourceStoreError) {
      return try await ResourceStore(datastore).get(ResourceKey(.node, name: node))?.resource.metadata.labels ?? [:]
    } catch {
      throw AddressBookError(error)
    }
  }
  func configuration() async throws(AddressBookError) -> AddressConfiguration {
    guard let item = try await get(AddressKeys.configuration) else { return AddressConfiguration() }
    guard let document = try? JSONValue(parsing: item.value) else {
      throw .store("\(item.key) cannot be read; correct or delete it")
    }
    return AddressConfiguration(parsing: document)
  }
  /// What IPReservations keep out of automatic assignment. One that cannot be read reserves what of it can be.
  func reserved() async throws(AddressBookError) -> [IPPrefix] {
    try await list(AddressKeys.reservations).flatMap { item in
      ((try? JSONValue(parsing: item.value))?["spec"]?["reservedCIDRs"]?.array ?? []).compactMap { $0.string.flatMap { IPPrefix($0) } }
    }
  }
  func block(_ item: KeyValue) throws(AddressBookError) -> AllocationBlock {
    do { return try AllocationBlock(parsing: try JSONValue(parsing: item.value)) } catch { throw .store("\(item.key): \(error)") }
  }
  func newBlock(_ cidr: IPPrefix) -> AllocationBlock {
    let now = now()
    return AllocationBlock(
      cidr: cidr, affinity: owner, claimTime: now.text, sequenceNumber: UInt64(now.unixSeconds) * 1_000_000_000 + UInt64(now.nanoseconds))
  }

  private func pool(of address: IPAddress) async throws(AddressBookError) -> IPPoolSpec? {
    for resource in try await pools() {
      if case .ipPool(let pool) = resource.spec, pool.cidr.contains(address) { return pool }
    }
    return nil
  }
  /// The block that holds the address: of its pool's size, or (the pool is gone, or had another size) whichever covers it.
  private func blockCIDR(of address: IPAddress) async throws(AddressBookError) -> IPPrefix? {
    if let pool = try await pool(of: address), PoolChoice.sizeFault(pool) == nil {
      let cidr = IPPrefix(address, length: pool.blockSize)
      if try await get(AddressKeys.block(cidr)) != nil { return cidr }
    }
    return try await list(AddressKeys.blocks(address.family)).lazy.compactMap { AddressKeys.cidr(ofKey: $0.key) }
      .first { $0.contains(address) }
  }
}

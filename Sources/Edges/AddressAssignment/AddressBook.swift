/// Addresses for workloads: decisions of `AddressPlans`, carried out on a datastore by compare-and-swap.
///
/// Every step is one transaction: an assignment writes block, handle and (for a new block) affinity together, so a crash at any point leaves
/// either nothing or all of it. Records that Calico's own steps left half-way (pending affinities) are taken up where they stand.
public import AddressPlans
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
  case store(String)
  public var description: String {
    switch self {
    case .exhausted(let why): "no address to give: \(why)"
    case .taken(let address, let holder): "\(address) is taken" + (holder.map { " by \($0)" } ?? "")
    case .noPool(let address): "\(address) is in no enabled pool"
    case .contention(let what): "gave up after 100 attempts, others kept changing \(what)"
    case .store(let why): why
    }
  }
}

public struct AddressBook: Sendable {
  public let datastore: any Datastore
  public let node: String
  static let blocksPerHostMax = 20
  static let attempts = 100

  public init(datastore: any Datastore, node: String) {
    self.datastore = datastore
    self.node = node
  }

  // MARK: Keys

  static func blockKey(_ cidr: IPPrefix) -> String { "/calico/ipam/v2/assignment/\(family(cidr))/block/\(dashed(cidr))" }
  static func blockPrefix(_ family: IPFamily) -> String { "/calico/ipam/v2/assignment/ip\(family == .v4 ? "v4" : "v6")/block/" }
  static func handleKey(_ id: String) -> String { "/calico/ipam/v2/handle/\(KeyPart.escape(id))" }
  func affinityKey(_ cidr: IPPrefix) -> String { affinityPrefix(cidr.family) + Self.dashed(cidr) }
  func affinityPrefix(_ family: IPFamily) -> String {
    "/calico/ipam/v2/host/\(KeyPart.escape(node))/ip\(family == .v4 ? "v4" : "v6")/block/"
  }
  /// Everything that says which blocks are this host's.
  public var affinityRoot: String { "/calico/ipam/v2/host/\(KeyPart.escape(node))/" }
  private static func family(_ cidr: IPPrefix) -> String { cidr.family == .v4 ? "ipv4" : "ipv6" }
  private static func dashed(_ cidr: IPPrefix) -> String { "\(cidr.address)-\(cidr.length)" }
  /// `10.65.0.0-26` or `fd65::-122`, the last part of a block's or an affinity's key.
  public static func cidr(keyPart text: some StringProtocol) -> IPPrefix? {
    guard let dash = text.lastIndex(of: "-") else { return nil }
    return IPPrefix(text[..<dash] + "/" + text[text.index(after: dash)...])
  }
  /// A confirmed affinity of a host: `/calico/ipam/v2/host/<node>/ipv4/block/…`. Older records have an empty value.
  public static func isConfirmed(affinity value: [UInt8]) -> Bool {
    if value.isEmpty { return true }
    guard let document = try? JSONValue(parsing: value) else { return false }
    return document["state"]?.string == "confirmed" && document["deleted"]?.bool != true
  }
  private static let confirmed = Array(#"{"state":"confirmed","deleted":false}"#.utf8)
  private var affinityOwner: String { "host:\(node)" }

  // MARK: Datastore

  private func get(_ key: String) async throws(AddressBookError) -> KeyValue? {
    do throws(DatastoreError) { return try await datastore.get(key) } catch { throw .store("\(error)") }
  }
  private func list(_ prefix: String) async throws(AddressBookError) -> [KeyValue] {
    do throws(DatastoreError) { return try await datastore.list(prefix: prefix).items } catch { throw .store("\(error)") }
  }
  private func transact(_ comparisons: [Comparison], _ operations: [DatastoreOperation]) async throws(AddressBookError) -> Bool {
    do throws(DatastoreError) {
      if case .committed = try await datastore.transact(if: comparisons, then: operations) { return true }
      return false
    } catch {
      throw .store("\(error)")
    }
  }
  private func resources(_ kind: Kind) async throws(AddressBookError) -> [Resource] {
    do throws(ResourceStoreError) { return try await ResourceStore(datastore).list(kind).items.map(\.resource) } catch { throw .store("\(error)") }
  }
  private func block(_ item: KeyValue) throws(AddressBookError) -> AllocationBlock {
    do { return try AllocationBlock(parsing: try JSONValue(parsing: item.value)) } catch { throw .store("\(item.key): \(error)") }
  }

  // MARK: Assigning

  /// One address of `family` for `handle`. `pools` are names or CIDRs; none means any automatic pool.
  public func assign(
    _ family: IPFamily, handle: String, attributes: [String: String] = [:], pools requested: [String] = []
  ) async throws(AddressBookError) -> IPAddress {
    let nodeKey = ResourceKey(.node, name: node)
    let labels: [String: String]
    do throws(ResourceStoreError) {
      labels = try await ResourceStore(datastore).get(nodeKey)?.resource.metadata.labels ?? [:]
    } catch {
      throw .store("\(error)")
    }
    let (pools, problems) = PoolChoice.pools(try await resources(.ipPool), family: family, nodeLabels: labels, requested: requested)
    guard !pools.isEmpty else {
      throw .exhausted(problems.isEmpty ? "no enabled \(family) pool selects node \(node)" : problems.joined(separator: "; "))
    }
    let attribute = AllocationBlock.Attribute(handleID: handle, secondary: attributes)
    for _ in 0..<Self.attempts {
      // What this host owns, then a block nobody has, then others' spare addresses.
      if let address = try await assignFromOwn(family, pools, attribute) { return address }
      switch try await claim(family, pools, attribute) {
      case .assigned(let address): return address
      case .raced: continue
      case .none: break
      }
      switch try await borrow(family, pools, attribute) {
      case .assigned(let address): return address
      case .raced: continue
      case .none: break
      }
      throw .exhausted("every block of \(pools.map(\.cidr.description).joined(separator: ", ")) is full")
    }
    throw .contention("the blocks of \(node)")
  }

  private enum Attempt {
    case assigned(IPAddress)
    /// Somebody else was faster: look again.
    case raced
    case none
  }

  private func assignFromOwn(
    _ family: IPFamily, _ pools: [IPPoolSpec], _ attribute: AllocationBlock.Attribute
  ) async throws(AddressBookError) -> IPAddress? {
    for affinity in try await list(affinityPrefix(family)) {
      guard let cidr = affinity.key.split(separator: "/").last.flatMap({ Self.cidr(keyPart: $0) }),
        pools.contains(where: { $0.cidr.contains(cidr) })
      else { continue }
      for _ in 0..<Self.attempts {
        guard let item = try await get(Self.blockKey(cidr)) else {
          // Affinity without block: left by a crash between Calico's two steps. Make the block.
          let made = try await write(newBlock(cidr), from: nil, attribute, affinity: (affinity.key, affinity.modRevision))
          if let address = made { return address }
          continue
        }
        let present = try block(item)
        guard present.affinity == affinityOwner, present.freeCount > 0 else { break }
        let confirm = Self.isConfirmed(affinity: affinity.value) ? nil : (affinity.key, affinity.modRevision as Revision?)
        if let address = try await write(present, from: item, attribute, affinity: confirm) { return address }
      }
    }
    return nil
  }

  private func newBlock(_ cidr: IPPrefix) -> AllocationBlock {
    let now = UTCTime.now()
    return AllocationBlock(
      cidr: cidr, affinity: affinityOwner, claimTime: now.text,
      sequenceNumber: UInt64(now.unixSeconds) * 1_000_000_000 + UInt64(now.nanoseconds))
  }

  private func claim(
    _ family: IPFamily, _ pools: [IPPoolSpec], _ attribute: AllocationBlock.Attribute
  ) async throws(AddressBookError) -> Attempt {
    let owned = try await list(affinityPrefix(family)).count
    guard owned < Self.blocksPerHostMax else { return .none }
    let taken = Set(try await list(Self.blockPrefix(family)).compactMap { $0.key.split(separator: "/").last.flatMap { Self.cidr(keyPart: $0) } })
    for pool in pools {
      // Blocks of another size from an earlier life of the pool must not be overlapped.
      let foreign = taken.filter { $0.length != pool.blockSize && $0.overlaps(pool.cidr) }
      let limit = taken.count + 1
      var looked = 0
      for candidate in PoolChoice.candidateBlocks(pool, host: node) {
        looked += 1
        if taken.contains(candidate) || foreign.contains(where: { $0.overlaps(candidate) }) {
          if looked > limit, foreign.isEmpty { break }
          continue
        }
        let address = try await write(newBlock(candidate), from: nil, attribute, affinity: (affinityKey(candidate), nil))
        return address.map { .assigned($0) } ?? .raced
      }
    }
    return .none
  }

  private func borrow(
    _ family: IPFamily, _ pools: [IPPoolSpec], _ attribute: AllocationBlock.Attribute
  ) async throws(AddressBookError) -> Attempt {
    for item in try await list(Self.blockPrefix(family)) {
      let present = try block(item)
      guard present.freeCount > 0, pools.contains(where: { $0.cidr.contains(present.cidr) }) else { continue }
      if let address = try await write(present, from: item, attribute, affinity: nil) { return .assigned(address) }
      return .raced
    }
    return .none
  }

  /// Takes one address of `block` and writes block, handle and affinity in one transaction. Nil when any of them changed meanwhile.
  private func write(
    _ block: AllocationBlock, from item: KeyValue?, _ attribute: AllocationBlock.Attribute, affinity: (key: String, revision: Revision?)?
  ) async throws(AddressBookError) -> IPAddress? {
    var block = block
    guard let address = block.allocate(1, for: attribute).first else { return nil }
    return try await commit(block, from: item, handle: attribute.handleID, by: 1, affinity: affinity) ? address : nil
  }

  private func commit(
    _ block: AllocationBlock, from item: KeyValue?, handle: String?, by count: Int, affinity: (key: String, revision: Revision?)?
  ) async throws(AddressBookError) -> Bool {
    let key = Self.blockKey(block.cidr)
    var comparisons: [Comparison] = [item.map { .modRevision(key, equals: $0.modRevision) } ?? .absent(key)]
    var operations: [DatastoreOperation] = [.put(key, Array(block.json().text().utf8))]
    if let affinity {
      comparisons.append(affinity.revision.map { .modRevision(affinity.key, equals: $0) } ?? .absent(affinity.key))
      operations.append(.put(affinity.key, Self.confirmed))
    }
    if let handle {
      let (comparison, operation) = try await countHandle(handle, block.cidr, by: count)
      comparisons.append(comparison)
      if let operation { operations.append(operation) }
    }
    return try await transact(comparisons, operations)
  }

  /// The handle's record with `count` added for the block; a handle that holds nothing any more is deleted.
  private func countHandle(
    _ id: String, _ cidr: IPPrefix, by count: Int
  ) async throws(AddressBookError) -> (Comparison, DatastoreOperation?) {
    let key = Self.handleKey(id)
    let item = try await get(key)
    var document = item.flatMap { try? JSONValue(parsing: $0.value) } ?? ["block": [:], "deleted": false]
    let before = document["block"]?[cidr.description]?.integer ?? 0
    let after = max(before + Int64(count), 0)
    document["block"]?[cidr.description] = after == 0 ? nil : .integer(after)
    let comparison: Comparison = item.map { .modRevision(key, equals: $0.modRevision) } ?? .absent(key)
    if document["block"]?.object?.isEmpty != false { return (comparison, item == nil ? nil : .delete(key)) }
    return (comparison, .put(key, Array(document.text().utf8)))
  }

  /// Exactly this address, from whatever pool holds it.
  public func assign(_ address: IPAddress, handle: String, attributes: [String: String] = [:]) async throws(AddressBookError) {
    var pool: IPPoolSpec?
    for resource in try await resources(.ipPool) {
      if case .ipPool(let candidate) = resource.spec, !candidate.disabled, candidate.cidr.contains(address) { pool = candidate }
    }
    guard let pool else { throw .noPool(address) }
    let cidr = IPPrefix(address, length: pool.blockSize)
    let attribute = AllocationBlock.Attribute(handleID: handle, secondary: attributes)
    for _ in 0..<Self.attempts {
      let item = try await get(Self.blockKey(cidr))
      var present = try item.map { item throws(AddressBookError) in try block(item) } ?? newBlock(cidr)
      do throws(AllocationBlock.Fault) {
        try present.assign(address, for: attribute)
      } catch {
        if case .taken(_, let holder) = error { throw .taken(address, by: holder) }
        throw .store("\(error)")
      }
      let affinity: (key: String, revision: Revision?)? = item == nil ? (affinityKey(cidr), nil) : nil
      if try await commit(present, from: item, handle: handle, by: 1, affinity: affinity) { return }
    }
    throw .contention("block \(cidr)")
  }

  // MARK: Releasing and asking

  private func blocks(of handle: String) async throws(AddressBookError) -> [IPPrefix] {
    guard let item = try await get(Self.handleKey(handle)), let document = try? JSONValue(parsing: item.value) else { return [] }
    return document["block"]?.object?.members.compactMap { IPPrefix($0.name) } ?? []
  }

  public func addresses(heldBy handle: String) async throws(AddressBookError) -> [IPAddress] {
    var addresses: [IPAddress] = []
    for cidr in try await blocks(of: handle) {
      if let item = try await get(Self.blockKey(cidr)) { addresses += try block(item).addresses(heldBy: handle) }
    }
    return addresses.sorted()
  }

  /// Releases everything the handle holds. Nothing is success. Returns what was released.
  @discardableResult
  public func release(handle: String) async throws(AddressBookError) -> [IPAddress] {
    var released: [IPAddress] = []
    for cidr in try await blocks(of: handle) {
      var done = false
      for _ in 0..<Self.attempts where !done {
        guard let item = try await get(Self.blockKey(cidr)) else {
          // The handle counts addresses of a block that is gone: drop the count.
          let (comparison, operation) = try await countHandle(handle, cidr, by: -Int(UInt16.max) - 1)
          done = try await transact([comparison], operation.map { [$0] } ?? [])
          continue
        }
        var present = try block(item)
        let freed = present.release(present.addresses(heldBy: handle), handle: handle)
        // A count without an address (a crash between Calico's two steps) is dropped along with the others.
        if present.isEmpty, present.affinity == nil {
          let (comparison, operation) = try await countHandle(handle, cidr, by: -Int(UInt16.max) - 1)
          done = try await transact(
            [.modRevision(item.key, equals: item.modRevision), comparison], [.delete(item.key)] + (operation.map { [$0] } ?? []))
        } else {
          done = try await commit(present, from: item, handle: handle, by: -Int(UInt16.max) - 1, affinity: nil)
        }
        if done { released += freed.map(\.address) }
      }
      if !done { throw .contention("block \(cidr)") }
    }
    return released.sorted()
  }
}

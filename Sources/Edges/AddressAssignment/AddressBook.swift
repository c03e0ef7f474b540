/// Addresses for workloads: decisions of `AddressPlans`, carried out on a datastore by compare-and-swap.
///
/// Calico writes handle, affinity and block one after another. Here one transaction writes them together, so a crash at any point leaves
/// all or nothing, and one attachment costs one write. What Calico's own steps left half-way (a pending affinity, a count without an
/// address) is taken up where it stands.
public import AddressPlans
public import Addresses
public import Datastore
import JSON
public import Names
public import Resources

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

/// Where addresses may come from, and how many of them.
public struct AssignmentTerms: Hashable, Sendable {
  /// Names or CIDRs; none means any automatic pool.
  public var pools: [String]
  public var use: IPPoolSpec.Use
  /// The most addresses of one family that the handle may hold.
  public var perHandleMax: Int?
  /// The most blocks that the owner may have, if fewer than the configuration says.
  public var blocksMax: Int?
  public init(pools: [String] = [], use: IPPoolSpec.Use = .workload, perHandleMax: Int? = nil, blocksMax: Int? = nil) {
    self.pools = pools
    self.use = use
    self.perHandleMax = perHandleMax
    self.blocksMax = blocksMax
  }
}

public struct AddressBook: Sendable {
  public let datastore: any Datastore
  /// In whose blocks addresses are looked for first.
  public let owner: BlockOwner
  let now: @Sendable () -> UTCTime
  let onStep: AddressStepHook?
  /// What a long-running process knows already.
  let desk: AddressDesk?
  static let blocksPerHostMax = 20
  static let attempts = 100
  /// A block of another node that is empty may be taken over when it was claimed longer ago than this.
  static let reclaimAgeSeconds: Int64 = 60

  public init(datastore: any Datastore, node: String) { self.init(datastore: datastore, owner: .host(node)) }
  public init(
    datastore: any Datastore, owner: BlockOwner, desk: AddressDesk? = nil, now: @escaping @Sendable () -> UTCTime = { .now() },
    onStep: AddressStepHook? = nil
  ) {
    self.datastore = datastore
    self.owner = owner
    self.desk = desk
    self.now = now
    self.onStep = onStep
  }
  init(datastore: any Datastore, node: String, now: @escaping @Sendable () -> UTCTime) {
    self.init(datastore: datastore, owner: .host(node), now: now)
  }

  public var node: String { owner.name }
  /// Everything that says which blocks are this node's.
  public var affinityRoot: String { AddressKeys.affinities(of: owner) }
  public static func cidr(keyPart text: some StringProtocol) -> IPPrefix? { AddressKeys.cidr(keyPart: text) }
  public static func isConfirmed(affinity value: [UInt8]) -> Bool { AddressKeys.isConfirmed(affinity: value) }

  // MARK: Assigning

  /// One address of `family` for `handle`. `pools` are names or CIDRs; none means any automatic pool.
  public func assign(
    _ family: IPFamily, handle: String, attributes: [String: String] = [:], pools: [String] = []
  ) async throws(AddressBookError) -> IPAddress {
    let terms = AssignmentTerms(pools: pools)
    let attribute = AllocationBlock.Attribute(handleID: handle, secondary: attributes)
    if let quick = try await assignFromDesk([family: terms], attribute) { return quick[0] }
    return try await search(family, attribute, terms)
  }

  /// One address of each family; all of them or none. From the node's own blocks both cost one transaction.
  public func assign(
    _ terms: [IPFamily: AssignmentTerms], handle: String, attributes: [String: String] = [:]
  ) async throws(AddressBookError) -> [IPAddress] {
    let attribute = AllocationBlock.Attribute(handleID: handle, secondary: attributes)
    if let quick = try await assignFromDesk(terms, attribute) { return quick }
    var assigned: [IPAddress] = []
    do throws(AddressBookError) {
      for (family, terms) in terms.sorted(by: { $0.key == .v4 && $1.key == .v6 }) {
        assigned.append(try await search(family, attribute, terms))
      }
    } catch {
      if !assigned.isEmpty { try await release(assigned, handle: handle) }
      throw error
    }
    return assigned
  }

  private func search(
    _ family: IPFamily, _ attribute: AllocationBlock.Attribute, _ terms: AssignmentTerms
  ) async throws(AddressBookError) -> IPAddress {
    var search = try await Search(self, family: family, attribute: attribute, terms: terms)
    if let address = try await search.take(1).first { return address }
    throw .exhausted(search.shortage)
  }

  /// Up to `v4` and `v6` addresses for `handle`.
  public func autoAssign(
    v4: Int = 0, v6: Int = 0, handle: String, attributes: [String: String] = [:], terms: AssignmentTerms = AssignmentTerms()
  ) async throws(AddressBookError) -> Assignment {
    var assignment = Assignment()
    for (family, count) in [(IPFamily.v4, v4), (.v6, v6)] where count > 0 {
      var search = try await Search(
        self, family: family, attribute: .init(handleID: handle, secondary: attributes), terms: terms)
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
    let configuration = try await configuration()
    let cidr = IPPrefix(address, length: pool.blockSize)
    var records = Records(book: self, cidr: cidr, handle: handle)
    for _ in 0..<Self.attempts {
      try await records.read()
      var block = try records.block() ?? newBlock(cidr)
      if configuration.strictAffinity, block.affinity != owner.affinity {
        throw .refused("\(address) is in block \(cidr) of \(block.affinity ?? "nobody"), and strict affinity is set")
      }
      block.collectCold(at: now(), after: Int64(configuration.cooldownSeconds))
      do throws(AllocationBlock.Fault) {
        try block.assignOrJoin(address, for: .init(handleID: handle, secondary: attributes))
      } catch {
        if case .taken(_, let holder) = error { throw .taken(address, by: holder) }
        throw .store("\(error)")
      }
      if try await records.write(.assignExact, block, claiming: records.blockItem == nil, handleBy: { $0 + 1 }) { return }
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
  func transact(
    _ step: AddressStep, _ comparisons: [Comparison], _ operations: [DatastoreOperation]
  ) async throws(AddressBookError) -> TransactionResult {
    onStep?(step, .before)
    do throws(DatastoreError) {
      let result = try await datastore.transact(if: comparisons, then: operations)
      if case .committed = result { onStep?(step, .after) }
      return result
    } catch {
      throw .datastore(error)
    }
  }
  func block(_ item: KeyValue) throws(AddressBookError) -> AllocationBlock {
    do { return try AllocationBlock(parsing: try JSONValue(parsing: item.value)) } catch { throw .store("\(item.key): \(error)") }
  }
  func newBlock(_ cidr: IPPrefix) -> AllocationBlock {
    let now = now()
    return AllocationBlock(
      cidr: cidr, affinity: owner.affinity, claimTime: now.text,
      sequenceNumber: UInt64(now.unixSeconds) * 1_000_000_000 + UInt64(now.nanoseconds))
  }
}

/// What a process that assigns addresses all day keeps at hand: pools, labels, configuration, reservations and the names of its blocks,
/// kept up to date by a watch; its blocks as it last saw them, which a transaction proves or corrects.
///
/// An address then costs one transaction and no read. While the watch is down, or when the desk has nothing to give, everything is read
/// afresh: the desk saves time and decides nothing.
public import AddressPlans
import Addresses
public import Datastore
import JSON
import Names
import Resources
import Synchronization

public final class AddressDesk: Sendable {
  struct KnownBlock {
    var revision: Revision
    var block: AllocationBlock
  }
  struct State {
    var isInSync = false
    var isConnected = true
    var pools: [String: PoolChoice.Pool] = [:]
    var nodeLabels: [String: String] = [:]
    var configuration: AddressConfiguration? = AddressConfiguration()
    var reserved: [String: [IPPrefix]] = [:]
    var confirmed: Set<IPPrefix> = []
    var blocks: [IPPrefix: KnownBlock] = [:]
    /// The handle that was read last: whoever asks what it holds releases it next.
    var handle: KeyValue?
    var isBusy = false
    var waiting: [CheckedContinuation<Void, Never>] = []
    var isLive: Bool { isInSync && isConnected }
  }
  public let datastore: any Datastore
  public let owner: BlockOwner
  private let state = Mutex(State())

  public init(_ datastore: any Datastore, owner: BlockOwner) {
    self.datastore = datastore
    self.owner = owner
  }

  public convenience init(_ datastore: any Datastore, node: String) { self.init(datastore, owner: .host(node)) }
  /// The book that is kept at this desk.
  public var book: AddressBook { AddressBook(datastore: datastore, owner: owner, desk: self) }

  /// Follows the datastore until the task is cancelled.
  public func run() async {
    let feed = ResourceFeed(
      datastore, kinds: [.ipPool, .ipReservation],
      rawPrefixes: [AddressKeys.affinities(of: owner), AddressKeys.configuration, ResourceKey(.node, name: owner.name).path])
    await feed.run { events in self.state.withLock { state in for event in events { state.note(event, owner: self.owner) } } }
    state.withLock { $0.isInSync = false }
  }

  // MARK: Knowledge; nil while it may be old

  struct Knowledge {
    var pools: [PoolChoice.Pool]
    var nodeLabels: [String: String]?
    var configuration: AddressConfiguration
    var reserved: [IPPrefix]
    var confirmed: [IPPrefix]
  }
  var knowledge: Knowledge? {
    state.withLock { state in
      guard state.isLive, let configuration = state.configuration else { return nil }
      return Knowledge(
        pools: Array(state.pools.values), nodeLabels: owner.isHost ? state.nodeLabels : nil, configuration: configuration,
        reserved: Array(state.reserved.values.joined()), confirmed: state.confirmed.sorted())
    }
  }
  var configuration: AddressConfiguration? { state.withLock { $0.isLive ? $0.configuration : nil } }
  var pools: [PoolChoice.Pool]? { state.withLock { $0.isLive ? Array($0.pools.values) : nil } }
  /// True once everything has been read and the watch stands.
  public var isLive: Bool { state.withLock { $0.isLive } }

  // MARK: Blocks and handles as last seen

  func block(_ cidr: IPPrefix) -> KnownBlock? { state.withLock { $0.blocks[cidr] } }
  func know(_ cidr: IPPrefix, _ block: KnownBlock?) {
    state.withLock { state in
      // Only the own ones are used again; others' would pile up.
      if let block, block.block.affinity == owner.affinity {
        if let known = state.blocks[cidr], known.revision > block.revision { return }
        state.blocks[cidr] = block
      } else {
        state.blocks[cidr] = nil
      }
    }
  }
  func forgetBlocks() { state.withLock { $0.blocks = [:] } }
  func know(handle: KeyValue?) { state.withLock { $0.handle = handle } }
  func handle(_ key: String) -> KeyValue? { state.withLock { $0.handle?.key == key ? $0.handle : nil } }

  // MARK: Turns

  /// One after the other: two attachments of one node would only make each other's transaction fail.
  func inTurn<Value: Sendable>(_ body: () async throws(AddressBookError) -> Value) async throws(AddressBookError) -> Value {
    await withCheckedContinuation { continuation in
      let isFree = state.withLock { state in
        if state.isBusy { state.waiting.append(continuation) }
        defer { state.isBusy = true }
        return !state.isBusy
      }
      if isFree { continuation.resume() }
    }
    defer {
      let next = state.withLock { state -> CheckedContinuation<Void, Never>? in
        if state.waiting.isEmpty { state.isBusy = false }
        return state.waiting.isEmpty ? nil : state.waiting.removeFirst()
      }
      next?.resume()
    }
    return try await body()
  }
}

extension AddressDesk.State {
  mutating func note(_ event: FeedEvent, owner: BlockOwner) {
    switch event {
    case .inSync: isInSync = true
    case .connection(let problem): isConnected = problem == nil
    case .revision: break
    case .unreadable(let key, _): forget(key, owner)
    case .resource(let key, nil): forget(key, owner)
    case .resource(let key, let stored?):
      switch key.kind {
      case .ipPool: pools[key.name] = PoolChoice.Pool(stored: stored)
      case .ipReservation: reserved[key.name] = AddressBook.reserved(stored.document)
      // The prefix is that of other nodes, too, whose names begin with this one's.
      case .node where owner == .host(key.name): nodeLabels = stored.resource.metadata.labels
      default: break
      }
    case .raw(AddressKeys.configuration, let value):
      // What cannot be read is told by whoever reads it afresh.
      configuration = value.map { (try? JSONValue(parsing: $0)).map { AddressConfiguration(parsing: $0) } } ?? AddressConfiguration()
    case .raw(let key, let value):
      guard let (affine, cidr) = AddressKeys.affinity(ofKey: key), affine == owner else { return }
      if let value, AddressKeys.isConfirmed(affinity: value) {
        confirmed.insert(cidr)
      } else {
        confirmed.remove(cidr)
        blocks[cidr] = nil
      }
    }
  }
  private mutating func forget(_ key: ResourceKey, _ owner: BlockOwner) {
    switch key.kind {
    case .ipPool: pools[key.name] = nil
    case .ipReservation: reserved[key.name] = nil
    case .node where owner == .host(key.name): nodeLabels = [:]
    default: break
    }
  }
}

// MARK: The short way to an address

extension AddressBook {
  /// One address for each family out of the node's own blocks, in one transaction. Nil when that is not possible: then the long way
  /// decides, and says why if it cannot either.
  func assignFromDesk(
    _ terms: [IPFamily: AssignmentTerms], _ attribute: AllocationBlock.Attribute
  ) async throws(AddressBookError) -> [IPAddress]? {
    guard let desk, let handle = attribute.handleID, terms.values.allSatisfy({ $0.perHandleMax == nil && $0.blocksMax == nil }) else { return nil }
    return try await desk.inTurn { () async throws(AddressBookError) -> [IPAddress]? in
      guard let knowledge = desk.knowledge else { return nil }
      var namespace: [String: String]?
      if let name = attribute.secondary["namespace"], knowledge.pools.contains(where: \.selectsNamespaces) {
        namespace = try await labels(ofNamespace: name)
      }
      var pools: [IPFamily: [IPPoolSpec]] = [:]
      for (family, terms) in terms {
        let choice = PoolChoice.pools(
          knowledge.pools, family: family, nodeLabels: knowledge.nodeLabels, namespaceLabels: namespace, requested: terms.pools, use: terms.use)
        guard !choice.pools.isEmpty, choice.problems.isEmpty else { return nil }
        pools[family] = choice.pools
      }
      var record = HandleRecord(key: AddressKeys.handle(handle), stored: nil)
      for _ in 0..<10 {
        var writes = BlockWrites(handle: record)
        var given: [IPAddress] = []
        for family in [IPFamily.v4, .v6] {
          guard let pools = pools[family] else { continue }
          guard let address = try await takeOne(pools, knowledge, attribute, desk, &writes) else { return nil }
          given.append(address)
        }
        if try await write(.assignOwn, &writes) { return given }
        record = writes.handle
      }
      return nil
    }
  }

  /// From the first of the known blocks that has a free address.
  private func takeOne(
    _ pools: [IPPoolSpec], _ knowledge: AddressDesk.Knowledge, _ attribute: AllocationBlock.Attribute, _ desk: AddressDesk,
    _ writes: inout BlockWrites
  ) async throws(AddressBookError) -> IPAddress? {
    for cidr in knowledge.confirmed where pools.contains(where: { $0.cidr.contains(cidr) }) {
      var known = desk.block(cidr)
      if known == nil, let item = try await get(AddressKeys.block(cidr)) {
        known = AddressDesk.KnownBlock(revision: item.modRevision, block: try block(item))
        desk.know(cidr, known)
      }
      guard let known, known.block.affinity == owner.affinity else { continue }
      var block = known.block
      block.collectCold(at: now(), after: Int64(knowledge.configuration.cooldownSeconds))
      let given = block.allocate(1, for: attribute) { address in knowledge.reserved.contains { $0.contains(address) } }
      guard let address = given.first else { continue }
      writes.blocks.append(.init(cidr: cidr, before: known.revision, after: block))
      writes.counts[cidr] = (writes.handle.counts[cidr] ?? 0) + 1
      return address
    }
    return nil
  }
}

/// Several blocks and their handle, written together.
struct BlockWrites {
  struct Write {
    var cidr: IPPrefix
    var before: Revision
    /// Nil: deleted.
    var after: AllocationBlock?
  }
  var blocks: [Write] = []
  var handle: HandleRecord
  var counts: [IPPrefix: Int64] = [:]
  /// What must hold besides.
  var conditions: [Comparison] = []
  init(handle: HandleRecord) { self.handle = handle }
}

extension AddressBook {
  /// False if anything was changed meanwhile: then handle and desk have what is stored now.
  func write(_ step: AddressStep, _ writes: inout BlockWrites) async throws(AddressBookError) -> Bool {
    var comparisons = [writes.handle.comparison]
    var operations = writes.handle.operation(writes.counts).map { [$0] } ?? []
    for write in writes.blocks {
      let key = AddressKeys.block(write.cidr)
      comparisons.append(.modRevision(key, equals: write.before))
      operations.append(write.after.map { .put(key, $0.json().bytes) } ?? .delete(key))
    }
    comparisons += writes.conditions
    do throws(AddressBookError) {
      switch try await transact(step, comparisons, operations) {
      case .committed(let revision):
        for write in writes.blocks { desk?.know(write.cidr, write.after.map { .init(revision: revision, block: $0) }) }
        return true
      case .conflict(let present):
        writes.handle.stored = present[0]
        for (write, item) in zip(writes.blocks, present.dropFirst()) {
          var known: AddressDesk.KnownBlock?
          if let item { known = .init(revision: item.modRevision, block: try block(item)) }
          desk?.know(write.cidr, known)
        }
        return false
      }
    } catch {
      // It may have been written all the same.
      desk?.forgetBlocks()
      throw error
    }
  }
}

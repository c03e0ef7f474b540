/// Repairs, carried out: each action is one transaction on what was read just before, so that whoever is at work on the same records wins.
public import AddressPlans
import Addresses
public import Datastore
import JSON
public import Names

public struct RepairReport: Hashable, Sendable {
  /// What was done.
  public var done: [AddressRepairAction] = []
  /// What somebody else changed before.
  public var overtaken: [AddressRepairAction] = []
  /// What could not be done, and why.
  public var failed: [AddressRepairAction: String] = [:]
  /// What looks wrong and waits for its time.
  public var suspectCount = 0
  /// Addresses whose cooldown is over.
  public var coldCount = 0
  public init() {}
}

public struct AddressRepairer: Sendable {
  public let datastore: any Datastore
  let now: @Sendable () -> UTCTime
  let onStep: AddressStepHook?
  private var repair = AddressRepair()

  public init(_ datastore: any Datastore, now: @escaping @Sendable () -> UTCTime = { .now() }, onStep: AddressStepHook? = nil) {
    self.datastore = datastore
    self.now = now
    self.onStep = onStep
  }

  private func book(_ owner: BlockOwner) -> AddressBook { AddressBook(datastore: datastore, owner: owner, now: now, onStep: onStep) }

  /// Looks once, and does what is due.
  public mutating func look(_ rules: AddressRepair.Rules = .init()) async throws(AddressBookError) -> RepairReport {
    let census = try await AddressCensus.read(datastore)
    let due = repair.decide(census, at: now(), rules)
    var report = RepairReport()
    report.suspectCount = repair.suspectCount
    for action in due {
      do throws(AddressBookError) {
        if try await carryOut(action) { report.done.append(action) } else { report.overtaken.append(action) }
      } catch {
        if case .datastore = error { throw error }
        report.failed[action] = error.description
      }
    }
    report.coldCount = try await book(.host("")).collectCold().count
    return report
  }

  /// False if it is not as it was seen any more.
  private func carryOut(_ action: AddressRepairAction) async throws(AddressBookError) -> Bool {
    switch action {
    case .release(let address, let handle, let sequence, let block):
      return try await !book(.host("")).release(in: block, handle: handle) { block in
        block.sequence(of: address) == sequence ? [.init(address, sequence: sequence)] : []
      }.isEmpty
    case .recount(let handle, let revision, let counts):
      return try await recount(handle, revision, counts)
    case .dropAffinity(let name, let revision):
      return try await onAffinity(name, revision) { $0 == name.owner.affinity ? nil : .delete(AddressKeys.affinity(of: name.owner, name.cidr)) }
    case .confirmAffinity(let name, let revision):
      let key = AddressKeys.affinity(of: name.owner, name.cidr)
      return try await onAffinity(name, revision) { $0 == name.owner.affinity ? .put(key, AddressKeys.confirmed) : nil }
    case .giveUp(let name, let onlyIfEmpty):
      return try await book(name.owner).giveUp(name.cidr, onlyIfEmpty: onlyIfEmpty, unlessHeldBy: name.owner) != .kept
    case .deleteBlock(let cidr, let revision):
      let key = AddressKeys.block(cidr)
      let result = try await book(.host("")).transact(.giveUp, [.modRevision(key, equals: Revision(rawValue: revision))], [.delete(key)])
      if case .committed = result { return true }
      return false
    }
  }

  private func recount(_ handle: String, _ revision: Int64?, _ counts: [IPPrefix: Int64]) async throws(AddressBookError) -> Bool {
    let book = book(.host(""))
    let key = AddressKeys.handle(handle)
    let record = HandleRecord(key: key, stored: try await book.get(key))
    guard record.stored?.modRevision.rawValue == revision else { return false }
    var comparisons = [record.comparison]
    var truth: [IPPrefix: Int64] = [:]
    for cidr in Set(record.counts.keys).union(counts.keys) {
      let item = try await book.get(AddressKeys.block(cidr))
      comparisons.append(item.map { .modRevision($0.key, equals: $0.modRevision) } ?? .absent(AddressKeys.block(cidr)))
      truth[cidr] = try item.map { item throws(AddressBookError) in Int64(try book.block(item).addresses(heldBy: handle).count) } ?? 0
    }
    guard truth.filter({ $0.value != 0 }) == counts, let operation = record.operation(truth) else { return false }
    if case .committed = try await book.transact(.healHandle, comparisons, [operation]) { return true }
    return false
  }

  /// Writes what `change` says of the affinity, by whose the block is now.
  private func onAffinity(
    _ name: AddressCensus.AffinityName, _ revision: Int64?, _ change: (String?) -> DatastoreOperation?
  ) async throws(AddressBookError) -> Bool {
    let book = book(name.owner)
    let key = AddressKeys.affinity(of: name.owner, name.cidr)
    let item = try await book.get(AddressKeys.block(name.cidr))
    let owner = try item.map { item throws(AddressBookError) in try book.block(item).affinity } ?? nil
    guard let operation = change(owner) else { return false }
    let comparisons: [Comparison] = [
      revision.map { .modRevision(key, equals: Revision(rawValue: $0)) } ?? .absent(key),
      item.map { .modRevision($0.key, equals: $0.modRevision) } ?? .absent(AddressKeys.block(name.cidr)),
    ]
    if case .committed = try await book.transact(.dropAffinity, comparisons, [operation]) { return true }
    return false
  }
}

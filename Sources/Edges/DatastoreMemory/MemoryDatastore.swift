/// The datastore in memory: the fake that obeys the contract, for tests and for a lab that forgets.
///
/// All handles are the same object. History is bounded: a watcher that falls behind by more than `historyMax` revisions is told that its
/// revision is compacted, as on a real store.
public import Datastore
import Synchronization

public final class MemoryDatastore: Datastore {
  struct Lease {
    var seconds: Int
    var deadline: Duration
  }
  struct State {
    var revision: Revision = .zero
    /// Events up to this revision are gone.
    var compacted: Revision = .zero
    /// In order of keys.
    var items: [KeyValue] = []
    /// The events of revision `compacted + 1 + index`.
    var history: [[WatchEvent]] = []
    var leases: [LeaseID: Lease] = [:]
    var leaseNext: Int64 = 1
    /// What every call answers while it is set; a fault for tests.
    var fault: DatastoreError?
  }

  public let name: String
  private let state = Mutex(State())
  private let gate = RevisionGate(at: .zero)
  private let historyMax: Int
  private let now: @Sendable () -> Duration
  private let hasOwnClock: Bool

  /// - Parameters:
  ///   - historyMax: revisions kept for watchers.
  ///   - now: time since any fixed moment, for leases; a test's own clock calls `expireLeases()` after it stepped.
  public init(name: String = "memory:", historyMax: Int = 100_000, now: (@Sendable () -> Duration)? = nil) {
    self.name = name
    self.historyMax = historyMax
    let start = ContinuousClock.now
    self.now = now ?? { ContinuousClock.now - start }
    hasOwnClock = now == nil
  }

  public func get(_ key: String) async throws(DatastoreError) -> KeyValue? {
    try access { (state) throws(DatastoreError) in
      let index = state.index(of: key)
      return state.holds(key, at: index) ? state.items[index] : nil
    }
  }

  public func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    try access { (state) throws(DatastoreError) in
      let first = state.index(of: prefix)
      let end = KeyOrder.end(ofPrefix: prefix).map { state.index(of: $0) } ?? state.items.count
      return (Array(state.items[first..<end]), state.revision)
    }
  }

  public func transact(
    if comparisons: [Comparison], then operations: [DatastoreOperation]
  ) async throws(DatastoreError) -> TransactionResult {
    DatastoreOperation.requireDistinctKeys(operations)
    return try access { (state) throws(DatastoreError) in
      let present = comparisons.map { state.item($0.key) }
      guard zip(comparisons, present).allSatisfy({ $0.holds(for: $1) }) else { return .conflict(present) }
      for case .put(_, _, let lease?) in operations where state.leases[lease] == nil { throw .leaseNotFound }
      state.apply(operations, historyMax: historyMax)
      return .committed(state.revision)
    }
  }

  public func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    let cursor = WatchCursor(after: revision)
    return AsyncThrowingStream {
      while !Task.isCancelled {
        let stirs = self.gate.stirs
        let batch = try self.access { (state) throws(DatastoreError) in
          try state.batch(after: cursor.revision, prefixes: prefixes)
        }
        cursor.revision = batch.revision
        if !batch.events.isEmpty { return batch }
        await self.gate.wait(after: batch.revision, stirs: stirs)
      }
      return nil
    }
  }

  public func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID {
    let deadline = now() + .seconds(seconds)
    let id = try access { (state) throws(DatastoreError) in
      let id = LeaseID(rawValue: state.leaseNext)
      state.leaseNext += 1
      state.leases[id] = Lease(seconds: seconds, deadline: deadline)
      return id
    }
    if hasOwnClock { watchOver(id) }
    return id
  }

  public func keepAlive(_ lease: LeaseID) async throws(DatastoreError) {
    let now = now()
    try access { (state) throws(DatastoreError) in
      guard let seconds = state.leases[lease]?.seconds else { throw .leaseNotFound }
      state.leases[lease] = Lease(seconds: seconds, deadline: now + .seconds(seconds))
    }
  }

  public func revoke(_ lease: LeaseID) async throws(DatastoreError) {
    try access { (state) throws(DatastoreError) in
      guard state.leases[lease] != nil else { throw .leaseNotFound }
      state.end([lease], historyMax: historyMax)
    }
  }

  /// Watchers end with `.unavailable`, and so does every later call.
  public func close() async {
    state.withLock { $0.fault = .unavailable("it was closed") }
    gate.close()
  }

  /// Ends the leases whose time is over. Every call does so first; a store with a test's clock has nobody else to do it.
  public func expireLeases() async { try? access { (_) throws(DatastoreError) in } }

  /// Forgets the history up to and including `revision`; watchers further back are told so.
  public func compact(upTo revision: Revision) async throws(DatastoreError) {
    try access { (_) throws(DatastoreError) in }
    state.withLock { $0.compact(upTo: revision) }
    gate.stir()
  }

  /// For tests of outages: every call fails with this reason until it is set to nil; watches end.
  public func setOutage(_ reason: String?) {
    state.withLock { $0.fault = reason.map { .unavailable($0) } }
    gate.stir()
  }

  private func access<Result: Sendable>(
    _ body: (inout State) throws(DatastoreError) -> Result
  ) throws(DatastoreError) -> Result {
    let now = now()
    let (result, revision) = state.withLock { state -> (Swift.Result<Result, DatastoreError>, Revision) in
      if let fault = state.fault { return (.failure(fault), state.revision) }
      if !state.leases.isEmpty {
        state.end(state.leases.filter { $0.value.deadline <= now }.map(\.key), historyMax: historyMax)
      }
      do throws(DatastoreError) {
        return (.success(try body(&state)), state.revision)
      } catch {
        return (.failure(error), state.revision)
      }
    }
    gate.advance(to: revision)
    return try result.get()
  }

  /// Ends the lease when its time is over, however often that time is moved.
  private func watchOver(_ lease: LeaseID) {
    Task { [weak self] in
      while let left = self?.timeLeft(of: lease) {
        try await Task.sleep(for: left)
        await self?.expireLeases()
      }
    }
  }
  private func timeLeft(of lease: LeaseID) -> Duration? {
    let now = now()
    return state.withLock { state in state.leases[lease].map { max($0.deadline - now, .milliseconds(1)) } }
  }
}

extension MemoryDatastore.State {
  /// Where `key` is, or where it would stand.
  func index(of key: String) -> Int {
    var (low, high) = (0, items.count)
    while low < high {
      let middle = (low + high) / 2
      if KeyOrder.precedes(items[middle].key, key) { low = middle + 1 } else { high = middle }
    }
    return low
  }
  func holds(_ key: String, at index: Int) -> Bool { index < items.count && KeyOrder.equal(items[index].key, key) }
  func item(_ key: String) -> KeyValue? {
    let index = index(of: key)
    return holds(key, at: index) ? items[index] : nil
  }

  mutating func apply(_ operations: [DatastoreOperation], historyMax: Int) {
    let next = Revision(rawValue: revision.rawValue + 1)
    var events: [WatchEvent] = []
    for operation in operations {
      let index = index(of: operation.key)
      let isPresent = holds(operation.key, at: index)
      switch operation {
      case .put(let key, let value, let lease):
        let created = isPresent ? items[index].createRevision : next
        let item = KeyValue(key: key, value: value, createRevision: created, modRevision: next, lease: lease)
        if isPresent { items[index] = item } else { items.insert(item, at: index) }
        events.append(.put(item))
      case .delete(let key):
        guard isPresent else { continue }
        items.remove(at: index)
        events.append(.delete(key: key, at: next))
      }
    }
    guard !events.isEmpty else { return }
    revision = next
    history.append(events)
    // Forgetting in steps keeps the cost of moving the array away from the single write.
    if history.count > historyMax + max(historyMax / 4, 16) {
      compact(upTo: Revision(rawValue: revision.rawValue - Int64(historyMax)))
    }
  }

  mutating func end(_ ended: [LeaseID], historyMax: Int) {
    guard !ended.isEmpty else { return }
    for lease in ended { leases[lease] = nil }
    let ended = Set(ended)
    apply(items.filter { $0.lease.map(ended.contains) ?? false }.map { .delete($0.key) }, historyMax: historyMax)
  }

  mutating func compact(upTo target: Revision) {
    let target = min(target, revision)
    guard target > compacted else { return }
    history.removeFirst(Int(target.rawValue - compacted.rawValue))
    compacted = target
  }

  /// Empty events, and the newest revision, if nothing under the prefixes changed.
  func batch(after cursor: Revision, prefixes: [String]) throws(DatastoreError) -> WatchBatch {
    guard cursor >= compacted else { throw .compacted }
    var batch = WatchBatch(events: [], revision: max(cursor, revision))
    guard cursor < revision else { return batch }
    for index in Int(cursor.rawValue - compacted.rawValue)..<history.count {
      batch.events += history[index].filter { KeyOrder.hasPrefix($0.key, anyOf: prefixes) }
      if batch.events.count >= 1000 {
        batch.revision = Revision(rawValue: compacted.rawValue + Int64(index) + 1)
        break
      }
    }
    return batch
  }
}

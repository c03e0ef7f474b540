/// The datastore in memory: for tests and simulations, obeying the same contract as the stores that last.
public import Datastore
import Synchronization

public final class MemoryDatastore: Datastore, Sendable {
  private struct Lease {
    var seconds: Int
    var expires: ContinuousClock.Instant
    var keys: Set<String> = []
  }
  private struct Watcher {
    var prefixes: [String]
    var continuation: AsyncThrowingStream<WatchBatch, any Error>.Continuation
  }
  private struct State {
    var items: [String: KeyValue] = [:]
    /// Index 0 holds revision `compacted + 1`.
    var history: [WatchBatch] = []
    var compacted: Int64 = 0
    var watchers: [Int: Watcher] = [:]
    var watcherLast = 0
    var leases: [LeaseID: Lease] = [:]
    var leaseLast: Int64 = 0
    var outage: String?
    var revision: Revision { Revision(rawValue: compacted + Int64(history.count)) }

    /// Writes at the next revision and tells the watchers. Nothing to delete is no event; no event is no revision.
    mutating func commit(_ operations: [DatastoreOperation]) -> Revision {
      let next = Revision(rawValue: revision.rawValue + 1)
      var events: [WatchEvent] = []
      for operation in operations {
        switch operation {
        case .put(let key, let value, let lease):
          if let old = items[key]?.lease { leases[old]?.keys.remove(key) }
          let created = items[key]?.createRevision ?? next
          let item = KeyValue(key: key, value: value, createRevision: created, modRevision: next, lease: lease)
          items[key] = item
          if let lease { leases[lease]?.keys.insert(key) }
          events.append(.put(item))
        case .delete(let key):
          guard let old = items.removeValue(forKey: key) else { continue }
          if let lease = old.lease { leases[lease]?.keys.remove(key) }
          events.append(.delete(key: key, at: next))
        }
      }
      guard !events.isEmpty else { return revision }
      let batch = WatchBatch(events: events, revision: next)
      history.append(batch)
      for watcher in watchers.values { Self.tell(watcher, batch) }
      return next
    }
    static func tell(_ watcher: Watcher, _ batch: WatchBatch) {
      let events = batch.events.filter { event in watcher.prefixes.contains { event.key.utf8.starts(with: $0.utf8) } }
      if !events.isEmpty { watcher.continuation.yield(WatchBatch(events: events, revision: batch.revision)) }
    }
    mutating func expire(_ now: ContinuousClock.Instant) {
      for (id, lease) in leases where lease.expires <= now {
        leases[id] = nil
        _ = commit(lease.keys.sorted().map { .delete($0) })
      }
    }
  }
  private let state = Mutex(State())
  public let name = "memory:"

  public init() {}

  /// For tests of outages: every call fails with this reason until it is set to nil; watches end.
  public func setOutage(_ reason: String?) {
    let watchers = state.withLock { state in
      state.outage = reason
      defer { if reason != nil { state.watchers = [:] } }
      return reason == nil ? [] : Array(state.watchers.values)
    }
    for watcher in watchers { watcher.continuation.finish(throwing: DatastoreError.unavailable(reason ?? "")) }
  }

  /// Forgets history up to and including `revision`.
  public func compact(upTo revision: Revision) {
    state.withLock { state in
      let count = min(max(revision.rawValue - state.compacted, 0), Int64(state.history.count))
      state.history.removeFirst(Int(count))
      state.compacted += count
    }
  }

  private func withState<Result>(_ body: (inout State) throws(DatastoreError) -> Result) throws(DatastoreError) -> Result {
    try state.withLock { state throws(DatastoreError) in
      if let outage = state.outage { throw DatastoreError.unavailable(outage) }
      state.expire(.now)
      return try body(&state)
    }
  }

  public func get(_ key: String) async throws(DatastoreError) -> KeyValue? {
    try withState { state throws(DatastoreError) in state.items[key] }
  }

  public func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    try withState { state throws(DatastoreError) in
      let items = state.items.values.filter { $0.key.utf8.starts(with: prefix.utf8) }
        .sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
      return (items, state.revision)
    }
  }

  public func transact(if comparisons: [Comparison], then operations: [DatastoreOperation]) async throws(DatastoreError) -> TransactionResult {
    try withState { state throws(DatastoreError) in
      let present = comparisons.map { comparison -> KeyValue? in
        switch comparison {
        case .absent(let key), .modRevision(let key, _): state.items[key]
        }
      }
      for (comparison, item) in zip(comparisons, present) {
        switch comparison {
        case .absent: if item != nil { return .conflict(present) }
        case .modRevision(_, let revision): if item?.modRevision != revision { return .conflict(present) }
        }
      }
      for case .put(_, _, .some(let lease)) in operations where state.leases[lease] == nil { throw DatastoreError.leaseNotFound }
      return .committed(state.commit(operations))
    }
  }

  public func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    AsyncThrowingStream { continuation in
      let id = state.withLock { state -> Int? in
        if let outage = state.outage {
          continuation.finish(throwing: DatastoreError.unavailable(outage))
          return nil
        }
        guard revision.rawValue >= state.compacted else {
          continuation.finish(throwing: DatastoreError.compacted)
          return nil
        }
        state.watcherLast += 1
        let watcher = Watcher(prefixes: prefixes, continuation: continuation)
        for batch in state.history.dropFirst(Int(min(revision.rawValue - state.compacted, Int64(state.history.count)))) {
          State.tell(watcher, batch)
        }
        state.watchers[state.watcherLast] = watcher
        return state.watcherLast
      }
      guard let id else { return }
      continuation.onTermination = { [weak self] _ in _ = self?.state.withLock { $0.watchers.removeValue(forKey: id) } }
    }
  }

  public func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID {
    let id = try withState { state throws(DatastoreError) in
      state.leaseLast += 1
      let id = LeaseID(rawValue: state.leaseLast)
      state.leases[id] = Lease(seconds: seconds, expires: .now + .seconds(seconds))
      return id
    }
    watchExpiry(of: id)
    return id
  }

  /// Deletes are events that watchers wait for, so somebody must look at the clock even when nobody calls.
  private func watchExpiry(of id: LeaseID) {
    Task { [weak self] in
      while let next = self?.state.withLock({ state -> ContinuousClock.Instant? in
        state.expire(.now)
        return state.leases[id]?.expires
      }) {
        try? await Task.sleep(until: next)
      }
    }
  }

  public func keepAlive(_ lease: LeaseID) async throws(DatastoreError) {
    try withState { state throws(DatastoreError) in
      guard let seconds = state.leases[lease]?.seconds else { throw DatastoreError.leaseNotFound }
      state.leases[lease]?.expires = .now + .seconds(seconds)
    }
  }

  public func revoke(_ lease: LeaseID) async throws(DatastoreError) {
    try withState { state throws(DatastoreError) in
      guard let removed = state.leases.removeValue(forKey: lease) else { throw DatastoreError.leaseNotFound }
      _ = state.commit(removed.keys.sorted().map { .delete($0) })
    }
  }

  public func close() async {
    let watchers = state.withLock { state in
      defer { state.watchers = [:] }
      return Array(state.watchers.values)
    }
    for watcher in watchers { watcher.continuation.finish() }
  }
}

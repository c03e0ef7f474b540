/// A datastore on which nothing happens: reads see the real one with this rehearsal's writes on top, writes stay in memory.
///
/// `--dry-run` and `margay diff` run the very code of the real thing on it, so every rule that looks at other objects holds there as well,
/// and an object finds what an earlier one of the same run would have written. Leases and watches are no part of a rehearsal.
import Synchronization

public final class Rehearsal: Datastore {
  private struct State {
    /// Nil: deleted.
    var written: [String: KeyValue?] = [:]
    /// The latest revision seen or made.
    var revision: Revision = .zero
  }
  private let real: any Datastore
  private let state = Mutex(State())

  public init(of real: any Datastore) { self.real = real }

  public var name: String { real.name }

  public func get(_ key: String) async throws(DatastoreError) -> KeyValue? {
    if let written = state.withLock({ $0.written[key] }) { return written }
    let item = try await real.get(key)
    if let item { see(item.modRevision) }
    return item
  }

  public func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    let (items, revision) = try await real.list(prefix: prefix)
    see(revision)
    return state.withLock { state in
      let mine = state.written.filter { KeyOrder.hasPrefix($0.key, prefix) }
      if mine.isEmpty { return (items, state.revision) }
      let merged = items.filter { mine[$0.key] == nil } + mine.values.compactMap { $0 }
      return (merged.sorted { KeyOrder.precedes($0.key, $1.key) }, state.revision)
    }
  }

  public func transact(
    if comparisons: [Comparison], then operations: [DatastoreOperation]
  ) async throws(DatastoreError) -> TransactionResult {
    DatastoreOperation.requireDistinctKeys(operations)
    var present: [KeyValue?] = []
    for comparison in comparisons { present.append(try await get(comparison.key)) }
    guard zip(comparisons, present).allSatisfy({ $0.holds(for: $1) }) else { return .conflict(present) }
    var before: [String: KeyValue] = [:]
    for operation in operations { before[operation.key] = try await get(operation.key) }
    return state.withLock { state in
      state.revision = Revision(rawValue: state.revision.rawValue + 1)
      for operation in operations {
        switch operation {
        case .put(let key, let value, let lease):
          state.written[key] = KeyValue(
            key: key, value: value, createRevision: before[key]?.createRevision ?? state.revision, modRevision: state.revision, lease: lease
          )
        case .delete(let key): state.written[key] = .some(nil)
        }
      }
      return .committed(state.revision)
    }
  }

  private func see(_ revision: Revision) { state.withLock { $0.revision = max($0.revision, revision) } }

  public func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    AsyncThrowingStream { $0.finish(throwing: DatastoreError.refused("a rehearsal has no watch")) }
  }
  public func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID { throw .refused("a rehearsal has no leases") }
  public func keepAlive(_ lease: LeaseID) async throws(DatastoreError) { throw .refused("a rehearsal has no leases") }
  public func revoke(_ lease: LeaseID) async throws(DatastoreError) { throw .refused("a rehearsal has no leases") }
  public func compact(upTo revision: Revision) async throws(DatastoreError) {}
  public func close() async { await real.close() }
}

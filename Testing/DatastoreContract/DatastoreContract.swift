/// What every datastore must do, as claims that any test target can run on any backend.
///
/// A claim gets two handles on one fresh store; a backend without several handles passes the same object twice. A broken claim throws
/// `ContractBroken`. The claims live in the files beside this one.
public import Datastore

/// A fresh store for one claim.
public struct StoreUnderTest: Sendable {
  public var first: any Datastore
  /// Another handle on the same store, as another process would have it.
  public var second: any Datastore
  /// Makes the store forget the history up to and including the revision.
  public var compact: @Sendable (Revision) async throws -> Void
  /// Lets this many seconds pass for leases: by stepping a test's clock, or by waiting.
  public var elapse: @Sendable (_ seconds: Int) async throws -> Void
  public var dispose: @Sendable () async -> Void
  public init(
    first: any Datastore, second: any Datastore, compact: @escaping @Sendable (Revision) async throws -> Void,
    elapse: @escaping @Sendable (_ seconds: Int) async throws -> Void, dispose: @escaping @Sendable () async -> Void = {}
  ) {
    self.first = first
    self.second = second
    self.compact = compact
    self.elapse = elapse
    self.dispose = dispose
  }
}

public struct ContractBroken: Error, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

public struct ContractClaim: Sendable, CustomStringConvertible {
  /// A sentence that is true of every backend.
  public let description: String
  let body: @Sendable (StoreUnderTest) async throws -> Void
  init(_ description: String, _ body: @escaping @Sendable (StoreUnderTest) async throws -> Void) {
    self.description = description
    self.body = body
  }
  public func check(on make: @Sendable () async throws -> StoreUnderTest) async throws {
    let store = try await make()
    do {
      try await withDeadline(seconds: 60, description) { try await body(store) }
    } catch {
      await store.dispose()
      throw error
    }
    await store.dispose()
  }
}

public enum DatastoreContract {
  public static let claims: [ContractClaim] = promptClaims + waitingClaims
  public static let promptClaims: [ContractClaim] = keyClaims + watchClaims + objectClaims
  /// Those in which time passes: on a store with a clock of its own they are best made side by side.
  public static let waitingClaims: [ContractClaim] = leaseClaims + electionClaims
}

func expect(_ isTrue: Bool, _ message: @autoclosure () -> String, line: Int = #line) throws {
  if !isTrue { throw ContractBroken("\(message()) (line \(line))") }
}
func expectEqual<Value: Equatable>(_ found: Value, _ wanted: Value, _ what: String, line: Int = #line) throws {
  if found != wanted { throw ContractBroken("\(what): found \(found), expected \(wanted) (line \(line))") }
}
func expectError(
  _ wanted: DatastoreError, _ what: String, line: Int = #line, _ body: () async throws -> Void
) async throws {
  do {
    try await body()
  } catch let error as DatastoreError {
    return try expectEqual(error, wanted, what, line: line)
  }
  throw ContractBroken("\(what): no error, expected \(wanted) (line \(line))")
}

/// Throws if `body` is not done in time; `body` is cancelled then.
func withDeadline<Result: Sendable>(
  seconds: Int, _ what: String, _ body: @escaping @Sendable () async throws -> Result
) async throws -> Result {
  try await withThrowingTaskGroup(of: Result.self) { group in
    group.addTask(operation: body)
    group.addTask {
      try await Task.sleep(for: .seconds(seconds))
      throw ContractBroken("not done after \(seconds) s: \(what)")
    }
    defer { group.cancelAll() }
    guard let result = try await group.next() else { throw ContractBroken("cancelled: \(what)") }
    return result
  }
}

func octets(_ text: String) -> [UInt8] { Array(text.utf8) }

extension Datastore {
  /// Writes that must succeed; returns their revision.
  @discardableResult
  func commit(_ operations: [DatastoreOperation], if comparisons: [Comparison] = [], line: Int = #line) async throws -> Revision {
    switch try await transact(if: comparisons, then: operations) {
    case .committed(let revision): return revision
    case .conflict(let present): throw ContractBroken("conflict with \(present) (line \(line))")
    }
  }
  @discardableResult
  func put(_ key: String, _ value: String, lease: LeaseID? = nil, line: Int = #line) async throws -> Revision {
    try await commit([.put(key, octets(value), lease: lease)], line: line)
  }
  func keys(prefix: String) async throws -> [String] { try await list(prefix: prefix).items.map(\.key) }

  /// Reads `stream` until `isDone` holds of all events so far; checks the order of revisions on the way.
  func collect(
    prefixes: [String], after revision: Revision, until isDone: @escaping @Sendable ([WatchEvent]) -> Bool
  ) async throws -> [WatchEvent] {
    try await withDeadline(seconds: 30, "watch of \(prefixes) after \(revision) on \(name)") {
      var events: [WatchEvent] = []
      var last = revision
      for try await batch in watch(prefixes: prefixes, after: revision) {
        // One without events tells how far everything has been told.
        try expect(batch.revision >= last, "a batch of revision \(batch.revision) after \(last)")
        for event in batch.events {
          try expect(event.revision >= last, "\(event) comes after revision \(last)")
          try expect(event.revision <= batch.revision, "\(event) in a batch of revision \(batch.revision)")
          last = event.revision
        }
        // The first of a batch belongs to a later revision than the last of the batch before: revisions are not split.
        if let before = events.last, let first = batch.events.first {
          try expect(before.revision < first.revision, "revision \(before.revision) is split over two batches")
        }
        events += batch.events
        if isDone(events) { return events }
      }
      throw ContractBroken("the watch ended after \(events.count) events")
    }
  }
}

extension WatchEvent {
  var revision: Revision {
    switch self {
    case .put(let item): item.modRevision
    case .delete(_, let revision): revision
    }
  }
}

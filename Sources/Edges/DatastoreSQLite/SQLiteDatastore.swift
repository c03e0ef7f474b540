/// The datastore in one SQLite file: the same keys and the same contract as etcd, for the many processes of one machine.
///
/// Hazards, and the answers:
/// - A commit in another process: after COMMIT its writer writes one octet into `PATH-changed`, which every handle follows with inotify.
///   A writer that died between the two is covered by a look at the revision each second.
/// - A process killed at any point: SQLite's write-ahead log keeps committed transactions and nothing else. Losing power may lose the last
///   moments (`synchronous` is NORMAL), never the consistency; every workload of this one machine is gone then, too.
/// - The clock steps, the machine restarts: leases count by the boot-time clock and remember which boot they counted in. After a restart
///   each lease gets its full time once more, because a lease lasts at least as long as promised.
/// - The file travels to a second machine, which would hand out the same addresses: the store remembers its machine and refuses others.
/// - The file is replaced while it is open: a handle would go on with a file that nobody sees. It notices within a second, and fails.
/// - A connection used after it was closed is a crash inside SQLite: accesses are counted, and closing waits for the last one.
/// - Another process holds the write lock and does not let go: a write waits for `patience`, then says who it is. Readers do not wait.
/// - The disk is full: the write is refused as a whole, what is stored stays, and the next write may succeed.
/// - The file is damaged: from the first sign on this handle refuses everything, so that nothing is written over what may be saved.
/// - Programs of two versions: see `StoreSchema` and `StoreUsers`.
/// - SQLite blocks: its calls run on GRDB's queues, never on the threads of Swift's tasks.
public import Datastore
import Foundation
import GRDB
import Sockets
import Synchronization

public final class SQLiteDatastore: Datastore {
  /// What the store asks of the machine; tests step these clocks.
  public struct Surroundings: Sendable {
    /// Names this machine; nil if it has no name, then nothing is checked.
    public var machineID: String?
    public var bootID: String
    /// Nanoseconds since boot, time of sleep included.
    public var boottime: @Sendable () -> Int64
    /// Seconds since 1970; may step.
    public var wallclock: @Sendable () -> Int64
    /// How long a write waits for another process's. Commits take a fraction of a millisecond: who holds the lock longer has stopped.
    public var patience: Duration
    public init(
      machineID: String?, bootID: String, patience: Duration = .seconds(15), boottime: @escaping @Sendable () -> Int64,
      wallclock: @escaping @Sendable () -> Int64 = { SystemClock.realtimeNanoseconds / 1_000_000_000 }
    ) {
      self.machineID = machineID
      self.bootID = bootID
      self.patience = patience
      self.boottime = boottime
      self.wallclock = wallclock
    }
    /// `/etc/machine-id`, the kernel's boot id, CLOCK_BOOTTIME.
    public static var machine: Surroundings {
      func line(_ path: String) -> String? {
        guard let text = try? Files.readText(path) else { return nil }
        let line = text.prefix { $0 != "\n" }
        return line.isEmpty ? nil : String(line)
      }
      return Surroundings(
        machineID: line("/etc/machine-id") ?? line("/var/lib/dbus/machine-id"),
        bootID: line("/proc/sys/kernel/random/boot_id") ?? "unknown", boottime: { SystemClock.boottimeNanoseconds })
    }
  }

  /// How much history is kept for watchers.
  public struct Retention: Sendable {
    /// At most about this many revisions.
    public var revisionsMax: Int64
    /// Beyond the newest `revisionsMin`, nothing older than this.
    public var ageMaxSeconds: Int64
    public var revisionsMin: Int64
    public init(revisionsMax: Int64 = 20_000, ageMaxSeconds: Int64 = 600, revisionsMin: Int64 = 1_000) {
      self.revisionsMax = revisionsMax
      self.ageMaxSeconds = ageMaxSeconds
      self.revisionsMin = revisionsMin
    }
  }

  public let name: String
  public let path: String
  private let pool: DatabasePool
  private let surroundings: Surroundings
  private let retention: Retention
  private let gate: RevisionGate
  private let accesses = AccessCount()
  private let follower: CommitFollower
  /// Held as long as the handle: nobody changes the schema meanwhile.
  private let users: StoreUsers
  /// This handle has made the store.
  public let isNew: Bool

  /// Opens the store at `path`; if it is missing, makes it and the folder it is in, but not with `creating` false. Blocks for the few
  /// milliseconds that takes.
  /// - Throws: `.unusable` if the file is no store of ours, has a newer schema or belongs to another machine.
  public convenience init(path: String, machineID: String? = nil, creating: Bool = true) throws(DatastoreError) {
    var surroundings = Surroundings.machine
    if let machineID { surroundings.machineID = machineID }
    try self.init(path: path, surroundings: surroundings, creating: creating)
  }

  /// With other clocks, another machine or another length of history.
  public convenience init(
    path: String, surroundings: Surroundings, retention: Retention = Retention(), creating: Bool = true
  ) throws(DatastoreError) {
    try self.init(path: path, surroundings: surroundings, retention: retention, creating: creating, schema: .current)
  }

  /// With another layout of the tables: a program of a later version.
  package init(
    path: String, surroundings: Surroundings, retention: Retention = Retention(), creating: Bool, schema: StoreSchema
  ) throws(DatastoreError) {
    self.path = path
    name = "sqlite:\(path)"
    self.surroundings = surroundings
    self.retention = retention
    let opened = try StoreFile.open(path: path, surroundings: surroundings, creating: creating, schema: schema)
    pool = opened.pool
    users = opened.users
    isNew = opened.isNew
    gate = RevisionGate(at: opened.revision)
    do {
      follower = try CommitFollower(path: path)
    } catch {
      throw .unavailable("\(error)")
    }
    follower.start { [weak self] in self?.look(isTick: $0) }
  }

  deinit { follower.stop() }

  public func get(_ key: String) async throws(DatastoreError) -> KeyValue? {
    try await read { db in try StoreTables.item(db, key) }
  }

  public func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    try await read { db in (try StoreTables.items(db, prefix: prefix), try StoreTables.bounds(db).revision) }
  }

  public func transact(
    if comparisons: [Comparison], then operations: [DatastoreOperation]
  ) async throws(DatastoreError) -> TransactionResult {
    DatastoreOperation.requireDistinctKeys(operations)
    let at = surroundings.wallclock()
    return try await write { db, revision in
      var present: [KeyValue?] = []
      var holds = true
      for comparison in comparisons {
        let item = try StoreTables.item(db, comparison.key)
        holds = holds && comparison.holds(for: item)
        present.append(item)
      }
      guard holds else { return .conflict(present) }
      for case .put(_, _, let lease?) in operations where try !StoreTables.hasLease(db, lease) { throw DatastoreError.leaseNotFound }
      revision = try StoreTables.apply(db, operations, after: revision, at: at)
      return .committed(revision)
    }
  }

  public func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    let cursor = WatchCursor(after: revision)
    return AsyncThrowingStream {
      while !Task.isCancelled {
        let stirs = self.gate.stirs
        let place = cursor.revision
        // Nothing new for this watcher costs no query.
        if self.gate.revision > place || self.gate.isClosed || cursor.isFirstLook() {
          let batch = try await self.read { db in try StoreTables.batch(db, after: place, prefixes: prefixes) }
          cursor.revision = batch.revision
          if !batch.events.isEmpty { return batch }
        }
        await self.gate.wait(after: cursor.revision, stirs: stirs)
      }
      return nil
    }
  }

  public func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID {
    let (boot, now) = (surroundings.bootID, surroundings.boottime())
    return try await write { db, _ in try StoreTables.grantLease(db, seconds: seconds, boot: boot, now: now) }
  }

  public func keepAlive(_ lease: LeaseID) async throws(DatastoreError) {
    let (boot, now) = (surroundings.bootID, surroundings.boottime())
    try await write { db, _ in
      guard try StoreTables.keepAlive(db, lease, boot: boot, now: now) else { throw DatastoreError.leaseNotFound }
    }
  }

  public func revoke(_ lease: LeaseID) async throws(DatastoreError) {
    try await write { db, revision in
      guard try StoreTables.hasLease(db, lease) else { throw DatastoreError.leaseNotFound }
      revision = try StoreTables.end(db, [lease], after: revision)
    }
  }

  public func close() async {
    accesses.refuse(.unavailable("it was closed"))
    gate.close()
    follower.stop()
    guard await accesses.drain() else { return }
    let (pool, users) = (pool, users)
    await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        // It cannot fail: no statement runs any more.
        try? pool.close()
        users.end()
        continuation.resume()
      }
    }
  }

  /// Ends the leases whose time is over. Every write does so, and every handle once a second; tests with a clock of their own call it.
  public func expireLeases() async throws(DatastoreError) { try await write { _, _ in } }

  /// Forgets the history up to and including `revision`.
  public func compact(upTo revision: Revision) async throws(DatastoreError) {
    try await write { db, newest in try StoreTables.compact(db, upTo: min(revision, newest)) }
    gate.stir()
  }

  /// What is damaged in the file, a line each; empty if all is well. Needs no store that opens, and changes nothing.
  public static func damages(path: String) async throws(DatastoreError) -> [String] {
    let outcome: Swift.Result<[String], DatastoreError> = await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        continuation.resume(returning: Swift.Result { () throws(DatastoreError) in try StoreFile.damages(path) })
      }
    }
    return try outcome.get()
  }

  // MARK: - Access

  /// Not the async calls of GRDB: those stop when the task is cancelled, and a daemon that shuts down still has to write its last word.
  private func read<Result: Sendable>(_ body: @escaping @Sendable (Database) throws -> Result) async throws(DatastoreError) -> Result {
    try accesses.enter()
    defer { accesses.leave() }
    let path = path
    let outcome: Swift.Result<Result, DatastoreError> = await withCheckedContinuation { continuation in
      pool.asyncRead { database in
        continuation.resume(returning: storeOutcome(path) { try body(try database.get()) })
      }
    }
    return try settled(outcome)
  }

  /// Runs `body` in one transaction, after ended leases were cleared away. `body` gets the newest revision and sets the one it makes.
  private func write<Result: Sendable>(
    _ body: @escaping @Sendable (Database, inout Revision) throws -> Result
  ) async throws(DatastoreError) -> Result {
    try accesses.enter()
    defer { accesses.leave() }
    let (boot, now, retention, path) = (surroundings.bootID, surroundings.boottime(), retention, path)
    let (outcome, change): (Swift.Result<Result, DatastoreError>, Revision?) = await withCheckedContinuation { continuation in
      pool.asyncWriteWithoutTransaction { db in
        var change: Revision?
        let outcome = storeOutcome(path) {
          var result: Result?
          try db.inTransaction(.immediate) {
            let bounds = try StoreTables.bounds(db)
            var revision = try StoreTables.endDueLeases(db, boot: boot, now: now, after: bounds.revision)
            result = try body(db, &revision)
            if revision > bounds.revision {
              try StoreTables.setRevision(db, revision)
              // In steps, so that not each write pays for it.
              if revision.rawValue / 256 > bounds.revision.rawValue / 256 {
                try StoreTables.compact(db, upTo: Revision(rawValue: revision.rawValue - retention.revisionsMax))
              }
              change = revision
            }
            return .commit
          }
          return result!
        }
        if case .failure = outcome { change = nil }
        continuation.resume(returning: (outcome, change))
      }
    }
    if let change {
      gate.advance(to: change)
      follower.announce()
    }
    return try settled(outcome)
  }

  /// True if the path names another file now: then nobody may use this one any more.
  private func isReplaced() -> Bool {
    if follower.isSameFile() { return false }
    accesses.refuse(.unusable("\(path) was removed or replaced while it was open; restart this program to use the new file"))
    gate.close()
    return true
  }

  /// The outcome of an access; a failure on a file that is gone has that reason.
  private func settled<Result>(_ outcome: Swift.Result<Result, DatastoreError>) throws(DatastoreError) -> Result {
    switch outcome {
    case .failure(.unavailable) where isReplaced(): try accesses.check()
    case .failure(.unusable(let why)):
      // Damage. What is still right must not be mixed with what follows from what is wrong.
      accesses.refuse(.unusable(why))
      gate.close()
    default: break
    }
    return try outcome.get()
  }

  /// On the follower's thread: there may be commits of others.
  private func look(isTick: Bool) {
    if isTick, isReplaced() { return }
    let (boot, now) = (surroundings.bootID, surroundings.boottime())
    do {
      try accesses.enter()
      defer { accesses.leave() }
      let (bounds, isDue) = try pool.read { db in
        (try StoreTables.bounds(db), isTick ? try StoreTables.hasDueLeases(db, boot: boot, now: now) : false)
      }
      gate.advance(to: bounds.revision)
      if isDue { Task { try await expireLeases() } }
      if isTick, follower.ticks % 60 == 0, bounds.revision.rawValue - bounds.compacted.rawValue > retention.revisionsMin {
        Task { try await compactByAge() }
      }
    } catch {
      // The next tick looks again, and whoever calls meanwhile hears of it.
    }
  }

  /// Each minute, on whatever handle has the time.
  package func compactByAge() async throws(DatastoreError) {
    let retention = retention
    let horizon = surroundings.wallclock() - retention.ageMaxSeconds
    try await write { db, newest in
      guard let old = try StoreTables.newestRevision(db, before: horizon) else { return }
      try StoreTables.compact(db, upTo: min(old, Revision(rawValue: newest.rawValue - retention.revisionsMin)))
    }
  }
}

/// Who uses the connections, and why nobody may any more.
final class AccessCount: Sendable {
  private struct State {
    var count = 0
    var refusal: DatastoreError?
    var isDraining = false
    var drained: CheckedContinuation<Void, Never>?
  }
  private let state = Mutex(State())

  func enter() throws(DatastoreError) {
    let refusal = state.withLock { state in
      if state.refusal == nil { state.count += 1 }
      return state.refusal
    }
    if let refusal { throw refusal }
  }
  func leave() {
    state.withLock { state -> CheckedContinuation<Void, Never>? in
      state.count -= 1
      if state.count > 0 { return nil }
      defer { state.drained = nil }
      return state.drained
    }?.resume()
  }
  /// Throws the reason, if there is one.
  func check() throws(DatastoreError) { if let refusal = state.withLock({ $0.refusal }) { throw refusal } }
  /// Every later `enter` throws this; the first reason stays.
  func refuse(_ error: DatastoreError) { state.withLock { $0.refusal = $0.refusal ?? error } }
  /// Waits for the last access, after `refuse`. True for the first caller, who then closes.
  func drain() async -> Bool {
    let isFirst = state.withLock { state in
      defer { state.isDraining = true }
      return !state.isDraining
    }
    guard isFirst else { return false }
    await withCheckedContinuation { continuation in
      let isOver = state.withLock { state in
        if state.count > 0 { state.drained = continuation }
        return state.count == 0
      }
      if isOver { continuation.resume() }
    }
    return true
  }
}

private func storeOutcome<Result>(_ path: String, _ body: () throws -> Result) -> Swift.Result<Result, DatastoreError> {
  do {
    return .success(try body())
  } catch {
    return .failure(StoreFile.storeError(error, path))
  }
}

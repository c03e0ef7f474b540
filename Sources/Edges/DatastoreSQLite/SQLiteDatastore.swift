/// The embedded datastore: one SQLite file that many processes of one machine share.
///
/// Hazards and the answers:
/// - Two writers at once: every transaction is IMMEDIATE, so the second waits for the first (up to ten seconds) and then compares again.
/// - A watcher in another process must hear at once: after COMMIT the writer touches `<file>-changed`, which everybody follows with inotify.
///   A writer that dies between COMMIT and touch is covered by a check each second.
/// - A killed process: WAL and SQLite's own recovery; nothing of ours stands outside the transaction.
/// - A second machine on the same file (a shared disk) would hand out overlapping addresses: the file remembers the machine id.
/// - Clock steps and reboots: leases count boot time, and start anew with their whole length after a reboot.
public import Datastore
import Foundation
import GRDB
import Sockets
import Synchronization

public final class SQLiteDatastore: Datastore, Sendable {
  /// Written to the file; a newer one is refused, since its meaning is unknown here.
  static let schemaVersion = 1
  /// Revisions kept for watchers that come back.
  static let historyLength: Int64 = 20_000

  public let name: String
  private let pool: DatabasePool
  private let changedPath: String
  private let followers = Followers()

  /// Opens or creates the store. `machineID` is for tests; nil reads /etc/machine-id.
  public init(path: String, machineID: String? = nil) throws(DatastoreError) {
    name = "sqlite:\(path)"
    changedPath = path + "-changed"
    do {
      let directory = Files.parent(of: path)
      if !directory.isEmpty { try Files.makeDirectories(directory, mode: 0o700) }
      // The mode must be right before the first octet of policy or address stands in the file; WAL files inherit it.
      let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
      try check(descriptor, "open \(path)")
      Glibc.close(descriptor)
      var configuration = Configuration()
      configuration.busyMode = .timeout(10)
      configuration.maximumReaderCount = 3
      configuration.prepareDatabase { db in
        // NORMAL under WAL: a power cut may lose the last transactions, never the file's soundness; a killed process loses nothing.
        try db.execute(sql: "PRAGMA synchronous = NORMAL")
      }
      pool = try DatabasePool(path: path, configuration: configuration)
      if !Files.exists(changedPath) { try Files.append([], to: changedPath, mode: 0o600) }
      try Self.prepare(pool, machineID ?? Self.machineID(), path)
    } catch let error as DatastoreError {
      throw error
    } catch {
      throw DatastoreError.unavailable("\(path): \(error)")
    }
    do {
      try follow()
    } catch {
      throw DatastoreError.unavailable("cannot watch \(changedPath): \(error)")
    }
  }

  private static func machineID() -> String {
    ((try? Files.readText("/etc/machine-id")) ?? "unknown").trimmingCharacters(in: .whitespacesAndNewlines)
  }

  private static func bootID() -> String {
    ((try? Files.readText("/proc/sys/kernel/random/boot_id")) ?? "unknown").trimmingCharacters(in: .whitespacesAndNewlines)
  }

  private static func prepare(_ pool: DatabasePool, _ machineID: String, _ path: String) throws {
    try pool.write { db in
      let present = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
      if present > schemaVersion {
        throw DatastoreError.unusable("\(path) was written by a newer Margay (schema \(present), this one knows \(schemaVersion))")
      }
      if present == 0 {
        try db.execute(
          sql: """
            CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
            INSERT INTO meta VALUES ('revision', 0), ('compacted', 0);
            CREATE TABLE items (key TEXT PRIMARY KEY, value BLOB NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL, lease INTEGER)
              WITHOUT ROWID;
            CREATE INDEX items_by_lease ON items (lease) WHERE lease IS NOT NULL;
            CREATE TABLE history (revision INTEGER NOT NULL, ordinal INTEGER NOT NULL, key TEXT NOT NULL, value BLOB, created INTEGER,
              lease INTEGER, PRIMARY KEY (revision, ordinal)) WITHOUT ROWID;
            CREATE TABLE leases (id INTEGER PRIMARY KEY AUTOINCREMENT, seconds INTEGER NOT NULL, expires INTEGER NOT NULL, boot TEXT NOT NULL);
            PRAGMA user_version = 1;
            """)
        try db.execute(sql: "INSERT INTO meta VALUES ('machine', ?)", arguments: [machineID])
      }
      let owner = try String.fetchOne(db, sql: "SELECT value FROM meta WHERE name = 'machine'") ?? ""
      if owner != machineID {
        throw DatastoreError.unusable(
          "\(path) belongs to the machine with id \(owner), this one is \(machineID): two machines cannot share an SQLite store, use etcd")
      }
    }
  }

  // MARK: Reading and writing

  private func mapped<Result>(_ body: () async throws -> Result) async throws(DatastoreError) -> Result {
    do {
      return try await body()
    } catch let error as DatastoreError {
      throw error
    } catch {
      throw DatastoreError.unavailable("\(name): \(error)")
    }
  }

  public func get(_ key: String) async throws(DatastoreError) -> KeyValue? {
    try await mapped { try await self.pool.read { db in try Self.item(db, key) } }
  }

  public func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    try await mapped {
      try await self.pool.read { db in
        var items: [KeyValue] = []
        let end = Self.successor(of: prefix)
        let rows = try Row.fetchCursor(
          db, sql: "SELECT * FROM items WHERE key >= ?" + (end == nil ? "" : " AND key < ?") + " ORDER BY key",
          arguments: StatementArguments([prefix] + (end.map { [$0] } ?? [])))
        while let row = try rows.next() { items.append(Self.item(row)) }
        return (items, Revision(rawValue: try Self.revision(db)))
      }
    }
  }

  /// The first text behind all that begin with `prefix`, nil if there is none. Keys are ASCII paths; SQLite compares octets.
  static func successor(of prefix: String) -> String? {
    var octets = Array(prefix.utf8)
    guard let last = octets.last, last < 0x7f else { return nil }
    octets[octets.count - 1] = last + 1
    return String(decoding: octets, as: UTF8.self)
  }

  public func transact(if comparisons: [Comparison], then operations: [DatastoreOperation]) async throws(DatastoreError) -> TransactionResult {
    let (result, changed) = try await mapped {
      try await self.pool.write { db -> (TransactionResult, Bool) in
        let expired = try Self.expire(db)
        let present = try comparisons.map { comparison -> KeyValue? in
          switch comparison {
          case .absent(let key), .modRevision(let key, _): try Self.item(db, key)
          }
        }
        for (comparison, item) in zip(comparisons, present) {
          switch comparison {
          case .absent: if item != nil { return (.conflict(present), expired) }
          case .modRevision(_, let revision): if item?.modRevision != revision { return (.conflict(present), expired) }
          }
        }
        for case .put(_, _, .some(let lease)) in operations {
          guard try Bool.fetchOne(db, sql: "SELECT 1 FROM leases WHERE id = ?", arguments: [lease.rawValue]) == true else {
            throw DatastoreError.leaseNotFound
          }
        }
        let before = try Self.revision(db)
        let after = try Self.commit(db, operations)
        return (.committed(after), expired || after.rawValue != before)
      }
    }
    if changed { announce() }
    return result
  }

  /// Tells every process, this one included. A failure is harmless: the check each second finds the change.
  private func announce() {
    _ = unsafe utimes(changedPath, nil)
  }

  private static func revision(_ db: Database) throws -> Int64 {
    try Int64.fetchOne(db, sql: "SELECT value FROM meta WHERE name = 'revision'") ?? 0
  }

  private static func item(_ db: Database, _ key: String) throws -> KeyValue? {
    try Row.fetchOne(db, sql: "SELECT * FROM items WHERE key = ?", arguments: [key]).map(item)
  }

  private static func item(_ row: Row) -> KeyValue {
    KeyValue(
      key: row["key"], value: [UInt8](row["value"] as Data), createRevision: Revision(rawValue: row["created"]),
      modRevision: Revision(rawValue: row["modified"]), lease: (row["lease"] as Int64?).map(LeaseID.init))
  }

  private static func commit(_ db: Database, _ operations: [DatastoreOperation]) throws -> Revision {
    let next = try revision(db) + 1
    var ordinal = 0
    for operation in operations {
      switch operation {
      case .put(let key, let value, let lease):
        let created = try Int64.fetchOne(db, sql: "SELECT created FROM items WHERE key = ?", arguments: [key]) ?? next
        let data = Data(value)
        try db.cachedStatement(sql: "INSERT OR REPLACE INTO items (key, value, created, modified, lease) VALUES (?, ?, ?, ?, ?)")
          .execute(arguments: [key, data, created, next, lease?.rawValue])
        try db.cachedStatement(sql: "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)")
          .execute(arguments: [next, ordinal, key, data, created, lease?.rawValue])
      case .delete(let key):
        try db.cachedStatement(sql: "DELETE FROM items WHERE key = ?").execute(arguments: [key])
        guard db.changesCount > 0 else { continue }
        try db.cachedStatement(sql: "INSERT INTO history VALUES (?, ?, ?, NULL, NULL, NULL)").execute(arguments: [next, ordinal, key])
      }
      ordinal += 1
    }
    guard ordinal > 0 else { return Revision(rawValue: next - 1) }
    try db.execute(sql: "UPDATE meta SET value = ? WHERE name = 'revision'", arguments: [next])
    if next % 1000 == 0, next > historyLength { try compact(db, upTo: next - historyLength) }
    return Revision(rawValue: next)
  }

  private static func compact(_ db: Database, upTo revision: Int64) throws {
    try db.execute(sql: "DELETE FROM history WHERE revision <= ?", arguments: [revision])
    try db.execute(sql: "UPDATE meta SET value = max(value, ?) WHERE name = 'compacted'", arguments: [revision])
  }

  /// Forgets history up to and including `revision`.
  public func compact(upTo revision: Revision) async throws(DatastoreError) {
    try await mapped { try await self.pool.write { db in try Self.compact(db, upTo: min(revision.rawValue, Self.revision(db))) } }
  }

  // MARK: Leases

  public func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID {
    try await mapped {
      try await self.pool.write { db in
        try db.execute(
          sql: "INSERT INTO leases (seconds, expires, boot) VALUES (?, ?, ?)",
          arguments: [seconds, Self.expiry(after: seconds), Self.bootID()])
        return LeaseID(rawValue: db.lastInsertedRowID)
      }
    }
  }

  private static func expiry(after seconds: Int) -> Int64 { SystemClock.boottimeNanoseconds + Int64(seconds) * 1_000_000_000 }

  public func keepAlive(_ lease: LeaseID) async throws(DatastoreError) {
    try await mapped {
      try await self.pool.write { db in
        _ = try Self.expire(db)
        guard let seconds = try Int.fetchOne(db, sql: "SELECT seconds FROM leases WHERE id = ?", arguments: [lease.rawValue]) else {
          throw DatastoreError.leaseNotFound
        }
        try db.execute(
          sql: "UPDATE leases SET expires = ?, boot = ? WHERE id = ?", arguments: [Self.expiry(after: seconds), Self.bootID(), lease.rawValue])
      }
    }
  }

  public func revoke(_ lease: LeaseID) async throws(DatastoreError) {
    try await mapped {
      try await self.pool.write { db in
        guard try Bool.fetchOne(db, sql: "SELECT 1 FROM leases WHERE id = ?", arguments: [lease.rawValue]) == true else {
          throw DatastoreError.leaseNotFound
        }
        try Self.end(db, lease.rawValue)
      }
    }
    announce()
  }

  private static func end(_ db: Database, _ lease: Int64) throws {
    let keys = try String.fetchAll(db, sql: "SELECT key FROM items WHERE lease = ? ORDER BY key", arguments: [lease])
    _ = try commit(db, keys.map { .delete($0) })
    try db.execute(sql: "DELETE FROM leases WHERE id = ?", arguments: [lease])
  }

  /// Ends the leases whose time is over; leases of an earlier boot get their whole length again. True when keys went away.
  private static func expire(_ db: Database) throws -> Bool {
    guard try Bool.fetchOne(db, sql: "SELECT EXISTS (SELECT 1 FROM leases)") == true else { return false }
    let boot = bootID()
    for row in try Row.fetchAll(db, sql: "SELECT id, seconds FROM leases WHERE boot <> ?", arguments: [boot]) {
      try db.execute(
        sql: "UPDATE leases SET expires = ?, boot = ? WHERE id = ?", arguments: [expiry(after: row["seconds"]), boot, row["id"] as Int64])
    }
    let over = try Int64.fetchAll(db, sql: "SELECT id FROM leases WHERE expires <= ?", arguments: [SystemClock.boottimeNanoseconds])
    for lease in over { try end(db, lease) }
    return !over.isEmpty
  }

  // MARK: Watching

  /// The watchers of this process, woken together.
  private final class Followers: Sendable {
    struct State {
      var wakes: [Int: AsyncStream<Void>.Continuation] = [:]
      var last = 0
      var isClosed = false
    }
    let state = Mutex(State())

    func join() -> (id: Int, wakes: AsyncStream<Void>) {
      let (stream, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
      let id = state.withLock { state in
        state.last += 1
        if state.isClosed { continuation.finish() } else { state.wakes[state.last] = continuation }
        return state.last
      }
      return (id, stream)
    }
    func leave(_ id: Int) { state.withLock { $0.wakes[id] = nil } }
    func wakeAll() { for wake in state.withLock({ Array($0.wakes.values) }) { wake.yield() } }
    func close() {
      let wakes = state.withLock { state in
        state.isClosed = true
        defer { state.wakes = [:] }
        return Array(state.wakes.values)
      }
      for wake in wakes { wake.finish() }
    }
    var isClosed: Bool { state.withLock { $0.isClosed } }
  }

  /// One thread for the process: inotify at once, and a look each second.
  private func follow() throws {
    let watcher = try FileWatcher()
    _ = try watcher.watch(changedPath)
    let box = WatcherBox(watcher)
    let followers = followers
    let pool = WeakBox(pool)
    try DedicatedThread.start {
      while !followers.isClosed {
        var ready = pollfd(fd: box.watcher.descriptor.borrowed, events: Int16(POLLIN), revents: 0)
        let count = unsafe poll(&ready, 1, 1000)
        if followers.isClosed { return }
        if count > 0 { _ = box.watcher.read() }
        if count == 0 {
          // Only a store that has leases needs a look at the clock.
          guard let pool = pool.value else { return }
          _ = try? pool.write { db in try Self.expire(db) }
        }
        followers.wakeAll()
      }
    }
  }
  private final class WatcherBox: Sendable {
    let watcher: FileWatcher
    init(_ watcher: consuming FileWatcher) { self.watcher = watcher }
  }
  private final class WeakBox: @unchecked Sendable {
    // A weak reference is read atomically by the runtime, and never set again after init.
    weak let value: DatabasePool?
    init(_ value: DatabasePool) { self.value = value }
  }

  public func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    let (id, wakes) = followers.join()
    let followers = followers
    let pool = pool
    let name = name
    return AsyncThrowingStream { continuation in
      let task = Task {
        defer { followers.leave(id) }
        var position = revision.rawValue
        do {
          position = try await Self.replay(pool, prefixes, position, continuation)
          for await _ in wakes { position = try await Self.replay(pool, prefixes, position, continuation) }
          continuation.finish()
        } catch let error as DatastoreError {
          continuation.finish(throwing: error)
        } catch is CancellationError {
          continuation.finish()
        } catch {
          continuation.finish(throwing: DatastoreError.unavailable("\(name): \(error)"))
        }
      }
      continuation.onTermination = { _ in
        task.cancel()
        followers.leave(id)
      }
    }
  }

  /// Yields everything after `position`; returns the new position.
  private static func replay(
    _ pool: DatabasePool, _ prefixes: [String], _ position: Int64, _ continuation: AsyncThrowingStream<WatchBatch, any Error>.Continuation
  ) async throws -> Int64 {
    let (batches, last) = try await pool.read { db -> ([WatchBatch], Int64) in
      let last = try revision(db)
      let compacted = try Int64.fetchOne(db, sql: "SELECT value FROM meta WHERE name = 'compacted'") ?? 0
      guard position >= compacted else { throw DatastoreError.compacted }
      guard last > position else { return ([], position) }
      var batches: [WatchBatch] = []
      let rows = try Row.fetchCursor(
        db, sql: "SELECT * FROM history WHERE revision > ? AND revision <= ? ORDER BY revision, ordinal", arguments: [position, last])
      while let row = try rows.next() {
        let key: String = row["key"]
        guard prefixes.contains(where: { key.utf8.starts(with: $0.utf8) }) else { continue }
        let revision = Revision(rawValue: row["revision"])
        let event: WatchEvent =
          if let value = row["value"] as Data? {
            .put(
              KeyValue(
                key: key, value: [UInt8](value), createRevision: Revision(rawValue: row["created"]), modRevision: revision,
                lease: (row["lease"] as Int64?).map(LeaseID.init)))
          } else {
            .delete(key: key, at: revision)
          }
        if batches.last?.revision == revision {
          batches[batches.count - 1].events.append(event)
        } else {
          batches.append(WatchBatch(events: [event], revision: revision))
        }
      }
      return (batches, last)
    }
    for batch in batches { continuation.yield(batch) }
    return last
  }

  public func close() async { followers.close() }
  deinit { followers.close() }
}

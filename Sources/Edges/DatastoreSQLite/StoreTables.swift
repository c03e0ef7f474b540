/// The tables, and each statement on them. All run inside a transaction of the caller.
///
/// `item` is the present, `event` the history, one row per key written or deleted. Keys are TEXT under SQLite's BINARY collation: the order
/// of their octets.
import Datastore
import Foundation
import GRDB
import Sockets

enum StoreTables {
  static let schema = """
    CREATE TABLE store (
      id INTEGER PRIMARY KEY CHECK (id = 1),
      revision INTEGER NOT NULL,
      compacted INTEGER NOT NULL,
      machine TEXT NOT NULL
    );
    CREATE TABLE item (
      key TEXT NOT NULL PRIMARY KEY,
      value BLOB NOT NULL,
      created INTEGER NOT NULL,
      modified INTEGER NOT NULL,
      lease INTEGER
    );
    CREATE INDEX item_lease ON item (lease) WHERE lease IS NOT NULL;
    -- A deletion has no value. `at` is in seconds of the wall clock and decides nothing but how long history is kept.
    CREATE TABLE event (
      place INTEGER PRIMARY KEY,
      revision INTEGER NOT NULL,
      key TEXT NOT NULL,
      value BLOB,
      created INTEGER NOT NULL,
      lease INTEGER,
      at INTEGER NOT NULL
    );
    CREATE INDEX event_revision ON event (revision);
    -- `deadline` is in nanoseconds of the boot-time clock of the boot named beside it.
    CREATE TABLE lease (
      id INTEGER PRIMARY KEY AUTOINCREMENT,
      seconds INTEGER NOT NULL,
      deadline INTEGER NOT NULL,
      boot TEXT NOT NULL
    );
    """

  // MARK: - Revisions

  static func bounds(_ db: Database) throws -> (revision: Revision, compacted: Revision) {
    guard let row = try Row.fetchOne(try db.cachedStatement(sql: "SELECT revision, compacted FROM store")) else {
      throw DatastoreError.unusable("the store has no revision: \(StoreFile.damaged)")
    }
    return (Revision(rawValue: row[0]), Revision(rawValue: row[1]))
  }
  static func setRevision(_ db: Database, _ revision: Revision) throws {
    try run(db, "UPDATE store SET revision = ?", [revision.rawValue])
  }
  static func compact(_ db: Database, upTo revision: Revision) throws {
    guard revision > (try bounds(db).compacted) else { return }
    try run(db, "DELETE FROM event WHERE revision <= ?", [revision.rawValue])
    try run(db, "UPDATE store SET compacted = ?", [revision.rawValue])
  }
  static func newestRevision(_ db: Database, before horizon: Int64) throws -> Revision? {
    try Int64.fetchOne(try db.cachedStatement(sql: "SELECT max(revision) FROM event WHERE at < ?"), arguments: [horizon])
      .map(Revision.init(rawValue:))
  }

  // MARK: - Items

  private static func keyValue(_ row: Row) -> KeyValue {
    let lease: Int64? = row[4]
    return KeyValue(
      key: row[0], value: [UInt8](row[1] as Data), createRevision: Revision(rawValue: row[2]), modRevision: Revision(rawValue: row[3]),
      lease: lease.map(LeaseID.init(rawValue:)))
  }
  static func item(_ db: Database, _ key: String) throws -> KeyValue? {
    let statement = try db.cachedStatement(sql: "SELECT key, value, created, modified, lease FROM item WHERE key = ?")
    return try Row.fetchOne(statement, arguments: [key]).map(keyValue)
  }
  static func items(_ db: Database, prefix: String) throws -> [KeyValue] {
    let columns = "SELECT key, value, created, modified, lease FROM item"
    var items: [KeyValue] = []
    let rows: RowCursor
    if let end = KeyOrder.end(ofPrefix: prefix) {
      rows = try Row.fetchCursor(
        try db.cachedStatement(sql: "\(columns) WHERE key >= ? AND key < ? ORDER BY key"), arguments: [prefix, end])
    } else {
      rows = try Row.fetchCursor(try db.cachedStatement(sql: "\(columns) WHERE key >= ? ORDER BY key"), arguments: [prefix])
    }
    while let row = try rows.next() { items.append(keyValue(row)) }
    return items
  }

  /// Writes the operations at the revision after `revision`; returns that, or `revision` if nothing changed.
  static func apply(
    _ db: Database, _ operations: [DatastoreOperation], after revision: Revision, at: Int64 = SystemClock.realtimeNanoseconds / 1_000_000_000
  ) throws -> Revision {
    let next = Revision(rawValue: revision.rawValue + 1)
    var isChanged = false
    for operation in operations {
      switch operation {
      case .put(let key, let value, let lease):
        let data = Data(value)
        let statement = try db.cachedStatement(
          sql: """
            INSERT INTO item (key, value, created, modified, lease) VALUES (?, ?, ?, ?, ?)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value, modified = excluded.modified, lease = excluded.lease
            RETURNING created
            """)
        let created = try Int64.fetchAll(statement, arguments: [key, data, next.rawValue, next.rawValue, lease?.rawValue]).first
        try run(
          db, "INSERT INTO event (revision, key, value, created, lease, at) VALUES (?, ?, ?, ?, ?, ?)",
          [next.rawValue, key, data, created ?? next.rawValue, lease?.rawValue, at])
        isChanged = true
      case .delete(let key):
        try run(db, "DELETE FROM item WHERE key = ?", [key])
        guard db.changesCount > 0 else { continue }
        try run(
          db, "INSERT INTO event (revision, key, value, created, lease, at) VALUES (?, ?, NULL, 0, NULL, ?)", [next.rawValue, key, at])
        isChanged = true
      }
    }
    return isChanged ? next : revision
  }

  // MARK: - History

  /// Whole revisions, until there are about 1000 events. Without events the batch tells how far the watcher has seen everything.
  static func batch(_ db: Database, after cursor: Revision, prefixes: [String]) throws -> WatchBatch {
    let bounds = try bounds(db)
    // A revision from the future was learnt from another file: what it showed is not what is here.
    guard cursor >= bounds.compacted, cursor <= bounds.revision else { throw DatastoreError.compacted }
    let rows = try Row.fetchCursor(
      try db.cachedStatement(sql: "SELECT key, value, created, revision, lease FROM event WHERE revision > ? ORDER BY revision, place"),
      arguments: [cursor.rawValue])
    var batch = WatchBatch(events: [], revision: bounds.revision)
    var last = cursor
    while let row = try rows.next() {
      let revision = Revision(rawValue: row[3])
      if revision != last, batch.events.count >= 1000 {
        batch.revision = last
        break
      }
      last = revision
      let key: String = row[0]
      guard KeyOrder.hasPrefix(key, anyOf: prefixes) else { continue }
      batch.events.append(row.hasNull(atIndex: 1) ? .delete(key: key, at: revision) : .put(keyValue(row)))
    }
    return batch
  }

  // MARK: - Leases

  static func grantLease(_ db: Database, seconds: Int, boot: String, now: Int64) throws -> LeaseID {
    try run(db, "INSERT INTO lease (seconds, deadline, boot) VALUES (?, ?, ?)", [seconds, now + Int64(seconds) * 1_000_000_000, boot])
    return LeaseID(rawValue: db.lastInsertedRowID)
  }
  static func hasLease(_ db: Database, _ lease: LeaseID) throws -> Bool {
    try Int.fetchOne(try db.cachedStatement(sql: "SELECT 1 FROM lease WHERE id = ?"), arguments: [lease.rawValue]) != nil
  }
  static func keepAlive(_ db: Database, _ lease: LeaseID, boot: String, now: Int64) throws -> Bool {
    try run(db, "UPDATE lease SET boot = ?, deadline = ? + seconds * 1000000000 WHERE id = ?", [boot, now, lease.rawValue])
    return db.changesCount > 0
  }
  static func hasDueLeases(_ db: Database, boot: String, now: Int64) throws -> Bool {
    let statement = try db.cachedStatement(sql: "SELECT 1 FROM lease WHERE boot <> ? OR deadline <= ? LIMIT 1")
    return try Int.fetchOne(statement, arguments: [boot, now]) != nil
  }
  /// Ends what is over; leases of an earlier boot begin their time again.
  static func endDueLeases(_ db: Database, boot: String, now: Int64, after revision: Revision) throws -> Revision {
    guard try hasDueLeases(db, boot: boot, now: now) else { return revision }
    try run(db, "UPDATE lease SET boot = ?, deadline = ? + seconds * 1000000000 WHERE boot <> ?", [boot, now, boot])
    let due = try Int64.fetchAll(try db.cachedStatement(sql: "SELECT id FROM lease WHERE deadline <= ?"), arguments: [now])
    return try end(db, due.map(LeaseID.init(rawValue:)), after: revision)
  }
  static func end(_ db: Database, _ leases: [LeaseID], after revision: Revision) throws -> Revision {
    var keys: [String] = []
    for lease in leases {
      keys += try String.fetchAll(try db.cachedStatement(sql: "SELECT key FROM item WHERE lease = ?"), arguments: [lease.rawValue])
      try run(db, "DELETE FROM lease WHERE id = ?", [lease.rawValue])
    }
    return try apply(db, keys.map { .delete($0) }, after: revision)
  }

  private static func run(_ db: Database, _ sql: String, _ arguments: StatementArguments) throws {
    try db.cachedStatement(sql: sql).execute(arguments: arguments)
  }
}

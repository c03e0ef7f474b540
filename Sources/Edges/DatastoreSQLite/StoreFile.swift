/// Opening the file: permissions, schema and its version, the machine it belongs to.
///
/// Nothing is written into a file before it is known to be ours, and nothing if there is nothing to do: while another process has the store open,
/// one more opens it and reads although the write lock is held for long, or the disk is full.
import Datastore
import Foundation
import Glibc
import GRDB
import Sockets

enum StoreFile {
  /// `PRAGMA application_id`: "Mgay".
  static let applicationID = 0x4d67_6179

  struct Opened {
    var pool: DatabasePool
    var users: StoreUsers
    var revision: Revision
    var isNew: Bool
  }

  static func open(
    path: String, surroundings: SQLiteDatastore.Surroundings, creating: Bool, schema: StoreSchema
  ) throws(DatastoreError) -> Opened {
    let directory = Files.parent(of: path)
    // Made silently with all that is missing above it, a mistyped path would be a second, empty cluster.
    guard Files.exists(Files.parent(of: directory)) else {
      throw .unusable("\(Files.parent(of: directory)) does not exist; correct the path, or make the directory: mkdir -p -m 700 \(directory)")
    }
    guard creating || !isMissing(path) else {
      throw .unusable(
        "there is no datastore at \(path); correct the path, or make one there: `margay apply -f FILE` and `margay node` do, with the same name")
    }
    let deadline = MonotonicInstant.now + surroundings.patience
    let users = try StoreUsers(storePath: path, deadline: deadline) { () throws(DatastoreError) in
      try makeFiles(path)
      try checkHeader(path)
    }
    var configuration = Configuration()
    configuration.label = "datastore"
    configuration.maximumReaderCount = 4
    // SQLite's own timeout sleeps up to 100 ms between tries; commits here take a fraction of a millisecond.
    let tries = Int(surroundings.patience.components.seconds) * 200 + 10
    configuration.busyMode = .callback { tried in
      usleep(UInt32(min(tried + 1, 20)) * 250)
      return tried < tries
    }
    while true {
      do {
        let pool = try DatabasePool(path: path, configuration: configuration)
        let (revision, isNew) = try pool.writeWithoutTransaction {
          try prepare($0, path: path, surroundings: surroundings, schema: schema, users: users)
        }
        return Opened(pool: pool, users: users, revision: revision, isNew: isNew)
      } catch {
        // Two processes that open a new file at once can meet inside SQLite's switch to the write-ahead log, where it does not wait.
        if let error = error as? DatabaseError, [.SQLITE_BUSY, .SQLITE_LOCKED].contains(error.resultCode), MonotonicInstant.now < deadline {
          usleep(50_000)
          continue
        }
        throw storeError(error, path)
      }
    }
  }

  /// A file of no size is as good as none: who makes a store and dies at once leaves it.
  private static func isMissing(_ path: String) -> Bool {
    var status = stat()
    // Asked by name: a descriptor of the file is dangerous (see `StoreUsers`).
    return unsafe stat(path, &status) != 0 ? errno == ENOENT : status.st_size == 0
  }

  private static func makeFiles(_ path: String) throws(DatastoreError) {
    do throws(SystemError) {
      try Files.makeDirectories(Files.parent(of: path), mode: 0o700)
      // SQLite gives its side files the mode of the main file, so this one decides. The octet in the other is there because a full disk
      // has no room for it later.
      for (file, content) in [(path, []), (path + "-changed", [UInt8(0x0a)])] where !Files.exists(file) {
        let descriptor = unsafe Glibc.open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemError.last("create \(file)") }
        let owned = OwnedDescriptor(owning: descriptor)
        try Files.write(content, descriptor: owned.borrowed, name: file)
      }
    } catch {
      throw Self.error(of: error, path)
    }
  }

  /// Refuses what cannot be ours by the file's first octets (SQLite's file format, section 1.3), before SQLite touches it: opened as a store,
  /// another program's database would be switched to the write-ahead log.
  private static func checkHeader(_ path: String) throws(DatastoreError) {
    let header: [UInt8]
    do throws(SystemError) {
      let descriptor = OwnedDescriptor(owning: try check(unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC), "open \(path)"))
      header = Array(try Files.read(descriptor: descriptor.borrowed, name: path, max: 100).prefix(100))
    } catch {
      throw Self.error(of: error, path)
    }
    if header.isEmpty { return }
    guard header.count == 100, header.starts(with: Array("SQLite format 3\0".utf8)) else {
      throw .unusable("\(path) is no SQLite database, or its beginning is damaged; nothing was changed. Name another file, or restore a backup")
    }
    let application = header[68..<72].reduce(0) { $0 << 8 | Int($1) }
    // Ours is in the log's mode (2) before it has any table; its first table may still be in the log alone.
    if application != applicationID, application != 0 || header[18] != 2 {
      throw .unusable("\(path) is a SQLite database of another program; name another file")
    }
  }

  /// What there is to know before anything is written.
  private struct Look {
    var version: Int
    var isEmpty: Bool
    var isForeign: Bool
    var machine: String
    var bounds: (revision: Revision, compacted: Revision)
    var isLeaseDue: Bool
  }
  private static func look(_ db: Database, _ surroundings: SQLiteDatastore.Surroundings, _ schema: StoreSchema) throws -> Look {
    let application = try Int.fetchOne(db, sql: "PRAGMA application_id") ?? 0
    let version = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
    let isEmpty = try Int.fetchOne(db, sql: "SELECT count(*) FROM sqlite_master") == 0
    let isForeign = application != applicationID && !isEmpty
    var look = Look(
      version: version, isEmpty: isEmpty, isForeign: isForeign, machine: "", bounds: (.zero, .zero), isLeaseDue: false)
    guard !isEmpty, !isForeign, version == schema.version else { return look }
    look.machine = try String.fetchOne(db, sql: "SELECT machine FROM store") ?? ""
    look.bounds = try StoreTables.bounds(db)
    look.isLeaseDue = try StoreTables.hasDueLeases(db, boot: surroundings.bootID, now: surroundings.boottime())
    return look
  }

  private static func prepare(
    _ db: Database, path: String, surroundings: SQLiteDatastore.Surroundings, schema: StoreSchema, users: StoreUsers
  ) throws -> (revision: Revision, isNew: Bool) {
    var first: Look?
    try db.inTransaction(.deferred) {
      first = try look(db, surroundings, schema)
      return .commit
    }
    guard let first else { preconditionFailure("a transaction runs its body") }
    if first.isForeign { throw DatastoreError.unusable("\(path) is a SQLite database of another program; name another file") }
    if first.version > schema.version {
      throw DatastoreError.unusable(
        "\(path) has schema version \(first.version), this program knows versions up to \(schema.version); use the newer program")
    }
    if !first.isEmpty, first.version < schema.version {
      try users.alone("\(path) has schema version \(first.version), and this program would change it to \(schema.version)") {
        try db.inTransaction(.immediate) {
          // Somebody may have been faster before the lock was ours.
          let version = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
          if version < schema.version {
            for next in (version + 1)...schema.version { try db.execute(sql: schema.step(to: next)) }
            try db.execute(sql: "PRAGMA user_version = \(schema.version)")
          }
          return .commit
        }
      }
    } else if !first.isEmpty, !first.isLeaseDue {
      if try isOwn(first.machine, surroundings, path) { return (first.bounds.revision, false) }
    }
    var revision = Revision.zero
    try db.inTransaction(.immediate) {
      let now = try look(db, surroundings, schema)
      if now.isEmpty {
        for version in 1...schema.version { try db.execute(sql: schema.step(to: version)) }
        try db.execute(
          sql: "INSERT INTO store (id, revision, compacted, machine) VALUES (1, 0, 0, ?)", arguments: [surroundings.machineID ?? ""])
        try db.execute(sql: "PRAGMA application_id = \(applicationID); PRAGMA user_version = \(schema.version)")
      } else if try !isOwn(now.machine, surroundings, path) {
        try db.execute(sql: "UPDATE store SET machine = ?", arguments: [surroundings.machineID ?? ""])
      }
      let before = try StoreTables.bounds(db).revision
      revision = try StoreTables.endDueLeases(db, boot: surroundings.bootID, now: surroundings.boottime(), after: before)
      if revision > before { try StoreTables.setRevision(db, revision) }
      return .commit
    }
    return (revision, first.isEmpty)
  }

  /// False if the store has no machine yet; throws if it has another.
  private static func isOwn(_ machine: String, _ surroundings: SQLiteDatastore.Surroundings, _ path: String) throws -> Bool {
    guard let mine = surroundings.machineID, machine != mine else { return true }
    guard machine.isEmpty else {
      throw DatastoreError.unusable(
        "\(path) belongs to the machine with id \(machine), this is \(mine); a SQLite datastore serves one machine, "
          + "or two would hand out the same addresses. Use etcd for several machines")
    }
    return false
  }

  // MARK: - What is wrong, in words

  static func error(of error: SystemError, _ path: String) -> DatastoreError {
    switch error.code {
    case EROFS: .unavailable("\(path) is on a read-only file system, and a store is written to by all who use it (\(error.operation))")
    case ENOSPC, EDQUOT: .unavailable(fullDisk(path))
    default: .unavailable("\(error)")
    }
  }
  static func fullDisk(_ path: String) -> String {
    "the disk with \(path) is full: nothing of this change is stored, and all that was stored before still is; make room and try again"
  }
  static let damaged = "nothing more is written to it. `margay datastore check` says what is damaged; then restore a backup"

  /// SQLite's errors as the caller of a datastore sees them.
  static func storeError(_ error: any Error, _ path: String) -> DatastoreError {
    if let error = error as? DatastoreError { return error }
    if let error = error as? SystemError { return Self.error(of: error, path) }
    guard let error = error as? DatabaseError else { return .unavailable("\(path): \(error)") }
    let text = error.message ?? "SQLite error \(error.extendedResultCode.rawValue)"
    switch error.resultCode {
    case .SQLITE_CORRUPT: return .unusable("\(path) is damaged (\(text)): \(damaged)")
    case .SQLITE_NOTADB: return .unusable("\(path) is no SQLite database, or its beginning is damaged; nothing was changed (\(text))")
    case .SQLITE_BUSY, .SQLITE_LOCKED:
      let holders = LockHolders.ofRecord(path + "-shm", octet: LockHolders.writeLock)
      return .unavailable("\(path): the write lock is held by \(StoreUsers.list(holders)); nothing of this change is stored (\(text))")
    case .SQLITE_FULL: return .unavailable(fullDisk(path))
    case .SQLITE_IOERR where error.extendedResultCode == .SQLITE_IOERR_SHMSIZE: return .unavailable(fullDisk(path))
    case .SQLITE_READONLY, .SQLITE_CANTOPEN, .SQLITE_PERM:
      return .unavailable("\(path) cannot be opened for writing, which all users of a store need (\(text))")
    case .SQLITE_IOERR: return .unavailable("\(path) cannot be read or written (\(text), SQLite error \(error.extendedResultCode.rawValue))")
    default: return .unavailable("\(path): \(text)")
    }
  }

  /// What `PRAGMA integrity_check` finds, a line each; empty if all is well. Changes nothing, and needs no store of ours that opens.
  static func damages(_ path: String) throws(DatastoreError) -> [String] {
    guard Files.exists(path) else { throw .unusable("there is no file \(path)") }
    do {
      var configuration = Configuration()
      configuration.readonly = true
      let queue = try DatabaseQueue(path: path, configuration: configuration)
      defer { try? queue.close() }
      let lines = try queue.read { db in
        try String.fetchAll(db, sql: "PRAGMA integrity_check(20)").flatMap { $0.split(separator: "\n").map(String.init) }
      }
      return lines == ["ok"] ? [] : lines
    } catch let error as DatabaseError where [.SQLITE_CORRUPT, .SQLITE_NOTADB].contains(error.resultCode) {
      return [error.message ?? "the file is damaged"]
    } catch {
      throw storeError(error, path)
    }
  }
}

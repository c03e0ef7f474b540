/// Opening the file: permissions, schema and its version, the machine it belongs to.
import Datastore
import Foundation
import Glibc
import GRDB
import Sockets

enum StoreFile {
  /// `PRAGMA application_id`: "Mgay".
  static let applicationID = 0x4d67_6179
  /// `PRAGMA user_version`. A program refuses a file of a later version: it cannot know what its columns mean.
  static let schemaVersion = 1

  static func open(
    path: String, surroundings: SQLiteDatastore.Surroundings
  ) throws(DatastoreError) -> (pool: DatabasePool, revision: Revision) {
    let directory = Files.parent(of: path)
    // Made silently with all that is missing above it, a mistyped path would be a second, empty cluster.
    guard Files.exists(Files.parent(of: directory)) else {
      throw .unusable("\(Files.parent(of: directory)) does not exist; correct the path, or make the directory: mkdir -p -m 700 \(directory)")
    }
    do {
      try Files.makeDirectories(directory, mode: 0o700)
      // SQLite gives its side files the mode of the main file, so this one decides.
      for file in [path, path + "-changed"] where !Files.exists(file) {
        let descriptor = unsafe Glibc.open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemError.last("create \(file)") }
        _ = OwnedDescriptor(owning: descriptor)
      }
    } catch {
      throw .unavailable("\(error)")
    }
    var configuration = Configuration()
    configuration.label = "datastore"
    configuration.maximumReaderCount = 4
    // SQLite's own timeout sleeps up to 100 ms between tries; commits here take a fraction of a millisecond.
    configuration.busyMode = .callback { tries in
      usleep(UInt32(min(tries + 1, 20)) * 250)
      return tries < 3_000
    }
    // Two processes that open a new file at once can meet inside SQLite's switch to the write-ahead log, where it does not wait.
    var tries = 0
    while true {
      let outcome = storeOutcome {
        let pool = try DatabasePool(path: path, configuration: configuration)
        return (pool, try pool.writeWithoutTransaction { try prepare($0, path: path, surroundings: surroundings) })
      }
      if case .failure(.unavailable) = outcome, tries < 40 {
        tries += 1
        usleep(50_000)
        continue
      }
      return try outcome.get()
    }
  }

  private static func prepare(_ db: Database, path: String, surroundings: SQLiteDatastore.Surroundings) throws -> Revision {
    var revision = Revision.zero
    try db.inTransaction(.immediate) {
      let application = try Int.fetchOne(db, sql: "PRAGMA application_id") ?? 0
      let version = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
      let isEmpty = try Int.fetchOne(db, sql: "SELECT count(*) FROM sqlite_master") == 0
      if application != applicationID, !isEmpty {
        throw DatastoreError.unusable("\(path) is a SQLite database of another program; name another file")
      }
      if version > schemaVersion {
        throw DatastoreError.unusable(
          "\(path) has schema version \(version), this program knows versions up to \(schemaVersion); use the newer program")
      }
      if isEmpty {
        try db.execute(sql: StoreTables.schema)
        try db.execute(
          sql: "INSERT INTO store (id, revision, compacted, machine) VALUES (1, 0, 0, ?)", arguments: [surroundings.machineID ?? ""])
        try db.execute(sql: "PRAGMA application_id = \(applicationID); PRAGMA user_version = \(schemaVersion)")
      }
      let machine = try String.fetchOne(db, sql: "SELECT machine FROM store") ?? ""
      if let mine = surroundings.machineID, machine != mine {
        guard machine.isEmpty else {
          throw DatastoreError.unusable(
            "\(path) belongs to the machine with id \(machine), this is \(mine); a SQLite datastore serves one machine, "
              + "or two would hand out the same addresses. Use etcd for several machines")
        }
        try db.execute(sql: "UPDATE store SET machine = ?", arguments: [mine])
      }
      let before = try StoreTables.bounds(db).revision
      revision = try StoreTables.endDueLeases(db, boot: surroundings.bootID, now: surroundings.boottime(), after: before)
      if revision > before { try StoreTables.setRevision(db, revision) }
      return .commit
    }
    return revision
  }
}

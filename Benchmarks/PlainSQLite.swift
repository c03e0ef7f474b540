/// The peer of our SQLite store: the `sqlite3` command with the same writes, the same durability (write-ahead log, `synchronous=NORMAL`), the same
/// value; what it lacks is the contract around them.

import Glibc
import Sockets

struct PlainSQLite {
  static let name = "sqlite3"
  private let folder: String
  private var path: String { folder + "/plain.db" }

  init?(folder: String) throws {
    guard unsafe access("/usr/bin/sqlite3", X_OK) == 0 else { return nil }
    self.folder = folder
    _ = try run(
      """
      PRAGMA journal_mode=WAL;
      CREATE TABLE store (revision INTEGER NOT NULL);
      INSERT INTO store VALUES (0);
      CREATE TABLE item (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL, lease INTEGER);
      CREATE TABLE event (place INTEGER PRIMARY KEY, revision INTEGER NOT NULL, key TEXT NOT NULL, value BLOB, created INTEGER NOT NULL,
        lease INTEGER, at INTEGER NOT NULL);
      CREATE INDEX event_revision ON event (revision);

      """)
  }

  private func run(_ sql: String) throws -> Cost {
    let script = folder + "/plain.sql"
    try Files.write(Array("PRAGMA synchronous=NORMAL;\n\(sql)".utf8), to: script, create: true)
    let null = try Files.null()
    return try costOfChildren {
      let code = try ChildCommand("/usr/bin/sqlite3", [path, ".read \(script)"], output: null.borrowed).start().wait()
      guard code == 0 else { throw BenchProblem("sqlite3: exit code \(code)") }
    }
  }

  /// Transactions of `portion` puts each, `portions` of them; all keys below `prefix`, `keys` different ones. Seconds for each put.
  func put(_ prefix: String, portions: Int, portion: Int, keys: Int) throws -> Double {
    let value = String(decoding: DatastoreBench.value, as: UTF8.self)
    var sql = ""
    for number in 0..<portions {
      sql += "BEGIN IMMEDIATE;UPDATE store SET revision=revision+1;\n"
      for place in 0..<portion {
        let key = "\(prefix)\((number * portion + place) % keys + 1_000_000)"
        sql += "INSERT INTO item SELECT '\(key)','\(value)',revision,revision,NULL FROM store WHERE true "
        sql += "ON CONFLICT (key) DO UPDATE SET value=excluded.value,modified=excluded.modified;\n"
        sql += "INSERT INTO event (revision,key,value,created,lease,at) SELECT revision,'\(key)','\(value)',1,NULL,1 FROM store;\n"
      }
      sql += "COMMIT;\n"
    }
    return try run(sql).wall / Double(portions * portion)
  }
  func list(_ prefix: String) throws -> Cost {
    try run("SELECT key,value,created,modified,lease FROM item WHERE key >= '\(prefix)' AND key < '\(prefix)~' ORDER BY key;\n")
  }
  func history(_ prefix: String) throws -> Cost {
    try run("SELECT key,value,created,revision,lease FROM event WHERE revision > 0 AND key >= '\(prefix)' AND key < '\(prefix)~' ORDER BY revision,place;\n")
  }
}

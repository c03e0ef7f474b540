/// From a choice to a datastore.
public import Datastore
import DatastoreEtcd
import DatastoreSQLite
import Glibc

extension DatastoreChoice {
  /// What this process was told. Daemons leave calicoctl's own file alone.
  public static func ofProcess(option: String?, config: String? = nil, isDaemon: Bool = false) throws(Problem) -> Decision {
    try decide(
      option: option, config: config, standardFile: isDaemon ? nil : CalicoctlFile.standardPath,
      environment: { unsafe getenv($0).map { unsafe String(cString: $0) } })
  }

  /// SQLite's file is opened; if it is missing, that is an error, or with `creating` it is made and told: a mistyped path must not read as
  /// an empty cluster. etcd is not asked yet.
  public func open(creating: Bool = false, made: (_ name: String) -> Void = { _ in }) throws(DatastoreError) -> any Datastore {
    switch self {
    case .sqlite(let path):
      let store = try SQLiteDatastore(path: path, creating: creating)
      if store.isNew { made(store.name) }
      return store
    case .etcd(let configuration): return try EtcdDatastore(configuration)
    }
  }

  /// What is damaged in SQLite's file; empty if all is well, and for etcd, whose members check their own files.
  public func damages() async throws(DatastoreError) -> [String] {
    switch self {
    case .sqlite(let path): try await SQLiteDatastore.damages(path: path)
    case .etcd: []
    }
  }
}

/// From a choice to a datastore.
public import Datastore
import DatastoreEtcd
import DatastoreSQLite
import Glibc

extension DatastoreChoice {
  /// What this process was told.
  public static func ofProcess(option: String?) throws(Problem) -> DatastoreChoice {
    try DatastoreChoice(option: option, environment: { unsafe getenv($0).map { unsafe String(cString: $0) } })
  }

  /// SQLite's file is opened, and made if it is missing; etcd is not asked yet.
  public func open() throws(DatastoreError) -> any Datastore {
    switch self {
    case .sqlite(let path): try SQLiteDatastore(path: path)
    case .etcd(let configuration): try EtcdDatastore(configuration)
    }
  }
}

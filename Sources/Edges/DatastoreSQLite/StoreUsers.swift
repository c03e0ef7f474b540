/// Every handle holds a shared lock on `PATH-users` as long as it is open, and ends it by dying, too. Who changes the schema needs the lock
/// alone: a running program of an earlier version would go on with tables that it does not know.
///
/// A file of its own, because closing any descriptor of the database file ends the locks that SQLite has on it for this process (`fcntl`,
/// record locks): another process could then take itself for the last one, and clear the log away under us. For the same reason the
/// first octets of the file are read only while this process has no handle on it, which is counted here.
import Datastore
import Glibc
import Sockets
import Synchronization

final class StoreUsers: Sendable {
  private let path: String
  private let descriptor: CInt
  private let inode: UInt64
  private let isOver = Mutex(false)
  private static let handles = Mutex<[UInt64: Int]>([:])

  /// Runs `first` if this process has no handle on the file yet. Then waits while somebody changes the schema, until `deadline`.
  init(storePath: String, deadline: MonotonicInstant, first: () throws(DatastoreError) -> Void) throws(DatastoreError) {
    path = storePath + "-users"
    inode = try Self.handles.withLock { (handles) throws(DatastoreError) in
      func inode() -> UInt64 { (try? Files.identity(storePath).inode) ?? 0 }
      if handles[inode(), default: 0] == 0 { try first() }
      let inode = inode()
      handles[inode, default: 0] += 1
      return inode
    }
    descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else {
      let error = StoreFile.error(of: SystemError.last("open \(path)"), storePath)
      Self.leave(inode)
      throw error
    }
    while flock(descriptor, LOCK_SH | LOCK_NB) != 0 {
      guard MonotonicInstant.now < deadline else {
        let error = DatastoreError.unavailable("\(storePath): its schema is being changed by \(Self.list(LockHolders.ofFile(path)))")
        _ = Glibc.close(descriptor)
        Self.leave(inode)
        throw error
      }
      usleep(20_000)
    }
  }
  deinit { end() }

  /// The handle is closed; called again, it does nothing.
  func end() {
    let isFirst = isOver.withLock { isOver in
      defer { isOver = true }
      return !isOver
    }
    guard isFirst else { return }
    _ = Glibc.close(descriptor)
    Self.leave(inode)
  }
  private static func leave(_ inode: UInt64) { handles.withLock { $0[inode, default: 1] -= 1 } }

  /// Runs `body` while no other process has the store open; otherwise throws without having done anything.
  func alone<Result>(_ why: String, _ body: () throws -> Result) throws -> Result {
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      // The attempt gave up the shared lock.
      _ = flock(descriptor, LOCK_SH)
      let own = "(pid \(getpid()))"
      throw DatastoreError.unusable("\(why); stop the programs that have it open: \(Self.list(LockHolders.ofFile(path).filter { !$0.hasSuffix(own) }))")
    }
    defer { _ = flock(descriptor, LOCK_SH) }
    return try body()
  }

  static func list(_ holders: [String]) -> String {
    holders.isEmpty ? "a process that cannot be seen from here" : holders.joined(separator: ", ")
  }
}

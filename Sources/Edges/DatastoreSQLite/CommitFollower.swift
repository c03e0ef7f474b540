/// Follows the commits of other processes: one thread per handle that sleeps in inotify on `PATH-changed`, and wakes each second in case a
/// writer died before it announced its commit.
import Datastore
import Foundation
import Glibc
import Sockets
import Synchronization

/// Sendable by hand: `loop` and `files` are touched by the thread alone once `start` handed them over; the rest is constant or atomic.
final class CommitFollower: @unchecked Sendable {
  private let path: String
  private let changedPath: String
  private let identity: (device: UInt64, inode: UInt64)
  private let loop: EventLoop
  private let mailbox: EventLoop.Mailbox
  private let files: FileWatcher
  private let tickCount = Atomic<Int>(0)

  init(path: String) throws(SystemError) {
    self.path = path
    changedPath = path + "-changed"
    identity = try Files.identity(path)
    loop = try EventLoop()
    mailbox = loop.mailbox
    files = try FileWatcher()
    try files.watch(changedPath, mask: UInt32(IN_MODIFY | IN_ATTRIB))
  }

  var ticks: Int { tickCount.load(ordering: .relaxed) }

  /// Calls `look` on the thread: after an announcement, or with true once per second.
  func start(_ look: @escaping @Sendable (_ isTick: Bool) -> Void) {
    let thread = Thread { [self] in
      do {
        try loop.add(descriptor: files.descriptor.borrowed, interest: .read) { [unowned self] _ in
          _ = files.read()
          look(false)
        }
        tick(look)
        loop.run()
      } catch {
        // Without a place in epoll (no memory) the handle works, but hears of others only when it asks.
      }
    }
    thread.name = "datastore"
    thread.start()
  }
  private func tick(_ look: @escaping @Sendable (_ isTick: Bool) -> Void) {
    loop.schedule(after: .seconds(1)) { [unowned self] in
      tickCount.add(1, ordering: .relaxed)
      // The file may have been removed and made anew: watching a file twice is one watch.
      _ = try? files.watch(changedPath, mask: UInt32(IN_MODIFY | IN_ATTRIB))
      look(true)
      tick(look)
    }
  }
  func stop() { mailbox.stop() }

  /// Tells the other processes. By path each time: somebody may have removed the file.
  func announce() {
    let descriptor = unsafe open(changedPath, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { return }
    let owned = OwnedDescriptor(owning: descriptor)
    var octet: UInt8 = 0x0a
    // A full disk may refuse the octet, but not the time; both are heard.
    if unsafe pwrite(owned.borrowed, &octet, 1, 0) != 1 { _ = futimens(owned.borrowed, nil) }
  }

  func isSameFile() -> Bool {
    guard let present = try? Files.identity(path) else { return false }
    return present == identity
  }
}

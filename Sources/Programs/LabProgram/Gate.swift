/// Lets a synchronous caller wait for what happens on another thread or in a task.
import Glibc
import Synchronization

/// Opens once; whoever waits goes on.
public final class Gate: Sendable {
  private let descriptor: Mutex<[CInt]>
  public init() {
    var ends: [CInt] = [-1, -1]
    precondition(unsafe pipe(&ends) == 0, "a pipe can be made")
    descriptor = Mutex(ends)
  }
  public func open() {
    var byte: UInt8 = 1
    _ = unsafe Glibc.write(descriptor.withLock { $0[1] }, &byte, 1)
  }
  public func wait() {
    var byte: UInt8 = 0
    let reading = descriptor.withLock { $0[0] }
    while unsafe Glibc.read(reading, &byte, 1) < 0, errno == EINTR {}
  }
  deinit { for end in descriptor.withLock({ $0 }) { Glibc.close(end) } }
}

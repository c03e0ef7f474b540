/// Signals for a program without an event loop: a thread that does nothing else waits for them.
import CLinux
import Glibc

public struct SignalWait: Sendable {
  private let descriptor: CInt
  /// From here on the signals no longer end the program. The descriptor stays open: this is for a whole program.
  public init(_ numbers: [CInt]) throws(SystemError) {
    descriptor = try check(unsafe cl_watch_signals(numbers, CInt(numbers.count)), "watch signals")
  }
  /// Waits for the next one and returns its number.
  public func next() -> CInt {
    while true {
      var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      _ = unsafe poll(&ready, 1, -1)
      let number = cl_watched_signal(descriptor)
      if number > 0 { return number }
    }
  }
}

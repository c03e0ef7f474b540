/// One line on a terminal that tells how far something is, once it takes longer than a second. Elsewhere, nothing.
import Glibc
import Sockets
import Synchronization

final class ProgressBar: Sendable {
  private let what: String
  private let isTerminal = isatty(2) == 1
  private let started = MonotonicInstant.now
  private let shown: Mutex<MonotonicInstant?> = Mutex(nil)
  init(_ what: String) { self.what = what }

  func show(_ done: Int, of total: Int) {
    let now = MonotonicInstant.now
    guard isTerminal, total > 0, now - started > .seconds(1) else { return }
    let isDue = shown.withLock { shown in
      if let last = shown, now - last < .milliseconds(100), done < total { return false }
      shown = now
      return true
    }
    guard isDue else { return }
    let filled = min(30, 30 * done / total)
    let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: 30 - filled)
    writeError("\r\(bar) \(100 * done / total) %  \(done) of \(total) \(what)")
  }
  /// Takes the line away.
  func end() {
    if shown.withLock({ $0 }) != nil { writeError("\r\u{1b}[K") }
  }
}

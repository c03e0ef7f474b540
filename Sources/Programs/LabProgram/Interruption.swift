/// Ctrl-C, SIGTERM or a closed terminal while a lab is being made or shown: it is removed, whatever the main thread was doing.
///
/// One thread waits for the signal and takes the lab down. The main thread may be in the middle of making one more thing: it stops for good
/// at its next step, and the removal is repeated until it has stopped and nothing is found any more.
import Glibc
import Sockets
import Synchronization

public enum Interruption {
  private static let hasCome = Atomic<Bool>(false)
  private static let isParked = Atomic<Bool>(false)
  private static let isAwaited = Atomic<Bool>(false)
  /// A step that makes nothing (traffic that waits for answers) need not end before the program may.
  private static let patience: Duration = .milliseconds(1500)

  /// From here on a signal takes the lab down before the program ends with 128 + its number.
  public static func removesLab(_ paths: LabPaths) throws {
    let signals = try SignalWait([SIGINT, SIGTERM, SIGHUP])
    isAwaited.store(true, ordering: .sequentiallyConsistent)
    try DedicatedThread.start {
      let number = signals.next()
      hasCome.store(true, ordering: .sequentiallyConsistent)
      let text = "\ninterrupted: removing lab \(paths.lab)\n"
      try? Files.write(Array(text.utf8), descriptor: 2, name: "standard error")
      let started = MonotonicInstant.now
      while MonotonicInstant.now - started < patience * 4 {
        let found = try? Lab.down(paths)
        if found?.isEmpty == true, isParked.load(ordering: .sequentiallyConsistent) || MonotonicInstant.now - started > patience { break }
        usleep(10_000)
      }
      _exit(128 + number)
    }
  }

  /// Does not return after an interrupt: what fails from then on fails because the lab is being removed, and is no news.
  static func stopHere() {
    while hasCome.load(ordering: .sequentiallyConsistent) {
      isParked.store(true, ordering: .sequentiallyConsistent)
      pause()
    }
  }

  /// For what has just failed: a Ctrl-C of the terminal may have reached the child that failed before it reached the thread that waits for it
  /// here. A failure is rare, so the signal gets a moment to show itself.
  static func stopHereIfItWasTheCause() {
    guard isAwaited.load(ordering: .sequentiallyConsistent) else { return }
    for _ in 0..<30 {
      stopHere()
      usleep(10_000)
    }
  }
}

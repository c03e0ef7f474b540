/// `margay node`: keeps the daemons of one host running as children of one process.
///
/// A Swift trap cannot be caught, so what parses the network's bytes and what holds the policy are separate processes: a crash restarts
/// only the child that crashed. The kernel keeps the last good state meanwhile.
import CLinux
import Glibc
import Logging
public import Sockets

public struct SupervisedChild: Sendable {
  public var name: String
  public var arguments: [String]
  /// Nil: all that the supervisor has.
  public var capabilities: Capabilities?
  public init(name: String, arguments: [String], capabilities: Capabilities? = nil) {
    self.name = name
    self.arguments = arguments
    self.capabilities = capabilities
  }

  /// What each daemon cannot do without.
  public enum Needs {
    /// Routes, links, rules and their sysctls; raw packets; the namespaces of workloads, which the kernel lets only administrators enter;
    /// ports below 1024, where somebody wants metrics there.
    public static let felix: Capabilities = [.netAdmin, .netRaw, .sysAdmin, .netBindService]
    /// Routes, signed connections, sockets of one interface, port 179.
    public static let bgp: Capabilities = [.netAdmin, .netRaw, .netBindService]
    public static let controllers: Capabilities = []
  }
}

/// How long to wait before the next start: doubling from 100 ms to 10 s, and from the beginning again after a minute of good health.
struct RestartPace {
  private(set) var delay: Duration = .milliseconds(100)
  mutating func next(livedFor life: Duration) -> Duration {
    if life > .seconds(60) { delay = .milliseconds(100) }
    defer { delay = min(delay * 2, .seconds(10)) }
    return delay
  }
}

public final class Supervisor {
  private final class Running {
    let child: SupervisedChild
    /// Nil while it is not running.
    var process: ProcessBox?
    var watch: EventLoop.Watch?
    var started: MonotonicInstant = .now
    var pace = RestartPace()
    var restarts = 0
    init(_ child: SupervisedChild) { self.child = child }
  }
  /// A noncopyable child inside a class, so that handlers can share it.
  private final class ProcessBox {
    let process: ChildProcess
    init(_ process: consuming ChildProcess) { self.process = process }
  }

  private let loop: EventLoop
  private let executable: String
  private let log: Logger
  private var children: [Running]
  private var isStopping = false
  private let pidFile: String

  /// `executable` is the path of this program; each child is that program with the child's arguments.
  /// The process ids are kept in `<runDirectory>/node.pids`, a line `name pid` each.
  public init(executable: String, children: [SupervisedChild], runDirectory: String, log: Logger) throws(SystemError) {
    loop = try EventLoop()
    self.executable = executable
    self.children = children.map(Running.init)
    self.log = log
    pidFile = "\(runDirectory)/node.pids"
    try Files.makeDirectories(runDirectory)
  }

  /// What runs beside the children on the supervisor's loop.
  public func beside<Value>(_ make: (EventLoop) throws -> Value) rethrows -> Value { try make(loop) }

  /// Returns after SIGTERM or SIGINT, when every child has ended.
  public func run() throws(SystemError) {
    try loop.onSignal([SIGTERM, SIGINT]) { [unowned self] number in stop(signal: number) }
    for child in children { start(child) }
    loop.run()
    try? Files.remove(pidFile)
  }

  private func start(_ running: Running) {
    running.started = .now
    do {
      // The children follow their supervisor: without it nobody would restart them or take SIGTERM for them.
      var command = ChildCommand(executable, running.child.arguments, deathSignal: SIGTERM)
      command.capabilities = running.child.capabilities
      let process = try command.start()
      let box = ProcessBox(process)
      do {
        running.watch = try loop.add(descriptor: box.process.pidDescriptor.borrowed, interest: .read) { [unowned self, unowned running] _ in
          ended(running)
        }
      } catch {
        // One whose end nobody would hear of must not stay beside its successor.
        try? box.process.signal(SIGKILL)
        _ = try? box.process.wait()
        throw error
      }
      running.process = box
      log.info("started \(running.child.name)", metadata: ["pid": "\(box.process.pid)"])
      writePids()
    } catch {
      log.error("cannot start \(running.child.name): \(error)")
      again(running)
    }
  }

  private func ended(_ running: Running) {
    guard let box = running.process else { return }
    let code: String
    do {
      guard let reaped = try box.process.reap() else { return }
      code = "\(reaped)"
    } catch {
      // Whoever started us ignores SIGCHLD, and the kernel has thrown the code away: the child has ended all the same.
      code = "unknown: \(error)"
    }
    running.watch?.cancel()
    running.process = nil
    writePids()
    if isStopping {
      if children.allSatisfy({ $0.process == nil }) { loop.stop() }
      return
    }
    log.error("\(running.child.name) ended", metadata: ["code": "\(code)", "after": "\(MonotonicInstant.now - running.started)"])
    again(running)
  }

  private func again(_ running: Running) {
    running.restarts += 1
    let delay = running.pace.next(livedFor: .now - running.started)
    loop.schedule(after: delay) { [unowned self, unowned running] in if !isStopping { start(running) } }
  }

  private func stop(signal number: CInt) {
    guard !isStopping else { return }
    isStopping = true
    log.info("stopping", metadata: ["signal": "\(number)"])
    for running in children { try? running.process?.process.signal(SIGTERM) }
    if children.allSatisfy({ $0.process == nil }) {
      loop.stop()
      return
    }
    loop.schedule(after: .seconds(5)) { [unowned self] in
      for running in children where running.process != nil {
        log.error("\(running.child.name) did not end within 5 s of SIGTERM: killing it")
        try? running.process?.process.signal(SIGKILL)
      }
    }
  }

  private func writePids() {
    let lines = ["node \(getpid())"] + children.compactMap { running in running.process.map { "\(running.child.name) \($0.process.pid)" } }
    try? Files.writeAtomically(Array((lines.joined(separator: "\n") + "\n").utf8), to: pidFile)
  }
}

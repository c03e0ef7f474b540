/// A daemon's log on standard error, in a file and in the syslog: each from a level on, changed while it runs.
///
/// Hazards and the answers:
/// - The file is rotated: each line is appended to whatever has the path then, so that neither a signal nor a copy is needed.
/// - The disk is full, the folder is gone, nobody listens to the syslog: that is a problem of the daemon, told like others; what it does goes
///   on, and so do the other places.
/// - Many tasks log at once: a line is one write, and lines do not mix.
import CLinux
import Glibc
public import Logging
import Names
import Sockets
import Synchronization

public final class LogOutput: Sendable {
  private struct State {
    var plan = LogPlan()
    var fileProblem: String?
    var systemProblem: String?
  }
  private let state: Mutex<State>
  /// Asked for each line that may be one.
  private let lowest: Atomic<Int>
  private let program: String
  private let systemPath: String

  /// `program`: what the syslog calls it.
  public init(program: String, _ plan: LogPlan = LogPlan(), systemPath: String = "/dev/log") {
    self.program = program
    self.systemPath = systemPath
    state = Mutex(State(plan: plan))
    lowest = Atomic(Self.rank(plan.lowest))
  }

  public func adopt(_ plan: LogPlan) {
    state.withLock { state in
      if state.plan.file != plan.file { state.fileProblem = nil }
      if state.plan.system != plan.system { state.systemProblem = nil }
      state.plan = plan
    }
    lowest.store(Self.rank(plan.lowest), ordering: .relaxed)
  }
  /// What is not written, and why.
  public var problems: [String] { state.withLock { [$0.fileProblem, $0.plan.wantsSystem ? $0.systemProblem : nil].compactMap { $0 } } }

  public func handler(label: String) -> any LogHandler { Handler(output: self, screen: .standardError(label: label), label: label) }

  private static func rank(_ level: Logger.Level) -> Int { Logger.Level.allCases.firstIndex(of: level)! }
  fileprivate var level: Logger.Level { Logger.Level.allCases[lowest.load(ordering: .relaxed)] }

  fileprivate func write(_ level: Logger.Level, _ line: String, toScreen: () -> Void) {
    let plan = state.withLock { $0.plan }
    if let screen = plan.screen, level >= screen { toScreen() }
    if let file = plan.file, level >= file.level { append(line, to: file.path) }
    if let system = plan.system, level >= system { tellSystem(level, line) }
  }

  private func append(_ line: String, to path: String) {
    let bytes = Array("\(UTCTime.now().text) \(line)\n".utf8)
    var problem: String?
    do throws(SystemError) {
      do throws(SystemError) {
        try Files.append(bytes, to: path)
      } catch {
        guard error.code == ENOENT else { throw error }
        try Files.makeDirectories(Files.parent(of: path))
        try Files.append(bytes, to: path)
      }
    } catch {
      problem = "the log is not written to \(path): \(error)"
    }
    state.withLock { if $0.plan.file?.path == path { $0.fileProblem = problem } }
  }

  /// RFC 3164, section 4.1, as local daemons read it: they add the time and the host themselves.
  private func tellSystem(_ level: Logger.Level, _ line: String) {
    let daemon = 3
    let severity =
      switch level {
      case .trace, .debug: 7
      case .info: 6
      case .notice: 5
      case .warning: 4
      case .error: 3
      case .critical: 2
      }
    let bytes = Array("<\(daemon << 3 | severity)>\(program)[\(getpid())]: \(line)".utf8)
    // Both are borrowed for the call.
    let sent = unsafe cl_unix_datagram(systemPath, bytes, bytes.count)
    let problem = sent < 0 ? "the log is not written to the syslog at \(systemPath): \(SystemError.last("send"))" : nil
    state.withLock { $0.systemProblem = problem }
  }
}

private struct Handler: LogHandler {
  let output: LogOutput
  var screen: StreamLogHandler
  let label: String
  var metadata: Logger.Metadata = [:] { didSet { screen.metadata = metadata } }
  /// Raised or lowered for one logger alone.
  private var own: Logger.Level?
  var logLevel: Logger.Level {
    get { own ?? output.level }
    set { own = newValue }
  }

  init(output: LogOutput, screen: StreamLogHandler, label: String) {
    (self.output, self.screen, self.label) = (output, screen, label)
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(
    level: Logger.Level, message: Logger.Message, metadata extra: Logger.Metadata?, source: String, file: String, function: String, line: UInt
  ) {
    let all = extra.map { metadata.merging($0) { $1 } } ?? metadata
    let pairs = all.sorted { $0.key < $1.key }.map { " \($0.key)=\($0.value)" }.joined()
    output.write(level, "\(level.rawValue) \(label): \(message)\(pairs)") {
      screen.log(level: level, message: message, metadata: extra, source: source, file: file, function: function, line: line)
    }
  }
}

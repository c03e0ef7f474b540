/// Child processes: started with everything said in one place, waited for through a pidfd that the event loop watches.

import CLinux
import Glibc

/// What the kernel lets a process do beyond what its files allow (capabilities(7)), by the kernel's numbers.
public struct Capabilities: OptionSet, Hashable, Sendable {
  public let rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }
  public static let netBindService = Capabilities(rawValue: 1 << 10)
  public static let netAdmin = Capabilities(rawValue: 1 << 12)
  public static let netRaw = Capabilities(rawValue: 1 << 13)
  public static let sysAdmin = Capabilities(rawValue: 1 << 21)
}

/// What to start, and how.
public struct ChildCommand: Sendable {
  public var path: String
  /// Without the name of the program itself.
  public var arguments: [String]
  /// Nil: ours. Otherwise the whole environment, `NAME=value`.
  public var environment: [String]?
  /// Nil is /dev/null.
  public var input: CInt?
  public var output: CInt?
  public var error: CInt?
  /// A descriptor of the network namespace to join first.
  public var networkNamespace: CInt?
  /// Sent to the child when the *thread* that started it ends; start such children from a thread that stays.
  public var deathSignal: CInt
  public var newProcessGroup: Bool
  public var directory: String?
  /// Nil keeps what we have. Otherwise the child has these and can never get others.
  public var capabilities: Capabilities?
  /// Further descriptors the child keeps, under their own numbers (above 2).
  public var inherited: [CInt]

  /// Standard output and error are ours unless said otherwise; input is /dev/null.
  public init(
    _ path: String, _ arguments: [String] = [], environment: [String]? = nil, input: CInt? = nil, output: CInt? = 1, error: CInt? = 2,
    networkNamespace: CInt? = nil, deathSignal: CInt = 0, newProcessGroup: Bool = false, directory: String? = nil, inherited: [CInt] = []
  ) {
    self.path = path
    self.arguments = arguments
    self.environment = environment
    self.input = input
    self.output = output
    self.error = error
    self.networkNamespace = networkNamespace
    self.deathSignal = deathSignal
    self.newProcessGroup = newProcessGroup
    self.directory = directory
    self.inherited = inherited
  }

  /// Returns when the program runs; a path that cannot be executed throws here.
  public func start() throws(SystemError) -> ChildProcess {
    let words = [path] + arguments
    var argumentPointers = unsafe words.map { unsafe strdup($0) } + [nil]
    var environmentPointers = unsafe (environment ?? []).map { unsafe strdup($0) } + [nil]
    defer {
      for unsafe pointer in unsafe argumentPointers { unsafe free(pointer) }
      for unsafe pointer in unsafe environmentPointers { unsafe free(pointer) }
    }
    let pid = unsafe argumentPointers.withUnsafeMutableBufferPointer { argumentList in
      unsafe environmentPointers.withUnsafeMutableBufferPointer { environmentList in
        unsafe cl_spawn(
          path, argumentList.baseAddress, environment == nil ? nil : environmentList.baseAddress, input ?? -1, output ?? -1, error ?? -1,
          networkNamespace ?? -1, deathSignal, newProcessGroup ? 1 : 0, directory, inherited, CInt(inherited.count),
          capabilities == nil ? 0 : 1, capabilities?.rawValue ?? 0)
      }
    }
    try check(pid, "start \(path)")
    return ChildProcess(pid: pid, pidDescriptor: OwnedDescriptor(owning: try check(cl_pidfd_open(pid), "watch process \(pid)")))
  }

  /// Runs to the end and returns its exit code (128 + signal when killed) and what it wrote to standard output and error.
  /// For tests and short commands: the output must fit in memory.
  public func runToEnd() throws(SystemError) -> (code: CInt, output: String) {
    var command = self
    var ends: [CInt] = [-1, -1]
    try check(unsafe cl_pipe(&ends), "make a pipe")
    let reading = OwnedDescriptor(owning: ends[0])
    let child: ChildProcess
    do {
      let writing = OwnedDescriptor(owning: ends[1])
      command.output = writing.borrowed
      command.error = writing.borrowed
      child = try command.start()
      _ = consume writing
    }
    let bytes = try Files.read(descriptor: reading.borrowed, name: "output of \(path)")
    return (try child.wait(), String(decoding: bytes, as: UTF8.self))
  }
}

/// A child that was started. Whoever holds it must reap it once, with `reap()` or `wait()`.
public struct ChildProcess: ~Copyable, Sendable {
  public let pid: Int32
  /// Becomes readable when the child has ended.
  public let pidDescriptor: OwnedDescriptor

  /// The exit code, 128 + signal when killed, nil while it runs.
  public func reap() throws(SystemError) -> CInt? {
    var code: CInt = 0
    let result = try check(unsafe cl_reap(pid, 0, &code), "reap process \(pid)")
    return result == 0 ? nil : code
  }
  public func wait() throws(SystemError) -> CInt {
    var code: CInt = 0
    try check(unsafe cl_reap(pid, 1, &code), "wait for process \(pid)")
    return code
  }
  /// Through the pidfd: never reaches another process that got the same number. A child that has ended is success.
  public func signal(_ number: CInt) throws(SystemError) {
    if cl_pidfd_send_signal(pidDescriptor.borrowed, number) < 0, errno != ESRCH {
      throw SystemError.last("send signal \(number) to process \(pid)")
    }
  }
}

/// Threads for edges that must not run on a pool: they never touch an executor.
public enum DedicatedThread {
  private final class Work: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }
  /// Starts a detached thread with all signals blocked (2 MiB of stack).
  public static func start(_ body: @escaping @Sendable () -> Void) throws(SystemError) {
    let context = unsafe Unmanaged.passRetained(Work(body)).toOpaque()
    let result = unsafe cl_start_thread(
      { context in
        guard let context = unsafe context else { return }
        unsafe Unmanaged<Work>.fromOpaque(context).takeRetainedValue().body()
      }, context)
    if result < 0 {
      unsafe Unmanaged<Work>.fromOpaque(context).release()
      throw SystemError.last("start a thread")
    }
  }
}

/// Fresh network namespaces for tests against the real kernel. Names are unique to this process; everything is removed when the
/// sandbox goes, also when the test threw. Traffic stays inside.

import CLinux
import Glibc
public import NetlinkEdge
import Sockets
import Synchronization

/// One test's corner of the kernel. Its namespaces are visible to `ip netns exec` while it lives.
public final class KernelSandbox: Sendable {
  private struct State {
    var names: [String] = []
  }
  private let state = Mutex(State())
  private let prefix: String

  private static let counter = Atomic<Int>(0)

  /// Namespaces need root; tests that use them are enabled on this.
  public static var isAvailable: Bool { geteuid() == 0 }

  public init() {
    let number = Self.counter.add(1, ordering: .relaxed).newValue
    prefix = "mt\(getpid())-\(number)"
  }
  deinit {
    for name in state.withLock({ $0.names }).reversed() { try? NetworkNamespace.delete(named: name) }
  }

  /// A new namespace with loopback up. `role` becomes part of its name.
  public func namespace(_ role: String = "h") throws -> NetworkNamespace {
    let name = state.withLock { "\(prefix)-\(role)\($0.names.count)" }
    let namespace = try NetworkNamespace.create(named: name)
    state.withLock { $0.names.append(name) }
    try ip(namespace, "link", "set", "lo", "up")
    return namespace
  }

  /// Two ends of a cable, up on both sides.
  public func connect(
    _ a: NetworkNamespace, _ nameA: String, _ addressesA: [String] = [], _ b: NetworkNamespace, _ nameB: String, _ addressesB: [String] = []
  ) throws {
    let holder = "/proc/\(getpid())/fd/\(b.descriptor.borrowed)"
    try ip(a, "link", "add", nameA, "type", "veth", "peer", "name", nameB, "netns", holder)
    for (namespace, name, addresses) in [(a, nameA, addressesA), (b, nameB, addressesB)] {
      for address in addresses {
        try ip(namespace, ["address", "add", address, "dev", name] + (address.contains(":") ? ["nodad"] : []))
      }
      try ip(namespace, "link", "set", name, "up")
    }
  }

  /// The `ip` command inside the namespace: an independent hand and eye, which shares no code with what is tested.
  @discardableResult
  public func ip(_ namespace: NetworkNamespace, _ arguments: String...) throws -> String { try ip(namespace, arguments) }
  @discardableResult
  public func ip(_ namespace: NetworkNamespace, _ arguments: [String]) throws -> String {
    try run(namespace, "ip", arguments)
  }

  /// Any command inside the namespace; throws with its output when its exit code is not 0.
  @discardableResult
  public func run(_ namespace: NetworkNamespace, _ path: String, _ arguments: [String]) throws -> String {
    let result = try tryRun(namespace, path, arguments)
    guard result.code == 0 else {
      throw CommandFailure(command: ([path] + arguments).joined(separator: " "), code: result.code, output: result.output)
    }
    return result.output
  }
  /// Any command inside the namespace, with its exit code and output.
  public func tryRun(_ namespace: NetworkNamespace, _ path: String, _ arguments: [String]) throws -> (code: CInt, output: String) {
    try ChildCommand(path, arguments, networkNamespace: namespace.descriptor.borrowed, newProcessGroup: true).runToEnd()
  }
}

public struct CommandFailure: Error, CustomStringConvertible {
  public let command: String
  public let code: CInt
  public let output: String
  public var description: String { "\(command): exit code \(code): \(output)" }
}

/// Waits for a condition without sleeping blindly: polls it every `step` until the deadline. Returns whether it came true.
public func eventually(
  within limit: Duration = .seconds(5), step: Duration = .milliseconds(2), _ condition: () throws -> Bool
) rethrows -> Bool {
  let deadline = MonotonicInstant.now + limit
  while true {
    if try condition() { return true }
    if MonotonicInstant.now >= deadline { return false }
    usleep(UInt32(step.wholeNanoseconds / 1000))
  }
}

/// A network namespace as a value: made, opened, entered on a thread of its own, deleted.
///
/// Hazard: setns changes the calling thread for good. On a thread of a pool it would send unrelated work into another network, so
/// everything here runs on a fresh thread that ends afterwards. Sockets opened there keep their namespace and may be used anywhere.

import CLinux
import Glibc
public import Sockets

/// Runs `body` on a fresh thread inside the namespace; nil runs it right here.
func inNamespace(_ namespace: CInt?, _ body: () -> Void) throws(SystemError) {
  guard let namespace else { return body() }
  // The thread is joined before cl_run_in_namespace returns, so the closure outlives its use.
  let result = withoutActuallyEscaping(body) { escaping in
    var box = NamespaceWork(body: escaping)
    return unsafe withUnsafeMutablePointer(to: &box) { pointer in
      unsafe cl_run_in_namespace(
        namespace,
        { context in
          guard let context = unsafe context else { return }
          unsafe context.assumingMemoryBound(to: NamespaceWork.self).pointee.body()
        }, UnsafeMutableRawPointer(pointer))
    }
  }
  if result < 0 { throw SystemError.last("enter a network namespace") }
}

private struct NamespaceWork {
  let body: () -> Void
}

public final class NetworkNamespace: Sendable {
  public let descriptor: OwnedDescriptor
  /// How it was opened, for messages: a path, or "current".
  public let name: String

  public init(owning descriptor: consuming OwnedDescriptor, name: String) {
    self.descriptor = descriptor
    self.name = name
  }

  /// Where `ip netns` keeps its names.
  public static let directory = "/run/netns"

  /// The namespace of the calling thread.
  public static func current() throws(SystemError) -> NetworkNamespace { try open(path: "/proc/thread-self/ns/net") }

  /// By the path of a namespace file (`/proc/PID/ns/net`, `/run/netns/NAME`).
  public static func open(path: String) throws(SystemError) -> NetworkNamespace {
    let raw = try unsafe check(Glibc.open(path, O_RDONLY | O_CLOEXEC), "open network namespace \(path)")
    return NetworkNamespace(owning: OwnedDescriptor(owning: raw), name: path)
  }
  public static func open(named name: String) throws(SystemError) -> NetworkNamespace { try open(path: "\(directory)/\(name)") }

  /// A nameless one, which lives as long as its descriptor, a process or a socket in it. Its loopback is down.
  public static func make() throws(SystemError) -> NetworkNamespace {
    let raw = try check(cl_new_network_namespace(), "make a network namespace")
    return NetworkNamespace(owning: OwnedDescriptor(owning: raw), name: "anonymous")
  }

  /// A named one, as `ip netns add` makes it: `ip netns exec NAME` works. Throws EEXIST if the name is taken.
  public static func create(named name: String) throws(SystemError) -> NetworkNamespace {
    try Files.makeDirectories(directory)
    try shareDirectory()
    let path = "\(directory)/\(name)"
    let file = OwnedDescriptor(owning: try unsafe check(Glibc.open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0), "create \(path)"))
    _ = consume file
    do throws(SystemError) {
      let namespace = try make()
      try unsafe check(
        cl_bind_mount("/proc/self/fd/\(namespace.descriptor.borrowed)", path, 0), "mount the network namespace at \(path)")
      return try open(path: path)
    } catch {
      unsafe unlink(path)
      throw error
    }
  }

  /// As `ip netns` does: the directory is a shared mount of its own, so that names deleted here vanish from every mount namespace
  /// and do not keep a namespace alive there.
  private static func shareDirectory() throws(SystemError) {
    if unsafe cl_mount_shared(directory) == 0 { return }
    guard errno == EINVAL else { throw SystemError.last("share \(directory)") }
    try unsafe check(cl_bind_mount(directory, directory, 1), "bind \(directory)")
    try unsafe check(cl_mount_shared(directory), "share \(directory)")
  }

  /// Removes the name; a missing one is success. The namespace goes with the last process and socket in it.
  public static func delete(named name: String) throws(SystemError) {
    let path = "\(directory)/\(name)"
    if unsafe cl_unmount_detached(path) < 0, errno != EINVAL, errno != ENOENT { throw SystemError.last("unmount \(path)") }
    try Files.remove(path)
  }
  /// The names in `/run/netns`.
  public static func names() -> [String] { (try? Files.list(directory)) ?? [] }

  /// Runs `body` inside, on a thread of its own, and returns what it returns or throws what it throws.
  public func run<Value, Failure: Error>(_ body: () throws(Failure) -> Value) throws -> Value {
    var outcome: Result<Value, Failure>?
    try inNamespace(descriptor.borrowed) {
      do throws(Failure) {
        outcome = .success(try body())
      } catch {
        outcome = .failure(error)
      }
    }
    guard let outcome else { preconditionFailure("the body ran: inNamespace throws otherwise") }
    return try outcome.get()
  }

  public func netlink(_ family: NetlinkFamily, groups: [UInt32] = []) throws(NetlinkError) -> NetlinkSocket {
    try NetlinkSocket(family, groups: groups, namespace: descriptor.borrowed)
  }
}

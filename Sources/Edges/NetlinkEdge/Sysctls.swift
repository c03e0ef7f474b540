/// `/proc/sys/net` of a namespace: read first, write only what differs.

import Glibc
public import Sockets
import Synchronization

/// Values are cut of their trailing newline. The thread that calls decides the namespace: use it inside `NetworkNamespace.run`, or in a
/// process that lives in the namespace it means.
public enum Sysctls {
  private static let counter = Atomic<Int>(0)
  /// Changes written by this process so far.
  public static var writes: Int { counter.load(ordering: .relaxed) }

  /// The path of a key written with slashes below net: `ipv4/conf/cali1/proxy_arp`. Interface names may contain dots, hence not the
  /// dotted form.
  public static func path(_ key: String) -> String { "/proc/sys/net/\(key)" }

  public static func read(_ key: String) throws(SystemError) -> String {
    var bytes = try Files.read(path(key))
    while bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
    return String(decoding: bytes, as: UTF8.self)
  }
  public static func write(_ value: String, _ key: String) throws(SystemError) {
    counter.add(1, ordering: .relaxed)
    try Files.write(Array(value.utf8), to: path(key))
  }
  /// Writes only if it differs; returns whether it wrote.
  @discardableResult
  public static func ensure(_ value: String, _ key: String) throws(SystemError) -> Bool {
    if try read(key) == value { return false }
    try write(value, key)
    return true
  }
}

extension NetworkNamespace {
  public func readSysctl(_ key: String) throws -> String {
    try run { () throws(SystemError) in try Sysctls.read(key) }
  }
  @discardableResult
  public func ensureSysctl(_ value: String, _ key: String) throws -> Bool {
    try run { () throws(SystemError) in try Sysctls.ensure(value, key) }
  }
}

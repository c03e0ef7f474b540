/// Who holds a lock on a file, by `/proc/locks`, in words: `margay felix --name host1 (pid 4711)`.
///
/// Asking the kernel by F_GETLK would need a descriptor of the file, and closing any descriptor of a file ends all record locks that this
/// process has on it (POSIX, `fcntl`), those of SQLite among them.
import Sockets

package enum LockHolders {
  /// The octet of `PATH-shm` that a writer holds in write-ahead-log mode (SQLite's WAL-mode file format, section 2.3.1: WAL_WRITE_LOCK).
  static let writeLock: UInt64 = 120

  /// Record locks on `octet` of the file.
  static func ofRecord(_ path: String, octet: UInt64) -> [String] { named(in: (try? Files.readText("/proc/locks")) ?? "", path, "POSIX", octet) }
  /// Locks on the whole file (`flock`), this process left out.
  static func ofFile(_ path: String) -> [String] { named(in: (try? Files.readText("/proc/locks")) ?? "", path, "FLOCK", 0) }

  private static func named(in table: String, _ path: String, _ type: String, _ octet: UInt64) -> [String] {
    guard let inode = try? Files.identity(path).inode else { return [] }
    return processes(in: table, type: type, inode: inode, octet: octet).map { pid in
      let line = (try? Files.read("/proc/\(pid)/cmdline")) ?? []
      var words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
      if let program = words.first { words[0] = String(program[(program.lastIndex(of: "/").map { program.index(after: $0) } ?? program.startIndex)...]) }
      let text = words.joined(separator: " ")
      return "\(text.isEmpty ? "a process" : text.count > 60 ? "\(text.prefix(59))…" : text) (pid \(pid))"
    }
  }

  /// The device of a line is not compared: on an overlay it is another than `stat` tells.
  package static func processes(in table: String, type: String, inode: UInt64, octet: UInt64) -> [Int32] {
    var found: [Int32] = []
    for line in table.split(separator: "\n") {
      // `7: POSIX  ADVISORY  WRITE 4711 00:2d:31137 120 120`; one that waits has `->` behind the number, and holds nothing.
      let words = line.split(separator: " ")
      guard words.count == 8, words[1] == type, let pid = Int32(words[4]), pid > 0 else { continue }
      guard let file = words[5].split(separator: ":").last.flatMap({ UInt64($0) }), file == inode, let start = UInt64(words[6]) else { continue }
      let end = words[7] == "EOF" ? UInt64.max : UInt64(words[7]) ?? 0
      if start <= octet, octet <= end, !found.contains(pid) { found.append(pid) }
    }
    return found
  }
}

/// Files and directories without Foundation. Paths are plain strings; every error names the path.

import CLinux
import Glibc

public enum Files {
  /// The whole content. Works for /proc and /sys, whose sizes are not known before.
  public static func read(_ path: String) throws(SystemError) -> [UInt8] {
    let descriptor = unsafe OwnedDescriptor(owning: try check(open(path, O_RDONLY | O_CLOEXEC), "open \(path)"))
    return try read(descriptor: descriptor.borrowed, name: path)
  }
  public static func readText(_ path: String) throws(SystemError) -> String { String(decoding: try read(path), as: UTF8.self) }

  /// From the current position of a blocking descriptor to its end, or until `max` octets and perhaps some more have come.
  public static func read(descriptor: CInt, name: String, max: Int = .max) throws(SystemError) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      if bytes.count >= max { return bytes }
      let count = unsafe Glibc.read(descriptor, &chunk, chunk.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw SystemError.last("read \(name)")
      }
      if count == 0 { return bytes }
      bytes.append(contentsOf: chunk.prefix(count))
    }
  }

  /// Writes into the file as it stands (sysctls, /proc); creates it if `create`.
  public static func write(_ bytes: [UInt8], to path: String, create: Bool = false, mode: UInt32 = 0o644) throws(SystemError) {
    let flags = O_WRONLY | O_CLOEXEC | (create ? O_CREAT | O_TRUNC : 0)
    let descriptor = unsafe OwnedDescriptor(owning: try check(open(path, flags, mode), "open \(path)"))
    try write(bytes, descriptor: descriptor.borrowed, name: path)
  }
  public static func append(_ bytes: [UInt8], to path: String, mode: UInt32 = 0o644) throws(SystemError) {
    let descriptor = unsafe OwnedDescriptor(owning: try check(open(path, O_WRONLY | O_CLOEXEC | O_CREAT | O_APPEND, mode), "open \(path)"))
    try write(bytes, descriptor: descriptor.borrowed, name: path)
  }
  public static func write(_ bytes: [UInt8], descriptor: CInt, name: String) throws(SystemError) {
    var done = 0
    while done < bytes.count {
      let count = unsafe bytes.withUnsafeBytes { buffer in
        unsafe Glibc.write(descriptor, buffer.baseAddress! + done, buffer.count - done)
      }
      if count < 0 {
        if errno == EINTR { continue }
        throw SystemError.last("write \(name)")
      }
      done += count
    }
  }

  /// A reader sees the old content or the new, never a part: a temporary file in the same directory is renamed over `path`.
  /// With `durable`, both file and directory are synced, so that the new content survives a power cut.
  public static func writeAtomically(_ bytes: [UInt8], to path: String, mode: UInt32 = 0o644, durable: Bool = false) throws(SystemError) {
    let temporary = "\(path).\(getpid())-\(cl_gettid()).new"
    do throws(SystemError) {
      let descriptor = unsafe OwnedDescriptor(
        owning: try check(open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode), "create \(temporary)"))
      // open() masks the mode by the umask.
      try check(fchmod(descriptor.borrowed, mode), "set permissions of \(temporary)")
      try write(bytes, descriptor: descriptor.borrowed, name: temporary)
      if durable { try check(fsync(descriptor.borrowed), "sync \(temporary)") }
      try unsafe check(Glibc.rename(temporary, path), "rename \(temporary) to \(path)")
    } catch {
      unsafe unlink(temporary)
      throw error
    }
    if durable {
      let parent = parent(of: path)
      let directory = unsafe OwnedDescriptor(owning: try check(open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open \(parent)"))
      try check(fsync(directory.borrowed), "sync \(parent)")
    }
  }

  public static func parent(of path: String) -> String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// Like `mkdir -p`.
  public static func makeDirectories(_ path: String, mode: UInt32 = 0o755) throws(SystemError) {
    if isDirectory(path) { return }
    let above = parent(of: path)
    if above != path, above != "." { try makeDirectories(above, mode: mode) }
    if unsafe mkdir(path, mode) < 0 {
      let failure = SystemError.last("make directory \(path)")
      // Another process may have been faster.
      guard failure.isExists, isDirectory(path) else { throw failure }
    }
  }
  public static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }
  public static func isDirectory(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }
  /// The inode number and device: what tells whether a path still names the same file.
  public static func identity(_ path: String) throws(SystemError) -> (device: UInt64, inode: UInt64) {
    var status = stat()
    try check(unsafe stat(path, &status), "look up \(path)")
    return (UInt64(status.st_dev), UInt64(status.st_ino))
  }

  /// When the content last changed, in seconds since 1970.
  public static func modified(_ path: String) throws(SystemError) -> Int64 {
    var status = stat()
    try check(unsafe stat(path, &status), "look up \(path)")
    return Int64(status.st_mtim.tv_sec)
  }

  /// Names in the directory, sorted, without "." and "..".
  public static func list(_ path: String) throws(SystemError) -> [String] {
    guard let directory = unsafe opendir(path) else { throw SystemError.last("list \(path)") }
    defer { unsafe closedir(directory) }
    var names: [String] = []
    while let entry = unsafe readdir(directory) {
      let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }
  /// A missing file is success.
  public static func remove(_ path: String) throws(SystemError) {
    if unsafe unlink(path) < 0, errno != ENOENT { throw SystemError.last("remove \(path)") }
  }
  /// Like `rm -rf`: links are removed, not followed; a missing tree is success.
  public static func removeTree(_ path: String) throws(SystemError) {
    var status = stat()
    if unsafe lstat(path, &status) < 0 {
      if errno == ENOENT { return }
      throw SystemError.last("look up \(path)")
    }
    guard status.st_mode & S_IFMT == S_IFDIR else { return try remove(path) }
    for name in try list(path) { try removeTree("\(path)/\(name)") }
    if unsafe rmdir(path) < 0, errno != ENOENT { throw SystemError.last("remove \(path)") }
  }
  public static func rename(_ from: String, to: String) throws(SystemError) {
    try unsafe check(Glibc.rename(from, to), "rename \(from) to \(to)")
  }
  /// A new empty directory under /tmp (or `parent`), named with `prefix`.
  public static func makeTemporaryDirectory(prefix: String, in parent: String = "/tmp") throws(SystemError) -> String {
    var template = Array("\(parent)/\(prefix)XXXXXX".utf8CString)
    guard unsafe mkdtemp(&template) != nil else { throw SystemError.last("make a temporary directory in \(parent)") }
    return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
  /// Octets from the kernel's random generator.
  public static func random(_ count: Int) -> [UInt8] {
    unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
      var done = 0
      while done < count {
        let got = unsafe cl_random(buffer.baseAddress! + done, count - done)
        if got > 0 { done += got }
      }
      initialized = count
    }
  }
}

/// Tells that watched files changed: the descriptor becomes readable. What changed is for the reader to find out.
public struct FileWatcher: ~Copyable, Sendable {
  public struct Event: Equatable, Sendable {
    /// The number that `watch` returned; -1 when the kernel's queue overflowed: then everything may have changed.
    public let watch: CInt
    public let mask: UInt32
    /// The name inside a watched directory, or "".
    public let name: String
  }
  public let descriptor: OwnedDescriptor
  public init() throws(SystemError) {
    descriptor = OwnedDescriptor(owning: try check(cl_inotify_create(), "create an inotify"))
  }
  /// Attribute changes (touch), writes closed, moves, creations and deletions.
  public static let contentChanges = UInt32(IN_ATTRIB) | UInt32(IN_CLOSE_WRITE) | UInt32(IN_MODIFY) | UInt32(IN_MOVED_TO)
    | UInt32(IN_MOVED_FROM) | UInt32(IN_CREATE) | UInt32(IN_DELETE) | UInt32(IN_DELETE_SELF)
  @discardableResult
  public func watch(_ path: String, mask: UInt32 = FileWatcher.contentChanges) throws(SystemError) -> CInt {
    try unsafe check(cl_inotify_add(descriptor.borrowed, path, mask), "watch \(path)")
  }
  /// Everything that is waiting; never blocks.
  public func read() -> [Event] {
    var events: [Event] = []
    var buffer = [UInt8](repeating: 0, count: 16384)
    while true {
      let count = unsafe Glibc.read(descriptor.borrowed, &buffer, buffer.count)
      if count <= 0 { return events }
      var at = 0
      func word(_ offset: Int) -> UInt32 {
        (0..<4).reduce(0) { $0 | UInt32(buffer[at + offset + $1]) << UInt32(8 * $1) }
      }
      while at + 16 <= count {
        let length = Int(UInt32(littleEndian: word(12)))
        guard at + 16 + length <= count else { break }
        let name = String(decoding: buffer[(at + 16)..<(at + 16 + length)].prefix { $0 != 0 }, as: UTF8.self)
        events.append(Event(watch: CInt(bitPattern: word(0)), mask: word(4), name: name))
        at += 16 + length
      }
    }
  }
}

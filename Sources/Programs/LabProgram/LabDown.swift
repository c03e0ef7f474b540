/// Taking a lab down: politely what still answers, then whatever is left in its namespaces, then the namespaces and files themselves.
///
/// It works from what is there, not from what the lab remembers: a lab that crashed half-way up goes the same way.
import Glibc
import NetlinkEdge
import Sockets

extension Lab {
  public func refuseIfStanding() throws {
    guard !Files.exists(paths.directory), Self.namespaces(of: paths).isEmpty else {
      throw LabProblem(
        "lab \(paths.lab) exists already; remove it with `margay lab down --name \(paths.lab)`, or give this one another --name")
    }
  }

  /// Keeps the daemons' logs of a lab that failed, since its directory goes with it.
  public func saveLogs() {
    let target = "/tmp/margay-lab-\(paths.lab)-logs"
    guard let names = try? Files.list(paths.directory).filter({ $0.hasSuffix(".log") }), !names.isEmpty else { return }
    try? Files.makeDirectories(target)
    for name in names {
      if let bytes = try? Files.read("\(paths.directory)/\(name)") { try? Files.writeAtomically(bytes, to: "\(target)/\(name)") }
    }
    narrator.say("  the daemons' logs are in \(target)")
  }

  /// Removes everything of this lab. Returns what was found, in words.
  @discardableResult
  public static func down(_ paths: LabPaths) throws -> [String] {
    var found: [String] = []
    let namespaces = namespaces(of: paths)
    let processes = processes(inside: namespaces)
    if !processes.isEmpty {
      found.append("\(processes.count) processes")
      end(processes)
    }
    for namespace in namespaces { try NetworkNamespace.delete(named: namespace) }
    if !namespaces.isEmpty { found.append("\(namespaces.count) namespaces") }
    if Files.exists(paths.directory) {
      try Files.removeTree(paths.directory)
      found.append(paths.directory)
    }
    return found
  }

  /// Every process whose network namespace is one of the lab's own; nothing else on the machine lives there.
  private static func processes(inside namespaces: [String]) -> [Int32] {
    var inodes = Set<UInt64>()
    for name in namespaces {
      if let identity = try? Files.identity("\(NetworkNamespace.directory)/\(name)") { inodes.insert(identity.inode) }
    }
    guard !inodes.isEmpty, let entries = try? Files.list("/proc") else { return [] }
    let own = getpid()
    return entries.compactMap { Int32($0) }.filter { pid in
      guard pid != own, let identity = try? Files.identity("/proc/\(pid)/ns/net") else { return false }
      return inodes.contains(identity.inode)
    }
  }

  /// SIGTERM, and SIGKILL for those that are still there after three seconds.
  private static func end(_ pids: [Int32]) {
    for pid in pids { kill(pid, SIGTERM) }
    let deadline = MonotonicInstant.now + .seconds(3)
    var left = pids
    while !left.isEmpty, MonotonicInstant.now < deadline {
      for pid in left { _ = waitpid(pid, nil, WNOHANG) }
      left = left.filter(isRunning)
      if !left.isEmpty { usleep(10_000) }
    }
    for pid in left { kill(pid, SIGKILL) }
    for pid in left { _ = waitpid(pid, nil, 0) }
  }
}

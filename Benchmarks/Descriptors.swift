/// Sockets, pipes and processes as the benches hold them.

import CLinux
import Glibc
import NetlinkEdge
import Sockets

/// A socket of UDP over IPv4 that was opened in a namespace; it stays there whichever thread uses it.
final class HeldSocket: Sendable {
  let socket: Socket
  init(in namespace: NetworkNamespace, _ prepare: (borrowing Socket) throws -> Void) throws {
    let raw = try namespace.run { () throws -> CInt in
      let socket = try Socket.udp(.v4, nonblocking: false)
      try prepare(socket)
      return socket.release().release()
    }
    socket = Socket(owning: OwnedDescriptor(owning: raw))
  }
  func limitWaiting(seconds: Double) throws {
    var limit = timeval(tv_sec: Int(seconds), tv_usec: Int((seconds - seconds.rounded(.down)) * 1e6))
    try check(
      setsockopt(socket.raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size)), "limit the waiting of a socket")
  }
}

final class Pipe: Sendable {
  let reading: OwnedDescriptor
  let writing: OwnedDescriptor
  init() throws {
    var ends: [CInt] = [-1, -1]
    try check(cl_pipe(&ends), "make a pipe")
    reading = OwnedDescriptor(owning: ends[0])
    writing = OwnedDescriptor(owning: ends[1])
  }
}

/// Starts a command without copying this process: after a fork every page that we write is copied first, and the next measure of our own
/// would pay for the peer's start.
enum Spawning {
  static func run(_ words: [String], in namespace: NetworkNamespace) throws {
    let code = try namespace.run { () throws -> CInt in
      var actions = posix_spawn_file_actions_t()
      posix_spawn_file_actions_init(&actions)
      defer { posix_spawn_file_actions_destroy(&actions) }
      posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
      posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0)
      let arguments = words.map { strdup($0) } + [nil]
      let environment = [strdup("PATH=/usr/sbin:/usr/bin:/sbin:/bin"), nil]
      defer { for pointer in arguments + environment { free(pointer) } }
      var pid: pid_t = 0
      let failure = posix_spawnp(&pid, words[0], &actions, nil, arguments, environment)
      guard failure == 0 else { throw SystemError(code: failure, operation: "start \(words[0])") }
      var status: CInt = 0
      while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
      return status
    }
    guard code == 0 else { throw BenchProblem("\(words.joined(separator: " ")): wait status \(code)") }
  }
}

/// Sockets and pipes as the benches hold them.

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

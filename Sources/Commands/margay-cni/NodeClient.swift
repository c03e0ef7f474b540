/// One exchange with the node process, under a deadline.

import CLinux
import CNIMessages
import Glibc
import JSON
import Sockets

struct NodeClient {
  enum Failure: Error {
    /// The node process read the request and refused it.
    case answered(CNIError)
    /// Nobody took the request.
    case undelivered(String)
    /// The node process took it, and did not answer: whether it acted is not known.
    case unanswered(String)
  }

  let request: NodeRequest
  let socketPath: String
  let tombstones: String
  let deadline: MonotonicInstant
  let timeoutSeconds: Int64

  init(_ request: NodeRequest) {
    self.request = request
    let own = request.configuration["margay"]
    func setting(_ member: String, _ variable: String) -> String? {
      if let text = own?[member]?.string, !text.isEmpty { return text }
      return Main.variable(variable).flatMap { $0.isEmpty ? nil : $0 }
    }
    socketPath = setting("socket", "MARGAY_CNI_SOCKET") ?? NodeProtocol.socketDefault
    tombstones = NodeProtocol.tombstones(configured: setting("tombstones", "MARGAY_CNI_TOMBSTONES"), socket: socketPath)
    // A little more than what the node process allows itself, so that its own answer arrives first.
    timeoutSeconds = own?["timeoutSeconds"]?.integer.map { min(max($0, 1), 3600) + 5 } ?? NodeProtocol.timeoutSecondsDefault
    deadline = .now + .seconds(timeoutSeconds)
  }

  /// What the node process answered; nil where the verb prints nothing.
  func exchange(namespace: consuming OwnedDescriptor?) throws(Failure) -> JSONValue? {
    let socket: Socket
    do throws(SystemError) { socket = try connect() } catch { throw .undelivered("\(error)") }
    let octets: [UInt8]
    do throws(SystemError) {
      try send(NodeProtocol.frame(request.json), namespace: namespace, on: socket)
      octets = try receive(on: socket)
    } catch {
      throw .unanswered("\(error)")
    }
    let response: NodeResponse
    do throws(CNIError) {
      guard let json = try NodeProtocol.unframe(octets) else {
        throw CNIError(.nodeProtocol, "the connection ended after \(octets.count) octets")
      }
      response = try NodeResponse(json)
    } catch {
      throw .unanswered("\(error)")
    }
    switch response {
    case .success(let result): return result
    case .failure(let error): throw .answered(error)
    }
  }

  private func connect() throws(SystemError) -> Socket {
    let socket = Socket(owning: OwnedDescriptor(owning: try check(cl_unix_socket(1, 0), "open a unix socket")))
    while unsafe cl_unix_connect(socket.raw, socketPath) < 0 {
      let failure = SystemError.last("connect to \(socketPath)")
      // A full backlog gives EAGAIN at once, and nothing to wait for.
      guard failure.isWouldBlock || failure.code == EINTR, MonotonicInstant.now < deadline else { throw failure }
      usleep(5000)
    }
    return socket
  }

  private func send(_ octets: [UInt8], namespace: consuming OwnedDescriptor?, on socket: borrowing Socket) throws(SystemError) {
    var sent = 0
    if let namespace {
      sent = try socket.send(octets, passing: [namespace.borrowed])
    }
    while sent < octets.count {
      try wait(for: Int16(POLLOUT), on: socket)
      sent += try socket.send(octets, from: sent)
    }
  }

  private func receive(on socket: borrowing Socket) throws(SystemError) -> [UInt8] {
    var octets: [UInt8] = []
    while true {
      try wait(for: Int16(POLLIN), on: socket)
      guard let count = try socket.receive(into: &octets) else { continue }
      if count == 0 || octets.count > NodeProtocol.frameMax + 4 { return octets }
    }
  }

  private func wait(for events: Int16, on socket: borrowing Socket) throws(SystemError) {
    var entry = pollfd(fd: socket.raw, events: events, revents: 0)
    let left = max(0, (deadline.nanoseconds - MonotonicInstant.now.nanoseconds) / 1_000_000)
    let result = unsafe poll(&entry, 1, CInt(clamping: left))
    if result == 0 { throw SystemError(code: ETIMEDOUT, operation: "wait \(timeoutSeconds) s for the node process at \(socketPath)") }
    if result < 0, errno != EINTR { throw SystemError.last("wait for the node process") }
  }

  /// Leaves a DEL of the attachment on disk; synced, because the runtime will not come again.
  func leaveTombstone(because why: String) throws(CNIError) {
    var request = request
    request.call.command = .delete
    request.ipamResult = nil
    do throws(SystemError) {
      try Files.makeDirectories(tombstones, mode: 0o700)
      try Files.writeAtomically(request.json.bytes, to: "\(tombstones)/\(request.tombstoneName)", mode: 0o600, durable: true)
    } catch {
      throw CNIError(
        .tryAgainLater,
        "DEL of \(request.call.containerID): the node process is not reachable (\(why)) and the call could not be kept: \(error)",
        details: "start `margay node`, or make \(tombstones) writable")
    }
  }
}

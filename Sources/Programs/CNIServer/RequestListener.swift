/// The node's end of the unix socket: accepts, asks the kernel who is calling, reads one request with its descriptor, and hands it on.
/// It also watches the directory where plugins leave what they could not deliver. One thread, one event loop.

import CNIMessages
import Glibc
import JSON
import Logging
import NetlinkEdge
import Sockets
import Synchronization

/// A request that waits for its answer. Dropping it closes the connection.
final class PendingRequest: Sendable {
  let request: NodeRequest
  let namespace: NetworkNamespace?
  private let connection: Connection

  init(_ request: NodeRequest, _ namespace: NetworkNamespace?, _ connection: Connection) {
    self.request = request
    self.namespace = namespace
    self.connection = connection
  }
  /// False when the plugin is gone.
  @discardableResult
  func answer(_ response: NodeResponse) -> Bool { connection.send(response) }
}

/// Sendable: the socket's number does not change, and the kernel takes sends from any thread.
final class Connection: Sendable {
  let socket: Socket
  init(_ socket: consuming Socket) { self.socket = socket }

  /// An answer is far smaller than a socket's buffer, so it goes out whole or not at all.
  func send(_ response: NodeResponse) -> Bool {
    let octets = NodeProtocol.frame(response.json)
    return (try? socket.send(octets)) == octets.count
  }
}

/// Sendable: what changes is behind the mutex; the loop stays on its thread.
final class RequestListener: Sendable {
  enum Event: Sendable {
    case request(PendingRequest)
    /// Something appeared in the directory of tombstones, or a retry is due.
    case tombstones
  }

  private struct State {
    var mailbox: EventLoop.Mailbox?
    var stopped = false
  }
  private let state = Mutex(State())
  private let listener: Connection
  private let watcher: WatcherBox
  private let path: String
  private let log: Logger

  private static let connectionsMax = 512
  private static let readTimeout: Duration = .seconds(10)
  static let tombstoneRetry: Duration = .seconds(10)

  private final class WatcherBox: Sendable {
    let watcher: FileWatcher
    init(_ watcher: consuming FileWatcher) { self.watcher = watcher }
  }

  /// Binds the socket and begins to watch; nothing is accepted before `run`.
  init(path: String, tombstones: String, log: Logger) throws(SystemError) {
    self.path = path
    self.log = log
    try Files.makeDirectories(Files.parent(of: path))
    try Files.makeDirectories(tombstones, mode: 0o700)
    let watcher = try FileWatcher()
    try watcher.watch(tombstones, mask: UInt32(IN_MOVED_TO) | UInt32(IN_CLOSE_WRITE))
    self.watcher = WatcherBox(watcher)
    listener = Connection(try Socket.listening(atUnix: path))
  }

  /// Blocks until `stop`; call on a thread of its own. The socket file is removed at the end.
  func run(_ deliver: @escaping @Sendable (Event) -> Void) throws {
    defer { try? Files.remove(path) }
    let loop = try EventLoop()
    defer { loop.clear() }
    let mailbox = loop.mailbox
    let isStopped = state.withLock { state in
      state.mailbox = mailbox
      return state.stopped
    }
    if isStopped { return }
    let readers = Readers()
    // The loop holds what it calls, so nothing of that may hold the loop: it would never be let go, nor what it watches.
    try loop.add(descriptor: listener.socket.raw, interest: .read) { [self, unowned loop] _ in
      while readers.count < Self.connectionsMax, let connection = accept() { read(connection, loop, readers, deliver) }
    }
    try loop.add(descriptor: watcher.watcher.descriptor.borrowed, interest: .read) { [self] _ in
      if !watcher.watcher.read().isEmpty { deliver(.tombstones) }
    }
    Self.lookAgain(loop, deliver)
    loop.run()
  }

  private static func lookAgain(_ loop: EventLoop, _ deliver: @escaping @Sendable (Event) -> Void) {
    deliver(.tombstones)
    loop.schedule(after: tombstoneRetry) { [unowned loop] in lookAgain(loop, deliver) }
  }

  /// From any thread.
  func stop() {
    state.withLock { state in
      state.stopped = true
      return state.mailbox
    }?.stop()
  }

  private func accept() -> Connection? {
    do throws(SystemError) {
      guard let accepted = try listener.socket.accept() else { return nil }
      return Connection(accepted.take())
    } catch {
      // Out of descriptors, most likely: what waits stays in the backlog, and the loop comes again.
      log.error("\(error)")
      return nil
    }
  }

  /// Why the kernel's word on the caller forbids to serve it.
  private func refusal(_ connection: Connection) -> CNIError? {
    guard let caller = try? connection.socket.peerCredentials() else { return CNIError(.nodeProtocol, "the caller is unknown") }
    if caller.user == 0 || caller.user == geteuid() { return nil }
    log.warning("CNI: refused user \(caller.user), process \(caller.process)")
    return CNIError(.nodeProtocol, "user \(caller.user) may not ask for networks", details: "run the plugin as root")
  }

  /// Lives on the loop's thread.
  private final class Readers {
    var count = 0
  }
  private final class Reader {
    var octets: [UInt8] = []
    var namespace: NetworkNamespace?
    var watch: EventLoop.Watch?
    var timer: EventLoop.TimerHandle?
    func end() {
      watch?.cancel()
      watch = nil
      timer?.cancel()
      timer = nil
    }
  }

  private func read(_ connection: Connection, _ loop: EventLoop, _ readers: Readers, _ deliver: @escaping @Sendable (Event) -> Void) {
    let reader = Reader()
    let refusal = refusal(connection)
    readers.count += 1
    func end() {
      reader.end()
      readers.count -= 1
    }
    reader.timer = loop.schedule(after: Self.readTimeout) {
      _ = connection.send(.failure(CNIError(.nodeProtocol, "no whole request within \(Self.readTimeout)")))
      end()
    }
    reader.watch = try? loop.add(descriptor: connection.socket.raw, interest: .read) { _ in
      do throws(CNIError) {
        do throws(SystemError) {
          let count = try connection.socket.receive(into: &reader.octets) { descriptor in
            reader.namespace = NetworkNamespace(owning: descriptor, name: "of the container")
          }
          guard let count else { return }
          if count == 0 { return end() }
        } catch {
          return end()
        }
        // Only now: closing with the request unread would reset the connection, and the caller would not see why.
        if let refusal { throw refusal }
        guard let json = try NodeProtocol.unframe(reader.octets) else { return }
        let request = try NodeRequest(json)
        end()
        deliver(.request(PendingRequest(request, reader.namespace, connection)))
      } catch {
        _ = connection.send(.failure(error))
        end()
      }
    }
    if reader.watch == nil { end() }
  }
}

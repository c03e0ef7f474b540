/// A daemon's status for whoever asks on the same machine: connect, read one document to its end.
///
/// The document is made when somebody connects, on the loop's thread, so it is one consistent picture. A slow reader gets what fits into
/// the socket's buffer at once and the rest as it reads; it cannot hold the daemon up.
import Glibc

public final class StatusSocket {
  private let path: String
  private let listener: Socket
  private var watch: EventLoop.Watch?
  private var pending: [CInt: Pending] = [:]
  private let loop: EventLoop
  private let document: () -> [UInt8]

  private final class Pending {
    let socket: Socket
    let octets: [UInt8]
    var sent = 0
    var watch: EventLoop.Watch?
    init(_ socket: consuming Socket, _ octets: [UInt8]) {
      self.socket = socket
      self.octets = octets
    }
  }

  /// Serves `document` at `path` on `loop`, until `close()`. Readable by all: nothing in it is secret, and status without root is wanted.
  public init(path: String, loop: EventLoop, document: @escaping () -> [UInt8]) throws(SystemError) {
    self.path = path
    self.loop = loop
    self.document = document
    listener = try Socket.listening(atUnix: path, mode: 0o666)
    watch = try loop.add(descriptor: listener.raw, interest: .read) { [unowned self] _ in accept() }
  }

  private func accept() {
    while let accepted = try? listener.accept() {
      let asker = Pending(accepted.take(), document())
      let number = asker.socket.raw
      pending[number] = asker
      asker.watch = try? loop.add(descriptor: number, interest: .write) { [unowned self] interest in
        guard let asker = pending[number] else { return }
        do {
          if interest.contains(.write) { asker.sent += try asker.socket.send(asker.octets, from: asker.sent) }
          if asker.sent == asker.octets.count || interest.contains(.hangup) { end(number) }
        } catch {
          end(number)
        }
      }
      if asker.watch == nil { pending[number] = nil }
    }
  }

  private func end(_ number: CInt) {
    pending[number]?.watch?.cancel()
    pending[number] = nil
  }

  public func close() {
    watch?.cancel()
    for number in pending.keys { end(number) }
    try? Files.remove(path)
  }
}

/// Flow records for whoever listens on this machine: those kept, a line `{"recent":N}`, then each new one as it comes; a JSON line each.
///
/// Who speaks to whom is not for everybody: only root may connect. A reader that does not read is dropped once a megabyte waits for it.
import JSON
import Sockets

final class FlowSocket {
  static let waitingMax = 1 << 20
  static let readersMax = 16

  private final class Reader {
    let socket: Socket
    var waiting: [UInt8] = []
    var sent = 0
    var watch: EventLoop.Watch?
    init(_ socket: consuming Socket) { self.socket = socket }
  }
  private let path: String
  private let listener: Socket
  private let loop: EventLoop
  private let flows: FlowLog
  private var watch: EventLoop.Watch?
  private var readers: [ObjectIdentifier: Reader] = [:]

  init(path: String, loop: EventLoop, flows: FlowLog) throws(SystemError) {
    self.path = path
    self.loop = loop
    self.flows = flows
    listener = try Socket.listening(atUnix: path, mode: 0o600)
    watch = try loop.add(descriptor: listener.raw, interest: .read) { [weak self] _ in self?.accept() }
    flows.onRecords = { [weak self] in self?.tell($0) }
  }

  private func accept() {
    for _ in 0..<16 {
      guard let accepted = try? listener.accept() else { return }
      guard readers.count < Self.readersMax else { continue }
      let reader = Reader(accepted.take())
      readers[ObjectIdentifier(reader)] = reader
      let kept = flows.records
      flows.tellAllowed(listening: true)
      reader.waiting = Self.lines(kept) + Array("{\"recent\":\(kept.count)}\n".utf8)
      send(reader)
    }
  }

  private func tell(_ records: [FlowRecord]) {
    guard !readers.isEmpty else { return }
    let lines = Self.lines(records)
    for reader in Array(readers.values) {
      reader.waiting += lines
      if reader.waiting.count - reader.sent > Self.waitingMax { end(reader) } else { send(reader) }
    }
  }

  private static func lines(_ records: [FlowRecord]) -> [UInt8] {
    records.flatMap { $0.document.bytes(pretty: false) + [UInt8(ascii: "\n")] }
  }

  private func send(_ reader: Reader) {
    while reader.sent < reader.waiting.count {
      guard let count = try? reader.socket.send(reader.waiting, from: reader.sent) else { return end(reader) }
      if count == 0 { break }
      reader.sent += count
    }
    if reader.sent == reader.waiting.count { (reader.waiting, reader.sent) = ([], 0) }
    // Nothing is asked of us any more: something to read is the end.
    let interest: Interest = reader.waiting.isEmpty ? .read : [.read, .write]
    if let watch = reader.watch { return watch.modify(interest) }
    reader.watch = try? loop.add(descriptor: reader.socket.raw, interest: interest) { [weak self, weak reader] _ in
      guard let self, let reader else { return }
      if Self.hasEnded(reader.socket) { end(reader) } else { send(reader) }
    }
  }

  private static func hasEnded(_ socket: borrowing Socket) -> Bool {
    var octets: [UInt8] = []
    do throws(SystemError) {
      return try socket.receive(into: &octets, limit: 512) == 0
    } catch {
      return true
    }
  }

  private func end(_ reader: Reader) {
    reader.watch?.cancel()
    readers[ObjectIdentifier(reader)] = nil
    flows.tellAllowed(listening: !readers.isEmpty)
  }

  func close() {
    watch?.cancel()
    watch = nil
    for reader in Array(readers.values) { end(reader) }
    try? Files.remove(path)
  }
}

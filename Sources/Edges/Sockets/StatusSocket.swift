import CLinux

/// A daemon's status for whoever asks on the same machine: connect, read one document to its end.
///
/// The document is made when somebody connects, on the loop's thread, so it is one consistent picture. A slow reader gets what fits into
/// the socket's buffer at once and the rest as it reads; it cannot hold the daemon up, and one that does not read is dropped.
///
/// Everybody on the machine may ask, so asking has bounds: making documents takes at most a tenth of the daemon's time, since whoever asks
/// sooner gets the one just made; and of many who do not read, the longest waiting is dropped.
public final class StatusSocket {
  /// How long a reader may take for the whole document.
  public static let patience: Duration = .seconds(5)
  /// So many may read slowly at once.
  public static let readersMax = 32

  private let path: String
  private let listener: Socket
  private var watch: EventLoop.Watch?
  private var readers: [ObjectIdentifier: Reader] = [:]
  private let loop: EventLoop
  private let make: () -> [UInt8]
  private var latest: (octets: [UInt8], until: Int64)?
  /// Slow readers in the order in which they came.
  private var order: [ObjectIdentifier] = []

  private final class Reader {
    let socket: Socket
    let octets: [UInt8]
    var sent = 0
    var watch: EventLoop.Watch?
    var timer: EventLoop.TimerHandle?
    init(_ socket: consuming Socket, _ octets: [UInt8]) {
      self.socket = socket
      self.octets = octets
    }
    /// False when there is nothing more to do: all is written, or the reader has gone.
    func write() -> Bool {
      while sent < octets.count {
        guard let count = try? socket.send(octets, from: sent) else { return false }
        if count == 0 { return true }
        sent += count
      }
      return false
    }
  }

  /// Serves `document` at `path` on `loop`, until `close()`. Everybody on the machine may read it (mode 0666): nothing in a status is
  /// secret, and asking for it should not take root.
  public init(path: String, loop: EventLoop, document: @escaping () -> [UInt8]) throws(SystemError) {
    self.path = path
    self.loop = loop
    make = document
    listener = try Socket.listening(atUnix: path, mode: 0o666)
    watch = try loop.add(descriptor: listener.raw, interest: .read) { [weak self] _ in self?.accept() }
  }

  /// Bounded: many who ask must not hold the daemon up. Whoever is left is served in the loop's next round.
  private func accept() {
    for _ in 0..<16 {
      guard watch != nil, let accepted = try? listener.accept() else { return }
      serve(Reader(accepted.take(), document()))
    }
  }

  /// The latest one is good for ten times as long as it took to make.
  private func document() -> [UInt8] {
    let begin = cl_monotonic_nanoseconds()
    if let latest, begin < latest.until { return latest.octets }
    let octets = make()
    let end = cl_monotonic_nanoseconds()
    latest = (octets, end + 9 * (end - begin))
    return octets
  }

  private func serve(_ reader: Reader) {
    guard reader.write() else { return }
    if readers.count >= Self.readersMax, let oldest = order.first { end(oldest) }
    let key = ObjectIdentifier(reader)
    readers[key] = reader
    order.append(key)
    do throws(SystemError) {
      reader.watch = try loop.add(descriptor: reader.socket.raw, interest: .write) { [weak self, weak reader] _ in
        if reader?.write() != true { self?.end(key) }
      }
    } catch {
      return end(key)
    }
    reader.timer = loop.schedule(after: Self.patience) { [weak self] in self?.end(key) }
  }

  private func end(_ key: ObjectIdentifier) {
    guard let reader = readers.removeValue(forKey: key) else { return }
    order.removeAll { $0 == key }
    reader.watch?.cancel()
    reader.timer?.cancel()
  }

  public func close() {
    watch?.cancel()
    watch = nil
    for key in Array(readers.keys) { end(key) }
    try? Files.remove(path)
  }
}

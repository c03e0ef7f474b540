/// One TCP connection to a BGP speaker: octets become messages on the way in, and on the way out shared buffers are written in large
/// pieces. It knows nothing of sessions: who owns it says how to decode, and hears what happened.
///
/// Hazards and the answers:
/// - A handler closes the connection while its messages are being handed out: handing out stops at once.
/// - A peer that does not read: octets wait in the queue, by reference to the buffers that all peers of a group share; `queuedCount`
///   tells how many, `blockedSince` for how long nothing has moved. The owner decides when that is too much.
/// - The last words: `closeWhenSent` lets a NOTIFICATION out, but waits no longer than `lingerMax` for the peer to take it.

public import Addresses
public import BGPMessages
public import Sockets

/// What the socket of a session needs besides addresses.
public struct ConnectionOptions: Hashable, Sendable {
  /// RFC 2385; nil for none. At most 80 octets.
  public var md5Key: [UInt8]?
  /// RFC 5082: the peer is at most so many hops away; nil turns the check off.
  public var ttlSecurityHops: UInt8?
  public init(md5Key: [UInt8]? = nil, ttlSecurityHops: UInt8? = nil) {
    self.md5Key = md5Key
    self.ttlSecurityHops = ttlSecurityHops
  }

  /// To be called before connecting, and on an accepted socket.
  func apply(to socket: borrowing Socket, peer: IPAddress) throws(SystemError) {
    if let md5Key { try socket.setMD5(key: md5Key, peer: peer) }
    if let hops = ttlSecurityHops {
      try socket.setTimeToLive(255, peer.family)
      try socket.setTimeToLiveMin(UInt8(clamping: 256 - max(1, Int(hops))), peer.family)
    }
    try socket.setNoDelay()
    // RFC 4271, appendix E: routing has precedence; CS6.
    try socket.setTrafficClass(0xc0, peer.family)
  }
}

public final class BGPConnection {
  /// How its owner hears of it. All run on the loop's thread.
  public struct Handlers {
    /// Asked before each message, since an OPEN changes the answer.
    public var options: () -> DecodeOptions
    public var message: (_ message: Message, _ octets: Int) -> Void
    /// The octets cannot be read; nothing more will come.
    public var failure: (MessageFailure) -> Void
    /// The peer or the network ended it. Not called after `close`.
    public var closed: (String) -> Void
    public init(
      options: @escaping () -> DecodeOptions, message: @escaping (Message, Int) -> Void, failure: @escaping (MessageFailure) -> Void,
      closed: @escaping (String) -> Void
    ) {
      self.options = options
      self.message = message
      self.failure = failure
      self.closed = closed
    }
  }

  public let local: SocketAddress
  public let peer: SocketAddress
  public private(set) var isOpen = true
  /// Octets accepted by `send` and not yet by the kernel.
  public private(set) var queuedCount = 0
  /// Since when the kernel has taken nothing of what is queued; nil while everything flows.
  public private(set) var blockedSince: MonotonicInstant?

  static let lingerMax: Duration = .seconds(3)
  private static let pieceMax = 256 << 10

  private struct Chunk {
    let octets: [UInt8]
    var range: Range<Int>
  }
  private let loop: EventLoop
  private var holder: SocketHolder?
  private var watch: EventLoop.Watch?
  private var handlers: Handlers?
  private var framer = MessageFramer()
  private var input: [UInt8] = []
  private var chunks: [Chunk] = []
  private var head = 0
  /// What is being written, and how far.
  private var piece: [UInt8] = []
  private var written = 0
  private var isBlocked = false
  private var isReadable = true
  private var closing: EventLoop.TimerHandle?

  /// Takes a connected socket. Nothing is read before `start`.
  public convenience init(loop: EventLoop, socket: consuming Socket) throws(SystemError) {
    try self.init(loop: loop, socket: SocketHolder(socket))
  }

  init(loop: EventLoop, socket holder: SocketHolder) throws(SystemError) {
    self.loop = loop
    let here = try holder.socket.localAddress()
    let there = try holder.socket.peerAddress()
    guard let here, let there else { throw SystemError(code: 107, operation: "name the ends of a connection") }
    local = here
    peer = there
    self.holder = holder
  }

  /// For an accepted socket, which does not know yet whose it is.
  public func apply(_ options: ConnectionOptions) throws(SystemError) {
    if let holder { try options.apply(to: holder.socket, peer: peer.address) }
  }

  public func start(_ handlers: Handlers) throws(SystemError) {
    self.handlers = handlers
    guard let holder else { return }
    watch = try loop.add(descriptor: holder.socket.raw, interest: .read) { [weak self] interest in
      guard let self else { return }
      if interest.contains(.write) { self.write() }
      if interest.contains(.read) || interest.contains(.hangup) { self.read() }
    }
  }

  // MARK: Reading

  private func read() {
    guard isOpen, let holder else { return }
    // Bounded, so that one busy peer does not starve the others and their timers.
    for _ in 0..<16 {
      input.removeAll(keepingCapacity: true)
      do throws(SystemError) {
        guard let count = try holder.socket.receive(into: &input) else { return }
        if count == 0 { return end("the peer closed the connection") }
      } catch {
        return end("\(error)")
      }
      if isReadable {
        framer.append(input)
        deliver()
      }
      guard isOpen, input.count == 65536 else { return }
    }
  }

  private func deliver() {
    while isOpen, isReadable, let handlers {
      do throws(MessageFailure) {
        let before = framer.pendingCount
        guard let message = try framer.next(options: handlers.options()) else { return }
        handlers.message(message, before - framer.pendingCount)
      } catch {
        isReadable = false
        handlers.failure(error)
      }
    }
  }

  private func end(_ reason: String) {
    guard isOpen else { return }
    let handlers = self.handlers
    close()
    handlers?.closed(reason)
  }

  // MARK: Writing

  public func send(_ octets: [UInt8]) { send(octets, octets.indices) }

  /// Queues a part of a buffer that others may share.
  public func send(_ octets: [UInt8], _ range: Range<Int>) {
    guard isOpen, closing == nil, !range.isEmpty else { return }
    chunks.append(Chunk(octets: octets, range: range))
    queuedCount += range.count
    if !isBlocked { write() }
  }

  private func write() {
    guard isOpen, let holder else { return }
    isBlocked = false
    while true {
      if written == piece.count {
        piece.removeAll(keepingCapacity: piece.capacity <= Self.pieceMax)
        written = 0
        while head < chunks.count, piece.count < Self.pieceMax {
          let part = chunks[head].range.prefix(Self.pieceMax - piece.count)
          piece.append(contentsOf: chunks[head].octets[part])
          if part.count == chunks[head].range.count {
            head += 1
          } else {
            chunks[head].range = part.upperBound..<chunks[head].range.upperBound
          }
        }
        if head == chunks.count {
          chunks.removeAll(keepingCapacity: true)
          head = 0
        } else if head > 64 {
          chunks.removeFirst(head)
          head = 0
        }
        if piece.isEmpty { break }
      }
      do throws(SystemError) {
        let count = try holder.socket.send(piece, from: written)
        if count == 0 {
          isBlocked = true
          if blockedSince == nil { blockedSince = .now }
          break
        }
        blockedSince = nil
        written += count
        queuedCount -= count
      } catch {
        // Reading may still find a NOTIFICATION that tells the reason.
        if closing == nil { read() }
        return closing == nil ? end("\(error)") : close()
      }
    }
    if closing != nil, queuedCount == 0 { holder.socket.shutdownWriting() }
    updateInterest()
  }

  private func updateInterest() {
    watch?.modify(isBlocked ? [.read, .write] : .read)
  }

  // MARK: Ending

  /// At once; what is queued is lost.
  public func close() {
    guard isOpen else { return }
    isOpen = false
    closing?.cancel()
    watch?.cancel()
    watch = nil
    handlers = nil
    chunks = []
    piece = []
    queuedCount = 0
    holder = nil
  }

  /// Once everything queued is with the kernel; nobody is told. What still comes is read and thrown away: closing a socket with unread
  /// octets resets the connection, and the peer could lose our last words.
  public func closeWhenSent() {
    guard isOpen, closing == nil else { return }
    handlers = nil
    isReadable = false
    // The timer keeps the connection alive until then.
    closing = loop.schedule(after: Self.lingerMax) { self.close() }
    if queuedCount == 0 { holder?.socket.shutdownWriting() }
  }
}

/// A socket in a place that needs a copyable value; letting go of it closes the socket.
final class SocketHolder {
  let socket: Socket
  init(_ socket: consuming Socket) { self.socket = socket }
}

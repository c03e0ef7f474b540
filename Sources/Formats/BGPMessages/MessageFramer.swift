/// Cuts the octet stream of a connection into messages (RFC 4271, section 6.1).

/// Holds what was received and not yet decoded. Messages are decoded where they lie; octets move only when the buffer is compacted.
public struct MessageFramer: Sendable {
  private var buffer: [UInt8] = []
  /// Where the next message begins in `buffer`.
  private var start = 0
  /// Octets of the message that `next` gave last.
  public private(set) var lastLength = 0

  public init() { buffer.reserveCapacity(MessageLength.standardMax) }

  public var isEmpty: Bool { start == buffer.count }
  /// Octets that wait for the rest of their message or for `next`.
  public var pendingCount: Int { buffer.count - start }

  public mutating func append(_ octets: Span<UInt8>) {
    makeRoom()
    unsafe octets.withUnsafeBufferPointer { unsafe buffer.append(contentsOf: $0) }
  }
  public mutating func append(_ octets: some Collection<UInt8>) {
    makeRoom()
    buffer.append(contentsOf: octets)
  }
  private mutating func makeRoom() {
    if start == buffer.count {
      buffer.removeAll(keepingCapacity: true)
      start = 0
    } else if start > 32768 || start > buffer.count / 2 {
      buffer.removeFirst(start)
      start = 0
    }
  }

  /// The next message, or nil until more octets are there. Options are asked for each message because an OPEN changes them.
  ///
  /// A failure names the NOTIFICATION to send; nothing after it can be read, since a session ends with it. The header is judged as soon as
  /// it is there, so that a wrong length does not make us wait for octets that will not come.
  public mutating func next(options: DecodeOptions) throws(MessageFailure) -> Message? {
    guard let (type, length) = try header(limit: options.messageLengthMax), pendingCount >= length else { return nil }
    let range = (start + MessageLength.header)..<(start + length)
    start += length
    lastLength = length
    return try Message.decode(type, buffer.span, range, options: options)
  }

  private func header(limit: Int) throws(MessageFailure) -> (MessageType, Int)? {
    guard pendingCount >= MessageLength.header else { return nil }
    for index in start..<(start + 16) where buffer[index] != 0xff {
      throw MessageFailure(.connectionNotSynchronized, "the marker is not all ones")
    }
    let field = UInt16(buffer[start + 16]) << 8 | UInt16(buffer[start + 17])
    let length = Int(field)
    // The general bounds come first, then the type, then the bounds of the type (RFC 4271, section 6.1).
    guard length >= MessageLength.header, length <= limit else {
      throw MessageFailure(.badMessageLength(field), "a message of \(length) octets")
    }
    guard let type = MessageType(rawValue: buffer[start + 18]) else {
      throw MessageFailure(.badMessageType(buffer[start + 18]), "message type \(buffer[start + 18])")
    }
    // RFC 8654, section 4: OPEN and KEEPALIVE are never extended.
    let isRight = type == .keepalive ? length == type.lengthMin
      : length >= type.lengthMin && (type != .open || length <= MessageLength.standardMax)
    guard isRight else { throw MessageFailure(.badMessageLength(field), "\(type) of \(length) octets") }
    return (type, length)
  }
}

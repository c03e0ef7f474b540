/// gRPC over HTTP/2, as far as a client of etcd needs it: messages with a prefix of five octets, a status in the trailers.
/// (Source: "gRPC over HTTP2", the protocol description of the gRPC project.)
import NIOCore
import NIOHPACK

/// How a call ended. Codes are those of gRPC; only the ones with a meaning here have names.
struct GRPCStatus: Hashable, Sendable, Error {
  var code: Int
  var message: String
  static let ok = 0
  static let unknown = 2
  static let invalidArgument = 3
  static let deadlineExceeded = 4
  static let notFound = 5
  static let permissionDenied = 7
  static let resourceExhausted = 8
  static let failedPrecondition = 9
  static let outOfRange = 11
  static let unavailable = 14
  static let unauthenticated = 16

  /// Nil if these headers carry no status: they are not the last ones.
  init?(headers: HPACKHeaders) {
    guard let text = headers.first(name: "grpc-status"), let code = Int(text) else { return nil }
    self.code = code
    message = Self.decoded(headers.first(name: "grpc-message") ?? "")
  }
  init(code: Int, message: String) {
    self.code = code
    self.message = message
  }

  /// Messages are percent-encoded.
  static func decoded(_ text: String) -> String {
    var octets: [UInt8] = []
    let input = Array(text.utf8)
    var index = 0
    while index < input.count {
      if input[index] == UInt8(ascii: "%"), index + 2 < input.count, let high = hex(input[index + 1]), let low = hex(input[index + 2]) {
        octets.append(high << 4 | low)
        index += 3
      } else {
        octets.append(input[index])
        index += 1
      }
    }
    return String(decoding: octets, as: UTF8.self)
  }
  private static func hex(_ octet: UInt8) -> UInt8? {
    switch octet {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): octet - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): octet - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): octet - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}

enum GRPCFraming {
  static func framed(_ message: [UInt8], _ allocator: ByteBufferAllocator) -> ByteBuffer {
    var buffer = allocator.buffer(capacity: message.count + 5)
    buffer.writeInteger(UInt8(0))
    buffer.writeInteger(UInt32(message.count))
    buffer.writeBytes(message)
    return buffer
  }
}

/// Cuts what arrives into messages.
struct GRPCDeframer {
  struct Fault: Error {
    var description: String
    /// Set if the message is larger than allowed.
    var size: Int?
  }
  /// A longer message is refused before it is gathered.
  let messageMax: Int
  private var buffer = ByteBuffer()

  init(messageMax: Int) { self.messageMax = messageMax }

  mutating func append(_ piece: inout ByteBuffer) {
    if buffer.readableBytes == 0 {
      buffer = piece
    } else {
      if buffer.readerIndex > 1 << 16 { buffer.discardReadBytes() }
      buffer.writeBuffer(&piece)
    }
  }
  var isEmpty: Bool { buffer.readableBytes == 0 }

  mutating func next() throws(Fault) -> [UInt8]? {
    guard let compressed = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self),
      let length = buffer.getInteger(at: buffer.readerIndex + 1, as: UInt32.self)
    else { return nil }
    guard compressed == 0 else { throw Fault(description: "a compressed message, which was not asked for") }
    guard length <= messageMax else { throw Fault(description: "a message of \(length) octets", size: Int(length)) }
    guard buffer.readableBytes >= 5 + Int(length) else {
      // One growth instead of many while a large message arrives.
      buffer.reserveCapacity(5 + Int(length))
      return nil
    }
    buffer.moveReaderIndex(forwardBy: 5)
    guard let message = buffer.readBytes(length: Int(length)) else { return nil }
    if buffer.readableBytes == 0 { buffer = ByteBuffer() }
    return message
  }
}

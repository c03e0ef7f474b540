/// One question, one answer: a stream that sends a message, and takes a message and a status.
import EtcdMessages
import NIOCore
import NIOHPACK
import NIOHTTP2

/// Why a call brought no answer; the cases are what the caller may do next.
enum CallFailure: Error {
  /// It never reached the server's code, and may be repeated whatever it was.
  case notSent(String)
  /// Nobody knows whether it was carried out.
  case broken(String)
  /// The server's answer is a refusal.
  case status(GRPCStatus)
  /// The answer is larger than we take.
  case tooLarge(Int)
  /// Not what etcd says.
  case garbled(String)
}

/// What every stream to etcd begins with.
enum CallHeaders {
  static func make(_ method: EtcdMethod, authority: String, usesTLS: Bool, token: String?) -> HPACKHeaders {
    var headers = HPACKHeaders([
      (":method", "POST"), (":scheme", usesTLS ? "https" : "http"), (":path", method.rawValue), (":authority", authority),
      ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "margay"),
      // A member that is cut off from its cluster refuses instead of answering with what it last knew, and ends its watches.
      ("hasleader", "true"),
    ])
    if let token, !token.isEmpty { headers.add(name: "token", value: token, indexing: .neverIndexed) }
    return headers
  }
  /// Nil if these are the headers of a gRPC answer.
  static func fault(_ headers: HPACKHeaders) -> String? {
    let status = headers.first(name: ":status") ?? ""
    if status == "200" { return nil }
    return "it answers with HTTP status \(status): no etcd, or a proxy that does not pass gRPC on"
  }
}

extension EtcdConnection {
  /// Calls `method`. Goes on when the task is cancelled: a daemon that shuts down still has to write its last word. `deadline` bounds it.
  func call(
    _ method: EtcdMethod, _ message: [UInt8], usesTLS: Bool, token: String?, deadline: NIODeadline, answerMax: Int
  ) async -> Result<[UInt8], CallFailure> {
    await withCheckedContinuation { continuation in
      let headers = CallHeaders.make(method, authority: endpoint.description, usesTLS: usesTLS, token: token)
      open(
        { health in
          UnaryCall(headers, message, deadline: deadline, answerMax: answerMax, health) { continuation.resume(returning: $0) }
        }, refused: { continuation.resume(returning: .failure(.notSent($0))) })
    }
  }
}

private final class UnaryCall: ChannelInboundHandler {
  typealias InboundIn = HTTP2Frame.FramePayload
  typealias OutboundOut = HTTP2Frame.FramePayload

  private let headers: HPACKHeaders
  private let message: [UInt8]
  private let deadline: NIODeadline
  private let health: ConnectionHealth
  private var completion: ((Result<[UInt8], CallFailure>) -> Void)?
  private var deframer: GRPCDeframer
  private var answer: [UInt8]?
  private var clock: Scheduled<Void>?
  private var isSent = false

  init(
    _ headers: HPACKHeaders, _ message: [UInt8], deadline: NIODeadline, answerMax: Int, _ health: ConnectionHealth,
    completion: @escaping (Result<[UInt8], CallFailure>) -> Void
  ) {
    (self.headers, self.message, self.deadline, self.health, self.completion) = (headers, message, deadline, health, completion)
    deframer = GRPCDeframer(messageMax: answerMax)
  }

  private func finish(_ result: Result<[UInt8], CallFailure>) {
    clock?.cancel()
    clock = nil
    completion?(result)
    completion = nil
  }
  private func fail(_ context: ChannelHandlerContext, _ failure: CallFailure) {
    finish(.failure(failure))
    // Resets the stream if it is still open.
    context.close(promise: nil)
  }

  func channelActive(context: ChannelHandlerContext) {
    isSent = true
    let this = NIOLoopBound((self, context), eventLoop: context.eventLoop)
    clock = context.eventLoop.scheduleTask(deadline: deadline) {
      let (call, context) = this.value
      call.fail(context, .broken("no answer in time"))
    }
    context.write(wrapOutboundOut(.headers(.init(headers: headers))), promise: nil)
    let data = GRPCFraming.framed(message, context.channel.allocator)
    context.writeAndFlush(wrapOutboundOut(.data(.init(data: .byteBuffer(data), endStream: true))), promise: nil)
    context.fireChannelActive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    guard completion != nil else { return }
    switch unwrapInboundIn(data) {
    case .headers(let frame):
      if let status = GRPCStatus(headers: frame.headers) {
        end(status)
      } else if let fault = CallHeaders.fault(frame.headers) {
        fail(context, .garbled(fault))
      }
    case .data(let frame):
      guard case .byteBuffer(var piece) = frame.data else { return }
      deframer.append(&piece)
      do {
        while let message = try deframer.next() {
          guard answer == nil else { return fail(context, .garbled("two answers to one question")) }
          answer = message
        }
      } catch {
        fail(context, error.size.map { .tooLarge($0) } ?? .garbled(error.description))
      }
    default: break
    }
  }

  private func end(_ status: GRPCStatus) {
    if status.code != GRPCStatus.ok { return finish(.failure(.status(status))) }
    guard let answer else { return finish(.failure(.garbled("no answer, and yet no error"))) }
    finish(.success(answer))
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    let reason = health.problem ?? ConnectionReason.text(error, usesTLS: true, tls: nil)
    // The server says so of streams that it has not looked at, also when it goes away in order.
    if let closed = error as? NIOHTTP2Errors.StreamClosed, closed.errorCode == .refusedStream {
      finish(.failure(.notSent(reason)))
    } else {
      finish(.failure(isSent ? .broken(reason) : .notSent(reason)))
    }
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    let reason = health.problem ?? "it closed the connection"
    finish(.failure(isSent ? .broken(reason) : .notSent(reason)))
    context.fireChannelInactive()
  }
  func handlerRemoved(context: ChannelHandlerContext) {
    finish(.failure(isSent ? .broken("the call was dropped") : .notSent("the call was dropped")))
  }
}

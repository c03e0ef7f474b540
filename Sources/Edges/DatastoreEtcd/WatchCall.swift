/// A watch on the wire: a stream that sends one request and then is told of events until one side has enough.
///
/// The stream reads only while its reader keeps up: what the reader has not taken is bounded by `WatchInbox.octetsMax` here and by HTTP/2's
/// window in the connection; beyond that the server waits.
import Datastore
import EtcdMessages
import NIOCore
import NIOHPACK
import NIOHTTP2
import Octets
import Synchronization

/// Why there is nothing more to come.
enum WatchEnd: Sendable {
  /// The reader has enough.
  case cancelled
  case client(DatastoreError)
  case refused(GRPCStatus)
  case compacted
  case broken(String)
  /// A response larger than we take in one piece.
  case tooLarge
  case garbled(String)
}

/// Where batches wait for their reader. The connection's thread puts in, one task at a time takes out.
final class WatchInbox: Sendable {
  enum Item: Sendable {
    /// The server has begun; it was at this revision.
    case begun(Revision)
    case batch(WatchBatch)
    case end(WatchEnd)
  }
  static let octetsMax = 4 << 20

  private struct State {
    var items: [(item: Item, octets: Int)] = []
    var next = 0
    var octets = 0
    var end: WatchEnd?
    var reader: CheckedContinuation<Item, Never>?
    var channel: (any Channel)?
    var isPaused = false
  }
  private let state = Mutex(State())

  /// On the connection's thread. False if the reader has gone already.
  func attach(_ channel: any Channel) -> Bool {
    state.withLock { state in
      if state.end != nil { return false }
      state.channel = channel
      return true
    }
  }

  /// True if more may be read from the stream; otherwise the reader asks for more when it has caught up.
  func put(_ item: Item, octets: Int) -> Bool {
    let (reader, mayRead) = state.withLock { state -> (CheckedContinuation<Item, Never>?, Bool) in
      if state.end != nil { return (nil, false) }
      if let reader = state.reader {
        state.reader = nil
        return (reader, true)
      }
      // Of words on how far everything was told, the last is enough: keys of others may change many times a second.
      if case .batch(let batch) = item, batch.events.isEmpty, state.next < state.items.count,
        case .batch(let last) = state.items[state.items.count - 1].item
      {
        state.items[state.items.count - 1].item = .batch(WatchBatch(events: last.events, revision: batch.revision))
        return (nil, !state.isPaused)
      }
      state.items.append((item, octets))
      state.octets += octets
      state.isPaused = state.octets >= Self.octetsMax
      return (nil, !state.isPaused)
    }
    reader?.resume(returning: item)
    return mayRead
  }
  var isPaused: Bool { state.withLock { $0.isPaused } }

  /// What was put in before is still handed out, except to a reader that has enough.
  func end(_ end: WatchEnd) {
    let (reader, channel) = state.withLock { state -> (CheckedContinuation<Item, Never>?, (any Channel)?) in
      guard state.end == nil else { return (nil, nil) }
      state.end = end
      if case .cancelled = end { (state.items, state.next, state.octets) = ([], 0, 0) }
      defer { (state.reader, state.channel) = (nil, nil) }
      return (state.reader, state.channel)
    }
    reader?.resume(returning: .end(end))
    channel?.close(promise: nil)
  }

  /// The next item; at once `.end(.cancelled)` when the task is cancelled.
  func take() async -> Item {
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let (item, channel) = state.withLock { state -> (Item?, (any Channel)?) in
          if state.next < state.items.count {
            let (item, octets) = state.items[state.next]
            state.next += 1
            if state.next == state.items.count { (state.items, state.next) = ([], 0) }
            state.octets -= octets
            // Half empty: worth a turn of the connection's thread.
            let mustRead = state.isPaused && state.octets < Self.octetsMax / 2
            if mustRead { state.isPaused = false }
            return (item, mustRead ? state.channel : nil)
          }
          if let end = state.end { return (.end(end), nil) }
          precondition(state.reader == nil, "a watch has one reader")
          state.reader = continuation
          return (nil, nil)
        }
        channel?.read()
        if let item { continuation.resume(returning: item) }
      }
    } onCancel: {
      end(.cancelled)
    }
  }
}

final class WatchCall: ChannelInboundHandler {
  typealias InboundIn = HTTP2Frame.FramePayload
  typealias OutboundOut = HTTP2Frame.FramePayload

  private let headers: HPACKHeaders
  private let request: EtcdWatchRequest
  private let deadline: NIODeadline
  private let health: ConnectionHealth
  private let inbox: WatchInbox
  private var assembly: WatchAssembly
  private var deframer: GRPCDeframer
  private var clock: Scheduled<Void>?
  private var mayRead = true

  init(
    _ headers: HPACKHeaders, _ request: EtcdWatchRequest, _ assembly: WatchAssembly, deadline: NIODeadline, messageMax: Int,
    _ inbox: WatchInbox, _ health: ConnectionHealth
  ) {
    (self.headers, self.request, self.assembly, self.deadline) = (headers, request, assembly, deadline)
    (self.inbox, self.health) = (inbox, health)
    deframer = GRPCDeframer(messageMax: messageMax)
  }

  func handlerAdded(context: ChannelHandlerContext) {
    // Reading is asked for piece by piece.
    try? context.channel.syncOptions?.setOption(.autoRead, value: false)
  }

  func channelActive(context: ChannelHandlerContext) {
    guard inbox.attach(context.channel) else {
      context.close(promise: nil)
      return
    }
    let inbox = inbox
    clock = context.eventLoop.scheduleTask(deadline: deadline) { inbox.end(.broken("no answer in time")) }
    context.write(wrapOutboundOut(.headers(.init(headers: headers))), promise: nil)
    let data = GRPCFraming.framed(request.encoded(), context.channel.allocator)
    context.writeAndFlush(wrapOutboundOut(.data(.init(data: .byteBuffer(data)))), promise: nil)
    context.read()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data) {
    case .headers(let frame):
      if let status = GRPCStatus(headers: frame.headers) {
        finish(status.code == GRPCStatus.ok ? .broken("it ended the watch") : .refused(status))
      } else if let fault = CallHeaders.fault(frame.headers) {
        finish(.garbled(fault))
      }
    case .data(let frame):
      guard case .byteBuffer(var piece) = frame.data else { return }
      deframer.append(&piece)
      do {
        while let message = try deframer.next() { take(message) }
      } catch {
        finish(error.size == nil ? .garbled(error.description) : .tooLarge)
      }
    default: break
    }
  }

  private func take(_ message: [UInt8]) {
    let response: EtcdWatchResponse
    do {
      var reader = OctetReader(message.span)
      response = try EtcdWatchResponse(decoding: &reader)
    } catch {
      return finish(.garbled("\(error)"))
    }
    if response.isCancelled {
      if response.compactRevision > 0 { return finish(.compacted) }
      return finish(.refused(GRPCStatus(code: GRPCStatus.unknown, message: response.cancelReason)))
    }
    if response.isCreated {
      clock?.cancel()
      mayRead = inbox.put(.begun(Revision(rawValue: response.header.revision)), octets: 0)
    }
    if let batch = assembly.take(response) { mayRead = inbox.put(.batch(batch), octets: message.count) }
  }

  func channelReadComplete(context: ChannelHandlerContext) {
    if mayRead || !inbox.isPaused {
      mayRead = true
      context.read()
    }
    context.fireChannelReadComplete()
  }

  private func finish(_ end: WatchEnd) {
    clock?.cancel()
    inbox.end(end)
  }
  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    finish(.broken(health.problem ?? ConnectionReason.text(error, usesTLS: true, tls: nil)))
    context.close(promise: nil)
  }
  func channelInactive(context: ChannelHandlerContext) {
    finish(.broken(health.problem ?? "it ended the watch"))
    context.fireChannelInactive()
  }
  func handlerRemoved(context: ChannelHandlerContext) { finish(.broken("the watch was dropped")) }
}

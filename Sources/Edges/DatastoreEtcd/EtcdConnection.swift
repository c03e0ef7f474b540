/// One HTTP/2 connection to one member of the cluster: TCP, TLS if wanted, HTTP/2, and a look now and then whether anybody is still there.
///
/// Hazards, and the answers:
/// - Go's gRPC server sends a PING for nearly every answer, to measure the path. swift-nio-http2 takes more than 200 of them in 30 s for an
///   attack and ends the connection; here the limit is far higher, because the peer is a server that we chose.
/// - A half-open TCP connection is silent, not broken: after some seconds of silence with a call open we send a PING, and without an answer
///   the connection ends. Without open calls nothing is sent: etcd counts such PINGs as abuse, and the next call will find out.
/// - A server that wants a client certificate says so after our half of the TLS handshake was done; one that speaks TLS to our plain text
///   just closes. So a connection counts as made when the server's first HTTP/2 frame is here, not before.
import NIOCore
import NIOHTTP2
import NIOPosix
import NIOSSL
import Synchronization

/// Why no connection came about.
struct DialProblem: Error {
  var endpoint: EtcdEndpoint
  var reason: String
}

final class EtcdConnection: Sendable {
  let endpoint: EtcdEndpoint
  private let channel: any Channel
  private let multiplexer: NIOHTTP2Handler.StreamMultiplexer
  private let health: NIOLoopBound<ConnectionHealth>

  /// One thread for every handle of this process.
  private static let loops = MultiThreadedEventLoopGroup(numberOfThreads: 1)
  static let windowSize = 8 << 20
  /// tcp(7): TCP_USER_TIMEOUT, in milliseconds.
  private static let tcpUserTimeout = NIOBSDSocket.Option(rawValue: 18)

  private init(
    _ endpoint: EtcdEndpoint, _ channel: any Channel, _ multiplexer: NIOHTTP2Handler.StreamMultiplexer,
    _ health: NIOLoopBound<ConnectionHealth>
  ) {
    self.endpoint = endpoint
    self.channel = channel
    self.multiplexer = multiplexer
    self.health = health
  }

  /// - Parameter onEnd: called once, on the connection's thread, when it takes no more calls. It may come before this returns.
  static func dial(
    _ endpoint: EtcdEndpoint, tls: TLSSide?, times: EtcdConfiguration.Times, timeout: Duration, onEnd: @escaping @Sendable () -> Void
  ) async throws(DialProblem) -> EtcdConnection {
    let loop = loops.next()
    let ready = loop.makePromise(of: Void.self)
    let bootstrap = ClientBootstrap(group: loop)
      .connectTimeout(TimeAmount(timeout))
      .channelOption(.tcpOption(.tcp_nodelay), value: 1)
      // What is sent and not acknowledged for so long has met a dead host: for calls that nobody's PING watches over.
      .channelOption(.tcpOption(tcpUserTimeout), value: Int((times.keepaliveAfter + times.keepaliveTimeout).components.seconds) * 1000)
    let initializer: @Sendable (any Channel) -> EventLoopFuture<EtcdConnection> = { channel in
      loop.makeCompletedFuture {
        let streams = StreamCount()
        let health = ConnectionHealth(ready: ready, streams: streams, times: times, onEnd: onEnd)
        let pipeline = channel.pipeline.syncOperations
        if let tls { try pipeline.addHandler(try tls.handler(for: endpoint)) }
        try pipeline.addHandler(Listener(health))
        let http2 = NIOHTTP2Handler(
          mode: .client, eventLoop: loop, connectionConfiguration: connectionConfiguration, streamConfiguration: streamConfiguration,
          streamDelegate: streams, inboundStreamInitializer: { $0.close() })
        try pipeline.addHandler(http2)
        try pipeline.addHandler(health)
        return EtcdConnection(endpoint, channel, try http2.syncMultiplexer(), NIOLoopBound(health, eventLoop: loop))
      }
    }
    do {
      let connection =
        if let address = try? SocketAddress(ipAddress: endpoint.host, port: endpoint.port) {
          try await bootstrap.connect(to: address, channelInitializer: initializer)
        } else {
          try await bootstrap.connect(host: endpoint.host, port: endpoint.port, channelInitializer: initializer)
        }
      let clock = loop.scheduleTask(in: TimeAmount(timeout)) {
        ready.fail(ConnectionFault("it does not answer within \(timeout)"))
        connection.channel.close(promise: nil)
      }
      defer { clock.cancel() }
      try await ready.futureResult.get()
      return connection
    } catch {
      // Without a channel nobody else completes it, and a promise must be completed.
      ready.fail(error)
      if let tls, "\(error)".contains("CERTIFICATE_VERIFY_FAILED"),
        let fault = await CertificateDates.fault(ofMember: endpoint, tls, timeout: timeout)
      {
        throw DialProblem(endpoint: endpoint, reason: fault)
      }
      throw DialProblem(endpoint: endpoint, reason: ConnectionReason.text(error, usesTLS: tls != nil, tls: tls))
    }
  }

  /// More than any server sends. NIO reserves memory for as many times as it allows, so "without limit" would take 16 GiB of addresses for
  /// each of the three, and a process of that size can no longer fork.
  private static let frameRate = (count: 1 << 17, window: TimeAmount.milliseconds(100))

  private static var connectionConfiguration: NIOHTTP2Handler.ConnectionConfiguration {
    var configuration = NIOHTTP2Handler.ConnectionConfiguration()
    configuration.initialSettings = [
      HTTP2Setting(parameter: .enablePush, value: 0), HTTP2Setting(parameter: .maxHeaderListSize, value: 64 << 10),
      HTTP2Setting(parameter: .initialWindowSize, value: windowSize), HTTP2Setting(parameter: .maxFrameSize, value: 1 << 20),
    ]
    configuration.targetWindowSize = windowSize
    configuration.controlFrameRateLimit.maximumCount = frameRate.count
    configuration.controlFrameRateLimit.windowLength = frameRate.window
    return configuration
  }
  private static var streamConfiguration: NIOHTTP2Handler.StreamConfiguration {
    var configuration = NIOHTTP2Handler.StreamConfiguration()
    configuration.targetWindowSize = windowSize
    configuration.streamResetFrameRateLimit.maximumCount = frameRate.count
    configuration.streamResetFrameRateLimit.windowLength = frameRate.window
    configuration.streamErrorRateLimit.maximumCount = frameRate.count
    configuration.streamErrorRateLimit.windowLength = frameRate.window
    return configuration
  }

  /// Opens a stream and lets `makeHandler`'s handler speak on it; `refused` hears of it if there is no stream to speak on.
  /// Both are called on the connection's thread.
  func open(
    _ makeHandler: @escaping @Sendable (ConnectionHealth) -> any ChannelHandler, refused: @escaping @Sendable (String) -> Void
  ) {
    let (loop, multiplexer, health) = (channel.eventLoop, multiplexer, health)
    loop.execute {
      let promise = loop.makePromise(of: (any Channel).self)
      promise.futureResult.whenFailure { error in
        refused(health.value.problem ?? ConnectionReason.text(error, usesTLS: false, tls: nil))
      }
      multiplexer.createStreamChannel(promise: promise) { channel in
        loop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(makeHandler(health.value)) }
      }
    }
  }

  /// Takes no more calls; those under way may end in peace, the idle connection goes at once.
  func retire() {
    let health = health
    channel.eventLoop.execute { health.value.retire() }
  }
  func close(reason: String) {
    let health = health
    channel.eventLoop.execute { health.value.end(reason) }
  }
}

/// The client's half of TLS, made once: reading the files and the machine's authorities costs milliseconds.
struct TLSSide: Sendable {
  let context: NIOSSLContext
  let configuration: EtcdConfiguration.TLS

  init(_ configuration: EtcdConfiguration.TLS) throws {
    self.configuration = configuration
    var tls = TLSConfiguration.makeClientConfiguration()
    tls.minimumTLSVersion = .tlsv12
    tls.applicationProtocols = ["h2"]
    if let file = configuration.caFile {
      tls.trustRoots = .certificates(try reading(file, "certificates") { try NIOSSLCertificate.fromPEMFile(file) })
    } else if let pem = configuration.caText {
      tls.trustRoots = .certificates(try reading("etcdCACert", "certificates") { try NIOSSLCertificate.fromPEMBytes(Array(pem.text.utf8)) })
    }
    if let certificate = configuration.certificateText, let key = configuration.keyText {
      tls.certificateChain = try reading("etcdCert", "a certificate") {
        try NIOSSLCertificate.fromPEMBytes(Array(certificate.text.utf8)).map { .certificate($0) }
      }
      tls.privateKey = .privateKey(try reading("etcdKey", "a private key") { try NIOSSLPrivateKey(bytes: Array(key.text.utf8), format: .pem) })
    }
    switch (configuration.certificateFile, configuration.keyFile) {
    case (nil, nil): break
    case (let certificate?, let key?):
      tls.certificateChain = try reading(certificate, "a certificate") {
        try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) }
      }
      tls.privateKey = .privateKey(try reading(key, "a private key") { try NIOSSLPrivateKey(file: key, format: .pem) })
    case (let certificate?, nil): throw ConnectionFault("the certificate \(certificate) needs its key: name it in ETCD_KEY_FILE")
    case (nil, let key?): throw ConnectionFault("the key \(key) needs its certificate: name it in ETCD_CERT_FILE")
    }
    do {
      context = try NIOSSLContext(configuration: tls)
    } catch {
      let files = [configuration.certificateFile, configuration.keyFile].compactMap { $0 }.joined(separator: " and ")
      throw ConnectionFault("TLS cannot be set up with \(files.isEmpty ? "these settings" : files): \(ConnectionReason.boring(error))")
    }
  }

  func handler(for endpoint: EtcdEndpoint) throws -> NIOSSLClientHandler {
    let name = configuration.serverName ?? endpoint.host
    // An address is no name to the TLS handshake; the certificate must then hold the address itself.
    let isAddress = (try? SocketAddress(ipAddress: name, port: 0)) != nil
    return try NIOSSLClientHandler(context: context, serverHostname: isAddress ? nil : name)
  }
}

private func reading<Value>(_ file: String, _ what: String, _ body: () throws -> Value) throws -> Value {
  do {
    return try body()
  } catch {
    throw ConnectionFault("\(file) holds no \(what) in PEM that can be read: \(ConnectionReason.boring(error))")
  }
}

/// How many calls and watches a connection carries now.
final class StreamCount: NIOHTTP2StreamDelegate {
  private let count = Atomic<Int>(0)
  var now: Int { count.load(ordering: .relaxed) }
  func streamCreated(_ id: HTTP2StreamID, channel: any Channel) { count.add(1, ordering: .relaxed) }
  func streamClosed(_ id: HTTP2StreamID, channel: any Channel) { count.subtract(1, ordering: .relaxed) }
}

/// In front of HTTP/2: notes when anything was heard.
private final class Listener: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer
  private let health: ConnectionHealth
  init(_ health: ConnectionHealth) { self.health = health }
  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    health.heard()
    context.fireChannelRead(data)
  }
}

/// Behind HTTP/2: the frames of the connection itself. Lives on the connection's thread.
final class ConnectionHealth: ChannelInboundHandler {
  typealias InboundIn = HTTP2Frame
  typealias OutboundOut = HTTP2Frame

  private let ready: EventLoopPromise<Void>
  private let streams: StreamCount
  private let times: EtcdConfiguration.Times
  private var onEnd: (@Sendable () -> Void)?
  private var context: ChannelHandlerContext?
  private var clock: RepeatedTask?
  private var lastHeard = NIODeadline.now()
  private var pingSent: NIODeadline?
  private var isRetired = false
  /// Why it ended or is about to.
  private(set) var problem: String?

  init(ready: EventLoopPromise<Void>, streams: StreamCount, times: EtcdConfiguration.Times, onEnd: @escaping @Sendable () -> Void) {
    (self.ready, self.streams, self.times, self.onEnd) = (ready, streams, times, onEnd)
  }

  func heard() {
    lastHeard = .now()
    pingSent = nil
  }

  func handlerAdded(context: ChannelHandlerContext) { self.context = context }
  func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    switch unwrapInboundIn(data).payload {
    case .settings(.settings):
      ready.succeed()
      if clock == nil {
        let this = NIOLoopBound(self, eventLoop: context.eventLoop)
        clock = context.eventLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in this.value.check() }
      }
    case .goAway(_, let code, let data):
      let words = data.map { String(buffer: $0) } ?? ""
      problem = "it ends the connection" + (code == .noError ? "" : " (\(words.isEmpty ? "\(code)" : words))")
      noMoreCalls()
    default: break
    }
  }

  private func check() {
    guard let context else { return }
    if isRetired, streams.now == 0 { return end("it is not needed any more") }
    let now = NIODeadline.now()
    if let pingSent {
      if now - pingSent >= TimeAmount(times.keepaliveTimeout) {
        end("it is silent for \((now - lastHeard).nanoseconds / 1_000_000_000) s and does not answer a PING")
      }
    } else if streams.now > 0, now - lastHeard >= TimeAmount(times.keepaliveAfter) {
      pingSent = now
      let frame = HTTP2Frame(streamID: .rootStream, payload: .ping(HTTP2PingData(withInteger: 1), ack: false))
      context.writeAndFlush(wrapOutboundOut(frame), promise: nil)
    }
  }

  func retire() {
    isRetired = true
    noMoreCalls()
    if streams.now == 0 { end("it is not needed any more") }
  }
  func end(_ reason: String) {
    problem = problem ?? reason
    noMoreCalls()
    context?.close(promise: nil)
  }
  private func noMoreCalls() {
    onEnd?()
    onEnd = nil
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) {
    // The first error is the cause. After it come those of cleaning up.
    // An error of one stream is told to that stream as well, and is no end of the others.
    if error is NIOHTTP2Errors.StreamError { return }
    if problem == nil {
      problem = ConnectionReason.text(error, usesTLS: true, tls: nil)
      ready.fail(error)
    }
    noMoreCalls()
    context.close(promise: nil)
  }

  func channelInactive(context: ChannelHandlerContext) {
    clock?.cancel()
    clock = nil
    ready.fail(ConnectionFault.closedEarly)
    if problem == nil { problem = "it closed the connection" }
    noMoreCalls()
    context.fireChannelInactive()
  }
}

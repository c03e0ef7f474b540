/// The working half of `Traffic`, on the loop's thread.
import Addresses
import Glibc
import NetlinkEdge
import Sockets

/// Unchecked: touched on the loop's thread only; `Traffic` reaches it through the loop's mailbox and nowhere else.
final class TrafficEngine: @unchecked Sendable {
  private let loop: EventLoop
  private let stations: [String: Station]
  private var servers: [Endpoint] = []
  private var streams: [Stream] = []
  private var identifierLast: UInt16 = 0

  init(loop: EventLoop, stations: [Station]) {
    self.loop = loop
    self.stations = Dictionary(uniqueKeysWithValues: stations.map { ($0.name, $0) })
  }

  /// A socket and its place in the loop.
  final class Endpoint {
    let socket: Socket
    var watch: EventLoop.Watch?
    init(_ socket: consuming Socket) { self.socket = socket }
    func close() {
      watch?.cancel()
      watch = nil
    }
  }

  // MARK: Servers

  func openServers(tcpPorts: [UInt16], udpPorts: [UInt16]) throws {
    for station in stations.values {
      let opened: [(Endpoint, isTCP: Bool)] = try inside(station) {
        var opened: [(Endpoint, isTCP: Bool)] = []
        for family in IPFamily.allCases where station.addresses[family] != nil {
          let any: IPAddress = family == .v4 ? .v4(.unspecified) : .v6(.unspecified)
          for port in tcpPorts { opened.append((Endpoint(try Socket.listening(on: SocketAddress(any, port: port))), true)) }
          for port in udpPorts {
            let socket = try Socket.udp(family)
            if family == .v6 { try socket.setIPv6Only() }
            try socket.bind(SocketAddress(any, port: port))
            opened.append((Endpoint(socket), false))
          }
        }
        return opened
      }
      for (endpoint, isTCP) in opened {
        servers.append(endpoint)
        endpoint.watch = try loop.add(descriptor: endpoint.socket.raw, interest: .read) { [unowned self] _ in
          if isTCP { accept(endpoint) } else { echoDatagrams(endpoint) }
        }
      }
    }
  }

  private func accept(_ listener: Endpoint) {
    while let accepted = try? listener.socket.accept() {
      let connection = Endpoint(accepted.take())
      connection.watch = try? loop.add(descriptor: connection.socket.raw, interest: .read) { [unowned connection] _ in
        var buffer: [UInt8] = []
        switch Result(catching: { try connection.socket.receive(into: &buffer, limit: 4096) }) {
        case .success(.some(0)), .failure: connection.close()
        case .success: _ = try? connection.socket.send(buffer)
        }
      }
      servers.append(connection)
    }
  }

  private func echoDatagrams(_ server: Endpoint) {
    while let datagram = try? server.socket.receiveDatagram(limit: 2048), let from = datagram.from {
      _ = try? server.socket.send(datagram.bytes, to: from)
    }
  }

  func close() {
    for server in servers { server.close() }
    for stream in streams { stream.stop() }
    servers = []
    streams = []
  }

  /// Runs `body` inside the station's namespace; the sockets it opens stay there.
  private func inside<Result>(_ station: Station, _ body: () throws -> Result) throws -> Result {
    let namespace = try NetworkNamespace.open(path: station.namespacePath)
    return try namespace.run(body)
  }

  // MARK: Clients

  /// A client socket on its way to the probe's destination, opened inside the namespace of its origin.
  private func open(_ probe: Probe) throws -> Client {
    guard let to = stations[probe.to]?.addresses[probe.family] else { throw TrafficError.noAddress(probe.to, probe.family) }
    switch probe.service {
    case .tcp(let port):
      let socket = try Socket.tcp(probe.family)
      try socket.setNoDelay()
      let connected = try socket.connect(to: SocketAddress(to, port: port))
      return Client(probe, socket, connected: connected, identifier: 0)
    case .udp(let port):
      let socket = try Socket.udp(probe.family)
      _ = try socket.connect(to: SocketAddress(to, port: port))
      return Client(probe, socket, connected: true, identifier: 0)
    case .icmp:
      let number = probe.family == .v4 ? Int32(IPPROTO_ICMP) : 58
      let raw = socket(
        probe.family == .v4 ? AF_INET : AF_INET6, Int32(SOCK_RAW.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue), number)
      let socket = Socket(owning: OwnedDescriptor(owning: try check(raw, "open an ICMP socket")))
      _ = try socket.connect(to: SocketAddress(to, port: 0))
      identifierLast &+= 1
      return Client(probe, socket, connected: true, identifier: identifierLast)
    }
  }

  private func openAll(_ probes: [Probe]) throws -> [Client] {
    var clients: [Client] = []
    for (from, group) in Dictionary(grouping: probes, by: \.from) {
      guard let station = stations[from] else { throw TrafficError.noStation(from) }
      clients += try inside(station) { try group.map(open) }
    }
    return clients
  }

  func ask(_ probes: [Probe], deadline: Duration, _ done: @escaping ([Probe: Outcome]) -> Void) throws {
    var outcomes: [Probe: Outcome] = [:]
    var clients = try openAll(probes)
    var finished = false
    func finish() {
      guard !finished else { return }
      finished = true
      for client in clients { client.close() }
      clients = []
      for probe in probes where outcomes[probe] == nil { outcomes[probe] = .silent }
      done(outcomes)
    }
    func settle(_ client: Client, _ outcome: Outcome) {
      guard outcomes[client.probe] == nil else { return }
      outcomes[client.probe] = outcome
      client.close()
      if outcomes.count == probes.count { finish() }
    }
    for client in clients {
      let asked = MonotonicInstant.now
      client.onAnswer = { [unowned client] _ in settle(client, .answered(.now - asked)) }
      client.onFailure = { [unowned client] why in settle(client, .refused(why)) }
      do { try client.start(loop) } catch { settle(client, .refused("\(error)")) }
      if client.isReady { client.send(sequence: 0) }
      client.onConnected = { [unowned client] in client.send(sequence: 0) }
    }
    loop.schedule(after: deadline) { finish() }
  }

  // MARK: Streams

  final class Stream {
    var report: StreamReport
    let client: Client
    var timer: EventLoop.TimerHandle?
    /// Requests before this one have had their second; so many of them were lost.
    var judged = 0
    var lost = 0
    init(_ client: Client) {
      self.client = client
      report = StreamReport(probe: client.probe)
    }
    func stop() {
      timer?.cancel()
      client.close()
    }
  }

  func startStreams(_ probes: [Probe], interval: Duration) throws {
    for client in try openAll(probes) {
      let stream = Stream(client)
      streams.append(stream)
      client.onAnswer = { [unowned stream] sequence in
        let index = Int(sequence)
        if index < stream.report.answeredAt.count, stream.report.answeredAt[index] == nil { stream.report.answeredAt[index] = .now }
      }
      client.onFailure = { [unowned stream] why in if stream.report.failure == nil { stream.report.failure = why } }
      try client.start(loop)
      tick(stream, interval)
    }
  }

  private func tick(_ stream: Stream, _ interval: Duration) {
    if stream.client.isReady {
      stream.report.sentAt.append(.now)
      stream.report.answeredAt.append(nil)
      stream.client.send(sequence: UInt32(stream.report.sentAt.count - 1))
    }
    stream.timer = loop.schedule(after: interval) { [unowned self, unowned stream] in tick(stream, interval) }
  }

  func stopStreams(grace: Duration, _ done: @escaping ([StreamReport]) -> Void) {
    for stream in streams { stream.timer?.cancel() }
    loop.schedule(after: grace) { [unowned self] in
      for stream in streams { stream.stop() }
      let reports = streams.map(\.report)
      streams = []
      done(reports)
    }
  }

  func progress() -> [StreamProgress] {
    let now = MonotonicInstant.now
    return streams.map { stream in
      while stream.judged < stream.report.sent, now - stream.report.sentAt[stream.judged] >= .seconds(1) {
        if stream.report.answeredAt[stream.judged] == nil { stream.lost += 1 }
        stream.judged += 1
      }
      return StreamProgress(probe: stream.report.probe, sent: stream.report.sent, lost: stream.lost, failure: stream.report.failure)
    }
  }

  func answers(of probe: Probe) -> Int {
    streams.first { $0.client.probe == probe }?.report.answeredAt.count { $0 != nil } ?? 0
  }
}

enum TrafficError: Error, CustomStringConvertible {
  case noStation(String)
  case noAddress(String, IPFamily)
  var description: String {
    switch self {
    case .noStation(let name): "no workload is called \(name)"
    case .noAddress(let name, let family): "\(name) has no \(family) address"
    }
  }
}

/// One asking socket.
final class Client {
  let probe: Probe
  private let socket: Socket
  private let identifier: UInt16
  private var watch: EventLoop.Watch?
  private var stream: [UInt8] = []
  private(set) var isReady: Bool
  var onConnected: () -> Void = {}
  var onAnswer: (UInt32) -> Void = { _ in }
  var onFailure: (String) -> Void = { _ in }

  init(_ probe: Probe, _ socket: consuming Socket, connected: Bool, identifier: UInt16) {
    self.probe = probe
    self.socket = socket
    self.identifier = identifier
    isReady = connected
  }

  func start(_ loop: EventLoop) throws {
    watch = try loop.add(descriptor: socket.raw, interest: isReady ? .read : [.read, .write]) { [unowned self] _ in ready() }
  }

  func close() {
    watch?.cancel()
    watch = nil
  }

  private func ready() {
    if !isReady {
      if let error = socket.pendingError() {
        close()
        onFailure(error.description)
        return
      }
      isReady = true
      watch?.modify(.read)
      onConnected()
      return
    }
    do {
      switch probe.service {
      case .tcp:
        guard let count = try socket.receive(into: &stream, limit: 4096) else { return }
        if count == 0 {
          close()
          onFailure("closed by the other side")
          return
        }
        while stream.count >= 4, watch != nil {
          let sequence = Self.number(stream.prefix(4))
          stream.removeFirst(4)
          onAnswer(sequence)
        }
      case .udp:
        while watch != nil, let datagram = try socket.receiveDatagram(limit: 2048) {
          if datagram.bytes.count == 4 { onAnswer(Self.number(datagram.bytes.prefix(4))) }
        }
      case .icmp:
        while watch != nil, let datagram = try socket.receiveDatagram(limit: 2048) {
          // A raw IPv4 socket delivers the IP header as well; an IPv6 one does not.
          let bytes = datagram.bytes
          let start = probe.family == .v4 ? Int(bytes.first ?? 0) % 16 * 4 : 0
          guard bytes.count >= start + 12, bytes[start] == (probe.family == .v4 ? 0 : 129),
            Self.number(bytes[(start + 4)..<(start + 6)]) == UInt32(identifier)
          else { continue }
          onAnswer(Self.number(bytes[(start + 8)..<(start + 12)]))
        }
      }
    } catch {
      // A datagram socket reports an ICMP error once and lives on; a stream is over.
      if case .tcp = probe.service { close() }
      onFailure(error.description)
    }
  }

  func send(sequence: UInt32) {
    let payload = [
      UInt8(truncatingIfNeeded: sequence >> 24), UInt8(truncatingIfNeeded: sequence >> 16), UInt8(truncatingIfNeeded: sequence >> 8),
      UInt8(truncatingIfNeeded: sequence),
    ]
    do {
      switch probe.service {
      case .tcp, .udp: _ = try socket.send(payload)
      case .icmp: _ = try socket.send(echoRequest(payload, sequence: UInt16(truncatingIfNeeded: sequence)))
      }
    } catch { onFailure(error.description) }
  }

  private static func number(_ bytes: some Sequence<UInt8>) -> UInt32 { bytes.reduce(0) { $0 << 8 | UInt32($1) } }

  /// RFC 792 and RFC 4443, section 4.1. The kernel fills in the checksum of ICMPv6 only.
  private func echoRequest(_ payload: [UInt8], sequence: UInt16) -> [UInt8] {
    var message: [UInt8] = [
      probe.family == .v4 ? 8 : 128, 0, 0, 0, UInt8(identifier >> 8), UInt8(identifier & 255), UInt8(sequence >> 8), UInt8(sequence & 255),
    ]
    message += payload
    if probe.family == .v4 {
      var sum = stride(from: 0, to: message.count, by: 2).reduce(UInt32(0)) { $0 + UInt32(message[$1]) << 8 + UInt32(message[$1 + 1]) }
      while sum >> 16 != 0 { sum = sum & 0xffff + sum >> 16 }
      message[2] = UInt8(~sum >> 8 & 255)
      message[3] = UInt8(~sum & 255)
    }
    return message
  }
}

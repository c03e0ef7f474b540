import Addresses
import BGPTransport
import Sockets
import Testing

@Suite("A peer that does not read")
struct SlowPeerTests {
  @Test("What waits for it is counted, and since when nothing moves; once it reads, everything arrives", .timeLimit(.minutes(1)))
  func unread() throws {
    let loop = try EventLoop()
    let listener = try Socket.listening(on: SocketAddress(IPAddress("127.0.0.1")!, port: 0))
    let address = try #require(try listener.localAddress())
    var connection: BGPConnection?
    let dial = BGPDial(loop: loop, to: address, from: nil, options: ConnectionOptions()) { result in
      connection = try? result.get()
      loop.stop()
    }
    loop.run()
    withExtendedLifetime(dial) {}
    let writer = try #require(connection)
    try writer.start(.init(options: { .init() }, message: { _, _ in }, failure: { _ in }, closed: { _ in }))
    var accepted = try listener.accept()
    while accepted == nil { accepted = try listener.accept() }
    let reader = accepted!.take()

    let buffer = [UInt8](repeating: 7, count: 6 << 20)
    let before = MonotonicInstant.now
    for _ in 0..<2 { writer.send(buffer, buffer.indices) }
    let since = try #require(writer.blockedSince)
    #expect(since >= before && writer.queuedCount > 0)

    var received = 0
    func read() {
      var octets: [UInt8] = []
      while let count = try? reader.receive(into: &octets), count > 0 {
        received += count
        octets.removeAll(keepingCapacity: true)
      }
      if received == 2 * buffer.count { loop.stop() } else { loop.schedule(after: .milliseconds(1)) { read() } }
    }
    read()
    loop.run()
    #expect(received == 2 * buffer.count && writer.queuedCount == 0 && writer.blockedSince == nil)
    writer.close()
  }
}

@Suite("Connections that have ended")
struct EndedConnectionTests {
  enum End: CaseIterable { case byPeer, atOnce, whenSent }

  @Test("An ended connection is let go, with all that it held", .timeLimit(.minutes(1)), arguments: End.allCases)
  func letGo(end: End) throws {
    let loop = try EventLoop()
    let listener = try Socket.listening(on: SocketAddress(IPAddress("127.0.0.1")!, port: 0))
    let address = try #require(try listener.localAddress())
    var connection: BGPConnection?
    let dial = BGPDial(loop: loop, to: address, from: nil, options: ConnectionOptions()) { result in
      connection = try? result.get()
      loop.stop()
    }
    loop.run()
    withExtendedLifetime(dial) {}
    weak let ended = try #require(connection)
    try connection!.start(.init(options: { .init() }, message: { _, _ in }, failure: { _ in }, closed: { _ in connection = nil }))
    try hangUp(listener) {
      connection!.send([UInt8](repeating: 0xff, count: 19))
      switch end {
      case .byPeer: break
      case .atOnce:
        connection!.close()
        connection = nil
      case .whenSent:
        connection!.closeWhenSent()
        connection = nil
      }
    }
    let deadline = MonotonicInstant.now + .seconds(10)
    loop.schedule(at: deadline) {}
    while ended != nil, MonotonicInstant.now < deadline { loop.turn(wait: true) }
    #expect(ended == nil)
  }

  /// The peer's end: accepts, and closes behind `body`.
  private func hangUp(_ listener: borrowing Socket, _ body: () -> Void) throws {
    var accepted = try listener.accept()
    while accepted == nil { accepted = try listener.accept() }
    let peer = accepted!.take()
    body()
    _ = consume peer
  }
}

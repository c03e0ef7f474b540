/// Both ways to a connection: asking for one, and being asked.

public import Addresses
public import Sockets

/// One attempt to connect. Ends with its handler, or with `cancel`.
public final class BGPDial {
  private var holder: SocketHolder?
  private var watch: EventLoop.Watch?
  private var handler: ((Result<BGPConnection, SystemError>) -> Void)?

  /// - Parameter source: our address; nil lets the kernel choose.
  /// - Parameter handler: called once, later, on the loop's thread.
  public init(
    loop: EventLoop, to peer: SocketAddress, from source: IPAddress?, options: ConnectionOptions,
    handler: @escaping (Result<BGPConnection, SystemError>) -> Void
  ) {
    self.handler = handler
    do throws(SystemError) {
      let socket = try Socket.tcp(peer.address.family)
      if let source { try socket.bind(SocketAddress(source, port: 0)) }
      try options.apply(to: socket, peer: peer.address)
      _ = try socket.connect(to: peer)
      let raw = socket.raw
      holder = SocketHolder(socket)
      // Also when connected at once: then the descriptor is writable at once.
      watch = try loop.add(descriptor: raw, interest: .write) { [weak self] _ in self?.complete(loop) }
    } catch {
      holder = nil
      loop.schedule(after: .zero) { [weak self] in self?.finish(.failure(error)) }
    }
  }

  private func complete(_ loop: EventLoop) {
    guard let holder else { return }
    watch?.cancel()
    watch = nil
    self.holder = nil
    if let error = holder.socket.pendingError() { return finish(.failure(error)) }
    finish(Result { () throws(SystemError) in try BGPConnection(loop: loop, socket: holder) })
  }

  private func finish(_ result: Result<BGPConnection, SystemError>) {
    let handler = self.handler
    self.handler = nil
    handler?(result)
  }

  public func cancel() {
    handler = nil
    watch?.cancel()
    watch = nil
    holder = nil
  }
  deinit { watch?.cancel() }
}

/// Listens for speakers. Whoever connects is handed over; whether they are welcome is not decided here.
public final class BGPListener {
  private let holder: SocketHolder
  private var watch: EventLoop.Watch?
  public let address: SocketAddress

  /// - Parameter address: the unspecified address of a family listens on all addresses of that family.
  public init(loop: EventLoop, on address: SocketAddress, handler: @escaping (BGPConnection) -> Void) throws(SystemError) {
    self.address = address
    let socket = try Socket.listening(on: address)
    let holder = SocketHolder(socket)
    self.holder = holder
    watch = try loop.add(descriptor: holder.socket.raw, interest: .read) { _ in
      // Bounded: a flood of connections must not starve the sessions.
      for _ in 0..<64 {
        guard let accepted = try? holder.socket.accept() else { return }
        if let connection = try? BGPConnection(loop: loop, socket: accepted.take()) { handler(connection) }
      }
    }
  }

  /// RFC 2385: connections of `peer` must be signed. Nil stops that.
  public func setMD5(key: [UInt8]?, peer: IPAddress) throws(SystemError) {
    guard peer.family == address.address.family else { return }
    try holder.socket.setMD5(key: key ?? [], peer: peer)
  }

  public func close() {
    watch?.cancel()
    watch = nil
  }
  deinit { watch?.cancel() }
}

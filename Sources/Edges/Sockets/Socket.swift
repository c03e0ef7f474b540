/// A socket with one owner: TCP, UDP or unix. Calls that would block throw a `SystemError` whose `isWouldBlock` is true.

public import Addresses
import CLinux
import Glibc

/// Who is at the other end of a unix socket, as the kernel saw them when they connected.
public struct PeerCredentials: Equatable, Sendable {
  public let process: Int32
  public let user: UInt32
  public let group: UInt32
}

public struct Socket: ~Copyable, Sendable {
  public let descriptor: OwnedDescriptor

  public init(owning descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
  /// The number, for the event loop and for messages.
  public var raw: CInt { descriptor.borrowed }
  public consuming func release() -> OwnedDescriptor { descriptor }

  // MARK: Making

  public static func tcp(_ family: IPFamily, nonblocking: Bool = true) throws(SystemError) -> Socket {
    Socket(owning: OwnedDescriptor(owning: try check(cl_inet_socket(family.number, 0, nonblocking ? 1 : 0), "open a TCP socket")))
  }
  public static func udp(_ family: IPFamily, nonblocking: Bool = true) throws(SystemError) -> Socket {
    Socket(owning: OwnedDescriptor(owning: try check(cl_inet_socket(family.number, 1, nonblocking ? 1 : 0), "open a UDP socket")))
  }
  /// Bound, listening, with SO_REUSEADDR; an IPv6 socket takes IPv6 only.
  public static func listening(on address: SocketAddress, backlog: CInt = 128, device: String? = nil) throws(SystemError) -> Socket {
    let socket = try tcp(address.address.family)
    try check(cl_reuse_address(socket.raw), "reuse address")
    if address.address.family == .v6 { try check(cl_v6_only(socket.raw), "set IPV6_V6ONLY") }
    if let device { try socket.bindToDevice(device) }
    try socket.bind(address)
    try socket.listen(backlog: backlog)
    return socket
  }
  /// A raw packet socket (Ethernet frames) of one protocol number, 3 for all, on one interface. Needs CAP_NET_RAW.
  public static func packet(protocol number: UInt16, interfaceIndex: UInt32) throws(SystemError) -> Socket {
    let result = cl_packet_socket(CInt(number), CInt(bitPattern: interfaceIndex))
    return Socket(owning: OwnedDescriptor(owning: try check(result, "open a packet socket on interface \(interfaceIndex)")))
  }
  /// Connects to a unix stream socket, blocking until accepted.
  public static func connecting(toUnix path: String, nonblocking: Bool = false) throws(SystemError) -> Socket {
    let socket = Socket(owning: OwnedDescriptor(owning: try check(cl_unix_socket(0, 0), "open a unix socket")))
    try unsafe check(cl_unix_connect(socket.raw, path), "connect to \(path)")
    if nonblocking { try socket.setNonblocking(true) }
    return socket
  }
  /// Listens at `path`, non-blocking. A socket file left there by a process that is gone is replaced; one that still answers throws
  /// EADDRINUSE. Remove the file yourself at the end. `mode` are the permissions of the socket file.
  public static func listening(atUnix path: String, mode: UInt32 = 0o600, backlog: CInt = 128) throws(SystemError) -> Socket {
    let socket = Socket(owning: OwnedDescriptor(owning: try check(cl_unix_socket(1, 0), "open a unix socket")))
    if unsafe cl_unix_bind(socket.raw, path) < 0 {
      let failure = SystemError.last("bind \(path)")
      guard failure.code == EADDRINUSE else { throw failure }
      let probe = OwnedDescriptor(owning: try check(cl_unix_socket(1, 0), "open a unix socket"))
      guard unsafe cl_unix_connect(probe.borrowed, path) < 0, errno == ECONNREFUSED else { throw failure }
      unsafe unlink(path)
      try unsafe check(cl_unix_bind(socket.raw, path), "bind \(path)")
    }
    try unsafe check(chmod(path, mode), "set permissions of \(path)")
    try socket.listen(backlog: backlog)
    return socket
  }
  /// Two connected unix stream sockets, blocking.
  public static func pair() throws(SystemError) -> SocketPair {
    var both: [CInt] = [-1, -1]
    try check(unsafe cl_unix_pair(&both, 0), "make a socket pair")
    return SocketPair(first: Socket(owning: OwnedDescriptor(owning: both[0])), second: Socket(owning: OwnedDescriptor(owning: both[1])))
  }

  // MARK: Naming and connecting

  public func bind(_ address: SocketAddress) throws(SystemError) {
    var raw = address.raw
    try check(unsafe cl_bind(self.raw, &raw), "bind \(address)")
  }
  public func listen(backlog: CInt = 128) throws(SystemError) { try check(Glibc.listen(raw, backlog), "listen") }
  /// True when connected at once; false when under way: then the descriptor becomes writable, and `pendingError()` tells the outcome.
  public func connect(to address: SocketAddress) throws(SystemError) -> Bool {
    var raw = address.raw
    if unsafe cl_connect(self.raw, &raw) == 0 { return true }
    if errno == EINPROGRESS { return false }
    throw SystemError.last("connect to \(address)")
  }
  /// The next connection, non-blocking; nil when none waits, or when the one that waited is gone again.
  public func accept() throws(SystemError) -> AcceptedConnection? {
    var peer = cl_address()
    let result = unsafe cl_accept(raw, 1, &peer)
    if result < 0 {
      if errno == EAGAIN || errno == ECONNABORTED { return nil }
      throw SystemError.last("accept")
    }
    return AcceptedConnection(socket: Socket(owning: OwnedDescriptor(owning: result)), peer: SocketAddress(raw: peer))
  }
  public func localAddress() throws(SystemError) -> SocketAddress? {
    var address = cl_address()
    try check(unsafe cl_local_address(raw, &address), "read the local address")
    return SocketAddress(raw: address)
  }
  public func peerAddress() throws(SystemError) -> SocketAddress? {
    var address = cl_address()
    try check(unsafe cl_peer_address(raw, &address), "read the peer's address")
    return SocketAddress(raw: address)
  }
  public func peerCredentials() throws(SystemError) -> PeerCredentials {
    var process: Int32 = 0
    var user: UInt32 = 0
    var group: UInt32 = 0
    try check(unsafe cl_peer_credentials(raw, &process, &user, &group), "read the peer's credentials")
    return PeerCredentials(process: process, user: user, group: group)
  }
  /// SO_ERROR, which reading clears; nil when there is none.
  public func pendingError(_ operation: String = "connect") -> SystemError? {
    let code = cl_socket_error(raw)
    return code == 0 ? nil : SystemError(code: code, operation: operation)
  }

  // MARK: Options

  public func setNonblocking(_ on: Bool) throws(SystemError) { try check(cl_set_nonblocking(raw, on ? 1 : 0), "set nonblocking") }
  public func bindToDevice(_ name: String) throws(SystemError) { try unsafe check(cl_bind_to_device(raw, name), "bind to device \(name)") }
  public func setNoDelay() throws(SystemError) { try check(cl_tcp_no_delay(raw), "set TCP_NODELAY") }
  public func setReuseAddress() throws(SystemError) { try check(cl_reuse_address(raw), "set SO_REUSEADDR") }
  public func setIPv6Only() throws(SystemError) { try check(cl_v6_only(raw), "set IPV6_V6ONLY") }
  public func setTimeToLive(_ ttl: UInt8, _ family: IPFamily) throws(SystemError) {
    try check(cl_set_ttl(raw, family.number, CInt(ttl)), "set the time to live")
  }
  /// RFC 5082: what arrives with a lower time to live is dropped.
  public func setTimeToLiveMin(_ ttl: UInt8, _ family: IPFamily) throws(SystemError) {
    try check(cl_set_min_ttl(raw, family.number, CInt(ttl)), "set the least time to live")
  }
  public func setTrafficClass(_ value: UInt8, _ family: IPFamily) throws(SystemError) {
    try check(cl_set_traffic_class(raw, family.number, CInt(value)), "set the traffic class")
  }
  /// TCP MD5 signatures (RFC 2385) with peers inside `peer` (exactly its address when `length` is nil); an empty key removes them.
  /// Set it on the listener as well as on the connecting socket. At most 80 octets.
  public func setMD5(key: [UInt8], peer: IPAddress, length: UInt8? = nil) throws(SystemError) {
    var raw = SocketAddress(peer, port: 0).raw
    let result = unsafe cl_set_md5(self.raw, &raw, key, CInt(key.count), length.map(CInt.init) ?? -1)
    try check(result, "set the TCP MD5 key for \(peer)")
  }
  public func setOption(level: CInt, name: CInt, value: CInt) throws(SystemError) {
    try check(cl_set_option(raw, level, name, value), "set socket option \(level)/\(name)")
  }
  public func shutdownWriting() { _ = Glibc.shutdown(raw, CInt(SHUT_WR)) }

  // MARK: Octets

  /// Writes what fits; returns how many octets of `bytes[from...]` went. Zero when there is no room now.
  public func send(_ bytes: [UInt8], from: Int = 0) throws(SystemError) -> Int {
    let count = unsafe bytes.withUnsafeBytes { buffer in
      let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[from...])
      return unsafe cl_send(raw, rest.baseAddress, rest.count)
    }
    if count < 0 {
      if errno == EAGAIN { return 0 }
      throw SystemError.last("send")
    }
    return count
  }
  /// Appends what is there to `buffer`, at most `limit` octets. Returns how many; 0 is the end; nil when there is nothing now.
  public func receive(into buffer: inout [UInt8], limit: Int = 65536) throws(SystemError) -> Int? {
    let before = buffer.count
    buffer.append(contentsOf: repeatElement(0, count: limit))
    let count = unsafe buffer.withUnsafeMutableBytes { bytes in
      unsafe cl_receive(raw, bytes.baseAddress! + before, limit)
    }
    let code = errno
    buffer.removeLast(limit - max(count, 0))
    if count < 0 {
      if code == EAGAIN { return nil }
      throw SystemError(code: code, operation: "receive")
    }
    return count
  }
  /// One datagram. False when there is no room now.
  public func send(_ bytes: [UInt8], to address: SocketAddress) throws(SystemError) -> Bool {
    var to = address.raw
    let count = unsafe bytes.withUnsafeBytes { unsafe cl_send_to(raw, $0.baseAddress, $0.count, &to) }
    if count < 0 {
      if errno == EAGAIN { return false }
      throw SystemError.last("send to \(address)")
    }
    return true
  }
  /// One datagram and its sender; nil when there is none now.
  public func receiveDatagram(limit: Int = 65536) throws(SystemError) -> (bytes: [UInt8], from: SocketAddress?)? {
    var from = cl_address()
    var failure: CInt = 0
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: limit) { buffer, initialized in
      let count = unsafe cl_receive_from(raw, buffer.baseAddress, limit, &from)
      if count < 0 { failure = errno }
      initialized = max(count, 0)
    }
    if failure == EAGAIN { return nil }
    if failure != 0 { throw SystemError(code: failure, operation: "receive") }
    return (bytes, SocketAddress(raw: from))
  }
  /// Sends everything on a blocking socket.
  public func sendAll(_ bytes: [UInt8]) throws(SystemError) {
    var sent = 0
    while sent < bytes.count { sent += try send(bytes, from: sent) }
  }
  /// Sends `bytes` with descriptors attached (SCM_RIGHTS), at most 16; they stay open here. At least one octet must go along.
  public func send(_ bytes: [UInt8], passing descriptors: [CInt]) throws(SystemError) -> Int {
    let count = unsafe bytes.withUnsafeBytes { buffer in
      unsafe cl_send_with_fd(raw, buffer.baseAddress, buffer.count, descriptors, CInt(descriptors.count))
    }
    if count < 0, errno == EAGAIN { return 0 }
    return try check(count, "send with \(descriptors.count) descriptors")
  }
  /// Appends octets to `buffer`; descriptors that came along are handed to `receive`, which owns them. Result as `receive(into:limit:)`.
  public func receive(
    into buffer: inout [UInt8], limit: Int = 65536, descriptor take: (consuming OwnedDescriptor) -> Void
  ) throws(SystemError) -> Int? {
    var numbers = [CInt](repeating: -1, count: 16)
    var passed: CInt = 0
    var bytes = [UInt8](repeating: 0, count: limit)
    let count = unsafe cl_recv_with_fd(raw, &bytes, limit, &numbers, &passed)
    let code = errno
    for number in numbers.prefix(Int(passed)) { take(OwnedDescriptor(owning: number)) }
    if count < 0 {
      if code == EAGAIN { return nil }
      throw SystemError(code: code, operation: "receive")
    }
    buffer.append(contentsOf: bytes.prefix(count))
    return count
  }
}

/// What `accept` gives; take the socket out with `take()`.
public struct AcceptedConnection: ~Copyable, Sendable {
  private let socket: Socket
  /// Nil for a unix socket.
  public let peer: SocketAddress?
  init(socket: consuming Socket, peer: SocketAddress?) {
    self.socket = socket
    self.peer = peer
  }
  public consuming func take() -> Socket { socket }
}

/// The index of an interface in the namespace of the calling thread, nil if there is none of that name.
public func interfaceIndex(named name: String) -> UInt32? {
  let index = unsafe if_nametoindex(name)
  return index == 0 ? nil : index
}

/// Two sockets connected to each other.
public struct SocketPair: ~Copyable, Sendable {
  public let first: Socket
  public let second: Socket
}

/// Packets made by hand, and sockets that see every frame of an interface or everything that a host receives.
import Addresses
import Glibc
import NetlinkEdge
import PolicyOracle
import Resources

/// The octets of one packet: whole headers, right checksums, and at the end a mark by which it is known again.
enum Wire {
  static let markLength = 16

  static func mark(_ serial: UInt64) -> [UInt8] { Array("margay::".utf8) + (0..<8).map { UInt8(truncatingIfNeeded: serial >> (56 - 8 * $0)) } }

  /// The serials of all marks in these octets (an answer may quote one).
  static func serial(in octets: some Collection<UInt8>) -> UInt64? {
    let octets = Array(octets.suffix(markLength))
    guard octets.count == markLength, octets.starts(with: "margay::".utf8) else { return nil }
    return octets.dropFirst(8).reduce(0) { $0 << 8 | UInt64($1) }
  }

  static func packet(_ packet: Packet, mark: [UInt8]) -> [UInt8] {
    var body = transport(packet, mark)
    let family = packet.to.family
    let number = packet.ipProtocol.number
    let place: Int? =
      switch packet.ipProtocol {
      case .tcp: 16
      case .udp, .udpLite: 6
      case .icmp, .icmpv6: 2
      default: nil
      }
    if let place {
      var pseudo: [UInt8] = []
      if packet.ipProtocol != .icmp {
        pseudo = packet.from.octets + packet.to.octets
        pseudo += family == .v4 ? [0, number] + be16(body.count) : [0, 0] + be16(body.count) + [0, 0, 0, number]
      }
      let sum = checksum(pseudo + body)
      (body[place], body[place + 1]) = (UInt8(sum >> 8), UInt8(sum & 255))
    }
    guard family == .v4 else {
      return [0x60, 0, 0, 0] + be16(body.count) + [number, 64] + packet.from.octets + packet.to.octets + body
    }
    var header: [UInt8] = [0x45, 0] + be16(20 + body.count) + [0, 0, 0, 0, 64, number, 0, 0] + packet.from.octets + packet.to.octets
    let sum = checksum(header)
    (header[10], header[11]) = (UInt8(sum >> 8), UInt8(sum & 255))
    return header + body
  }

  private static func transport(_ packet: Packet, _ mark: [UInt8]) -> [UInt8] {
    let ports = be16(Int(packet.sourcePort ?? 0)) + be16(Int(packet.destinationPort ?? 0))
    switch packet.ipProtocol {
    case .tcp: return ports + [0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0] + mark
    case .udp: return ports + be16(8 + mark.count) + [0, 0] + mark
    // Coverage 0: the checksum is over everything.
    case .udpLite: return ports + [0, 0, 0, 0] + mark
    case .sctp:
      // INIT: tag, window, streams, first number; the mark is a parameter that receivers skip.
      let parameter: [UInt8] = [0x80, 0x08] + be16(4 + mark.count) + mark
      let chunk: [UInt8] = [1, 0] + be16(20 + parameter.count) + [0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1] + parameter
      let octets = ports + [0, 0, 0, 0, 0, 0, 0, 0] + chunk
      let sum = crc32c(octets)
      return Array(octets[..<8]) + (0..<4).map { UInt8(truncatingIfNeeded: sum >> (8 * $0)) } + Array(octets[12...])
    case .icmp, .icmpv6:
      // An identifier of its own: no two of them are one conversation.
      return [packet.icmpType ?? 0, packet.icmpCode ?? 0, 0, 0] + Array(mark.suffix(2)) + [0, 1] + padding(packet) + mark
    // GRE of no flags, whose payload is IPv4 by its word.
    default: return [0, 0, 8, 0] + mark
    }
  }

  /// Some types have a longer body than an echo's; connection tracking wants it whole.
  private static func padding(_ packet: Packet) -> [UInt8] {
    packet.ipProtocol == .icmp && (packet.icmpType == 13 || packet.icmpType == 17) ? [UInt8](repeating: 0, count: 12) : []
  }

  static func frame(_ packet: [UInt8], from: [UInt8], to: [UInt8]) -> [UInt8] { to + from + (packet[0] >> 4 == 4 ? [8, 0] : [0x86, 0xdd]) + packet }

  static func be16(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }

  static func checksum(_ octets: [UInt8]) -> UInt16 {
    var total: UInt32 = 0
    for index in stride(from: 0, to: octets.count, by: 2) {
      total += UInt32(octets[index]) << 8 | (index + 1 < octets.count ? UInt32(octets[index + 1]) : 0)
    }
    while total > 0xffff { total = (total & 0xffff) + (total >> 16) }
    let sum = ~UInt16(total)
    return sum == 0 ? 0xffff : sum
  }

  static func crc32c(_ octets: [UInt8]) -> UInt32 {
    var crc = ~UInt32(0)
    for octet in octets {
      crc ^= UInt32(octet)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0x82f6_3b78 : crc >> 1 }
    }
    return ~crc
  }
}

/// A raw socket in some namespace.
final class RawSocket {
  private let descriptor: CInt
  init(_ namespace: NetworkNamespace, _ domain: CInt, _ ipProtocol: CInt) throws {
    var made: CInt = -1
    var code: CInt = 0
    try namespace.run {
      made = Glibc.socket(domain, CInt(SOCK_RAW.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue), ipProtocol)
      code = errno
    }
    guard made >= 0 else { throw WireError("socket(\(domain), SOCK_RAW, \(ipProtocol)): \(String(cString: strerror(code)))") }
    descriptor = made
    var size: CInt = 8 << 20
    setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &size, socklen_t(MemoryLayout<CInt>.size))
  }
  deinit { close(descriptor) }

  /// Every frame of one interface, in both directions.
  static func frames(_ namespace: NetworkNamespace, interface: String) throws -> RawSocket {
    let everything = CInt(UInt16(3).bigEndian)
    let socket = try RawSocket(namespace, AF_PACKET, everything)
    var index: UInt32 = 0
    try namespace.run { index = if_nametoindex(interface) }
    // struct sockaddr_ll: family, protocol in network order, index, and eight octets for link addresses; the Glibc module lacks it.
    var address = [UInt8](repeating: 0, count: 20)
    address.withUnsafeMutableBytes { bytes in
      bytes.storeBytes(of: UInt16(AF_PACKET), toByteOffset: 0, as: UInt16.self)
      bytes.storeBytes(of: UInt16(3).bigEndian, toByteOffset: 2, as: UInt16.self)
      bytes.storeBytes(of: index, toByteOffset: 4, as: UInt32.self)
    }
    let result = address.withUnsafeBytes { bytes in
      bind(socket.descriptor, bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
    }
    guard index > 0, result == 0 else { throw WireError("bind to \(interface): \(String(cString: strerror(errno)))") }
    return socket
  }

  /// A whole frame on the interface the socket is bound to.
  func send(frame: [UInt8]) throws {
    guard Glibc.send(descriptor, frame, frame.count, 0) == frame.count else { throw WireError("send: \(String(cString: strerror(errno)))") }
  }

  /// A whole packet, as the host's own. One that the host's rules drop is refused right here; that is an answer.
  func send(packet: [UInt8], to address: IPAddress) throws {
    let sent: Int
    switch address.family {
    case .v4:
      var there = sockaddr_in()
      there.sin_family = sa_family_t(AF_INET)
      withUnsafeMutableBytes(of: &there.sin_addr) { $0.copyBytes(from: address.octets) }
      sent = withUnsafePointer(to: &there) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          sendto(descriptor, packet, packet.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    case .v6:
      var there = sockaddr_in6()
      there.sin6_family = sa_family_t(AF_INET6)
      withUnsafeMutableBytes(of: &there.sin6_addr) { $0.copyBytes(from: address.octets) }
      sent = withUnsafePointer(to: &there) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          sendto(descriptor, packet, packet.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
        }
      }
    }
    if sent != packet.count, errno != EPERM { throw WireError("sendto \(address): \(String(cString: strerror(errno)))") }
  }

  /// Everything that has come in from outside.
  func drain(_ body: (ArraySlice<UInt8>) -> Void) {
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      var address = sockaddr_storage()
      var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
      let count = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(descriptor, &buffer, 4096, 0, $0, &length) }
      }
      if count < 0 { return }
      // PACKET_OUTGOING is 4, in the octet behind the hardware's type.
      let isOutgoing = withUnsafeBytes(of: &address) { $0.load(as: UInt16.self) == UInt16(AF_PACKET) && $0[10] == 4 }
      if !isOutgoing { body(buffer[..<count]) }
    }
  }
}

struct WireError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// What a host's kernel says of its interfaces and addresses, and of the way to a destination.
public import Addresses
import Glibc
public import NetlinkEdge
import NetlinkMessages
import Sockets

public enum HostView {
  /// In the kernel's order of interfaces. `namespace`: of the host; nil is the calling thread's.
  public static func interfaces(in namespace: NetworkNamespace? = nil) throws -> [HostInterface] {
    let netlink = try RouteNetlink(namespace: namespace)
    let addresses = Dictionary(grouping: try netlink.addresses(), by: \.interface)
    return try netlink.links().sorted { $0.index < $1.index }.map { link in
      HostInterface(name: link.name, isUp: link.isUp, addresses: (addresses[link.index] ?? []).map(\.address))
    }
  }

  /// The address from which a packet to `destination`, an address or a name, would go: the kernel chooses it when a datagram socket is
  /// connected, and nothing is sent. Nil: there is no way there.
  public static func source(towards destination: String, _ family: IPFamily, in namespace: NetworkNamespace? = nil) throws -> IPAddress? {
    for address in resolve(destination) where address.family == family {
      let ask: () throws -> IPAddress? = {
        let socket = try Socket.udp(family)
        guard (try? socket.connect(to: SocketAddress(address, port: 53))) != nil else { return nil }
        return try socket.localAddress()?.address
      }
      if let source = try namespace.map({ try $0.run(ask) }) ?? ask() { return source }
    }
    return nil
  }

  private static func resolve(_ name: String) -> [IPAddress] {
    if let address = IPAddress(name) { return [address] }
    var hints = addrinfo()
    hints.ai_socktype = CInt(SOCK_DGRAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    guard unsafe getaddrinfo(name, nil, &hints, &list) == 0 else { return [] }
    defer { unsafe freeaddrinfo(list) }
    var found: [IPAddress] = []
    var entry = unsafe list
    // The C library's list, freed above once this is done.
    while let current = unsafe entry {
      var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
      if unsafe getnameinfo(current.pointee.ai_addr, current.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0,
        let address = IPAddress(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
      {
        found.append(address)
      }
      unsafe entry = current.pointee.ai_next
    }
    return found
  }
}

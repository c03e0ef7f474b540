/// rtnetlink by its nouns: links, addresses, routes, neighbours; changes in batches, each with its own answer.

public import Addresses
import Glibc
public import NetlinkMessages
import Octets
import Sockets

/// One owner at a time, like the socket inside.
public final class RouteNetlink {
  public let socket: NetlinkSocket
  /// Above this many messages in one send there is nothing more to gain (measured), and answers might not fit the receive buffer.
  static let messagesPerSend = 256

  /// In the namespace, or that of the calling thread.
  public init(namespace: NetworkNamespace? = nil) throws(NetlinkError) {
    socket = try NetlinkSocket(.route, namespace: namespace?.descriptor.borrowed)
  }

  // MARK: Reading

  public func links() throws(NetlinkError) -> [Link] {
    try socket.dump(type: RouteMessageType.getLink, what: "read links", body: { LinkQuery.all(&$0) }) {
      header, body throws(WireError) in try Link.decode(&body)
    }
  }
  /// Nil if there is none of that name.
  public func link(named name: String) throws(NetlinkError) -> Link? {
    try getLink("read link \(name)") { LinkQuery.named(name, &$0) }
  }
  public func link(index: UInt32) throws(NetlinkError) -> Link? {
    try getLink("read link \(index)") { LinkQuery.index(index, &$0) }
  }
  private func getLink(_ what: String, _ body: (inout OctetWriter) -> Void) throws(NetlinkError) -> Link? {
    var batch = NetlinkBatch()
    batch.add(type: RouteMessageType.getLink, flags: [], body: body)
    var link: Link?
    let result = try socket.request(&batch, what: what) { _, body in
      if let found = try? Link.decode(&body) { link = found }
    }
    if let error = result[0] {
      // ERANGE: a name longer than any interface has.
      if error.isNotFound || error.code == ERANGE { return nil }
      throw error
    }
    return link
  }
  public func addresses(family: IPFamily? = nil, interface: UInt32? = nil) throws(NetlinkError) -> [AssignedAddress] {
    do throws(NetlinkError) {
      return try socket.dump(
        type: RouteMessageType.getAddress, what: "read addresses",
        body: { AssignedAddress.query(family: family, interface: interface, &$0) }
      ) { header, body throws(WireError) in try AssignedAddress.decode(&body) }
    } catch {
      if interface != nil, error.isNotFound { return [] }
      throw error
    }
  }
  /// Of one table and protocol, or all; filtered in the kernel.
  public func routes(
    table: UInt32? = KernelRoute.mainTable, protocol: RouteProtocol? = nil, family: IPFamily? = nil
  ) throws(NetlinkError) -> [KernelRoute] {
    var routes: [KernelRoute] = []
    for one in family.map({ [$0] }) ?? IPFamily.allCases {
      do throws(NetlinkError) {
        routes += try socket.dump(
          type: RouteMessageType.getRoute, what: "read \(one) routes",
          body: { KernelRoute.query(family: one, table: table, protocol: `protocol`, &$0) }
        ) { header, body throws(WireError) -> KernelRoute? in
          guard let route = try KernelRoute.decode(&body), table == nil || route.table == table,
            `protocol` == nil || route.protocol == `protocol`
          else { return nil }
          return route
        }
      } catch {
        // A table that nobody has used yet does not exist; a kernel without IPv6 does not know the family.
        guard error.code == ENOENT || error.code == EAFNOSUPPORT || error.code == EOPNOTSUPP else { throw error }
      }
    }
    return routes
  }
  public func neighbours(
    family: IPFamily? = nil, proxies: Bool = false, interface: UInt32? = nil
  ) throws(NetlinkError) -> [Neighbour] {
    do throws(NetlinkError) {
      return try socket.dump(
        type: RouteMessageType.getNeighbour, what: "read neighbours",
        body: { Neighbour.query(family: family, proxies: proxies, interface: interface, &$0) }
      ) { header, body throws(WireError) -> Neighbour? in
        guard let neighbour = try Neighbour.decode(&body), interface == nil || neighbour.interface == interface else { return nil }
        return neighbour
      }
    } catch {
      if interface != nil, error.isNotFound { return [] }
      throw error
    }
  }

  /// Whom a VXLAN interface reaches behind which link address.
  public func forwarding(interface: UInt32) throws(NetlinkError) -> [ForwardingEntry] {
    do throws(NetlinkError) {
      return try socket.dump(
        type: RouteMessageType.getNeighbour, what: "read forwarding entries", body: { ForwardingEntry.query(interface: interface, &$0) }
      ) { header, body throws(WireError) -> ForwardingEntry? in
        guard let entry = try ForwardingEntry.decode(&body), entry.interface == interface else { return nil }
        return entry
      }
    } catch {
      if error.isNotFound { return [] }
      throw error
    }
  }

  // MARK: Changing

  /// Sends all changes, in order, and answers each with its error or nil. Deleting what is not there is success. Throws when the
  /// kernel could not be asked; what came before in the list may have been done then.
  public func apply(_ changes: [RouteNetlinkChange]) throws(NetlinkError) -> [NetlinkError?] {
    var results: [NetlinkError?] = []
    results.reserveCapacity(changes.count)
    var start = 0
    var batch = NetlinkBatch(capacity: min(changes.count, Self.messagesPerSend) * 96)
    while start < changes.count {
      let end = min(start + Self.messagesPerSend, changes.count)
      batch.removeAll()
      for change in changes[start..<end] { change.encode(into: &batch) }
      batch.acknowledgeOnlyLast()
      for (offset, error) in try socket.request(&batch, what: "rtnetlink").enumerated() {
        let change = changes[start + offset]
        if let error, !(change.isDeletion && error.isNotFound) {
          results.append(error.about(change.description))
        } else {
          results.append(nil)
        }
      }
      start = end
    }
    return results
  }
  /// One change, or the first error of several, after all were tried.
  public func apply(_ changes: RouteNetlinkChange...) throws(NetlinkError) {
    for case let error? in try apply(changes) { throw error }
  }
}

/// Notifications of one namespace. Open it before reading the state it is to keep up: then nothing falls between.
public final class RouteMonitor {
  public let socket: NetlinkSocket
  /// Readable when notifications wait.
  public var descriptor: CInt { socket.descriptor.borrowed }

  public static let linksAndAddresses: [UInt32] = [RouteGroup.link, RouteGroup.ipv4Address, RouteGroup.ipv6Address]
  public static let neighboursAndSettings: [UInt32] = [RouteGroup.neighbour, RouteGroup.ipv4Settings, RouteGroup.ipv6Settings]
  public static let routes: [UInt32] = [RouteGroup.ipv4Route, RouteGroup.ipv6Route]

  public init(_ groups: [UInt32], namespace: NetworkNamespace? = nil) throws(NetlinkError) {
    socket = try NetlinkSocket(.route, groups: groups, namespace: namespace?.descriptor.borrowed, bufferOctets: 8 << 20)
  }
  /// Everything that waits. After `.overrun`, read the whole state again: notifications were lost.
  public func receive(_ handler: (RouteNetlinkEvent) -> Void) -> NetlinkSocket.Reception {
    socket.receive { header, body in
      if let event = try? RouteNetlinkEvent.decode(type: header.type, &body) { handler(event) }
    }
  }
}

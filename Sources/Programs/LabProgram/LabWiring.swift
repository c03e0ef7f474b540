/// Namespaces, cables, addresses and static routes of a lab: what a datacenter's cabling and first configuration would be.
import Addresses
import NetlinkEdge
import NetlinkMessages
import Sockets

extension Lab {
  func wire() throws {
    let places =
      topology.routers.map(\.name) + fabric.cables.map(\.a.place).filter { name in !topology.routers.contains { $0.name == name } }
    for place in places {
      Interruption.stopHere()
      let namespace = try NetworkNamespace.create(named: paths.namespace(place))
      let netlink = try RouteNetlink(namespace: namespace)
      let loopback = try index(of: "lo", netlink)
      try netlink.apply(.changeLink(index: loopback, LinkChange(isUp: true)))
      for family in ["ipv4", "ipv6"] { _ = try namespace.ensureSysctl("1", "\(family)/conf/all/ignore_routes_with_linkdown") }
      guard let router = fabric.speaker(place), router.isRouter else { continue }
      for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] { _ = try namespace.ensureSysctl("1", key) }
      for address in [router.address4, router.address6] { try assign(address, loopback, netlink) }
    }
    for cable in fabric.cables {
      Interruption.stopHere()
      let near = try NetworkNamespace.open(named: paths.namespace(cable.b.place))
      let far = try NetworkNamespace.open(named: paths.namespace(cable.a.place))
      let netlink = try RouteNetlink(namespace: near)
      try netlink.apply(
        .addLink(
          NewLink(
            name: cable.b.interface,
            kind: .veth(
              peer: NewLink(name: cable.a.interface, kind: .peer, mtu: cable.mtu, namespace: far.descriptor.borrowed)), mtu: cable.mtu,
            isUp: true)))
      try configure(cable.b, netlink)
      try configure(cable.a, try RouteNetlink(namespace: far))
    }
    // The underlay only: a host without a default route must still answer for its workloads' gateway.
    for place in places { try routeUnderlay(of: place) }
  }

  /// The static routes of one place, whatever of them is there already.
  func routeUnderlay(of place: String) throws {
    let netlink = try RouteNetlink(namespace: NetworkNamespace.open(named: paths.namespace(place)))
    for route in fabric.underlayRoutes(of: place) {
      let hops = try route.gateways.compactMap { gateway -> NextHop? in
        guard
          let own = fabric.cables.flatMap(\.ends).first(where: { end in
            end.place == place && end.addresses.contains { $0.prefix.contains(gateway) }
          }), let link = try netlink.link(named: own.interface), link.isUp
        else { return nil }
        return NextHop(gateway: gateway, interface: link.index)
      }
      guard !hops.isEmpty else { continue }
      try netlink.apply(.replaceRoute(KernelRoute(route.destination, nextHops: hops, protocol: .static)))
    }
  }

  private func configure(_ end: Fabric.End, _ netlink: RouteNetlink) throws {
    let index = try index(of: end.interface, netlink)
    for address in end.addresses { try assign(address, index, netlink) }
    try netlink.apply(.changeLink(index: index, LinkChange(isUp: true)))
  }

  private func assign(_ address: InterfaceAddress, _ index: UInt32, _ netlink: RouteNetlink) throws {
    // No duplicate address detection: the lab knows its addresses, and BIRD binds to them at once.
    try netlink.apply(.setAddress(AssignedAddress(interface: index, address: address, flags: .noDuplicateDetection)))
  }

  private func index(of name: String, _ netlink: RouteNetlink) throws -> UInt32 {
    guard let link = try netlink.link(named: name) else { throw LabProblem("interface \(name) is missing right after it was made") }
    return link.index
  }
}

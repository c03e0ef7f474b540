/// Namespaces, links, addresses and static routes of a lab: what a datacenter's cabling and first configuration would be.
import Addresses
import NetlinkEdge
import NetlinkMessages
import Sockets

extension Lab {
  func wire() throws {
    let rack = try NetworkNamespace.create(named: paths.namespace("rack"))
    let rackNetlink = try RouteNetlink(namespace: rack)
    try bringUpLoopback(rackNetlink)
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] { _ = try rack.ensureSysctl("1", key) }
    for host in topology.hosts {
      let namespace = try NetworkNamespace.create(named: paths.namespace(host.name))
      let hostNetlink = try RouteNetlink(namespace: namespace)
      try bringUpLoopback(hostNetlink)
      try rackNetlink.apply(
        .addLink(
          NewLink(
            name: host.name,
            kind: .veth(peer: NewLink(name: "eth0", kind: .peer, namespace: namespace.descriptor.borrowed)), isUp: true)))
      try configure(rackNetlink, "\(host.name)", [host.routerAddress4, host.routerAddress6])
      try configure(hostNetlink, "eth0", [host.address4, host.address6])
      // The underlay only: a host without a default route must still answer for its workloads' gateway.
      let uplink = try index(of: "eth0", hostNetlink)
      for (underlay, router) in [(Topology.underlay4, host.routerAddress4), (Topology.underlay6, host.routerAddress6)] {
        try hostNetlink.apply(
          .addRoute(KernelRoute(underlay, nextHops: [NextHop(gateway: router.address, interface: uplink)], protocol: .static)))
      }
    }
  }

  private func bringUpLoopback(_ netlink: RouteNetlink) throws {
    try netlink.apply(.changeLink(index: try index(of: "lo", netlink), LinkChange(isUp: true)))
  }

  private func configure(_ netlink: RouteNetlink, _ name: String, _ addresses: [InterfaceAddress]) throws {
    let index = try index(of: name, netlink)
    for address in addresses {
      // No duplicate address detection: the lab knows its addresses, and BIRD binds to them at once.
      try netlink.apply(.setAddress(AssignedAddress(interface: index, address: address, flags: .noDuplicateDetection)))
    }
    try netlink.apply(.changeLink(index: index, LinkChange(isUp: true)))
  }

  private func index(of name: String, _ netlink: RouteNetlink) throws -> UInt32 {
    guard let link = try netlink.link(named: name) else { throw LabProblem("interface \(name) is missing right after it was made") }
    return link.index
  }
}

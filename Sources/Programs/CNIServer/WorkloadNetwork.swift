/// The two ends of a workload's cable: made, checked and removed. Everything here blocks; it runs on threads of its own.
///
/// The workload is alone on its link: its address has full length, its gateway is an address that the host answers for, with the same MAC
/// on every host, so that nothing inside changes when it moves. Neighbours for the gateways are entered for good on both sides (the host's
/// are Felix's work), or the first packet would wait a second for an answer to ARP.
///
/// The host's end is made switched off: no packet passes before its rules are in the kernel.

import Addresses
import Glibc
import NetlinkEdge
import NetlinkMessages
import Sockets

struct WorkloadNetwork: Sendable {
  /// The host's side; nil is the namespace of the process.
  let host: NetworkNamespace?

  static let ipv4Gateway = IPAddress.v4(IPv4Address(169, 254, 1, 1))
  static let ipv6Gateway = IPAddress.v6(MACAddress.hostSide.linkLocal)
  static func gateway(_ family: IPFamily) -> IPAddress { family == .v4 ? ipv4Gateway : ipv6Gateway }

  struct Cable: Sendable {
    var hostInterface: String
    var containerInterface: String
    var mac: MACAddress
    var mtu: UInt32
    var addresses: [IPAddress]
    /// Where the container's routes lead; none means everywhere.
    var destinations: [IPPrefix] = []
    var allowsForwarding: Bool
  }

  /// Why the kernel's state is not what it should be.
  struct Mismatch: Error, CustomStringConvertible {
    let description: String
  }

  /// A locally administered address nobody else has (IEEE 802, section 8.4: second bit of the first octet).
  static func randomMAC() -> MACAddress {
    MACAddress(rawValue: UInt64.random(in: 0...0xffff_ffff_ffff) & ~0x0100_0000_0000 | 0x0200_0000_0000)
  }

  // MARK: Making

  /// Makes the pair, host end off, and sets up the container's end. Leaves nothing behind when it throws.
  func attach(_ cable: Cable, container: NetworkNamespace) throws {
    let netlink = try RouteNetlink(namespace: host)
    // A pair of this name is what a container that died without DEL left: its workload is this one, by the rule of names.
    try remove(cable.hostInterface, with: netlink)
    let peer = NewLink(
      name: cable.containerInterface, kind: .peer, mac: cable.mac, mtu: cable.mtu, namespace: container.descriptor.borrowed)
    try netlink.apply(
      .addLink(NewLink(name: cable.hostInterface, kind: .veth(peer: peer), mac: .hostSide, mtu: cable.mtu)))
    do {
      try container.run { try configure(cable) }
    } catch {
      try? remove(cable.hostInterface, with: netlink)
      throw error
    }
  }

  /// Runs inside the container's namespace. Settings first: switching the interface on starts what they forbid.
  private func configure(_ cable: Cable) throws {
    let name = cable.containerInterface
    let hasIPv6 = cable.addresses.contains { $0.family == .v6 }
    if hasIPv6 {
      try Sysctls.ensure("0", "ipv6/conf/\(name)/disable_ipv6")
      // Nobody else is on this link: no detection of duplicates, no routers to wait for.
      try Sysctls.ensure("0", "ipv6/conf/\(name)/accept_dad")
      try Sysctls.ensure("0", "ipv6/conf/\(name)/accept_ra")
      try Sysctls.ensure("0", "ipv6/conf/\(name)/router_solicitations")
    }
    let forwarding = cable.allowsForwarding ? "1" : "0"
    if cable.addresses.contains(where: { $0.family == .v4 }) { try Sysctls.ensure(forwarding, "ipv4/ip_forward") }
    if hasIPv6 { try Sysctls.ensure(forwarding, "ipv6/conf/all/forwarding") }

    let netlink = try RouteNetlink()
    guard let link = try netlink.link(named: name) else { throw Mismatch(description: "interface \(name) vanished while it was set up") }
    for case let error? in try netlink.apply(Self.changes(cable, interface: link.index)) { throw error }
  }

  private static let loopbackIndex: UInt32 = 1

  static func changes(_ cable: Cable, interface: UInt32) -> [RouteNetlinkChange] {
    var changes: [RouteNetlinkChange] = [
      .changeLink(index: loopbackIndex, LinkChange(isUp: true)),
      .changeLink(index: interface, LinkChange(isUp: true)),
    ]
    for address in cable.addresses {
      let flags: AssignedAddress.Flags = address.family == .v6 ? .noDuplicateDetection : []
      let length: UInt8 = address.family == .v4 ? 32 : 128
      changes.append(.setAddress(AssignedAddress(interface: interface, address: InterfaceAddress(address, length: length), flags: flags)))
    }
    for family in IPFamily.allCases where cable.addresses.contains(where: { $0.family == family }) {
      changes.append(.setNeighbour(.permanent(gateway(family), .hostSide, interface: interface)))
      changes += routes(family, cable.destinations, interface: interface).map { .replaceRoute($0) }
    }
    return changes
  }

  static func routes(_ family: IPFamily, _ destinations: [IPPrefix], interface: UInt32) -> [KernelRoute] {
    let gateway = gateway(family)
    let way = NextHop(gateway: gateway, interface: interface)
    let wanted = destinations.isEmpty ? [family.everything] : destinations.filter { $0.family == family }
    let routes = wanted.map { KernelRoute($0, nextHops: [way], protocol: .boot) }
    // A link-local gateway of IPv6 needs no route to it.
    guard family == .v4 else { return routes }
    return [KernelRoute(gateway.hostPrefix, nextHops: [NextHop(interface: interface)], protocol: .boot, scope: .link)] + routes
  }

  /// Switches the host's end on, and returns when the container's end can send: its queue comes to life a moment after the carrier.
  func open(_ cable: Cable, container: NetworkNamespace) throws {
    let netlink = try RouteNetlink(namespace: host)
    guard let link = try netlink.link(named: cable.hostInterface) else { throw Mismatch(description: "\(cable.hostInterface) is gone") }
    try netlink.apply(.changeLink(index: link.index, LinkChange(isUp: true)))
    let inside = try RouteNetlink(namespace: container)
    let deadline = MonotonicInstant.now + .seconds(2)
    while true {
      guard let end = try inside.link(named: cable.containerInterface) else {
        throw Mismatch(description: "\(cable.containerInterface) is gone")
      }
      if end.operationalState == .up { return }
      guard MonotonicInstant.now < deadline else { throw Mismatch(description: "\(cable.containerInterface) has no carrier") }
      usleep(100)
    }
  }

  // MARK: Removing

  /// Both ends go, wherever the other one is. Returns after the kernel's grace period: no packet passes any more. A missing one is success.
  func remove(_ hostInterface: String) throws {
    try remove(hostInterface, with: try RouteNetlink(namespace: host))
  }
  private func remove(_ hostInterface: String, with netlink: RouteNetlink) throws {
    guard let link = try netlink.link(named: hostInterface) else { return }
    try netlink.apply(.deleteLink(index: link.index))
  }

  // MARK: Checking

  /// Throws a `Mismatch` naming the first difference between the kernel and an endpoint as recorded.
  func verify(_ cable: Cable, container: NetworkNamespace) throws {
    guard let hostEnd = try RouteNetlink(namespace: host).link(named: cable.hostInterface) else {
      throw Mismatch(description: "the host has no interface \(cable.hostInterface)")
    }
    guard hostEnd.isUp else { throw Mismatch(description: "\(cable.hostInterface) is switched off") }
    let name = cable.containerInterface
    let netlink = try RouteNetlink(namespace: container)
    guard let link = try netlink.link(named: name) else { throw Mismatch(description: "the container has no interface \(name)") }
    guard link.isUp else { throw Mismatch(description: "\(name) is switched off") }
    guard link.linkIndex == hostEnd.index, hostEnd.linkIndex == link.index else {
      throw Mismatch(description: "\(name) is not the other end of \(cable.hostInterface)")
    }
    guard link.mac == cable.mac else {
      throw Mismatch(description: "\(name) has the MAC address \(link.mac.map(\.description) ?? "none") instead of \(cable.mac)")
    }
    guard link.mtu == cable.mtu else { throw Mismatch(description: "\(name) has the MTU \(link.mtu) instead of \(cable.mtu)") }
    let assigned = try netlink.addresses(interface: link.index).map(\.address.address)
    for address in cable.addresses where !assigned.contains(address) {
      throw Mismatch(description: "\(name) lacks the address \(address)")
    }
    for family in IPFamily.allCases where cable.addresses.contains(where: { $0.family == family }) {
      let standing = try netlink.routes(family: family)
      for route in Self.routes(family, cable.destinations, interface: link.index)
      where !standing.contains(where: { $0.destination == route.destination && $0.nextHops == route.nextHops }) {
        throw Mismatch(description: "the container lacks the route \(route)")
      }
    }
  }

  /// The host's end: its settings, and the routes to the container that Felix keeps.
  func verifyHost(_ cable: Cable) throws {
    let netlink = try RouteNetlink(namespace: host)
    guard let link = try netlink.link(named: cable.hostInterface) else {
      throw Mismatch(description: "the host has no interface \(cable.hostInterface)")
    }
    guard link.mac == .hostSide else {
      throw Mismatch(description: "\(link.name) has the MAC address \(link.mac.map(\.description) ?? "none") instead of \(MACAddress.hostSide)")
    }
    guard link.mtu == cable.mtu else { throw Mismatch(description: "\(link.name) has the MTU \(link.mtu) instead of \(cable.mtu)") }
    for family in IPFamily.allCases {
      let wanted = cable.addresses.filter { $0.family == family }
      guard !wanted.isEmpty else { continue }
      let standing = try netlink.routes(family: family).filter { $0.nextHops.contains { $0.interface == link.index } }
      if let address = wanted.first(where: { address in !standing.contains { $0.destination == address.hostPrefix } }) {
        throw Mismatch(description: "the host has no route to \(address) by way of \(link.name)")
      }
    }
  }
}

extension IPFamily {
  /// `0.0.0.0/0` or `::/0`.
  var everything: IPPrefix {
    switch self {
    case .v4: IPPrefix(.v4(.unspecified), length: 0)
    case .v6: IPPrefix(.v6(.unspecified), length: 0)
    }
  }
}

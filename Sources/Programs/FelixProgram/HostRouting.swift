/// The host's interfaces, tunnels and routes: from the plan's words to those of the drivers.
///
/// A route to a host of this host's own subnet leads over the interface that has this host's address: which one that is, only the kernel
/// knows, and it may change.
import Addresses
import HostPlans
import LinkDriver
import NetlinkEdge
import NetlinkMessages
import Resources
import RouteDriver
import Sockets
import TrafficDriver
import TunnelDriver

final class HostRouting {
  private(set) var links: LinkDriver
  private(set) var routes: RouteDriver
  let tunnels: TunnelDriver
  /// Those of the host itself.
  var interfaces = HostInterfaces()
  let traffic: TrafficDriver
  private let netlink: RouteNetlink
  private let namespace: NetworkNamespace?
  private var settings = HostSettings()
  /// Routes over whichever interface has the address.
  private var direct: [IPPrefix: (via: IPAddress, from: IPAddress)] = [:]
  /// The interface that has the address, as the routes above were made.
  private var parents: [IPAddress: String] = [:]
  private var isFirst = true

  init(_ netlink: RouteNetlink, _ namespace: NetworkNamespace?) {
    self.netlink = netlink
    self.namespace = namespace
    tunnels = TunnelDriver(netlink: netlink)
    traffic = TrafficDriver(NetlinkTraffic(netlink))
    (links, routes) = Self.drivers(netlink, namespace, HostSettings())
  }

  private static func drivers(
    _ netlink: RouteNetlink, _ namespace: NetworkNamespace?, _ settings: HostSettings
  ) -> (LinkDriver, RouteDriver) {
    (
      LinkDriver(
        netlink: netlink, namespace: namespace,
        settings: LinkSettings(interfacePrefixes: settings.interfacePrefixes, ipv6: settings.ipv6)),
      RouteDriver(
        netlink: netlink, protocol: .felix, ownedInterfacePrefixes: settings.interfacePrefixes, yielding: [.bgp, .bird],
        deletionGrace: .seconds(10))
    )
  }

  /// Other settings: the drivers of links and routes begin anew over the same kernel, and change only what differs. Read them back next.
  func adopt(_ settings: HostSettings) {
    self.settings = settings
    (links, routes) = Self.drivers(netlink, namespace, settings)
    interfaces = HostInterfaces(settings: links.settings)
  }

  func resync() throws {
    try interfaces.resync(netlink)
    traffic.resync()
    try tunnels.resync()
    try routes.resync()
    try links.resync()
  }

  func handle(_ event: RouteNetlinkEvent) {
    interfaces.handle(event)
    links.handle(event)
    tunnels.handle(event)
    traffic.handle(event)
    routes.handle(event)
    switch event {
    case .address(let address), .addressRemoved(let address):
      if parents[address.address.address] != nil { renewParents() }
    case .link, .linkRemoved: if !parents.isEmpty { renewParents() }
    default: break
    }
  }

  /// What is not a workload's. Workloads' routes are wanted by whoever knows their interfaces.
  func want(_ changes: [HostPlanChange], _ plan: HostPlan) {
    if isFirst {
      isFirst = false
      // What an earlier run, or Calico's own Felix, left behind.
      for kind in TunnelKind.allCases where kind.isVXLAN && plan.tunnels[kind] == nil { tunnels.disown(settings.tunnels.deviceName(kind), kind) }
    }
    for change in changes {
      switch change {
      case .settings: for (kind, tunnel) in plan.tunnels { want(tunnel, kind) }
      case .tunnel(let kind, let tunnel): want(tunnel, kind)
      case .tunnelPeer(let peer, let far):
        if peer.kind.isVXLAN, let far, let address = far.address, let mac = far.mac {
          tunnels.want(TunnelEnd(underlay: far.underlay, address: address, mac: mac), of: peer.node, on: peer.kind)
        } else {
          tunnels.want(nil, of: peer.node, on: peer.kind)
        }
      case .route(_, .workload): break
      case .route(let prefix, let route): want(route, for: prefix)
      case .routeRemoved(let prefix): want(nil, for: prefix)
      default: break
      }
    }
  }

  func want(_ route: RoutePlan?, for prefix: IPPrefix) {
    if !direct.isEmpty { direct[prefix] = nil }
    switch route {
    case nil, .workload?: routes.want(nil, for: prefix)
    case .blackhole?: routes.want(.blackhole, for: prefix)
    case .direct(let gateway, let own)?:
      direct[prefix] = (gateway, own)
      routes.want(directRoute(gateway, own), for: prefix)
    case .tunnel(let kind, let gateway)?:
      routes.want(
        RouteSpec(hops: [.init(gateway: gateway, device: settings.tunnels.deviceName(kind), isOnLink: true)]), for: prefix)
    }
  }

  private func directRoute(_ gateway: IPAddress, _ own: IPAddress) -> RouteSpec {
    let parent = parents[own] ?? tunnels.interface(holding: own)
    if let parent { parents[own] = parent }
    return RouteSpec(hops: [.init(gateway: gateway, device: parent, isOnLink: parent != nil)])
  }
  private func renewParents() {
    for (address, parent) in parents where tunnels.interface(holding: address) != parent {
      parents[address] = nil
      for (prefix, route) in direct where route.from == address { routes.want(directRoute(route.via, route.from), for: prefix) }
    }
  }

  private func want(_ tunnel: TunnelPlan?, _ kind: TunnelKind) {
    guard let tunnel, !kind.isWireguard else { return tunnels.want(nil, for: kind) }
    let mtu = settings.tunnels.mtu(kind)
    tunnels.want(
      TunnelDevice(
        kind: kind, name: settings.tunnels.deviceName(kind), underlay: tunnel.underlay, address: tunnel.address, mac: tunnel.mac,
        mtu: mtu == 0 ? nil : mtu, id: settings.tunnels.vxlanVNI, port: settings.tunnels.vxlanPort), for: kind)
  }
}

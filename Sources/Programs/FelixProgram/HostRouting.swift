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
  private var ends = FarEnds()
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
        settings: LinkSettings(interfacePrefixes: settings.interfacePrefixes, ipv6: settings.ipv6, forwards: settings.routing.forwards)),
      RouteDriver(
        netlink: netlink, protocol: .felix, ownedInterfacePrefixes: settings.interfacePrefixes,
        deviceProtocol: RouteProtocol(rawValue: settings.routing.deviceProtocol), removesExternal: settings.routing.removesExternal,
        yielding: [.bgp, .bird], deletionGrace: .seconds(10))
    )
  }

  /// Other settings: the drivers of links and routes begin anew over the same kernel, and change only what differs. Read them back next.
  func adopt(_ settings: HostSettings) {
    self.settings = settings
    (links, routes) = Self.drivers(netlink, namespace, settings)
    interfaces = HostInterfaces(settings: links.settings)
    // Those among them that the plan has routes to are wanted again with the plan's.
    for end in ends.prefixes { want(nil, for: end) }
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
        var end: TunnelEnd?
        if peer.kind.isVXLAN, let far, let address = far.address, let mac = far.mac {
          end = TunnelEnd(underlay: far.underlay, address: address, mac: mac)
        }
        tunnels.want(end, of: peer.node, on: peer.kind)
        guard peer.kind == .vxlanV6 else { continue }
        for prefix in ends.set(end?.address, of: peer.node) where !isWorkloads(plan.routes[prefix]) {
          want(plan.routes[prefix], for: prefix)
        }
      case .route(let prefix, .workload): if !direct.isEmpty { direct[prefix] = nil }
      case .route(let prefix, let route): want(route, for: prefix)
      case .routeRemoved(let prefix): want(nil, for: prefix)
      case .routeHandedOver(let prefix) where ends.contains(prefix): want(nil, for: prefix)
      case .routeHandedOver(let prefix):
        direct[prefix] = nil
        routes.handOver(prefix, to: .bgp, for: .seconds(10))
      default: break
      }
    }
  }

  func want(_ route: RoutePlan?, for prefix: IPPrefix) {
    if !direct.isEmpty { direct[prefix] = nil }
    // A far end is reached through its tunnel alone, whatever else the address is elsewhere; what is on this host comes first.
    if ends.contains(prefix), route?.isToAnotherHost ?? true {
      return routes.want(.device(settings.tunnels.deviceName(.vxlanV6), metric: metric(prefix)), for: prefix)
    }
    switch route {
    case nil, .workload?: routes.want(nil, for: prefix)
    case .blackhole?: routes.want(RouteSpec(type: .blackhole, metric: metric(prefix)), for: prefix)
    case .direct(let gateway, let own)?:
      direct[prefix] = (gateway, own)
      routes.want(directRoute(gateway, own, prefix), for: prefix)
    case .tunnel(let kind, let gateway)?:
      routes.want(
        RouteSpec(hops: [.init(gateway: gateway, device: settings.tunnels.deviceName(kind), isOnLink: true)], metric: metric(prefix)),
        for: prefix)
    }
  }

  private func isWorkloads(_ route: RoutePlan?) -> Bool { if case .workload? = route { true } else { false } }

  /// The one that BGP's routes have: what two owners pass on to each other must be one route to the kernel.
  ///
  /// The default is written as no metric for IPv4 and counts as 1024: a stranger's route to the same address, which has none either, then
  /// stands in the way and is told, where one beside ours would silently win.
  private func metric(_ prefix: IPPrefix) -> UInt32 {
    let normal = priorities(prefix).normal
    return prefix.family == .v4 && normal == RoutingSettings.Priorities().normal ? 0 : normal
  }
  private func priorities(_ prefix: IPPrefix) -> RoutingSettings.Priorities {
    prefix.family == .v4 ? settings.routing.priorities : settings.routing.prioritiesV6
  }

  /// A route that BGP prefers everywhere while the workload arrives, and for the time that the others' routes need afterwards.
  func workloadRoute(_ name: String, _ prefix: IPPrefix, isArriving: Bool, now: MonotonicInstant = .now) -> RouteSpec {
    if isArriving {
      arriving.insert(prefix)
      converging[prefix] = nil
    } else if !arriving.isEmpty, arriving.remove(prefix) != nil {
      converging[prefix] = now + settings.routing.convergence
    }
    let isElevated = isArriving || (converging[prefix].map { $0 > now } ?? false)
    return RouteSpec(
      hops: [.init(device: name)], metric: isElevated ? priorities(prefix).elevated : metric(prefix),
      preferredSource: prefix.family == .v4 ? settings.routing.deviceSource : settings.routing.deviceSourceV6,
      protocol: RouteProtocol(rawValue: settings.routing.deviceProtocol))
  }
  private var arriving: Set<IPPrefix> = []
  private var converging: [IPPrefix: MonotonicInstant] = [:]
  /// Prefixes whose time of preference is over, and when the next one's is.
  func takeConverged(now: MonotonicInstant = .now) -> (over: [IPPrefix], next: MonotonicInstant?) {
    guard !converging.isEmpty else { return ([], nil) }
    let over = converging.filter { $0.value <= now }.map(\.key)
    for prefix in over { converging[prefix] = nil }
    return (over, converging.values.min())
  }

  /// Nothing is written into the FIB (`routeSyncDisabled`).
  var isDisabled: Bool { settings.routing.isDisabled }
  func applyRoutes() throws -> RouteDriver.Report { isDisabled ? RouteDriver.Report() : try routes.apply() }
  func stands(_ prefix: IPPrefix) -> Bool { isDisabled || routes.stands(prefix) }

  private func directRoute(_ gateway: IPAddress, _ own: IPAddress, _ prefix: IPPrefix) -> RouteSpec {
    let parent = parents[own] ?? tunnels.interface(holding: own)
    if let parent { parents[own] = parent }
    return RouteSpec(hops: [.init(gateway: gateway, device: parent, isOnLink: parent != nil)], metric: metric(prefix))
  }
  private func renewParents() {
    for (address, parent) in parents where tunnels.interface(holding: address) != parent {
      parents[address] = nil
      for (prefix, route) in direct where route.from == address { routes.want(directRoute(route.via, route.from, prefix), for: prefix) }
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

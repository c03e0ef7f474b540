/// The kernel's main routing table as the speaker sees it: Felix's routes to announce, and everyone's routes to resolve next hops by.

import Addresses
import NetlinkMessages
import RouteDriver

/// How packets to a BGP next hop leave this host.
struct Resolution: Hashable {
  /// 0 when directly connected; otherwise the metric of the route that covers it.
  var interiorCost: UInt32
  var hops: [RouteSpec.Hop]
}

struct KernelView {
  private(set) var links: [UInt32: Link] = [:]
  /// Our own addresses and how many interfaces have each.
  private var addresses: [IPAddress: Int] = [:]
  private var assigned: [UInt32: Set<IPAddress>] = [:]
  /// Main table without routes of BGP: by prefix, then metric.
  private var routes: [IPPrefix: [UInt32: KernelRoute]] = [:]
  /// How many prefixes of each length there are: lookups try only those.
  private var lengths: [IPFamily: [Int: Int]] = [.v4: [:], .v6: [:]]

  /// Routes that Felix made: blocks and workloads.
  private(set) var ownBlocks: Set<IPPrefix> = []
  /// With the metric of each, 0 for none.
  private(set) var ownRoutes: [IPPrefix: UInt32] = [:]

  mutating func reset(links: [Link], addresses: [AssignedAddress], routes: [KernelRoute]) {
    self = KernelView()
    for link in links { self.links[link.index] = link }
    for address in addresses { add(address) }
    for route in routes { add(route) }
  }

  /// Applies a notification. True if anything that the speaker uses has changed.
  mutating func handle(_ event: RouteNetlinkEvent) -> Bool {
    switch event {
    case .link(let link):
      let before = links[link.index]
      links[link.index] = link
      // Routes over it may have been read before it was known.
      if before == nil, link.isTunnel { for prefix in prefixes(over: link.index) { noteOwn(prefix) } }
      // The kernel drops IPv4 routes of an interface that goes down without a word.
      if before?.isUp == true, !link.isUp { removeRoutes(of: link.index) }
      return before?.isUp != link.isUp || before?.isOperational != link.isOperational || before?.name != link.name
    case .linkRemoved(let link):
      links[link.index] = nil
      removeRoutes(of: link.index)
      for address in assigned.removeValue(forKey: link.index) ?? [] { count(address, -1) }
      return true
    case .address(let address): return add(address)
    case .addressRemoved(let address):
      guard assigned[address.interface]?.remove(address.address.address) != nil else { return false }
      count(address.address.address, -1)
      return true
    case .route(let route): return add(route)
    case .routeRemoved(let route):
      guard route.table == KernelRoute.mainTable, route.protocol != .bgp, let known = routes[route.destination]?[route.metric],
        known.protocol == route.protocol
      else { return false }
      // IPv6 tells the end of one hop of several.
      let left = known.nextHops.filter { !route.nextHops.contains($0) }
      if known.nextHops.count > route.nextHops.count, !left.isEmpty {
        replace(known, with: known.with(nextHops: left))
      } else {
        remove(known)
      }
      return true
    case .neighbour, .neighbourRemoved, .forwarding, .forwardingRemoved, .settings: return false
    }
  }

  @discardableResult
  private mutating func add(_ address: AssignedAddress) -> Bool {
    guard assigned[address.interface, default: []].insert(address.address.address).inserted else { return false }
    count(address.address.address, +1)
    return true
  }
  private mutating func count(_ address: IPAddress, _ change: Int) {
    let number = addresses[address, default: 0] + change
    addresses[address] = number > 0 ? number : nil
  }

  @discardableResult
  private mutating func add(_ route: KernelRoute) -> Bool {
    guard route.table == KernelRoute.mainTable else { return false }
    let known = routes[route.destination]?[route.metric]
    if route.protocol == .bgp {
      // One of ours took the place of another's.
      if let known { remove(known) }
      return known != nil
    }
    guard known != route else { return false }
    if let known { remove(known) }
    if routes[route.destination] == nil {
      lengths[route.destination.family]![Int(route.destination.length), default: 0] += 1
    }
    routes[route.destination, default: [:]][route.metric] = route
    noteOwn(route.destination)
    return true
  }

  private mutating func replace(_ old: KernelRoute, with new: KernelRoute) {
    remove(old)
    add(new)
  }

  private mutating func remove(_ route: KernelRoute) {
    routes[route.destination]?[route.metric] = nil
    if routes[route.destination]?.isEmpty == true {
      routes[route.destination] = nil
      lengths[route.destination.family]![Int(route.destination.length)]! -= 1
      if lengths[route.destination.family]![Int(route.destination.length)] == 0 {
        lengths[route.destination.family]![Int(route.destination.length)] = nil
      }
    }
    noteOwn(route.destination)
  }

  private mutating func removeRoutes(of interface: UInt32) {
    let gone = routes.values.flatMap(\.values).filter { route in
      !route.nextHops.isEmpty && route.nextHops.allSatisfy { $0.interface == interface }
    }
    for route in gone { remove(route) }
  }

  private func isTunnel(_ interface: UInt32?) -> Bool { interface.flatMap { links[$0] }?.isTunnel ?? false }
  private func prefixes(over interface: UInt32) -> [IPPrefix] {
    routes.filter { $0.value.values.contains { $0.nextHops.contains { $0.interface == interface } } }.map(\.key)
  }

  private mutating func noteOwn(_ prefix: IPPrefix) {
    // What has a gateway, or goes into a tunnel, leads to another host: only that one announces it.
    let felix = routes[prefix]?.values.filter { route in
      route.protocol == .felix && route.nextHops.allSatisfy { $0.gateway == nil && !isTunnel($0.interface) }
    } ?? []
    let isBlock = felix.contains { !$0.type.isForwarding }
    if isBlock { ownBlocks.insert(prefix) } else { ownBlocks.remove(prefix) }
    ownRoutes[prefix] = isBlock || prefix.isHost ? felix.map(\.metric).min() : nil
  }

  // MARK: Resolving

  func isOwn(_ address: IPAddress) -> Bool { addresses[address] != nil }

  /// By the longest match over routes that are not BGP's, so that no route resolves through itself or through another of ours.
  /// Nil if there is no way, or none that works now.
  func resolve(_ address: IPAddress) -> Resolution? {
    guard !isOwn(address), !address.isUnspecified, !address.isMulticast, !address.isLoopback else { return nil }
    for length in (lengths[address.family] ?? [:]).keys.sorted(by: >) {
      guard let found = routes[IPPrefix(address, length: UInt8(length))] else { continue }
      for route in found.values.sorted(by: { $0.metric < $1.metric }) {
        guard route.type == .unicast else { return nil }
        let hops = route.nextHops.compactMap { hop -> RouteSpec.Hop? in
          guard let index = hop.interface, let link = links[index], link.isOperational else { return nil }
          if let gateway = hop.gateway {
            return RouteSpec.Hop(gateway: gateway, device: link.name, weight: hop.weight, isOnLink: hop.isOnLink)
          }
          return RouteSpec.Hop(gateway: address, device: link.name, weight: hop.weight)
        }
        if hops.isEmpty { continue }
        let isConnected = route.nextHops.contains { $0.gateway == nil }
        return Resolution(interiorCost: isConnected ? 0 : route.metric, hops: hops)
      }
    }
    return nil
  }
}

extension Link {
  /// Made by Felix, towards other hosts.
  fileprivate var isTunnel: Bool { kind == "vxlan" || kind == "ipip" || kind == "wireguard" }
}

extension KernelRoute {
  func with(nextHops: [NetlinkMessages.NextHop]) -> KernelRoute {
    KernelRoute(
      destination, nextHops: nextHops, type: type, protocol: `protocol`, table: table, metric: metric, preferredSource: preferredSource)
  }
}

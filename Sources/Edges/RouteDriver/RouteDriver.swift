/// Keeps the routes of one protocol number in one table of the kernel as its owner wants them.
///
/// Felix has one of these (workload and block routes, protocol 80), the BGP speaker another (learned routes, protocol 81). Only routes
/// of that protocol are ever changed or deleted, and, if asked for, any route on interfaces of a name prefix.
///
/// Hazards and the answers:
/// - The kernel removes IPv4 routes along with their interface, and along with the last IPv4 address of an interface, and tells nobody: link
///   events count as removals, and so does the end of an address. Where others remained, the answer to adding the route says so.
/// - A route of another program stands where ours would: it is left alone (adding is exclusive), and the conflict is told. Protocols in
///   `yielding` are the exception: what a BGP daemon has learned of a place far away gives way to what is here.
/// - Another program replaces ours: its RTM_NEWROUTE on a key of ours makes us read back.
/// - Interfaces come again under another index: routes name interfaces, and are resolved anew with every link event.
/// - Two owners pass a route on without a gap: whoever gives it away leaves it for a while (`letGo`), or gives it the other's protocol
///   (`handOver`), which the other takes for its own and leaves for `deletionGrace`.
/// - The CNI server writes a workload's route before Felix hears of the workload: a route that just appeared is not deleted for
///   `deletionGrace`.

public import Addresses
import Deltas
public import NetlinkEdge
public import NetlinkMessages
public import Sockets

/// One owner at a time. Feed it with the events of a `RouteMonitor` (links, addresses, routes) opened before `resync()`.
public final class RouteDriver {
  public struct Report: Equatable, Sendable {
    /// Changes the kernel accepted.
    public var changed = 0
    /// Routes that are wanted and do not stand, with the reason.
    public var problems: [RouteProblem] = []
    /// When to call `apply` again although nothing happened; nil when there is no need.
    public var again: MonotonicInstant?

    public init(changed: Int = 0, problems: [RouteProblem] = [], again: MonotonicInstant? = nil) {
      self.changed = changed
      self.problems = problems
      self.again = again
    }
  }
  typealias Key = KernelRoute.Key

  public let `protocol`: RouteProtocol
  public let table: UInt32
  public let families: Set<IPFamily>
  /// Routes on interfaces whose names begin so are ours whatever their protocol (except the kernel's own).
  public let ownedInterfacePrefixes: [String]
  /// Whose routes ours may replace, in one step. Their owner hears of it from the kernel.
  public let yielding: Set<RouteProtocol>
  /// Of routes on our interfaces: those of this protocol are ours as well, and all others if they are to be removed.
  public let deviceProtocol: RouteProtocol
  private let removesExternal: Bool
  private let deletionGrace: Duration
  private let netlink: RouteNetlink

  private struct Wish {
    var spec: RouteSpec
    /// Of the route that the kernel is asked for; nil while an interface is missing.
    var key: Key?
  }
  private var wishes: [IPPrefix: Wish] = [:]
  /// What is wanted over each interface; what is no longer is among it as well.
  private var prefixesByDevice: [String: [IPPrefix]] = [:]
  private var prefixesCounted = 0
  private var links: [UInt32: Link] = [:]
  private var linkIndexes: [String: UInt32] = [:]
  private var deltas = DeltaMap<Key, KernelRoute> { $0.isSatisfied(by: $1) }
  /// Wanted routes (or hops of them) that wait for an interface.
  private var waiting: [IPPrefix: String] = [:]
  /// Refused by the kernel; tried again when something changed that may matter.
  private var refused: [Key: String] = [:]
  /// What stands over each interface; what has left it since is among it as well.
  private var standingByInterface: [UInt32: [Key]] = [:]
  private var standingCounted = 0
  /// Next hops as they were made last: most routes of a batch have those of the one before.
  private var hopsMade: (from: [RouteSpec.Hop], to: [NextHop])?
  private var appeared: [Key: MonotonicInstant] = [:]
  /// Until when another owner may take the place of what is no longer wanted.
  private var leaving: [Key: MonotonicInstant] = [:]
  /// To be given, or given, to another owner, and when to look whether that one has it.
  private var handing: [Key: (route: KernelRoute, until: MonotonicInstant)] = [:]
  private var needsReadBack = true

  public init(
    netlink: RouteNetlink, protocol: RouteProtocol, table: UInt32 = KernelRoute.mainTable, families: Set<IPFamily> = [.v4, .v6],
    ownedInterfacePrefixes: [String] = [], deviceProtocol: RouteProtocol? = nil, removesExternal: Bool = true,
    yielding: Set<RouteProtocol> = [], deletionGrace: Duration = .zero
  ) {
    self.netlink = netlink
    self.protocol = `protocol`
    self.table = table
    self.families = families
    self.ownedInterfacePrefixes = ownedInterfacePrefixes
    self.deviceProtocol = deviceProtocol ?? `protocol`
    self.removesExternal = removesExternal
    self.yielding = yielding
    self.deletionGrace = deletionGrace
  }

  // MARK: Wanting

  /// Nil: no route of ours to this prefix. Nothing is sent before `apply`.
  public func want(_ spec: RouteSpec?, for prefix: IPPrefix) {
    guard families.contains(prefix.family) else { return }
    let before = wishes[prefix]
    guard before?.spec != spec else { return }
    if before?.spec.hops != spec?.hops {
      for hop in spec?.hops ?? [] { note(prefix, over: hop.device) }
    }
    resolve(prefix, spec, before?.key)
    // As with what stands: lists are put in order now and then, and not with each change.
    guard prefixesCounted > 4 * wishes.count + 1024 else { return }
    prefixesByDevice = [:]
    prefixesCounted = 0
    for (prefix, wish) in wishes { for hop in wish.spec.hops { note(prefix, over: hop.device) } }
  }
  private func note(_ prefix: IPPrefix, over device: String?) {
    guard let device else { return }
    prefixesByDevice[device, default: []].append(prefix)
    prefixesCounted += 1
  }
  /// No longer wanted, and another owner is to take its place: what stands is removed only after `grace`.
  public func letGo(_ prefix: IPPrefix, for grace: Duration, now: MonotonicInstant = .now) {
    guard let wish = wishes[prefix] else { return }
    if let key = wish.key, deltas.observed[key] != nil { leaving[key] = now + grace }
    want(nil, for: prefix)
  }
  /// No longer wanted here: another owner is to have it. What stands gets that owner's protocol in one step; if it still stands unchanged
  /// after `grace`, nobody wants it, and it is removed.
  public func handOver(_ prefix: IPPrefix, to other: RouteProtocol, for grace: Duration, now: MonotonicInstant = .now) {
    if let key = wishes[prefix]?.key, let route = deltas.observed[key], isOurs(route) {
      handing[key] = (route.with(protocol: other), now + grace)
    }
    want(nil, for: prefix)
  }
  public var wantedCount: Int { wishes.count }
  /// True when the kernel, as far as we know, is as wanted, and nothing waits.
  public var isSettled: Bool { deltas.isSettled && waiting.isEmpty && !needsReadBack }
  /// Routes of ours that stand, as last seen.
  public var standing: [KernelRoute] { Array(deltas.observed.values) }
  /// Whether the wanted route to `prefix` stands, as last seen; false if none is wanted.
  public func stands(_ prefix: IPPrefix) -> Bool {
    guard waiting[prefix] == nil, let key = wishes[prefix]?.key else { return false }
    return !deltas.updateKeys.contains(key)
  }

  private func resolve(_ prefix: IPPrefix) {
    let wish = wishes[prefix]
    resolve(prefix, wish?.spec, wish?.key)
  }
  /// Most of the books below are empty most of the time; asking an empty one would cost a hash of the key all the same.
  private func resolve(_ prefix: IPPrefix, _ spec: RouteSpec?, _ before: Key?) {
    if !waiting.isEmpty { waiting[prefix] = nil }
    var route: KernelRoute?
    if let spec {
      let hops = nextHops(spec.hops, prefix)
      if !hops.isEmpty || !spec.type.isForwarding {
        route = KernelRoute(
          prefix, nextHops: hops, type: spec.type, protocol: spec.protocol ?? `protocol`, table: table, metric: spec.metric,
          preferredSource: spec.preferredSource)
      }
    }
    // Another metric is another route to the kernel.
    let key = route?.key
    if let before, before != key {
      deltas.want(nil, for: before)
      if !refused.isEmpty { refused[before] = nil }
    }
    wishes[prefix] = spec.map { Wish(spec: $0, key: key) }
    if let route, let key {
      if !refused.isEmpty, deltas.wanted[key] != route { refused[key] = nil }
      deltas.want(route, for: key)
      if !appeared.isEmpty { appeared[key] = nil }
      if !leaving.isEmpty { leaving[key] = nil }
    }
  }

  /// Those that can be had now; of one that cannot, `waiting` has the reason.
  private func nextHops(_ wanted: [RouteSpec.Hop], _ prefix: IPPrefix) -> [NextHop] {
    if let hopsMade, hopsMade.from == wanted { return hopsMade.to }
    var hops: [NextHop] = []
    for hop in wanted {
      var index: UInt32?
      if let device = hop.device {
        guard let found = linkIndexes[device] else {
          waiting[prefix] = "\(device) does not exist; retrying when it appears"
          continue
        }
        guard links[found]?.isUp == true else {
          waiting[prefix] = "\(device) is down; retrying when it is up"
          continue
        }
        index = found
      }
      hops.append(NextHop(gateway: hop.gateway, interface: index, weight: hop.weight, isOnLink: hop.isOnLink))
    }
    if hops.count == wanted.count { hopsMade = (wanted, hops) }
    return hops
  }

  // MARK: Observing

  /// Link, address and route events; others are ignored.
  public func handle(_ event: RouteNetlinkEvent, now: MonotonicInstant = .now) {
    switch event {
    case .link(let link): update(link)
    case .linkRemoved(let link): remove(link)
    case .address: refused.removeAll()
    case .addressRemoved(let address):
      refused.removeAll()
      if address.address.address.family == .v4 { doubt(address.interface) }
    case .route(let route):
      guard route.table == table, families.contains(route.destination.family) else { return }
      if isOurs(route) {
        if deltas.observed[route.key] == nil, deltas.wanted[route.key] == nil { appeared[route.key] = now }
        // Whoever stood in the way has made it ours.
        if !refused.isEmpty { refused[route.key] = nil }
        stand(route, route.key)
      } else if deltas.observed[route.key] != nil {
        needsReadBack = true
      }
    case .routeRemoved(let route):
      guard route.table == table else { return }
      // What stood in the way of ours may be gone.
      refused[route.key] = nil
      guard isOurs(route), let standing = deltas.observed[route.key] else { return }
      // IPv6 may tell the end of one hop of several in the same words.
      if standing.nextHops.count > max(route.nextHops.count, 1) { needsReadBack = true } else { stand(nil, route.key) }
    case .neighbour, .neighbourRemoved, .forwarding, .forwardingRemoved, .settings: break
    }
  }
  /// False for routes of others that stand in nobody's way: hosts may have very many of them.
  public func isConcerned(by event: RouteNetlinkEvent) -> Bool {
    guard case .route(let route) = event else {
      guard case .routeRemoved(let route) = event else { return true }
      return isConcerned(by: .route(route))
    }
    return isOurs(route) || deltas.wanted[route.key] != nil || deltas.observed[route.key] != nil
  }
  /// Everything read anew: after a lost notification, and from time to time.
  public func resync() throws(NetlinkError) {
    let links = try netlink.links()
    hopsMade = nil
    self.links = [:]
    linkIndexes = [:]
    for link in links {
      self.links[link.index] = link
      linkIndexes[link.name] = link.index
    }
    refused.removeAll()
    try readBack()
    for prefix in Array(wishes.keys) { resolve(prefix) }
  }

  private func isOurs(_ route: KernelRoute) -> Bool {
    if route.protocol == `protocol` { return true }
    guard !ownedInterfacePrefixes.isEmpty, route.protocol != .kernel, removesExternal || route.protocol == deviceProtocol,
      route.nextHops.count == 1, let index = route.nextHops[0].interface,
      let link = links[index]
    else { return false }
    return ownedInterfacePrefixes.contains { link.name.hasPrefix($0) }
  }

  private func readBack() throws(NetlinkError) {
    var all: [Key: KernelRoute] = [:]
    for family in families {
      for route in try netlink.routes(table: table, protocol: ownedInterfacePrefixes.isEmpty ? `protocol` : nil, family: family)
      where isOurs(route) { all[route.key] = route }
    }
    deltas.observeAll(all)
    standingByInterface = [:]
    standingCounted = 0
    for (key, route) in all { note(route, key) }
    needsReadBack = false
  }

  private func note(_ route: KernelRoute, _ key: Key) {
    for hop in route.nextHops {
      guard let index = hop.interface else { continue }
      standingByInterface[index, default: []].append(key)
      standingCounted += 1
    }
    // Routes that come and go, or change interfaces, leave their traces.
    guard standingCounted > 4 * deltas.observed.count + 1024 else { return }
    standingByInterface = [:]
    standingCounted = 0
    for (key, route) in deltas.observed { note(route, key) }
  }
  private func stand(_ route: KernelRoute?, _ key: Key) {
    let before = deltas.observed[key]?.nextHops ?? []
    deltas.observe(route, for: key)
    // Almost every change leaves the interface as it was, or there was none before.
    let after = route?.nextHops ?? []
    if let route {
      if before.map(\.interface) != after.map(\.interface) { note(route, key) }
      return
    }
    if !appeared.isEmpty { appeared[key] = nil }
    if !leaving.isEmpty { leaving[key] = nil }
  }

  private func update(_ link: Link) {
    let before = links[link.index]
    links[link.index] = link
    hopsMade = nil
    if let before, before.name != link.name {
      if linkIndexes[before.name] == link.index { linkIndexes[before.name] = nil }
      linkIndexes[link.name] = link.index
      resolveAll(on: before.name)
    }
    linkIndexes[link.name] = link.index
    guard before?.isUp != link.isUp || before?.name != link.name || before?.isOperational != link.isOperational else { return }
    if !link.isUp { forgetRoutes(on: link.index) }
    refused.removeAll()
    resolveAll(on: link.name)
  }
  private func remove(_ link: Link) {
    let name = links[link.index]?.name ?? link.name
    links[link.index] = nil
    hopsMade = nil
    if linkIndexes[name] == link.index { linkIndexes[name] = nil }
    forgetRoutes(on: link.index)
    standingByInterface[link.index] = nil
    resolveAll(on: name)
  }
  private func resolveAll(on device: String) {
    guard let all = prefixesByDevice[device] else { return }
    let prefixes = Set(all).filter { wishes[$0]?.spec.hops.contains { $0.device == device } ?? false }
    prefixesCounted += prefixes.count - all.count
    prefixesByDevice[device] = Array(prefixes)
    for prefix in prefixes { resolve(prefix) }
  }
  /// The wanted IPv4 routes on an interface may be gone.
  private func doubt(_ index: UInt32) {
    for key in standingByInterface[index] ?? [] where key.destination.family == .v4 && deltas.wanted[key] != nil {
      if let route = deltas.observed[key], route.nextHops.count > 1 { needsReadBack = true } else { stand(nil, key) }
    }
  }
  private func forgetRoutes(on index: UInt32) {
    for key in standingByInterface.removeValue(forKey: index) ?? [] {
      standingCounted -= 1
      guard let route = deltas.observed[key], route.nextHops.contains(where: { $0.interface == index }) else { continue }
      if route.nextHops.count > 1 { needsReadBack = true } else { stand(nil, key) }
    }
  }

  // MARK: Applying

  /// Sends what is left to do as batches. Call it only when what is wanted is complete: all else of ours is removed.
  ///
  /// Order: changes and additions first, so that a destination is never without a route; then removals. What leads through a gateway comes
  /// after what leads straight over an interface, and goes before it: the kernel (IPv6) refuses a gateway that it finds elsewhere.
  public func apply(now: MonotonicInstant = .now) throws(NetlinkError) -> Report {
    if needsReadBack {
      if links.isEmpty { try resync() } else { try readBack() }
    }
    var report = Report()
    if !handing.isEmpty { try hand(&report, now) }
    var updates = deltas.pendingUpdates
    if !refused.isEmpty { updates.removeAll { refused[$0.key] != nil } }
    let farther = updates.partition { $0.value.hasGateway }
    if farther > 0, farther < updates.count {
      report.changed += try write(Array(updates[..<farther]))
      updates.removeSubrange(..<farther)
    }
    report.changed += try write(updates)

    var deletions: [(key: Key, value: KernelRoute)] = []
    for (key, route) in deltas.pendingDeletions {
      let held = leaving[key] ?? (deletionGrace > .zero ? appeared[key].map { $0 + deletionGrace } : nil)
      if let held, held > now {
        report.again = min(report.again ?? held, held)
      } else {
        deletions.append((key, route))
      }
    }
    _ = deletions.partition { !$0.value.hasGateway }
    let results = try netlink.apply(deletions.map { .deleteRoute($0.value) })
    for ((key, route), error) in zip(deletions, results) {
      if let error {
        report.problems.append(RouteProblem(prefix: route.destination, reason: "cannot be removed: \(error)"))
      } else {
        stand(nil, key)
        report.changed += 1
      }
    }
    for (prefix, reason) in waiting { report.problems.append(RouteProblem(prefix: prefix, reason: reason)) }
    for (key, reason) in refused where deltas.wanted[key] != nil {
      report.problems.append(RouteProblem(prefix: key.destination, reason: reason))
    }
    report.problems.sort { $0.prefix < $1.prefix }
    return report
  }

  /// Two rounds: what stood in the way the first time has been read back. What still stands there is told.
  private func write(_ updates: [(key: Key, value: KernelRoute)]) throws(NetlinkError) -> Int {
    var updates = updates
    var changed = try send(&updates)
    if !updates.isEmpty { changed += try send(&updates, over: try yieldingRoutes()) }
    for (key, route) in updates {
      let foreign = try netlink.routes(table: table, family: key.destination.family).first { $0.key == key }
      let owner = foreign.map { "a route of protocol \($0.protocol)" } ?? "another route"
      refused[key] = "\(owner) stands in its place (\(route)); remove that one, or choose another metric"
    }
    return changed
  }

  private func hand(_ report: inout Report, _ now: MonotonicInstant) throws(NetlinkError) {
    // Wanted again meanwhile: then it never went.
    for key in handing.keys where deltas.wanted[key] != nil { handing[key] = nil }
    let due = handing.filter { deltas.observed[$0.key] != nil }.map { ($0.key, $0.value.route) }
    for ((key, _), error) in zip(due, try netlink.apply(due.map { .replaceRoute($0.1) })) {
      if error != nil { handing[key] = nil } else {
        stand(nil, key)
        report.changed += 1
      }
    }
    let over = handing.filter { $0.value.until <= now }
    if !over.isEmpty {
      var standing: Set<KernelRoute> = []
      for other in Set(over.values.map(\.route.protocol)) { standing.formUnion(try netlink.routes(table: table, protocol: other)) }
      _ = try netlink.apply(over.values.map(\.route).filter(standing.contains).map { .deleteRoute($0) })
      for key in over.keys { handing[key] = nil }
    }
    if let next = handing.values.map(\.until).min() { report.again = min(report.again ?? next, next) }
  }

  private func yieldingRoutes() throws(NetlinkError) -> Set<Key> {
    var keys: Set<Key> = []
    for other in yielding { for route in try netlink.routes(table: table, protocol: other) { keys.insert(route.key) } }
    return keys
  }

  /// Sends the updates; leaves in the list those whose place another route held, after reading back. Returns how many were done.
  private func send(_ updates: inout [(key: Key, value: KernelRoute)], over others: Set<Key> = []) throws(NetlinkError) -> Int {
    let changes: [RouteNetlinkChange] = updates.map {
      deltas.observed[$0.key] == nil && !others.contains($0.key) ? .addRoute($0.value) : .replaceRoute($0.value)
    }
    var occupied: [(key: Key, value: KernelRoute)] = []
    var changed = 0
    for (position, error) in try netlink.apply(changes).enumerated() {
      let (key, route) = updates[position]
      guard let error else {
        if case .addRoute = changes[position] {
          deltas.settle(key, with: route)
          note(route, key)
        } else {
          stand(route, key)
        }
        if !appeared.isEmpty { appeared[key] = nil }
        changed += 1
        continue
      }
      if error.isExists {
        occupied.append((key, route))
      } else {
        let retry = error.needsInterface ? "retrying when an interface or address changes" : "retrying at the next change"
        refused[key] = "\(error); \(retry)"
      }
    }
    if !occupied.isEmpty {
      try readBack()
      occupied.removeAll { !deltas.updateKeys.contains($0.key) }
    }
    updates = occupied
    return changed
  }
}

extension KernelRoute {
  var hasGateway: Bool { nextHops.contains { $0.gateway != nil } }
}

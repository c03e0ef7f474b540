/// Makes the host's end of every workload interface what a routed workload needs: settings, gateway addresses, neighbours.
///
/// Everything is read first, and only what differs is written: a restart over a right kernel writes nothing.
///
/// Hazards and the answers:
/// - The workload's gateway is 169.254.1.1. proxy_arp answers for it only if the host has a route to that address through another
///   interface: on a host without a default route nobody would answer, and a proxy neighbour entry does not help, since the kernel
///   asks the routes first (seen on 6.18). So the address stands on the interface itself. Its scope is "host": a wider one would
///   make it the source address of what the host sends to the workload (and so would route_localnet; see `LinkSettings`).
/// - The IPv6 gateway is the host's link-local address. While the kernel checks it for duplicates it does not answer, so the check is off.
/// - A first packet to a workload whose neighbour entry is missing waits for ARP, a second when the link is just coming up: entries are
///   permanent.
/// - Somebody else changes a neighbour, forwarding or proxy_arp: the kernel tells, and the interface is looked at again. Other sysctls change
///   in silence, and wait for the next resync.
/// - Workloads remember their gateway as ee:ee:ee:ee:ee:ee: an interface that had this address and is given another gets it back.
/// - Switching an interface off removes neighbours and IPv6 addresses silently: everything is looked at again when it is up.

public import Addresses
public import NetlinkEdge
public import NetlinkMessages
import Sockets

/// One owner at a time. Feed it with the link and address events of a `RouteMonitor` opened before `resync()`.
public final class LinkDriver {
  public struct Report: Equatable, Sendable {
    /// Changes made: sysctls and messages accepted.
    public var changed = 0
    /// Wanted interfaces that are not as they should be, with the reason.
    public var problems: [LinkProblem] = []
    public init(changed: Int = 0, problems: [LinkProblem] = []) {
      self.changed = changed
      self.problems = problems
    }
  }

  /// What workloads have as their IPv4 gateway.
  public static let gateway = IPAddress.v4(IPv4Address(169, 254, 1, 1))
  /// What workloads have as their IPv6 gateway: the link-local address of ee:ee:ee:ee:ee:ee.
  public static let gateway6 = IPAddress.v6(MACAddress.hostSide.linkLocal)

  public let settings: LinkSettings
  private let netlink: RouteNetlink
  private let namespace: NetworkNamespace?
  /// Called at once for interfaces with a workload prefix, from `handle` and `resync`.
  public var onTransition: ((LinkTransition) -> Void)?

  private var wanted: [String: WorkloadLink] = [:]
  private var links: [UInt32: Link] = [:]
  private var indexes: [String: UInt32] = [:]
  /// Interfaces found or made right since they last changed.
  private var verified: Set<UInt32> = []
  private var unverified: Set<String> = []
  /// Interfaces that had the address ee:ee:ee:ee:ee:ee when they were verified.
  private var answering: Set<UInt32> = []
  /// Addresses that we replaced ourselves: their removal will be told, and is no news.
  private var removedByUs: Set<AssignedAddress> = []

  /// `netlink` and the sysctls must be of the same namespace; nil is that of the calling thread.
  public init(netlink: RouteNetlink, namespace: NetworkNamespace? = nil, settings: LinkSettings = LinkSettings()) {
    self.netlink = netlink
    self.namespace = namespace
    self.settings = settings
  }

  // MARK: Wanting and observing

  /// Nil: no longer ours. What stands on the interface is left: it goes with the interface.
  public func want(_ link: WorkloadLink?, for name: String) {
    guard wanted[name] != link else { return }
    wanted[name] = link
    if link == nil { unverified.remove(name) } else { unverify(name) }
  }
  private func unverify(_ name: String) {
    if let index = indexes[name] { verified.remove(index) }
    if wanted[name] != nil { unverified.insert(name) }
  }
  /// The link of that name, as last heard of.
  public func link(named name: String) -> Link? { indexes[name].flatMap { links[$0] } }
  /// Exists, is up, and stands as wanted.
  public func isReady(_ name: String) -> Bool {
    guard let link = link(named: name) else { return false }
    return link.isUp && verified.contains(link.index) && wanted[name] != nil
  }

  public func handle(_ event: RouteNetlinkEvent) {
    switch event {
    case .link(let link): update(link)
    case .linkRemoved(let link):
      guard let before = links.removeValue(forKey: link.index) else { return }
      verified.remove(link.index)
      answering.remove(link.index)
      if indexes[before.name] == link.index { indexes[before.name] = nil }
      unverify(before.name)
      tell(.disappeared(name: before.name, index: before.index), before.name)
    case .addressRemoved(let address):
      guard removedByUs.remove(address.identity) == nil else { return }
      // Somebody took the gateway's address away.
      if let link = links[address.interface], address.address.address == Self.gateway || address.address.address == Self.gateway6 {
        unverify(link.name)
      }
    case .neighbour(let neighbour): if isForeign(neighbour) { unverify(interface: neighbour.interface) }
    case .neighbourRemoved(let neighbour): if permanent(neighbour.address, neighbour.interface) != nil { unverify(interface: neighbour.interface) }
    case .settings(let found):
      guard case .interface(let index) = found.scope, found.isForwarding == false || found.answersForOthers == false else { return }
      unverify(interface: index)
    default: break
    }
  }
  private func unverify(interface index: UInt32) {
    if let name = links[index]?.name, wanted[name] != nil { unverify(name) }
  }
  /// The entry that shall stand for an address; nil if there shall be none of ours.
  private func permanent(_ address: IPAddress, _ index: UInt32) -> Neighbour? {
    guard let name = links[index]?.name, let link = wanted[name], let mac = link.mac, link.addresses.contains(address),
      address.family == .v4 || settings.ipv6
    else { return nil }
    return .permanent(address, mac, interface: index)
  }
  /// Not as we would have it; what the kernel learns by itself of other addresses is nobody's business.
  private func isForeign(_ neighbour: Neighbour) -> Bool {
    if let ours = permanent(neighbour.address, neighbour.interface) { return neighbour != ours }
    return neighbour.state.contains(.permanent) && !neighbour.isProxy && !neighbour.address.isMulticast
  }
  private func update(_ link: Link) {
    let before = links[link.index]
    links[link.index] = link
    if let before, before.name != link.name {
      if indexes[before.name] == link.index { indexes[before.name] = nil }
      unverify(before.name)
    }
    indexes[link.name] = link.index
    if let before, before.name == link.name, before.isUp == link.isUp, before.mac == link.mac { return }
    verified.remove(link.index)
    unverify(link.name)
    if let before {
      if before.name != link.name {
        tell(.renamed(from: before.name, link), before.name, link.name)
      } else if before.isUp != link.isUp {
        tell(.switched(link), link.name)
      }
    } else {
      tell(.appeared(link), link.name)
    }
  }
  private func tell(_ transition: LinkTransition, _ names: String...) {
    if names.contains(where: settings.isWorkload) { onTransition?(transition) }
  }

  /// Reads all links anew and looks at every wanted interface again with the next `apply`: after lost notifications, and from time to
  /// time against drift.
  public func resync() throws(NetlinkError) {
    let found = try netlink.links()
    let indexesFound = Set(found.map(\.index))
    for link in links.values where !indexesFound.contains(link.index) { handle(.linkRemoved(link)) }
    for link in found { update(link) }
    verified.removeAll()
    removedByUs.removeAll()
    for name in wanted.keys { unverify(name) }
  }

  // MARK: Applying

  /// The host's own settings: forwarding on, in both families. Returns the number of changes.
  public func prepareHost() throws(NetlinkError) -> Int {
    guard settings.forwards else { return 0 }
    var changed = 0
    var failure: SystemError?
    try inside {
      do throws(SystemError) {
        if try Sysctls.ensure("1", "ipv4/ip_forward") { changed += 1 }
        if settings.ipv6, Files.exists(Sysctls.path("ipv6")), try Sysctls.ensure("1", "ipv6/conf/all/forwarding") { changed += 1 }
      } catch { failure = error }
    }
    if let failure { throw NetlinkError(failure) }
    return changed
  }

  /// Brings every wanted interface that exists and changed since to its state.
  public func apply() throws(NetlinkError) -> Report {
    var report = Report()
    var present: [(WorkloadLink, Link)] = []
    for name in unverified.sorted() {
      guard let wanted = wanted[name] else { continue }
      if let link = link(named: name) {
        present.append((wanted, link))
      } else {
        report.problems.append(LinkProblem(name: name, reason: "does not exist; waiting until it appears"))
      }
    }
    guard !present.isEmpty else { return report }

    var failures: [String: String] = [:]
    try inside {
      for (wanted, _) in present {
        do throws(SystemError) {
          for (key, value) in sysctls(of: wanted) where try Sysctls.ensure(value, key) { report.changed += 1 }
        } catch {
          failures[wanted.name] = error.isNotFound ? "vanished while it was set up" : error.description
        }
      }
    }
    present.removeAll { wanted, link in
      if !link.isUp, failures[wanted.name] == nil { failures[wanted.name] = "is down; waiting until it is up" }
      return failures[wanted.name] != nil
    }

    // One dump of everything is cheaper than many of one interface each.
    let all = present.count > 8
    let allAddresses = all ? try netlink.addresses() : []
    let allNeighbours = all ? try netlink.neighbours() : []
    var addressesByLink: [UInt32: [AssignedAddress]] = [:]
    var neighboursByLink: [UInt32: [Neighbour]] = [:]
    for address in allAddresses { addressesByLink[address.interface, default: []].append(address) }
    for neighbour in allNeighbours { neighboursByLink[neighbour.interface, default: []].append(neighbour) }

    var changes: [RouteNetlinkChange] = []
    var owners: [Int] = []
    for (position, (wanted, link)) in present.enumerated() {
      let addresses = all ? addressesByLink[link.index] ?? [] : try netlink.addresses(interface: link.index)
      let neighbours = all ? neighboursByLink[link.index] ?? [] : try netlink.neighbours(interface: link.index)
      var needed = Self.changes(wanted, link, addresses: addresses, neighbours: neighbours, ipv6: settings.ipv6)
      if answering.contains(link.index), link.mac != .hostSide { needed.insert(.changeLink(index: link.index, LinkChange(mac: .hostSide)), at: 0) }
      changes += needed
      owners += Array(repeating: position, count: needed.count)
    }
    for case .deleteAddress(let address) in changes { removedByUs.insert(address.identity) }
    for (position, error) in zip(owners, try netlink.apply(changes)) {
      let name = present[position].0.name
      if let error {
        failures[name] = error.isNotFound ? "vanished while it was set up" : error.description
      } else {
        report.changed += 1
      }
    }
    for (wanted, link) in present where failures[wanted.name] == nil {
      verified.insert(link.index)
      if link.mac == .hostSide { answering.insert(link.index) }
      unverified.remove(wanted.name)
    }
    for (name, reason) in failures { report.problems.append(LinkProblem(name: name, reason: reason)) }
    report.problems.sort { $0.name < $1.name }
    return report
  }

  /// What is left to do on one interface, given what stands there.
  static func changes(
    _ wanted: WorkloadLink, _ link: Link, addresses: [AssignedAddress], neighbours: [Neighbour], ipv6: Bool
  ) -> [RouteNetlinkChange] {
    var changes: [RouteNetlinkChange] = []
    let gateway = AssignedAddress(interface: link.index, address: InterfaceAddress(Self.gateway, length: 32), scope: .host)
    let standing = addresses.first { $0.address == gateway.address }
    if standing?.scope != .host {
      // The scope of an address cannot be changed in place.
      if let standing { changes.append(.deleteAddress(standing)) }
      changes.append(.setAddress(gateway))
    }
    if ipv6 {
      let gateway6 = AssignedAddress(
        interface: link.index, address: InterfaceAddress(Self.gateway6, length: 64), scope: .link, flags: .noDuplicateDetection)
      let standing = addresses.first { $0.address.address == Self.gateway6 }
      if let standing, !standing.flags.isDisjoint(with: [.tentative, .duplicateDetectionFailed]) {
        changes += [.deleteAddress(standing), .setAddress(gateway6)]
      } else if standing == nil {
        changes.append(.setAddress(gateway6))
      }
    }
    let permanent = neighbours.filter { $0.state.contains(.permanent) && !$0.isProxy && !$0.address.isMulticast }
    if let mac = wanted.mac {
      for address in wanted.addresses where address.family == .v4 || ipv6 {
        let neighbour = Neighbour.permanent(address, mac, interface: link.index)
        if !permanent.contains(neighbour) { changes.append(.setNeighbour(neighbour)) }
      }
    }
    // An address that left the workload must not keep its old owner.
    for neighbour in permanent where wanted.mac == nil || !wanted.addresses.contains(neighbour.address) {
      changes.append(.deleteNeighbour(neighbour))
    }
    return changes
  }

  private func sysctls(of link: WorkloadLink) -> [(key: String, value: String)] {
    let name = link.name
    let v4 = "ipv4/conf/\(name)/"
    let v6 = "ipv6/conf/\(name)/"
    var list = [
      // Answers for everything the host routes, at once: the kernel's default would wait up to 0.8 s.
      ("ipv4/neigh/\(name)/proxy_delay", "0"),
      (v4 + "proxy_arp", "1"),
      (v4 + "forwarding", "1"),
      (v4 + "route_localnet", settings.routeLocalnet || link.reachesLoopback ? "1" : "0"),
    ]
    if settings.ipv6 {
      list += [
        (v6 + "disable_ipv6", "0"), (v6 + "accept_dad", "0"), (v6 + "accept_ra", "0"), (v6 + "proxy_ndp", "1"), (v6 + "forwarding", "1"),
      ]
    }
    return list
  }

  private func inside(_ body: () -> Void) throws(NetlinkError) {
    guard let namespace else { return body() }
    do {
      try namespace.run { () throws(Never) in body() }
    } catch {
      throw (error as? SystemError).map { NetlinkError($0) } ?? NetlinkError(code: 0, what: "enter the namespace: \(error)")
    }
  }
}

extension AssignedAddress {
  /// What stays the same while flags change.
  var identity: AssignedAddress { AssignedAddress(interface: interface, address: address, scope: .universe) }
}

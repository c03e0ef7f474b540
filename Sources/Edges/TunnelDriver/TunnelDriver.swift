/// Keeps this host's ends of tunnels: the interfaces, their addresses, and what the kernel must know of the far ends.
///
/// Everything is read first, and only what differs is written: a device that another program made right (Calico's Felix uses the same names)
/// is taken over as it stands, and a restart writes nothing.
///
/// Hazards and the answers:
/// - An interface of ours with another port, number or kind cannot be changed: it is replaced, and all that stood on it is made anew.
/// - Routes go with their interface, so one that nobody wants any more stays for `removalGrace`: whoever carries its routes from now on
///   (BGP, when a pool loses its encapsulation) replaces them one by one meanwhile, and no packet falls between.
/// - An interface that is switched off loses neighbours and addresses silently: all is looked at again when it changes.
/// - The underlay's interface may change its size, or the host's address move to another one: link and address events say so.
/// - Others change neighbours and forwarding entries: the kernel tells, and what does not fit makes us look again.
/// - A kernel without the kind of tunnel refuses the interface: told as a problem, tried again at each `resync`.

public import Addresses
import Deltas
public import NetlinkEdge
public import NetlinkMessages
public import Resources
public import Sockets

/// One owner at a time. Feed it with the link and address events of a `RouteMonitor` opened before `resync()`.
public final class TunnelDriver {
  public struct Report: Equatable, Sendable {
    /// Changes the kernel accepted.
    public var changed = 0
    public var problems: [TunnelProblem] = []
    /// When to call `apply` again although nothing happened.
    public var again: MonotonicInstant?
    public init(changed: Int = 0, problems: [TunnelProblem] = [], again: MonotonicInstant? = nil) {
      (self.changed, self.problems, self.again) = (changed, problems, again)
    }
  }

  /// One tunnel of this host.
  private struct Tunnel {
    var device: TunnelDevice?
    /// Since when nobody wants it; the interface still stands.
    var leaving: (name: String, since: MonotonicInstant)?
    var neighbours = DeltaMap<IPAddress, MACAddress>()
    var forwarding = DeltaMap<MACAddress, IPAddress>()
    var ends: [String: TunnelEnd] = [:]
    /// The interface on which all stood as wanted when it was last looked at.
    var verified: UInt32?
    /// The kernel does not make such an interface.
    var refusal: String?
  }

  private let netlink: any RouteKernel
  private let removalGrace: Duration
  private var tunnels: [TunnelKind: Tunnel] = [:]
  private var links: [UInt32: Link] = [:]
  private var indexes: [String: UInt32] = [:]
  private var interfaces: [IPAddress: Set<UInt32>] = [:]

  public init(netlink: any RouteKernel, removalGrace: Duration = .seconds(10)) {
    self.netlink = netlink
    self.removalGrace = removalGrace
  }

  // MARK: Wanting

  /// Nil: no such tunnel (any more).
  public func want(_ device: TunnelDevice?, for kind: TunnelKind, now: MonotonicInstant = .now) {
    var tunnel = tunnels[kind] ?? Tunnel()
    guard tunnel.device != device else { return }
    if let before = tunnel.device, before.name != device?.name { tunnel.leaving = (before.name, now) }
    if let device, tunnel.leaving?.name == device.name { tunnel.leaving = nil }
    tunnel.device = device
    tunnel.verified = nil
    tunnel.refusal = nil
    tunnels[kind] = tunnel
  }
  /// An interface of that name that may stand from earlier is not wanted.
  public func disown(_ name: String, _ kind: TunnelKind, now: MonotonicInstant = .now) {
    if indexes[name] != nil { tunnels[kind, default: Tunnel()].leaving = (name, now) }
  }
  /// Of a VXLAN tunnel, by the name of the other host. Nil: no longer there.
  public func want(_ end: TunnelEnd?, of node: String, on kind: TunnelKind) {
    var tunnel = tunnels[kind] ?? Tunnel()
    guard tunnel.ends[node] != end else { return }
    if let old = tunnel.ends[node] {
      // Two nodes may claim one address for a while; the other one's entry is put back.
      let others = tunnel.ends.filter { $0.key != node }.sorted { $0.key < $1.key }
      tunnel.neighbours.want(others.first { $0.value.address == old.address }?.value.mac, for: old.address)
      tunnel.forwarding.want(others.first { $0.value.mac == old.mac }?.value.underlay, for: old.mac)
    }
    tunnel.ends[node] = end
    if let end {
      tunnel.neighbours.want(end.mac, for: end.address)
      tunnel.forwarding.want(end.underlay, for: end.mac)
    }
    tunnels[kind] = tunnel
  }

  // MARK: Observing

  public func handle(_ event: RouteNetlinkEvent) {
    switch event {
    case .link(let link): update(link)
    case .linkRemoved(let link):
      links[link.index] = nil
      if indexes[link.name] == link.index { indexes[link.name] = nil }
      for address in interfaces.keys { interfaces[address]?.remove(link.index) }
      doubt { $0.verified == link.index }
    case .address(let address):
      interfaces[address.address.address, default: []].insert(address.interface)
      doubt { $0.verified == address.interface || $0.device?.underlay == address.address.address }
    case .addressRemoved(let address):
      interfaces[address.address.address]?.remove(address.interface)
      doubt { $0.verified == address.interface || $0.device?.underlay == address.address.address }
    case .neighbour(let neighbour):
      guard neighbour.state.contains(.permanent), !neighbour.address.isMulticast else { return }
      doubt { $0.verified == neighbour.interface && $0.neighbours.wanted[neighbour.address] != neighbour.mac }
    case .neighbourRemoved(let neighbour): doubt { $0.verified == neighbour.interface && $0.neighbours.wanted[neighbour.address] != nil }
    case .forwarding(let entry): doubt { $0.verified == entry.interface && $0.forwarding.wanted[entry.mac] != entry.destination }
    case .forwardingRemoved(let entry): doubt { $0.verified == entry.interface && $0.forwarding.wanted[entry.mac] == entry.destination }
    default: break
    }
  }
  private func update(_ link: Link) {
    let before = links[link.index]
    links[link.index] = link
    if let before, before.name != link.name, indexes[before.name] == link.index { indexes[before.name] = nil }
    indexes[link.name] = link.index
    guard before?.name != link.name || before?.isUp != link.isUp || before?.mtu != link.mtu || before?.mac != link.mac else { return }
    doubt { tunnel in
      guard let device = tunnel.device else { return false }
      return device.name == link.name || device.name == before?.name || interfaces[device.underlay]?.contains(link.index) == true
    }
  }
  private func doubt(_ isConcerned: (Tunnel) -> Bool) {
    for (kind, tunnel) in tunnels where isConcerned(tunnel) { tunnels[kind]!.verified = nil }
  }

  /// Everything is read anew, and looked at with the next `apply`.
  public func resync() throws(NetlinkError) {
    links = [:]
    indexes = [:]
    interfaces = [:]
    for link in try netlink.links() {
      links[link.index] = link
      indexes[link.name] = link.index
    }
    for address in try netlink.addresses(family: nil, interface: nil) { interfaces[address.address.address, default: []].insert(address.interface) }
    for kind in tunnels.keys {
      tunnels[kind]!.verified = nil
      tunnels[kind]!.refusal = nil
    }
  }

  /// The interface that has the address: what is on the link is found through it.
  public func interface(holding address: IPAddress) -> String? { interfaces[address]?.min().flatMap { links[$0]?.name } }
  public func isReady(_ kind: TunnelKind) -> Bool {
    guard let tunnel = tunnels[kind], let verified = tunnel.verified else { return false }
    return links[verified]?.isUp == true && tunnel.neighbours.isSettled && tunnel.forwarding.isSettled
  }
  public func link(_ kind: TunnelKind) -> Link? { tunnels[kind]?.device.flatMap { indexes[$0.name] }.flatMap { links[$0] } }

  // MARK: Applying

  /// Interfaces first, then what is on them; what nobody wants goes last, and late.
  public func apply(now: MonotonicInstant = .now) throws(NetlinkError) -> Report {
    var report = Report()
    for kind in tunnels.keys.sorted() {
      if tunnels[kind]!.device != nil {
        if tunnels[kind]!.verified == nil { try setUp(kind, &report) }
        if let index = tunnels[kind]!.verified { try tellEnds(kind, index, &report) }
        if let refusal = tunnels[kind]!.refusal { report.problems.append(TunnelProblem(kind: kind, reason: refusal)) }
      }
      try takeDown(kind, now, &report)
    }
    return report
  }

  private func setUp(_ kind: TunnelKind, _ report: inout Report) throws(NetlinkError) {
    guard let device = tunnels[kind]!.device, tunnels[kind]!.refusal == nil else { return }
    guard let underlay = interfaces[device.underlay]?.min().flatMap({ links[$0] }) else {
      report.problems.append(
        TunnelProblem(kind: kind, reason: "no interface has this host's address \(device.underlay); waiting until one has"))
      return
    }
    var link = try netlink.link(named: device.name)
    if let standing = link, !Self.isUsable(standing, device) {
      report.changed += 1
      if let error = try netlink.apply([.deleteLink(index: standing.index)])[0] { return refuse(kind, "\(error)") }
      link = nil
    }
    if link == nil {
      if let error = try netlink.apply([.addLink(device.newLink)])[0] {
        let hint = error.isUnsupported ? ": this kernel has no \(device.linkKind) interfaces" : ""
        return refuse(kind, "\(error)\(hint)")
      }
      report.changed += 1
      link = try netlink.link(named: device.name)
    }
    guard let link else { return }
    update(link)
    var changes: [RouteNetlinkChange] = []
    changes += Self.changes(link, device, mtu: device.mtu ?? (underlay.mtu > kind.overhead ? underlay.mtu - kind.overhead : underlay.mtu)).map {
      .changeLink(index: link.index, $0)
    }
    changes += Self.addressChanges(
      try netlink.addresses(family: nil, interface: link.index), device, interface: link.index)
    for (change, error) in zip(changes, try netlink.apply(changes)) {
      if let error { return refuse(kind, "\(change): \(error)") }
      report.changed += 1
    }
    if !changes.isEmpty, let changed = try netlink.link(named: device.name) { update(changed) }
    try readEnds(kind, link.index)
    tunnels[kind]!.verified = link.index
  }

  private func refuse(_ kind: TunnelKind, _ reason: String) { tunnels[kind]!.refusal = "\(reason); retrying at the next full check" }

  /// Whether what stands may become what is wanted without being made anew.
  static func isUsable(_ link: Link, _ device: TunnelDevice) -> Bool {
    guard link.kind == device.linkKind else { return false }
    guard device.kind.isVXLAN, let standing = link.vxlan else { return !device.kind.isVXLAN }
    // The kernel takes another local address of the same family in place.
    return standing.id == device.id && standing.port == device.port && !standing.learns && standing.local?.family == device.underlay.family
  }

  /// Size and VXLAN's options go in messages of their own: the kernel refuses both in one.
  static func changes(_ link: Link, _ device: TunnelDevice, mtu: UInt32) -> [LinkChange] {
    var changes: [LinkChange] = []
    if device.kind.isVXLAN, link.vxlan?.local != device.underlay { changes.append(LinkChange(vxlan: device.vxlan)) }
    var rest = LinkChange()
    if link.mtu != mtu { rest.mtu = mtu }
    if device.kind.isVXLAN, let mac = device.mac, link.mac != mac { rest.mac = mac }
    if !link.isUp { rest.isUp = true }
    if rest != LinkChange() { changes.append(rest) }
    return changes
  }

  /// The tunnel's address and no other of its family. The address is there before the old one goes.
  static func addressChanges(_ standing: [AssignedAddress], _ device: TunnelDevice, interface: UInt32) -> [RouteNetlinkChange] {
    let wanted = device.address.map {
      AssignedAddress(
        interface: interface, address: InterfaceAddress($0, length: UInt8($0.family.bits)), flags: $0.family == .v6 ? .noDuplicateDetection : [])
    }
    var changes: [RouteNetlinkChange] = []
    if let wanted, !standing.contains(where: { $0.address == wanted.address }) { changes.append(.setAddress(wanted)) }
    for other in standing where other.address != wanted?.address && other.address.address.family == device.kind.family {
      if !other.address.address.isLinkLocal { changes.append(.deleteAddress(other)) }
    }
    return changes
  }

  private func readEnds(_ kind: TunnelKind, _ index: UInt32) throws(NetlinkError) {
    guard kind.isVXLAN else { return }
    var neighbours: [IPAddress: MACAddress] = [:]
    for neighbour in try netlink.neighbours(family: kind.family, proxies: false, interface: index)
    where neighbour.state.contains(.permanent) && !neighbour.address.isMulticast { neighbours[neighbour.address] = neighbour.mac }
    tunnels[kind]!.neighbours.observeAll(neighbours)
    var forwarding: [MACAddress: IPAddress] = [:]
    for entry in try netlink.forwarding(interface: index) { forwarding[entry.mac] = entry.destination }
    tunnels[kind]!.forwarding.observeAll(forwarding)
  }

  /// Who is where comes before whose link address that is: an address that is known leads somewhere.
  private func tellEnds(_ kind: TunnelKind, _ index: UInt32, _ report: inout Report) throws(NetlinkError) {
    guard !tunnels[kind]!.neighbours.isSettled || !tunnels[kind]!.forwarding.isSettled else { return }
    let forwarding = tunnels[kind]!.forwarding, neighbours = tunnels[kind]!.neighbours
    let entries = forwarding.pendingUpdates.map { (key: $0.key, value: Optional($0.value)) }
    let people = neighbours.pendingUpdates.map { (key: $0.key, value: Optional($0.value)) }
    let gonePeople = neighbours.pendingDeletions
    let goneEntries = forwarding.pendingDeletions
    var changes: [RouteNetlinkChange] = []
    changes += entries.map { .setForwarding(ForwardingEntry(interface: index, mac: $0.key, destination: $0.value!)) }
    changes += people.map { .setNeighbour(.permanent($0.key, $0.value!, interface: index)) }
    changes += gonePeople.map { .deleteNeighbour(.permanent($0.key, $0.value, interface: index)) }
    changes += goneEntries.map { .deleteForwarding(ForwardingEntry(interface: index, mac: $0.key, destination: $0.value)) }
    let results = try netlink.apply(changes)
    var firstError: NetlinkError?
    for (change, error) in zip(changes, results) {
      if let error {
        firstError = firstError ?? error
        continue
      }
      report.changed += 1
      switch change {
      case .setForwarding(let entry): tunnels[kind]!.forwarding.observe(entry.destination, for: entry.mac)
      case .deleteForwarding(let entry): tunnels[kind]!.forwarding.observe(nil, for: entry.mac)
      case .setNeighbour(let neighbour): tunnels[kind]!.neighbours.observe(neighbour.mac, for: neighbour.address)
      case .deleteNeighbour(let neighbour): tunnels[kind]!.neighbours.observe(nil, for: neighbour.address)
      default: break
      }
    }
    if let firstError { report.problems.append(TunnelProblem(kind: kind, reason: "\(firstError); retrying")) }
  }

  private func takeDown(_ kind: TunnelKind, _ now: MonotonicInstant, _ report: inout Report) throws(NetlinkError) {
    guard let leaving = tunnels[kind]!.leaving else { return }
    let deadline = leaving.since + removalGrace
    guard deadline <= now else {
      report.again = min(report.again ?? deadline, deadline)
      return
    }
    tunnels[kind]!.leaving = nil
    guard let link = try netlink.link(named: leaving.name) else { return }
    if let error = try netlink.apply([.deleteLink(index: link.index)])[0] {
      // tunl0 is the kernel's own and cannot be removed: without address and switched off it does nothing.
      _ = try netlink.apply([.changeLink(index: link.index, LinkChange(isUp: false))])
      report.problems.append(TunnelProblem(kind: kind, reason: "\(error); it is switched off instead"))
    }
    report.changed += 1
  }
}

extension NetlinkError {
  /// EOPNOTSUPP: what a kernel says that does not know the kind of an interface.
  var isUnsupported: Bool { code == 95 }
}

/// Links, addresses, neighbours and forwarding entries as a kernel keeps them, with kinds of interfaces that the machine's own may lack.
///
/// Its rules are those that the contract below is run against on the real kernel: names are unique, a VXLAN interface keeps its number and
/// port and takes no size along with other changes, what stands on an interface goes with it, neighbours go when it is switched off, and tunl0 cannot be deleted.

import Addresses
import NetlinkEdge
import NetlinkMessages

final class FakeRouteKernel: RouteKernel {
  var kinds: Set<String> = ["vxlan", "ipip", "wireguard"]
  private var table: [UInt32: Link] = [:]
  private var assigned: [AssignedAddress] = []
  private var people: [Neighbour] = []
  private var entries: [ForwardingEntry] = []
  private var indexLast: UInt32 = 1

  @discardableResult
  func add(_ name: String, kind: String? = nil, mtu: UInt32 = 1500, addresses: [String] = []) -> UInt32 {
    indexLast += 1
    table[indexLast] = Link(index: indexLast, name: name, kind: kind, flags: [.up, .lowerUp], mtu: mtu)
    for address in addresses { assigned.append(AssignedAddress(interface: indexLast, address: InterfaceAddress(address)!)) }
    return indexLast
  }

  func links() throws(NetlinkError) -> [Link] { Array(table.values) }
  func link(named name: String) throws(NetlinkError) -> Link? { table.values.first { $0.name == name } }
  func addresses(family: IPFamily?, interface: UInt32?) throws(NetlinkError) -> [AssignedAddress] {
    assigned.filter { (family == nil || $0.address.address.family == family) && (interface == nil || $0.interface == interface) }
  }
  func neighbours(family: IPFamily?, proxies: Bool, interface: UInt32?) throws(NetlinkError) -> [Neighbour] {
    people.filter { (family == nil || $0.address.family == family) && (interface == nil || $0.interface == interface) }
  }
  func forwarding(interface: UInt32) throws(NetlinkError) -> [ForwardingEntry] { entries.filter { $0.interface == interface } }
  func apply(_ changes: [RouteNetlinkChange]) throws(NetlinkError) -> [NetlinkError?] {
    changes.map { change in
      let code = self.code(change)
      return code == 0 ? nil : NetlinkError(code: code, what: "\(change)")
    }
  }

  private static let permission: CInt = 1, noDevice: CInt = 19, exists: CInt = 17, unsupported: CInt = 95
  private func code(_ change: RouteNetlinkChange) -> CInt {
    switch change {
    case .addLink(let new):
      guard !table.values.contains(where: { $0.name == new.name }) else { return Self.exists }
      var link = Link(index: indexLast + 1, name: new.name, mtu: 1500, mac: new.mac)
      switch new.kind {
      case .vxlan(let options): (link.kind, link.vxlan) = ("vxlan", options)
      case .other(let kind): link.kind = kind
      default: return Self.unsupported
      }
      guard kinds.contains(link.kind!) else { return Self.unsupported }
      indexLast += 1
      table[indexLast] = link
    case .changeLink(let index, let change):
      guard var link = table[index] else { return Self.noDevice }
      if let vxlan = change.vxlan {
        guard link.kind == "vxlan", change.mtu == nil, vxlan.local?.family == link.vxlan?.local?.family else { return Self.unsupported }
        link.vxlan?.local = vxlan.local
      }
      if let mtu = change.mtu { link.mtu = mtu }
      if let mac = change.mac { link.mac = mac }
      if let isUp = change.isUp {
        if isUp { link.flags.formUnion([.up, .lowerUp]) } else { link.flags.subtract([.up, .lowerUp]) }
        if !isUp { people.removeAll { $0.interface == index } }
      }
      table[index] = link
    case .deleteLink(let index):
      guard let link = table[index] else { return Self.noDevice }
      guard link.name != "tunl0" else { return Self.permission }
      table[index] = nil
      assigned.removeAll { $0.interface == index }
      people.removeAll { $0.interface == index }
      entries.removeAll { $0.interface == index }
    case .setAddress(let address):
      guard table[address.interface] != nil else { return Self.noDevice }
      assigned.removeAll { $0.interface == address.interface && $0.address == address.address }
      assigned.append(address)
    case .deleteAddress(let address): assigned.removeAll { $0.interface == address.interface && $0.address == address.address }
    case .setNeighbour(let neighbour):
      guard table[neighbour.interface]?.isUp == true else { return 100 }
      people.removeAll { $0.interface == neighbour.interface && $0.address == neighbour.address }
      people.append(neighbour)
    case .deleteNeighbour(let neighbour): people.removeAll { $0.interface == neighbour.interface && $0.address == neighbour.address }
    case .setForwarding(let entry):
      guard table[entry.interface]?.kind == "vxlan" else { return Self.unsupported }
      entries.removeAll { $0.interface == entry.interface && $0.mac == entry.mac }
      entries.append(entry)
    case .deleteForwarding(let entry): entries.removeAll { $0.interface == entry.interface && $0.mac == entry.mac }
    case .addRoute, .replaceRoute, .deleteRoute: return Self.unsupported
    }
    return 0
  }
}

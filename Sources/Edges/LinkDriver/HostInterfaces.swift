/// The host's own interfaces and their addresses, as the kernel tells of them: what host endpoints are matched with.
///
/// Interfaces of workloads are left out. An interface is there as long as it exists, whether or not it is up: it is policed from its first
/// packet.

public import Addresses
public import NetlinkEdge
public import NetlinkMessages

/// Feed it with the link and address events of a `RouteMonitor` opened before `resync`.
public struct HostInterfaces {
  private let settings: LinkSettings
  private var names: [UInt32: String] = [:]
  private var addresses: [UInt32: Set<IPAddress>] = [:]
  private var isChanged = true

  public init(settings: LinkSettings = LinkSettings()) { self.settings = settings }

  public mutating func handle(_ event: RouteNetlinkEvent) {
    switch event {
    case .link(let link):
      guard names[link.index] != link.name else { return }
      note(names.updateValue(link.name, forKey: link.index), link.name)
    case .linkRemoved(let link):
      addresses[link.index] = nil
      note(names.removeValue(forKey: link.index))
    case .address(let address):
      if addresses[address.interface, default: []].insert(address.address.address).inserted { note(names[address.interface]) }
    case .addressRemoved(let address):
      if addresses[address.interface]?.remove(address.address.address) != nil { note(names[address.interface]) }
    default: break
    }
  }
  private mutating func note(_ changed: String?...) {
    if changed.contains(where: { $0.map { !settings.isWorkload($0) } ?? false }) { isChanged = true }
  }

  /// Everything anew: after lost notifications, and from time to time.
  public mutating func resync(_ netlink: RouteNetlink) throws(NetlinkError) {
    let links = try netlink.links()
    var found: [UInt32: Set<IPAddress>] = [:]
    for address in try netlink.addresses() { found[address.interface, default: []].insert(address.address.address) }
    names = Dictionary(links.map { ($0.index, $0.name) }) { $1 }
    addresses = found
    isChanged = true
  }

  /// By name, if something has changed since the last call.
  public mutating func takeChanged() -> [String: Set<IPAddress>]? {
    guard isChanged else { return nil }
    isChanged = false
    var result: [String: Set<IPAddress>] = [:]
    for (index, name) in names where !settings.isWorkload(name) { result[name] = addresses[index] ?? [] }
    return result
  }
}

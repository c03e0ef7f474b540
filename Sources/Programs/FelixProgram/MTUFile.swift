/// The file that tells CNI plugins how large packets of workloads may be: `/var/lib/calico/mtu`, one number.
///
/// It follows the host's interfaces, the pools' encapsulation and the settings. Lives on the loop's thread.
import Addresses
import HostPlans
import NetlinkEdge
import NetlinkMessages
import Resources
import Sockets
import Synchronization

struct MTUFile {
  private let path: String
  private var pools: [String: IPPoolSpec] = [:]
  private var settings = HostSettings()
  private var pattern = MTUChoice.usualPattern
  private var isRequired = false
  private(set) var choice: MTUChoice?
  private var written: UInt32?
  private(set) var problem: String?
  /// Something changed that may change the answer.
  private var isDue = true

  init(path: String) { self.path = path }

  /// Nil: fine. Otherwise workloads would be made with an MTU that nobody computed, where somebody asked that this must not be.
  var fault: String? { isRequired ? problem : nil }

  mutating func note(_ key: ResourceKey, _ resource: Resource?) {
    guard key.kind == .ipPool else { return }
    if case .ipPool(let spec)? = resource?.spec { pools[key.name] = spec } else { pools[key.name] = nil }
    isDue = true
  }
  mutating func adopt(_ values: FelixConfigurationSpec) {
    settings = HostSettings(values)
    pattern = values.text("mtuIfacePattern") ?? MTUChoice.usualPattern
    isRequired = values.flag("requireMTUFile") ?? false
    isDue = true
  }
  mutating func linksChanged() { isDue = true }

  static func tunnels(_ pools: some Sequence<IPPoolSpec>, _ settings: TunnelSettings, ipv6: Bool) -> Set<TunnelKind> {
    var tunnels: Set<TunnelKind> = []
    func asks(_ family: IPFamily, _ mode: KeyPath<IPPoolSpec, IPPoolSpec.Encapsulation>) -> Bool {
      pools.contains { $0.cidr.family == family && $0[keyPath: mode] != .never }
    }
    if settings.ipip ?? asks(.v4, \.ipipMode) { tunnels.insert(.ipip) }
    if settings.vxlan ?? asks(.v4, \.vxlanMode) { tunnels.insert(.vxlan) }
    if ipv6, settings.vxlan ?? true, asks(.v6, \.vxlanMode) { tunnels.insert(.vxlanV6) }
    if settings.wireguard { tunnels.insert(.wireguard) }
    if ipv6, settings.wireguardV6 { tunnels.insert(.wireguardV6) }
    return tunnels
  }

  /// After a round of the agent.
  mutating func write(_ netlink: RouteNetlink) {
    guard isDue else { return }
    do {
      let regex = try Regex(pattern)
      let links = try netlink.links().filter(\.isUp).map { (name: $0.name, mtu: $0.mtu) }
      let choice = MTUChoice(
        interfaces: links, isNamed: { $0.contains(regex) },
        in: Self.tunnels(pools.values, settings.tunnels, ipv6: settings.ipv6), configured: settings.tunnels.mtu)
      self.choice = choice
      if written != choice.workloads {
        try Files.makeDirectories(Files.parent(of: path))
        try Files.writeAtomically(Array("\(choice.workloads)\n".utf8), to: path)
        written = choice.workloads
      }
      problem = nil
      isDue = false
    } catch {
      problem = "the MTU of workloads is not in \(path): \(error)"
    }
  }
}

/// The same number for the CNI server beside the agent.
final class WorkloadMTU: Sendable {
  private let found = Mutex<UInt32?>(nil)
  /// Nil: not known yet.
  var value: UInt32? {
    get { found.withLock { $0 } }
    set { found.withLock { $0 = newValue } }
  }
}

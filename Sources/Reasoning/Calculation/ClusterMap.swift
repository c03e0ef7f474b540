/// The nodes and pools of the cluster, as far as routing asks: where each host is, and how its workloads are reached.
import Addresses
import HostPlans
import Resources

struct ClusterMap: Sendable {
  struct NodeFacts: Hashable, Sendable {
    /// With the length of its subnet.
    var addresses: [IPFamily: InterfaceAddress] = [:]
    var tunnels: [TunnelKind: IPAddress] = [:]
    var macs: [TunnelKind: MACAddress] = [:]
    /// Of WireGuard, in Base64.
    var keys: [TunnelKind: String] = [:]

    init(_ name: String, _ spec: NodeSpec, _ status: NodeStatus?) {
      for family in IPFamily.allCases { addresses[family] = spec.address(family) }
      for kind in TunnelKind.allCases { tunnels[kind] = spec[tunnel: kind] }
      macs[.vxlan] = spec.vxlanTunnelMACAddr ?? .vxlan(ofNode: name)
      macs[.vxlanV6] = spec.vxlanTunnelMACAddrV6 ?? .vxlan(ofNode: name)
      keys[.wireguard] = status?.wireguardPublicKey
      keys[.wireguardV6] = status?.wireguardPublicKeyV6
    }
  }

  let node: String
  private(set) var nodes: [String: NodeFacts] = [:]
  /// By name: two pools of one network may stand beside each other while one of them is being replaced.
  private(set) var pools: [String: IPPoolSpec] = [:]
  private var byNetwork = PrefixTrie<[String]>()

  init(node: String) { self.node = node }

  var own: NodeFacts? { nodes[node] }

  /// True if something changed that routing asks for.
  mutating func set(node name: String, _ facts: NodeFacts?) -> Bool {
    guard nodes[name] != facts else { return false }
    nodes[name] = facts
    return true
  }

  /// The networks whose routes may have changed.
  mutating func set(pool name: String, _ spec: IPPoolSpec?) -> [IPPrefix] {
    let before = pools[name]
    guard before != spec else { return [] }
    pools[name] = spec
    if let before {
      let names = (byNetwork[before.cidr] ?? []).filter { $0 != name }
      byNetwork[before.cidr] = names.isEmpty ? nil : names
    }
    if let spec { byNetwork[spec.cidr] = ((byNetwork[spec.cidr] ?? []) + [name]).sorted() }
    return [before?.cidr, spec?.cidr].compactMap { $0 }
  }

  /// The pool that a block or address is of: the longest that contains it. A disabled pool gives no new addresses, and those that it gave
  /// are reached as before.
  func pool(of prefix: IPPrefix) -> IPPoolSpec? { byNetwork.longestMatch(prefix).flatMap { $0.value.first }.flatMap { pools[$0] } }

  /// True if the other host is in this host's subnet, so that packets reach it without a router between.
  func isNear(_ address: IPAddress) -> Bool { own?.addresses[address.family]?.prefix.contains(address) ?? false }

  // MARK: Tunnels

  /// Whether this host has a tunnel of the kind at all.
  func isEnabled(_ kind: TunnelKind, _ settings: HostSettings) -> Bool {
    if kind.family == .v6, !settings.ipv6 { return false }
    switch kind {
    case .wireguard: return settings.tunnels.wireguard
    case .wireguardV6: return settings.tunnels.wireguardV6
    case .vxlan: return settings.tunnels.vxlan ?? isAskedFor(kind)
    // The setting is older than VXLAN over IPv6: it can forbid that, and does not ask for it.
    case .vxlanV6: return settings.tunnels.vxlan ?? true && isAskedFor(kind)
    case .ipip: return settings.tunnels.ipip ?? isAskedFor(kind)
    }
  }
  private func isAskedFor(_ kind: TunnelKind) -> Bool { pools.values.contains { $0.asks(for: kind) } }

  /// This host's end. It is made before it has an address: as soon as others hear of the address they send into the tunnel.
  func plan(_ kind: TunnelKind, _ settings: HostSettings) -> TunnelPlan? {
    guard isEnabled(kind, settings), let own, let underlay = own.addresses[kind.family]?.address else { return nil }
    return TunnelPlan(underlay: underlay, address: own.tunnels[kind], mac: own.macs[kind])
  }

  func demand(_ kind: TunnelKind, _ settings: HostSettings) -> TunnelDemand? {
    guard isEnabled(kind, settings) else { return nil }
    let isSure: Bool? = kind.isVXLAN ? settings.tunnels.vxlan : kind == .ipip ? settings.tunnels.ipip : true
    // Where a tunnel is there because a setting says so, any pool will do when none asks for it.
    let asking = pools.filter { $0.value.asks(for: kind) }
    let usable = asking.isEmpty && isSure == true || kind.isWireguard ? pools.filter { $0.value.cidr.family == kind.family } : asking
    return TunnelDemand(
      pools: usable.filter { !$0.value.disabled && $0.value.allowedUses.contains(.tunnel) }.keys.sorted(),
      networks: usable.values.map(\.cidr).sorted())
  }

  /// The far end of a tunnel of this kind on another host; nil if that host has none.
  func peer(_ kind: TunnelKind, of name: String) -> TunnelPeerPlan? {
    guard let facts = nodes[name], let underlay = facts.addresses[kind.family]?.address else { return nil }
    switch kind {
    case .vxlan, .vxlanV6:
      // One without an address for its end may be sending already, to those who have theirs.
      return TunnelPeerPlan(underlay: underlay, address: facts.tunnels[kind], mac: facts.macs[kind])
    case .wireguard, .wireguardV6:
      guard let key = facts.keys[kind] else { return nil }
      var plan = TunnelPeerPlan(underlay: underlay, address: facts.tunnels[kind])
      plan.publicKey = key
      return plan
    case .ipip: return TunnelPeerPlan(underlay: underlay, address: facts.tunnels[kind])
    }
  }
}

extension IPPoolSpec {
  /// Workloads of the pool are reached through such tunnels, some of them or all.
  func asks(for kind: TunnelKind) -> Bool {
    switch kind {
    case .ipip: cidr.family == .v4 && ipipMode != .never
    case .vxlan, .vxlanV6: cidr.family == kind.family && vxlanMode != .never
    case .wireguard, .wireguardV6: false
    }
  }
}

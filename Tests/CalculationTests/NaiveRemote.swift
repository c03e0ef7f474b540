/// Routes to other hosts and tunnels, worked out from nothing each time.
import Addresses
import HostPlans
import Resources

@testable import Calculation

extension NaiveCalculation {
  private var nodes: [(name: String, spec: NodeSpec, keys: NodeStatus)] {
    facts.resources.values.compactMap { resource in
      guard case .node(let spec) = resource.spec else { return nil }
      let status: NodeStatus = if case .node(let status)? = resource.status { status } else { NodeStatus() }
      return (resource.metadata.name, spec, status)
    }.sorted { $0.name < $1.name }
  }
  private var pools: [(name: String, spec: IPPoolSpec)] {
    facts.resources.values.compactMap { if case .ipPool(let spec) = $0.spec { ($0.metadata.name, spec) } else { nil } }.sorted { $0.name < $1.name }
  }

  /// Who is behind a prefix: the first of whoever has the very address, whoever has it as a block, and whose tunnel ends there.
  private func holders(_ settings: HostSettings) -> [IPPrefix: [(rank: Int, created: String, node: String)]] {
    var holders: [IPPrefix: [(rank: Int, created: String, node: String)]] = [:]
    switch settings.routing.source {
    case .calicoIPAM:
      for (block, fact) in facts.blocks {
        if let owner = fact.affinity { holders[block, default: []].append((2, "", owner)) }
        for (address, node) in fact.borrowers { holders[address.hostPrefix, default: []].append((1, "", node)) }
      }
    case .workloadIPs:
      for resource in facts.resources.values {
        guard case .workloadEndpoint(let spec) = resource.spec else { continue }
        for net in spec.ipNetworks where net.isHost { holders[net, default: []].append((0, resource.metadata.creationTimestamp ?? "", spec.node)) }
      }
    }
    for node in nodes {
      for kind in TunnelKind.allCases {
        if let address = node.spec[tunnel: kind] { holders[address.hostPrefix, default: []].append((3, "", node.name)) }
      }
    }
    return holders.mapValues { $0.sorted { a, b in a.rank != b.rank ? a.rank < b.rank : a.created != b.created ? a.created > b.created : a.node < b.node } }
  }

  private func isOn(_ kind: TunnelKind, _ settings: HostSettings) -> Bool {
    guard kind.family == .v4 || settings.ipv6 else { return false }
    let vxlan = pools.contains { $0.spec.cidr.family == kind.family && $0.spec.vxlanMode != .never }
    switch kind {
    case .vxlan: return settings.tunnels.vxlan ?? vxlan
    case .vxlanV6: return vxlan && settings.tunnels.vxlan != false
    case .ipip: return settings.tunnels.ipip ?? pools.contains { $0.spec.cidr.family == .v4 && $0.spec.ipipMode != .never }
    case .wireguard: return settings.tunnels.wireguard
    case .wireguardV6: return settings.tunnels.wireguardV6
    }
  }

  private func need(_ prefix: IPPrefix, _ holders: [IPPrefix: [(rank: Int, created: String, node: String)]]) -> String? {
    guard let first = holders[prefix]?.first else { return nil }
    if first.rank != 2, prefix.isHost {
      let around = holders.filter { $0.key != prefix && $0.key.contains(prefix) && $0.value.contains { $0.rank == 2 } }
      if let block = around.max(by: { $0.key.length < $1.key.length }), block.value.first(where: { $0.rank == 2 })!.node == first.node { return nil }
    }
    return first.node
  }

  func addRemote(to plan: inout HostPlan) {
    let settings = plan.settings
    let holders = holders(settings)
    let own = nodes.first { $0.name == node }?.spec
    if settings.routing.source == .workloadIPs { for (prefix, route) in plan.routes where route == .blackhole { plan.routes[prefix] = nil } }
    for prefix in holders.keys {
      if case .workload? = plan.routes[prefix] { continue }
      guard let name = need(prefix, holders), name != node, prefix.family == .v4 || settings.ipv6,
        let pool = pools.filter({ $0.spec.cidr.contains(prefix) }).max(by: { ($0.spec.cidr.length, $1.name) < ($1.spec.cidr.length, $0.name) })?.spec,
        let from = own?.address(prefix.family), let far = nodes.first(where: { $0.name == name })?.spec,
        let to = far.address(prefix.family)?.address
      else { continue }
      let isNear = from.prefix.contains(to)
      let by = settings.routing.clusterRoutes
      if pool.vxlanMode != .never {
        if pool.vxlanMode == .crossSubnet, isNear {
          plan.routes[prefix] = .direct(via: to, from: from.address)
        } else if isOn(.vxlan(prefix.family), settings), let end = far[tunnel: .vxlan(prefix.family)] {
          plan.routes[prefix] = .tunnel(.vxlan(prefix.family), via: end)
        }
      } else if pool.ipipMode != .never, prefix.family == .v4 {
        guard by == .enabled || by == .ipipOnly else { continue }
        if pool.ipipMode == .crossSubnet, isNear {
          plan.routes[prefix] = .direct(via: to, from: from.address)
        } else if isOn(.ipip, settings) {
          plan.routes[prefix] = .tunnel(.ipip, via: to)
        }
      } else if by == .enabled || by == .noEncapOnly, isNear {
        plan.routes[prefix] = .direct(via: to, from: from.address)
      }
    }
    for kind in TunnelKind.allCases where isOn(kind, settings) {
      let ofFamily = pools.filter { $0.spec.cidr.family == kind.family }
      var asking = ofFamily.filter { kind.isVXLAN ? $0.spec.vxlanMode != .never : kind == .ipip ? $0.spec.ipipMode != .never : true }
      if asking.isEmpty { asking = ofFamily }
      plan.tunnelDemands[kind] = TunnelDemand(
        pools: asking.filter { !$0.spec.disabled && $0.spec.allowedUses.contains(.tunnel) }.map(\.name), networks: asking.map(\.spec.cidr).sorted())
      guard let underlay = own?.address(kind.family)?.address else { continue }
      let mac: MACAddress? = kind.isVXLAN ? (kind == .vxlan ? own?.vxlanTunnelMACAddr : own?.vxlanTunnelMACAddrV6) ?? .vxlan(ofNode: node) : nil
      plan.tunnels[kind] = TunnelPlan(underlay: underlay, address: own?[tunnel: kind], mac: mac)
      for far in nodes where far.name != node {
        guard let underlay = far.spec.address(kind.family)?.address else { continue }
        var peer = TunnelPeerPlan(underlay: underlay, address: far.spec[tunnel: kind])
        if kind.isVXLAN {
          peer.mac = (kind == .vxlan ? far.spec.vxlanTunnelMACAddr : far.spec.vxlanTunnelMACAddrV6) ?? .vxlan(ofNode: far.name)
        } else if kind.isWireguard {
          guard let key = kind == .wireguard ? far.keys.wireguardPublicKey : far.keys.wireguardPublicKeyV6 else { continue }
          peer.publicKey = key
          peer.networks = holders.keys.filter { $0.family == kind.family && need($0, holders) == far.name }
          if settings.tunnels.wireguardHostEncryption { peer.networks.append(underlay.hostPrefix) }
          peer.networks.sort()
        }
        plan.tunnelPeers[TunnelPeer(kind, far.name)] = peer
      }
    }
  }
}

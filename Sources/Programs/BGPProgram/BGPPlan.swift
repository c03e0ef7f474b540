/// What one host's speaker should be, computed from the resources: a pure function, so that a change in the datastore is a change
/// of a value, and sessions that are equal in both stay up.
///
/// Semantics are Calico's (its confd templates for BIRD): the node-to-node mesh, global and node-specific peers, explicit peers win
/// over the mesh, global ones over those of a node.

import Addresses
import BGPMessages
import BGPRoutes
import Resources
import Selectors

/// The resources that matter to BGP.
public struct BGPResources: Hashable, Sendable {
  public struct Node: Hashable, Sendable {
    public var spec: NodeSpec
    public var labels: [String: String]
    public init(spec: NodeSpec, labels: [String: String] = [:]) {
      self.spec = spec
      self.labels = labels
    }
  }
  public var nodes: [String: Node] = [:]
  public var peers: [String: BGPPeerSpec] = [:]
  public var pools: [String: IPPoolSpec] = [:]
  /// By name: `default`, `node.<name>`.
  public var configurations: [String: BGPConfigurationSpec] = [:]
  public init() {}
}

/// One session as it should be.
public struct SessionPlan: Hashable, Sendable {
  public enum Kind: String, Hashable, Sendable {
    case mesh = "node-to-node mesh"
    case node = "node specific"
    case global = "global"
  }
  /// Calico's name of the protocol in BIRD: `Mesh_172_30_1_2`, `Global_192_0_2_1_port_1790`.
  public var name: String
  public var kind: Kind
  public var peer: IPAddress
  public var port: UInt16
  public var peerAS: ASNumber
  public var localAS: ASNumber
  /// Nil lets the kernel choose.
  public var localAddress: IPAddress?
  public var isPassive = false
  public var isReflectorClient = false
  public var nextHopMode = NextHopMode.automatic
  public var ownASAllowed = 0
  public var ttlSecurityHops: UInt8?
  public var restartTime: Duration = .seconds(120)

  public init(
    name: String, kind: Kind, peer: IPAddress, port: UInt16 = 179, peerAS: ASNumber, localAS: ASNumber, localAddress: IPAddress?
  ) {
    self.name = name
    self.kind = kind
    self.peer = peer
    self.port = port
    self.peerAS = peerAS
    self.localAS = localAS
    self.localAddress = localAddress
  }
  public var isExternal: Bool { peerAS != localAS }
}

public struct BGPPlan: Hashable, Sendable {
  public var routerID: RouterID
  public var clusterID: RouterID?
  public var listenPort: UInt16
  /// Families in which this host has an address, and so listens.
  public var families: Set<IPFamily>
  /// By name.
  public var sessions: [String: SessionPlan]
  public var pools: Set<IPPrefix>
  public var poolsNotExported: Set<IPPrefix>
  /// Pools, disabled ones as well, whose routes between hosts are written to the kernel here (true) or by Felix, if by anybody.
  public var carriedHere: [IPPrefix: Bool]
  /// The metric that routes of this host and those learned have in the kernel, unless they are preferred.
  public var normalMetrics: [IPFamily: UInt32]
  /// What could not be done as the resources say, with the reason.
  public var problems: [String]

  public init(routerID: RouterID, listenPort: UInt16 = 179, families: Set<IPFamily> = [.v4]) {
    self.routerID = routerID
    self.listenPort = listenPort
    self.families = families
    sessions = [:]
    pools = []
    poolsNotExported = []
    carriedHere = [:]
    normalMetrics = [:]
    problems = []
  }

  /// The plan of `nodeName`, or nil while its Node does not exist or has no BGP address: then there are no sessions.
  public init?(for nodeName: String, _ resources: BGPResources) {
    guard let own = resources.nodes[nodeName], let bgp = own.spec.bgp, bgp.ipv4Address != nil || bgp.ipv6Address != nil else { return nil }
    let global = resources.configurations["default"]
    let local = resources.configurations["node.\(nodeName)"]
    let asNumber = local?.asNumber ?? global?.asNumber ?? 64512
    let localAS = ASNumber(bgp.asNumber ?? asNumber)
    func addresses(_ node: BGPResources.Node) -> [IPAddress] {
      [node.spec.bgp?.ipv4Address?.address, node.spec.bgp?.ipv6Address?.address].compactMap { $0 }
    }
    func number(_ node: BGPResources.Node) -> ASNumber { ASNumber(node.spec.bgp?.asNumber ?? global?.asNumber ?? 64512) }
    let ownAddresses = addresses(own)

    if case .v4(let address)? = bgp.ipv4Address?.address {
      self.init(routerID: RouterID(address))
    } else {
      self.init(routerID: Self.routerID(fromName: nodeName))
    }
    listenPort = local?.listenPort ?? global?.listenPort ?? 179
    families = Set(ownAddresses.map(\.family))
    clusterID = bgp.routeReflectorClusterID.map { RouterID($0) }
    for pool in resources.pools.values where !pool.disabled {
      if pool.disableBGPExport { poolsNotExported.insert(pool.cidr) } else { pools.insert(pool.cidr) }
    }

    for (family, metric) in [
      (IPFamily.v4, local?.ipv4NormalRoutePriority ?? global?.ipv4NormalRoutePriority),
      (.v6, local?.ipv6NormalRoutePriority ?? global?.ipv6NormalRoutePriority),
    ] { normalMetrics[family] = UInt32(clamping: metric ?? Int(RoutingTable.normalMetric)) }
    let carrier = local?.programClusterRoutes ?? global?.programClusterRoutes ?? .enabledNoEncapOnly
    for pool in resources.pools.values {
      let isCarried = pool.vxlanMode == .never && carrier != .disabled && (pool.ipipMode == .never || carrier == .enabled)
      carriedHere[pool.cidr] = carriedHere[pool.cidr] ?? true && isCarried
    }

    var taken: Set<Endpoint> = []
    /// Adds a session unless it reaches ourselves or one that is there already.
    func add(_ kind: SessionPlan.Kind, _ address: IPAddress, _ port: UInt16?, _ peerAS: ASNumber, _ change: (inout SessionPlan) -> Void) {
      guard families.contains(address.family), !ownAddresses.contains(address), !address.isUnspecified else { return }
      let port = port ?? 179
      guard taken.insert(Endpoint(address: address, port: port)).inserted else { return }
      let prefix = kind == .mesh ? "Mesh" : kind == .global ? "Global" : "Node"
      let words = String(address.description.map { $0 == "." || $0 == ":" ? "_" : $0 })
      let name = "\(prefix)_\(words)" + (port == 179 ? "" : "_port_\(port)")
      var session = SessionPlan(
        name: name, kind: kind, peer: address, port: port, peerAS: peerAS, localAS: localAS,
        localAddress: ownAddresses.first { $0.family == address.family })
      change(&session)
      sessions[name] = session
    }

    // Explicit peers, those for all nodes first: what comes first wins.
    let ordered = resources.peers.sorted { a, b in
      let (left, right) = (a.value.node == nil && a.value.nodeSelector == nil, b.value.node == nil && b.value.nodeSelector == nil)
      return left != right ? left : a.key < b.key
    }
    for (name, peer) in ordered {
      let kind: SessionPlan.Kind = peer.node == nil && peer.nodeSelector == nil ? .global : .node
      let appliesHere: Bool
      do {
        appliesHere = try Self.applies(peer, to: nodeName, own.labels)
      } catch {
        problems.append("BGPPeer \(name): \(error)")
        continue
      }
      // What others say of us: a peer that selects this node by peerSelector is peered with from both sides.
      if let text = peer.peerSelector {
        let selector: Selector
        do {
          selector = try Selector(parsing: text)
        } catch {
          problems.append("BGPPeer \(name): peerSelector: \(error)")
          continue
        }
        let isSelected = selector.matches(own.labels)
        for (other, node) in resources.nodes.sorted(by: { $0.key < $1.key }) where other != nodeName {
          let isPeer = appliesHere && selector.matches(node.labels)
          let isReverse = isSelected && ((try? Self.applies(peer, to: other, node.labels)) ?? false)
          guard isPeer || isReverse else { continue }
          for address in addresses(node) {
            add(kind, address, port(of: other), number(node)) {
              $0.isPassive = address.description > (ownAddress(address.family)?.description ?? "")
              configure(&$0, peer, node)
            }
          }
        }
        continue
      }
      guard appliesHere else { continue }
      guard let address = peer.peerIP else {
        problems.append("BGPPeer \(name): neither peerIP nor peerSelector; set one of them")
        continue
      }
      // The port of a node of ours is known from its configuration.
      let owner = resources.nodes.first { addresses($0.value).contains(address) }
      guard let peerAS = peer.asNumber.map({ ASNumber($0) }) ?? owner.map({ number($0.value) }) else {
        problems.append("BGPPeer \(name): peerIP \(address) is no node's address, so asNumber is needed")
        continue
      }
      add(kind, address, peer.peerPort ?? owner.flatMap { port(of: $0.key) }, peerAS) { configure(&$0, peer, owner?.value) }
    }

    // The mesh: every other node of this cluster's kind. A reflector takes no part in it.
    if local?.nodeToNodeMeshEnabled ?? global?.nodeToNodeMeshEnabled ?? true, clusterID == nil {
      for (name, node) in resources.nodes.sorted(by: { $0.key < $1.key })
      where name != nodeName && node.spec.bgp?.routeReflectorClusterID == nil {
        for address in addresses(node) where !taken.contains(where: { $0.address == address }) {
          add(.mesh, address, port(of: name), number(node)) {
            // One of the two dials: the one whose address is the greater string.
            $0.isPassive = address.description > (ownAddress(address.family)?.description ?? "")
          }
        }
      }
    }

    func ownAddress(_ family: IPFamily) -> IPAddress? { ownAddresses.first { $0.family == family } }
    func port(of node: String) -> UInt16? { resources.configurations["node.\(node)"]?.listenPort ?? global?.listenPort }
    func configure(_ session: inout SessionPlan, _ peer: BGPPeerSpec, _ node: BGPResources.Node?) {
      if peer.sourceAddress == .none { session.localAddress = nil }
      session.nextHopMode =
        switch peer.nextHopMode {
        case .auto: .automatic
        case .own: .ownAddress
        case .keep: .keep
        case nil: peer.keepOriginalNextHop && session.isExternal ? .keep : .automatic
        }
      session.ownASAllowed = peer.numAllowedLocalASNumbers ?? 0
      session.ttlSecurityHops = peer.ttlSecurityHops.map { UInt8(clamping: $0) }
      if let seconds = peer.maxRestartTimeSeconds { session.restartTime = .seconds(seconds) }
      // RFC 4456: a peer of our AS outside of our cluster's reflectors is our client.
      let peerCluster = node?.spec.bgp?.routeReflectorClusterID.map { RouterID($0) }
      session.isReflectorClient = clusterID != nil && !session.isExternal && peerCluster != clusterID
    }
  }

  /// Whether routes to the prefix, as learned from peers, are for this host's kernel. VXLAN is always Felix'; what is in no pool is carried.
  func carries(_ prefix: IPPrefix) -> Bool {
    carriedHere.lazy.filter { $0.key.contains(prefix) }.max { $0.key.length < $1.key.length }?.value ?? true
  }

  struct Endpoint: Hashable {
    var address: IPAddress
    var port: UInt16
  }

  private static func applies(_ peer: BGPPeerSpec, to node: String, _ labels: [String: String]) throws -> Bool {
    if let name = peer.node { return name == node }
    guard let text = peer.nodeSelector else { return true }
    return try Selector(parsing: text).matches(labels)
  }

  /// What CALICO_ROUTER_ID says: `hash` is the identifier of the node's name, anything else must be one.
  public static func routerID(_ text: String, of node: String) -> RouterID? {
    text.lowercased() == "hash" ? routerID(fromName: node) : IPv4Address(text).flatMap { $0.rawValue == 0 ? nil : RouterID($0) }
  }

  /// A node without an IPv4 address still needs an identifier: a hash of its name (FNV-1a), kept out of 0/8 and of multicast.
  static func routerID(fromName name: String) -> RouterID {
    var hash: UInt32 = 2_166_136_261
    for octet in name.utf8 { hash = (hash ^ UInt32(octet)) &* 16_777_619 }
    return RouterID(rawValue: hash & 0x7fff_ffff | 0x0100_0000)
  }
}

/// Nodes, pools and the configuration of Felix and BGP.
import Addresses

public struct NodeSpec: Hashable, Sendable {
  public struct BGP: Hashable, Sendable {
    public var asNumber: UInt32?
    /// With the length of the host's subnet, for example 172.30.1.2/24.
    public var ipv4Address: InterfaceAddress?
    public var ipv6Address: InterfaceAddress?
    public var routeReflectorClusterID: IPv4Address?
    /// The address of the IP-in-IP tunnel's interface.
    public var ipv4IPIPTunnelAddr: IPv4Address?
    public init(
      asNumber: UInt32? = nil, ipv4Address: InterfaceAddress? = nil, ipv6Address: InterfaceAddress? = nil,
      routeReflectorClusterID: IPv4Address? = nil
    ) {
      self.asNumber = asNumber
      self.ipv4Address = ipv4Address
      self.ipv6Address = ipv6Address
      self.routeReflectorClusterID = routeReflectorClusterID
    }
  }
  public struct Address: Hashable, Sendable {
    public var address: String
    /// CalicoNodeIP, InternalIP or ExternalIP.
    public var type: String?
    public init(address: String, type: String? = nil) {
      self.address = address
      self.type = type
    }
  }
  /// Which object of an orchestrator the node is.
  public struct OrchRef: Hashable, Sendable {
    public var orchestrator: String
    public var nodeName: String?
    public init(orchestrator: String, nodeName: String? = nil) {
      self.orchestrator = orchestrator
      self.nodeName = nodeName
    }
  }
  public struct WireGuard: Hashable, Sendable {
    public var interfaceIPv4Address: IPv4Address?
    public var interfaceIPv6Address: IPv6Address?
    public init() {}
  }
  public struct Interface: Hashable, Sendable {
    public var name: String
    public var addresses: [String]
    public init(name: String, addresses: [String] = []) {
      self.name = name
      self.addresses = addresses
    }
  }
  public var bgp: BGP?
  public var addresses: [Address] = []
  public var ipv4VXLANTunnelAddr: IPv4Address?
  public var ipv6VXLANTunnelAddr: IPv6Address?
  public var vxlanTunnelMACAddr: MACAddress?
  public var vxlanTunnelMACAddrV6: MACAddress?
  public var wireguard: WireGuard?
  public var orchRefs: [OrchRef] = []
  public var interfaces: [Interface] = []
  public init(bgp: BGP? = nil, addresses: [Address] = []) {
    self.bgp = bgp
    self.addresses = addresses
  }
}

public struct IPPoolSpec: Hashable, Sendable {
  public enum Encapsulation: String, Hashable, Sendable, CaseIterable {
    case never = "Never"
    case always = "Always"
    case crossSubnet = "CrossSubnet"
  }
  public enum Use: String, Hashable, Sendable, CaseIterable {
    case workload = "Workload"
    case tunnel = "Tunnel"
    case loadBalancer = "LoadBalancer"
  }
  public enum AssignmentMode: String, Hashable, Sendable, CaseIterable {
    case automatic = "Automatic"
    case manual = "Manual"
  }
  public var cidr: IPPrefix
  /// Prefix length of a block: 20...32 (default 26) or 116...128 (default 122).
  public var blockSize: UInt8
  public var ipipMode: Encapsulation = .never
  public var vxlanMode: Encapsulation = .never
  public var natOutgoing = false
  public var disabled = false
  public var disableBGPExport = false
  public var nodeSelector: String = "all()"
  /// Nil: workloads of every namespace.
  public var namespaceSelector: String?
  public var allowedUses: Set<Use> = [.workload, .tunnel]
  public var assignmentMode: AssignmentMode = .automatic
  public init(cidr: IPPrefix, blockSize: UInt8? = nil) {
    self.cidr = cidr
    self.blockSize = blockSize ?? (cidr.family == .v4 ? 26 : 122)
  }
}

/// A key of a Kubernetes secret in the namespace of the node's program.
public struct SecretKeyRef: Hashable, Sendable {
  public var name: String
  public var key: String
  public var optional: Bool?
  public init(name: String, key: String, optional: Bool? = nil) {
    self.name = name
    self.key = key
    self.optional = optional
  }
}

public struct BGPConfigurationSpec: Hashable, Sendable {
  public struct Community: Hashable, Sendable {
    public var name: String
    public var value: CommunityValue
    public init(name: String, value: CommunityValue) {
      self.name = name
      self.value = value
    }
  }
  /// What routes within a network are marked with.
  public struct PrefixAdvertisement: Hashable, Sendable {
    public var cidr: IPPrefix
    /// Names from `communities`, or values.
    public var communities: [String]
    public init(cidr: IPPrefix, communities: [String] = []) {
      self.cidr = cidr
      self.communities = communities
    }
  }
  public enum BindMode: String, Hashable, Sendable, CaseIterable {
    /// Listen on all addresses.
    case none = "None"
    case nodeIP = "NodeIP"
  }
  /// Which routes between nodes the BGP program writes to the kernel; the others are Felix'.
  public enum ClusterRoutes: String, Hashable, Sendable, CaseIterable {
    case enabled = "Enabled"
    case disabled = "Disabled"
    case enabledNoEncapOnly = "EnabledNoEncapOnly"
  }
  /// Nil means the default, enabled.
  public var nodeToNodeMeshEnabled: Bool?
  /// Nil means the default, 64512.
  public var asNumber: UInt32?
  /// Nil means the default, 179.
  public var listenPort: UInt16?
  public var logSeverityScreen: String?
  public var serviceClusterIPs: [IPPrefix] = []
  public var serviceExternalIPs: [IPPrefix] = []
  public var serviceLoadBalancerIPs: [IPPrefix] = []
  /// Nil means the default, enabled: networks rather than their single addresses are announced.
  public var serviceLoadBalancerAggregation: EnabledOrDisabled?
  public var communities: [Community] = []
  public var prefixAdvertisements: [PrefixAdvertisement] = []
  public var nodeMeshPassword: SecretKeyRef?
  public var nodeMeshMaxRestartTime: Duration?
  public var bindMode: BindMode?
  /// Interfaces whose routes are not taken from the kernel; `*` stands for any characters.
  public var ignoredInterfaces: [String] = []
  /// The addresses under which workloads reach the node's BGP.
  public var localWorkloadPeeringIPV4: IPv4Address?
  public var localWorkloadPeeringIPV6: IPv6Address?
  /// Nil means the default, EnabledNoEncapOnly.
  public var programClusterRoutes: ClusterRoutes?
  /// Nil means the default, 1024.
  public var ipv4NormalRoutePriority: Int?
  public var ipv6NormalRoutePriority: Int?
  public init(nodeToNodeMeshEnabled: Bool? = nil, asNumber: UInt32? = nil, listenPort: UInt16? = nil) {
    self.nodeToNodeMeshEnabled = nodeToNodeMeshEnabled
    self.asNumber = asNumber
    self.listenPort = listenPort
  }
}

public struct BGPPeerSpec: Hashable, Sendable {
  public enum SourceAddress: String, Hashable, Sendable, CaseIterable {
    case useNodeIP = "UseNodeIP"
    case none = "None"
  }
  /// What becomes of the next hop of routes that are announced to the peer.
  public enum NextHopMode: String, Hashable, Sendable, CaseIterable {
    case auto = "Auto"
    case own = "Self"
    case keep = "Keep"
  }
  /// Whether a node that a peer selects peers back by itself.
  public enum ReversePeering: String, Hashable, Sendable, CaseIterable {
    case auto = "Auto"
    case manual = "Manual"
  }
  /// Which nodes have this peer: one by name, those selected, or (neither given) all.
  public var node: String?
  public var nodeSelector: String?
  /// The address, without the port.
  public var peerIP: IPAddress?
  /// From `peerIP` in the form IP:port or [IPv6]:port.
  public var peerPort: UInt16?
  public var peerSelector: String?
  public var asNumber: UInt32?
  /// Older form of `nextHopMode: Keep`, for external peers only; `nextHopMode` wins.
  public var keepOriginalNextHop = false
  public var nextHopMode: NextHopMode?
  public var sourceAddress: SourceAddress = .useNodeIP
  public var maxRestartTime: Duration?
  public var keepaliveTime: Duration?
  public var numAllowedLocalASNumbers: Int?
  public var ttlSecurityHops: Int?
  /// Workloads of the node that speak BGP with it.
  public var localWorkloadSelector: String?
  /// The AS number that the node shows to this peer; nil means the node's own.
  public var localASNumber: UInt32?
  public var password: SecretKeyRef?
  /// The gateway to a peer that is in none of the node's networks.
  public var reachableBy: IPAddress?
  /// Names of BGPFilters, in the order in which they are tried.
  public var filters: [String] = []
  public var reversePeering: ReversePeering?
  public init() {}

  public var maxRestartTimeSeconds: Int? { maxRestartTime.map { Int($0.components.seconds) } }
}

public struct ClusterInformationSpec: Hashable, Sendable {
  public var clusterGUID: String?
  public var clusterType: String?
  public var calicoVersion: String?
  /// False: CNI refuses to attach workloads.
  public var datastoreReady: Bool?
  /// `Calico`, or the name of another product that wrote the cluster's objects.
  public var variant: String?
  public init() {}
}

/// Nodes, pools and the configuration of Felix and BGP.
import Addresses

public struct NodeSpec: Hashable, Sendable {
  public struct BGP: Hashable, Sendable {
    public var asNumber: UInt32?
    /// With the length of the host's subnet, for example 172.30.1.2/24.
    public var ipv4Address: InterfaceAddress?
    public var ipv6Address: InterfaceAddress?
    public var routeReflectorClusterID: IPv4Address?
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
  public var bgp: BGP?
  public var addresses: [Address] = []
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
  public var allowedUses: Set<Use> = [.workload, .tunnel]
  public var assignmentMode: AssignmentMode = .automatic
  public init(cidr: IPPrefix, blockSize: UInt8? = nil) {
    self.cidr = cidr
    self.blockSize = blockSize ?? (cidr.family == .v4 ? 26 : 122)
  }
}

public struct BGPConfigurationSpec: Hashable, Sendable {
  /// Nil means the default, enabled.
  public var nodeToNodeMeshEnabled: Bool?
  /// Nil means the default, 64512.
  public var asNumber: UInt32?
  /// Nil means the default, 179.
  public var listenPort: UInt16?
  public var logSeverityScreen: String?
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
  /// Seconds.
  public var maxRestartTimeSeconds: Int?
  public var numAllowedLocalASNumbers: Int?
  public var ttlSecurityHops: Int?
  public init() {}
}

public struct FelixConfigurationSpec: Hashable, Sendable {
  public enum EndpointToHostAction: String, Hashable, Sendable, CaseIterable {
    case drop = "Drop"
    case accept = "Accept"
    case `return` = "Return"
  }
  /// Nil means the default: `cali`. A comma-separated list in documents.
  public var interfacePrefixes: [String]?
  /// Nil means the default: Drop.
  public var defaultEndpointToHostAction: EndpointToHostAction?
  public var ipv6Support: Bool?
  public var logSeverityScreen: String?
  /// Seconds between full read-backs of the kernel's state; nil means the default: 90.
  public var resyncIntervalSeconds: Int?
  public init() {}
}

public struct ClusterInformationSpec: Hashable, Sendable {
  public var clusterGUID: String?
  public var clusterType: String?
  public var calicoVersion: String?
  /// False: CNI refuses to attach workloads.
  public var datastoreReady: Bool?
  public init() {}
}

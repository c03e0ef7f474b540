/// Host-wide settings that the drivers obey, by area. Defaults are Calico's.
import Addresses
import Resources

public struct HostSettings: Hashable, Sendable {
  public var interfacePrefixes: [String] = ["cali"]
  /// Names, or patterns between slashes, of interfaces that no host endpoint and no address detection means.
  public var excludedInterfaces: [String] = ["kube-ipvs0"]
  public var endpointToHostAction: FelixConfigurationSpec.EndpointToHostAction = .drop
  public var ipv6 = true
  /// What begins the kernel's line for a packet that a Log rule matches, with the specifiers %t, %k, %n and %p.
  public var logPrefix = "calico-packet"
  /// How often a Log rule writes a line; nil is always.
  public var logLimit: LogLimit?
  public var filter = FilterSettings()
  public var failsafes = FailsafeSettings()
  public var nat = NATSettings()
  public var tunnels = TunnelSettings()
  public var routing = RoutingSettings()
  public var metadata = MetadataSettings()
  public init() {}
}

public struct FilterSettings: Hashable, Sendable {
  public enum Allow: String, Hashable, Sendable, CaseIterable {
    case accept = "Accept"
    /// The packet goes on to what others have behind our chains.
    case `return` = "Return"
  }
  public enum Deny: String, Hashable, Sendable, CaseIterable {
    case drop = "Drop"
    case reject = "Reject"
  }
  public enum LoopPrevention: String, Hashable, Sendable, CaseIterable {
    case drop = "Drop"
    case reject = "Reject"
    case disabled = "Disabled"
  }
  public var allow = Allow.accept
  public var mangleAllow = Allow.accept
  public var deny = Deny.drop
  /// Bits of the packet's mark that are ours.
  public var markMask: UInt32 = 0xffff_0000
  /// Packets of no connection are dropped where policy is enforced.
  public var dropsInvalid = true
  public var allowsVXLANFromWorkloads = false
  public var allowsIPIPFromWorkloads = false
  /// Workloads may ask, by `allowedSourcePrefixes`, to send from other addresses than theirs.
  public var allowsSpoofing = false
  /// Established connections end when the rules no longer allow them.
  public var flushesFlows = false
  /// The kernel can tell which rule dropped a packet. Not a setting of people: found out on the host.
  public var tellsDrops = true
  public var serviceLoops = LoopPrevention.drop
  public init() {}
}

/// Ports that stay open on a host endpoint whatever its policies say.
public struct FailsafeSettings: Hashable, Sendable {
  public struct Port: Hashable, Sendable {
    public var ipProtocol: NetworkProtocol
    public var port: UInt16
    /// The other end; nil is anybody.
    public var net: IPPrefix?
    public init(_ ipProtocol: NetworkProtocol, _ port: UInt16, net: IPPrefix? = nil) {
      (self.ipProtocol, self.port, self.net) = (ipProtocol, port, net)
    }
  }
  public var inbound: [Port] =
    [22, 179, 2379, 2380, 5473, 6443, 6666, 6667].map { Port(.tcp, $0) } + [Port(.udp, 68)]
  public var outbound: [Port] =
    [Port(.udp, 53), Port(.udp, 67)] + [179, 2379, 2380, 5473, 6443, 6666, 6667].map { Port(.tcp, $0) }
  public init() {}
}

public struct NATSettings: Hashable, Sendable {
  /// Source ports of translated connections; nil leaves them to the kernel.
  public var ports: ClosedRange<UInt16>?
  /// The address that translated connections come from; nil is that of the interface on the way out.
  public var outgoingAddress: IPAddress?
  /// Nor are connections to other hosts translated.
  public var sparesHosts = false
  public var floatingIPs = false
  public init() {}
}

public struct TunnelSettings: Hashable, Sendable {
  /// Nil: if a pool asks for it.
  public var vxlan: Bool?
  /// Octets; 0 is found out from the host's interfaces.
  public var vxlanMTU: UInt32 = 0
  public var vxlanMTUV6: UInt32 = 0
  public var vxlanPort: UInt16 = 4789
  /// 24 bits.
  public var vxlanVNI: UInt32 = 4096
  /// Nil: if a pool asks for it.
  public var ipip: Bool?
  public var ipipMTU: UInt32 = 0
  public var wireguard = false
  public var wireguardV6 = false
  public var wireguardPort: UInt16 = 51820
  public var wireguardPortV6: UInt16 = 51821
  public var wireguardName = "wireguard.cali"
  public var wireguardNameV6 = "wg-v6.cali"
  public var wireguardMTU: UInt32 = 0
  public var wireguardMTUV6: UInt32 = 0
  public var wireguardRulePriority: UInt32 = 99
  public var wireguardHostEncryption = false
  /// Seconds; 0 sends none.
  public var wireguardKeepAlive: UInt32 = 0
  /// Hosts outside of the cluster that may send through tunnels.
  public var externalNodes: [IPPrefix] = []
  public init() {}
}

public struct RoutingSettings: Hashable, Sendable {
  public enum Source: String, Hashable, Sendable, CaseIterable {
    case calicoIPAM = "CalicoIPAM"
    case workloadIPs = "WorkloadIPs"
  }
  /// Whose routes to other hosts' blocks Felix programs itself; BGP has the others.
  public enum ClusterRoutes: String, Hashable, Sendable, CaseIterable {
    case enabled = "Enabled"
    case disabled = "Disabled"
    case ipipOnly = "EnabledIPIPOnly"
    case noEncapOnly = "EnabledNoEncapOnly"
  }
  public struct Priorities: Hashable, Sendable {
    public var normal: UInt32 = 1024
    /// Of an address that arrives from another host, until the other has let go.
    public var elevated: UInt32 = 512
    public init() {}
  }
  /// Of routes to workloads.
  public var deviceProtocol: UInt8 = 80
  /// The source that the host itself takes towards workloads; nil is the kernel's choice.
  public var deviceSource: IPAddress?
  public var deviceSourceV6: IPAddress?
  /// Routes of others over our interfaces are removed.
  public var removesExternal = true
  public var forwards = true
  public var source = Source.calicoIPAM
  public var clusterRoutes = ClusterRoutes.ipipOnly
  /// Nothing is written into the FIB.
  public var isDisabled = false
  public var priorities = Priorities()
  public var prioritiesV6 = Priorities()
  /// How long routes of both hosts of a moving workload are kept.
  public var convergence: Duration = .seconds(30)
  public init() {}
}

/// OpenStack's metadata service, as the host reaches it.
public struct MetadataSettings: Hashable, Sendable {
  /// Nil: no workload is let through to it.
  public var address: IPAddress? = IPAddress("127.0.0.1")
  public var port: UInt16 = 8775
  public init() {}
}

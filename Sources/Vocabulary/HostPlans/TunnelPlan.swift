/// Tunnels to the other hosts of the cluster.
import Addresses
import Names
import Resources

/// This host's end of one kind of tunnel.
public struct TunnelPlan: Hashable, Sendable {
  /// This host's address in the network that carries the tunnel.
  public var underlay: IPAddress
  /// What the tunnel's interface has as its own address: the host's packets into the tunnel come from it, so that answers find their way
  /// back through the tunnel. Nil until it has one.
  public var address: IPAddress?
  /// VXLAN.
  public var mac: MACAddress?
  public init(underlay: IPAddress, address: IPAddress? = nil, mac: MACAddress? = nil) {
    (self.underlay, self.address, self.mac) = (underlay, address, mac)
  }
}

/// Another host's end.
public struct TunnelPeer: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var kind: TunnelKind
  public var node: String
  public init(_ kind: TunnelKind, _ node: String) { (self.kind, self.node) = (kind, node) }
  public static func < (a: Self, b: Self) -> Bool { a.kind == b.kind ? a.node < b.node : a.kind < b.kind }
  public var description: String { "\(kind.rawValue) to \(node)" }
}

public struct TunnelPeerPlan: Hashable, Sendable {
  public var underlay: IPAddress
  /// Of the other end; nil for kinds that need none.
  public var address: IPAddress?
  /// VXLAN.
  public var mac: MACAddress?
  /// WireGuard: the other's key, in Base64, and what lies behind it, in order.
  public var publicKey: String?
  public var networks: [IPPrefix] = []
  public init(underlay: IPAddress, address: IPAddress? = nil, mac: MACAddress? = nil) {
    (self.underlay, self.address, self.mac) = (underlay, address, mac)
  }
}

/// That this host needs an address for its end of a tunnel, and where it may come from.
public struct TunnelDemand: Hashable, Sendable {
  /// Names of pools to take one from, in order.
  public var pools: [String]
  /// An address that the host has from elsewhere is given back; one from a pool that is disabled stays.
  public var networks: [IPPrefix]
  public init(pools: [String], networks: [IPPrefix]) { (self.pools, self.networks) = (pools, networks) }
}

extension TunnelSettings {
  public func deviceName(_ kind: TunnelKind) -> String {
    switch kind {
    case .ipip: "tunl0"
    case .vxlan: "vxlan.calico"
    case .vxlanV6: "vxlan-v6.calico"
    case .wireguard: wireguardName
    case .wireguardV6: wireguardNameV6
    }
  }
  /// 0: found out.
  public func mtu(_ kind: TunnelKind) -> UInt32 {
    switch kind {
    case .ipip: ipipMTU
    case .vxlan: vxlanMTU
    case .vxlanV6: vxlanMTUV6
    case .wireguard: wireguardMTU
    case .wireguardV6: wireguardMTUV6
    }
  }
}

extension MACAddress {
  /// Of a node's end of a VXLAN tunnel, unless its Node object names another: every host works out the same, so that nobody needs to ask.
  public static func vxlan(ofNode name: String) -> MACAddress {
    MACAddress(octets: [0x66] + SHA1.digest(of: name.utf8).prefix(5))!
  }
}

/// What this host's end of a tunnel must be in the kernel, and where it stands there.

public import Addresses
public import NetlinkMessages
public import Resources

public struct TunnelDevice: Hashable, Sendable {
  public var kind: TunnelKind
  public var name: String
  /// This host's address in the network that carries the tunnel; its interface says how large a packet may be.
  public var underlay: IPAddress
  /// Its own; nil while it has none.
  public var address: IPAddress?
  public var mac: MACAddress?
  /// Nil: the underlay's, less what the tunnel puts around a packet.
  public var mtu: UInt32?
  /// VXLAN.
  public var id: UInt32
  public var port: UInt16
  public init(
    kind: TunnelKind, name: String, underlay: IPAddress, address: IPAddress? = nil, mac: MACAddress? = nil, mtu: UInt32? = nil, id: UInt32 = 4096,
    port: UInt16 = 4789
  ) {
    self.kind = kind
    self.name = name
    self.underlay = underlay
    self.address = address
    self.mac = mac
    self.mtu = mtu
    self.id = id
    self.port = port
  }

  var linkKind: String {
    switch kind {
    case .vxlan, .vxlanV6: "vxlan"
    case .ipip: "ipip"
    case .wireguard, .wireguardV6: "wireguard"
    }
  }
  var vxlan: VXLANOptions { VXLANOptions(id: id, port: port, local: underlay) }
  var newLink: NewLink { NewLink(name: name, kind: kind.isVXLAN ? .vxlan(vxlan) : .other(linkKind), mac: kind.isVXLAN ? mac : nil) }
}

/// The far end of a VXLAN tunnel.
public struct TunnelEnd: Hashable, Sendable {
  public var underlay: IPAddress
  public var address: IPAddress
  public var mac: MACAddress
  public init(underlay: IPAddress, address: IPAddress, mac: MACAddress) {
    (self.underlay, self.address, self.mac) = (underlay, address, mac)
  }
}

/// A tunnel that is not as wanted, and why: for people.
public struct TunnelProblem: Equatable, Sendable, CustomStringConvertible {
  public let kind: TunnelKind
  public let reason: String
  public init(kind: TunnelKind, reason: String) { (self.kind, self.reason) = (kind, reason) }
  public var description: String { "\(kind.word) tunnel: \(reason)" }
}

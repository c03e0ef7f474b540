/// The tunnels that a host may have to the others of its cluster.
import Addresses

public enum TunnelKind: String, CaseIterable, Hashable, Comparable, Sendable {
  case ipip, vxlan, vxlanV6, wireguard, wireguardV6

  /// Of what travels inside, and of the hosts' addresses around it.
  public var family: IPFamily {
    switch self {
    case .ipip, .vxlan, .wireguard: .v4
    case .vxlanV6, .wireguardV6: .v6
    }
  }
  public static func vxlan(_ family: IPFamily) -> TunnelKind { family == .v4 ? .vxlan : .vxlanV6 }
  public static func wireguard(_ family: IPFamily) -> TunnelKind { family == .v4 ? .wireguard : .wireguardV6 }
  public var isVXLAN: Bool { self == .vxlan || self == .vxlanV6 }
  public var isWireguard: Bool { self == .wireguard || self == .wireguardV6 }
  /// Octets that the tunnel puts around a packet: outer IP header, UDP, and its own.
  public var overhead: UInt32 {
    switch self {
    case .ipip: 20
    case .vxlan: 50
    case .vxlanV6: 70
    case .wireguard: 60
    case .wireguardV6: 80
    }
  }
  /// As people call it.
  public var word: String {
    switch self {
    case .ipip: "IPIP"
    case .vxlan: "VXLAN"
    case .vxlanV6: "VXLAN (IPv6)"
    case .wireguard: "WireGuard"
    case .wireguardV6: "WireGuard (IPv6)"
    }
  }
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

extension NodeSpec {
  /// The address of the node's end of a tunnel.
  public subscript(tunnel kind: TunnelKind) -> IPAddress? {
    get {
      switch kind {
      case .ipip: bgp?.ipv4IPIPTunnelAddr.map { .v4($0) }
      case .vxlan: ipv4VXLANTunnelAddr.map { .v4($0) }
      case .vxlanV6: ipv6VXLANTunnelAddr.map { .v6($0) }
      case .wireguard: wireguard?.interfaceIPv4Address.map { .v4($0) }
      case .wireguardV6: wireguard?.interfaceIPv6Address.map { .v6($0) }
      }
    }
    set {
      let v4: IPv4Address? = if case .v4(let address)? = newValue { address } else { nil }
      let v6: IPv6Address? = if case .v6(let address)? = newValue { address } else { nil }
      switch kind {
      case .ipip: if bgp != nil || v4 != nil { bgp = bgp ?? BGP(); bgp!.ipv4IPIPTunnelAddr = v4 }
      case .vxlan: ipv4VXLANTunnelAddr = v4
      case .vxlanV6: ipv6VXLANTunnelAddr = v6
      case .wireguard: change { $0.interfaceIPv4Address = v4 }
      case .wireguardV6: change { $0.interfaceIPv6Address = v6 }
      }
    }
  }
  private mutating func change(_ change: (inout WireGuard) -> Void) {
    var value = wireguard ?? WireGuard()
    change(&value)
    wireguard = value == WireGuard() ? nil : value
  }
  public func address(_ family: IPFamily) -> InterfaceAddress? { family == .v4 ? bgp?.ipv4Address : bgp?.ipv6Address }
}

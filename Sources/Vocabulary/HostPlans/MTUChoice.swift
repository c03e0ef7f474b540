/// How large packets of workloads may be: what the host's network carries, less what the tunnels in use put around them.
public import Resources

public struct MTUChoice: Hashable, Sendable {
  /// The names that hardware has, as Calico takes them when nobody says which carry workloads' traffic.
  public static let usualPattern = "^((en|wl|ww|sl|ib)[Pcopsvx].*|(eth|wlan|wwan).*)"
  /// Where no interface matches.
  public static let usual: UInt32 = 1500

  /// Of the host's interfaces.
  public var host: UInt32
  /// Of each tunnel in use.
  public var tunnels: [TunnelKind: UInt32]
  public var workloads: UInt32 { tunnels.values.min().map { min($0, host) } ?? host }

  /// `interfaces`: those that are up. `isNamed`: the pattern for names. `configured`: what is given for a tunnel; 0 is what follows.
  public init(
    interfaces: some Sequence<(name: String, mtu: UInt32)>, isNamed: (String) -> Bool, in use: Set<TunnelKind>, configured: (TunnelKind) -> UInt32
  ) {
    host = interfaces.filter { isNamed($0.name) && $0.mtu > 0 }.map(\.mtu).min() ?? Self.usual
    tunnels = [:]
    for tunnel in use {
      let given = configured(tunnel)
      tunnels[tunnel] = given > 0 ? given : host > tunnel.overhead ? host - tunnel.overhead : host
    }
  }
}

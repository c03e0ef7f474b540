/// Addresses of a node's own tunnels: one of each kind, under a handle that says which, from pools whose uses include tunnels.
import AddressPlans
public import Addresses
public import Resources

/// Handles and attributes are Calico's, so that either program finds what the other one assigned.
extension TunnelKind {
  public func handle(node: String) -> String {
    switch self {
    case .ipip: "ipip-tunnel-addr-\(node)"
    case .vxlan: "vxlan-tunnel-addr-\(node)"
    case .vxlanV6: "vxlan-v6-tunnel-addr-\(node)"
    case .wireguard: "wireguard-tunnel-addr-\(node)"
    case .wireguardV6: "wireguard-v6-tunnel-addr-\(node)"
    }
  }
  /// The attribute `type`.
  public var type: String { "\(rawValue)TunnelAddress" }
}

extension AddressBook {
  /// The address of this node's tunnel: what it has already, or a new one.
  public func tunnelAddress(_ kind: TunnelKind, pools: [String] = []) async throws(AddressBookError) -> IPAddress {
    let handle = kind.handle(node: node)
    if let present = try await addresses(heldBy: handle).first { return present }
    let terms = AssignmentTerms(pools: pools, use: .tunnel, perHandleMax: 1)
    let given = try await assign([kind.family: terms], handle: handle, attributes: ["node": node, "type": kind.type])
    return given[0]
  }
  public func releaseTunnelAddress(_ kind: TunnelKind) async throws(AddressBookError) {
    try await release(handle: kind.handle(node: node))
  }
}

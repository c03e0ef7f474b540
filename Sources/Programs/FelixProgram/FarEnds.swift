/// Where the far ends of VXLAN tunnels over IPv6 are, and that each needs a route of its own into the tunnel.
///
/// The kernel refuses a gateway of IPv6, even one that is said to be on the link, while another route to it leads over another interface.
/// A far end has an address out of its host's block, and BGP's route to that block stands when a pool changes to VXLAN. IPv4 does not ask.
import Addresses

struct FarEnds {
  private var addresses: [String: IPPrefix] = [:]
  /// Two nodes may claim one address for a while.
  private var counts: [IPPrefix: Int] = [:]

  var prefixes: Dictionary<IPPrefix, Int>.Keys { counts.keys }
  func contains(_ prefix: IPPrefix) -> Bool { !counts.isEmpty && counts[prefix] != nil }

  /// Nil: no such end (any more). Returns the prefixes that became one's own, or ceased to be.
  mutating func set(_ address: IPAddress?, of node: String) -> [IPPrefix] {
    let (old, new) = (addresses[node], address?.hostPrefix)
    guard old != new else { return [] }
    addresses[node] = new
    if let old { counts[old] = counts[old]! > 1 ? counts[old]! - 1 : nil }
    if let new { counts[new, default: 0] += 1 }
    return [old, new].compactMap { $0 }
  }
}

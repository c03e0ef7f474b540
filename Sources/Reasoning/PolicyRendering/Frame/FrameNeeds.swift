/// What of the plan decides which parts of the frame there are: no hook, chain or set without need.

import HostPlans
import Resources

struct FrameNeeds: Hashable {
  /// Parts of the plan's own sets (pools, hosts, services) that have elements.
  var parts: Set<SetSource> = []
  /// Sets and maps in which endpoints have put something: floating addresses, limits, marks.
  var inhabited: Set<String> = []
  var hosts = HostFrame()
  /// Tunnels of this host to others.
  var tunnels: Set<TunnelKind> = []

  /// The sets of the plan that the frame looks into.
  static let sets: [IPSetID] = [.masqueradedPools, .networkPools, .hosts, .services]
}

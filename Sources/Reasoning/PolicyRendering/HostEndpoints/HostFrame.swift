/// What host endpoints need of the frame: which places ask a policy, and where an interface without an endpoint of its own is led.

import HostPlans
import Resources
import Rulesets

/// A place in a packet's walk where the policies of a host endpoint are asked.
enum HostPlace: Hashable, CaseIterable {
  case input, output, translated, forwardIn, forwardOut, untrackedIn, untrackedOut, preDNAT

  var direction: Direction {
    switch self {
    case .input, .forwardIn, .untrackedIn, .preDNAT: .ingress
    case .output, .translated, .forwardOut, .untrackedOut: .egress
    }
  }
  /// Interface to policies.
  var map: String {
    switch self {
    case .input: "host-ingress"
    case .output: "host-egress"
    case .translated: "host-late-egress"
    case .forwardIn: "host-forward-ingress"
    case .forwardOut: "host-forward-egress"
    case .untrackedIn: "host-untracked-ingress"
    case .untrackedOut: "host-untracked-egress"
    case .preDNAT: "host-pre-dnat-ingress"
    }
  }
  var words: String {
    switch self {
    case .input: "policies for what comes to the host itself over each of its interfaces"
    case .output: "policies for what the host itself sends over each of its interfaces"
    case .translated: "the same, where the destination was translated"
    case .forwardIn: "policies for what comes over each interface to be forwarded (applyOnForward)"
    case .forwardOut: "policies for what is forwarded over each interface (applyOnForward)"
    case .untrackedIn: "policies before connection tracking for what comes over each interface (doNotTrack)"
    case .untrackedOut: "policies before connection tracking for what the host sends over each interface (doNotTrack)"
    case .preDNAT: "policies before translation for what comes over each interface (preDNAT)"
    }
  }
  var field: Field { direction == .ingress ? .inputName : .outputName }

  /// Nil if the endpoint has no say there. What is the host's own is always policed: an endpoint without any policy or profile denies it.
  func group(of endpoint: HostEndpointPlan, _ settings: HostSettings) -> PolicyGroup? {
    func group(_ list: PolicyList, _ lists: TierLists) -> PolicyGroup? {
      let tiers = lists[direction]
      return tiers.isEmpty ? nil : PolicyGroup(list, direction, tiers)
    }
    return switch self {
    case .input, .output: PolicyGroup(.normal, direction, endpoint.normal[direction], profiles: endpoint.profiles)
    case .translated:
      PolicyGroup(settings.filter.deny == .reject ? .late : .normal, direction, endpoint.normal[direction], profiles: endpoint.profiles)
    case .forwardIn, .forwardOut: group(.forward, endpoint.forward)
    case .untrackedIn, .untrackedOut: group(.untracked, endpoint.untracked)
    case .preDNAT: group(.preDNAT, endpoint.preDNAT)
    }
  }
}

/// Empty on a host without host endpoints, whose packets then meet none of this.
struct HostFrame: Hashable {
  var places: Set<HostPlace> = []
  /// Where the endpoint for all interfaces has a say: its policies' chain.
  var wildcard: [HostPlace: String] = [:]
  var hasWildcard = false

  var isEmpty: Bool { places.isEmpty }
  func has(_ place: HostPlace) -> Bool { places.contains(place) }
  /// Packets may arrive at the filter with our mark, which says that they are allowed already.
  var allowsEarly: Bool { has(.untrackedIn) || has(.preDNAT) }
  /// Those with an endpoint of their own, and those that no endpoint for all of them polices.
  static let interfaces = "host-interfaces"
  static let excluded = "host-excluded"
}

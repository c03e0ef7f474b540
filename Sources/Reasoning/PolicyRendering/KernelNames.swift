/// The names of our chains and sets in the kernel: readable, within its limit of 255 octets, and functions of what they name.

import Addresses
import HostPlans
import Names
import Resources
import Rulesets

package enum KernelNames {
  /// `NetworkPolicy default/web ingress rule 1`, by which people and `explain` find a rule and its counter. A comment has room for 127
  /// octets: a long name loses its middle, so that the number stays.
  package static func comment(_ key: ResourceKey, _ direction: Direction, rule number: Int) -> String {
    let tail = "\(direction.word) rule \(number)"
    let room = 127 - key.kind.rawValue.utf8.count - tail.utf8.count - 2
    var name = key.qualifiedName
    if name.utf8.count > room {
      let half = (room - 2) / 2
      name = "\(String(decoding: name.utf8.prefix(half), as: UTF8.self))..\(String(decoding: name.utf8.suffix(half), as: UTF8.self))"
    }
    return "\(key.kind.rawValue) \(name) \(tail)"
  }

  // Comments at the end of an endpoint's policies, by which `explain` finds the rule.
  package static func endOfTier(_ name: String, _ action: TierSpec.DefaultAction) -> String {
    "tier \(name): no policy decides, \(action == .deny ? "deny" : "pass")"
  }
  package static func stagedEndOfTier(_ name: String) -> String { "tier \(name): no staged policy decides, would deny" }
  static let undecided = "no policy decides"
  package static let endOfProfiles = "no profile allows, deny"
  package static func missing(_ key: ResourceKey) -> String { "\(key) is missing, deny" }

  // Sets and maps that always exist.
  /// Interfaces of known workloads.
  static let workloads = "workloads"
  /// Interface to policies, by direction.
  package static func dispatch(_ direction: Direction) -> String { direction == .ingress ? "ingress" : "egress" }
  /// Where a workload may send from: by interface, link address where known, and address.
  static func source(_ family: IPFamily) -> String { "source\(family.rawValue)" }
  static func sourceWithMAC(_ family: IPFamily) -> String { "source-mac\(family.rawValue)" }
  static func sourceNets(_ family: IPFamily) -> String { "source-nets\(family.rawValue)" }
  static let neighbourDiscovery = "neighbour-discovery"

  // Sets and maps that exist while an endpoint needs them.
  static func floating(_ family: IPFamily) -> String { "floating\(family.rawValue)" }
  static func hairpin(_ family: IPFamily) -> String { "hairpin\(family.rawValue)" }
  static let codePoints = "dscp"
  static func packetRate(_ direction: Direction) -> String { direction == .ingress ? "packet-rate-in" : "packet-rate-out" }
  static func connections(_ direction: Direction) -> String { direction == .ingress ? "connections-in" : "connections-out" }
  static let openStack = "openstack"
  static func tunnelHosts(_ family: IPFamily) -> String { "tunnel-hosts\(family.rawValue)" }

  // Chains that exist while something needs them.
  static let translateIn = "translate-in"
  static let translateLocal = "translate-local"
  static let translateOut = "translate-out"
  static let natOutgoing = "nat-outgoing"
  static let openStackServices = "openstack-services"
  static let marking = "mark-leaving"
  static let stayingInside = "staying-inside"

  // Chains that always exist.
  static let sourceCheck = "source-check"
  static let workloadSource = "workload-source"
  static let sentForward = "sent-forward"
  static let forward = "forward"
  static let forwardFrom = "forward-from"
  static let forwardTo = "forward-to"
  static let related = "related"
  static let relatedToOwn = "related-to-own"
  static let fromWorkload = "from-workload"
  static let toWorkload = "to-workload"
  static let sentInput = "sent-input"
  static let inputFrom = "input-from"
  static let input = "input"
  static let workloadToHost = "workload-to-host"
  static let output = "output"

  // Chains of host endpoints, which exist where there are such.
  static let hostInput = "host-input"
  static let hostOutput = "host-output"
  static let hostTranslated = "host-translated"
  static let hostTranslatedTo = "host-translated-to"
  static let hostForwardFrom = "host-forward-from"
  static let hostForwardTo = "host-forward-to"
  static let hostUntrackedFrom = "host-untracked-from"
  static let hostUntrackedTo = "host-untracked-to"
  static let hostPreDNAT = "host-pre-dnat"
  static let hostDiscovery = "host-discovery"
  static func failsafe(_ direction: Direction) -> String { direction == .ingress ? "failsafe-in" : "failsafe-out" }
  static func failsafeReplies(_ direction: Direction) -> String { "\(failsafe(direction))-replies" }
  /// Tells the sender; only where `NftablesFilterDenyAction` is Reject.
  static let reject = "reject"

  package static func policy(_ key: ResourceKey, _ direction: Direction, _ form: PolicyForm = .standard) -> String {
    let way = direction == .ingress ? "in" : "out"
    return switch key.kind {
    case .profile: limited("\(form.rawValue)profile-\(way)-\(key.name)")
    case .globalNetworkPolicy: limited("\(form.rawValue)policy-\(way)-gnp/\(key.name)")
    case .stagedGlobalNetworkPolicy: limited("staged-\(way)-gnp/\(key.name)")
    case .stagedNetworkPolicy: limited("staged-\(way)-np/\(key.qualifiedName)")
    case .stagedKubernetesNetworkPolicy: limited("staged-\(way)-knp/\(key.qualifiedName)")
    default: limited("\(form.rawValue)policy-\(way)-np/\(key.qualifiedName)")
    }
  }
  /// The chain of a policy's rules for some ports: `by-port-…` with the first of them. No policy's chain has such a name.
  static func part(of policy: String, _ service: [UInt8]) -> String {
    let port = UInt16(service[4]) << 8 | UInt16(service[5])
    return "by-port-\(policy)-\(RulesetText.protocolName(service[0]))-\(port)"
  }
  /// Whether it holds rules of the policy whose own chain is `policy`.
  package static func isPart(_ chain: String, of policy: String) -> Bool { chain == policy || chain.hasPrefix("by-port-\(policy)-") }
  /// A set or map that is written in a rule, by its content.
  static func literal(_ kind: String, _ spec: SetSpec, _ elements: Set<SetElement>) -> String {
    let content = elements.map { "\(RulesetText.element($0, spec))" }.sorted().joined(separator: ",")
    return "\(kind)-\(digest("\(kind):\(spec.isInterval):\(content)"))"
  }
  /// The part of an address set that holds single addresses (hash), or prefixes (intervals), or addresses with ports.
  static func hosts(_ id: IPSetID, _ family: IPFamily) -> String { "hosts\(family.rawValue)-\(plain(id))" }
  static func nets(_ id: IPSetID, _ family: IPFamily) -> String { "nets\(family.rawValue)-\(plain(id))" }
  static func served(_ id: IPSetID, _ family: IPFamily) -> String { "served\(family.rawValue)-\(plain(id))" }
  /// nft's grammar has no colon within names.
  private static func plain(_ id: IPSetID) -> String { limited(String(id.text.map { $0 == ":" ? "." : $0 })) }

  /// 120 bits: names are made from what users write, so nobody shall find two texts with the same digest.
  static func digest(_ text: String) -> String { String(Base64.urlText(SHA256.digest(of: text.utf8)).prefix(20)) }

  private static let lengthMax = 200
  private static func limited(_ name: String) -> String {
    guard name.utf8.count > lengthMax else { return name }
    var start = Array(name.utf8.prefix(lengthMax - 24))
    while let last = start.last, last & 0x80 != 0 { start.removeLast() }
    return String(decoding: start, as: UTF8.self) + "_" + digest(name)
  }
}

extension Kind {
  /// A policy that is asked and counted, and decides nothing.
  var isStagedPolicy: Bool {
    self == .stagedNetworkPolicy || self == .stagedGlobalNetworkPolicy || self == .stagedKubernetesNetworkPolicy
  }
}

extension Direction {
  var word: String { self == .ingress ? "ingress" : "egress" }
}

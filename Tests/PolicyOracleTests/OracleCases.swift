/// What policy means, case by case, on a cluster of three workloads.
import Addresses
import PolicyOracle
import Resources
import Testing

/// web and db in namespace `default`, other in namespace `lab`, on two hosts; both families.
private func workload(
  _ name: String, namespace: String = "default", node: String = "n1", _ index: Int, labels: [String: String],
  profiles: [String] = [], ports: [WorkloadEndpointSpec.NamedPort] = [], account: String = ""
) -> Resource {
  var spec = WorkloadEndpointSpec()
  spec.orchestrator = "k8s"
  spec.node = node
  spec.pod = name
  spec.endpoint = "eth0"
  spec.interfaceName = "cali\(name)"
  spec.ipNetworks = [IPPrefix("10.65.0.\(index)/32")!, IPPrefix("fd65::\(index)/128")!]
  spec.profiles = profiles
  spec.ports = ports
  spec.serviceAccountName = account
  return Resource(Metadata(name: "\(node)-k8s-\(name)-eth0", namespace: namespace, labels: labels), .workloadEndpoint(spec))
}

private let web = workload("web", 1, labels: ["role": "web"], profiles: ["kns.default"], account: "front")
private let db = workload(
  "db", node: "n2", 2, labels: ["role": "db"], profiles: ["kns.default"], ports: [.init(name: "sql", protocol: .tcp, port: 5432)])
private let other = workload("other", namespace: "lab", 3, labels: ["role": "web"], profiles: ["kns.lab"])
private let openProfiles = [
  Resource(
    Metadata(name: "kns.default"),
    .profile(ProfileSpec(ingress: [Rule(.allow)], egress: [Rule(.allow)], labelsToApply: ["pcns.stage": "prod"]))),
  Resource(
    Metadata(name: "kns.lab"),
    .profile(ProfileSpec(ingress: [Rule(.allow)], egress: [Rule(.allow)], labelsToApply: ["pcns.stage": "test"]))),
]
private let open = [web, db, other] + openProfiles

private func policy(
  _ name: String, _ namespace: String? = "default", tier: String = "default", order: Double? = nil, selector: String = "",
  types: [Direction] = [], ingress: [Rule] = [], egress: [Rule] = [], _ adjust: (inout PolicySpec) -> Void = { _ in }
) -> Resource {
  var spec = PolicySpec()
  spec.tier = tier
  spec.order = order
  spec.selector = selector
  spec.types = types
  spec.ingress = ingress
  spec.egress = egress
  adjust(&spec)
  return Resource(Metadata(name: name, namespace: namespace), namespace == nil ? .globalNetworkPolicy(spec) : .networkPolicy(spec))
}

private func rule(_ action: RuleAction, _ ipProtocol: NetworkProtocol? = nil, _ adjust: (inout Rule) -> Void = { _ in }) -> Rule {
  var rule = Rule(action, protocol: ipProtocol)
  adjust(&rule)
  return rule
}

private func tcp(_ from: String, _ to: String, _ port: UInt16 = 80) -> Packet {
  Packet(from: IPAddress(from)!, to: IPAddress(to)!, protocol: .tcp, sourcePort: 40_000, destinationPort: port)
}
private func udp(_ from: String, _ to: String, _ port: UInt16 = 80) -> Packet {
  Packet(from: IPAddress(from)!, to: IPAddress(to)!, protocol: .udp, sourcePort: 40_000, destinationPort: port)
}
private func ping(_ from: String, _ to: String, type: UInt8 = 8, code: UInt8 = 0) -> Packet {
  let to = IPAddress(to)!
  return Packet(from: IPAddress(from)!, to: to, protocol: to.family == .v4 ? .icmp : .icmpv6, icmpType: type, icmpCode: code)
}

private let webAddress = "10.65.0.1"
private let dbAddress = "10.65.0.2"
private let otherAddress = "10.65.0.3"

struct OracleCase: Sendable, CustomStringConvertible {
  var claim: String
  var resources: [Resource]
  var packet: Packet
  var isAllowed: Bool
  /// The last line of the trail; nil where another case already looks at it.
  var because: String?
  var description: String { claim }
  init(_ claim: String, _ resources: [Resource], _ packet: Packet, _ isAllowed: Bool, _ because: String? = nil) {
    self.claim = claim
    self.resources = resources
    self.packet = packet
    self.isAllowed = isAllowed
    self.because = because
  }
}

private let denyOnly = policy("deny-all", nil, types: [.ingress, .egress])
private let fromWeb = rule(.allow, .tcp) { $0.source.selector = "role == 'web'" }

private let defaults: [OracleCase] = [
  .init(
    "Without policy and profile, nothing passes", [workload("web", 1, labels: [:])], tcp(webAddress, "192.0.2.1"), false,
    "egress of default/web: no policy and no profile, Deny"),
  .init(
    "Profiles that allow let traffic through", open, tcp(webAddress, dbAddress), true,
    "ingress of default/db: Profile kns.default: rule 1, Allow"),
  .init("Both families are alike", open, tcp("fd65::1", "fd65::2"), true),
  .init(
    "A missing profile denies", [web, db], tcp("192.0.2.1", dbAddress), false,
    "ingress of default/db: Profile kns.default: the profile does not exist, Deny"),
  .init(
    "The built-in profile allows", [workload("web", 1, labels: [:], profiles: ["projectcalico-default-allow"])],
    tcp("192.0.2.1", webAddress), true, "ingress of default/web: Profile projectcalico-default-allow: built-in profile, Allow"),
  .init("Addresses of nobody are nobody's business", open, tcp("192.0.2.1", "192.0.2.2"), true),
  .init(
    "A policy without a matching rule denies at the end of its tier", open + [denyOnly], tcp(webAddress, dbAddress), false,
    "egress of default/web: tier default, GlobalNetworkPolicy deny-all: end of tier, Deny"),
  .init(
    "A policy governs only its types: ingress by default", open + [policy("p", selector: "role == 'web'")], tcp(webAddress, "192.0.2.1"),
    true),
  .init(
    "... and egress when there are only egress rules", open + [policy("p", selector: "role == 'web'", egress: [rule(.deny)])],
    tcp("192.0.2.1", webAddress), true),
  .init("A namespaced policy stays in its namespace", open + [policy("p", "lab")], tcp(webAddress, dbAddress), true),
  .init(
    "A host reaches its own workload past any policy",
    open + [denyOnly, Resource(Metadata(name: "n1"), .node(NodeSpec(bgp: .init(ipv4Address: InterfaceAddress("172.30.1.1/24")))))],
    tcp("172.30.1.1", webAddress), true),
  .init(
    "... another host does not",
    open + [denyOnly, Resource(Metadata(name: "n2"), .node(NodeSpec(bgp: .init(ipv4Address: InterfaceAddress("172.30.1.2/24")))))],
    tcp("172.30.1.2", webAddress), false),
  .init(
    "A workload does not reach its own host unless configured",
    open + [Resource(Metadata(name: "n1"), .node(NodeSpec(bgp: .init(ipv4Address: InterfaceAddress("172.30.1.1/24")))))],
    tcp(webAddress, "172.30.1.1"), false, "to the host itself: defaultEndpointToHostAction is Drop"),
]

private let tiers: [OracleCase] = [
  .init(
    "Pass skips the rest of the tier",
    open + [
      Resource(Metadata(name: "first"), .tier(TierSpec(order: 1))),
      policy("passing", nil, tier: "first", types: [.ingress], ingress: [rule(.pass)]),
      policy("denying", nil, tier: "first", order: nil, types: [.ingress], ingress: [rule(.deny)]) { $0.order = 5e9 },
    ], tcp("192.0.2.1", dbAddress), false, "ingress of default/db: tier first, GlobalNetworkPolicy denying: rule 1, Deny"),
  .init(
    "... when it comes first by order",
    open + [
      Resource(Metadata(name: "first"), .tier(TierSpec(order: 1))),
      policy("passing", nil, tier: "first", order: 1, types: [.ingress], ingress: [rule(.pass)]),
      policy("denying", nil, tier: "first", order: 2, types: [.ingress], ingress: [rule(.deny)]),
    ], tcp("192.0.2.1", dbAddress), true, "ingress of default/db: Profile kns.default: rule 1, Allow"),
  .init(
    "A tier that passes by default leads on",
    open + [
      Resource(Metadata(name: "first"), .tier(TierSpec(order: 1, defaultAction: .pass))),
      policy("p", nil, tier: "first", types: [.ingress]),
    ], tcp("192.0.2.1", dbAddress), true),
  .init(
    "The tier with the smaller order decides",
    open + [
      Resource(Metadata(name: "last"), .tier(TierSpec())), policy("no", nil, tier: "last", ingress: [rule(.deny)]),
      policy("yes", nil, ingress: [rule(.allow)]),
    ], tcp("192.0.2.1", dbAddress), true, "ingress of default/db: tier default, GlobalNetworkPolicy yes: rule 1, Allow"),
  .init(
    "Policies of a tier that does not exist count, last",
    open + [policy("stray", nil, tier: "nowhere", ingress: [rule(.deny)])], tcp("192.0.2.1", dbAddress), false,
    "ingress of default/db: tier nowhere, GlobalNetworkPolicy stray: rule 1, Deny"),
  .init(
    "Equal orders fall to the name, then the namespace",
    open + [policy("b", nil, order: 1, ingress: [rule(.deny)]), policy("a", order: 1, ingress: [rule(.allow)])],
    tcp("192.0.2.1", dbAddress), true),
  .init(
    "Log decides nothing", open + [policy("p", ingress: [rule(.log), rule(.deny)])], tcp("192.0.2.1", dbAddress), false,
    "ingress of default/db: tier default, NetworkPolicy default/p: rule 2, Deny"),
  .init(
    "A policy that only logs isolates all the same", open + [policy("p", ingress: [rule(.log)])], tcp("192.0.2.1", dbAddress), false,
    "ingress of default/db: tier default, NetworkPolicy default/p: end of tier, Deny"),
  .init("Untracked policy is not for workloads", open + [policy("p", nil) { $0.doNotTrack = true }], tcp("192.0.2.1", dbAddress), true),
]

private let matches: [OracleCase] = [
  .init("A source selector finds the sender by address", open + [policy("p", ingress: [fromWeb])], tcp(webAddress, dbAddress), true),
  .init(
    "... in the policy's own namespace", open + [policy("p", selector: "role == 'db'", ingress: [fromWeb])], tcp(otherAddress, dbAddress),
    false),
  .init(
    "... everywhere, in a global policy", open + [policy("p", nil, selector: "role == 'db'", ingress: [fromWeb])],
    tcp(otherAddress, dbAddress), true),
  .init(
    "A protocol excludes others", open + [policy("p", ingress: [fromWeb])], udp(webAddress, dbAddress), false,
    "ingress of default/db: tier default, NetworkPolicy default/p: end of tier, Deny"),
  .init(
    "A port range includes its ends",
    open + [policy("p", ingress: [rule(.allow, .tcp) { $0.destination.ports = [.range(80...82)] }])], tcp(webAddress, dbAddress, 82), true),
  .init(
    "... and nothing beyond",
    open + [policy("p", ingress: [rule(.allow, .tcp) { $0.destination.ports = [.range(80...82)] }])], tcp(webAddress, dbAddress, 83), false),
  .init(
    "A named port is looked up at the destination",
    open + [policy("p", ingress: [rule(.allow, .tcp) { $0.destination.ports = [.named("sql")] }])], tcp(webAddress, dbAddress, 5432), true),
  .init(
    "... by number of that endpoint",
    open + [policy("p", ingress: [rule(.allow, .tcp) { $0.destination.ports = [.named("sql")] }])], tcp(webAddress, dbAddress, 80), false),
  .init(
    "A negated port excludes",
    open + [policy("p", ingress: [rule(.allow, .tcp) { $0.destination.notPorts = [.port(22)] }])], tcp(webAddress, dbAddress, 22), false),
  .init(
    "Networks match the far side",
    open + [policy("p", ingress: [rule(.allow) { $0.source.nets = [IPPrefix("192.0.2.0/24")!] }])], tcp("192.0.2.9", dbAddress), true),
  .init(
    "Negated networks exclude",
    open + [policy("p", ingress: [rule(.allow) { $0.source.notNets = [IPPrefix("192.0.2.0/24")!] }])], tcp("192.0.2.9", dbAddress), false),
  .init(
    "A negated IPv4 network says nothing about IPv6",
    open + [policy("p", ingress: [rule(.allow) { $0.source.notNets = [IPPrefix("192.0.2.0/24")!] }])], tcp("fd65::1", "fd65::2"), false),
  .init(
    "ipVersion 4 does not match IPv6", open + [policy("p", ingress: [rule(.allow) { $0.ipVersion = .v4 }])], tcp("fd65::1", "fd65::2"),
    false),
  .init(
    "notProtocol matches the others", open + [policy("p", ingress: [rule(.allow) { $0.notProtocol = .udp }])], tcp(webAddress, dbAddress),
    true),
  .init(
    "ICMP type and code", open + [policy("p", ingress: [rule(.allow, .icmp) { $0.icmp = ICMPMatch(type: 8, code: 0) }])],
    ping(webAddress, dbAddress), true),
  .init(
    "The complement of type and code holds another code of the same type",
    open + [policy("p", ingress: [rule(.allow, .icmp) { $0.notICMP = ICMPMatch(type: 8, code: 0) }])],
    ping(webAddress, dbAddress, type: 8, code: 1), true),
  .init(
    "A namespace selector looks at the namespace's labels",
    open + [policy("p", selector: "role == 'db'", ingress: [rule(.allow) { $0.source.namespaceSelector = "stage == 'test'" }])],
    tcp(otherAddress, dbAddress), true),
  .init(
    "... and excludes one's own namespace if it says so",
    open + [policy("p", selector: "role == 'db'", ingress: [rule(.allow) { $0.source.namespaceSelector = "stage == 'test'" }])],
    tcp(webAddress, dbAddress), false),
  .init(
    "all() of namespaces is whatever is in one, not the world outside",
    open + [policy("p", selector: "role == 'db'", ingress: [rule(.allow) { $0.source.namespaceSelector = "all()" }])],
    tcp("192.0.2.1", dbAddress), false),
  .init(
    "global() finds global network sets",
    open + [
      Resource(Metadata(name: "office", labels: ["place": "office"]), .globalNetworkSet(NetworkSetSpec(nets: [IPPrefix("192.0.2.0/24")!]))),
      policy("p", ingress: [rule(.allow) { $0.source.namespaceSelector = "global()" }]),
    ], tcp("192.0.2.1", dbAddress), true),
  .init(
    "A namespaced policy does not see a global network set by selector alone",
    open + [
      Resource(Metadata(name: "office", labels: ["role": "web"]), .globalNetworkSet(NetworkSetSpec(nets: [IPPrefix("192.0.2.0/24")!]))),
      policy("p", ingress: [fromWeb]),
    ], tcp("192.0.2.1", dbAddress), false),
  .init(
    "notSelector in a namespaced policy excludes from its own namespace, and admits nobody else",
    open + [policy("p", ingress: [rule(.allow) { $0.source.notSelector = "role == 'db'" }])], tcp("192.0.2.1", dbAddress), false),
  .init(
    "notSelector in a global policy admits strangers",
    open + [policy("p", nil, selector: "role == 'db'", ingress: [rule(.allow) { $0.source.notSelector = "role == 'db'" }])],
    tcp("192.0.2.1", dbAddress), true),
  .init(
    "Service accounts by name",
    open + [policy("p", ingress: [rule(.allow) { $0.source.serviceAccounts = ServiceAccountMatch(names: ["front"]) }])],
    tcp(webAddress, dbAddress), true),
]

private let faults: [OracleCase] = [
  .init(
    "A rule that cannot be read denies at its place",
    open + [policy("p", ingress: [rule(.allow) { $0.fault = "unknown field" }, rule(.allow)])], tcp(webAddress, dbAddress), false,
    "ingress of default/db: tier default, NetworkPolicy default/p: rule 1 cannot be enforced: unknown field; Deny"),
  .init(
    "... not before its place", open + [policy("p", ingress: [rule(.allow), rule(.deny) { $0.fault = "unknown field" }])],
    tcp(webAddress, dbAddress), true),
  .init(
    "An unreadable rule that would log is left out",
    open + [policy("p", ingress: [rule(.log) { $0.fault = "unknown field" }, rule(.allow)])], tcp(webAddress, dbAddress), true),
  .init(
    "A namespaced policy without a readable selector denies", open + [policy("p", selector: "role ==")], tcp(webAddress, dbAddress), false),
  .init("A global one denies nothing", open + [policy("p", nil, selector: "role ==")], tcp(webAddress, dbAddress), true),
]

/// Everything may leave; `rule` is all that may come in.
private func icmpCase(_ claim: String, _ packet: Packet, _ isAllowed: Bool, because: String? = nil, _ rule: Rule) -> OracleCase {
  OracleCase(claim, open + [policy("p", selector: "role == 'db'", ingress: [rule])], packet, isAllowed, because)
}

private let icmp: [OracleCase] = [
  icmpCase("A type without a code holds every code", ping(webAddress, dbAddress, code: 9), true, rule(.allow, .icmp) { $0.icmp = ICMPMatch(type: 8) }),
  icmpCase("Code 0 is a code", ping(webAddress, dbAddress, code: 1), false, rule(.allow, .icmp) { $0.icmp = ICMPMatch(type: 8, code: 0) }),
  icmpCase(
    "The complement of type and code leaves that pair out", ping(webAddress, dbAddress), false,
    rule(.allow, .icmp) { $0.notICMP = ICMPMatch(type: 8, code: 0) }),
  icmpCase(
    "... and holds the same code of another type", ping(webAddress, dbAddress, type: 13), true,
    rule(.allow, .icmp) { $0.notICMP = ICMPMatch(type: 8, code: 0) }),
  icmpCase(
    "The complement of a type leaves every code of it out", ping(webAddress, dbAddress, code: 7), false,
    rule(.allow, .icmp) { $0.notICMP = ICMPMatch(type: 8) }),
  icmpCase("ICMPv6 has types of its own", ping("fd65::1", "fd65::2", type: 128), true, rule(.allow, .icmpv6) { $0.icmp = ICMPMatch(type: 128) }),
  icmpCase(
    "A type of ICMP says nothing about IPv6", ping("fd65::1", "fd65::2", type: 128), false,
    rule(.allow, .icmp) { $0.icmp = ICMPMatch(type: 128) }),
  icmpCase(
    "A type of ICMP within IPv6 is no type",
    Packet(from: IPAddress("fd65::1")!, to: IPAddress("fd65::2")!, protocol: .icmp, icmpType: 8, icmpCode: 0), false,
    rule(.allow, .icmp) { $0.icmp = ICMPMatch(type: 8) }),
  icmpCase(
    "ICMP within IPv6 is of no connection, whatever a rule says",
    Packet(from: IPAddress("fd65::1")!, to: IPAddress("fd65::2")!, protocol: .icmp, icmpType: 8, icmpCode: 0), false,
    because: "ICMP within IPv6 is of no connection", rule(.allow, .icmp)),
  icmpCase("notProtocol ICMP holds ICMPv6", ping("fd65::1", "fd65::2", type: 128), true, rule(.allow) { $0.notProtocol = .icmp }),
  icmpCase("... and not ICMP", ping(webAddress, dbAddress), false, rule(.allow) { $0.notProtocol = .icmp }),
  icmpCase(
    "ipVersion 6 and ICMP with a type match nothing", ping(webAddress, dbAddress), false,
    rule(.allow, .icmp) { $0.ipVersion = .v6; $0.icmp = ICMPMatch(type: 8) }),
  icmpCase(
    "An answer that nobody asked for is of no connection", ping(webAddress, dbAddress, type: 0), false,
    because: "ICMP type 0 begins no connection: it passes within a live one, and is dropped without one", rule(.allow)),
  icmpCase(
    "A workload announces no routers", ping("fd65::1", "fd65::2", type: 134), false,
    because: "a workload may not send ICMPv6 type 134 (router advertisement)", rule(.allow)),
]

struct BriefCase: Sendable, CustomStringConvertible {
  var words: String
  var resources: [Resource]
  var description: String { words }
}
private let briefs: [BriefCase] = [
  .init(words: "profile kns.default", resources: open),
  .init(words: "default/p rule 2 (Allow)", resources: open + [policy("p", ingress: [rule(.deny, .udp), rule(.allow)])]),
  .init(words: "strict rule 1 (Deny)", resources: open + [policy("strict", nil, ingress: [rule(.deny)])]),
  .init(words: "end of tier default (Deny)", resources: open + [policy("p", ingress: [rule(.allow, .udp)])]),
  .init(words: "default/p rule 1 (cannot be enforced, Deny)", resources: open + [policy("p", ingress: [rule(.allow) { $0.fault = "odd" }])]),
  .init(words: "default/p (cannot be read, Deny)", resources: open + [policy("p", selector: "role ==")]),
  .init(words: "profile kns.default (missing, Deny)", resources: [web, db]),
  .init(words: "no policy and no profile", resources: [workload("web", 1, labels: [:])]),
]

@Suite("The oracle reads policy as the manual does")
struct OracleTests {
  @Test("ICMP types and codes", arguments: icmp) func icmpTypes(_ example: OracleCase) { check(example) }

  @Test("What decided is said in a few words", arguments: briefs)
  func brief(_ example: BriefCase) {
    let verdict = PolicyOracle(resources: example.resources).verdict(tcp(webAddress, dbAddress))
    #expect(verdict.decidedBy == example.words, "\(verdict)")
  }

  @Test("A NetworkPolicy that cannot be read denies its namespace, before the others of its tier")
  func unreadable() {
    let key = ResourceKey(.networkPolicy, namespace: "default", name: "odd")
    let oracle = PolicyOracle(resources: open + [policy("p", ingress: [rule(.allow)])], unreadable: [key: "value is no JSON"])
    let verdict = oracle.verdict(tcp("192.0.2.1", dbAddress))
    #expect(verdict.description == """
      denied
        ingress of default/db: tier default, NetworkPolicy default/odd: value is no JSON; Deny
      """)
    #expect(oracle.verdict(tcp("192.0.2.1", otherAddress)).isAllowed)
  }

  @Test("Defaults", arguments: defaults) func defaultBehaviour(_ example: OracleCase) { check(example) }
  @Test("Tiers and order", arguments: tiers) func tiersAndOrder(_ example: OracleCase) { check(example) }
  @Test("Matches", arguments: matches) func matching(_ example: OracleCase) { check(example) }
  @Test("What cannot be enforced", arguments: faults) func unenforceable(_ example: OracleCase) { check(example) }

  func check(_ example: OracleCase) {
    let verdict = PolicyOracle(resources: example.resources).verdict(example.packet)
    #expect(verdict.isAllowed == example.isAllowed, "\(example.claim): \(verdict)")
    if let because = example.because { #expect(verdict.decisions.last?.description == because, "\(example.claim)") }
  }

  @Test("The verdict prints as the way of the packet")
  func trail() {
    let verdict = PolicyOracle(resources: open + [policy("p", ingress: [fromWeb])]).verdict(udp(webAddress, dbAddress))
    #expect(
      verdict.description == """
        denied
          egress of default/web: Profile kns.default: rule 1, Allow
          ingress of default/db: tier default, NetworkPolicy default/p: end of tier, Deny
        """)
  }
}

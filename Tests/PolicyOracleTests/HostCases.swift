/// What policy of hosts means, case by case: a workload behind host n1, another behind n2, the world outside.
import Addresses
import PolicyOracle
import Resources
import Testing

private func workload(_ name: String, _ node: String, _ index: Int) -> Resource {
  var spec = WorkloadEndpointSpec()
  (spec.orchestrator, spec.node, spec.pod, spec.endpoint, spec.interfaceName) = ("k8s", node, name, "eth0", "cali\(name)")
  spec.ipNetworks = [IPPrefix("10.65.0.\(index)/32")!]
  spec.profiles = ["open"]
  return Resource(Metadata(name: name, namespace: "default", labels: ["role": name]), .workloadEndpoint(spec))
}
private func node(_ name: String, _ index: Int) -> Resource {
  Resource(Metadata(name: name), .node(NodeSpec(bgp: .init(ipv4Address: InterfaceAddress("172.30.1.\(index)/24")))))
}
private func hostEndpoint(
  _ name: String, _ node: String = "n1", interface: String = "eth0", expecting: [String] = [], profiles: [String] = [],
  labels: [String: String] = ["role": "host"]
) -> Resource {
  var spec = HostEndpointSpec()
  (spec.node, spec.interfaceName, spec.profiles) = (node, interface, profiles)
  spec.expectedIPs = expecting.map { IPAddress($0)! }
  return Resource(Metadata(name: name, labels: labels), .hostEndpoint(spec))
}
private func policy(
  _ name: String, order: Double? = nil, tier: String = "default", selector: String = "role == 'host'", ingress: [Rule]? = nil, egress: [Rule]? = nil,
  _ adjust: (inout PolicySpec) -> Void = { _ in }
) -> Resource {
  var spec = PolicySpec()
  (spec.order, spec.tier, spec.selector) = (order, tier, selector)
  spec.types = (ingress == nil ? [] : [.ingress]) + (egress == nil ? [] : [.egress])
  (spec.ingress, spec.egress) = (ingress ?? [], egress ?? [])
  adjust(&spec)
  return Resource(Metadata(name: name), .globalNetworkPolicy(spec))
}
private func forward(_ spec: inout PolicySpec) { spec.applyOnForward = true }
private func untracked(_ spec: inout PolicySpec) { (spec.applyOnForward, spec.doNotTrack) = (true, true) }
private func preDNAT(_ spec: inout PolicySpec) { (spec.applyOnForward, spec.preDNAT) = (true, true) }
private func tcp(_ from: String, _ to: String, _ port: UInt16 = 80, from source: UInt16 = 40_000) -> Packet {
  Packet(from: IPAddress(from)!, to: IPAddress(to)!, protocol: .tcp, sourcePort: source, destinationPort: port)
}

private let open = Resource(Metadata(name: "open"), .profile(ProfileSpec(ingress: [Rule(.allow)], egress: [Rule(.allow)])))
private let all = [workload("web", "n1", 1), workload("db", "n2", 2), node("n1", 1), node("n2", 2), open]
private let (web, db, n1, n2, world) = ("10.65.0.1", "10.65.0.2", "172.30.1.1", "172.30.1.2", "192.0.2.1")
private let guarded = all + [hostEndpoint("h")]
private let (allow, deny) = (Rule(.allow), Rule(.deny))

private let own: [OracleCase] = [
  .init("A host without an endpoint is open", all, tcp(world, n1), true),
  .init(
    "A host endpoint without policy and profile denies what the host receives", guarded, tcp(world, n1), false,
    "ingress of h: no policy and no profile, Deny"),
  .init("... and what it sends", guarded, tcp(n1, world), false, "egress of h: no policy and no profile, Deny"),
  .init("... but not what it forwards", guarded, tcp(world, web), true),
  .init("... nor what it says to its own workloads", guarded, tcp(n1, web), true),
  .init("... nor to itself", guarded, tcp(n1, n1), true),
  .init("A profile that allows opens it", all + [hostEndpoint("h", profiles: ["open"])], tcp(world, n1), true),
  .init(
    "A policy decides for the host as it does for workloads", guarded + [policy("p", ingress: [allow])], tcp(world, n1), true,
    "ingress of h: tier default, GlobalNetworkPolicy p: rule 1, Allow"),
  .init(
    "Failsafe ports come before policy", guarded + [policy("p", ingress: [deny])], tcp(world, n1, 22), true,
    "ingress of h: failsafe port, Allow: failsafeInboundHostPorts has TCP 22"),
  .init("... only those of the direction", guarded, tcp(n1, world, 22), false),
  .init("A workload's own host asks its own policy of it, not the host endpoint's", guarded, tcp(web, n1), false,
    "to the host itself: defaultEndpointToHostAction is Drop"),
  .init("The other host is asked when a host speaks to it", all + [hostEndpoint("h", "n2")], tcp(n1, n2), false),
  .init("A wildcard stands for interfaces without an endpoint", all + [hostEndpoint("h", interface: "*")], tcp(world, n1), false),
  .init(
    "... and gives way to one that expects the address",
    all + [hostEndpoint("a", interface: "*"), hostEndpoint("b", interface: "", expecting: [n1], profiles: ["open"])], tcp(world, n1), true),
  .init("An endpoint that expects another address is none", all + [hostEndpoint("b", interface: "", expecting: [world])], tcp(world, n1), true),
  .init(
    "Of two for one interface the first by name counts",
    all + [hostEndpoint("b"), hostEndpoint("a", profiles: ["open"])], tcp(world, n1), true),
  .init(
    "A selector means a host endpoint's expected addresses",
    all + [
      hostEndpoint("h", expecting: [n1], profiles: ["open"]),
      policy("p", selector: "role == 'db'", ingress: [{ var rule = allow; rule.source.selector = "role == 'host'"; return rule }()]),
    ], tcp(n1, db), true),
]

private let ways: [OracleCase] = [
  .init(
    "What a host forwards is asked of policies with applyOnForward", guarded + [policy("p", ingress: [], forward)], tcp(world, web), false,
    "forward ingress of h: tier default, GlobalNetworkPolicy p: end of tier, Deny"),
  .init(
    "... on the way out as well", guarded + [policy("p", egress: [deny], forward)], tcp(web, world), false,
    "forward egress of h: tier default, GlobalNetworkPolicy p: rule 1, Deny"),
  .init("... and not between two workloads of the host", all + [workload("two", "n1", 3), hostEndpoint("h"), policy("p", egress: [deny], forward)],
    tcp(web, "10.65.0.3"), true),
  .init("Policies without it say nothing of forwarded traffic", guarded + [policy("p", ingress: [deny])], tcp(world, web), true),
  .init("Failsafe ports are the host's own: forwarded traffic has none", guarded + [policy("p", ingress: [], forward)], tcp(world, web, 22), false),
  .init("The workload is asked behind the host", guarded + [policy("p", ingress: [allow], forward), policy("q", selector: "role == 'web'", ingress: [])],
    tcp(world, web), false),
  .init("Forwarded traffic that all tiers pass goes on: there are no profiles for it",
    guarded + [policy("p", ingress: [Rule(.pass)], forward)], tcp(world, web), true),
  .init(
    "Untracked policy comes first and has the last word for the host", guarded + [policy("p", ingress: [allow], untracked)], tcp(world, n1), true,
    "untracked ingress of h: tier default, GlobalNetworkPolicy p: rule 1, Allow"),
  .init("... and leaves to others what no rule of it decides", guarded + [policy("p", ingress: [], untracked)], tcp(world, n1), false,
    "ingress of h: no policy and no profile, Deny"),
  .init("... and its deny is one, for forwarded traffic too", guarded + [policy("p", ingress: [deny], untracked)], tcp(world, web), false),
  .init("... but not for what its own workloads send", guarded + [policy("p", ingress: [deny], egress: [deny], untracked)], tcp(web, world), true),
  .init("A workload is asked also about what is untracked",
    guarded + [policy("p", ingress: [allow], untracked), policy("q", selector: "role == 'web'", ingress: [])], tcp(world, web), false),
  .init("Untracked policy does not close a failsafe port", guarded + [policy("p", ingress: [deny], untracked)], tcp(world, n1, 22), true),
  .init("... nor the way back from one", all + [hostEndpoint("h", profiles: ["open"]), policy("p", ingress: [deny], untracked)],
    tcp(world, n1, 50_000, from: 2379), true),
  .init(
    "Pre-DNAT policy comes before the host's others", guarded + [policy("p", ingress: [allow], preDNAT)], tcp(world, n1), true,
    "preDNAT ingress of h: tier default, GlobalNetworkPolicy p: rule 1, Allow"),
  .init("... and before what it forwards", guarded + [policy("p", ingress: [deny], preDNAT)], tcp(world, web), false),
  .init("Untracked and pre-DNAT policies are nothing to workloads",
    all + [policy("p", selector: "all()", ingress: [deny], untracked), policy("q", selector: "all()", ingress: [deny], preDNAT)], tcp(world, web), true),
]

@Suite("The oracle reads policy of hosts as the manual does")
struct HostOracleTests {
  @Test("The host's own traffic", arguments: own) func ownTraffic(_ example: OracleCase) { OracleTests().check(example) }
  @Test("Forwarded, untracked, before translation", arguments: ways) func otherWays(_ example: OracleCase) { OracleTests().check(example) }
}

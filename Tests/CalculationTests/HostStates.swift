/// States with host endpoints of this host and others.
import Addresses
import HostPlans
import Resources
import Selectors

@testable import Calculation

let host = key(.hostEndpoint, "n1-eth0")
func hostEndpoint(_ name: String, node: String = "n1", interface: String = "eth0", addresses: [String] = [], profiles: [String] = [])
  -> Resource
{
  var spec = HostEndpointSpec()
  spec.node = node
  spec.interfaceName = interface
  spec.expectedIPs = addresses.map { IPAddress($0)! }
  spec.profiles = profiles
  spec.ports = [EndpointPort(name: "ssh", protocol: .tcp, port: 22)]
  return Resource(Metadata(name: name, labels: ["role": "host"]), .hostEndpoint(spec))
}
func hostPolicy(_ name: String, ingress: [Rule] = [Rule(.allow)], egress: [Rule] = [], _ edit: (inout PolicySpec) -> Void = { _ in })
  -> Resource
{
  guard
    case .globalNetworkPolicy(var spec) = policy(name, namespace: nil, selector: "role == 'host'", ingress: ingress, egress: egress).spec
  else {
    preconditionFailure("a policy without namespace is global")
  }
  edit(&spec)
  return Resource(Metadata(name: name), .globalNetworkPolicy(spec))
}
func standard(_ policies: String...) -> [TierPlan] {
  [TierPlan(name: "default", policies: policies.map { key(.globalNetworkPolicy, $0) })]
}

let bareHost = initialised.with(
  "a host endpoint that no policy selects", [hostEndpoint("n1-eth0", addresses: ["192.0.2.1", "fd00:2::1"], profiles: ["kns.default"])]
) {
  $0.hostEndpoints[host] = HostEndpointPlan(interfaceName: "eth0", expectedAddresses: [IPAddress("192.0.2.1")!, IPAddress("fd00:2::1")!])
  $0.hostEndpoints[host]!.profiles = ["kns.default"]
}

let fourLists = bareHost.with(
  "a policy for each of its lists",
  [
    hostPolicy("normal", egress: [Rule(.deny)]),
    hostPolicy("forward", egress: [Rule(.allow)]) { $0.applyOnForward = true },
    hostPolicy("untracked", egress: [Rule(.allow)]) { ($0.doNotTrack, $0.applyOnForward) = (true, true) },
    // A stored one may say both directions; before translation there is only ingress.
    hostPolicy("before", egress: [Rule(.allow)]) { ($0.preDNAT, $0.applyOnForward) = (true, true) },
  ]
) {
  let allow = [RulePlan(.allow)]
  $0.policies[key(.globalNetworkPolicy, "normal")] = PolicyPlan(ingress: allow, egress: [RulePlan(.deny)])
  for name in ["forward", "untracked", "before"] {
    $0.policies[key(.globalNetworkPolicy, name)] = PolicyPlan(ingress: allow, egress: allow)
  }
  let both = standard("forward", "normal")
  $0.hostEndpoints[host]!.normal = TierLists(ingress: both, egress: both)
  $0.hostEndpoints[host]!.forward = TierLists(ingress: standard("forward"), egress: standard("forward"))
  $0.hostEndpoints[host]!.untracked = TierLists(ingress: standard("untracked"), egress: standard("untracked"))
  $0.hostEndpoints[host]!.preDNAT = TierLists(ingress: standard("before"))
}

let hostsOnly = initialised.with(
  "untracked and pre-DNAT policies select a workload; an unreadable policy of its namespace does not reach a host that has the label",
  [
    hostPolicy("untracked") { ($0.selector, $0.doNotTrack) = ("role == 'web'", true) },
    hostPolicy("before") { ($0.selector, $0.preDNAT) = ("all()", true) },
    {
      var resource = hostEndpoint("n1-eth0")
      resource.metadata.labels = ["projectcalico.org/namespace": "default"]
      return resource
    }(),
    policy("broken", selector: "role ==", ingress: [Rule(.allow)]),
  ]
) {
  $0.policies[key(.globalNetworkPolicy, "before")] = PolicyPlan(ingress: [RulePlan(.allow)])
  $0.hostEndpoints[host] = HostEndpointPlan(interfaceName: "eth0")
  $0.hostEndpoints[host]!.preDNAT.ingress = standard("before")
  var deny = RulePlan(.deny)
  deny.fault = RuleFault.text("selector", "role ==")
  $0.policies[key(.networkPolicy, "broken", "default")] = PolicyPlan(ingress: [deny])
  $0.endpoints[web]!.ingress = [TierPlan(name: "default", policies: [key(.networkPolicy, "broken", "default")])]
}

let hostMembers = initialised.with(
  "host endpoints of this host and another feed sets of addresses and of named ports",
  [
    hostEndpoint("n1-eth0", addresses: ["192.0.2.1"]),
    hostEndpoint("n2-all", node: "n2", interface: "*", addresses: ["192.0.2.2", "fd00:2::2"]),
    hostPolicy("to-hosts", ingress: []) {
      $0.selector = "role == 'web'"
      $0.types = [.egress]
      var rule = Rule(.allow, protocol: .tcp)
      rule.destination.selector = "role == 'host'"
      rule.destination.ports = [.named("ssh"), .port(80)]
      $0.egress = [rule]
    },
  ]
) {
  let demand = AddressSetDemand(port: "ssh", .tcp, of: try! Selector(parsing: "role == 'host'"))
  $0.hostEndpoints[host] = HostEndpointPlan(interfaceName: "eth0", expectedAddresses: [IPAddress("192.0.2.1")!])
  $0.ipSets[setID("role == 'host'")] = set("role == 'host'", ["192.0.2.1/32", "192.0.2.2/32", "fd00:2::2/128"])
  $0.ipSets[demand.id] = IPSetPlan(
    content: .addressPorts, members: Set(["192.0.2.1", "192.0.2.2", "fd00:2::2"].map { .addressPort(IPAddress($0)!, .tcp, 22) }),
    explanation: demand.explanation)
  var rule = RulePlan(.allow)
  rule.ipProtocol = .tcp
  rule.destination.namedPorts = [demand.id]
  rule.destination.ports = [80...80]
  rule.destination.sets = [setID("role == 'host'")]
  $0.policies[key(.globalNetworkPolicy, "to-hosts")] = PolicyPlan(egress: [rule])
  $0.endpoints[web]!.egress = standard("to-hosts")
}

let readyEverywhere = empty.with(
  "a policy that every host keeps ready",
  [
    hostPolicy("ready", ingress: [allow(from: "role == 'db'")]) { $0.performanceHints = [.assumeNeededOnEveryNode] },
    hostPolicy("unreadable") { ($0.selector, $0.performanceHints) = ("role ==", [.assumeNeededOnEveryNode]) },
  ]
) {
  $0.policies[key(.globalNetworkPolicy, "ready")] = PolicyPlan(ingress: [planned(.allow, from: setID("role == 'db'"))])
  $0.ipSets[setID("role == 'db'")] = set("role == 'db'", [])
}

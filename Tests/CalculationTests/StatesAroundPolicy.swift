/// States about what stands around policy: translation, floating addresses, sources, marks.
import Addresses
import HostPlans
import Resources

@testable import Calculation

private func pool(
  _ name: String, _ cidr: String, nat: Bool = false, disabled: Bool = false, uses: Set<IPPoolSpec.Use> = [.workload, .tunnel]
) -> Resource {
  var spec = IPPoolSpec(cidr: IPPrefix(cidr)!)
  (spec.natOutgoing, spec.disabled, spec.allowedUses) = (nat, disabled, uses)
  return Resource(Metadata(name: name), .ipPool(spec))
}
private func felix(_ field: String, _ word: String) -> Resource {
  Resource(Metadata(name: "default"), .felixConfiguration(FelixConfigurationSpec([field: .text(word)])))
}
private func nets(_ words: String, _ nets: String...) -> IPSetPlan {
  IPSetPlan(content: .nets, members: Set(nets.map { .net(IPPrefix($0)!) }), explanation: words)
}
private func node(_ name: String, _ bgp: String, _ internalAddress: String) -> Resource {
  var spec = NodeSpec(bgp: NodeSpec.BGP(ipv4Address: InterfaceAddress(bgp)))
  spec.addresses = [.init(address: internalAddress, type: "InternalIP"), .init(address: "203.0.113.9", type: "ExternalIP")]
  return Resource(Metadata(name: name), .node(spec))
}
private func changed(_ resource: Resource, _ edit: (inout WorkloadEndpointSpec) -> Void) -> Resource {
  guard case .workloadEndpoint(var spec) = resource.spec else { preconditionFailure("it is an endpoint") }
  edit(&spec)
  return Resource(resource.metadata, .workloadEndpoint(spec))
}
private func floating(_ resource: Resource, _ pairs: [String: String], openStack: Bool = false) -> Resource {
  changed(resource) {
    $0.ipNATs = pairs.sorted { $0.key < $1.key }.map { .init(internalIP: IPAddress($0.value)!, externalIP: IPAddress($0.key)!) }
    if openStack { $0.orchestrator = "openstack" }
  }
}

let pools = initialised.with(
  "pools whose connections are translated outside of all pools",
  [
    pool("a", "10.1.0.0/16", nat: true), pool("b", "10.2.0.0/16", disabled: true), pool("six", "fd00:1::/48", nat: true),
    pool("lb", "192.0.2.0/24", nat: true, uses: [.loadBalancer]), node("n1", "172.16.0.1/24", "fd99::1"),
    node("n2", "172.16.0.2/24", "172.16.0.1"),
  ]
) {
  $0.ipSets[.masqueradedPools] = nets("pools with natOutgoing", "10.1.0.0/16", "fd00:1::/48")
  $0.ipSets[.networkPools] = nets("all pools", "10.1.0.0/16", "10.2.0.0/16", "fd00:1::/48")
}
let poolsSparingHosts = pools.with(
  "connections to hosts keep their source", [felix("natOutgoingExclusions", "IPPoolsAndHostIPs")], without: [key(.ipPool, "six")]
) {
  $0.settings.nat.sparesHosts = true
  $0.ipSets[.masqueradedPools] = nets("pools with natOutgoing", "10.1.0.0/16")
  $0.ipSets[.networkPools] = nets("all pools", "10.1.0.0/16", "10.2.0.0/16")
  $0.ipSets[.hosts] = nets("addresses of hosts", "172.16.0.1/32", "172.16.0.2/32", "fd99::1/128")
}
let serviceNetworks = initialised.with(
  "networks of services",
  [
    Resource(
      Metadata(name: "default"),
      .bgpConfiguration(
        {
          var spec = BGPConfigurationSpec()
          spec.serviceClusterIPs = [IPPrefix("10.96.0.0/12")!]
          spec.serviceExternalIPs = [IPPrefix("10.96.1.0/24")!, IPPrefix("192.0.2.1/32")!]
          spec.serviceLoadBalancerIPs = [IPPrefix("fd33::/112")!]
          return spec
        }()))
  ]
) {
  $0.ipSets[.services] = nets("networks of services", "10.96.0.0/12", "192.0.2.1/32", "fd33::/112")
}

private let addresses = ["10.1.0.1", "fd00:1::1"]
private let plain = endpoint("web", addresses: addresses, labels: ["role": "web"])
let floatingDisabled = initialised.with(
  "floating addresses that are not switched on", [floating(plain, ["198.51.100.1": "10.1.0.1", "fd33::1": "fd00:1::1"])])
let floatingEnabled = floatingDisabled.with("floating addresses", [felix("floatingIPs", "Enabled")]) {
  $0.settings.nat.floatingIPs = true
  for (external, inner) in [("198.51.100.1", "10.1.0.1"), ("fd33::1", "fd00:1::1")] {
    $0.endpoints[web]!.floating[IPAddress(external)!] = IPAddress(inner)!
    $0.routes[IPAddress(external)!.hostPrefix] = .workload(interfaceName: "caliweb")
  }
}
let floatingContested = floatingEnabled.with(
  "a floating address that a younger endpoint of OpenStack takes, and one that is another's own",
  [
    floating(
      endpoint("vm", addresses: ["10.1.0.9", "fd33::1"], created: "2026-01-01T00:00:00Z"), ["198.51.100.1": "10.1.0.9"], openStack: true)
  ],
  without: [key(.felixConfiguration, "default")]
) {
  let vm = key(.workloadEndpoint, "vm", "default")
  $0.settings.nat.floatingIPs = false
  $0.endpoints[web]!.floating = [:]
  $0.endpoints[vm] = EndpointPlan(
    interfaceName: "calivm", addresses: [IPAddress("10.1.0.9")!, IPAddress("fd33::1")!], profiles: ["kns.default"])
  $0.endpoints[vm]!.isOpenStack = true
  $0.endpoints[vm]!.floating[IPAddress("198.51.100.1")!] = IPAddress("10.1.0.9")!
  for prefix in ["10.1.0.9/32", "fd33::1/128", "198.51.100.1/32"] { $0.routes[IPPrefix(prefix)!] = .workload(interfaceName: "calivm") }
}
let floatingMixed = floatingContested.with("the same with all switched on", [felix("floatingIPs", "Enabled")]) {
  $0.settings.nat.floatingIPs = true
}

let spoofing = initialised.with(
  "further sources, forbidden, and a mark",
  [
    changed(plain) {
      $0.allowSpoofedSourcePrefixes = [IPPrefix("10.9.0.0/24")!]
      $0.qosControls = QoSControls()
      $0.qosControls!.dscp = DSCP("46")
    }
  ]
) {
  $0.endpoints[web]!.qos = QoSControls()
  $0.endpoints[web]!.qos!.dscp = DSCP("46")
  $0.ipSets[.networkPools] = nets("all pools")
  $0.ipSets[.hosts] = nets("addresses of hosts")
}
let spoofingAllowed = spoofing.with("further sources, allowed", [felix("workloadSourceSpoofing", "Any")]) {
  $0.settings.filter.allowsSpoofing = true
  $0.endpoints[web]!.allowedSources = [IPPrefix("10.9.0.0/24")!]
}

let statesAroundPolicy = [
  pools, poolsSparingHosts, serviceNetworks, floatingDisabled, floatingEnabled, floatingContested, floatingMixed, spoofing, spoofingAllowed,
]
let walksAroundPolicy = [
  [pools, poolsSparingHosts, serviceNetworks, pools, spoofing, poolsSparingHosts],
  [floatingDisabled, floatingEnabled, floatingContested, floatingMixed, floatingContested, floatingDisabled],
  [spoofing, spoofingAllowed, spoofing, initialised],
]

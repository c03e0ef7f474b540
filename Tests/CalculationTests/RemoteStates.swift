/// States in which other hosts have workloads: three nodes, `n2` in the subnet of `n1` and `n3` in another one.
import Addresses
import HostPlans
import RandomClusters
import Resources
import Testing

@testable import Calculation

private func node(_ name: String, _ v4: String, _ v6: String, _ change: (inout NodeSpec) -> Void = { _ in }) -> Resource {
  var bgp = NodeSpec.BGP()
  bgp.ipv4Address = InterfaceAddress(v4)
  bgp.ipv6Address = InterfaceAddress(v6)
  var spec = NodeSpec(bgp: bgp)
  change(&spec)
  return Resource(Metadata(name: name), .node(spec))
}
private func pool(
  _ name: String, _ cidr: String, vxlan: IPPoolSpec.Encapsulation = .never, ipip: IPPoolSpec.Encapsulation = .never, disabled: Bool = false
) -> Resource {
  var spec = IPPoolSpec(cidr: IPPrefix(cidr)!)
  (spec.vxlanMode, spec.ipipMode, spec.disabled) = (vxlan, ipip, disabled)
  return Resource(Metadata(name: name), .ipPool(spec))
}
private func configuration(_ fields: [String: FelixParameterValue]) -> Resource {
  Resource(Metadata(name: "default"), .felixConfiguration(FelixConfigurationSpec(fields)))
}
private func ends(_ number: Int) -> (inout NodeSpec) -> Void {
  { spec in
    spec[tunnel: .vxlan] = IPAddress("10.1.\(number).0")
    spec[tunnel: .vxlanV6] = IPAddress("fd00:1:\(number)::")
    spec[tunnel: .ipip] = IPAddress("10.1.\(number).1")
  }
}
private func at(_ text: String) -> IPPrefix { IPPrefix(text)! }
private func ip(_ text: String) -> IPAddress { IPAddress(text)! }
private let nets = [1, 2, 3].map { (at("10.1.\($0).0/26"), at("fd00:1:\($0)::/122")) }
private let here = (ip("10.0.0.1"), ip("fd00:0:0:1::1"))

let threeNodes = empty.with(
  "three nodes, no pool",
  [
    node("n1", "10.0.0.1/24", "fd00:0:0:1::1/64", ends(1)), node("n2", "10.0.0.2/24", "fd00:0:0:1::2/64", ends(2)),
    node("n3", "10.0.1.3/24", "fd00:0:0:2::3/64", ends(3)),
  ],
  blocks: Dictionary(uniqueKeysWithValues: nets.enumerated().flatMap { index, nets in
    [(nets.0, BlockFact(affinity: "n\(index + 1)")), (nets.1, BlockFact(affinity: "n\(index + 1)"))]
  })
) {
  $0.routes = [nets[0].0: .blackhole, nets[0].1: .blackhole]
}

let noEncapsulation = threeNodes.with("pools without encapsulation: BGP's", [pool("v4", "10.1.0.0/16"), pool("v6", "fd00:1::/32")])

private func vxlanTunnels(_ plan: inout HostPlan) {
  for (kind, own, pool, cidr) in [(TunnelKind.vxlan, here.0, "v4", "10.1.0.0/16"), (.vxlanV6, here.1, "v6", "fd00:1::/32")] {
    plan.tunnels[kind] = TunnelPlan(underlay: own, address: kind == .vxlan ? ip("10.1.1.0") : ip("fd00:1:1::"), mac: .vxlan(ofNode: "n1"))
    plan.tunnelDemands[kind] = TunnelDemand(pools: [pool], networks: [at(cidr)])
    for (number, v4, v6) in [(2, "10.0.0.2", "fd00:0:0:1::2"), (3, "10.0.1.3", "fd00:0:0:2::3")] {
      plan.tunnelPeers[TunnelPeer(kind, "n\(number)")] = TunnelPeerPlan(
        underlay: ip(kind == .vxlan ? v4 : v6), address: ip(kind == .vxlan ? "10.1.\(number).0" : "fd00:1:\(number)::"),
        mac: .vxlan(ofNode: "n\(number)"))
    }
  }
}
let vxlanAlways = threeNodes.with(
  "VXLAN always", [pool("v4", "10.1.0.0/16", vxlan: .always), pool("v6", "fd00:1::/32", vxlan: .always)]
) {
  vxlanTunnels(&$0)
  for number in [2, 3] {
    $0.routes[nets[number - 1].0] = .tunnel(.vxlan, via: ip("10.1.\(number).0"))
    $0.routes[nets[number - 1].1] = .tunnel(.vxlanV6, via: ip("fd00:1:\(number)::"))
  }
}
let vxlanAcross = vxlanAlways.with(
  "VXLAN between subnets only", [pool("v4", "10.1.0.0/16", vxlan: .crossSubnet), pool("v6", "fd00:1::/32", vxlan: .crossSubnet)]
) {
  $0.routes[nets[1].0] = .direct(via: ip("10.0.0.2"), from: here.0)
  $0.routes[nets[1].1] = .direct(via: ip("fd00:0:0:1::2"), from: here.1)
}
let disabledPool = vxlanAlways.with(
  "a disabled pool gives no addresses, and what it gave is reached", [pool("v4", "10.1.0.0/16", vxlan: .always, disabled: true)]
) { $0.tunnelDemands[.vxlan]!.pools = [] }
let farAway = vxlanAcross.with("n2 moved to another subnet", [node("n2", "10.0.7.2/24", "fd00:0:0:7::2/64", ends(2))]) {
  $0.routes[nets[1].0] = .tunnel(.vxlan, via: ip("10.1.2.0"))
  $0.routes[nets[1].1] = .tunnel(.vxlanV6, via: ip("fd00:1:2::"))
  $0.tunnelPeers[TunnelPeer(.vxlan, "n2")]!.underlay = ip("10.0.7.2")
  $0.tunnelPeers[TunnelPeer(.vxlanV6, "n2")]!.underlay = ip("fd00:0:0:7::2")
}
let endless = vxlanAlways.with("n3 has no end of the tunnel yet", [node("n3", "10.0.1.3/24", "fd00:0:0:2::3/64")]) {
  for kind in [TunnelKind.vxlan, .vxlanV6] { $0.tunnelPeers[TunnelPeer(kind, "n3")]!.address = nil }
  $0.routes[nets[2].0] = nil
  $0.routes[nets[2].1] = nil
}
let borrowed = vxlanAlways.with(
  "n3 borrows from the blocks of n1 and n2, and n1 from that of n2",
  [endpoint("web", addresses: ["10.1.2.9"], profiles: ["projectcalico-default-allow"])],
  blocks: [
    nets[0].0: BlockFact(affinity: "n1", borrowers: [ip("10.1.1.9"): "n3"]),
    nets[1].0: BlockFact(affinity: "n2", borrowers: [ip("10.1.2.8"): "n3", ip("10.1.2.9"): "n1"]),
  ]
) {
  $0.endpoints[web] = EndpointPlan(interfaceName: "caliweb", addresses: [ip("10.1.2.9")], profiles: ["projectcalico-default-allow"])
  $0.policies[key(.profile, "projectcalico-default-allow")] = PolicyPlan(ingress: [RulePlan(.allow)], egress: [RulePlan(.allow)])
  $0.routes[at("10.1.1.9/32")] = .tunnel(.vxlan, via: ip("10.1.3.0"))
  $0.routes[at("10.1.2.8/32")] = .tunnel(.vxlan, via: ip("10.1.3.0"))
  $0.routes[at("10.1.2.9/32")] = .workload(interfaceName: "caliweb")
}
let ipipAlways = threeNodes.with("IPIP always: Felix' by default", [pool("v4", "10.1.0.0/16", ipip: .always), pool("v6", "fd00:1::/32")]) {
  $0.tunnels[.ipip] = TunnelPlan(underlay: here.0, address: ip("10.1.1.1"))
  $0.tunnelDemands[.ipip] = TunnelDemand(pools: ["v4"], networks: [at("10.1.0.0/16")])
  $0.tunnelPeers[TunnelPeer(.ipip, "n2")] = TunnelPeerPlan(underlay: ip("10.0.0.2"), address: ip("10.1.2.1"))
  $0.tunnelPeers[TunnelPeer(.ipip, "n3")] = TunnelPeerPlan(underlay: ip("10.0.1.3"), address: ip("10.1.3.1"))
  $0.routes[nets[1].0] = .tunnel(.ipip, via: ip("10.0.0.2"))
  $0.routes[nets[2].0] = .tunnel(.ipip, via: ip("10.0.1.3"))
}
let ipipAcross = ipipAlways.with("IPIP between subnets only", [pool("v4", "10.1.0.0/16", ipip: .crossSubnet)]) {
  $0.routes[nets[1].0] = .direct(via: ip("10.0.0.2"), from: here.0)
}
let ipipByBGP = ipipAlways.with("IPIP, carried by BGP", [configuration(["programClusterRoutes": .text("EnabledNoEncapOnly")])]) {
  $0.settings.routing.clusterRoutes = .noEncapOnly
  $0.routes[nets[1].0] = nil
  $0.routes[nets[2].0] = nil
  $0.routes[nets[1].1] = .direct(via: ip("fd00:0:0:1::2"), from: here.1)
}
let switchedOff = vxlanAlways.with("VXLAN switched off by FelixConfiguration", [configuration(["vxlanEnabled": .flag(false)])]) {
  $0.settings.tunnels.vxlan = false
  $0.tunnels = [:]
  $0.tunnelPeers = [:]
  $0.tunnelDemands = [:]
  $0.routes = threeNodes.expected.routes
}
let byWorkloads = vxlanAlways.with(
  "routes by workloads' own records",
  [configuration(["routeSource": .text("WorkloadIPs")]), endpoint("far", node: "n3", addresses: ["10.1.2.7", "fd00:1:2::7"])]
) {
  $0.settings.routing.source = .workloadIPs
  $0.routes = [at("10.1.2.7/32"): .tunnel(.vxlan, via: ip("10.1.3.0")), at("fd00:1:2::7/128"): .tunnel(.vxlanV6, via: ip("fd00:1:3::"))]
  for (number, v6) in [(2, false), (3, false), (2, true), (3, true)] {
    // No block covers the ends of the tunnels here.
    let end = v6 ? "fd00:1:\(number)::" : "10.1.\(number).0"
    $0.routes[ip(end).hostPrefix] = .tunnel(v6 ? .vxlanV6 : .vxlan, via: ip(end))
    if !v6 { $0.routes[at("10.1.\(number).1/32")] = .tunnel(.vxlan, via: ip(end)) }
  }
}

let remoteStates = [
  threeNodes, noEncapsulation, vxlanAlways, vxlanAcross, disabledPool, farAway, endless, borrowed, ipipAlways, ipipAcross, ipipByBGP, switchedOff,
  byWorkloads,
]

@Suite("Routes to other hosts")
struct RemoteRouteTests {
  @Test("From every state to every other state, by way of nothing and straight", arguments: remoteStates.map(\.name))
  func pairs(_ name: String) {
    let from = remoteStates.first { $0.name == name }!
    for to in remoteStates {
      for expansion in [Expansion.identity, .emptiesInterposed, .keysReversed, .backInTime] {
        let complaint = walk(legs([from, to], expansion), .eachState, syncFirst: true)
        #expect(complaint == nil, "\(from.name) -> \(to.name), \(expansion)")
      }
    }
  }

  @Test("A route that BGP carries from now on is handed over; one that nobody has any more is removed")
  func handOver() {
    var calculation = HostCalculation(node: "n1")
    calculation.receive(.inSync)
    for input in inputs(from: Facts(), to: vxlanAlways.facts) { calculation.receive(input) }
    _ = calculation.flush()
    for input in inputs(from: vxlanAlways.facts, to: noEncapsulation.facts) { calculation.receive(input) }
    let given = calculation.flush()
    #expect(given.contains(.routeHandedOver(nets[1].0)) && given.contains(.routeHandedOver(nets[2].1)))
    for input in inputs(from: noEncapsulation.facts, to: vxlanAlways.facts) { calculation.receive(input) }
    _ = calculation.flush()
    calculation.receive(.block(nets[1].0, nil))
    #expect(calculation.flush().contains(.routeRemoved(nets[1].0)))
  }

  @Test("A host that cannot be reached is told, with the reason")
  func findings() {
    var calculation = HostCalculation(node: "n1")
    calculation.receive(.inSync)
    for input in inputs(from: Facts(), to: endless.facts) { calculation.receive(input) }
    _ = calculation.flush()
    #expect(calculation.findings[key(.node, "n3")] == "no route to 10.1.3.0/26: its Node has no address for VXLAN yet")
  }

  @Test("Nodes, pools, blocks and settings at random, against the naive reading", arguments: UInt64(1)...30)
  func random(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var calculation = HostCalculation(node: "n1")
    var follower = PlanFollower()
    var facts = Facts()
    calculation.receive(.inSync)
    func pick<Value>(_ values: [Value]) -> Value { values.randomElement(using: &random)! }
    let names = ["n1", "n2", "n3", "n4"]
    let blocks = ["10.1.1.0/26", "10.1.2.0/26", "10.1.3.0/30", "10.2.0.0/26", "fd00:1:1::/122", "fd00:1:2::/122", "10.1.1.3/32"].map { at($0) }
    for step in 0..<300 {
      let input: CalculationInput
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<3:
        let name = pick(names)
        var resource = node(name, pick(["10.0.0.1/24", "10.0.0.2/24", "10.0.1.3/24"]), pick(["fd00::1/64", "fd00:0:0:1::2/64"])) { spec in
          for kind in TunnelKind.allCases where Bool.random(using: &random) {
            spec[tunnel: kind] = ip(kind.family == .v4 ? pick(["10.1.1.3", "10.1.2.2", "10.2.0.9", "10.9.0.1"]) : pick(["fd00:1:1::3", "fd00:1:2::"]))
          }
        }
        if Bool.random(using: &random) {
          var status = NodeStatus()
          status.wireguardPublicKey = pick(["aaa=", "bbb=", nil])
          resource.status = .node(status)
        }
        input = .resource(key(.node, name), Int.random(in: 0..<5, using: &random) == 0 ? nil : resource)
      case 3..<5:
        let name = pick(["a", "b", "c"])
        let modes = IPPoolSpec.Encapsulation.allCases
        let resource = pool(name, pick(["10.1.0.0/16", "10.1.2.0/24", "10.2.0.0/16", "fd00:1::/32"]), vxlan: pick(modes), ipip: pick(modes))
        input = .resource(key(.ipPool, name), Int.random(in: 0..<4, using: &random) == 0 ? nil : resource)
      case 5..<8:
        let block = pick(blocks)
        var fact = BlockFact(affinity: pick(names + [nil]))
        for offset in [2, 3] as [UInt64] where Bool.random(using: &random) {
          if let address = block.address.advanced(by: offset), block.contains(address) { fact.borrowers[address] = pick(names) }
        }
        input = .block(block, Int.random(in: 0..<4, using: &random) == 0 ? nil : fact)
      case 8:
        let name = pick(["w1", "w2"])
        let resource = endpoint(name, node: pick(names), addresses: [pick(["10.1.1.3", "10.1.2.5", "fd00:1:1::2"])], created: pick(["1", "2"]))
        input = .resource(key(.workloadEndpoint, name, "default"), Int.random(in: 0..<3, using: &random) == 0 ? nil : resource)
      default:
        let resource = configuration([
          "programClusterRoutes": .text(pick(["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"])),
          "routeSource": .text(pick(["CalicoIPAM", "WorkloadIPs"])), "wireguardEnabled": .flag(Bool.random(using: &random)),
          "wireguardHostEncryptionEnabled": .flag(Bool.random(using: &random)),
        ].filter { _ in Bool.random(using: &random) })
        input = .resource(key(.felixConfiguration, "default"), resource)
      }
      calculation.receive(input)
      facts = apply([input], to: facts)
      guard Int.random(in: 0..<3, using: &random) == 0 else { continue }
      follower.follow(calculation.flush())
      let naive = NaiveCalculation(node: "n1", facts: facts).plan
      guard follower.complaints.isEmpty, follower.plan == naive, calculation.plan == naive else {
        Issue.record("seed \(seed), step \(step), \(input): \(follower.complaints) \(difference(follower.plan, naive))")
        return
      }
    }
  }
}

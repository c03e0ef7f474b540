/// The whole ruleset of a small host, as people read it. `UPDATE_GOLDENS=1 swift test --filter GoldenTests` writes it anew.

import Addresses
import Glibc
import HostPlans
@testable import PolicyRendering
import Resources
import Rulesets
import Sockets
import Testing

@Suite("Goldens")
struct GoldenTests {
  static func plan() -> HostPlan {
    var plan = HostPlan()
    let clients = IPSetID("s:clients")
    let http = IPSetID("n:http")
    plan.ipSets[clients] = IPSetPlan(
      content: .nets, members: Set(["10.65.1.7/32", "192.0.2.0/24", "fd65::7/128"].map { .net(prefix($0)) }),
        explanation: "role == 'client'")
    plan.ipSets[http] = IPSetPlan(
      content: .addressPorts, members: [.addressPort(address("10.65.0.2"), .tcp, 8080)], explanation: "app == 'web', tcp http")
    let guardKey = ResourceKey(.globalNetworkPolicy, name: "guard")
    plan.policies[guardKey] = PolicyPlan(
      ingress: [rule(.deny) { $0.source.nets = [prefix("198.51.100.0/24"), prefix("203.0.113.0/24")] }, rule(.log), rule(.pass)],
      egress: [rule(.deny) { $0.ipProtocol = .tcp; $0.destination.ports = [25...25] }, rule(.pass)])
    plan.policies[policyKey("allow-web")] = PolicyPlan(ingress: [
      rule(.allow) {
        $0.ipProtocol = .tcp
        $0.source.sets = [clients]
        $0.destination.ports = [80...80, 443...443]
        $0.destination.namedPorts = [http]
        $0.annotations = ["team": "shop"]
      },
      rule(.allow) { $0.ipProtocol = .icmp; $0.icmp = ICMPMatch(type: 8) },
    ])
    plan.policies[profileKey("kns.default")] = PolicyPlan(ingress: [rule(.allow)], egress: [rule(.allow)])
    let security = TierPlan(name: "security", policies: [guardKey])
    let standard = TierPlan(name: "default", policies: [policyKey("allow-web")])
    plan.endpoints[endpointKey("web-1")] = EndpointPlan(
      interfaceName: "cali0a", mac: MACAddress("02:00:00:00:00:0a"), addresses: [address("10.65.0.2"), address("fd65::2")],
      ingress: [security, standard], egress: [security], profiles: ["kns.default"])
    plan.endpoints[endpointKey("client-1")] = EndpointPlan(
      interfaceName: "cali0b", addresses: [address("10.65.1.7")], profiles: ["kns.default"])
    return plan
  }

  @Test("A host with two endpoints, two tiers, named ports and a log rule")
  func host() throws {
    var renderer = PolicyRenderer()
    var ruleset = Ruleset()
    ruleset.apply(renderer.apply(changes(from: HostPlan(), to: Self.plan())))
    let text = RulesetText.text(ruleset) + "\n"
    let folder = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Goldens/PolicyRendering"
    let path = "\(folder)/host.txt"
    if unsafe getenv("UPDATE_GOLDENS") != nil { try Files.writeAtomically(Array(text.utf8), to: path) }
    let golden = try Files.readText(path)
    #expect(text == golden)
  }
}

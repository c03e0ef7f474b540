/// What host endpoints become in the ruleset.

import Addresses
import Glibc
import HostPlans
import RandomClusters
import Resources
import RulesetDriver
import Rulesets
import Sockets
import Testing

@testable import PolicyRendering

func globalKey(_ name: String) -> ResourceKey { ResourceKey(.globalNetworkPolicy, name: name) }
func tiers(_ policies: String...) -> [TierPlan] { [TierPlan(name: "default", policies: policies.map(globalKey))] }
func hostPlan(
  _ interface: String = "out", expecting addresses: String..., normal: TierLists = TierLists(), forward: TierLists = TierLists(),
  untracked: TierLists = TierLists(),
  preDNAT: TierLists = TierLists(), profiles: [String] = []
) -> HostEndpointPlan {
  var plan = HostEndpointPlan(interfaceName: interface, expectedAddresses: addresses.map(address))
  (plan.normal, plan.forward, plan.untracked, plan.preDNAT, plan.profiles) = (normal, forward, untracked, preDNAT, profiles)
  return plan
}

@Suite("Host endpoints in the ruleset")
struct HostEndpointTests {
  static func policies() -> [HostPlanChange] {
    ["web", "transit", "raw", "before"].map {
      .policy(
        globalKey($0),
        PolicyPlan(
          ingress: [
            rule(.allow) {
              $0.ipProtocol = .tcp
              $0.destination.ports = [80...80]
            }
          ], egress: [rule(.allow), rule(.pass)]))
    } + [.policy(profileKey("open"), PolicyPlan(ingress: [rule(.allow)], egress: [rule(.allow)]))]
  }
  static func full(_ interface: String) -> HostEndpointPlan {
    hostPlan(
      interface, normal: TierLists(ingress: tiers("web", "transit"), egress: tiers("web", "transit")),
      forward: TierLists(ingress: tiers("transit"), egress: tiers("transit")),
      untracked: TierLists(ingress: tiers("raw"), egress: tiers("raw")), preDNAT: TierLists(ingress: tiers("before")), profiles: ["open"])
  }
  static func ruleset(_ changes: [HostPlanChange], observing observed: [String: Set<IPAddress>]? = nil) throws -> Ruleset {
    var rig = Rig()
    if let observed { rig.renderer.observe(interfaces: observed) }
    try rig.apply(changes)
    return rig.driver.ruleset
  }

  @Test("A host with one endpoint that has policies in every list, and one for all other interfaces")
  func golden() throws {
    let changes =
      Self.policies() + [
        .hostEndpoint(hostKey("eth0"), Self.full("eth0")),
        .hostEndpoint(hostKey("others"), hostPlan("*", forward: TierLists(egress: tiers("transit")), profiles: ["open"])),
      ]
    let text = RulesetText.text(try Self.ruleset(changes)) + "\n"
    let folder = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Goldens/PolicyRendering"
    let path = "\(folder)/host-endpoints.txt"
    if unsafe getenv("UPDATE_GOLDENS") != nil { try Files.writeAtomically(Array(text.utf8), to: path) }
    let golden = try Files.readText(path)
    #expect(text == golden)
  }

  @Test("Without host endpoints nothing of theirs is there, and with the last one all of it goes")
  func nothing() throws {
    let bare = try Self.ruleset(Self.policies())
    var rig = Rig()
    try rig.apply(Self.policies() + [.hostEndpoint(hostKey("a"), Self.full("eth0")), .hostEndpoint(hostKey("b"), Self.full("*"))])
    #expect(rig.driver.ruleset.chains.values.filter { $0.hook != nil }.count > bare.chains.values.filter { $0.hook != nil }.count)
    try rig.apply(.hostEndpointRemoved(hostKey("a")), .hostEndpointRemoved(hostKey("b")))
    #expect(rig.driver.ruleset == bare)
  }

  @Test("A host's own chain without policies and profiles is shared with the workload that has none either")
  func shared() throws {
    var rig = Rig()
    try rig.apply(.endpoint(endpointKey("w"), EndpointPlan(interfaceName: "cali1")), .hostEndpoint(hostKey("a"), hostPlan("eth0")))
    let groups = rig.driver.ruleset.chains.keys.filter { $0.hasPrefix("ingress-") }
    #expect(groups.count == 1)
    #expect(rig.driver.ruleset.elements["host-ingress"]?.count == 1 && rig.driver.ruleset.elements["ingress"]?.count == 1)
  }

  @Test("The ruleset is that of the plan reached, whatever endpoints, interfaces and settings came before", arguments: UInt64(1)...6)
  func path(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var rig = Rig()
    try rig.apply(Self.policies())
    var endpoints: [ResourceKey: HostEndpointPlan] = [:]
    var settings = HostSettings()
    var observed: [String: Set<IPAddress>] = [:]
    for step in 0..<40 {
      var changes: [HostPlanChange] = []
      switch Int.random(in: 0..<10, using: &random) {
      case ..<5:
        let key = hostKey(["a", "b", "c"].randomElement(using: &random)!)
        var plan = Self.full(["eth0", "eth1", "*", ""].randomElement(using: &random)!)
        plan.expectedAddresses = [address("192.0.2.\(Int.random(in: 1...2, using: &random))")]
        if Bool.random(using: &random) { plan.untracked = TierLists() }
        if Bool.random(using: &random) { plan.preDNAT = TierLists() }
        if Bool.random(using: &random) { plan.forward = TierLists() }
        if Int.random(in: 0..<4, using: &random) == 0 {
          if endpoints.removeValue(forKey: key) != nil { changes.append(.hostEndpointRemoved(key)) }
        } else {
          endpoints[key] = plan
          changes.append(.hostEndpoint(key, plan))
        }
      case ..<7:
        observed = [:]
        for name in ["eth0", "eth1", "eth2", "veth1"] where Bool.random(using: &random) {
          observed[name] = [address("192.0.2.\(Int.random(in: 1...2, using: &random))")]
        }
        rig.renderer.observe(interfaces: observed)
      default:
        settings.ipv6 = Bool.random(using: &random)
        settings.filter.deny = Bool.random(using: &random) ? .drop : .reject
        settings.filter.dropsInvalid = Bool.random(using: &random)
        settings.filter.markMask = [0xffff_0000, 0x0f00, 1].randomElement(using: &random)!
        settings.excludedInterfaces = [["kube-ipvs0"], ["/^veth/", "eth1"], []].randomElement(using: &random)!
        settings.failsafes.inbound = [FailsafeSettings().inbound, [.init(.tcp, 22), .init(.udp, 68, net: prefix("192.0.2.0/24"))], []]
          .randomElement(using: &random)!
        changes.append(.settings(settings))
      }
      try rig.apply(changes)
      let fresh = try Self.ruleset(
        [.settings(settings)] + Self.policies() + endpoints.map { .hostEndpoint($0, $1) },
        observing: step == 0 && observed.isEmpty ? nil : observed)
      guard rig.driver.ruleset == fresh else {
        Issue.record("seed \(seed), step \(step):\n\(RulesetText.text(rig.driver.ruleset))\ninstead of\n\(RulesetText.text(fresh))")
        return
      }
    }
  }
}

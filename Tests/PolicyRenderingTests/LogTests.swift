/// Log rules: the prefix that people find in the kernel's log, and the limit of how often.

import HostPlans
@testable import PolicyRendering
import Resources
import Rulesets
import Testing

@Suite("Log rules")
struct LogTests {
  static let web = policyKey("web")
  static let strict = ResourceKey(.globalNetworkPolicy, name: "strict")

  @Test(
    "The prefix names tier, kind, name and namespace as configured",
    arguments: [
      ("calico-packet", web, "calico-packet: "), ("%t|%k|%n|%p", web, "security|np|web|default/web: "),
      ("%t|%k|%n|%p", strict, "security|gnp|strict|strict: "), ("%t|%k|%n|%p", profileKey("kns.shop"), "|pro|kns.shop|kns.shop: "),
      ("100%% of %x %", web, "100%% of %x %: "), ("%%t", web, "%security: "), ("a\"b\nc", web, "a b c: "),
    ])
  func prefix(_ format: String, _ key: ResourceKey, _ expected: String) {
    #expect(LogRendering.prefix(format, key, tier: key.kind == .profile ? "" : "security") == expected)
  }

  @Test("The kernel's 127 octets are kept to, at a letter's end")
  func length() {
    let name = String(repeating: "x", count: 200)
    let long = LogRendering.prefix("%n", policyKey(name), tier: "default")
    #expect(long.utf8.count == 127 && long.hasSuffix("x: "))
    let umlauts = LogRendering.prefix(String(repeating: "ü", count: 100), policyKey("web"), tier: "default")
    #expect(umlauts.utf8.count <= 127 && umlauts.hasSuffix("ü: "))
  }

  @Test("A change of the configuration changes the rules that log, and no others")
  func configured() {
    var renderer = PolicyRenderer()
    let logging = PolicyPlan(ingress: [rule(.log), rule(.allow)], tier: "security")
    let tiers = [TierPlan(name: "security", policies: [policyKey("logging"), policyKey("plain")])]
    _ = renderer.apply([
      .policy(policyKey("logging"), logging), .policy(policyKey("plain"), PolicyPlan(ingress: [rule(.deny)])),
      .policy(profileKey("kns.default"), PolicyPlan()),
      .endpoint(endpointKey("w1"), EndpointPlan(interfaceName: "cali1", ingress: tiers, profiles: ["kns.default"])),
    ])
    var settings = HostSettings()
    settings.logPrefix = "%t"
    settings.logLimit = LogLimit("10/minute")
    let delta = renderer.apply([.settings(settings)])
    let chain = KernelNames.policy(policyKey("logging"), .ingress)
    #expect(Array(delta.chains.keys) == [chain])
    #expect(delta.chains[chain]??.rules.map(\.description) == [
      "counter limit rate 10/minute burst 5 packets log prefix \"security: \" level notice comment \"NetworkPolicy default/logging ingress rule 1\"",
      "counter accept comment \"NetworkPolicy default/logging ingress rule 2\"",
    ])
    #expect(delta.sets.isEmpty && delta.elements.isEmpty)
  }

  @Test("A rule keeps the number that people know it by, also where rules before it are left out")
  func numbers() {
    var renderer = PolicyRenderer()
    var plan = PolicyPlan(ingress: [rule(.allow) { $0.ipProtocol = .udp }, rule(.deny)])
    plan.ingress[1].place = 4
    let delta = renderer.apply([
      .policy(policyKey("p"), plan), .policy(profileKey("kns.default"), PolicyPlan()),
      .endpoint(
        endpointKey("w1"),
        EndpointPlan(
          interfaceName: "cali1", ingress: [TierPlan(name: "default", policies: [policyKey("p")])], profiles: ["kns.default"])),
    ])
    let rules = delta.chains[KernelNames.policy(policyKey("p"), .ingress)]??.rules ?? []
    #expect(rules.map(\.comment) == ["NetworkPolicy default/p ingress rule 1", "NetworkPolicy default/p ingress rule 5"])
  }
}

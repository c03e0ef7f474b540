/// Policies of many rules: what a packet meets, and that it meets the same verdict.

import Addresses
import HostPlans
import KernelSandbox
@testable import PolicyRendering
import Resources
import Rulesets
import Testing

@Suite("Folding")
struct FoldingTests {
  /// Allow of one TCP port each, from 8000 on.
  static func services(_ count: Int) -> [RulePlan] {
    (0..<count).map { index in
      rule(.allow) {
        $0.ipProtocol = .tcp
        $0.destination.ports = [UInt16(8000 + index)...UInt16(8000 + index)]
      }
    }
  }

  @Test("Rules of one protocol say it once, before all others")
  func hoisted() throws {
    #expect(try render(.ingress, Self.services(3)).map { String($0.prefix { $0 != "c" }) } == [
      "meta l4proto != t", "th dport 8000 ", "th dport 8001 ", "th dport 8002 ",
    ])
    // ICMP types are read where the protocol stands in the same rule, or nft would not know them.
    let pings = (0..<3).map { index in
      rule(.allow) {
        $0.ipProtocol = .icmp
        $0.icmp = ICMPMatch(type: UInt8(index))
      }
    }
    #expect(try render(.ingress, pings).allSatisfy { $0.contains("meta l4proto icmp") })
  }

  @Test("Many rules are found by protocol and port, in their order, with what names no port in between")
  func dispatch() throws {
    var rules = Self.services(14)
    rules.insert(rule(.deny) { $0.source.nets = [prefix("10.65.0.3/32")] }, at: 7)
    rules.append(
      rule(.allow) {
        $0.ipProtocol = .udp
        $0.destination.ports = [53...53, 8000...8000]
      })
    let rig = try Self.rig(rules)
    let own = rig.rules("policy-in-np/default/p")
    #expect(own.count == 2)
    #expect(own[0].hasPrefix("meta l4proto . th dport vmap @services-"))
    #expect(own[1].contains("10.65.0.3 counter drop"))
    func verdicts(_ chain: String) -> [String] {
      rig.rules("by-port-policy-in-np/default/p-\(chain)").map { $0.contains("drop") ? "drop" : "accept" }
    }
    #expect(verdicts("tcp-8000") == ["accept", "drop"])
    #expect(verdicts("tcp-8013") == ["drop", "accept"])
    // One chain for the ports of one rule.
    #expect(verdicts("udp-53") == ["drop", "accept"] && verdicts("udp-8000") == [])
    #expect(rig.driver.ruleset.chains.keys.count { $0.hasPrefix("by-port-") } == 15)
  }

  @Test("A policy that becomes short, or goes, leaves no chain and no map behind")
  func shrinks() throws {
    var rig = try Self.rig(Self.services(20))
    #expect(rig.driver.ruleset.sets.keys.contains { $0.hasPrefix("services-") })
    try rig.apply(.policy(policyKey("p"), PolicyPlan(ingress: Self.services(2))))
    let ruleset = rig.driver.ruleset
    #expect(!ruleset.sets.keys.contains { $0.hasPrefix("services-") } && !ruleset.chains.keys.contains { $0.hasPrefix("by-port-") })
  }

  @Test("Rules that would be repeated for each of very many ports are left in one chain")
  func limit() throws {
    let anywhere = (0..<20).map { index in rule(.deny) { $0.source.nets = [prefix("10.0.\(index).0/24")] } }
    let rig = try Self.rig(Self.services(20) + anywhere)
    #expect(rig.rules("policy-in-np/default/p").count == 40)
  }

  private static func rig(_ rules: [RulePlan]) throws -> Rig {
    var rig = Rig()
    var endpoint = EndpointPlan(interfaceName: "cali1")
    endpoint.ingress = [TierPlan(name: "default", policies: [policyKey("p")])]
    try rig.apply(.policy(policyKey("p"), PolicyPlan(ingress: rules)), .endpoint(endpointKey("e"), endpoint))
    return rig
  }

  @Test("The kernel decides by the folded rules as by the plain ones", .enabled(if: KernelSandbox.isAvailable))
  func packets() throws {
    let fabric = try Fabric()
    let (one, two, three) = (fabric.workloads[0], fabric.workloads[1], fabric.workloads[2])
    var rules = Self.services(14)
    // Before and behind the deny.
    rules.insert(
      rule(.deny) { $0.source.nets = [prefix("10.65.0.3/32"), prefix("fd65::3/128")] }, at: 7)
    rules.append(rule(.allow) { $0.ipProtocol = .udp })
    try fabric.apply(
      .policy(policyKey("p"), PolicyPlan(ingress: rules)), .policy(profileKey("kns.default"), PacketTests.allowAll),
      fabric.endpoint(1), fabric.endpoint(2, ingress: [TierPlan(name: "default", policies: [policyKey("p")])]), fabric.endpoint(3))
    for target in ["10.65.0.2", "fd65::2"] {
      #expect(try fabric.connects(one, two, target, 8003, expecting: true))
      #expect(try fabric.connects(one, two, target, 8010, expecting: true))
      #expect(try !fabric.connects(one, two, target, 8014, expecting: false))
      #expect(try fabric.connects(three, two, target, 8003, expecting: true), "the allow stands before the deny")
      #expect(try !fabric.connects(three, two, target, 8010, expecting: false), "the allow stands behind the deny")
      #expect(try fabric.delivers(one, two, target, 9000, expecting: true))
      #expect(try !fabric.delivers(three, two, target, 9000, expecting: false))
    }
    #expect(try fabric.count("by-port-policy-in-np/default/p-tcp-8003", "ingress rule 4") == 4)
    #expect(try fabric.rig.driver.resync().mutations == 0)
    let listing = try fabric.sandbox.run(fabric.host, "nft", ["list", "ruleset"])
    #expect(listing.contains("meta l4proto . th dport vmap @services-"))
  }
}

/// Staged policies in a real kernel: what they would do is counted, and nothing is done.

import HostPlans
import KernelSandbox
import Resources
import Testing

@testable import PolicyRendering

@Suite("Staged policies", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct StagedTests {
  static let staged = ResourceKey(.stagedNetworkPolicy, namespace: "default", name: "web")

  @Test("A staged deny counts what comes to its place and lets it pass; what was decided before it never comes")
  func beside() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    var tier = TierPlan(name: "default", policies: [policyKey("early"), policyKey("late")])
    tier.staged = [StagedPlace(Self.staged, index: 1)]
    func allow(_ port: UInt16) -> RulePlan {
      rule(.allow) {
        $0.ipProtocol = .tcp
        $0.destination.ports = [port...port]
      }
    }
    try fabric.apply(
      .policy(profileKey("kns.default"), PacketTests.allowAll),
      // Pass is in the tier, so that the staged policy's mark could be mistaken for it.
      .policy(policyKey("early"), PolicyPlan(ingress: [allow(80), rule(.pass) { $0.ipProtocol = .sctp }])),
      .policy(Self.staged, PolicyPlan(ingress: [allow(8080), rule(.deny)])),
      .policy(policyKey("late"), PolicyPlan(ingress: [allow(443), allow(8080)])), fabric.endpoint(1), fabric.endpoint(2, ingress: [tier]))
    for target in ["10.65.0.2", "fd65::2"] {
      #expect(try fabric.connects(one, two, target, 80, expecting: true))
      #expect(try fabric.connects(one, two, target, 443, expecting: true))
      #expect(try fabric.connects(one, two, target, 8080, expecting: true))
      // What the staged policy would allow is still for the enforced ones to decide.
      #expect(try !fabric.connects(one, two, target, 22, expecting: false))
    }
    let chain = "staged-in-np/default/web"
    #expect(try fabric.count(chain, "StagedNetworkPolicy default/web ingress rule 1") == 2)
    #expect(try fabric.count(chain, "StagedNetworkPolicy default/web ingress rule 2") == 4)
  }

  @Test("Where all policies of a tier are staged its end denies nothing, and counts what it would deny")
  func alone() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    var tier = TierPlan(name: "default", policies: [], defaultAction: .pass)
    tier.staged = [StagedPlace(Self.staged, index: 0)]
    tier.wouldDeny = true
    try fabric.apply(
      .policy(profileKey("kns.default"), PacketTests.allowAll), .policy(Self.staged, PolicyPlan(ingress: [rule(.allow) { $0.ipProtocol = .tcp }])),
      fabric.endpoint(1), fabric.endpoint(2, ingress: [tier]))
    #expect(try fabric.connects(one, two, "10.65.0.2", 80, expecting: true))
    #expect(try fabric.delivers(one, two, "10.65.0.2", 53, expecting: true))
    #expect(try fabric.delivers(one, two, "fd65::2", 53, expecting: true))
    #expect(try fabric.count("staged-in-np/default/web", "rule 1") == 1)
    let group = try #require(fabric.rig.driver.ruleset.chains.first { $0.value.rules.contains { $0.comment?.contains("would deny") ?? false } }?.key)
    #expect(try fabric.count(group, "no staged policy decides, would deny") == 2)
  }
}

/// Random walks: the ruleset depends on the plan reached and not on the way, and every step is one that a kernel takes.

import Addresses
import HostPlans
import KernelSandbox
import NetlinkEdge
@testable import PolicyRendering
import Resources
import RulesetDriver
import Rulesets
import Testing

struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

@Suite("Outermost prefixes")
struct PrefixCoverTests {
  @Test("Insertions and removals keep exactly the prefixes that no other contains", arguments: 1...20 as ClosedRange<UInt64>)
  func naive(seed: UInt64) {
    var random = SplitMix(state: seed)
    var cover = PrefixCover()
    var members: Set<IPPrefix> = []
    var outermost: Set<IPPrefix> = []
    for _ in 0..<300 {
      let member = IPPrefix(
        .v4(IPv4Address(rawValue: UInt32(0x0a00_0000) + UInt32.random(in: 0..<64, using: &random))), length: UInt8.random(in: 24...32,
          using: &random))
      let change: PrefixCover.Change
      if Bool.random(using: &random) {
        members.insert(member)
        change = cover.insert(member)
      } else {
        members.remove(member)
        change = cover.remove(member)
      }
      #expect(outermost.isSuperset(of: change.removed) && outermost.isDisjoint(with: change.added))
      outermost.subtract(change.removed)
      outermost.formUnion(change.added)
      let naive = members.filter { one in !members.contains { $0 != one && $0.contains(one) } }
      #expect(outermost == naive)
      #expect(Set(cover.outermost) == naive && cover == PrefixCover(members))
    }
  }
}

/// A random plan, small enough that its parts meet often.
struct PlanMaker {
  var random: SplitMix
  init(seed: UInt64) { random = SplitMix(state: seed) }

  mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
  mutating func pick<Value>(_ values: [Value]) -> Value { values.randomElement(using: &random)! }

  static let sets = (0..<4).map { IPSetID("s:\($0)") }
  static let portSets = (0..<2).map { IPSetID("n:\($0)") }
  static let policies = (0..<4).map { policyKey("p\($0)") } + (0..<2).map { ResourceKey(.globalNetworkPolicy, name: "g\($0)") }
    + (0..<2).map { ResourceKey(.stagedNetworkPolicy, namespace: "default", name: "p\($0)") }
  static let profiles = (0..<3).map { "kns.\($0)" }
  static let prefixes = ["10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/24", "10.0.0.0/8", "10.0.1.0/24", "fd00::1/128",
    "fd00::/64"].map { prefix($0) }
  static let words = ["app == 'a'", "app == 'b'"]

  mutating func set(_ id: IPSetID) -> IPSetPlan {
    if Self.portSets.contains(id) {
      let members: [IPSetMember] = [
        .addressPort(address("10.0.0.1"), .tcp, 80), .addressPort(address("10.0.0.2"), .udp, 53), .addressPort(address("fd00::1"),
          .tcp, 80),
      ]
      return IPSetPlan(content: .addressPorts, members: Set(members.filter { _ in chance(50) }), explanation: "ports")
    }
    return IPSetPlan(content: .nets, members: Set(Self.prefixes.filter { _ in chance(40) }.map { .net($0) }), explanation: "app == '\(id)'")
  }
  mutating func side() -> SidePlan {
    var side = SidePlan()
    if chance(40) { side.sets = [pick(Self.sets)] }
    if chance(20) { side.notSets = [pick(Self.sets)] }
    if chance(20) { side.nets = [pick(Self.prefixes), pick(Self.prefixes)] }
    if chance(20) { side.notNets = [pick(Self.prefixes)] }
    return side
  }
  mutating func rule() -> RulePlan {
    var rule = RulePlan(pick(RuleAction.allCases))
    rule.source = side()
    rule.destination = side()
    if chance(50) {
      rule.ipProtocol = pick([.tcp, .udp])
      if chance(60) { rule.destination.ports = pick([[80...80, 443...500], [80...80], [80...80, 81...81], [443...443]]) }
      if chance(30) { rule.destination.namedPorts = [pick(Self.portSets)] }
      if chance(20) { rule.source.notPorts = [1...1023] }
    } else if chance(20) {
      rule.ipProtocol = .icmp
      rule.notICMP = ICMPMatch(type: 8, code: 0)
    }
    if chance(5) { rule.fault = "broken" }
    return rule
  }
  /// Now and then so many that they are found by their ports.
  mutating func rules() -> [RulePlan] { (0..<(chance(15) ? 16 : Int.random(in: 0..<4, using: &random))).map { _ in rule() } }
  mutating func policy() -> PolicyPlan { PolicyPlan(ingress: rules(), egress: rules()) }
  mutating func tiers(_ known: [ResourceKey]) -> [TierPlan] {
    ["a", "b"].compactMap { name in
      let chosen = known.filter { $0.kind != .profile && $0.kind != .stagedNetworkPolicy && chance(40) }
      var tier = TierPlan(name: name, policies: chosen.sorted(), defaultAction: chance(30) ? .pass : .deny)
      for staged in known where staged.kind == .stagedNetworkPolicy && chance(40) {
        tier.staged.append(StagedPlace(staged, index: tier.staged.last.map { max($0.index, chosen.count - 1) } ?? 0))
      }
      if chosen.isEmpty {
        tier.wouldDeny = tier.defaultAction == .deny
        tier.defaultAction = .pass
      }
      return chosen.isEmpty && tier.staged.isEmpty ? nil : tier
    }
  }

  mutating func plan() -> HostPlan {
    var plan = HostPlan()
    plan.settings.ipv6 = chance(80)
    plan.settings.endpointToHostAction = pick([.drop, .accept, .return])
    for id in Self.sets + Self.portSets where chance(85) { plan.ipSets[id] = set(id) }
    for key in Self.policies where chance(70) { plan.policies[key] = policy() }
    for name in Self.profiles where chance(70) { plan.policies[profileKey(name)] = policy() }
    let known = plan.policies.keys.sorted()
    for index in 0..<5 where chance(60) {
      plan.endpoints[endpointKey("e\(index)")] = EndpointPlan(
        interfaceName: "cali\(chance(90) ? index : 0)", mac: chance(50) ? MACAddress(rawValue: 0x02_0000_0000 + UInt64(index)) : nil,
        addresses: [address("10.65.0.\(index)")] + (chance(50) ? [address("fd65::\(index)")] : []), ingress: tiers(known),
          egress: tiers(known),
        profiles: Self.profiles.filter { _ in chance(60) })
    }
    return plan
  }
}

/// The changes from one plan to another, in the order of their ranks.
func changes(from old: HostPlan, to new: HostPlan) -> [HostPlanChange] {
  var result: [HostPlanChange] = []
  if old.settings != new.settings { result.append(.settings(new.settings)) }
  for (id, plan) in new.ipSets where old.ipSets[id] != plan {
    if let before = old.ipSets[id], before.content == plan.content, before.explanation == plan.explanation {
      result.append(
        .ipSetMembers(id, added: plan.members.subtracting(before.members), removed: before.members.subtracting(plan.members)))
    } else {
      result.append(.ipSet(id, plan))
    }
  }
  for (key, plan) in new.policies where old.policies[key] != plan { result.append(.policy(key, plan)) }
  for (key, plan) in new.endpoints where old.endpoints[key] != plan { result.append(.endpoint(key, plan)) }
  for key in old.endpoints.keys where new.endpoints[key] == nil { result.append(.endpointRemoved(key)) }
  for key in old.policies.keys where new.policies[key] == nil { result.append(.policyRemoved(key)) }
  for id in old.ipSets.keys where new.ipSets[id] == nil { result.append(.ipSetRemoved(id)) }
  return result.sorted { $0.rank < $1.rank }
}

@Suite("Path independence")
struct WalkTests {
  @Test("The kernel takes every step of a walk and holds what was wanted", .enabled(if: KernelSandbox.isAvailable),
    arguments: 100...109 as ClosedRange<UInt64>)
  func kernel(seed: UInt64) throws {
    let sandbox = KernelSandbox()
    let host = try sandbox.namespace("nft")
    let driver = try RulesetDriver(namespace: host.descriptor.borrowed)
    var renderer = PolicyRenderer(tellsDrops: false)
    var maker = PlanMaker(seed: seed)
    var plan = HostPlan()
    for _ in 0..<8 {
      let next = maker.plan()
      #expect(try driver.apply(renderer.apply(changes(from: plan, to: next))).failures == [], "seed \(seed)")
      plan = next
      #expect(try driver.resync().mutations == 0, "seed \(seed)")
    }
  }

  @Test("Any walk among plans ends in the ruleset that the last plan gives by itself", arguments: 1...30 as ClosedRange<UInt64>)
  func walk(seed: UInt64) throws {
    var maker = PlanMaker(seed: seed)
    var rig = Rig()
    var plan = HostPlan()
    for _ in 0..<12 {
      let next = maker.plan()
      var all = changes(from: plan, to: next)
      // Whole batches and split ones: what a batch leaves half-way is mended by the next.
      if maker.chance(50), all.count > 1 {
        let cut = Int.random(in: 1..<all.count, using: &maker.random)
        try rig.apply(Array(all[..<cut]))
        all.removeSubrange(..<cut)
      }
      try rig.apply(all)
      plan = next

      var fresh = PolicyRenderer(tellsDrops: false)
      var expected = Ruleset()
      expected.apply(fresh.apply(changes(from: HostPlan(), to: plan)))
      #expect(rig.driver.ruleset == expected,
        "seed \(seed)\n\(RulesetText.text(rig.driver.ruleset))\n--- expected\n\(RulesetText.text(expected))")
      #expect(try rig.driver.resync().mutations == 0)
    }
    try rig.apply(changes(from: plan, to: HostPlan()))
    var fresh = PolicyRenderer(tellsDrops: false)
    var empty = Ruleset()
    empty.apply(fresh.apply([]))
    #expect(rig.driver.ruleset == empty)
  }
}

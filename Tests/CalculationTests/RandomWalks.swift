/// Random clusters, changed object by object, against the naive calculation. A failure names its seed.
import Addresses
import HostPlans
import RandomClusters
import Resources
import Testing

@testable import Calculation

@Suite("Random clusters")
struct RandomWalkTests {
  @Test("The changes add up to what the naive calculation says, whatever came between two flushes", arguments: UInt64(1)...24)
  func random(seed: UInt64) {
    var cluster = RandomCluster(seed: seed)
    var calculation = HostCalculation(node: "n1")
    var follower = PlanFollower()
    var facts = Facts()
    let blocks = ["10.1.0.0/26", "10.1.0.0/31", "10.2.0.0/26", "fd00:1::/122", "10.1.0.1/32"].map { IPPrefix($0)! }
    let syncAt = Int.random(in: 0..<60, using: &cluster.random)
    for step in 0..<400 {
      if step == syncAt { calculation.receive(.inSync) }
      var input: CalculationInput
      if cluster.chance(4) {
        let fact: BlockFact? = cluster.pick([BlockFact(affinity: "n1"), BlockFact(affinity: "n2"), BlockFact(affinity: nil), nil])
        input = .block(cluster.pick(blocks), fact)
      } else {
        let (key, resource) = cluster.mutate()
        input = .resource(key, resource)
      }
      calculation.receive(input)
      facts = apply([input], to: facts)
      guard step >= syncAt, cluster.chance(35) else { continue }
      follower.follow(calculation.flush())
      let naive = NaiveCalculation(node: "n1", facts: facts).plan
      guard follower.complaints.isEmpty, follower.plan == naive, calculation.plan == naive else {
        Issue.record("seed \(seed), step \(step): \(follower.complaints) \(difference(follower.plan, naive))")
        return
      }
    }
    for key in facts.resources.keys { calculation.receive(.resource(key, nil)) }
    for prefix in facts.blocks.keys { calculation.receive(.block(prefix, nil)) }
    follower.follow(calculation.flush())
    #expect(follower.plan == HostPlan(), "an empty cluster leaves nothing behind")
    #expect(follower.complaints.isEmpty)
  }
}

@Suite("The trie of overlapping prefixes")
struct OverlapTrieTests {
  @Test("Visible is what nothing present contains, after any sequence of claims", arguments: UInt64(1)...10)
  func random(seed: UInt64) {
    var random = SeededGenerator(seed: seed)
    var trie = OverlapTrie()
    var claims: [IPPrefix] = []
    var followed: Set<IPSetMember> = []
    for _ in 0..<600 {
      var delta = MemberDelta()
      if claims.isEmpty || Int.random(in: 0..<100, using: &random) < 55 {
        let prefix: IPPrefix
        if Bool.random(using: &random) {
          let bits = UInt32.random(in: 0..<64, using: &random) << 26 | UInt32.random(in: 0..<4, using: &random)
          prefix = .v4(IPv4Prefix(IPv4Address(rawValue: bits), length: [0, 1, 3, 6, 31, 32].randomElement(using: &random)!))
        } else {
          let address = IPv6Address(high: UInt64.random(in: 0..<4, using: &random), low: UInt64.random(in: 0..<4, using: &random) << 62)
          prefix = .v6(IPv6Prefix(address, length: [0, 62, 63, 64, 65, 66, 128].randomElement(using: &random)!))
        }
        claims.append(prefix)
        trie.insert(prefix, into: &delta)
      } else {
        trie.remove(claims.remove(at: Int.random(in: 0..<claims.count, using: &random)), into: &delta)
      }
      #expect(delta.added.isDisjoint(with: followed))
      #expect(delta.removed.isSubset(of: followed))
      followed.subtract(delta.removed)
      followed.formUnion(delta.added)
      let expected = Set(claims.filter { claim in !claims.contains { $0 != claim && $0.contains(claim) } }.map { IPSetMember.net($0) })
      guard followed == expected, trie.visible == expected else {
        Issue.record("seed \(seed): \(followed.symmetricDifference(expected))")
        return
      }
    }
  }
}

@Suite("Findings")
struct FindingsTests {
  @Test("What is wrong with an object is said in words")
  func findings() {
    var calculation = HostCalculation(node: "n1")
    for state in [unreadable, faulty, tiered, contested] {
      for (key, resource) in state.facts.resources { calculation.receive(.resource(key, resource)) }
    }
    calculation.receive(.inSync)
    _ = calculation.flush()
    let findings = calculation.findings
    #expect(findings[key(.globalNetworkPolicy, "broken")]?.hasSuffix("the policy is without effect") == true)
    #expect(findings[key(.networkPolicy, "broken", "default")]?.hasSuffix("denies every endpoint of namespace default") == true)
    #expect(findings[key(.globalNetworkPolicy, "stray")] == "tier nowhere does not exist; it counts as the last")
    #expect(
      findings[web] == "interface caliweb belongs to the younger WorkloadEndpoint default/web2; this endpoint is not programmed")
    #expect(findings[db] == "address 10.2.0.1 is routed to the younger WorkloadEndpoint default/db2")
  }
}

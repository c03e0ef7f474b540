/// The plan followed in memory says what the oracle says, and names the same rule.
import Addresses
import Calculation
import FlowVerdicts
import HostPlans
import PolicyOracle
import RandomClusters
import Resources
import Testing

@Suite("What the plan in force says of a connection")
struct FlowVerdictTests {
  @Test("It agrees with the oracle, and names its rule, on random clusters and connections", arguments: UInt64(1)...10)
  func random(seed: UInt64) {
    var cluster = RandomCluster(seed: seed &* 104_729)
    var calculations = RandomCluster.nodes.map { HostCalculation(node: $0) }
    for index in calculations.indices { calculations[index].receive(.inSync) }
    var verdicts: [Bool: Int] = [:]
    for _ in 0..<8 {
      for _ in 0..<40 {
        let (key, resource) = cluster.mutate()
        for index in calculations.indices { calculations[index].receive(.resource(key, resource)) }
      }
      for index in calculations.indices { _ = calculations[index].flush() }
      let plans = Dictionary(uniqueKeysWithValues: zip(RandomCluster.nodes, calculations.map(\.plan)))
      let oracle = PolicyOracle(resources: Array(cluster.resources.values))
      for _ in 0..<100 {
        let asked = cluster.flow()
        let flow = Flow(
          asked.from, asked.to, asked.ipProtocol, sourcePort: asked.ports?.source, destinationPort: asked.ports?.destination,
          icmpType: asked.icmp?.type, icmpCode: asked.icmp?.code)
        let packet = Packet(
          from: flow.source, to: flow.destination, protocol: flow.ipProtocol, sourcePort: flow.sourcePort, destinationPort: flow.destinationPort,
          icmpType: flow.icmpType, icmpCode: flow.icmpCode)
        for (direction, address) in [(Direction.egress, flow.source), (.ingress, flow.destination)] {
          guard let entity = oracle.workload(at: address), let plan = plans[entity.node], let endpoint = plan.endpoints[entity.key] else { continue }
          // Without IPv6 the kernel has no rules for it, and nothing is judged.
          if flow.family == .v6, !plan.settings.ipv6 { continue }
          let (expected, found) = (oracle.judgement(packet, direction, at: entity), plan.verdict(flow, direction, at: endpoint))
          verdicts[found.isAllowed, default: 0] += 1
          guard found.isAllowed == expected.isAllowed, isSame(found.place, expected.decisions.last) else {
            Issue.record("seed \(seed): \(packet), \(direction) of \(entity.name): \(found); the oracle: \(expected)")
            return
          }
        }
      }
    }
    #expect(verdicts[true, default: 0] > 0 && verdicts[false, default: 0] > 0)
  }

  private func isSame(_ place: PlanVerdict.Place, _ step: Verdict.Step?) -> Bool {
    switch (place, step?.finding) {
    case (.rule(let key, let index), .matches(let rule, _)), (.rule(let key, let index), .cannotBeEnforced(let rule, _, _)):
      key == step?.policy && index == rule
    // The profile that is built in; a policy that cannot be read.
    case (.rule(let key, _), .builtInProfile), (.rule(let key, _), .cannotBeRead): key == step?.policy
    case (.endOfTier(let name), .endOfTier): name == step?.tier
    case (.endOfProfiles, .endOfProfiles): true
    case (.missing(let key), .missingProfile): key == step?.policy
    default: false
    }
  }

  @Test("Only what workloads of this host are asked about is judged: not the host's own, nor between strangers, nor a workload with itself")
  func scope() {
    var plan = HostPlan()
    let endpoint = EndpointPlan(interfaceName: "cali1", addresses: [IPAddress("10.65.0.1")!, IPAddress("fd65::1")!], profiles: [])
    plan.endpoints[ResourceKey(.workloadEndpoint, name: "w")] = endpoint
    for address in endpoint.addresses { plan.routes[address.hostPrefix] = .workload(interfaceName: "cali1") }
    let own = IPAddress("192.0.2.1")!
    let judge = FlowJudge(plan, hostAddresses: [own])
    func denies(_ from: String, _ to: String) -> Bool { judge.denies(Flow(IPAddress(from)!, IPAddress(to)!, .tcp, sourcePort: 1, destinationPort: 2)) }
    #expect(denies("192.0.2.2", "10.65.0.1") && denies("10.65.0.1", "192.0.2.2") && denies("10.65.0.1", "192.0.2.1"))
    #expect(!denies("192.0.2.1", "10.65.0.1") && !denies("192.0.2.2", "192.0.2.3") && !denies("10.65.0.1", "10.65.0.1"))
    #expect(denies("2001:db8::1", "fd65::1"))
    plan.settings.ipv6 = false
    #expect(!FlowJudge(plan, hostAddresses: []).denies(Flow(IPAddress("2001:db8::1")!, IPAddress("fd65::1")!, .tcp)))
    // An address that leads to another endpoint now is not this one's.
    plan.routes[IPAddress("10.65.0.1")!.hostPrefix] = nil
    #expect(!FlowJudge(plan, hostAddresses: []).denies(Flow(IPAddress("192.0.2.2")!, IPAddress("10.65.0.1")!, .tcp)))
  }
}

/// Two readings of the same objects: the oracle's, and the plans of the calculation executed packet by packet.
import Addresses
import Calculation
import HostPlans
import PlanReading
import PolicyOracle
import RandomClusters
import Resources
import Testing

@Suite("The oracle and the calculation agree")
struct CrossCheckTests {
  @Test("On random clusters and random packets", arguments: UInt64(1)...40)
  func random(seed: UInt64) {
    var cluster = RandomCluster(seed: seed &* 7919)
    var calculations = RandomCluster.nodes.map { HostCalculation(node: $0) }
    var plans = calculations.map { _ in HostPlan() }
    for index in calculations.indices { calculations[index].receive(.inSync) }
    var allowed = 0
    var total = 0
    for _ in 0..<8 {
      for _ in 0..<40 {
        let (key, resource) = cluster.mutate()
        for index in calculations.indices { calculations[index].receive(.resource(key, resource)) }
      }
      for index in calculations.indices { plans[index].apply(calculations[index].flush()) }
      // Nobody of these sends from a host's own address, but what hosts forward is their endpoints' business.
      var uplinks: [String: PolicyOracle.Uplink] = [:]
      for (index, node) in RandomCluster.nodes.enumerated() {
        let addresses = ["10.\(index + 1).0.9", "fd00:\(index + 1)::9"].map { IPAddress($0)! }
        uplinks[node] = PolicyOracle.Uplink(interfaceName: "eth0", addresses: Set(addresses))
      }
      let oracle = PolicyOracle(resources: Array(cluster.resources.values), uplinks: uplinks)
      let interpreters = zip(RandomCluster.nodes, plans).map { PlanInterpreter(plan: $1, uplink: ("eth0", uplinks[$0]!.addresses)) }
      for _ in 0..<60 {
        let flow = cluster.flow()
        let packet = Packet(
          from: flow.from, to: flow.to, protocol: flow.ipProtocol, sourcePort: flow.ports?.source, destinationPort: flow.ports?.destination,
          icmpType: flow.icmp?.type, icmpCode: flow.icmp?.code)
        let source = interpreters.firstIndex { $0.endpoint(at: packet.from) != nil }
        let destination = interpreters.firstIndex { $0.endpoint(at: packet.to) != nil }
        let planned = Set([source, destination].compactMap(\.self)).allSatisfy { interpreters[$0].allows(packet) }
        let verdict = oracle.verdict(packet)
        total += 1
        if verdict.isAllowed, source != nil || destination != nil { allowed += 1 }
        guard verdict.isAllowed == planned else {
          Issue.record("seed \(seed): \(packet): the plans say \(planned ? "allowed" : "denied"), the oracle: \(verdict)")
          return
        }
      }
    }
    // A comparison in which everything is denied would prove little.
    #expect(total > 300 && allowed > 0)
  }
}

/// Two readings of the same objects: the oracle's, and the plans of the calculation executed packet by packet.
import Addresses
import Calculation
import HostPlans
import PolicyOracle
import RandomClusters
import Resources
import Testing

/// Executes a host's plan, knowing nothing of the objects it came from.
struct PlanInterpreter {
  let plan: HostPlan

  /// The endpoint behind an address of this host.
  func endpoint(at address: IPAddress) -> EndpointPlan? {
    guard case .workload(let interface)? = plan.routes[address.hostPrefix] else { return nil }
    return plan.endpoints.values.first { $0.interfaceName == interface }
  }

  enum Outcome { case allow, deny, pass }

  func allows(_ packet: Packet, _ direction: Direction, at endpoint: EndpointPlan) -> Bool {
    tiers: for tier in direction == .ingress ? endpoint.ingress : endpoint.egress {
      for key in tier.policies {
        switch run(plan.policies[key]!, packet, direction) {
        case .allow: return true
        case .deny: return false
        case .pass: continue tiers
        case nil: break
        }
      }
      if tier.defaultAction == .deny { return false }
    }
    for name in endpoint.profiles {
      guard let profile = plan.policies[ResourceKey(.profile, name: name)] else { return false }
      switch run(profile, packet, direction) {
      case .allow: return true
      case .deny: return false
      case .pass, nil: break
      }
    }
    return false
  }

  private func run(_ policy: PolicyPlan, _ packet: Packet, _ direction: Direction) -> Outcome? {
    for rule in direction == .ingress ? policy.ingress : policy.egress where matches(rule, packet) {
      switch rule.action {
      case .allow: return .allow
      case .deny: return .deny
      case .pass: return .pass
      case .log: break
      }
    }
    return nil
  }

  private func matches(_ rule: RulePlan, _ packet: Packet) -> Bool {
    func icmp(_ match: ICMPMatch) -> Bool {
      (match.type ?? packet.icmpType) == packet.icmpType && (match.code ?? packet.icmpCode) == packet.icmpCode
    }
    if let family = rule.family, family != packet.to.family { return false }
    if let ipProtocol = rule.ipProtocol, ipProtocol != packet.ipProtocol { return false }
    if let ipProtocol = rule.notProtocol, ipProtocol == packet.ipProtocol { return false }
    if let match = rule.icmp, !icmp(match) { return false }
    if let match = rule.notICMP, icmp(match) { return false }
    return matches(rule.source, packet.from, packet.sourcePort, packet)
      && matches(rule.destination, packet.to, packet.destinationPort, packet)
  }

  private func matches(_ side: SidePlan, _ address: IPAddress, _ port: UInt16?, _ packet: Packet) -> Bool {
    func holds(_ id: IPSetID) -> Bool {
      plan.ipSets[id]!.members.contains { member in
        switch member {
        case .net(let net): net.contains(address)
        case .addressPort(let member, let ipProtocol, let number): member == address && ipProtocol == packet.ipProtocol && number == port
        }
      }
    }
    func inRanges(_ ranges: [ClosedRange<UInt16>]) -> Bool { ranges.contains { range in port.map { range.contains($0) } ?? false } }
    if !side.nets.isEmpty, !side.nets.contains(where: { $0.contains(address) }) { return false }
    if side.notNets.contains(where: { $0.contains(address) }) { return false }
    if !side.sets.allSatisfy(holds) || side.notSets.contains(where: holds) { return false }
    if !(side.ports.isEmpty && side.namedPorts.isEmpty), !inRanges(side.ports), !side.namedPorts.contains(where: holds) { return false }
    return !inRanges(side.notPorts) && !side.notNamedPorts.contains(where: holds)
  }
}

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
      let oracle = PolicyOracle(resources: Array(cluster.resources.values))
      let interpreters = plans.map { PlanInterpreter(plan: $0) }
      for _ in 0..<60 {
        let flow = cluster.flow()
        let packet = Packet(
          from: flow.from, to: flow.to, protocol: flow.ipProtocol, sourcePort: flow.ports?.source, destinationPort: flow.ports?.destination,
          icmpType: flow.icmp?.type, icmpCode: flow.icmp?.code)
        let source = interpreters.compactMap { host in host.endpoint(at: packet.from).map { (host, $0) } }.first
        let destination = interpreters.compactMap { host in host.endpoint(at: packet.to).map { (host, $0) } }.first
        if source?.1 != nil, source?.1 == destination?.1 { continue }
        let planned =
          source.map { $0.0.allows(packet, .egress, at: $0.1) } ?? true
          && destination.map { $0.0.allows(packet, .ingress, at: $0.1) } ?? true
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

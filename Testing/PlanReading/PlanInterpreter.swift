/// Executes a host's plan packet by packet, knowing nothing of the objects it came from: what stands between the oracle and the kernel.
public import Addresses
public import HostPlans
public import PolicyOracle
public import Resources

/// Executes a host's plan, knowing nothing of the objects it came from.
public struct PlanInterpreter: Sendable {
  public let plan: HostPlan
  let uplink: (name: String, addresses: Set<IPAddress>)
  public init(plan: HostPlan, uplink: (name: String, addresses: Set<IPAddress>) = ("", [])) {
    self.plan = plan
    self.uplink = uplink
  }

  /// The first packet of a connection, on this host alone.
  public func allows(_ packet: Packet) -> Bool {
    let (source, destination) = (endpoint(at: packet.from), endpoint(at: packet.to))
    let (fromHost, toHost) = (uplink.addresses.contains(packet.from), uplink.addresses.contains(packet.to))
    if let source {
      if source == destination { return true }
      guard allows(packet, .egress, at: source) else { return false }
      if toHost {
        let isDiscovery = packet.ipProtocol == .icmpv6 && [130, 131, 132, 133, 135, 136].contains(packet.icmpType)
        return isDiscovery || plan.settings.endpointToHostAction != .drop
      }
      if let destination { return allows(packet, .ingress, at: destination) }
      return hostEndpoint.map { forwards(packet, .egress, $0) } ?? true
    }
    if fromHost {
      guard destination == nil, !toHost, let host = hostEndpoint else { return true }
      if !isFailsafe(packet, .egress, answers: true), let decision = decide(packet, .egress, host.untracked.egress, endsTiers: false) {
        return decision == .allow
      }
      return own(packet, .egress, host)
    }
    if let host = hostEndpoint {
      if !isFailsafe(packet, .ingress, answers: true), let decision = decide(packet, .ingress, host.untracked.ingress, endsTiers: false) {
        guard decision == .allow else { return false }
      } else {
        var isPassed = false
        if !isFailsafe(packet, .ingress, answers: false), let decision = decide(packet, .ingress, host.preDNAT.ingress, endsTiers: false) {
          guard decision == .allow else { return false }
          isPassed = true
        }
        if !isPassed, toHost { return own(packet, .ingress, host) }
        if !isPassed, !forwards(packet, .ingress, host) { return false }
      }
    }
    return destination.map { allows(packet, .ingress, at: $0) } ?? true
  }

  // MARK: Host endpoints

  /// By name, then by address, then the wildcard; of equals the first by key.
  private var hostEndpoint: HostEndpointPlan? {
    let all = plan.hostEndpoints.sorted { $0.key < $1.key }.map(\.value)
    return all.first { $0.interfaceName == uplink.name }
      ?? all.first { $0.interfaceName.isEmpty && !uplink.addresses.isDisjoint(with: $0.expectedAddresses) }
      ?? all.first { $0.interfaceName == "*" }
  }

  private func isFailsafe(_ packet: Packet, _ direction: Direction, answers: Bool) -> Bool {
    let (ours, others) = direction == .ingress
      ? (plan.settings.failsafes.inbound, plan.settings.failsafes.outbound) : (plan.settings.failsafes.outbound, plan.settings.failsafes.inbound)
    let peer = direction == .ingress ? packet.from : packet.to
    func isOne(_ ports: [FailsafeSettings.Port], _ number: UInt16?) -> Bool {
      ports.contains { $0.ipProtocol == packet.ipProtocol && $0.port == number && $0.net?.contains(peer) != false }
    }
    return isOne(ours, packet.destinationPort) || answers && isOne(others, packet.sourcePort)
  }

  private func own(_ packet: Packet, _ direction: Direction, _ host: HostEndpointPlan) -> Bool {
    if isFailsafe(packet, direction, answers: false) { return true }
    switch decide(packet, direction, host.normal[direction], endsTiers: true) {
    case .allow: return true
    case .deny: return false
    case .pass, nil: return profiles(packet, direction, host.profiles)
    }
  }

  private func forwards(_ packet: Packet, _ direction: Direction, _ host: HostEndpointPlan) -> Bool {
    decide(packet, direction, host.forward[direction], endsTiers: true) != .deny
  }

  /// The endpoint behind an address of this host.
  public func endpoint(at address: IPAddress) -> EndpointPlan? {
    guard case .workload(let interface)? = plan.routes[address.hostPrefix] else { return nil }
    return plan.endpoints.values.first { $0.interfaceName == interface }
  }

  enum Outcome { case allow, deny, pass }

  public func allows(_ packet: Packet, _ direction: Direction, at endpoint: EndpointPlan) -> Bool {
    switch decide(packet, direction, direction == .ingress ? endpoint.ingress : endpoint.egress, endsTiers: true) {
    case .allow: true
    case .deny: false
    case .pass, nil: profiles(packet, direction, endpoint.profiles)
    }
  }

  /// Nil if no tier decides.
  private func decide(_ packet: Packet, _ direction: Direction, _ tiers: [TierPlan], endsTiers: Bool) -> Outcome? {
    tiers: for tier in tiers {
      for key in tier.policies {
        switch run(plan.policies[key]!, packet, direction) {
        case .allow: return .allow
        case .deny: return .deny
        case .pass: continue tiers
        case nil: break
        }
      }
      if endsTiers, tier.defaultAction == .deny { return .deny }
    }
    return nil
  }

  private func profiles(_ packet: Packet, _ direction: Direction, _ names: [String]) -> Bool {
    for name in names {
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

/// What the plan in force says of a flow: the rules that the kernel has, followed in memory.
///
/// Fast, and for questions about this host's own workloads: which policy allowed a connection, and which connections the rules no longer
/// allow. It knows policies and profiles of workload endpoints; what decides before and beside them (source addresses, the host's own
/// packets, host endpoints) is for the caller.
public import Addresses
public import HostPlans
public import Resources

public struct PlanVerdict: Hashable, Sendable {
  public enum Place: Hashable, Sendable {
    /// Rule `index` of a policy or profile, as people count it from 0.
    case rule(ResourceKey, index: Int)
    case endOfTier(String)
    case endOfProfiles
    /// A policy or profile that does not exist.
    case missing(ResourceKey)
  }
  public var isAllowed: Bool
  public var direction: Direction
  public var place: Place
}

extension HostPlan {
  /// What the policies and profiles of `endpoint` say of the first packet of a connection.
  public func verdict(_ flow: Flow, _ direction: Direction, at endpoint: EndpointPlan) -> PlanVerdict {
    func decided(_ isAllowed: Bool, _ place: PlanVerdict.Place) -> PlanVerdict {
      PlanVerdict(isAllowed: isAllowed, direction: direction, place: place)
    }
    tiers: for tier in direction == .ingress ? endpoint.ingress : endpoint.egress {
      for key in tier.policies {
        guard let policy = policies[key] else { return decided(false, .missing(key)) }
        guard let (action, index) = decision(of: policy, flow, direction) else { continue }
        if action == .pass { continue tiers }
        return decided(action == .allow, .rule(key, index: index))
      }
      if tier.defaultAction == .deny { return decided(false, .endOfTier(tier.name)) }
    }
    for name in endpoint.profiles {
      let key = ResourceKey(.profile, name: name)
      guard let profile = policies[key] else { return decided(false, .missing(key)) }
      // There is no tier to pass to: the next profile is asked.
      if let (action, index) = decision(of: profile, flow, direction), action != .pass { return decided(action == .allow, .rule(key, index: index)) }
    }
    return decided(false, .endOfProfiles)
  }

  /// The first rule that matches and does more than log.
  private func decision(of policy: PolicyPlan, _ flow: Flow, _ direction: Direction) -> (RuleAction, index: Int)? {
    for (index, rule) in (direction == .ingress ? policy.ingress : policy.egress).enumerated() where rule.action != .log || rule.fault != nil {
      if rule.fault != nil || isUnenforceable(rule) { return (.deny, rule.place ?? index) }
      if matches(rule, flow) { return (rule.action, rule.place ?? index) }
    }
    return nil
  }

  /// A rule that looks into a set that is not there denies, as in the kernel.
  private func isUnenforceable(_ rule: RulePlan) -> Bool {
    [rule.source, rule.destination].contains { side in
      (side.sets + side.notSets + side.namedPorts + side.notNamedPorts).contains { ipSets[$0] == nil }
    }
  }

  private func matches(_ rule: RulePlan, _ flow: Flow) -> Bool {
    if let family = rule.family, family != flow.family { return false }
    if let wanted = rule.ipProtocol, wanted != flow.ipProtocol { return false }
    if let unwanted = rule.notProtocol, unwanted == flow.ipProtocol { return false }
    if rule.icmp != nil || rule.notICMP != nil {
      // Types are those of the family: ICMP within IPv6 has none.
      guard flow.ipProtocol == (flow.family == .v4 ? .icmp : .icmpv6) else { return false }
      func covers(_ match: ICMPMatch) -> Bool {
        (match.type == nil || match.type == flow.icmpType) && (match.code == nil || match.code == flow.icmpCode)
      }
      if let wanted = rule.icmp, !covers(wanted) { return false }
      if let unwanted = rule.notICMP, covers(unwanted) { return false }
    }
    return matches(rule.source, flow.source, flow.sourcePort, flow) && matches(rule.destination, flow.destination, flow.destinationPort, flow)
  }

  private func matches(_ side: SidePlan, _ address: IPAddress, _ port: UInt16?, _ flow: Flow) -> Bool {
    func isListed(_ ranges: [ClosedRange<UInt16>]) -> Bool { port.map { port in ranges.contains { $0.contains(port) } } ?? false }
    func isNamed(_ ids: [IPSetID]) -> Bool {
      guard !ids.isEmpty, let port else { return false }
      let member = IPSetMember.addressPort(address, flow.ipProtocol, port)
      return ids.contains { ipSets[$0]?.members.contains(member) ?? false }
    }
    if !(side.ports.isEmpty && side.namedPorts.isEmpty), !isListed(side.ports), !isNamed(side.namedPorts) { return false }
    if isListed(side.notPorts) || isNamed(side.notNamedPorts) { return false }
    // Numbers without a protocol mean those that have ports.
    if !(side.ports.isEmpty && side.notPorts.isEmpty), !flow.ipProtocol.hasPorts { return false }
    if !side.nets.isEmpty, !side.nets.contains(where: { $0.contains(address) }) { return false }
    if !side.notNets.isEmpty {
      // A negated list, too, speaks of the families in it only.
      guard side.notNets.contains(where: { $0.family == address.family }) else { return false }
      if side.notNets.contains(where: { $0.contains(address) }) { return false }
    }
    return side.sets.allSatisfy { holds($0, address) } && !side.notSets.contains { holds($0, address) }
  }

  /// One look-up for each length that a prefix may have.
  private func holds(_ id: IPSetID, _ address: IPAddress) -> Bool {
    guard let members = ipSets[id]?.members, !members.isEmpty else { return false }
    if members.contains(.net(address.hostPrefix)) { return true }
    return (0..<UInt8(address.family.bits)).contains { members.contains(.net(IPPrefix(address, length: $0))) }
  }
}

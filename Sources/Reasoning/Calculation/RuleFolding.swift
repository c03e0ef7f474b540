/// From a rule as people write it to a rule as the kernel can match it: selectors become address sets, named ports become sets of address
/// and port, and what cannot be enforced becomes a deny at its own place.
import Addresses
import HostPlans
import Resources
import Selectors

/// A policy's or profile's rules, with the sets they refer to and what is wrong with them.
struct FoldedPolicy: Sendable {
  var plan = PolicyPlan()
  var demands: [IPSetID: AddressSetDemand] = [:]
  var faults: [String] = []
}

struct RuleFolding {
  /// The namespace of the policy whose rules these are; nil for global policies and profiles.
  let namespace: String?
  private(set) var folded = FoldedPolicy()

  init(namespace: String?, tier: String = "default") {
    self.namespace = namespace
    folded.plan.tier = tier
  }

  mutating func fold(_ rules: [Rule], _ direction: Direction) {
    var plans: [RulePlan] = []
    func append(_ plan: RulePlan, _ index: Int) {
      var plan = plan
      if plans.count != index { plan.place = index }
      plans.append(plan)
    }
    for (index, rule) in rules.enumerated() {
      do throws(RuleFault) {
        if let plan = try fold(rule, direction) { append(plan, index) }
      } catch {
        folded.faults.append("\(direction.rawValue.lowercased()) rule \(index + 1): \(error.reason)")
        // A log that cannot be written as asked stops nothing; it is left out.
        guard rule.action != .log else { continue }
        var plan = RulePlan(.deny)
        plan.annotations = rule.annotations
        plan.fault = error.reason
        append(plan, index)
      }
    }
    switch direction {
    case .ingress: folded.plan.ingress = plans
    case .egress: folded.plan.egress = plans
    }
  }

  /// Every direction that the policy governs denies: what stands for a policy whose selector cannot be read.
  mutating func denyAll(_ directions: Set<Direction>, because fault: String) {
    var deny = RulePlan(.deny)
    deny.fault = fault
    if directions.contains(.ingress) { folded.plan.ingress = [deny] }
    if directions.contains(.egress) { folded.plan.egress = [deny] }
  }

  struct RuleFault: Error {
    var reason: String
    init(_ reason: String) { self.reason = reason }
  }

  /// Nil for a rule that no packet can match.
  private mutating func fold(_ rule: Rule, _ direction: Direction) throws(RuleFault) -> RulePlan? {
    if let fault = rule.fault { throw RuleFault(fault) }
    try check(rule, direction)
    var plan = RulePlan(rule.action)
    plan.family = rule.ipVersion
    plan.ipProtocol = rule.ipProtocol
    plan.notProtocol = rule.notProtocol
    plan.icmp = rule.icmp
    plan.notICMP = rule.notICMP
    plan.annotations = rule.annotations
    let portProtocol = rule.ipProtocol ?? .tcp
    plan.source = try fold(rule.source, portProtocol)
    plan.destination = try fold(rule.destination, portProtocol)
    // A named port belongs to one protocol; without one in the rule, that is TCP.
    if !(plan.source.namedPorts.isEmpty && plan.destination.namedPorts.isEmpty), plan.ipProtocol == nil { plan.ipProtocol = .tcp }
    // A service says by itself of which protocol its ports are.
    if let service = try service(rule.source.services, "source") { plan.source.sets.append(demand(AddressSetDemand(service: service, withPorts: false))) }
    if let service = try service(rule.destination.services, "destination") {
      plan.destination.namedPorts.append(demand(AddressSetDemand(service: service, withPorts: true)))
    }
    // A list of networks, even a negated one, binds the rule to the families in it: `not 10.0.0.0/8` says nothing about IPv6.
    var families: Set<IPFamily> = rule.ipVersion.map { [$0] } ?? [.v4, .v6]
    for list in [rule.source.nets, rule.source.notNets, rule.destination.nets, rule.destination.notNets] where !list.isEmpty {
      families.formIntersection(list.map(\.family))
    }
    if families.isEmpty { return nil }
    if families.count == 1 { plan.family = families.first }
    return plan
  }

  private func service(_ match: ServiceMatch?, _ side: String) throws(RuleFault) -> ServiceName? {
    guard let match else { return nil }
    guard let namespace = match.namespace ?? namespace else { throw RuleFault("\(side).services: a global policy must name the namespace") }
    return ServiceName(namespace: namespace, name: match.name)
  }

  private func check(_ rule: Rule, _ direction: Direction) throws(RuleFault) {
    if rule.http != nil { throw RuleFault("http: packets are not matched by HTTP request") }
    for (side, name) in [(rule.source, "source"), (rule.destination, "destination")] {
      let ports = side.ports + side.notPorts
      if side.services != nil {
        if name != (direction == .ingress ? "source" : "destination") {
          throw RuleFault("\(name).services: a service is the source of ingress or the destination of egress")
        }
        if name == "destination", !ports.isEmpty { throw RuleFault("\(name).services: the service says which ports; ports cannot stand beside it") }
      }
      guard !ports.isEmpty else { continue }
      if let ipProtocol = rule.ipProtocol {
        if !ipProtocol.hasPorts { throw RuleFault("\(name) ports: protocol \(ipProtocol) has no ports") }
      } else if ports.contains(where: { if case .range = $0 { true } else { false } }) {
        throw RuleFault("\(name) ports: a port number needs protocol TCP, UDP or SCTP")
      }
    }
    if rule.icmp != nil || rule.notICMP != nil, rule.ipProtocol != .icmp, rule.ipProtocol != .icmpv6 {
      throw RuleFault("icmp: needs protocol ICMP or ICMPv6")
    }
    for match in [rule.icmp, rule.notICMP] {
      if let match, match.code != nil, match.type == nil { throw RuleFault("icmp: a code needs a type") }
    }
  }

  private mutating func fold(_ side: EntityRule, _ portProtocol: NetworkProtocol) throws(RuleFault) -> SidePlan {
    var plan = SidePlan()
    plan.nets = side.nets
    plan.notNets = side.notNets
    let (positive, negative) = try side.selectors(inNamespace: namespace)
    for port in side.ports {
      switch port {
      case .range(let range): plan.ports.append(range)
      case .named(let name): plan.namedPorts.append(portSet(name, portProtocol, of: positive))
      }
    }
    for port in side.notPorts {
      switch port {
      case .range(let range): plan.notPorts.append(range)
      case .named(let name): plan.notNamedPorts.append(portSet(name, portProtocol, of: positive))
      }
    }
    // A set of named ports already holds only what the selector matches; a second look-up is needed only beside numbers.
    if let positive, plan.namedPorts.isEmpty || !plan.ports.isEmpty { plan.sets = [demand(AddressSetDemand(positive))] }
    if let negative { plan.notSets = [demand(AddressSetDemand(negative))] }
    return plan
  }

  private mutating func portSet(_ name: String, _ ipProtocol: NetworkProtocol, of selector: Selector?) -> IPSetID {
    demand(AddressSetDemand(port: name, ipProtocol, of: selector ?? .all))
  }

  private mutating func demand(_ demand: AddressSetDemand) -> IPSetID {
    folded.demands[demand.id] = demand
    return demand.id
  }
}

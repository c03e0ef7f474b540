/// One rule of a policy as rules of the kernel.
///
/// A rule is a conjunction; some of its parts are alternatives (several ports, an address in a hash set or in an interval set). The
/// alternatives are multiplied out into rules with the same verdict; negations stay conjunctions and never multiply, but for "not this
/// ICMP type and code", whose complement is two rules. What is cheap to test and rejects much stands first: protocol, ports, hash sets,
/// then intervals (a failing hash lookup costs 130 ns, one in 10,000 intervals 575 ns).

import Addresses
import HostPlans
import Resources
import Rulesets

/// A set that some rule looks into, and where its elements come from.
enum SetSource: Hashable {
  case hosts(IPSetID, IPFamily)
  case nets(IPSetID, IPFamily)
  case served(IPSetID, IPFamily)
  /// Written in a rule; shared by all rules that say the same.
  case literal(SetSpec, Set<SetElement>)
}

/// What the rendering of one rule must know of the rest.
protocol RenderingContext {
  var usesIPv6: Bool { get }
  /// Nil if the set does not exist.
  func content(of set: IPSetID) -> IPSetPlan.Content?
  /// Whether a lookup there can succeed.
  func hasElements(_ source: SetSource) -> Bool
}

struct RuleRendering {
  private(set) var rules: [ChainRule] = []
  private(set) var sets: [String: SetSource] = [:]
  /// Every address set that was asked for, whether or not it appears.
  private(set) var setIDs: Set<IPSetID> = []

  private static let protocolsWithPorts: [UInt8] = [6, 17, 132, 136]

  init(_ plan: RulePlan, _ verdicts: Verdicts, _ prefix: FlowPrefix, comment: String, log: [Statement], in context: some RenderingContext) {
    for side in [plan.source, plan.destination] { setIDs.formUnion(side.sets + side.notSets + side.namedPorts + side.notNamedPorts) }
    if let fault = plan.fault ?? self.fault(plan, context) {
      let words = verdicts.isStaged ? "cannot be enforced, would deny all" : "cannot be enforced, denies all"
      rules = [ChainRule(verdicts.denying(prefix), comment: "\(comment): \(words): \(fault)")]
      return
    }
    let end = Self.end(plan.action, verdicts, prefix, log)
    for family in Self.families(plan, context) {
      for alternative in alternatives(plan, family, context) { rules.append(ChainRule(alternative + end, comment: comment)) }
    }
    // A conjunction that cannot hold left no rule, but perhaps sets.
    let used = Set(rules.flatMap(\.sets))
    sets = sets.filter { used.contains($0.key) }
  }

  private static func end(_ action: RuleAction, _ verdicts: Verdicts, _ prefix: FlowPrefix, _ log: [Statement]) -> [Statement] {
    switch action {
    case .allow: [.counter] + verdicts.allow
    case .deny: verdicts.denying(prefix)
    case .pass: [.counter] + verdicts.pass
    // The counter counts what matches, the limit holds back lines only.
    case .log: [.counter] + (verdicts.isStaged ? [] : log)
    }
  }

  /// Why the rule has no rendering at all.
  private func fault(_ plan: RulePlan, _ context: some RenderingContext) -> String? {
    for side in [plan.source, plan.destination] {
      for id in side.sets + side.notSets where context.content(of: id) != .nets { return "address set \(id) is missing" }
      for id in side.namedPorts + side.notNamedPorts where context.content(of: id) != .addressPorts { return "port set \(id) is missing" }
      // What answers for a service is of some protocol with ports: of any other nothing is in the set, and the rule matches nothing.
      let hasPorts = !(side.ports + side.notPorts).isEmpty || !side.notNamedPorts.isEmpty
      if hasPorts, let ipProtocol = plan.ipProtocol, !ipProtocol.hasPorts { return "protocol \(ipProtocol) has no ports" }
    }
    if plan.icmp != nil || plan.notICMP != nil, let ipProtocol = plan.ipProtocol, ipProtocol != .icmp, ipProtocol != .icmpv6 {
      return "protocol \(ipProtocol) has no ICMP types"
    }
    return nil
  }

  /// The families to render apart; one nil if the rule is the same in both.
  private static func families(_ plan: RulePlan, _ context: some RenderingContext) -> [IPFamily?] {
    func isSpecific(_ side: SidePlan) -> Bool {
      !(side.nets.isEmpty && side.notNets.isEmpty && side.sets.isEmpty && side.notSets.isEmpty && side.namedPorts.isEmpty
        && side.notNamedPorts.isEmpty)
    }
    let hasICMP = plan.icmp != nil || plan.notICMP != nil
    guard plan.family != nil || hasICMP || isSpecific(plan.source) || isSpecific(plan.destination) else { return [nil] }
    return IPFamily.allCases.filter { family in
      if let only = plan.family, only != family { return false }
      if family == .v6, !context.usesIPv6 { return false }
      if hasICMP, let ipProtocol = plan.ipProtocol, ipProtocol != (family == .v4 ? .icmp : .icmpv6) { return false }
      // As Calico has it: a list of CIDRs without one of this family, negated or not, takes the rule out of the family.
      return [plan.source.nets, plan.source.notNets, plan.destination.nets, plan.destination.notNets].allSatisfy {
        $0.isEmpty || $0.contains { $0.family == family }
      }
    }
  }

  /// Each result is a conjunction; together they are the rule.
  private mutating func alternatives(_ plan: RulePlan, _ family: IPFamily?, _ context: some RenderingContext) -> [[Statement]] {
    var results: [[Statement]] = [[]]
    func and(_ statement: Statement) { for index in results.indices { results[index].append(statement) } }
    func andAny(_ choices: [[Statement]]) { results = results.flatMap { start in choices.map { start + $0 } } }

    if let family { and(.family(family)) }
    let hasICMP = plan.icmp != nil || plan.notICMP != nil
    if let ipProtocol = plan.ipProtocol {
      and(.transport(ipProtocol.number))
    } else if hasICMP, let family {
      and(.transport(family == .v4 ? 1 : 58))
    } else if !(plan.source.ports + plan.source.notPorts + plan.destination.ports + plan.destination.notPorts).isEmpty {
      let set = literal("protocols", SetSpec(.protocolNumber), Set(Self.protocolsWithPorts.map { SetElement([$0]) }))
      and(.lookup([.transportProtocol], set: set, negated: false))
    }
    if let ipProtocol = plan.notProtocol { and(.transport(ipProtocol.number, .notEqual)) }

    if let type = plan.icmp?.type {
      and(.match(.icmpType, .equal, [type]))
      if let code = plan.icmp?.code { and(.match(.icmpCode, .equal, [code])) }
    }
    if let not = plan.notICMP {
      guard let type = not.type else { return [] }
      var choices: [[Statement]] = [[.match(.icmpType, .notEqual, [type])]]
      if let code = not.code { choices.append([.match(.icmpType, .equal, [type]), .match(.icmpCode, .notEqual, [code])]) }
      andAny(choices)
    }

    let sides: [(SidePlan, Field, (IPFamily) -> Field)] = [
      (plan.source, .sourcePort, Field.source), (plan.destination, .destinationPort, Field.destination),
    ]
    for (side, port, _) in sides where side.namedPorts.isEmpty && !side.ports.isEmpty { and(ports(side.ports, port, negated: false)) }
    for (side, port, _) in sides where !side.notPorts.isEmpty { and(ports(side.notPorts, port, negated: true)) }
    guard let family else { return results }

    for (side, port, address) in sides {
      let key = [address(family), .transportProtocol, port]
      if !side.namedPorts.isEmpty {
        var choices: [[Statement]] = side.ports.isEmpty ? [] : [[ports(side.ports, port, negated: false)]]
        for set in inhabited(side.namedPorts.map { .served($0, family) }, context) { choices.append([.lookup(key, set: set, negated: false)]) }
        andAny(choices)
      }
      for set in inhabited(side.notNamedPorts.map { .served($0, family) }, context) { and(.lookup(key, set: set, negated: true)) }
    }
    for (side, _, address) in sides {
      for id in side.sets {
        andAny(inhabited([.hosts(id, family), .nets(id, family)], context).map { [.lookup([address(family)], set: $0, negated: false)] })
      }
      for id in side.notSets {
        for set in inhabited([.hosts(id, family), .nets(id, family)], context) { and(.lookup([address(family)], set: set, negated: true)) }
      }
    }
    for (side, _, address) in sides {
      if let match = addresses(side.nets, address(family), family, negated: false) { and(match) }
      // Nothing lies outside of everything.
      if side.notNets.contains(where: { $0.family == family && $0.isDefault }) { return [] }
      if let match = addresses(side.notNets, address(family), family, negated: true) { and(match) }
    }
    return results
  }

  // MARK: Literals

  private mutating func ports(_ ranges: [ClosedRange<UInt16>], _ field: Field, negated: Bool) -> Statement {
    let merged = Self.merged(ranges)
    if merged.count == 1 { return .port(field, in: merged[0], negated: negated) }
    let hasRanges = merged.contains { $0.count > 1 }
    let elements = Set(merged.map { hasRanges ? SetElement.ports($0) : SetElement(KeyOctets.port($0.lowerBound)) })
    return .lookup([field], set: literal("ports", SetSpec(.port, isInterval: hasRanges), elements), negated: negated)
  }

  /// Nil if every address of the family matches.
  private mutating func addresses(_ nets: [IPPrefix], _ field: Field, _ family: IPFamily, negated: Bool) -> Statement? {
    let nets = PrefixCover(nets.filter { $0.family == family }).outermost
    guard !nets.isEmpty, !nets.contains(where: \.isDefault) else { return nil }
    if nets.count == 1 { return .address(field, negated ? .notEqual : .equal, in: nets[0]) }
    let hasNets = nets.contains { !$0.isHost }
    let spec = SetSpec(family == .v4 ? .ipv4 : .ipv6, isInterval: hasNets)
    let elements = Set(nets.map { hasNets ? SetElement.prefix($0) : .address($0.address) })
    return .lookup([field], set: literal("cidrs\(family.rawValue)", spec, elements), negated: negated)
  }

  /// Sorted, disjoint and with a gap between any two.
  static func merged(_ ranges: [ClosedRange<UInt16>]) -> [ClosedRange<UInt16>] {
    var result: [ClosedRange<UInt16>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = result.last, last.upperBound == .max || range.lowerBound <= last.upperBound + 1 {
        result[result.count - 1] = last.lowerBound...max(last.upperBound, range.upperBound)
      } else {
        result.append(range)
      }
    }
    return result
  }

  /// The names of those that have elements. Nothing is in an empty set: what asks for that falls away, and what forbids it asks nothing. The
  /// rule is rendered anew with the first element and the last, which costs more than an element does; but half of all sets have nothing in
  /// one family or are all prefixes or all addresses, and the kernel walks every rule of the table whenever one is added.
  private mutating func inhabited(_ sources: [SetSource], _ context: some RenderingContext) -> [String] {
    sources.filter(context.hasElements).map { use($0) }
  }

  private mutating func use(_ source: SetSource) -> String {
    let name =
      switch source {
      case .hosts(let id, let family): KernelNames.hosts(id, family)
      case .nets(let id, let family): KernelNames.nets(id, family)
      case .served(let id, let family): KernelNames.served(id, family)
      case .literal: preconditionFailure("a literal set is named by its content, in `literal`")
      }
    sets[name] = source
    return name
  }

  /// Named sets, shared by content: anonymous ones make a load of the ruleset quadratic in their number.
  private mutating func literal(_ kind: String, _ spec: SetSpec, _ elements: Set<SetElement>) -> String {
    let name = KernelNames.literal(kind, spec, elements)
    sets[name] = .literal(spec, elements)
    return name
  }
}

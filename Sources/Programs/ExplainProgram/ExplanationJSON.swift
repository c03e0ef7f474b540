/// The explanation for programs. The shape is promised: members may be added, none changes its meaning (design/explain.md).
import Addresses
public import JSON
import PolicyOracle
import Resources

extension Explanation {
  public func json(counters: LiveCounters? = nil) -> JSONValue {
    var document: JSONValue = [
      "verdict": Self.word(isAllowed),
      // True if one family may pass and the other not.
      "isMixed": .bool(isMixed), "from": .string(from.name), "to": .string(to.name),
      "families": .array(answers.map { Self.json($0, counters) }),
      "findings": .array(findings.map { ["object": .string($0.object.description), "text": .string($0.text)] }),
    ]
    // Of the family that gives the verdict: the first that is denied, or the first.
    if let answer = answers.first(where: { !$0.verdict.isAllowed }) ?? answers.first {
      for direction in [Direction.egress, .ingress] {
        // A host may be asked as well; what was asked last had the last word.
        let side = answer.sides.last { $0.direction == direction && $0.isAsked && $0.isDecided }
        document[direction.rawValue.lowercased()] = side.map { Self.decision($0, answer.family, counters) } ?? .null
      }
    }
    if let counters { document["counterProblems"] = .array(counters.problems.map(JSONValue.string)) }
    return document
  }

  private static func word(_ isAllowed: Bool) -> JSONValue { isAllowed ? "allow" : "deny" }

  private static func json(_ answer: Answer, _ counters: LiveCounters?) -> JSONValue {
    let packet = answer.packet
    var asked: JSONValue = [
      "from": .string("\(packet.from)"), "to": .string("\(packet.to)"), "protocol": .string("\(packet.ipProtocol)"),
    ]
    asked["sourcePort"] = packet.sourcePort.map { .integer(Int64($0)) }
    asked["destinationPort"] = packet.destinationPort.map { .integer(Int64($0)) }
    asked["icmpType"] = packet.icmpType.map { .integer(Int64($0)) }
    asked["icmpCode"] = packet.icmpCode.map { .integer(Int64($0)) }
    var document: JSONValue = [
      "family": .string("\(answer.family)"), "packet": asked, "verdict": word(answer.verdict.isAllowed),
      "decidedBy": .string(answer.verdict.decidedBy), "because": .string(answer.verdict.decisions.last.map(decision) ?? ""),
      // What belongs to a connection that was allowed is never judged again, in either direction.
      "replies": word(answer.verdict.isAllowed), "established": "allow",
      "from": json(answer.from), "to": json(answer.to), "sides": .array(answer.sides.map { json($0, answer.family, counters) }),
    ]
    if !answer.proposals.isEmpty { document["staged"] = json(answer.proposals) }
    return document
  }

  private static func json(_ end: End) -> JSONValue {
    var document: JSONValue = ["name": .string(end.place.name), "address": .string("\(end.address)")]
    document["endpoint"] = (end.endpoint?.key.qualifiedName).map(JSONValue.string)
    document["host"] = (end.endpoint?.node ?? end.node).map(JSONValue.string)
    document["networkSets"] = .array(end.networkSets.map { .string($0.description) })
    return document
  }

  private static func json(_ side: Side, _ family: IPFamily, _ counters: LiveCounters?) -> JSONValue {
    func steps(_ step: Verdict.Step, _ rule: JSONValue?) -> JSONValue {
      var document: JSONValue = ["outcome": .string(step.outcome.rawValue), "reason": .string(step.reason)]
      if let index = step.ruleIndex {
        document["index"] = .integer(Int64(index))
        document["number"] = .integer(Int64(index + 1))
        document["rule"] = rule
      }
      document["counters"] = Self.counters(step, side, family, counters)
      return document
    }
    func consulted(_ item: Consulted) -> JSONValue {
      var document: JSONValue = ["kind": .string(item.key.kind.rawValue)]
      document["namespace"] = item.key.namespace.map(JSONValue.string)
      document["name"] = .string(item.key.name)
      document["asked"] = .bool(!item.steps.isEmpty)
      document["outcome"] = (item.outcome?.rawValue).map(JSONValue.string) ?? .null
      document["steps"] = .array(item.steps.map { step in steps(step, step.ruleIndex.flatMap { item.rules[$0] }) })
      return document
    }
    return [
      "direction": .string(side.direction.rawValue), "stage": .string(side.stage.rawValue),
      "endpoint": .string(side.endpoint.key.qualifiedName),
      "name": .string(side.endpoint.name), "host": .string(side.endpoint.node), "asked": .bool(side.isAsked),
      "verdict": word(side.verdict.isAllowed), "decidedBy": .string(side.verdict.decidedBy),
      "tiers": .array(
        side.tiers.map { tier in
          [
            "name": .string(tier.tier.name), "order": tier.tier.order.isFinite ? .double(tier.tier.order) : .null,
            "defaultAction": .string(tier.tier.defaultAction.rawValue), "exists": .bool(tier.tier.exists),
            "policies": .array(tier.policies.map(consulted)), "end": tier.end.map { steps($0, nil) } ?? .null,
          ]
        }),
      "profiles": .array(side.profiles.map(consulted)), "end": side.end.map { steps($0, nil) } ?? .null,
      "labels": .object(
        JSONObject(side.endpoint.labels.sorted { $0.key < $1.key }.map { JSONObject.Member($0.key, .string($0.value)) })),
      "labelsFrom": .object(
        JSONObject(side.endpoint.origins.sorted { $0.key < $1.key }.map { JSONObject.Member($0.key, .string("profile \($0.value)")) })),
    ]
  }

  /// What decided on one side, in one object, with everything that was looked at before.
  private static func decision(_ side: Side, _ family: IPFamily, _ counters: LiveCounters?) -> JSONValue {
    let step = side.verdict.decisions.last
    func rule(_ step: Verdict.Step) -> JSONValue? {
      guard let index = step.ruleIndex, let key = step.policy else { return nil }
      return (side.tiers.flatMap(\.policies) + side.profiles).first { $0.key == key }?.rules[index]
    }
    func place(_ step: Verdict.Step) -> JSONObject {
      var fields = JSONObject()
      fields["tier"] = step.tier.map(JSONValue.string) ?? .null
      fields["kind"] = (step.policy?.kind.rawValue).map(JSONValue.string) ?? .null
      fields["policy"] = (step.policy?.qualifiedName).map(JSONValue.string) ?? .null
      // From 1, as in the kernel's comments; null where the end of a tier or of the profiles decides.
      fields["rule"] = step.ruleIndex.map { .integer(Int64($0 + 1)) } ?? .null
      fields["outcome"] = .string(step.outcome.rawValue)
      fields["reason"] = .string(step.reason)
      fields["ruleText"] = rule(step)
      fields["counters"] = Self.counters(step, side, family, counters)
      return fields
    }
    var document = JSONObject()
    document["direction"] = .string(side.direction.rawValue)
    document["stage"] = .string(side.stage.rawValue)
    document["endpoint"] = .string(side.endpoint.key.qualifiedName)
    document["name"] = .string(side.endpoint.name)
    document["host"] = .string(side.endpoint.node)
    document["verdict"] = side.isDecided ? word(side.verdict.isAllowed) : .null
    for member in step.map(place)?.members ?? [] { document[member.name] = member.value }
    document["considered"] = .array(side.verdict.trail.filter { $0.ruleIndex != nil }.map { .object(place($0)) })
    return .object(document)
  }

  private static func counters(_ step: Verdict.Step, _ side: Side, _ family: IPFamily, _ counters: LiveCounters?) -> JSONValue? {
    guard let live = counters?.rules(for: step, side, family), !live.isEmpty else { return nil }
    return [
      "packets": .integer(Int64(clamping: live.reduce(0) { $0 + $1.packets })),
      "bytes": .integer(Int64(clamping: live.reduce(0) { $0 + $1.octets })),
      "rules": .array(
        live.map { rule -> JSONValue in
          [
            "chain": .string(rule.chain), "text": .string(rule.text), "packets": .integer(Int64(clamping: rule.packets)),
            "bytes": .integer(Int64(clamping: rule.octets)),
          ]
        }),
    ]
  }
}

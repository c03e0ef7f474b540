/// The explanation for programs. The shape is promised: members may be added, none changes its meaning (design/explain.md).
import Addresses
public import JSON
import PolicyOracle
import Resources

extension Explanation {
  public func json(counters: LiveCounters? = nil) -> JSONValue {
    var document: JSONValue = [
      "verdict": .string(isAllowed ? "allowed" : isMixed ? "mixed" : "denied"),
      "from": .string(from.name), "to": .string(to.name),
      "families": .array(answers.map { Self.json($0, counters) }),
      "findings": .array(findings.map { ["object": .string($0.object.description), "text": .string($0.text)] }),
    ]
    if let counters { document["counterProblems"] = .array(counters.problems.map(JSONValue.string)) }
    return document
  }

  private static func word(_ isAllowed: Bool) -> JSONValue { isAllowed ? "allowed" : "denied" }

  private static func json(_ answer: Answer, _ counters: LiveCounters?) -> JSONValue {
    let packet = answer.packet
    var asked: JSONValue = [
      "from": .string("\(packet.from)"), "to": .string("\(packet.to)"), "protocol": .string("\(packet.ipProtocol)"),
    ]
    asked["sourcePort"] = packet.sourcePort.map { .integer(Int64($0)) }
    asked["destinationPort"] = packet.destinationPort.map { .integer(Int64($0)) }
    asked["icmpType"] = packet.icmpType.map { .integer(Int64($0)) }
    asked["icmpCode"] = packet.icmpCode.map { .integer(Int64($0)) }
    return [
      "family": .string("\(answer.family)"), "packet": asked, "verdict": word(answer.verdict.isAllowed),
      "decidedBy": .string(answer.verdict.decidedBy), "because": .string(answer.verdict.decisions.last.map(decision) ?? ""),
      // What belongs to a connection that was allowed is never judged again, in either direction.
      "replies": word(answer.verdict.isAllowed), "established": "allowed",
      "from": json(answer.from), "to": json(answer.to), "sides": .array(answer.sides.map { json($0, answer.family, counters) }),
    ]
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
      if let live = counters?.rules(for: step, side, family), !live.isEmpty {
        document["counters"] = [
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
      "direction": .string(side.direction.rawValue), "endpoint": .string(side.endpoint.key.qualifiedName),
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
}

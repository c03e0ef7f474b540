/// NetworkPolicy and GlobalNetworkPolicy.
import JSON
import Names
import Resources

extension FieldReader {
  /// `isDeletion`: a staged policy that deletes one, and says nothing else.
  func policySpec(isGlobal: Bool, isDeletion: Bool = false) -> PolicySpec {
    var spec = PolicySpec()
    if let tier = string("tier"), !tier.isEmpty {
      spec.tier = tier
      if let fault = NameRules.dnsLabelFault(tier) { findings.refusal(path("tier"), .string(tier), "is not the name of a tier: \(fault)") }
    }
    spec.order = double("order")
    spec.selector = selector("selector", mayBeGlobal: false) ?? ""
    spec.serviceAccountSelector = selector("serviceAccountSelector", mayBeGlobal: false)
    for (value, path) in array("types", countMax: 2) {
      guard let type = choice(value, path, Direction.self) else { continue }
      if spec.types.contains(type) { findings.refusal(path, value, "appears twice") } else { spec.types.append(type) }
    }
    spec.ingress = rules("ingress", isGlobal: isGlobal)
    spec.egress = rules("egress", isGlobal: isGlobal)
    if isGlobal {
      spec.namespaceSelector = selector("namespaceSelector", mayBeGlobal: false)
      spec.doNotTrack = bool("doNotTrack") ?? false
      spec.preDNAT = bool("preDNAT") ?? false
      spec.applyOnForward = bool("applyOnForward") ?? false
      if spec.doNotTrack, spec.preDNAT { findings.refusal(path("preDNAT"), true, "excludes doNotTrack", fix: "remove one of them") }
      if spec.preDNAT, !spec.egress.isEmpty { findings.refusal(path("egress"), nil, "must be empty in a policy with preDNAT") }
      if spec.preDNAT, spec.types.contains(.egress) {
        findings.refusal(path("types"), nil, "must not hold Egress in a policy with preDNAT")
      }
      if spec.preDNAT || spec.doNotTrack, !spec.applyOnForward {
        findings.refusal(
          path, nil, "needs applyOnForward with \(spec.preDNAT ? "preDNAT" : "doNotTrack")", fix: "add applyOnForward: true")
      }
    }
    for (name, rules, direction) in [("ingress", spec.ingress, Direction.ingress), ("egress", spec.egress, .egress)] {
      guard !rules.isEmpty, spec.effectiveTypes.contains(direction), rules.allSatisfy({ $0.action == .log }) else { continue }
      findings.warning(
        path(name), nil, "only logs: what no other policy of the tier decides is denied at the end of the tier",
        fix: "add a rule with action: Pass, if the policy is only to watch")
    }
    // Who writes without `types` through the API means those of the rules present; that is written out, because a stored policy without
    // `types` governs both directions, for Calico's own readers as for us. OpenStack's driver writes such policies past the API.
    if spec.types.isEmpty, !isDeletion { spec.types = findings.isStrict ? spec.effectiveTypes.sorted() : PolicySpec.typesUnspelled }
    for (value, path) in array("performanceHints") {
      guard let hint = choice(value, path, PolicySpec.PerformanceHint.self) else { continue }
      if spec.performanceHints.contains(hint) { findings.refusal(path, value, "appears twice") } else { spec.performanceHints.append(hint) }
    }
    finish()
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ policy: PolicySpec) -> JSONObject {
    var fields = JSONObject()
    fields["tier"] = .string(policy.tier)
    fields["order"] = number(policy.order)
    fields["selector"] = text(policy.selector)
    fields["namespaceSelector"] = policy.namespaceSelector.map(JSONValue.string)
    fields["serviceAccountSelector"] = policy.serviceAccountSelector.map(JSONValue.string)
    fields["types"] = list(policy.effectiveTypes.sorted().map(\.rawValue))
    fields["ingress"] = rules(policy.ingress)
    fields["egress"] = rules(policy.egress)
    fields["performanceHints"] = list(policy.performanceHints.map(\.rawValue))
    fields["doNotTrack"] = flag(policy.doNotTrack)
    fields["preDNAT"] = flag(policy.preDNAT)
    fields["applyOnForward"] = flag(policy.applyOnForward)
    return fields
  }
}

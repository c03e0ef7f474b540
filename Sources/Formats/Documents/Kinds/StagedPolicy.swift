/// StagedNetworkPolicy and StagedGlobalNetworkPolicy: what a policy would be, or that it would go.
import JSON
import Resources

extension FieldReader {
  func stagedPolicySpec(isGlobal: Bool) -> StagedPolicySpec {
    let action = stagedAction(besides: ["tier"])
    return StagedPolicySpec(policySpec(isGlobal: isGlobal, isDeletion: action == .delete), stagedAction: action)
  }

  /// The action, with the rule that a deletion says nothing but whom it deletes.
  func stagedAction(besides kept: [String]) -> StagedAction {
    let action = choice("stagedAction", StagedAction.self) ?? .set
    guard action == .delete else { return action }
    for member in object.members where member.name != "stagedAction" && !kept.contains(member.name) {
      let isEmpty = member.value.isNull || member.value.array?.isEmpty == true || member.value.object?.isEmpty == true
      if isEmpty || member.value.string == "" { continue }
      findings.refusal(path(member.name), nil, "has no place beside stagedAction Delete", fix: "remove it", atName: true)
    }
    return action
  }
}

extension ResourceCodec {
  static func fields(_ spec: StagedPolicySpec) -> JSONObject {
    var fields = fields(spec.policy)
    if spec.stagedAction == .delete, spec.policy.types.isEmpty { fields["types"] = nil }
    fields["stagedAction"] = .string(spec.stagedAction.rawValue)
    return fields
  }
}

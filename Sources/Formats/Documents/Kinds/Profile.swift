/// Profiles: rules and labels that endpoints inherit.
import JSON
import Names
import Resources

extension FieldReader {
  func profileSpec() -> ProfileSpec {
    let labels = stringMap("labelsToApply")
    for (key, value) in labels {
      let labelPath = path("labelsToApply").member(key)
      if let fault = NameRules.labelKeyFault(key) { findings.refusal(labelPath, nil, "is not a label: \(fault)", atName: true) }
      // Values are copied from namespaces' own labels and annotations; only their form is checked.
      if let fault = NameRules.labelValueFault(value) { findings.refusal(labelPath, .string(value), "is not a label's value: \(fault)") }
    }
    let spec = ProfileSpec(
      ingress: rules("ingress", isGlobal: true), egress: rules("egress", isGlobal: true), labelsToApply: labels)
    finish()
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ profile: ProfileSpec) -> JSONObject {
    var fields = JSONObject()
    fields["ingress"] = rules(profile.ingress)
    fields["egress"] = rules(profile.egress)
    fields["labelsToApply"] = map(profile.labelsToApply)
    return fields
  }
}

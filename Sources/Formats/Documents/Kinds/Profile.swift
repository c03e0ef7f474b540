/// Profiles: rules and labels that endpoints inherit.
import JSON
import Resources

extension FieldReader {
  func profileSpec() -> ProfileSpec {
    let labels = labels("labelsToApply")
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

/// Tiers.
import JSON
import Resources

extension FieldReader {
  func tierSpec() -> TierSpec {
    let order = double("order")
    let action = choice("defaultAction", TierSpec.DefaultAction.self) ?? .deny
    finish()
    return TierSpec(order: order, defaultAction: action)
  }
}

extension FieldReader {
  /// Called on the reader of the whole document.
  func checkFixed(_ tier: TierSpec, _ name: String) {
    guard let fixed = TierSpec.fixed[name] else { return }
    let specPath = path("spec")
    if tier.order != fixed.order, let order = fixed.order.map({ Int64($0) }) {
      findings.refusal(
        specPath.member("order"), value("spec")?["order"], "is not that of tier \(name), which cannot change", fix: "write \(order)")
    }
    if tier.defaultAction != fixed.defaultAction {
      findings.refusal(
        specPath.member("defaultAction"), value("spec")?["defaultAction"], "is not that of tier \(name), which cannot change",
        fix: "write \(fixed.defaultAction.rawValue)")
    }
  }
}

extension ResourceCodec {
  static func fields(_ tier: TierSpec) -> JSONObject {
    var fields = JSONObject()
    fields["order"] = number(tier.order)
    fields["defaultAction"] = .string(tier.defaultAction.rawValue)
    return fields
  }
}

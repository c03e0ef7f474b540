/// Tiers.
import JSON
import Resources

extension FieldReader {
  func tierSpec() -> TierSpec {
    let order = double("order")
    var action = TierSpec.DefaultAction.deny
    if let value = value("defaultAction"), let text = string(value, path("defaultAction")) {
      if let known = TierSpec.DefaultAction(rawValue: text) {
        action = known
      } else {
        findings.error(path("defaultAction"), value, "is neither Deny nor Pass")
      }
    }
    finish()
    return TierSpec(order: order, defaultAction: action)
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

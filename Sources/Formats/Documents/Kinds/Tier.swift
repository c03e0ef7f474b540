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

extension ResourceCodec {
  static func fields(_ tier: TierSpec) -> JSONObject {
    var fields = JSONObject()
    fields["order"] = number(tier.order)
    fields["defaultAction"] = .string(tier.defaultAction.rawValue)
    return fields
  }
}

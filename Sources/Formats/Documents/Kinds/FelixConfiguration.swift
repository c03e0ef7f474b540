/// What holds for Felix on all nodes, on selected ones, or on one.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
  func felixConfigurationSpec() -> FelixConfigurationSpec {
    var spec = parameters()
    if let text = spec.text("interfacePrefix") {
      for prefix in spec.interfacePrefixes ?? [] {
        guard let fault = NameRules.interfaceNameFault(prefix) else { continue }
        findings.refusal(path("interfacePrefix"), .string(text), "is not a list of beginnings of interface names: \(fault)")
      }
    }
    if let text = spec.logPrefix,
      let sign = text.unicodeScalars.first(where: { !$0.isASCII || !($0.properties.isAlphabetic || "0123456789%: /_-".unicodeScalars.contains($0)) })
    {
      findings.refusal(path("logPrefix"), .string(text), "holds \(sign.debugDescription)", fix: "use letters, digits and %: /_-")
    }
    if let region = spec.openstackRegion, let fault = NameRules.dnsLabelFault(region) {
      findings.refusal(path("openstackRegion"), .string(region), "is no name of a region: \(fault)")
      spec.keepOut("openstackRegion", because: "\"\(region)\" is no name of a region: \(fault)")
    }
    if spec.reportingTTLSeconds == 0 {
      findings.refusal(
        path("reportingTTL"), .string("0s"), "lets the status vanish at once", fix: "write reportingInterval: 0s for no reports")
      spec.keepOut("reportingTTL", because: "0s lets the status vanish at once")
    }
    finish(unknownIsWarning: true)
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ felix: FelixConfigurationSpec) -> JSONObject {
    var fields = JSONObject()
    for row in FelixParameter.all { fields[row.field] = felix.values[row.field].map(json) }
    return fields
  }
}

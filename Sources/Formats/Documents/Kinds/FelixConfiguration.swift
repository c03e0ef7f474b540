/// What holds for Felix on all nodes, on selected ones, or on one.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
  func felixConfigurationSpec() -> FelixConfigurationSpec {
    var spec = FelixConfigurationSpec()
    if let text = string("interfacePrefix") {
      let prefixes = text.split(separator: ",").map { String($0.filter { $0 != " " }) }
      for prefix in prefixes {
        if let fault = NameRules.interfaceNameFault(prefix) {
          findings.refusal(path("interfacePrefix"), .string(text), "is not a list of beginnings of interface names: \(fault)")
        }
      }
      spec.interfacePrefixes = prefixes.isEmpty ? nil : prefixes
    }
    if let value = value("defaultEndpointToHostAction"), let text = string(value, path("defaultEndpointToHostAction")) {
      // Felix has always taken this word in any case.
      spec.defaultEndpointToHostAction = FelixConfigurationSpec.EndpointToHostAction.allCases.first {
        $0.rawValue.lowercased() == text.lowercased()
      }
      if spec.defaultEndpointToHostAction == nil {
        findings.error(path("defaultEndpointToHostAction"), value, "is none of Drop, Accept, Return")
      }
    }
    spec.ipv6Support = bool("ipv6Support")
    spec.logSeverityScreen = parameter("logSeverityScreen")
    if let text = string("logPrefix"), !text.isEmpty {
      spec.logPrefix = text
      if let sign = text.unicodeScalars.first(where: { !$0.isASCII || !($0.properties.isAlphabetic || "0123456789%: /_-".unicodeScalars.contains($0)) }) {
        findings.refusal(path("logPrefix"), .string(text), "holds \(sign.debugDescription)", fix: "use letters, digits and %: /_-")
      }
    }
    let burst = integer("logActionRateLimitBurst", in: 0...9999)
    if let text = string("logActionRateLimit"), !text.isEmpty {
      if var limit = LogLimit(text) {
        // The kernel takes 0 for its default, which is 5 as well.
        if let burst, burst > 0 { limit.burst = UInt32(burst) }
        spec.logLimit = limit
      } else {
        findings.error(path("logActionRateLimit"), .string(text), "is not a rate", fix: "write it like 10/second, 100/minute, 5/hour or 1/day")
      }
    }
    spec.resyncIntervalSeconds = seconds("routeRefreshInterval")
    reporting(&spec)
    spec.others = otherParameters()
    finish(unknownIsWarning: true)
    return spec
  }

  /// Status, health and metrics.
  private func reporting(_ spec: inout FelixConfigurationSpec) {
    if let region = string("openstackRegion"), !region.isEmpty {
      if let fault = NameRules.dnsLabelFault(region) {
        findings.refusal(path("openstackRegion"), .string(region), "is no name of a region: \(fault)")
      } else {
        spec.openstackRegion = region
      }
    }
    spec.reportingIntervalSeconds = seconds("reportingInterval")
    spec.reportingTTLSeconds = seconds("reportingTTL")
    if spec.reportingTTLSeconds == 0 {
      findings.refusal(
        path("reportingTTL"), .string("0s"), "lets the status vanish at once", fix: "write reportingInterval: 0s for no reports")
    }
    spec.endpointReportingEnabled = bool("endpointReportingEnabled")
    spec.endpointReportingDelaySeconds = seconds("endpointReportingDelay")
    spec.healthEnabled = bool("healthEnabled")
    spec.healthHost = string("healthHost")
    spec.healthPort = integer("healthPort", in: 1...65535).map { UInt16($0) }
    spec.prometheusMetricsEnabled = bool("prometheusMetricsEnabled")
    spec.prometheusMetricsHost = string("prometheusMetricsHost")
    spec.prometheusMetricsPort = integer("prometheusMetricsPort", in: 1...65535).map { UInt16($0) }
  }
}

extension ResourceCodec {
  static func fields(_ felix: FelixConfigurationSpec) -> JSONObject {
    var fields = JSONObject()
    fields["interfacePrefix"] = felix.interfacePrefixes.map { .string($0.joined(separator: ",")) }
    fields["defaultEndpointToHostAction"] = felix.defaultEndpointToHostAction.map { .string($0.rawValue) }
    fields["ipv6Support"] = felix.ipv6Support.map(JSONValue.bool)
    fields["logSeverityScreen"] = felix.logSeverityScreen.map(JSONValue.string)
    fields["logPrefix"] = felix.logPrefix.map(JSONValue.string)
    fields["logActionRateLimit"] = felix.logLimit.map { .string("\($0)") }
    fields["logActionRateLimitBurst"] = felix.logLimit.map { .integer(Int64($0.burst)) }
    fields["routeRefreshInterval"] = felix.resyncIntervalSeconds.map { .string("\($0)s") }
    fields["openstackRegion"] = felix.openstackRegion.map(JSONValue.string)
    fields["reportingInterval"] = felix.reportingIntervalSeconds.map { .string("\($0)s") }
    fields["reportingTTL"] = felix.reportingTTLSeconds.map { .string("\($0)s") }
    fields["endpointReportingEnabled"] = felix.endpointReportingEnabled.map(JSONValue.bool)
    fields["endpointReportingDelay"] = felix.endpointReportingDelaySeconds.map { .string("\($0)s") }
    fields["healthEnabled"] = felix.healthEnabled.map(JSONValue.bool)
    fields["healthHost"] = felix.healthHost.map(JSONValue.string)
    fields["healthPort"] = felix.healthPort.map { .integer(Int64($0)) }
    fields["prometheusMetricsEnabled"] = felix.prometheusMetricsEnabled.map(JSONValue.bool)
    fields["prometheusMetricsHost"] = felix.prometheusMetricsHost.map(JSONValue.string)
    fields["prometheusMetricsPort"] = felix.prometheusMetricsPort.map { .integer(Int64($0)) }
    for (field, value) in felix.others.sorted(by: { $0.key < $1.key }) { fields[field] = json(value) }
    return fields
  }
}

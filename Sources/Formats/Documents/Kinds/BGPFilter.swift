/// Filters of BGP's routes.
import Addresses
import JSON
import Names
import Resources

/// Metrics that both the kernel and BIRD take.
let routePriorities: ClosedRange<Int64> = 1...2_147_483_646

extension FieldReader {
  func bgpFilterSpec() -> BGPFilterSpec {
    var spec = BGPFilterSpec()
    spec.exportV4 = bgpFilterRules("exportV4", .v4)
    spec.importV4 = bgpFilterRules("importV4", .v4)
    spec.exportV6 = bgpFilterRules("exportV6", .v6)
    spec.importV6 = bgpFilterRules("importV6", .v6)
    finish()
    return spec
  }

  private func bgpFilterRules(_ name: String, _ family: IPFamily) -> [BGPFilterSpec.Rule] {
    array(name).compactMap { value, path in reader(value, path)?.bgpFilterRule(family) }
  }

  /// A rule of which any part cannot be read holds nothing but its fault: without a match of its own it would match more than it says.
  private func bgpFilterRule(_ family: IPFamily) -> BGPFilterSpec.Rule {
    let errorsBefore = findings.errors.count
    let action = required("action", fix: "add action: Accept or action: Reject").flatMap {
      choice($0, path("action"), BGPFilterSpec.Action.self)
    }
    var rule = BGPFilterSpec.Rule(action ?? .reject)
    if let value = value("cidr"), value.string != "" {
      rule.cidr = prefix(value, path("cidr"))
      if let cidr = rule.cidr, cidr.family != family {
        findings.error(
          path("cidr"), value, "is \(cidr.family), but the rule is in a list for \(family)",
          fix: "move the rule to the list that ends in \(cidr.family == .v4 ? "V4" : "V6")")
      }
    }
    rule.matchOperator = choiceOrEmpty("matchOperator", BGPFilterSpec.Match.self)
    let hasNetwork = value("cidr").map { $0.string != "" } ?? false
    let hasMatch = value("matchOperator").map { $0.string != "" } ?? false
    if hasNetwork != hasMatch {
      findings.error(
        hasNetwork ? path("cidr") : path("matchOperator"), nil, "stands without \(hasNetwork ? "matchOperator" : "cidr")",
        fix: hasNetwork ? "add matchOperator: Equal, NotEqual, In or NotIn" : "add cidr")
    }
    if let lengths = reader("prefixLength") {
      let range = 0...Int64(family.bits)
      let (min, max) = (lengths.integer("min", in: range).map { UInt8($0) }, lengths.integer("max", in: range).map { UInt8($0) })
      lengths.finish()
      rule.prefixLength = BGPFilterSpec.Lengths(min: min, max: max)
      if !hasNetwork { findings.error(path("prefixLength"), nil, "stands without cidr", fix: "add cidr and matchOperator") }
      if let min, let max, min > max { findings.error(path("prefixLength"), nil, "matches nothing: min \(min) is above max \(max)") }
    }
    rule.source = choiceOrEmpty("source", BGPFilterSpec.Source.self)
    rule.interface = interfacePattern("interface")
    rule.peerType = choiceOrEmpty("peerType", BGPFilterSpec.PeerType.self)
    if let communities = reader("communities") {
      let values = communities.array("values")
      rule.communities = values.compactMap { communities.community($0.value, $0.path) }
      if values.count != 1 {
        findings.error(communities.path("values"), nil, "has \(values.count) elements; exactly 1 is possible", fix: "use a rule for each")
      }
      communities.finish()
    }
    rule.asPathPrefix = array("asPathPrefix").compactMap { asNumber($0.value, $0.path) }
    rule.priority = integer("priority", in: routePriorities).map { Int($0) }
    rule.operations = array("operations", countMax: 10).compactMap { reader($0.value, $0.path)?.bgpFilterOperation() }
    if value("operations") != nil, action == .reject {
      findings.error(path("operations"), nil, "is of no use in a rule that rejects", fix: "remove it, or write action: Accept")
    }
    finish(unknownIsFault: true)
    if findings.errors.count > errorsBefore {
      rule = BGPFilterSpec.Rule(.reject)
      rule.fault = findings.errors[errorsBefore].message
    }
    return rule
  }

  private func bgpFilterOperation() -> BGPFilterSpec.Operation? {
    var operations: [BGPFilterSpec.Operation] = []
    if let reader = reader("addCommunity") {
      if let value = reader.required("value"), let community = reader.community(value, reader.path("value")) {
        operations.append(.addCommunity(community))
      }
      reader.finish(unknownIsFault: true)
    }
    if let reader = reader("prependASPath") {
      let values = reader.array("prefix")
      if values.isEmpty { findings.error(reader.path("prefix"), nil, "is empty", fix: "give 1 to 10 AS numbers") }
      if values.count > 10 { findings.error(reader.path("prefix"), nil, "has \(values.count) elements; at most 10 are allowed") }
      operations.append(.prependASPath(values.compactMap { reader.asNumber($0.value, $0.path) }))
      reader.finish(unknownIsFault: true)
    }
    if let reader = reader("setPriority") {
      if let value = reader.required("value"), let priority = reader.integer(value, reader.path("value"), in: routePriorities) {
        operations.append(.setPriority(Int(priority)))
      }
      reader.finish(unknownIsFault: true)
    }
    let names = ["addCommunity", "prependASPath", "setPriority"].filter { value($0) != nil }
    if names.count != 1 {
      findings.error(
        path, nil, names.isEmpty ? "names no operation" : "holds \(names.joined(separator: " and "))",
        fix: names.isEmpty ? "write addCommunity, prependASPath or setPriority" : "make an element of the list of each")
    }
    finish(unknownIsFault: true)
    return operations.first
  }

  /// The name of an interface, or a pattern with `*`.
  func interfacePattern(_ name: String) -> String? {
    guard let text = word(name) else { return nil }
    return interfacePattern(text, path(name))
  }
  func interfacePattern(_ text: String, _ path: JSONPath) -> String? {
    if let fault = NameRules.interfaceNameFault(text.replacing("*", with: "x")) {
      findings.error(path, .string(text), "is not an interface's name, with * for any characters: \(fault)")
      return nil
    }
    return text
  }

  func community(_ value: JSONValue, _ path: JSONPath) -> CommunityValue? {
    guard let text = string(value, path) else { return nil }
    if let community = CommunityValue(text) { return community }
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let rule =
      switch parts.count {
      case 2 where parts.allSatisfy { UInt64($0) != nil }: "is not a community: each part of aa:nn is 0 to 65535"
      case 3 where parts.allSatisfy { UInt64($0) != nil }: "is not a large community: each part of aa:nn:mm is 0 to 4294967295"
      default: "is not a community"
      }
    findings.error(path, value, rule, fix: "write it like 65000:100 or, with parts beyond 65535, like 65000:100:200")
    return nil
  }
}

extension ResourceCodec {
  static func fields(_ filter: BGPFilterSpec) -> JSONObject {
    var fields = JSONObject()
    fields["exportV4"] = objects(filter.exportV4, rule)
    fields["importV4"] = objects(filter.importV4, rule)
    fields["exportV6"] = objects(filter.exportV6, rule)
    fields["importV6"] = objects(filter.importV6, rule)
    return fields
  }

  private static func rule(_ rule: BGPFilterSpec.Rule, _ fields: inout JSONObject) {
    fields["cidr"] = text(rule.cidr)
    fields["matchOperator"] = word(rule.matchOperator)
    fields["prefixLength"] = object(rule.prefixLength) { lengths, fields in
      fields["min"] = number(lengths.min)
      fields["max"] = number(lengths.max)
    }
    fields["source"] = word(rule.source)
    fields["interface"] = rule.interface.map(JSONValue.string)
    fields["peerType"] = word(rule.peerType)
    if let values = list(rule.communities) { fields["communities"] = ["values": values] }
    fields["asPathPrefix"] = rule.asPathPrefix.isEmpty ? nil : .array(rule.asPathPrefix.map { .integer(Int64($0)) })
    fields["priority"] = number(rule.priority)
    fields["operations"] = objects(rule.operations) { operation, fields in
      switch operation {
      case .addCommunity(let value): fields["addCommunity"] = ["value": .string(value.description)]
      case .prependASPath(let numbers): fields["prependASPath"] = ["prefix": .array(numbers.map { .integer(Int64($0)) })]
      case .setPriority(let priority): fields["setPriority"] = ["value": .integer(Int64(priority))]
      }
    }
    fields["action"] = .string(rule.action.rawValue)
    fields[faultMark] = rule.fault.map(JSONValue.string)
  }
}

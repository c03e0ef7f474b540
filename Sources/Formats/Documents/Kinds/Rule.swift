/// Rules of policies and profiles, with the checks that look at more than one field.
import Addresses
import JSON
import Names
import Resources
import Selectors

extension FieldReader {
  func rules(_ direction: String, isGlobal: Bool) -> [Rule] {
    array(direction, countMax: 1024).map { value, path in
      let errorsBefore = findings.errors.count
      var rule = Rule(.deny)
      if let reader = reader(value, path) { rule = reader.rule(isIngress: direction == "ingress", isGlobal: isGlobal) }
      guard !findings.isStrict, findings.errors.count > errorsBefore else { return rule }
      // Reading: what cannot be enforced denies at its own place, and says why.
      var denied = Rule(.deny)
      denied.annotations = rule.annotations
      // Paths begin at the rule, so that the reason stays the same when the rule moves.
      denied.fault = findings.errors[errorsBefore...].map { error in
        var error = error
        error.path = JSONPath(String(error.path.text.dropFirst(path.text.count).drop { $0 == "." }))
        return error.message
      }.joined(separator: "; ")
      return denied
    }
  }

  func rule(isIngress: Bool, isGlobal: Bool) -> Rule {
    var rule = Rule(.deny)
    if value("action") == nil {
      findings.error(path, nil, "has no action", fix: "add action: Allow, Deny, Log or Pass")
    } else if let action = choice("action", RuleAction.self) {
      rule.action = action
    }
    if let value = value("ipVersion") {
      switch integer(value, path("ipVersion"), in: 4...6) {
      case 4: rule.ipVersion = .v4
      case 6: rule.ipVersion = .v6
      case nil: break
      default: findings.error(path("ipVersion"), value, "is neither 4 nor 6")
      }
    }
    rule.ipProtocol = ipProtocol("protocol")
    rule.notProtocol = ipProtocol("notProtocol")
    rule.icmp = icmp("icmp")
    rule.notICMP = icmp("notICMP")
    if let source = reader("source") { rule.source = source.entity(.source, mayNameServices: isIngress, isGlobal: isGlobal) }
    if let destination = reader("destination") { rule.destination = destination.entity(.destination, mayNameServices: !isIngress, isGlobal: isGlobal) }
    if let metadata = reader("metadata") {
      rule.annotations = metadata.stringMap("annotations")
      metadata.finish()
    }
    rule.http = reader("http").map { $0.httpMatch() }
    finish(unknownIsFault: true)
    check(rule, isIngress: isIngress)
    return rule
  }

  func ipProtocol(_ name: String) -> NetworkProtocol? {
    guard let value = value(name) else { return nil }
    if let number = value.integer.flatMap({ UInt8(exactly: $0) }), number > 0 { return NetworkProtocol(number: number) }
    if let text = value.string, let known = NetworkProtocol(text) { return known }
    let words = ["TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite"]
    findings.error(
      path(name), value, "is not a protocol: \(words.joined(separator: ", ")) or a number from 1 to 255",
      fix: value.string.flatMap { nearest($0, among: words) }.map { "did you mean \($0)?" })
    return nil
  }

  private func icmp(_ name: String) -> ICMPMatch? {
    guard let reader = reader(name) else { return nil }
    let match = ICMPMatch(
      type: reader.integer("type", in: 0...254).map { UInt8($0) }, code: reader.integer("code", in: 0...255).map { UInt8($0) })
    if match.code != nil, match.type == nil { findings.error(path(name), nil, "has a code without a type", fix: "add the type") }
    reader.finish(unknownIsFault: true)
    return match
  }

  private func httpMatch() -> HTTPMatch {
    var match = HTTPMatch()
    for (value, path) in array("methods", countMax: 20) {
      guard let method = string(value, path) else { continue }
      if match.methods.contains(method) { findings.refusal(path, value, "appears twice", fix: "remove it") }
      if method.isEmpty { findings.refusal(path, value, "is no method", fix: "write one, such as GET") }
      match.methods.append(method)
    }
    for (value, path) in array("paths", countMax: 20) {
      guard let reader = reader(value, path) else { continue }
      let (exact, prefix) = (reader.string("exact"), reader.string("prefix"))
      for (name, text) in [("exact", exact), ("prefix", prefix)] {
        guard let text, let fault = Self.httpPathFault(text) else { continue }
        findings.refusal(reader.path(name), .string(text), "is not a path: \(fault)")
      }
      if reader.value("exact") == nil, reader.value("prefix") == nil { findings.error(path, nil, "is empty", fix: "add exact or prefix") }
      if exact != nil, prefix != nil { findings.error(path, nil, "has both exact and prefix", fix: "use two paths") }
      reader.finish(unknownIsFault: true)
      if let path = exact.map({ HTTPMatch.Path.exact($0) }) ?? prefix.map({ .prefix($0) }) { match.paths.append(path) }
    }
    finish(unknownIsFault: true)
    return match
  }
  private static func httpPathFault(_ text: String) -> String? {
    if text.first != "/" { return "it must begin with '/'" }
    return text.first { "?# \t".contains($0) }.map { "'\($0)' is not allowed" }
  }

  private func ports(_ name: String) -> [PortMatch] {
    array(name, countMax: 50).compactMap { value, path in
      switch value {
      case .integer: return integer(value, path, in: 1...65535).map { .port(UInt16($0)) }
      case .string(let text):
        if let match = Self.port(text) {
          // A name by the rules, and in most documents a slip: no endpoint has a port of this name, so the rule would match nothing.
          let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { UInt16($0) }
          if case .named = match, ends.count == 2, let low = ends[0], let high = ends[1] {
            findings.warning(path, value, "is the name of a port, not a range", fix: "a range is written \"\(low):\(high)\"")
          }
          return match
        }
        let isRange = text.contains(":") || text.allSatisfy(\.isNumber)
        findings.error(
          path, value,
          isRange
            ? "is not a port or a range of ports from 1 to 65535, lower end first"
            : "is not a port: \(NameRules.portNameFault(text) ?? "unreadable")",
          fix: "write a number, a range such as 8000:8100, or a port's name")
        return nil
      default:
        findings.error(path, value, "is not a port", fix: "write a number, a range such as 8000:8100, or a port's name")
        return nil
      }
    }
  }
  static func port(_ text: String) -> PortMatch? {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    if parts.count == 2 {
      guard let low = UInt16(parts[0]), let high = UInt16(parts[1]), low >= 1, low <= high else { return nil }
      return .range(low...high)
    }
    if !text.isEmpty, text.utf8.allSatisfy(YAMLScalar.isDigit) { return UInt16(text).flatMap { $0 > 0 ? .port($0) : nil } }
    return NameRules.portNameFault(text) == nil ? .named(text) : nil
  }

  enum Side { case source, destination }

  func entity(_ side: Side, mayNameServices: Bool, isGlobal: Bool) -> EntityRule {
    var entity = EntityRule()
    entity.nets = array("nets", countMax: 256).compactMap { prefix($0.value, $0.path) }
    for (value, path) in array("notNets", countMax: 256) {
      guard let prefix = prefix(value, path) else { continue }
      if prefix.isDefault { findings.refusal(path, value, "leaves no address to match", fix: "remove the rule, or the network") }
      entity.notNets.append(prefix)
    }
    entity.selector = selector("selector", isFault: true)
    entity.notSelector = selector("notSelector", isFault: true)
    entity.namespaceSelector = selector("namespaceSelector", isFault: true)
    for (name, text) in [("selector", entity.selector), ("notSelector", entity.notSelector)] {
      if let text, (try? Selector(parsing: text))?.mentionsGlobal == true {
        findings.error(path(name), .string(text), "holds global()", fix: "move it: namespaceSelector: global()")
      }
    }
    if let text = entity.namespaceSelector, let selector = try? Selector(parsing: text), selector.mentionsGlobal, selector.root != .global {
      findings.error(path("namespaceSelector"), .string(text), "combines global() with something else", fix: "use two rules")
    }
    entity.ports = ports("ports")
    entity.notPorts = ports("notPorts")
    if let accounts = reader("serviceAccounts") {
      entity.serviceAccounts = ServiceAccountMatch(
        names: accounts.strings("names"), selector: accounts.selector("selector", mayBeGlobal: false, isFault: true))
      accounts.finish(unknownIsFault: true)
    }
    if let services = reader("services") {
      let name = services.string("name") ?? ""
      let namespace = services.string("namespace")
      services.finish(unknownIsFault: true)
      entity.services = ServiceMatch(name: name, namespace: namespace)
      let servicesPath = path("services")
      if name.isEmpty { findings.error(servicesPath, nil, "has no name", fix: "add the name of the service") }
      if isGlobal, namespace == nil {
        findings.error(servicesPath, nil, "has no namespace, which a global policy must give", fix: "add it")
      }
      if !mayNameServices {
        findings.error(servicesPath, nil, "stands on the wrong side: services name the source of ingress and the destination of egress")
      }
      var others = entity
      others.services = nil
      others.ports = []
      others.notPorts = []
      if !others.isEmpty { findings.refusal(servicesPath, nil, "cannot be combined with selectors, networks or service accounts") }
      // A service says which ports it is reached at, not from which ports its endpoints speak.
      if side == .destination, !entity.ports.isEmpty || !entity.notPorts.isEmpty {
        findings.refusal(servicesPath, nil, "cannot be combined with ports: the service says which")
      }
    }
    finish(unknownIsFault: true)
    return entity
  }

  /// The checks that look at more than one field of a rule.
  private func check(_ rule: Rule, isIngress: Bool) {
    for (side, entity) in [("source", rule.source), ("destination", rule.destination)] {
      for (name, ports) in [("ports", entity.ports), ("notPorts", entity.notPorts)] where !ports.isEmpty {
        let portsPath = path(side).member(name)
        guard let ipProtocol = rule.ipProtocol else {
          let number = ports.first { if case .range = $0 { true } else { false } }
          if let number {
            findings.error(portsPath, nil, "holds port \(number), but the rule has no protocol", fix: "add protocol: TCP, UDP or SCTP")
          }
          continue
        }
        if !ipProtocol.hasPorts {
          findings.error(portsPath, nil, "cannot be used with protocol \(ipProtocol), which has no ports", fix: "use TCP, UDP or SCTP")
        } else if ipProtocol == .udpLite {
          findings.refusal(portsPath, nil, "cannot be used with protocol UDPLite", fix: "use TCP, UDP or SCTP")
        }
      }
    }
    for (name, match) in [("icmp", rule.icmp), ("notICMP", rule.notICMP)] where match != nil {
      if rule.ipProtocol != .icmp, rule.ipProtocol != .icmpv6 {
        findings.error(path(name), nil, "needs protocol ICMP or ICMPv6", fix: "add protocol: ICMP")
      }
    }
    for (name, ipProtocol) in [("protocol", rule.ipProtocol), ("notProtocol", rule.notProtocol)] {
      if ipProtocol == .icmp, rule.ipVersion == .v6 { findings.refusal(path(name), "ICMP", "needs ipVersion 4", fix: "write ICMPv6") }
      if ipProtocol == .icmpv6, rule.ipVersion == .v4 { findings.refusal(path(name), "ICMPv6", "needs ipVersion 6", fix: "write ICMP") }
    }
    if rule.http != nil {
      if !isIngress { findings.refusal(path("http"), nil, "stands in an egress rule; only ingress rules match requests", fix: "remove it") }
      if rule.action != .allow {
        findings.refusal(path("http"), nil, "needs action Allow", fix: "remove it, or allow the requests that may pass")
      }
      if let ipProtocol = rule.ipProtocol, ipProtocol != .tcp {
        findings.refusal(path("http"), nil, "needs protocol TCP, or none", fix: "write protocol: TCP")
      }
      findings.warning(
        path("http"), nil, "cannot be enforced: packets are not matched by HTTP request, and the rule denies",
        fix: "remove it, or match by port")
    }
    var family = rule.ipVersion
    for (side, entity) in [("source", rule.source), ("destination", rule.destination)] {
      for (name, nets) in [("nets", entity.nets), ("notNets", entity.notNets)] {
        for (index, prefix) in nets.enumerated() {
          if let family, prefix.family != family {
            let reason = rule.ipVersion == nil ? "the rule already has an \(family) network" : "the rule is for \(family)"
            findings.refusal(
              path(side).member(name).element(index), .string("\(prefix)"), "is \(prefix.family), but \(reason)",
              fix: "use one rule per family")
          }
          family = family ?? prefix.family
        }
      }
    }
  }
}

extension ResourceCodec {
  static func word(_ ipProtocol: NetworkProtocol) -> JSONValue {
    let text = ipProtocol.description
    return Int64(text).map(JSONValue.integer) ?? .string(text)
  }

  static func rules(_ rules: [Rule]) -> JSONValue? { rules.isEmpty ? nil : .array(rules.map { .object(rule($0)) }) }

  private static func rule(_ rule: Rule) -> JSONObject {
    var fields = JSONObject()
    fields["action"] = .string(rule.action.rawValue)
    fields["ipVersion"] = number(rule.ipVersion?.rawValue)
    fields["protocol"] = rule.ipProtocol.map(word)
    fields["notProtocol"] = rule.notProtocol.map(word)
    fields["icmp"] = rule.icmp.map(icmp)
    fields["notICMP"] = rule.notICMP.map(icmp)
    let (source, destination) = (entity(rule.source), entity(rule.destination))
    fields["http"] = rule.http.map(http)
    if !source.isEmpty { fields["source"] = .object(source) }
    if !destination.isEmpty { fields["destination"] = .object(destination) }
    if let annotations = map(rule.annotations) { fields["metadata"] = ["annotations": annotations] }
    fields[faultMark] = rule.fault.map(JSONValue.string)
    return fields
  }

  private static func icmp(_ match: ICMPMatch) -> JSONValue {
    var fields = JSONObject()
    fields["type"] = number(match.type)
    fields["code"] = number(match.code)
    return .object(fields)
  }

  private static func http(_ match: HTTPMatch) -> JSONValue {
    var fields = JSONObject()
    fields["methods"] = list(match.methods)
    if !match.paths.isEmpty {
      fields["paths"] = .array(
        match.paths.map { path in
          switch path {
          case .exact(let text): ["exact": .string(text)]
          case .prefix(let text): ["prefix": .string(text)]
          }
        })
    }
    return .object(fields)
  }

  static func port(_ port: PortMatch) -> JSONValue {
    if case .range(let range) = port, range.count == 1 { return .integer(Int64(range.lowerBound)) }
    return .string(port.description)
  }

  private static func entity(_ entity: EntityRule) -> JSONObject {
    func ports(_ ports: [PortMatch]) -> JSONValue? { ports.isEmpty ? nil : .array(ports.map(port)) }
    var fields = JSONObject()
    fields["nets"] = list(entity.nets)
    fields["notNets"] = list(entity.notNets)
    fields["selector"] = entity.selector.map(JSONValue.string)
    fields["notSelector"] = entity.notSelector.map(JSONValue.string)
    fields["namespaceSelector"] = entity.namespaceSelector.map(JSONValue.string)
    fields["ports"] = ports(entity.ports)
    fields["notPorts"] = ports(entity.notPorts)
    if let accounts = entity.serviceAccounts {
      var inner = JSONObject()
      inner["names"] = list(accounts.names)
      inner["selector"] = accounts.selector.map(JSONValue.string)
      fields["serviceAccounts"] = .object(inner)
    }
    if let services = entity.services {
      var inner = JSONObject()
      inner["name"] = .string(services.name)
      inner["namespace"] = services.namespace.map(JSONValue.string)
      fields["services"] = .object(inner)
    }
    return fields
  }
}

/// StagedKubernetesNetworkPolicy: the fields of a Kubernetes NetworkPolicy (networking.k8s.io/v1), by Kubernetes' own rules.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
  func stagedKubernetesPolicySpec() -> StagedKubernetesPolicySpec {
    var spec = StagedKubernetesPolicySpec()
    spec.stagedAction = stagedAction(besides: [])
    spec.podSelector = reader("podSelector").map { $0.labelSelector() }
    for (value, path) in array("policyTypes", countMax: 2) {
      guard let type = choice(value, path, Direction.self) else { continue }
      if spec.policyTypes.contains(type) { findings.refusal(path, value, "appears twice") } else { spec.policyTypes.append(type) }
    }
    spec.ingress = array("ingress").compactMap { reader($0.value, $0.path)?.kubernetesRule(peers: "from") }
    spec.egress = array("egress").compactMap { reader($0.value, $0.path)?.kubernetesRule(peers: "to") }
    finish()
    return spec
  }

  private func kubernetesRule(peers: String) -> StagedKubernetesPolicySpec.Rule {
    var rule = StagedKubernetesPolicySpec.Rule()
    rule.ports = array("ports").compactMap { reader($0.value, $0.path)?.kubernetesPort() }
    rule.peers = array(peers).compactMap { reader($0.value, $0.path)?.kubernetesPeer() }
    finish()
    return rule
  }

  private func kubernetesPort() -> StagedKubernetesPolicySpec.Port {
    var result = StagedKubernetesPolicySpec.Port()
    result.ipProtocol = ipProtocol("protocol")
    if let ipProtocol = result.ipProtocol, ![.tcp, .udp, .sctp].contains(ipProtocol) {
      findings.refusal(path("protocol"), value("protocol"), "is none of TCP, UDP, SCTP")
    }
    switch value("port") {
    case .integer?: result.port = integer("port", in: 1...65535).map { .port(UInt16($0)) }
    case .string(let name)?:
      result.port = .named(name)
      if let fault = NameRules.kubernetesPortNameFault(name) {
        findings.refusal(
          path("port"), .string(name), "is not a port's name: \(fault)", fix: UInt16(name).map { "write \($0) without quotes" })
      }
    case let value?: findings.error(path("port"), value, "is not a port", fix: "write a number, or a port's name")
    case nil: break
    }
    if let end = integer("endPort", in: 1...65535) {
      result.endPort = UInt16(end)
      if case .range(let range)? = result.port {
        if end < range.lowerBound { findings.refusal(path("endPort"), .integer(end), "is less than port \(range.lowerBound)") }
      } else {
        findings.refusal(path("endPort"), .integer(end), "needs a port that is a number", fix: "add the first port of the range")
      }
    }
    finish()
    return result
  }

  private func kubernetesPeer() -> StagedKubernetesPolicySpec.Peer {
    var peer = StagedKubernetesPolicySpec.Peer()
    peer.podSelector = reader("podSelector").map { $0.labelSelector() }
    peer.namespaceSelector = reader("namespaceSelector").map { $0.labelSelector() }
    if let block = reader("ipBlock") {
      let cidr = block.value("cidr").flatMap { block.prefix($0, block.path("cidr")) }
      if block.value("cidr") == nil { findings.error(block.path, nil, "has no cidr", fix: "add one") }
      var except: [IPPrefix] = []
      for (value, path) in block.array("except") {
        guard let prefix = block.prefix(value, path) else { continue }
        if let cidr, !(cidr.contains(prefix) && cidr != prefix) {
          findings.refusal(path, value, "is not a part of \(cidr)")
        }
        except.append(prefix)
      }
      block.finish()
      peer.ipBlock = cidr.map { .init(cidr: $0, except: except) }
      if value("podSelector") != nil || value("namespaceSelector") != nil {
        findings.refusal(path("ipBlock"), nil, "cannot be combined with selectors", fix: "use two peers")
      }
    }
    if ["podSelector", "namespaceSelector", "ipBlock"].allSatisfy({ value($0) == nil }) {
      findings.refusal(path, nil, "names no peer", fix: "add podSelector, namespaceSelector or ipBlock")
    }
    finish()
    return peer
  }

  func labelSelector() -> LabelSelector {
    var selector = LabelSelector()
    selector.matchLabels = labels("matchLabels")
    for (value, path) in array("matchExpressions") {
      guard let reader = reader(value, path) else { continue }
      let key = reader.string("key")
      let word = reader.choice("operator", LabelSelector.Requirement.Operator.self)
      let values = reader.strings("values")
      if let key, let fault = NameRules.labelKeyFault(key) {
        findings.refusal(reader.path("key"), .string(key), "is not a label: \(fault)")
      }
      for missing in ["key", "operator"] where reader.value(missing) == nil { findings.refusal(path, nil, "has no \(missing)", fix: "add it") }
      for (index, text) in values.enumerated() {
        guard let fault = NameRules.labelValueFault(text) else { continue }
        findings.refusal(reader.path("values").element(index), .string(text), "is not a label's value: \(fault)")
      }
      if let word {
        let takesValues = word == .isIn || word == .notIn
        if takesValues, values.isEmpty {
          findings.refusal(reader.path("values"), nil, "must not be empty with operator \(word.rawValue)", fix: "add at least one value")
        }
        if !takesValues, !values.isEmpty {
          findings.refusal(reader.path("values"), nil, "must be empty with operator \(word.rawValue)", fix: "remove them")
        }
      }
      reader.finish()
      if let key, let word { selector.matchExpressions.append(.init(key: key, word, values: values)) }
    }
    finish()
    return selector
  }
}

extension ResourceCodec {
  static func fields(_ spec: StagedKubernetesPolicySpec) -> JSONObject {
    var fields = JSONObject()
    fields["stagedAction"] = .string(spec.stagedAction.rawValue)
    fields["podSelector"] = spec.podSelector.map(labelSelector)
    fields["policyTypes"] = list(spec.policyTypes.map(\.rawValue))
    if !spec.ingress.isEmpty { fields["ingress"] = .array(spec.ingress.map { kubernetesRule($0, peers: "from") }) }
    if !spec.egress.isEmpty { fields["egress"] = .array(spec.egress.map { kubernetesRule($0, peers: "to") }) }
    return fields
  }

  private static func kubernetesRule(_ rule: StagedKubernetesPolicySpec.Rule, peers: String) -> JSONValue {
    var fields = JSONObject()
    if !rule.ports.isEmpty {
      fields["ports"] = .array(
        rule.ports.map { port in
          var inner = JSONObject()
          inner["protocol"] = port.ipProtocol.map(word)
          inner["port"] = port.port.map { self.port($0) }
          inner["endPort"] = number(port.endPort)
          return .object(inner)
        })
    }
    if !rule.peers.isEmpty {
      fields[peers] = .array(
        rule.peers.map { peer in
          var inner = JSONObject()
          inner["podSelector"] = peer.podSelector.map(labelSelector)
          inner["namespaceSelector"] = peer.namespaceSelector.map(labelSelector)
          if let block = peer.ipBlock {
            var fields = JSONObject()
            fields["cidr"] = .string(block.cidr.description)
            fields["except"] = list(block.except)
            inner["ipBlock"] = .object(fields)
          }
          return .object(inner)
        })
    }
    return .object(fields)
  }

  static func labelSelector(_ selector: LabelSelector) -> JSONValue {
    var fields = JSONObject()
    fields["matchLabels"] = map(selector.matchLabels)
    if !selector.matchExpressions.isEmpty {
      fields["matchExpressions"] = .array(
        selector.matchExpressions.map { requirement in
          var inner = JSONObject()
          inner["key"] = .string(requirement.key)
          inner["operator"] = .string(requirement.operator.rawValue)
          inner["values"] = list(requirement.values)
          return .object(inner)
        })
    }
    return .object(fields)
  }
}

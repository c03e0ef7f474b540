/// What holds for BGP on all nodes, or on one.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
  func bgpConfigurationSpec() -> BGPConfigurationSpec {
    var spec = BGPConfigurationSpec(
      nodeToNodeMeshEnabled: bool("nodeToNodeMeshEnabled"), asNumber: asNumber("asNumber"), listenPort: port("listenPort"))
    spec.logSeverityScreen = logLevel("logSeverityScreen", among: ["Debug", "Info", "Warning", "Error", "Fatal"])
    spec.serviceClusterIPs = serviceNetworks("serviceClusterIPs")
    spec.serviceExternalIPs = serviceNetworks("serviceExternalIPs")
    spec.serviceLoadBalancerIPs = serviceNetworks("serviceLoadBalancerIPs")
    spec.serviceLoadBalancerAggregation = choiceOrEmpty("serviceLoadBalancerAggregation", EnabledOrDisabled.self)
    readCommunities(&spec)
    spec.nodeMeshPassword = password("nodeMeshPassword")
    spec.nodeMeshMaxRestartTime = restartTime("nodeMeshMaxRestartTime")
    if spec.nodeToNodeMeshEnabled == false {
      for name in ["nodeMeshPassword", "nodeMeshMaxRestartTime"] where value(name) != nil {
        findings.refusal(path(name), nil, "is of no use without the mesh", fix: "remove it, or write nodeToNodeMeshEnabled: true")
      }
    }
    spec.bindMode = choiceOrEmpty("bindMode", BGPConfigurationSpec.BindMode.self)
    for (value, path) in array("ignoredInterfaces") {
      guard let text = string(value, path), let pattern = interfacePattern(text, path) else { continue }
      if pattern.allSatisfy({ $0 == "*" }) {
        findings.refusal(path, value, "would ignore every interface", fix: "write a part of the names, too, such as eth*")
      }
      spec.ignoredInterfaces.append(pattern)
    }
    spec.localWorkloadPeeringIPV4 = ipv4("localWorkloadPeeringIPV4")
    spec.localWorkloadPeeringIPV6 = ipv6("localWorkloadPeeringIPV6")
    spec.programClusterRoutes = choiceOrEmpty("programClusterRoutes", BGPConfigurationSpec.ClusterRoutes.self)
    spec.ipv4NormalRoutePriority = integer("ipv4NormalRoutePriority", in: routePriorities).map { Int($0) }
    spec.ipv6NormalRoutePriority = integer("ipv6NormalRoutePriority", in: routePriorities).map { Int($0) }
    warnUnused(
      "logSeverityScreen", "serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs", "serviceLoadBalancerAggregation",
      "communities", "prefixAdvertisements", "nodeMeshPassword", "nodeMeshMaxRestartTime", "bindMode", "ignoredInterfaces",
      "localWorkloadPeeringIPV4", "localWorkloadPeeringIPV6")
    finish()
    return spec
  }

  /// `[{cidr: 10.96.0.0/12}]`; elements without a network mean nothing, in Calico too.
  private func serviceNetworks(_ name: String) -> [IPPrefix] {
    array(name).compactMap { value, path in
      guard let reader = reader(value, path) else { return nil }
      let network = reader.value("cidr").flatMap { $0.string == "" ? nil : reader.prefix($0, reader.path("cidr")) }
      reader.finish()
      return network
    }
  }

  private func readCommunities(_ spec: inout BGPConfigurationSpec) {
    var names: Set<String> = []
    for (value, path) in array("communities", countMax: 500) {
      guard let reader = reader(value, path) else { continue }
      let name = reader.required("name").flatMap { reader.string($0, reader.path("name")) }
      let value = reader.required("value").flatMap { reader.community($0, reader.path("value")) }
      reader.finish()
      if let name {
        if let fault = NameRules.dnsSubdomainFault(name) {
          findings.refusal(reader.path("name"), .string(name), "is not a name: \(fault)")
        }
        if !names.insert(name).inserted { findings.refusal(reader.path("name"), .string(name), "names two communities") }
      }
      if let name, let value { spec.communities.append(.init(name: name, value: value)) }
    }
    var used: Set<String> = []
    for (value, path) in array("prefixAdvertisements", countMax: 500) {
      guard let reader = reader(value, path) else { continue }
      let cidr = reader.required("cidr").flatMap { reader.prefix($0, reader.path("cidr")) }
      let elements = reader.array("communities", countMax: 50)
      if elements.isEmpty { findings.refusal(reader.path("communities"), nil, "is empty", fix: "name a community or give a value") }
      var communities: [String] = []
      for (value, path) in elements {
        guard let text = reader.string(value, path) else { continue }
        if text.contains(":") {
          if reader.community(value, path) != nil { communities.append(text) }
        } else {
          used.insert(text)
          if names.contains(text) {
            communities.append(text)
          } else {
            findings.error(
              path, value, "names no community of spec.communities",
              fix: nearest(text, among: names).map { "did you mean \($0)?" } ?? "define it there, or write its value, such as 65000:100")
          }
        }
      }
      reader.finish()
      if let cidr { spec.prefixAdvertisements.append(.init(cidr: cidr, communities: communities)) }
    }
    if !names.isEmpty, value("prefixAdvertisements")?.array?.isEmpty ?? true {
      findings.refusal(path("communities"), nil, "are used nowhere", fix: "add prefixAdvertisements that name them, or remove them")
    } else {
      for name in names.subtracting(used).sorted() { findings.warning(path("communities"), .string(name), "is used nowhere") }
    }
  }

  /// RFC 4724 has twelve bits for it.
  func restartTime(_ name: String) -> Duration? {
    guard let duration = duration(name) else { return nil }
    if duration > .seconds(4095) {
      findings.refusal(path(name), object[name], "is too long: BGP can say at most 4095 seconds", fix: "write 4095s or less")
    }
    return duration
  }

  /// `{secretKeyRef: {name: …, key: …}}`
  func password(_ name: String) -> SecretKeyRef? {
    guard let reader = reader(name) else { return nil }
    guard let inner = reader.reader("secretKeyRef") else {
      if reader.value("secretKeyRef") == nil {
        findings.refusal(path(name), nil, "names no secret", fix: "add secretKeyRef with name and key")
      }
      reader.finish()
      return nil
    }
    let secret = inner.required("name").flatMap { inner.string($0, inner.path("name")) }
    let key = inner.required("key").flatMap { inner.string($0, inner.path("key")) }
    let optional = inner.bool("optional")
    inner.finish()
    reader.finish()
    guard let secret, let key else { return nil }
    return SecretKeyRef(name: secret, key: key, optional: optional)
  }

  /// A level of logging, in any case: that is how Calico reads them.
  func logLevel(_ name: String, among words: [String]) -> String? {
    guard let text = word(name) else { return nil }
    if let level = words.first(where: { $0.lowercased() == text.lowercased() }) {
      if level != text { findings.refusal(path(name), .string(text), "is not written that way", fix: "write \(level)") }
      return text
    }
    findings.refusal(
      path(name), .string(text), "is none of \(words.joined(separator: ", "))", fix: nearest(text, among: words).map { "did you mean \($0)?" })
    return text
  }

  func ipv4(_ name: String) -> IPv4Address? {
    guard let text = word(name) else { return nil }
    if let address = IPv4Address(text) { return address }
    findings.error(path(name), .string(text), "is not an IPv4 address")
    return nil
  }
  func ipv6(_ name: String) -> IPv6Address? {
    guard let text = word(name) else { return nil }
    if let address = IPv6Address(text) { return address }
    findings.error(path(name), .string(text), "is not an IPv6 address")
    return nil
  }
}

extension ResourceCodec {
  static func fields(_ bgp: BGPConfigurationSpec) -> JSONObject {
    var fields = JSONObject()
    fields["logSeverityScreen"] = bgp.logSeverityScreen.map(JSONValue.string)
    fields["nodeToNodeMeshEnabled"] = bgp.nodeToNodeMeshEnabled.map(JSONValue.bool)
    fields["asNumber"] = number(bgp.asNumber)
    fields["serviceClusterIPs"] = objects(bgp.serviceClusterIPs) { $1["cidr"] = text($0) }
    fields["serviceExternalIPs"] = objects(bgp.serviceExternalIPs) { $1["cidr"] = text($0) }
    fields["serviceLoadBalancerIPs"] = objects(bgp.serviceLoadBalancerIPs) { $1["cidr"] = text($0) }
    fields["serviceLoadBalancerAggregation"] = word(bgp.serviceLoadBalancerAggregation)
    fields["communities"] = objects(bgp.communities) { community, fields in
      fields["name"] = .string(community.name)
      fields["value"] = text(community.value)
    }
    fields["prefixAdvertisements"] = objects(bgp.prefixAdvertisements) { advertisement, fields in
      fields["cidr"] = text(advertisement.cidr)
      fields["communities"] = list(advertisement.communities)
    }
    fields["listenPort"] = number(bgp.listenPort)
    fields["nodeMeshPassword"] = password(bgp.nodeMeshPassword)
    fields["nodeMeshMaxRestartTime"] = duration(bgp.nodeMeshMaxRestartTime)
    fields["bindMode"] = word(bgp.bindMode)
    fields["ignoredInterfaces"] = list(bgp.ignoredInterfaces)
    fields["localWorkloadPeeringIPV4"] = text(bgp.localWorkloadPeeringIPV4)
    fields["localWorkloadPeeringIPV6"] = text(bgp.localWorkloadPeeringIPV6)
    fields["programClusterRoutes"] = word(bgp.programClusterRoutes)
    fields["ipv4NormalRoutePriority"] = number(bgp.ipv4NormalRoutePriority)
    fields["ipv6NormalRoutePriority"] = number(bgp.ipv6NormalRoutePriority)
    return fields
  }

  static func password(_ secret: SecretKeyRef?) -> JSONValue? {
    object(secret) { secret, fields in
      var inner = JSONObject()
      inner["name"] = .string(secret.name)
      inner["key"] = .string(secret.key)
      inner["optional"] = secret.optional.map(JSONValue.bool)
      fields["secretKeyRef"] = .object(inner)
    }
  }
}

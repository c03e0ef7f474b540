/// Resources to documents, written over the old document so that nothing in it is lost that we do not understand.
///
/// The rule is a three-way comparison: where the old document, as we read it, says the same as the new resource, the old text stands word
/// for word, unreadable parts included; where we know a field and it changed, the new one stands; what we do not know stays.
import Addresses
import JSON
import Resources

extension ResourceCodec {
  /// The document of a resource. `old` is the document it replaces, if there is one.
  public static func encode(_ resource: Resource, onto old: JSONValue? = nil) -> JSONValue {
    let plain = plain(resource)
    guard let old, let before = try? decodeLenient(kind: resource.kind, value: old) else { return strip(plain) }
    return merge(plain, onto: old, readAs: Self.plain(before))
  }

  /// Marks a rule that could not be read, so that two of them are the same only if they fail for the same reason. Never written.
  static let faultMark = "\u{0}fault"

  private static func merge(_ new: JSONValue, onto old: JSONValue, readAs before: JSONValue) -> JSONValue {
    if new == before { return old }
    switch (new, old, before) {
    case (.object(let new), .object(let old), .object(let before)): return .object(merge(new, onto: old, readAs: before))
    case (.array(let new), .array(let old), .array(let before)) where old.count == before.count:
      return .array(merge(new, onto: old, readAs: before))
    default: return strip(new)
    }
  }

  // Sets of networks have many thousands of elements and label maps may be as large as the datastore takes: both merges are linear.

  private static func merge(_ new: JSONObject, onto old: JSONObject, readAs before: JSONObject) -> JSONObject {
    func byName(_ object: JSONObject) -> [String: JSONValue] {
      Dictionary(object.members.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
    }
    let (newValues, oldValues, beforeValues) = (byName(new), byName(old), byName(before))
    var members: [JSONObject.Member] = []
    for member in old.members {
      let beforeValue = beforeValues[member.name]
      guard let value = newValues[member.name], member.name != faultMark else {
        if beforeValue == nil { members.append(member) }
        continue
      }
      if let beforeValue {
        members.append(JSONObject.Member(member.name, merge(value, onto: member.value, readAs: beforeValue)))
      } else if member.value.object != nil, value.object != nil {
        members.append(JSONObject.Member(member.name, merge(value, onto: member.value, readAs: .object(JSONObject()))))
      } else {
        members.append(JSONObject.Member(member.name, strip(value)))
      }
    }
    for member in new.members where member.name != faultMark && oldValues[member.name] == nil {
      members.append(JSONObject.Member(member.name, strip(member.value)))
    }
    return JSONObject(members)
  }

  private static func merge(_ new: [JSONValue], onto old: [JSONValue], readAs before: [JSONValue]) -> [JSONValue] {
    var isFree = [Bool](repeating: true, count: before.count)
    // Where each value stood; the places are used up from the first on.
    var places: [JSONValue: ArraySlice<Int>] = [:]
    for (index, value) in before.enumerated() { places[value, default: []].append(index) }
    let present = Set(new)
    return new.enumerated().map { index, element in
      // The same element may have moved; only one that is equal, or in the same place of a list as long as before, inherits.
      var match = index < before.count && isFree[index] && before[index] == element ? index : nil
      if match == nil {
        while let place = places[element]?.first, !isFree[place] { places[element]!.removeFirst() }
        match = places[element]?.first
      }
      if let match {
        isFree[match] = false
        return old[match]
      }
      if new.count == before.count, element.object != nil, old[index].object != nil, places[element] == nil,
        !present.contains(before[index])
      {
        isFree[index] = false
        return merge(element, onto: old[index], readAs: before[index])
      }
      return strip(element)
    }
  }

  private static func strip(_ value: JSONValue) -> JSONValue {
    switch value {
    case .object(let object):
      .object(JSONObject(object.members.filter { $0.name != faultMark }.map { JSONObject.Member($0.name, strip($0.value)) }))
    case .array(let elements): .array(elements.map(strip))
    default: value
    }
  }

  // MARK: Our own form

  static func plain(_ resource: Resource) -> JSONValue {
    var document = JSONObject()
    document["apiVersion"] = .string(apiVersion)
    document["kind"] = .string(resource.kind.rawValue)
    let metadata = resource.metadata
    var fields = JSONObject()
    fields["name"] = .string(metadata.name)
    fields["namespace"] = metadata.namespace.map(JSONValue.string)
    fields["uid"] = metadata.uid.map(JSONValue.string)
    fields["resourceVersion"] = metadata.resourceVersion.map(JSONValue.string)
    fields["creationTimestamp"] = metadata.creationTimestamp.map(JSONValue.string)
    fields["labels"] = map(metadata.labels)
    fields["annotations"] = map(metadata.annotations)
    document["metadata"] = .object(fields)
    document["spec"] = .object(spec(resource.spec))
    return .object(document)
  }

  private static func map(_ map: [String: String]) -> JSONValue? {
    map.isEmpty ? nil : .object(JSONObject(map.sorted { $0.key < $1.key }.map { JSONObject.Member($0.key, .string($0.value)) }))
  }
  private static func list(_ elements: some Collection<some CustomStringConvertible>) -> JSONValue? {
    elements.isEmpty ? nil : .array(elements.map { .string($0.description) })
  }
  private static func text(_ text: String) -> JSONValue? { text.isEmpty ? nil : .string(text) }
  private static func text(_ value: (some CustomStringConvertible)?) -> JSONValue? { value.map { .string($0.description) } }
  private static func number(_ value: (some BinaryInteger)?) -> JSONValue? { value.map { .integer(Int64($0)) } }
  private static func number(_ value: Double?) -> JSONValue? {
    value.map { Int64(exactly: $0).map(JSONValue.integer) ?? .double($0) }
  }
  private static func flag(_ value: Bool) -> JSONValue? { value ? true : nil }

  private static func spec(_ spec: Resource.Spec) -> JSONObject {
    var fields = JSONObject()
    switch spec {
    case .networkPolicy(let policy), .globalNetworkPolicy(let policy):
      fields["tier"] = .string(policy.tier)
      fields["order"] = number(policy.order)
      fields["selector"] = text(policy.selector)
      fields["namespaceSelector"] = policy.namespaceSelector.map(JSONValue.string)
      fields["serviceAccountSelector"] = policy.serviceAccountSelector.map(JSONValue.string)
      fields["types"] = list(policy.types.map(\.rawValue))
      fields["ingress"] = rules(policy.ingress)
      fields["egress"] = rules(policy.egress)
      fields["doNotTrack"] = flag(policy.doNotTrack)
      fields["preDNAT"] = flag(policy.preDNAT)
      fields["applyOnForward"] = flag(policy.applyOnForward)
    case .profile(let profile):
      fields["ingress"] = rules(profile.ingress)
      fields["egress"] = rules(profile.egress)
      fields["labelsToApply"] = map(profile.labelsToApply)
    case .tier(let tier):
      fields["order"] = number(tier.order)
      fields["defaultAction"] = .string(tier.defaultAction.rawValue)
    case .networkSet(let set), .globalNetworkSet(let set):
      fields["nets"] = list(set.nets)
    case .node(let node):
      if let bgp = node.bgp {
        var inner = JSONObject()
        inner["asNumber"] = number(bgp.asNumber)
        inner["ipv4Address"] = text(bgp.ipv4Address)
        inner["ipv6Address"] = text(bgp.ipv6Address)
        inner["routeReflectorClusterID"] = text(bgp.routeReflectorClusterID)
        fields["bgp"] = .object(inner)
      }
      if !node.addresses.isEmpty {
        fields["addresses"] = .array(
          node.addresses.map { address in
            var inner = JSONObject()
            inner["address"] = .string(address.address)
            inner["type"] = address.type.map(JSONValue.string)
            return .object(inner)
          })
      }
    case .ipPool(let pool):
      fields["cidr"] = .string(pool.cidr.description)
      fields["blockSize"] = number(pool.blockSize)
      fields["ipipMode"] = .string(pool.ipipMode.rawValue)
      fields["vxlanMode"] = .string(pool.vxlanMode.rawValue)
      fields["natOutgoing"] = flag(pool.natOutgoing)
      fields["disabled"] = flag(pool.disabled)
      fields["disableBGPExport"] = flag(pool.disableBGPExport)
      fields["nodeSelector"] = .string(pool.nodeSelector)
      fields["allowedUses"] = list(IPPoolSpec.Use.allCases.filter(pool.allowedUses.contains).map(\.rawValue))
      fields["assignmentMode"] = .string(pool.assignmentMode.rawValue)
    case .bgpConfiguration(let bgp):
      fields["logSeverityScreen"] = bgp.logSeverityScreen.map(JSONValue.string)
      fields["nodeToNodeMeshEnabled"] = bgp.nodeToNodeMeshEnabled.map(JSONValue.bool)
      fields["asNumber"] = number(bgp.asNumber)
      fields["listenPort"] = number(bgp.listenPort)
    case .bgpPeer(let peer):
      fields["node"] = peer.node.map(JSONValue.string)
      fields["nodeSelector"] = peer.nodeSelector.map(JSONValue.string)
      if let address = peer.peerIP {
        let bare = address.description
        fields["peerIP"] = .string(peer.peerPort.map { address.family == .v6 ? "[\(bare)]:\($0)" : "\(bare):\($0)" } ?? bare)
      }
      fields["peerSelector"] = peer.peerSelector.map(JSONValue.string)
      fields["asNumber"] = number(peer.asNumber)
      fields["keepOriginalNextHop"] = flag(peer.keepOriginalNextHop)
      fields["nextHopMode"] = peer.nextHopMode.map { .string($0.rawValue) }
      fields["sourceAddress"] = .string(peer.sourceAddress.rawValue)
      fields["maxRestartTime"] = peer.maxRestartTimeSeconds.map { .string("\($0)s") }
      fields["numAllowedLocalASNumbers"] = number(peer.numAllowedLocalASNumbers)
      fields["ttlSecurity"] = number(peer.ttlSecurityHops)
    case .felixConfiguration(let felix):
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
    case .clusterInformation(let cluster):
      fields["clusterGUID"] = cluster.clusterGUID.map(JSONValue.string)
      fields["clusterType"] = cluster.clusterType.map(JSONValue.string)
      fields["calicoVersion"] = cluster.calicoVersion.map(JSONValue.string)
      fields["datastoreReady"] = cluster.datastoreReady.map(JSONValue.bool)
    case .workloadEndpoint(let endpoint):
      fields["orchestrator"] = text(endpoint.orchestrator)
      fields["workload"] = text(endpoint.workload)
      fields["node"] = text(endpoint.node)
      fields["containerID"] = text(endpoint.containerID)
      fields["pod"] = text(endpoint.pod)
      fields["endpoint"] = text(endpoint.endpoint)
      fields["serviceAccountName"] = text(endpoint.serviceAccountName)
      fields["ipNetworks"] = list(endpoint.ipNetworks)
      fields["ipv4Gateway"] = text(endpoint.ipv4Gateway)
      fields["ipv6Gateway"] = text(endpoint.ipv6Gateway)
      fields["profiles"] = list(endpoint.profiles)
      fields["interfaceName"] = text(endpoint.interfaceName)
      fields["mac"] = text(endpoint.mac)
      if !endpoint.ports.isEmpty {
        fields["ports"] = .array(
          endpoint.ports.map { port in
            ["name": .string(port.name), "protocol": word(port.ipProtocol), "port": .integer(Int64(port.port))]
          })
      }
      fields["allowSpoofedSourcePrefixes"] = list(endpoint.allowSpoofedSourcePrefixes)
    }
    return fields
  }

  private static func word(_ ipProtocol: NetworkProtocol) -> JSONValue {
    let text = ipProtocol.description
    return Int64(text).map(JSONValue.integer) ?? .string(text)
  }

  private static func rules(_ rules: [Rule]) -> JSONValue? { rules.isEmpty ? nil : .array(rules.map { .object(rule($0)) }) }

  private static func rule(_ rule: Rule) -> JSONObject {
    var fields = JSONObject()
    fields["action"] = .string(rule.action.rawValue)
    fields["ipVersion"] = number(rule.ipVersion?.rawValue)
    fields["protocol"] = rule.ipProtocol.map(word)
    fields["notProtocol"] = rule.notProtocol.map(word)
    fields["icmp"] = rule.icmp.map(icmp)
    fields["notICMP"] = rule.notICMP.map(icmp)
    let (source, destination) = (entity(rule.source), entity(rule.destination))
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

  private static func entity(_ entity: EntityRule) -> JSONObject {
    func ports(_ ports: [PortMatch]) -> JSONValue? {
      if ports.isEmpty { return nil }
      return .array(
        ports.map { port in
          if case .range(let range) = port, range.count == 1 { return .integer(Int64(range.lowerBound)) }
          return .string(port.description)
        })
    }
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

/// Nodes, pools, endpoints and the configuration of Felix and BGP from their documents.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
  func nodeSpec() -> NodeSpec {
    var spec = NodeSpec()
    if let reader = reader("bgp") {
      if reader.object.isEmpty { findings.refusal(path("bgp"), nil, "is empty", fix: "remove it, or give an address") }
      var bgp = NodeSpec.BGP()
      bgp.asNumber = reader.asNumber("asNumber")
      bgp.ipv4Address = reader.interfaceAddress("ipv4Address", .v4)
      bgp.ipv6Address = reader.interfaceAddress("ipv6Address", .v6)
      if let value = reader.value("routeReflectorClusterID"), let text = reader.string(value, reader.path("routeReflectorClusterID")) {
        bgp.routeReflectorClusterID = IPv4Address(text)
        if bgp.routeReflectorClusterID == nil {
          findings.error(reader.path("routeReflectorClusterID"), value, "is not of the form of an IPv4 address, such as 244.0.0.1")
        }
      }
      reader.finish(inert: ["ipv4IPIPTunnelAddr"])
      spec.bgp = bgp
    }
    for (value, path) in array("addresses") {
      guard let reader = reader(value, path), let address = reader.string("address") else { continue }
      spec.addresses.append(NodeSpec.Address(address: address, type: reader.string("type")))
      reader.finish()
    }
    finish(
      inert: [
        "ipv4VXLANTunnelAddr", "ipv6VXLANTunnelAddr", "vxlanTunnelMACAddr", "vxlanTunnelMACAddrV6", "wireguard",
      ], hints: ["orchRefs", "interfaces"])
    return spec
  }

  private func interfaceAddress(_ name: String, _ family: IPFamily) -> InterfaceAddress? {
    guard let value = value(name), let text = string(value, path(name)) else { return nil }
    guard let address = InterfaceAddress(text), address.address.family == family else {
      let example = family == .v4 ? "172.30.1.2/24" : "fd00:1::2/64"
      findings.error(path(name), value, "is not an \(family) address with the length of its subnet", fix: "write it like \(example)")
      return nil
    }
    return address
  }

  /// Nil if the pool has no readable network: then it is no pool.
  func ipPoolSpec() -> IPPoolSpec? {
    guard let value = value("cidr") else {
      findings.error(path("cidr"), nil, "is missing", fix: "add the pool's network, such as 192.168.0.0/16")
      return nil
    }
    guard let cidr = prefix(value, path("cidr")) else { return nil }
    let range: ClosedRange<Int64> = cidr.family == .v4 ? 20...32 : 116...128
    var spec = IPPoolSpec(cidr: cidr, blockSize: integer("blockSize", in: range).map { UInt8($0) })
    if spec.blockSize < cidr.length {
      findings.refusal(
        path("blockSize"), .integer(Int64(spec.blockSize)), "is larger than the pool \(cidr)",
        fix: "the pool must hold at least one block: give blockSize \(max(UInt8(range.lowerBound), cidr.length)) or more")
    }
    spec.ipipMode = choice("ipipMode", IPPoolSpec.Encapsulation.self) ?? .never
    spec.vxlanMode = choice("vxlanMode", IPPoolSpec.Encapsulation.self) ?? .never
    if spec.ipipMode != .never, spec.vxlanMode != .never {
      findings.refusal(path("vxlanMode"), .string(spec.vxlanMode.rawValue), "excludes ipipMode", fix: "set one of them to Never")
    }
    if spec.ipipMode != .never, cidr.family == .v6 {
      findings.refusal(path("ipipMode"), .string(spec.ipipMode.rawValue), "is not possible for an IPv6 pool", fix: "write Never")
    }
    spec.natOutgoing = bool("natOutgoing") ?? false
    spec.disabled = bool("disabled") ?? false
    spec.disableBGPExport = bool("disableBGPExport") ?? false
    spec.nodeSelector = selector("nodeSelector", mayBeGlobal: false) ?? "all()"
    if self.value("allowedUses") != nil {
      let uses = array("allowedUses").compactMap { choice($0.value, $0.path, IPPoolSpec.Use.self) }
      if !uses.isEmpty { spec.allowedUses = Set(uses) }
    }
    spec.assignmentMode = choice("assignmentMode", IPPoolSpec.AssignmentMode.self) ?? .automatic
    for reserved in [IPPrefix("169.254.0.0/16")!, IPPrefix("fe80::/10")!] where reserved.overlaps(cidr) {
      findings.refusal(path("cidr"), value, "overlaps the link-local range \(reserved)")
    }
    if spec.allowedUses.contains(.loadBalancer) {
      let usesPath = path("allowedUses")
      if spec.allowedUses.count > 1 { findings.refusal(usesPath, nil, "combines LoadBalancer with another use", fix: "use two pools") }
      if spec.ipipMode != .never || spec.vxlanMode != .never { findings.refusal(usesPath, nil, "LoadBalancer excludes encapsulation") }
      if spec.nodeSelector != "all()" { findings.refusal(path("nodeSelector"), nil, "must be all() for a LoadBalancer pool") }
      if spec.disableBGPExport { findings.refusal(path("disableBGPExport"), true, "is not possible for a LoadBalancer pool") }
    }
    finish(inert: ["namespaceSelector"])
    return spec
  }

  func bgpConfigurationSpec() -> BGPConfigurationSpec {
    var spec = BGPConfigurationSpec(
      nodeToNodeMeshEnabled: bool("nodeToNodeMeshEnabled"), asNumber: asNumber("asNumber"),
      listenPort: integer("listenPort", in: 1...65535).map { UInt16($0) })
    spec.logSeverityScreen = string("logSeverityScreen")
    finish(inert: [
      "serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs", "serviceLoadBalancerAggregation", "communities",
      "prefixAdvertisements", "nodeMeshPassword", "nodeMeshMaxRestartTime", "bindMode", "ignoredInterfaces", "localWorkloadPeeringIPV4",
      "localWorkloadPeeringIPV6", "programClusterRoutes", "ipv4NormalRoutePriority", "ipv6NormalRoutePriority",
    ])
    return spec
  }

  func bgpPeerSpec() -> BGPPeerSpec {
    var spec = BGPPeerSpec()
    spec.node = string("node").flatMap { $0.isEmpty ? nil : $0 }
    spec.nodeSelector = selector("nodeSelector", mayBeGlobal: false).flatMap { $0.isEmpty ? nil : $0 }
    if let value = value("peerIP"), let text = string(value, path("peerIP")), !text.isEmpty {
      if let (address, port) = Self.peer(text) {
        spec.peerIP = address
        spec.peerPort = port
      } else {
        findings.error(path("peerIP"), value, "is not an address", fix: "write an IP address, IPv4:port or [IPv6]:port")
      }
    }
    spec.peerSelector = selector("peerSelector", mayBeGlobal: false).flatMap { $0.isEmpty ? nil : $0 }
    spec.asNumber = asNumber("asNumber").flatMap { $0 == 0 ? nil : $0 }
    spec.keepOriginalNextHop = bool("keepOriginalNextHop") ?? false
    spec.nextHopMode = choice("nextHopMode", BGPPeerSpec.NextHopMode.self)
    spec.sourceAddress = choice("sourceAddress", BGPPeerSpec.SourceAddress.self) ?? .useNodeIP
    spec.maxRestartTimeSeconds = seconds("maxRestartTime")
    spec.numAllowedLocalASNumbers = integer("numAllowedLocalASNumbers", in: 0...Int64(Int32.max)).map { Int($0) }
    spec.ttlSecurityHops = integer("ttlSecurity", in: 1...255).map { Int($0) }
    if spec.node != nil, spec.nodeSelector != nil { findings.refusal(path("nodeSelector"), nil, "excludes node", fix: "remove one") }
    if spec.peerIP != nil, spec.peerSelector != nil { findings.refusal(path("peerSelector"), nil, "excludes peerIP", fix: "remove one") }
    if spec.peerSelector != nil, spec.asNumber != nil {
      findings.refusal(path("asNumber"), nil, "excludes peerSelector: each selected node has its own", fix: "remove it")
    }
    if spec.peerIP != nil, spec.asNumber == nil { findings.refusal(path, nil, "has peerIP without asNumber", fix: "add the peer's AS") }
    if value("peerIP") == nil, spec.peerSelector == nil, value("localWorkloadSelector") == nil {
      findings.refusal(path, nil, "names no peer", fix: "add peerIP and asNumber, or peerSelector")
    }
    finish(inert: [
      "localASNumber", "password", "keepaliveTime", "reachableBy", "filters", "reversePeering", "localWorkloadSelector",
    ])
    return spec
  }
  static func peer(_ text: String) -> (IPAddress, UInt16?)? {
    if let address = IPAddress(text) { return (address, nil) }
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else { return nil }
    let host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") { return IPv6Address(host.dropFirst().dropLast()).map { (.v6($0), port) } }
    return IPv4Address(host).map { (.v4($0), port) }
  }

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
    spec.logSeverityScreen = string("logSeverityScreen")
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

  func clusterInformationSpec() -> ClusterInformationSpec {
    var spec = ClusterInformationSpec()
    spec.clusterGUID = string("clusterGUID")
    spec.clusterType = string("clusterType")
    spec.calicoVersion = string("calicoVersion")
    spec.datastoreReady = bool("datastoreReady")
    finish(hints: ["variant"])
    return spec
  }

  func workloadEndpointSpec() -> WorkloadEndpointSpec {
    var spec = WorkloadEndpointSpec()
    spec.orchestrator = string("orchestrator") ?? ""
    spec.workload = string("workload") ?? ""
    spec.node = string("node") ?? ""
    spec.containerID = string("containerID") ?? ""
    spec.pod = string("pod") ?? ""
    spec.endpoint = string("endpoint") ?? ""
    spec.serviceAccountName = string("serviceAccountName") ?? ""
    for (value, path) in array("ipNetworks") {
      guard let prefix = prefix(value, path) else { continue }
      if prefix.isHost {
        spec.ipNetworks.append(prefix)
      } else {
        findings.error(path, value, "is not a single address", fix: "write /\(prefix.family.bits)")
      }
    }
    spec.ipv4Gateway = address("ipv4Gateway")
    spec.ipv6Gateway = address("ipv6Gateway")
    spec.profiles = strings("profiles")
    spec.interfaceName = string("interfaceName") ?? ""
    if !spec.interfaceName.isEmpty, let fault = NameRules.interfaceNameFault(spec.interfaceName) {
      findings.error(path("interfaceName"), .string(spec.interfaceName), "is not the name of an interface: \(fault)")
    }
    if let value = value("mac"), let text = string(value, path("mac")), !text.isEmpty {
      spec.mac = MACAddress(text)
      if spec.mac == nil { findings.error(path("mac"), value, "is not a MAC address", fix: "write it like 02:00:5e:10:00:01") }
    }
    for (value, path) in array("ports") {
      guard let reader = reader(value, path) else { continue }
      let name = reader.string("name") ?? ""
      let ipProtocol = reader.ipProtocol("protocol")
      let port = reader.integer("port", in: 1...65535)
      reader.finish(hints: ["hostPort", "hostIP"])
      if let fault = NameRules.portNameFault(name) {
        findings.refusal(reader.path("name"), .string(name), "is not a port's name: \(fault)")
      }
      if ipProtocol?.hasPorts == false { findings.refusal(reader.path("protocol"), nil, "has no ports", fix: "use TCP, UDP or SCTP") }
      guard let ipProtocol, let port else {
        if port == nil { findings.refusal(path, nil, "needs a protocol and a port") }
        continue
      }
      spec.ports.append(WorkloadEndpointSpec.NamedPort(name: name, protocol: ipProtocol, port: UInt16(port)))
    }
    spec.allowSpoofedSourcePrefixes = array("allowSpoofedSourcePrefixes").compactMap { prefix($0.value, $0.path, masked: false) }
    for (name, text) in [("orchestrator", spec.orchestrator), ("node", spec.node), ("endpoint", spec.endpoint)] where text.isEmpty {
      findings.refusal(path(name), nil, "is missing")
    }
    finish(inert: ["ipNATs", "qosControls"])
    return spec
  }
}

/// Interfaces of workloads.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
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
    spec.ipv4Gateway = address("ipv4Gateway", of: .v4)
    spec.ipv6Gateway = address("ipv6Gateway", of: .v6)
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
      let port = reader.endpointPort()
      // Port 0 is how absent is written by some.
      let hostPort = reader.integer("hostPort", in: 0...65535).flatMap { $0 == 0 ? nil : UInt16($0) }
      let hostIP = reader.address("hostIP")
      reader.warnUnused("hostPort", "hostIP")
      reader.finish()
      guard let port else { continue }
      spec.ports.append(
        WorkloadEndpointSpec.NamedPort(
          name: port.name, protocol: port.ipProtocol, port: port.port, hostPort: hostPort, hostIP: hostIP))
    }
    spec.allowSpoofedSourcePrefixes = array("allowSpoofedSourcePrefixes").compactMap { prefix($0.value, $0.path, masked: false) }
    for (name, text) in [("orchestrator", spec.orchestrator), ("node", spec.node), ("endpoint", spec.endpoint)] where text.isEmpty {
      findings.refusal(path(name), nil, "is missing")
    }
    spec.ipNATs = ipNATs(of: spec)
    spec.qosControls = reader("qosControls").map { $0.qosControls() }
    spec.allowedIPs = array("allowedIps").compactMap { prefix($0.value, $0.path, masked: false) }
    finish()
    return spec
  }

  private func ipNATs(of spec: WorkloadEndpointSpec) -> [WorkloadEndpointSpec.IPNAT] {
    array("ipNATs").compactMap { value, path in
      guard let reader = reader(value, path) else { return nil }
      let (inner, outer) = (reader.address("internalIP"), reader.address("externalIP"))
      for name in ["internalIP", "externalIP"] where reader.value(name) == nil { findings.error(path, nil, "has no \(name)", fix: "add it") }
      reader.finish()
      guard let inner, let outer else { return nil }
      if !spec.ipNetworks.contains(IPPrefix(inner, length: UInt8(inner.family.bits))) {
        findings.refusal(
          reader.path("internalIP"), .string("\(inner)"), "is none of the endpoint's addresses", fix: "use an address of ipNetworks")
      }
      if inner.family != outer.family {
        findings.refusal(reader.path("externalIP"), .string("\(outer)"), "is \(outer.family), but internalIP is \(inner.family)")
      }
      return WorkloadEndpointSpec.IPNAT(internalIP: inner, externalIP: outer)
    }
  }

  private func qosControls() -> QoSControls {
    var controls = QoSControls()
    for limit in QoSControls.Limit.allCases {
      // Zero limits nothing, like an absent one.
      guard let value = value(limit.rawValue), value.integer != 0 else { continue }
      guard let number = integer(limit.rawValue, in: limit.range, unit: limit.unit) else { continue }
      controls.limits[limit] = number
    }
    for limit in QoSControls.Limit.allCases where controls.limits[limit] != nil {
      guard let needed = limit.needs, value(needed.rawValue) == nil else { continue }
      findings.warning(path(limit.rawValue), nil, "limits nothing without \(needed.rawValue)")
    }
    switch value("dscp") {
    case .integer(let number)?: controls.dscp = DSCP("\(number)")
    case .string(let text)?: controls.dscp = DSCP(text)
    default: break
    }
    if controls.dscp == nil, let value = value("dscp") {
      findings.error(
        path("dscp"), value, "is not a code point", fix: "write 0 to 63, or a name: \(DSCP.names.map(\.name).joined(separator: ", "))")
    }
    finish()
    return controls
  }
}

extension ResourceCodec {
  static func fields(_ endpoint: WorkloadEndpointSpec) -> JSONObject {
    var fields = JSONObject()
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
          var inner = self.fields(EndpointPort(name: port.name, protocol: port.ipProtocol, port: port.port))
          inner["hostPort"] = number(port.hostPort)
          inner["hostIP"] = text(port.hostIP)
          return .object(inner)
        })
    }
    fields["allowSpoofedSourcePrefixes"] = list(endpoint.allowSpoofedSourcePrefixes)
    if !endpoint.ipNATs.isEmpty {
      fields["ipNATs"] = .array(
        endpoint.ipNATs.map { ["internalIP": .string("\($0.internalIP)"), "externalIP": .string("\($0.externalIP)")] })
    }
    if let controls = endpoint.qosControls {
      var inner = JSONObject()
      for limit in QoSControls.Limit.allCases { inner[limit.rawValue] = number(controls.limits[limit]) }
      inner["dscp"] = controls.dscp.map { dscp in Int64(dscp.description).map(JSONValue.integer) ?? .string(dscp.description) }
      fields["qosControls"] = .object(inner)
    }
    fields["allowedIps"] = list(endpoint.allowedIPs)
    return fields
  }
}

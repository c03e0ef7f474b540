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
          ["name": .string(port.name), "protocol": word(port.ipProtocol), "port": .integer(Int64(port.port))]
        })
    }
    fields["allowSpoofedSourcePrefixes"] = list(endpoint.allowSpoofedSourcePrefixes)
    return fields
  }
}

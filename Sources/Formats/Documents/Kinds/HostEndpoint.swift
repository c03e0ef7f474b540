/// Interfaces of hosts.
import JSON
import Names
import Resources

extension FieldReader {
  func hostEndpointSpec() -> HostEndpointSpec {
    var spec = HostEndpointSpec()
    spec.node = string("node") ?? ""
    if spec.node.isEmpty, value("node")?.string != nil || value("node") == nil {
      findings.refusal(path("node"), nil, "is missing", fix: "add the name of the node that has the interface")
    }
    spec.interfaceName = string("interfaceName") ?? ""
    if !spec.interfaceName.isEmpty, spec.interfaceName != "*", let fault = NameRules.interfaceNameFault(spec.interfaceName) {
      findings.refusal(
        path("interfaceName"), .string(spec.interfaceName), "is not the name of an interface: \(fault)",
        fix: "write one, such as eth0, or \"*\" for all of them")
    }
    spec.expectedIPs = addresses("expectedIPs")
    if value("interfaceName") == nil, value("expectedIPs") == nil {
      findings.refusal(path, nil, "names no interface", fix: "add interfaceName, or expectedIPs")
    }
    spec.profiles = strings("profiles")
    for (value, path) in array("ports") {
      guard let reader = reader(value, path) else { continue }
      let port = reader.endpointPort()
      reader.finish()
      if let port { spec.ports.append(port) }
    }
    finish()
    return spec
  }

  /// `name`, `protocol` and `port`, which ports of hosts and of workloads share. What is lacking is no error in a stored object.
  func endpointPort() -> EndpointPort? {
    let name = string("name") ?? ""
    let ipProtocol = ipProtocol("protocol")
    let port = integer("port", in: 1...65535)
    if value("name")?.string != nil || value("name") == nil, let fault = NameRules.portNameFault(name) {
      findings.refusal(path("name"), .string(name), "is not a port's name: \(fault)")
    }
    if let ipProtocol, ![.tcp, .udp, .sctp].contains(ipProtocol) {
      findings.refusal(path("protocol"), value("protocol"), "cannot be that of a named port", fix: "use TCP, UDP or SCTP")
    }
    for missing in ["protocol", "port"] where value(missing) == nil { findings.refusal(path, nil, "has no \(missing)", fix: "add it") }
    guard let ipProtocol, let port else { return nil }
    return EndpointPort(name: name, protocol: ipProtocol, port: UInt16(port))
  }
}

extension ResourceCodec {
  static func fields(_ spec: HostEndpointSpec) -> JSONObject {
    var fields = JSONObject()
    fields["node"] = text(spec.node)
    fields["interfaceName"] = text(spec.interfaceName)
    fields["expectedIPs"] = list(spec.expectedIPs)
    fields["profiles"] = list(spec.profiles)
    if !spec.ports.isEmpty { fields["ports"] = .array(spec.ports.map { .object(self.fields($0)) }) }
    return fields
  }

  static func fields(_ port: EndpointPort) -> JSONObject {
    var fields = JSONObject()
    fields["name"] = .string(port.name)
    fields["protocol"] = word(port.ipProtocol)
    fields["port"] = .integer(Int64(port.port))
    return fields
  }
}

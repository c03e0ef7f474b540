/// KubernetesEndpointSlice: Kubernetes' own document under Calico's key. What packets are matched by is read, the rest is kept.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
  /// Its fields stand beside `metadata`; who called finishes the document.
  func endpointSliceSpec() -> EndpointSliceSpec {
    var spec = EndpointSliceSpec(addressType: string("addressType") ?? "")
    if !["IPv4", "IPv6", "FQDN"].contains(spec.addressType) {
      findings.refusal(path("addressType"), value("addressType"), "is none of IPv4, IPv6, FQDN", fix: "write what the addresses are")
    }
    let family: IPFamily? = spec.addressType == "IPv4" ? .v4 : spec.addressType == "IPv6" ? .v6 : nil
    for (value, path) in array("endpoints", countMax: 1000) {
      guard let reader = reader(value, path) else { continue }
      var endpoint = EndpointSliceSpec.Endpoint(addresses: [])
      // Names of hosts match no packet.
      for (value, path) in reader.array("addresses", countMax: 100) where spec.addressType != "FQDN" {
        guard let address = reader.address(value, path) else { continue }
        if let family, address.family != family { findings.refusal(path, value, "is not an \(family) address") }
        endpoint.addresses.append(address)
      }
      if let conditions = reader.reader("conditions") {
        endpoint.isReady = conditions.bool("ready") ?? true
        conditions.finish(hints: ["serving", "terminating"])
      }
      reader.finish(hints: ["hostname", "nodeName", "zone", "targetRef", "hints", "deprecatedTopology"])
      spec.endpoints.append(endpoint)
    }
    for (value, path) in array("ports", countMax: 100) {
      guard let reader = reader(value, path) else { continue }
      let name = reader.string("name") ?? ""
      let ipProtocol = reader.ipProtocol("protocol") ?? .tcp
      let port = reader.integer("port", in: 1...65535)
      reader.finish(hints: ["appProtocol"])
      // Without a number it stands for no port that a rule could match.
      if let port { spec.ports.append(EndpointSliceSpec.Port(name: name, protocol: ipProtocol, port: UInt16(port))) }
    }
    return spec
  }
}

extension ResourceCodec {
  static func fields(_ slice: EndpointSliceSpec) -> JSONObject {
    var fields = JSONObject()
    fields["addressType"] = text(slice.addressType)
    fields["endpoints"] = .array(
      slice.endpoints.map { endpoint in
        var fields = JSONObject()
        fields["addresses"] = .array(endpoint.addresses.map { .string($0.description) })
        if !endpoint.isReady { fields["conditions"] = ["ready": .bool(false)] }
        return .object(fields)
      })
    if !slice.ports.isEmpty {
      fields["ports"] = .array(
        slice.ports.map { port in
          var fields = JSONObject()
          fields["name"] = text(port.name)
          fields["protocol"] = .string(port.ipProtocol.description)
          fields["port"] = .integer(Int64(port.port))
          return .object(fields)
        })
    }
    return fields
  }
}

/// Nodes.
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
}

extension ResourceCodec {
  static func fields(_ node: NodeSpec) -> JSONObject {
    var fields = JSONObject()
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
    return fields
  }
}

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
      bgp.ipv4IPIPTunnelAddr = reader.ipv4("ipv4IPIPTunnelAddr")
      reader.finish()
      spec.bgp = bgp
    }
    for (value, path) in array("addresses") {
      guard let reader = reader(value, path) else { continue }
      let address = reader.required("address").flatMap { reader.string($0, reader.path("address")) }
      let type = reader.word("type")
      reader.finish()
      guard let address else { continue }
      if InterfaceAddress(address) == nil {
        findings.refusal(
          reader.path("address"), .string(address), "is not an IP address", fix: "write it alone or with the length of its subnet")
      }
      let types = ["CalicoNodeIP", "InternalIP", "ExternalIP"]
      if let type, !types.contains(type) {
        findings.refusal(
          reader.path("type"), .string(type), "is none of \(types.joined(separator: ", "))",
          fix: nearest(type, among: types).map { "did you mean \($0)?" })
      }
      spec.addresses.append(NodeSpec.Address(address: address, type: type))
    }
    spec.ipv4VXLANTunnelAddr = ipv4("ipv4VXLANTunnelAddr")
    spec.ipv6VXLANTunnelAddr = ipv6("ipv6VXLANTunnelAddr")
    spec.vxlanTunnelMACAddr = macAddress("vxlanTunnelMACAddr")
    spec.vxlanTunnelMACAddrV6 = macAddress("vxlanTunnelMACAddrV6")
    if let reader = reader("wireguard") {
      var wireguard = NodeSpec.WireGuard()
      wireguard.interfaceIPv4Address = reader.ipv4("interfaceIPv4Address")
      wireguard.interfaceIPv6Address = reader.ipv6("interfaceIPv6Address")
      reader.finish()
      spec.wireguard = wireguard
    }
    for (value, path) in array("orchRefs") {
      guard let reader = reader(value, path) else { continue }
      let orchestrator = reader.required("orchestrator").flatMap { reader.string($0, reader.path("orchestrator")) }
      let name = reader.word("nodeName")
      reader.finish()
      if let orchestrator { spec.orchRefs.append(.init(orchestrator: orchestrator, nodeName: name)) }
    }
    for (value, path) in array("interfaces") {
      guard let reader = reader(value, path) else { continue }
      let name = reader.required("name").flatMap { reader.string($0, reader.path("name")) }
      let addresses = reader.strings("addresses")
      reader.finish()
      if let name { spec.interfaces.append(.init(name: name, addresses: addresses)) }
    }
    warnUnused("wireguard")
    finish()
    return spec
  }

  private func macAddress(_ name: String) -> MACAddress? {
    guard let text = word(name) else { return nil }
    if let address = MACAddress(text) { return address }
    findings.error(path(name), .string(text), "is not a MAC address", fix: "write it like 66:a1:b2:c3:d4:e5")
    return nil
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
      inner["ipv4IPIPTunnelAddr"] = text(bgp.ipv4IPIPTunnelAddr)
      inner["routeReflectorClusterID"] = text(bgp.routeReflectorClusterID)
      fields["bgp"] = .object(inner)
    }
    fields["ipv4VXLANTunnelAddr"] = text(node.ipv4VXLANTunnelAddr)
    fields["ipv6VXLANTunnelAddr"] = text(node.ipv6VXLANTunnelAddr)
    fields["vxlanTunnelMACAddr"] = text(node.vxlanTunnelMACAddr)
    fields["vxlanTunnelMACAddrV6"] = text(node.vxlanTunnelMACAddrV6)
    fields["orchRefs"] = objects(node.orchRefs) { reference, fields in
      fields["nodeName"] = reference.nodeName.map(JSONValue.string)
      fields["orchestrator"] = .string(reference.orchestrator)
    }
    fields["wireguard"] = object(node.wireguard) { wireguard, fields in
      fields["interfaceIPv4Address"] = text(wireguard.interfaceIPv4Address)
      fields["interfaceIPv6Address"] = text(wireguard.interfaceIPv6Address)
    }
    fields["addresses"] = objects(node.addresses) { address, fields in
      fields["address"] = .string(address.address)
      fields["type"] = address.type.map(JSONValue.string)
    }
    fields["interfaces"] = objects(node.interfaces) { interface, fields in
      fields["name"] = .string(interface.name)
      fields["addresses"] = list(interface.addresses)
    }
    return fields
  }
}

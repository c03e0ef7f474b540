/// Peers of BGP.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
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
}

extension ResourceCodec {
  static func fields(_ peer: BGPPeerSpec) -> JSONObject {
    var fields = JSONObject()
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
    return fields
  }
}

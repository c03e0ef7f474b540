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
    spec.nextHopMode = choiceOrEmpty("nextHopMode", BGPPeerSpec.NextHopMode.self)
    spec.sourceAddress = choiceOrEmpty("sourceAddress", BGPPeerSpec.SourceAddress.self) ?? .useNodeIP
    spec.maxRestartTime = restartTime("maxRestartTime")
    spec.keepaliveTime = duration("keepaliveTime")
    spec.numAllowedLocalASNumbers = integer("numAllowedLocalASNumbers", in: 0...Int64(Int32.max)).map { Int($0) }
    spec.ttlSecurityHops = integer("ttlSecurity", in: 1...255).map { Int($0) }
    spec.localWorkloadSelector = selector("localWorkloadSelector", mayBeGlobal: false).flatMap { $0.isEmpty ? nil : $0 }
    spec.localASNumber = asNumber("localASNumber").flatMap { $0 == 0 ? nil : $0 }
    spec.password = password("password")
    if let text = word("reachableBy") {
      spec.reachableBy = IPAddress(text)
      if spec.reachableBy == nil { findings.error(path("reachableBy"), .string(text), "is not an IP address") }
    }
    spec.filters = strings("filters")
    spec.reversePeering = choiceOrEmpty("reversePeering", BGPPeerSpec.ReversePeering.self)
    checkBGPPeer(spec)
    warnUnused("localASNumber", "password", "keepaliveTime", "reachableBy", "filters", "reversePeering", "localWorkloadSelector")
    finish()
    return spec
  }
  /// What excludes what.
  private func checkBGPPeer(_ spec: BGPPeerSpec) {
    func refuse(_ name: String, _ rule: String, fix: String) { findings.refusal(path(name), nil, rule, fix: fix) }
    if spec.node != nil, spec.nodeSelector != nil { refuse("nodeSelector", "excludes node", fix: "remove one") }
    let hasAddress = value("peerIP").map { $0.string != "" } ?? false
    if hasAddress, spec.peerSelector != nil { refuse("peerSelector", "excludes peerIP", fix: "remove one") }
    if spec.localWorkloadSelector != nil {
      if hasAddress { refuse("localWorkloadSelector", "excludes peerIP", fix: "remove one") }
      if spec.peerSelector != nil { refuse("localWorkloadSelector", "excludes peerSelector", fix: "remove one") }
      if spec.reachableBy != nil { refuse("reachableBy", "is of no use for workloads of the node itself", fix: "remove it") }
      if spec.asNumber == nil { refuse("localWorkloadSelector", "stands without asNumber", fix: "add the workloads' AS") }
    }
    if spec.peerSelector != nil, spec.asNumber != nil {
      refuse("asNumber", "excludes peerSelector: each selected node has its own", fix: "remove it")
    }
    if spec.peerIP != nil, spec.peerSelector == nil, value("asNumber") == nil || value("asNumber") == 0 {
      findings.refusal(path, nil, "has peerIP without asNumber", fix: "add the peer's AS")
    }
    if !hasAddress, value("peerSelector").map({ $0.string == "" }) ?? true, value("localWorkloadSelector").map({ $0.string == "" }) ?? true {
      findings.refusal(path, nil, "names no peer", fix: "add peerIP and asNumber, or peerSelector")
    }
    if spec.keepOriginalNextHop, spec.nextHopMode != nil {
      refuse("keepOriginalNextHop", "excludes nextHopMode", fix: "remove it: nextHopMode: Keep says the same")
    }
    if let gateway = spec.reachableBy {
      if let peer = spec.peerIP, peer.family != gateway.family {
        findings.refusal(
          path("reachableBy"), .string(gateway.description), "is \(gateway.family), but peerIP is \(peer.family)",
          fix: "give a gateway of the peer's family")
      }
      if spec.peerSelector != nil { refuse("reachableBy", "needs peerIP", fix: "remove it, or use peerIP instead of peerSelector") }
    }
    var seen: Set<String> = []
    for (index, name) in spec.filters.enumerated() {
      let element = path("filters").element(index)
      if let fault = NameRules.dnsSubdomainFault(name) { findings.refusal(element, .string(name), "is not a filter's name: \(fault)") }
      if !seen.insert(name).inserted { findings.refusal(element, .string(name), "stands there twice", fix: "remove it") }
    }
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
    fields["maxRestartTime"] = duration(peer.maxRestartTime)
    fields["keepaliveTime"] = duration(peer.keepaliveTime)
    fields["numAllowedLocalASNumbers"] = number(peer.numAllowedLocalASNumbers)
    fields["ttlSecurity"] = number(peer.ttlSecurityHops)
    fields["localWorkloadSelector"] = peer.localWorkloadSelector.map(JSONValue.string)
    fields["localASNumber"] = number(peer.localASNumber)
    fields["password"] = password(peer.password)
    fields["reachableBy"] = text(peer.reachableBy)
    fields["filters"] = list(peer.filters)
    fields["reversePeering"] = word(peer.reversePeering)
    return fields
  }
}

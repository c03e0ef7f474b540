/// The four kinds of resources that BGP reads, from their documents in the datastore. Reading is lenient: what is not understood is
/// passed over, and a document that cannot be used is reported and leaves the last good one in place.

import Addresses
import BGPMessages
import JSON
import Resources

struct StoredResources {
  static let root = "/calico/resources/v3/projectcalico.org/"
  static let kinds: [Kind] = [.node, .bgpPeer, .bgpConfiguration, .ipPool]
  static var prefixes: [String] { kinds.map { "\(root)\($0.plural)/" } }

  struct Unreadable: Error, CustomStringConvertible {
    let description: String
  }

  private(set) var resources = BGPResources()

  static func key(_ path: String) -> (kind: Kind, name: String)? {
    for kind in kinds {
      let prefix = "\(root)\(kind.plural)/"
      if path.hasPrefix(prefix) { return (kind, String(path.dropFirst(prefix.count))) }
    }
    return nil
  }

  mutating func removeAll() { resources = BGPResources() }

  mutating func remove(_ path: String) {
    guard let (kind, name) = Self.key(path) else { return }
    switch kind {
    case .node: resources.nodes[name] = nil
    case .bgpPeer: resources.peers[name] = nil
    case .bgpConfiguration: resources.configurations[name] = nil
    default: resources.pools[name] = nil
    }
  }

  mutating func put(_ path: String, _ octets: [UInt8]) throws(Unreadable) {
    guard let (kind, name) = Self.key(path) else { return }
    let document: JSONValue
    do throws(JSONError) {
      document = try JSONValue(parsing: octets)
    } catch {
      throw Unreadable(description: "\(kind.rawValue) \(name): \(error)")
    }
    let spec = document["spec"] ?? .object(JSONObject())
    do throws(Unreadable) {
      switch kind {
      case .node:
        var labels: [String: String] = [:]
        for member in document["metadata"]?["labels"]?.object?.members ?? [] { labels[member.name] = member.value.string }
        resources.nodes[name] = .init(spec: try node(spec), labels: labels)
      case .bgpPeer: resources.peers[name] = try peer(spec)
      case .bgpConfiguration: resources.configurations[name] = try configuration(spec)
      default: resources.pools[name] = try pool(spec)
      }
    } catch {
      throw Unreadable(description: "\(kind.rawValue) \(name): \(error.description)")
    }
  }

  private func node(_ spec: JSONValue) throws(Unreadable) -> NodeSpec {
    guard let bgp = spec["bgp"], !bgp.isNull else { return NodeSpec() }
    var result = NodeSpec.BGP()
    result.asNumber = try number(bgp, "asNumber")
    result.ipv4Address = try parsed(bgp, "ipv4Address") { InterfaceAddress($0) }
    result.ipv6Address = try parsed(bgp, "ipv6Address") { InterfaceAddress($0) }
    result.routeReflectorClusterID = try parsed(bgp, "routeReflectorClusterID") { IPv4Address($0) }
    return NodeSpec(bgp: result)
  }

  private func peer(_ spec: JSONValue) throws(Unreadable) -> BGPPeerSpec {
    var result = BGPPeerSpec()
    result.node = text(spec, "node")
    result.nodeSelector = text(spec, "nodeSelector")
    result.peerSelector = text(spec, "peerSelector")
    if let endpoint = try parsed(spec, "peerIP", { Self.endpoint($0) }) { (result.peerIP, result.peerPort) = (endpoint.0, endpoint.1) }
    result.asNumber = try number(spec, "asNumber")
    let nextHopMode = text(spec, "nextHopMode")
    result.keepOriginalNextHop = spec["keepOriginalNextHop"]?.bool ?? (nextHopMode == "Keep")
    result.sourceAddress = text(spec, "sourceAddress").flatMap { BGPPeerSpec.SourceAddress(rawValue: $0) } ?? .useNodeIP
    if let time = text(spec, "maxRestartTime") {
      guard let seconds = Self.seconds(time) else { throw Unreadable(description: "spec.maxRestartTime: \(time) is no duration") }
      result.maxRestartTimeSeconds = seconds
    }
    result.numAllowedLocalASNumbers = spec["numAllowedLocalASNumbers"]?.integer.map { Int($0) }
    result.ttlSecurityHops = spec["ttlSecurity"]?.integer.map { Int($0) }
    return result
  }

  private func configuration(_ spec: JSONValue) throws(Unreadable) -> BGPConfigurationSpec {
    BGPConfigurationSpec(
      nodeToNodeMeshEnabled: spec["nodeToNodeMeshEnabled"]?.bool, asNumber: try number(spec, "asNumber"),
      listenPort: spec["listenPort"]?.integer.flatMap { UInt16(exactly: $0) })
  }

  private func pool(_ spec: JSONValue) throws(Unreadable) -> IPPoolSpec {
    guard let cidr = try parsed(spec, "cidr", { IPPrefix($0) }) else { throw Unreadable(description: "spec.cidr is missing") }
    var result = IPPoolSpec(cidr: cidr)
    result.disabled = spec["disabled"]?.bool ?? false
    result.disableBGPExport = spec["disableBGPExport"]?.bool ?? false
    return result
  }

  // MARK: Fields

  private func text(_ spec: JSONValue, _ name: String) -> String? {
    spec[name]?.string.flatMap { $0.isEmpty ? nil : $0 }
  }
  private func parsed<Value>(_ spec: JSONValue, _ name: String, _ parse: (String) -> Value?) throws(Unreadable) -> Value? {
    guard let text = text(spec, name) else { return nil }
    guard let value = parse(text) else { throw Unreadable(description: "spec…\(name): \(text) is not valid") }
    return value
  }
  /// AS numbers are written as numbers or as text, also in the dotted form.
  private func number(_ spec: JSONValue, _ name: String) throws(Unreadable) -> UInt32? {
    if let integer = spec[name]?.integer {
      guard let number = UInt32(exactly: integer) else { throw Unreadable(description: "spec…\(name): \(integer) is no AS number") }
      return number
    }
    return try parsed(spec, name) { ASNumber($0)?.rawValue }
  }

  /// `192.0.2.1`, `192.0.2.1:1790`, `2001:db8::1`, `[2001:db8::1]:1790`.
  static func endpoint(_ text: String) -> (IPAddress, UInt16?)? {
    if let address = IPAddress(text) { return (address, nil) }
    guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else { return nil }
    var host = text[..<colon]
    if host.hasPrefix("["), host.hasSuffix("]") {
      host = host.dropFirst().dropLast()
      return IPv6Address(host).map { (.v6($0), port) }
    }
    return IPv4Address(host).map { (.v4($0), port) }
  }

  /// Go durations of whole seconds and above: `90s`, `2m`, `1h30m`.
  static func seconds(_ text: String) -> Int? {
    var total = 0
    var digits = ""
    for character in text {
      if character.isASCII, character.isNumber {
        digits.append(character)
        continue
      }
      guard let number = Int(digits), let unit = ["s": 1, "m": 60, "h": 3600][character] else { return nil }
      total += number * unit
      digits = ""
    }
    return digits.isEmpty && !text.isEmpty ? total : nil
  }
}

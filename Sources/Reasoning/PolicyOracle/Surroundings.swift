/// What surrounds policy: who is where, what connection tracking makes of a packet, and what a host's settings say.
import Addresses
import Resources

extension PolicyOracle {
  // MARK: Who is where

  /// Network sets that hold an address.
  public func networkSets(with address: IPAddress) -> [Entity] {
    entities.filter { ($0.key.kind == .networkSet || $0.key.kind == .globalNetworkSet) && $0.holds(address) }
  }

  /// The endpoint that answers to an address. Of contradicting records the youngest counts (creation time, then the smaller key),
  /// and an endpoint without an interface, or whose interface a younger record on the same node has, is not in effect.
  public func workload(at address: IPAddress) -> Entity? {
    endpoints.filter { $0.nets.contains(address.hostPrefix) && isInEffect($0) }.min(by: Self.isYounger)
  }

  private func isInEffect(_ endpoint: Entity) -> Bool {
    !endpoint.interfaceName.isEmpty
      && !endpoints.contains {
        $0.node == endpoint.node && $0.interfaceName == endpoint.interfaceName && Self.isYounger($0, endpoint)
      }
  }

  static func isYounger(_ a: Entity, _ b: Entity) -> Bool {
    let (timeA, timeB) = (a.resource.metadata.creationTimestamp ?? "", b.resource.metadata.creationTimestamp ?? "")
    return timeA == timeB ? a.resource.key < b.resource.key : timeA > timeB
  }

  func isAddress(_ address: IPAddress, ofNode name: String) -> Bool { nodes(at: address).contains(name) }

  /// The host that has this address for itself.
  public func node(at address: IPAddress) -> String? { nodes(at: address).min() }

  func nodes(at address: IPAddress) -> [String] {
    resources.filter {
      guard case .node(let spec) = $0.spec else { return false }
      return spec.bgp?.ipv4Address?.address == address || spec.bgp?.ipv6Address?.address == address
        || spec.addresses.contains { IPAddress($0.address) == address || InterfaceAddress($0.address)?.address == address }
    }.map(\.metadata.name) + uplinks.filter { $0.value.addresses.contains(address) }.map(\.key)
  }

  /// The host endpoint of the interface that leads from this host to the others and to the world. An endpoint that names the interface comes
  /// before one that expects its addresses, that one before `*`; of equals the first by name. Where nobody says what the interface is
  /// called, a name is taken for its.
  public func hostEndpoint(of node: String?) -> Entity? {
    guard let node else { return nil }
    let candidates = hostEndpoints.filter { $0.node == node }
    let uplink = uplinks[node]
    func preference(_ endpoint: Entity) -> Int? {
      switch endpoint.interfaceName {
      case "*": return 2
      case "":
        let isThere = endpoint.nets.contains { uplink?.addresses.contains($0.address) ?? nodes(at: $0.address).contains(node) }
        return isThere ? 1 : nil
      default: return uplink == nil || uplink?.interfaceName == endpoint.interfaceName ? 0 : nil
      }
    }
    return candidates.compactMap { endpoint in preference(endpoint).map { ($0, endpoint) } }
      .min { ($0.0, $0.1.name) < ($1.0, $1.1.name) }?.1
  }

  // MARK: Connections

  /// Connection tracking lets only some ICMP messages begin a conversation. The others are answers or errors: within a live one they
  /// pass without a question, and without one they are of no connection, whatever policy says.
  func whyNoConnection(_ packet: Packet) -> String? {
    for (other, family) in [(NetworkProtocol.icmp, IPFamily.v6), (.icmpv6, .v4)] where packet.ipProtocol == other && packet.to.family == family {
      return "\(other) within \(family) is of no connection"
    }
    guard let type = packet.icmpType else { return nil }
    let beginners: Set<UInt8> =
      packet.ipProtocol == .icmp
      // Echo, timestamp, information and address mask requests.
      ? [8, 13, 15, 17]
      // Echo and node information requests; what multicast listening, multicast router discovery (RFC 4286) and neighbour discovery
      // send is not tracked.
      : [128, 139, 130, 131, 132, 133, 134, 135, 136, 143, 151, 152]
    if beginners.contains(type) { return nil }
    return "\(packet.ipProtocol) type \(type) begins no connection: it passes within a live one, and is dropped without one"
  }

  /// What no policy can allow a workload.
  func whyForbidden(_ packet: Packet, from source: Entity) -> String? {
    if packet.ipProtocol == .icmpv6, let type = packet.icmpType, type == 134 || type == 137 {
      return "a workload may not send ICMPv6 type \(type) (\(type == 134 ? "router advertisement" : "redirect"))"
    }
    return nil
  }

  // MARK: Settings of a host

  /// The cluster's configuration, then the host's own, which overrules it.
  private func configurations(of node: String) -> [FelixConfigurationSpec] {
    ["default", "node.\(node)"].flatMap { name in
      resources.compactMap { if case .felixConfiguration(let spec) = $0.spec, $0.metadata.name == name { spec } else { nil } }
    }
  }

  /// What happens to a packet for the workload's own host, after egress policy has allowed it.
  func endpointToHost(_ packet: Packet, of source: Entity) -> (isAllowed: Bool, reason: String) {
    // Without neighbour and router discovery and multicast listening, IPv6 would not work at all.
    if packet.ipProtocol == .icmpv6, let type = packet.icmpType, [130, 131, 132, 133, 135, 136].contains(type) {
      return (true, "to the host itself: ICMPv6 type \(type) is always allowed")
    }
    let action = configurations(of: source.node).compactMap(\.defaultEndpointToHostAction).last ?? .drop
    return (action != .drop, "to the host itself: defaultEndpointToHostAction is \(action.rawValue)")
  }

  /// The failsafe port that the packet is for, in words; nil if it is for none. A failsafe concerns the host's own traffic, and what one
  /// end of it may send the other may answer: before connections are tracked, the answers are let through by their source port.
  func failsafe(_ packet: Packet, _ direction: Direction, of node: String, _ stage: Stage) -> String? {
    let field = direction == .ingress ? "failsafeInboundHostPorts" : "failsafeOutboundHostPorts"
    if let port = isFailsafe(packet.ipProtocol, packet.destinationPort, direction == .ingress ? packet.from : packet.to, node, field) {
      return "\(field) has \(port)"
    }
    guard stage == .untracked else { return nil }
    let other = direction == .ingress ? "failsafeOutboundHostPorts" : "failsafeInboundHostPorts"
    if let port = isFailsafe(packet.ipProtocol, packet.sourcePort, direction == .ingress ? packet.from : packet.to, node, other) {
      return "\(other) has \(port), and this may be an answer"
    }
    return nil
  }

  private func isFailsafe(_ ipProtocol: NetworkProtocol, _ port: UInt16?, _ other: IPAddress, _ node: String, _ field: String) -> String? {
    var stated: [FelixParameterValue.FailsafePort]?
    for configuration in configurations(of: node) {
      if case .failsafePorts(let ports)? = configuration.values[field] { stated = ports }
    }
    if let stated {
      let found = stated.first {
        (NetworkProtocol($0.ipProtocol.isEmpty ? "tcp" : $0.ipProtocol) == ipProtocol) && $0.port == port
          && ($0.net.isEmpty || IPPrefix($0.net)?.contains(other) == true)
      }
      return found.map { "\(ipProtocol) \($0.port)" }
    }
    let tcp: [UInt16] = field == "failsafeInboundHostPorts" ? [22, 179, 2379, 2380, 5473, 6443, 6666, 6667] : [179, 2379, 2380, 5473, 6443, 6666, 6667]
    let udp: [UInt16] = field == "failsafeInboundHostPorts" ? [68] : [53, 67]
    guard let port, ipProtocol == .tcp && tcp.contains(port) || ipProtocol == .udp && udp.contains(port) else { return nil }
    return "\(ipProtocol) \(port)"
  }
}

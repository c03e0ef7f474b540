/// Whether one rule matches one packet, and if not, why.
import Addresses
import Resources

enum RuleReading {
  case matches
  case doesNotMatch(String)
  /// The rule asks for something that cannot be enforced; unless it only logs, it denies all that reaches it.
  case unenforceable(String)
}

extension PolicyOracle {
  /// `namespace` is that of the policy; nil for global policies and profiles.
  func read(_ rule: Rule, _ packet: Packet, _ direction: Direction, namespace: String?) -> RuleReading {
    if let fault = fault(of: rule, direction, namespace) { return .unenforceable(fault) }
    let family = packet.to.family
    if let version = rule.ipVersion, version != family { return .doesNotMatch("the packet is \(family)") }
    if let wanted = rule.ipProtocol, wanted != packet.ipProtocol { return .doesNotMatch("protocol is \(packet.ipProtocol), not \(wanted)") }
    if let unwanted = rule.notProtocol, unwanted == packet.ipProtocol { return .doesNotMatch("protocol is \(unwanted)") }
    // Types and codes are those of the family: ICMP within IPv6 has none.
    if rule.icmp != nil || rule.notICMP != nil, family != (rule.ipProtocol == .icmp ? .v4 : .v6) {
      return .doesNotMatch("the packet is \(family)")
    }
    if let wanted = rule.icmp, !covers(wanted, packet) { return .doesNotMatch("another ICMP type or code (\(packet.icmpText))") }
    if let unwanted = rule.notICMP, covers(unwanted, packet) { return .doesNotMatch("an excluded ICMP type or code (\(packet.icmpText))") }
    for list in [rule.source.nets, rule.source.notNets, rule.destination.nets, rule.destination.notNets] where !list.isEmpty {
      // A list of networks, also a negated one, speaks of its own family only.
      if !list.contains(where: { $0.family == family }) { return .doesNotMatch("its networks are not \(family)") }
    }
    if let why = mismatch(rule.source, packet.from, packet.sourcePort, rule, packet, namespace) { return .doesNotMatch("source \(why)") }
    if let why = mismatch(rule.destination, packet.to, packet.destinationPort, rule, packet, namespace) {
      return .doesNotMatch("destination \(why)")
    }
    return .matches
  }

  private func covers(_ match: ICMPMatch, _ packet: Packet) -> Bool {
    (match.type == nil || match.type == packet.icmpType) && (match.code == nil || match.code == packet.icmpCode)
  }

  private func fault(of rule: Rule, _ direction: Direction, _ namespace: String?) -> String? {
    if let fault = rule.fault { return fault }
    if rule.http != nil { return "packets carry no HTTP request to match" }
    if (direction == .ingress ? rule.destination : rule.source).services != nil {
      return "a service can only be the source of ingress or the destination of egress"
    }
    if rule.destination.services != nil, !(rule.destination.ports + rule.destination.notPorts).isEmpty {
      return "ports beside a service, which says its own"
    }
    for services in [rule.source.services, rule.destination.services] {
      if let services, services.namespace == nil, namespace == nil { return "a service without a namespace" }
    }
    for side in [rule.source, rule.destination] {
      for port in side.ports + side.notPorts {
        if let ipProtocol = rule.ipProtocol {
          if !ipProtocol.hasPorts { return "protocol \(ipProtocol) has no ports" }
        } else if case .range = port {
          return "a port number needs a protocol with ports"
        }
      }
      for (text, field) in [
        (side.selector, "selector"), (side.notSelector, "notSelector"), (side.namespaceSelector, "namespaceSelector"),
        (side.serviceAccounts?.selector, "serviceAccounts.selector"),
      ] {
        if let fault = Entity.fault(text, field) { return fault }
      }
    }
    let isICMP = rule.ipProtocol == .icmp || rule.ipProtocol == .icmpv6
    for match in [rule.icmp, rule.notICMP].compactMap(\.self) {
      if !isICMP { return "an ICMP match needs protocol ICMP or ICMPv6" }
      if match.code != nil, match.type == nil { return "an ICMP code needs a type" }
    }
    return nil
  }

  /// Who answers for a service now: the ready endpoints of all its slices, with the ports of each slice.
  private func answers(for service: ServiceMatch, _ namespace: String?) -> [(addresses: [IPAddress], ports: [EndpointSliceSpec.Port])] {
    resources.compactMap { resource in
      guard case .kubernetesEndpointSlice(let slice) = resource.spec, resource.metadata.namespace == service.namespace ?? namespace,
        resource.metadata.labels["kubernetes.io/service-name"] == service.name
      else { return nil }
      return (slice.endpoints.filter(\.isReady).flatMap(\.addresses), slice.ports)
    }
  }

  /// Why one side of the rule does not match; nil if it does.
  private func mismatch(
    _ side: EntityRule, _ address: IPAddress, _ port: UInt16?, _ rule: Rule, _ packet: Packet, _ namespace: String?
  ) -> String? {
    if !side.nets.isEmpty, !side.nets.contains(where: { $0.contains(address) }) { return "\(address) is in none of the networks" }
    if let net = side.notNets.first(where: { $0.contains(address) }) { return "\(address) is in the excluded \(net)" }

    if let service = side.services {
      let here = answers(for: service, namespace).filter { $0.addresses.contains(address) }
      if here.isEmpty { return "\(address) does not answer for service \(service.name)" }
      // Of a destination the service's port counts too; a source may send from any port.
      let isServed = here.contains { $0.ports.contains { $0.ipProtocol == packet.ipProtocol && $0.port == port } }
      if side == rule.destination, !isServed {
        return "service \(service.name) has no port \(port.map(String.init) ?? "none") for \(packet.ipProtocol) at \(address)"
      }
    }
    let present = entities.filter { $0.holds(address) }
    let asksPositively = asksForEndpoints(side, namespace)
    if asksPositively {
      if !present.contains(where: { isMeant($0, by: side, namespace) }) { return "\(address) is of no selected endpoint or network set" }
    } else if let text = side.notSelector, !text.isEmpty, let unwanted = present.first(where: { $0.isSelected(by: text) }) {
      return "\(address) is of \(unwanted.name), which notSelector excludes"
    }

    // A named port is a port of an endpoint at this address, which the side must mean as well.
    func isNamed(_ name: String) -> Bool {
      present.contains { entity in
        (!asksPositively || isMeant(entity, by: side, namespace)) && entity.nets.contains(address.hostPrefix)
          && entity.ports.contains { named in
            named.name == name && named.ipProtocol == (rule.ipProtocol ?? .tcp) && named.ipProtocol == packet.ipProtocol
              && named.port == port
          }
      }
    }
    func isListed(_ ports: [PortMatch]) -> Bool {
      ports.contains { match in
        switch match {
        case .range(let range): port.map { range.contains($0) } ?? false
        case .named(let name): isNamed(name)
        }
      }
    }
    if !side.ports.isEmpty, !isListed(side.ports) { return "port \(port.map(String.init) ?? "none") is not listed" }
    if !side.notPorts.isEmpty, isListed(side.notPorts) { return "port \(port.map(String.init) ?? "none") is excluded" }
    return nil
  }

  /// Whether a side restricts the address to some endpoints or network sets. In a namespaced policy a negated selector does: it excludes
  /// from the policy's own namespace.
  private func asksForEndpoints(_ side: EntityRule, _ namespace: String?) -> Bool {
    func given(_ text: String?) -> Bool { text.map { !$0.isEmpty } ?? false }
    let byServiceAccount = side.serviceAccounts.map { !$0.names.isEmpty || given($0.selector) } ?? false
    return given(side.selector) || given(side.namespaceSelector) || byServiceAccount || (namespace != nil && given(side.notSelector))
  }

  private func isMeant(_ entity: Entity, by side: EntityRule, _ namespace: String?) -> Bool {
    if let text = side.namespaceSelector, !text.isEmpty {
      guard entity.isSelected(byNamespaceSelector: text) else { return false }
    } else if let namespace {
      guard entity.labels["projectcalico.org/namespace"] == namespace else { return false }
    }
    if let accounts = side.serviceAccounts {
      if !accounts.names.isEmpty {
        guard let account = entity.labels["projectcalico.org/serviceaccount"], accounts.names.contains(account) else { return false }
      }
      if let text = accounts.selector, !text.isEmpty, !entity.isSelected(byServiceAccountSelector: text) { return false }
    }
    if let text = side.selector, !text.isEmpty, !entity.isSelected(by: text) { return false }
    if let text = side.notSelector, !text.isEmpty, entity.isSelected(by: text) { return false }
    return true
  }
}

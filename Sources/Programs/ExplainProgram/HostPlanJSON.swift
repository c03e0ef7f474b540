/// A host's plan for programs. The shape is promised: members may be added, none changes its meaning (design/plan.md).
import Addresses
import HostPlans
public import JSON
import Resources

extension HostPlanning {
  public var json: JSONValue {
    let sets = plan.ipSets.sorted { $0.key < $1.key }
    let routes = plan.routes.sorted { $0.key < $1.key }
    return [
      "host": .string(node),
      "endpoints": .array(
        plan.endpoints.sorted { $0.key < $1.key }.map { json($0, $1) } + plan.hostEndpoints.sorted { $0.key < $1.key }.map { json($0, $1) }),
      "policies": .array(plan.policies.sorted { $0.key < $1.key }.map(Self.json)),
      "ipSets": .array(sets.map(Self.json)),
      "routes": .array(routes.map(Self.json)),
      "tunnels": .array(plan.tunnels.sorted { $0.key < $1.key }.map { Self.json($0.key, $0.value, in: plan) }),
      "findings": .array(findings.map { ["object": .string($0.object.description), "text": .string($0.text)] }),
    ]
  }

  private func json(_ key: ResourceKey, _ endpoint: EndpointPlan) -> JSONValue {
    var document: JSONValue = ["kind": .string(key.kind.rawValue), "name": .string(key.name)]
    document["namespace"] = key.namespace.map(JSONValue.string)
    if let spec = workloads[key] {
      document["orchestrator"] = .string(spec.orchestrator)
      document["workload"] = .string(Self.workload(key, spec))
      document["endpoint"] = .string(spec.endpoint)
    }
    document["interface"] = .string(endpoint.interfaceName)
    document["mac"] = endpoint.mac.map { .string("\($0)") }
    document["addresses"] = Self.texts(endpoint.addresses)
    document["allowedSources"] = Self.texts(endpoint.allowedSources)
    document["tiers"] = json(lines(endpoint.ingress, endpoint.egress))
    document["untracked"] = []
    document["preDNAT"] = []
    document["profiles"] = Self.texts(endpoint.profiles)
    return document
  }

  private func json(_ key: ResourceKey, _ endpoint: HostEndpointPlan) -> JSONValue {
    func tiers(_ lists: TierLists) -> JSONValue { json(lines(lists.ingress, lists.egress)) }
    return [
      "kind": .string(key.kind.rawValue), "name": .string(key.name), "interface": .string(endpoint.interfaceName),
      "expectedIPs": Self.texts(endpoint.expectedAddresses), "tiers": tiers(endpoint.normal), "forward": tiers(endpoint.forward),
      "untracked": tiers(endpoint.untracked), "preDNAT": tiers(endpoint.preDNAT), "profiles": Self.texts(endpoint.profiles),
    ]
  }

  private func json(_ tiers: [TierLine]) -> JSONValue {
    .array(
      tiers.map { tier in
        var document: JSONValue = ["name": .string(tier.name), "defaultAction": .string(tier.defaultAction.rawValue)]
        // `namespace/name` is a NetworkPolicy, a name alone a GlobalNetworkPolicy.
        document["ingress"] = Self.texts(tier.ingress.map(\.qualifiedName))
        document["egress"] = Self.texts(tier.egress.map(\.qualifiedName))
        // Asked and counted, without a say.
        if !tier.stagedIngress.isEmpty { document["stagedIngress"] = Self.texts(tier.stagedIngress) }
        if !tier.stagedEgress.isEmpty { document["stagedEgress"] = Self.texts(tier.stagedEgress) }
        return document
      })
  }

  private static func json(_ key: ResourceKey, _ policy: PolicyPlan) -> JSONValue {
    var document: JSONValue = ["kind": .string(key.kind.rawValue)]
    document["namespace"] = key.namespace.map(JSONValue.string)
    document["name"] = .string(key.name)
    if key.kind != .profile { document["tier"] = .string(policy.tier) }
    document["ingress"] = .array(policy.ingress.map(json))
    document["egress"] = .array(policy.egress.map(json))
    return document
  }

  private static func json(_ rule: RulePlan) -> JSONValue {
    var document: JSONValue = ["action": .string(rule.action.rawValue)]
    document["cannotBeEnforced"] = rule.fault.map(JSONValue.string)
    document["family"] = rule.family.map { .string("\($0)") }
    document["protocol"] = rule.ipProtocol.map { .string("\($0)") }
    document["notProtocol"] = rule.notProtocol.map { .string("\($0)") }
    document["icmp"] = rule.icmp.map(json)
    document["notICMP"] = rule.notICMP.map(json)
    for (name, side) in [("source", rule.source), ("destination", rule.destination)] where side != SidePlan() { document[name] = json(side) }
    return document
  }

  private static func json(_ match: ICMPMatch) -> JSONValue {
    var document: JSONValue = [:]
    document["type"] = match.type.map { .integer(Int64($0)) }
    document["code"] = match.code.map { .integer(Int64($0)) }
    return document
  }

  private static func json(_ side: SidePlan) -> JSONValue {
    var document: JSONValue = [:]
    func add(_ name: String, _ values: [some CustomStringConvertible]) { if !values.isEmpty { document[name] = texts(values) } }
    add("nets", side.nets)
    add("notNets", side.notNets)
    add("ipSets", side.sets)
    add("notIPSets", side.notSets)
    add("ports", side.ports.map(PortMatch.range))
    add("namedPorts", side.namedPorts)
    add("notPorts", side.notPorts.map(PortMatch.range))
    add("notNamedPorts", side.notNamedPorts)
    return document
  }

  private static func json(_ id: IPSetID, _ set: IPSetPlan) -> JSONValue {
    var document: JSONValue = ["id": .string(id.text)]
    switch set.content {
    case .nets: document["selector"] = .string(set.explanation)
    case .addressPorts: document["namedPort"] = .string(set.explanation)
    }
    document["members"] = texts(set.members.sorted().map(text))
    return document
  }

  private static func json(_ prefix: IPPrefix, _ route: RoutePlan) -> JSONValue {
    var document: JSONValue = ["destination": .string("\(prefix)")]
    switch route {
    case .workload(let interface):
      document["type"] = "workload"
      document["interface"] = .string(interface)
    case .blackhole: document["type"] = "blackhole"
    case .direct(let gateway, _):
      document["type"] = "direct"
      document["gateway"] = .string("\(gateway)")
    case .tunnel(let kind, let gateway):
      document["type"] = "tunnel"
      document["tunnel"] = .string(kind.rawValue)
      document["gateway"] = .string("\(gateway)")
    }
    return document
  }

  private static func json(_ kind: TunnelKind, _ tunnel: TunnelPlan, in plan: HostPlan) -> JSONValue {
    func common(_ document: inout JSONValue, _ underlay: IPAddress, _ address: IPAddress?, _ mac: MACAddress?) {
      document["underlay"] = .string("\(underlay)")
      if let address { document["address"] = .string("\(address)") }
      if let mac { document["mac"] = .string("\(mac)") }
    }
    var document: JSONValue = ["tunnel": .string(kind.rawValue), "interface": .string(plan.settings.tunnels.deviceName(kind))]
    common(&document, tunnel.underlay, tunnel.address, tunnel.mac)
    document["peers"] = .array(
      plan.tunnelPeers.filter { $0.key.kind == kind }.sorted { $0.key < $1.key }.map { peer, far in
        var document: JSONValue = ["node": .string(peer.node)]
        common(&document, far.underlay, far.address, far.mac)
        if let key = far.publicKey { document["publicKey"] = .string(key) }
        if !far.networks.isEmpty { document["networks"] = texts(far.networks) }
        return document
      })
    return document
  }

  static func text(_ member: IPSetMember) -> String {
    switch member {
    case .net(let prefix): "\(prefix)"
    case .addressPort(let address, let ipProtocol, let port): "\(address),\(ipProtocol.description.lowercased()):\(port)"
    }
  }

  private static func texts(_ values: [some CustomStringConvertible]) -> JSONValue { .array(values.map { .string("\($0)") }) }
}

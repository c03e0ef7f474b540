/// A small cluster that changes at random, from a seed: for tests that compare two readings of the same objects.
///
/// The vocabulary is narrow on purpose, so that selectors match, addresses collide, prefixes overlap and references dangle all the time.
import Addresses
import Resources

/// SplitMix64: the same seed gives the same numbers everywhere.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
  private var state: UInt64
  public init(seed: UInt64) { state = seed }
  public mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

public struct RandomCluster: Sendable {
  public static let nodes = ["n1", "n2"]
  public var random: SeededGenerator
  /// What the mutations so far add up to.
  public private(set) var resources: [ResourceKey: Resource] = [:]

  public init(seed: UInt64) { random = SeededGenerator(seed: seed) }

  /// One object changes, appears or goes.
  public mutating func mutate() -> (key: ResourceKey, resource: Resource?) {
    var (metadata, spec) = object()
    if chance(40) { metadata.creationTimestamp = pick(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]) }
    let resource = Resource(metadata, spec)
    let gone = chance(15)
    resources[resource.key] = gone ? nil : resource
    return (resource.key, gone ? nil : resource)
  }

  /// True in `percent` of the cases.
  public mutating func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
  public mutating func pick<T>(_ values: [T]) -> T { values.randomElement(using: &random)! }
  mutating func some<T>(_ values: [T], upTo limit: Int) -> [T] {
    Array(values.shuffled(using: &random).prefix(Int.random(in: 0...limit, using: &random)))
  }

  // MARK: Objects

  private mutating func object() -> (Metadata, Resource.Spec) {
    switch Int.random(in: 0..<100, using: &random) {
    case ..<36: return endpoint()
    case ..<40: return hostEndpoint()
    case ..<53: return (Metadata(name: pick(["p0", "p1", "p2"]), namespace: pick(["a", "b"])), .networkPolicy(policy(isGlobal: false)))
    case ..<57: return staged()
    case ..<70: return (Metadata(name: pick(["g0", "g1", "g2", "g3"])), .globalNetworkPolicy(policy(isGlobal: true)))
    case ..<78:
      return (
        Metadata(name: pick(["s0", "s1"]), namespace: pick(["a", "b"]), labels: labels()),
        .networkSet(NetworkSetSpec(nets: some(Self.nets, upTo: 4)))
      )
    case ..<86:
      return (Metadata(name: pick(["gs0", "gs1"]), labels: labels()), .globalNetworkSet(NetworkSetSpec(nets: some(Self.nets, upTo: 4))))
    case ..<93: return profile()
    case ..<95: return slice()
    case ..<98:
      return (
        Metadata(name: pick(["default", "t1", "t2"])),
        .tier(TierSpec(order: pick([nil, 10, 20, 1_000_000]), defaultAction: pick([.deny, .pass])))
      )
    default:
      var spec = FelixConfigurationSpec()
      spec.ipv6Support = pick([nil, true, false])
      spec.defaultEndpointToHostAction = pick([nil, .accept, .drop, .return])
      spec.interfacePrefixes = pick([nil, ["cali"], ["cali", "tap"]])
      return (Metadata(name: pick(["default", "node.n1", "node.n2"])), .felixConfiguration(spec))
    }
  }

  static let nets = [
    "10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/24", "10.1.0.2/31", "10.1.0.1/32", "10.2.0.0/16", "192.0.2.0/24", "192.0.2.5/32", "fd00::/16",
    "fd00:1::/32", "fd00:1::1/128",
  ].map { IPPrefix($0)! }

  /// Addresses that packets may come from and go to; the first ones belong to workloads now and then.
  public static let addresses =
    (1...2).flatMap { node in (0..<5).flatMap { [address(node, $0, .v4), address(node, $0, .v6)] } }
    + ["192.0.2.5", "192.0.2.77", "203.0.113.9", "fd00:1::99", "2001:db8::1"].map { IPAddress($0)! }

  static func address(_ node: Int, _ host: Int, _ family: IPFamily) -> IPAddress {
    IPAddress(family == .v4 ? "10.\(node).0.\(host)" : "fd00:\(node)::\(host)")!
  }

  mutating func labels() -> [String: String] {
    var labels: [String: String] = [:]
    if chance(70) { labels["role"] = pick(["web", "db"]) }
    if chance(40) { labels["env"] = pick(["prod", "dev"]) }
    if chance(15) { labels["team"] = "own" }
    return labels
  }

  private mutating func endpoint() -> (Metadata, Resource.Spec) {
    var spec = WorkloadEndpointSpec()
    let namespace = pick(["a", "b"])
    let node = Int.random(in: 1...2, using: &random)
    spec.node = "n\(node)"
    spec.orchestrator = "k8s"
    spec.endpoint = "eth0"
    spec.interfaceName = chance(95) ? "cali\(Int.random(in: 0..<6, using: &random))" : ""
    for family in IPFamily.allCases where chance(80) {
      spec.ipNetworks.append(Self.address(node, Int.random(in: 0..<5, using: &random), family).hostPrefix)
    }
    if chance(50) { spec.serviceAccountName = "sa1" }
    spec.profiles = chance(80) ? ["kns.\(namespace)"] : []
    if spec.serviceAccountName == "sa1" { spec.profiles.append("ksa.\(namespace).sa1") }
    if chance(30) { spec.profiles.append(pick(["p1", "missing", "projectcalico-default-allow"])) }
    if chance(40) { spec.ports.append(.init(name: "http", protocol: pick([.tcp, .udp]), port: pick([80, 8080]))) }
    if chance(20) { spec.ports.append(.init(name: "dns", protocol: .udp, port: 53)) }
    if chance(10) { spec.allowSpoofedSourcePrefixes = [IPPrefix("192.0.2.0/24")!] }
    return (Metadata(name: "w\(Int.random(in: 0..<6, using: &random))", namespace: namespace, labels: labels()), .workloadEndpoint(spec))
  }

  /// What decides nothing, whatever it says.
  mutating func staged() -> (Metadata, Resource.Spec) {
    let action: StagedAction = pick([.set, .set, .delete, .learn, .ignore])
    if chance(40) {
      return (
        Metadata(name: pick(["g0", "g1", "g9"])),
        .stagedGlobalNetworkPolicy(StagedPolicySpec(action == .delete ? PolicySpec() : policy(isGlobal: true), stagedAction: action))
      )
    }
    let metadata = Metadata(name: pick(["p0", "p1", "p9"]), namespace: pick(["a", "b"]))
    return (metadata, .stagedNetworkPolicy(StagedPolicySpec(action == .delete ? PolicySpec() : policy(isGlobal: false), stagedAction: action)))
  }

  mutating func slice() -> (Metadata, Resource.Spec) {
    let family: IPFamily = pick([.v4, .v6])
    var slice = EndpointSliceSpec(addressType: family == .v4 ? "IPv4" : "IPv6")
    let addresses = Self.addresses.filter { $0.family == family }
    for address in some(addresses, upTo: 4) { slice.endpoints.append(.init(addresses: [address], isReady: chance(80))) }
    slice.ports = some([.init(port: 80), .init(port: 8080), .init(protocol: .udp, port: 53)], upTo: 2)
    let metadata = Metadata(
      name: pick(["e0", "e1", "e2"]), namespace: pick(["a", "b"]), labels: chance(95) ? ["kubernetes.io/service-name": pick(["x", "y"])] : [:])
    return (metadata, .kubernetesEndpointSlice(slice))
  }

  private mutating func hostEndpoint() -> (Metadata, Resource.Spec) {
    var spec = HostEndpointSpec()
    let node = Int.random(in: 1...2, using: &random)
    spec.node = "n\(node)"
    spec.interfaceName = pick(["", "*", "eth0", "eth1"])
    for family in IPFamily.allCases where chance(60) { spec.expectedIPs.append(Self.address(node, 9, family)) }
    if chance(40) { spec.profiles = [pick(["p1", "missing", "projectcalico-default-allow"])] }
    if chance(30) { spec.ports.append(EndpointPort(name: "http", protocol: pick([.tcp, .udp]), port: 8080)) }
    return (Metadata(name: "h\(Int.random(in: 0..<4, using: &random))", labels: labels()), .hostEndpoint(spec))
  }

  mutating func profile() -> (Metadata, Resource.Spec) {
    let name = pick(["kns.a", "kns.b", "ksa.a.sa1", "ksa.b.sa1", "p1"])
    var spec = ProfileSpec()
    if name.hasPrefix("kns.") {
      spec.labelsToApply = ["pcns.projectcalico.org/name": String(name.dropFirst(4))]
      if chance(50) { spec.labelsToApply["pcns.env"] = pick(["prod", "dev"]) }
    } else if name.hasPrefix("ksa.") {
      spec.labelsToApply = ["pcsa.projectcalico.org/name": "sa1"]
      if chance(50) { spec.labelsToApply["pcsa.tier"] = pick(["gold", "lead"]) }
    }
    if chance(30) { spec.labelsToApply["team"] = name }
    spec.ingress = rules(upTo: 2)
    spec.egress = chance(60) ? [Rule(.allow)] : rules(upTo: 2)
    return (Metadata(name: name), .profile(spec))
  }

  mutating func policy(isGlobal: Bool) -> PolicySpec {
    var spec = PolicySpec()
    spec.tier = pick(["default", "default", "t1", "t2", "missing"])
    spec.order = pick([nil, 1, 2, 2, 3.5])
    spec.selector = chance(4) ? "role ==" : pick(["", "all()", selector()])
    if chance(20) { spec.serviceAccountSelector = pick(["tier == 'gold'", "has(tier)", "all()"]) }
    if isGlobal, chance(40) { spec.namespaceSelector = namespaceSelector() }
    spec.types = pick([[], [.ingress], [.egress], [.ingress, .egress]])
    spec.ingress = rules(upTo: 3)
    spec.egress = rules(upTo: 3)
    if isGlobal, chance(30) {
      spec.applyOnForward = true
      if chance(20) { spec.doNotTrack = true } else if chance(20) { spec.preDNAT = true }
    }
    if chance(5) { spec.performanceHints = [.assumeNeededOnEveryNode] }
    return spec
  }

  private mutating func selector() -> String {
    pick([
      "role == 'web'", "role == \"db\"", "role != 'web'", "has(env)", "!has(env)", "env in {'prod', 'dev'}",
      "role == 'db' && env == 'prod'",
      "role == 'web' || env not in {'dev'}", "team == 'own'", "has(team)", "pcns.env == 'prod'", "role starts with 'w'",
    ])
  }

  private mutating func namespaceSelector() -> String {
    pick(["all()", "all()", "global()", "env == 'prod'", "env != 'prod'", "projectcalico.org/name == 'a'", "!has(env)", "all() && has(env)"])
  }

  // MARK: Rules

  private mutating func rules(upTo limit: Int) -> [Rule] { (0..<Int.random(in: 0...limit, using: &random)).map { _ in rule() } }

  mutating func rule() -> Rule {
    var rule = Rule(pick([.allow, .allow, .allow, .deny, .deny, .log, .pass]))
    rule.ipProtocol = pick([nil, .tcp, .tcp, .udp, .udp, .sctp, .icmp, .icmpv6, NetworkProtocol(number: 47)])
    if rule.ipProtocol == nil, chance(15) { rule.notProtocol = pick([.tcp, .udp, .sctp, .icmp, .icmpv6]) }
    if chance(12) { rule.ipVersion = pick([.v4, .v6]) }
    let isICMP = rule.ipProtocol == .icmp || rule.ipProtocol == .icmpv6
    if isICMP, chance(50) { rule.icmp = ICMPMatch(type: pick([8, 8, 13, 128, 128, 139]), code: chance(60) ? pick([0, 1]) : nil) }
    if isICMP, chance(35) { rule.notICMP = ICMPMatch(type: pick([8, 13, 128]), code: chance(50) ? pick([0, 1]) : nil) }
    if chance(60) { rule.source = side(rule) }
    if chance(60) { rule.destination = side(rule) }
    if chance(2) { rule.fault = "unreadable" }
    return rule
  }

  private mutating func side(_ rule: Rule) -> EntityRule {
    var side = EntityRule()
    if chance(30) { side.nets = some(Self.nets, upTo: 3) }
    if chance(20) { side.notNets = some(Self.nets, upTo: 2) }
    if chance(40) { side.selector = selector() }
    if chance(20) { side.notSelector = selector() }
    if chance(25) { side.namespaceSelector = namespaceSelector() }
    if chance(15) {
      side.serviceAccounts = pick([
        ServiceAccountMatch(names: ["sa1"]), ServiceAccountMatch(selector: "tier == 'gold'"),
        ServiceAccountMatch(names: ["sa1", "sa2"], selector: "has(tier)"),
      ])
    }
    if rule.ipProtocol?.hasPorts == true || chance(2) {
      if chance(40) { side.ports = some([.port(80), .range(8000...8999), .named("http"), .named("dns")], upTo: 3) }
      if chance(20) { side.notPorts = some([.port(8080), .named("http")], upTo: 2) }
    } else if rule.ipProtocol == nil, chance(40) {
      if chance(70) { side.ports = [.named("http")] } else { side.notPorts = [.named("http")] }
    }
    if chance(5) {
      // Mostly as it must stand: beside nothing else. Half of them are on the wrong side.
      if chance(80) { side = EntityRule() }
      side.services = ServiceMatch(name: pick(["x", "y"]), namespace: pick([nil, "a", "b"]))
    }
    if chance(2) { side.selector = "has(" }
    return side
  }

  // MARK: Packets

  /// Protocol, ports and addresses that the rules above are about; ICMP of types that may begin a conversation.
  public mutating func flow() -> (
    from: IPAddress, to: IPAddress, ipProtocol: NetworkProtocol, ports: (source: UInt16, destination: UInt16)?,
    icmp: (type: UInt8, code: UInt8)?
  ) {
    let family: IPFamily = pick([.v4, .v6])
    let addresses = Self.addresses.filter { $0.family == family }
    let ipProtocol: NetworkProtocol = pick([.tcp, .tcp, .udp, family == .v4 ? .icmp : .icmpv6])
    return (
      pick(addresses), pick(addresses), ipProtocol,
      ipProtocol.hasPorts ? (pick([1234, 80, 8080]), pick([80, 8080, 53, 443])) : nil,
      ipProtocol.hasPorts ? nil : (pick(family == .v4 ? [8, 13, 17] : [128, 135, 139]), pick([0, 1, 3]))
    )
  }
}

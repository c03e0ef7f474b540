/// A small world around one host, as a test can build it of namespaces: four workloads, the host, its uplink, and everybody else behind that.
///
/// Unlike a `RandomCluster` it contradicts itself nowhere: who has which address is certain, so packets can be sent.
public import Addresses
public import Resources

public struct RandomWorld: Sendable {
  /// The host that is built; `n2` is somewhere behind its uplink.
  public static let host = "n1"
  public static let uplink = "out"
  public static let hostAddresses = ["192.0.2.1", "fd00:9::1"].map { IPAddress($0)! }
  /// The names of the workloads' interfaces on the host, and the addresses behind each.
  public static let workloads: [(interface: String, addresses: [IPAddress])] = (1...4).map { index in
    ("cali\(index)", [RandomCluster.address(1, index, .v4), RandomCluster.address(1, index, .v6)])
  }
  /// Behind the uplink: workloads of the other host, that host, strangers.
  public static let outside =
    (1...2).flatMap { [RandomCluster.address(2, $0, .v4), RandomCluster.address(2, $0, .v6)] }
    + ["192.0.2.2", "fd00:9::2", "192.0.2.5", "192.0.2.77", "203.0.113.9", "fd00:1::99", "2001:db8::1"].map { IPAddress($0)! }

  public struct Flow: Hashable, Sendable {
    public var from: IPAddress
    public var to: IPAddress
    public var ipProtocol: NetworkProtocol
    public var ports: Ports?
    public var icmp: ICMP?
    public struct Ports: Hashable, Sendable {
      public var source: UInt16
      public var destination: UInt16
    }
    public struct ICMP: Hashable, Sendable {
      public var type: UInt8
      public var code: UInt8
    }
  }

  public let seed: UInt64
  public private(set) var resources: [Resource] = []
  /// The same a moment earlier: the labels and accounts were another endpoint's, so that on the way sets lose members and gain some.
  public var before: [Resource] {
    let labels = resources.filter { $0.kind == .workloadEndpoint }.map(\.metadata.labels)
    var next = labels.dropFirst() + labels.prefix(1)
    return resources.map { resource in
      guard resource.kind == .workloadEndpoint else { return resource }
      var earlier = resource
      earlier.metadata.labels = next.removeFirst()
      return earlier
    }
  }
  public private(set) var flows: [Flow] = []

  public init(seed: UInt64, flows count: Int, hasHostEndpoints: Bool = true) {
    self.seed = seed
    var cluster = RandomCluster(seed: seed &* 6_364_136_223_846_793_005 &+ 1)
    var objects: [ResourceKey: Resource] = [:]
    func add(_ metadata: Metadata, _ spec: Resource.Spec) {
      let resource = Resource(metadata, spec)
      objects[resource.key] = resource
    }
    for (index, node) in ["n1", "n2"].enumerated() {
      let spec = NodeSpec.BGP(
        ipv4Address: InterfaceAddress("192.0.2.\(index + 1)/24"), ipv6Address: InterfaceAddress("fd00:9::\(index + 1)/64"))
      add(Metadata(name: node), .node(NodeSpec(bgp: spec)))
    }
    for (index, workload) in Self.workloads.enumerated() {
      let (metadata, spec) = cluster.worldEndpoint("w\(index + 1)", node: "n1", interface: workload.interface, workload.addresses)
      add(metadata, spec)
    }
    for index in 1...2 {
      let (metadata, spec) = cluster.worldEndpoint(
        "r\(index)", node: "n2", interface: "cali\(index)", [RandomCluster.address(2, index, .v4), RandomCluster.address(2, index, .v6)])
      add(metadata, spec)
    }
    for name in ["kns.a", "kns.b", "ksa.a.sa1", "ksa.b.sa1", "p1"] where cluster.chance(85) {
      let (_, spec) = cluster.profile()
      add(Metadata(name: name), cluster.named(spec, name))
    }
    for name in ["p0", "p1", "p2"] where cluster.chance(60) {
      add(Metadata(name: name, namespace: cluster.pick(["a", "b"])), .networkPolicy(cluster.policy(isGlobal: false)))
    }
    for name in ["g0", "g1", "g2", "g3"] where cluster.chance(60) { add(Metadata(name: name), .globalNetworkPolicy(cluster.policy(isGlobal: true))) }
    // Long policies are folded into look-ups; short ones are not.
    if cluster.chance(35) {
      var spec = cluster.policy(isGlobal: true)
      (spec.selector, spec.namespaceSelector, spec.serviceAccountSelector, spec.types) = ("", nil, nil, [.ingress, .egress])
      spec.ingress = (0..<16).map { _ in cluster.rule() }
      spec.egress = (0..<14).map { _ in cluster.rule() } + [Rule(.allow)]
      if spec.preDNAT { (spec.egress, spec.types) = ([], [.ingress]) }
      add(Metadata(name: "g9"), .globalNetworkPolicy(spec))
    }
    for _ in 0..<2 where cluster.chance(40) {
      let (metadata, spec) = cluster.staged()
      add(metadata, spec)
    }
    for name in ["s0", "s1"] where cluster.chance(50) {
      add(
        Metadata(name: name, namespace: cluster.pick(["a", "b"]), labels: cluster.labels()),
        .networkSet(NetworkSetSpec(nets: cluster.some(RandomCluster.nets, upTo: 4))))
    }
    for name in ["gs0", "gs1"] where cluster.chance(80) {
      add(Metadata(name: name, labels: cluster.labels()), .globalNetworkSet(NetworkSetSpec(nets: cluster.some(RandomCluster.nets, upTo: 4))))
    }
    for _ in 0..<2 where cluster.chance(50) {
      let (metadata, spec) = cluster.slice()
      add(metadata, spec)
    }
    for name in ["t1", "t2"] where cluster.chance(70) {
      add(Metadata(name: name), .tier(TierSpec(order: cluster.pick([nil, 10, 20, 2_000_000]), defaultAction: cluster.pick([.deny, .pass, .pass]))))
    }
    if hasHostEndpoints, cluster.chance(50) {
      let (metadata, spec) = cluster.worldHostEndpoint("h1")
      add(metadata, spec)
      if cluster.chance(20) {
        let (metadata, spec) = cluster.worldHostEndpoint("h2")
        add(metadata, spec)
      }
    }
    var configuration = FelixConfigurationSpec()
    configuration.defaultEndpointToHostAction = cluster.pick([nil, .accept, .drop, .return])
    if cluster.chance(30) {
      configuration.values["failsafeInboundHostPorts"] = .failsafePorts(
        cluster.pick([[], [.init(ipProtocol: "tcp", port: 80, net: "")], [.init(ipProtocol: "udp", port: 53, net: "192.0.2.0/24")]]))
    }
    add(Metadata(name: "default"), .felixConfiguration(configuration))
    resources = objects.values.sorted { $0.key < $1.key }

    // Addresses of local workloads as the endpoints have them.
    let local = resources.flatMap { resource -> [IPAddress] in
      if case .workloadEndpoint(let spec) = resource.spec, spec.node == "n1" { spec.ipNetworks.map(\.address) } else { [] }
    }
    let places = local + local + Self.hostAddresses + Self.outside
    var tuples: Set<[String]> = []
    while flows.count < count {
      let from = cluster.pick(places)
      let to = cluster.pick(places.filter { $0.family == from.family })
      let isLocal = [from, to].map { !Self.outside.contains($0) }
      // Neither past this host, nor from somebody to itself.
      guard isLocal[0] || isLocal[1], Self.owner(of: from) != Self.owner(of: to) else { continue }
      let flow = cluster.worldFlow(from, to)
      // A flow that comes back on another one's way would be its answer.
      let here = "\(from) \(flow.ports?.source ?? 0) \(flow.ipProtocol)", there = "\(to) \(flow.ports?.destination ?? 0) \(flow.ipProtocol)"
      guard tuples.insert([here, there].sorted() + (flow.icmp.map { ["\($0.type)", "\($0.code)"] } ?? [])).inserted else { continue }
      flows.append(flow)
    }
  }

  /// The interface behind which an address is: a workload's, the uplink, or nothing: the host itself.
  public static func owner(of address: IPAddress) -> String? {
    if hostAddresses.contains(address) { return nil }
    return workloads.first { $0.addresses.contains(address) }?.interface ?? uplink
  }
}

extension RandomCluster {
  fileprivate mutating func worldEndpoint(
    _ name: String, node: String, interface: String, _ addresses: [IPAddress]
  ) -> (Metadata, Resource.Spec) {
    var spec = WorkloadEndpointSpec()
    let namespace = pick(["a", "b"])
    (spec.node, spec.orchestrator, spec.pod, spec.endpoint, spec.interfaceName) = (node, "k8s", name, "eth0", interface)
    spec.ipNetworks = addresses.map(\.hostPrefix)
    if chance(10) { spec.ipNetworks.removeLast() }
    if chance(50) { spec.serviceAccountName = "sa1" }
    spec.profiles = chance(85) ? ["kns.\(namespace)"] : []
    if spec.serviceAccountName == "sa1" { spec.profiles.append("ksa.\(namespace).sa1") }
    if chance(40) { spec.profiles.append(pick(["p1", "projectcalico-default-allow", "projectcalico-default-allow"])) }
    if chance(75) { spec.ports.append(.init(name: "http", protocol: pick([.tcp, .udp, .udp, .sctp]), port: pick([80, 8080]))) }
    if chance(20) { spec.ports.append(.init(name: "dns", protocol: .udp, port: 53)) }
    return (Metadata(name: name, namespace: namespace, labels: labels()), .workloadEndpoint(spec))
  }

  /// A profile's rules under the name of another: the labels that a namespace or an account hands down come with the name.
  fileprivate mutating func named(_ spec: Resource.Spec, _ name: String) -> Resource.Spec {
    guard case .profile(var profile) = spec else { return spec }
    profile.labelsToApply = [:]
    if name.hasPrefix("kns.") {
      profile.labelsToApply = ["pcns.projectcalico.org/name": String(name.dropFirst(4)), "pcns.env": pick(["prod", "dev"])]
    } else if name.hasPrefix("ksa.") {
      profile.labelsToApply = ["pcsa.projectcalico.org/name": "sa1", "pcsa.tier": pick(["gold", "lead"])]
    }
    // Several profiles hand the same label down, and endpoints may have it themselves.
    if chance(60) { profile.labelsToApply["team"] = pick([name, "own"]) }
    if chance(30) { profile.labelsToApply["role"] = pick(["web", "db"]) }
    if chance(60) { (profile.ingress, profile.egress) = ([Rule(.allow)], [Rule(.allow)]) }
    return .profile(profile)
  }

  fileprivate mutating func worldHostEndpoint(_ name: String) -> (Metadata, Resource.Spec) {
    var spec = HostEndpointSpec()
    spec.node = "n1"
    spec.interfaceName = pick([RandomWorld.uplink, "*", "", "eth7"])
    if spec.interfaceName.isEmpty || chance(40) { spec.expectedIPs = chance(80) ? RandomWorld.hostAddresses : [IPAddress("192.0.2.5")!] }
    spec.profiles = chance(50) ? [pick(["p1", "projectcalico-default-allow"])] : []
    if chance(30) { spec.ports.append(EndpointPort(name: "http", protocol: pick([.tcp, .udp]), port: 8080)) }
    return (Metadata(name: name, labels: labels()), .hostEndpoint(spec))
  }

  fileprivate mutating func worldFlow(_ from: IPAddress, _ to: IPAddress) -> RandomWorld.Flow {
    let family = from.family
    let ipProtocol = pick(
      [.tcp, .tcp, .udp, .udp, .sctp, .udpLite, family == .v4 ? .icmp : .icmpv6, family == .v4 ? .icmp : .icmpv6, NetworkProtocol(number: 47)])
    var flow = RandomWorld.Flow(from: from, to: to, ipProtocol: ipProtocol)
    if ipProtocol.hasPorts { flow.ports = .init(source: pick([1234, 80, 8080, 2379]), destination: pick([80, 8080, 53, 443, 8500, 22])) }
    if ipProtocol == .icmp { flow.icmp = .init(type: pick([8, 8, 13, 17, 0, 3]), code: pick([0, 0, 1, 3])) }
    if ipProtocol == .icmpv6 { flow.icmp = .init(type: pick([128, 128, 139, 129, 1]), code: pick([0, 0, 1, 3])) }
    return flow
  }
}

import Addresses
import BGPMessages
import BGPProgram
import KernelSandbox
import NetlinkEdge
import Testing

@Suite("With BIRD as a neighbour", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct BirdTests {
  static let configuration = """
    debug protocols all;
    router id 172.30.1.1;
    protocol device { }
    protocol kernel { ipv4 { export all; }; }
    protocol kernel { ipv6 { export all; }; }
    protocol static far4 { ipv4; route 10.99.0.0/16 blackhole; route 10.98.0.0/16 blackhole; }
    protocol static far6 { ipv6; route fd00:99::/48 blackhole; }
    template bgp node { local as 65000; graceful restart on; connect retry time 1; connect delay time 1; error wait time 1, 2; }
    protocol bgp node4 from node { neighbor 172.30.1.2 as 64512; ipv4 { import all; export all; }; }
    protocol bgp node6 from node { neighbor fd30:1::2 as 64512; ipv6 { import all; export all; }; }
    """

  struct World {
    let sandbox = KernelSandbox()
    let node: NetworkNamespace
    let tor: NetworkNamespace
    let bird: Bird
    init() throws {
      node = try sandbox.namespace("node")
      tor = try sandbox.namespace("tor")
      try sandbox.connect(node, "eth0", ["172.30.1.2/24", "fd30:1::2/64"], tor, "eth0", ["172.30.1.1/24", "fd30:1::1/64"])
      try sandbox.ip(node, "link", "add", "cali1", "type", "veth", "peer", "name", "workload")
      try sandbox.ip(node, "link", "set", "workload", "up")
      try sandbox.ip(node, "link", "set", "cali1", "up")
      bird = try Bird(sandbox, tor, BirdTests.configuration)
    }
    func felix(_ words: String...) throws { try sandbox.ip(node, ["route"] + words + ["proto", "80"]) }
    func learned(_ family: String = "-4") throws -> [String] {
      try sandbox.ip(node, family, "route", "show", "proto", "81").split(separator: "\n")
        .map { $0.split(separator: " ").joined(separator: " ").replacing(" metric 1024 pref medium", with: "") }
    }
  }

  static func plan() -> BGPPlan {
    var plan = BGPPlan(routerID: RouterID("172.30.1.2")!, families: [.v4, .v6])
    plan.pools = [IPPrefix("10.65.0.0/16")!, IPPrefix("fd00:65::/48")!]
    for (name, peer, own) in [("four", "172.30.1.1", "172.30.1.2"), ("six", "fd30:1::1", "fd30:1::2")] {
      plan.sessions[name] = SessionPlan(
        name: name, kind: .global, peer: IPAddress(peer)!, peerAS: 65000, localAS: 64512, localAddress: IPAddress(own)!)
    }
    return plan
  }

  @Test("Routes go both ways in both families: blocks out, what BIRD announces into the kernel", .timeLimit(.minutes(1)))
  func bothWays() throws {
    let world = try World()
    try world.felix("add", "blackhole", "10.65.1.0/26")
    try world.felix("add", "10.65.1.5/32", "dev", "cali1")
    try world.felix("add", "10.65.9.9/32", "dev", "cali1")
    try world.felix("add", "10.77.0.1/32", "dev", "cali1")
    try world.felix("add", "blackhole", "fd00:65::/122")
    let speaker = try RunningSpeaker(in: world.node)
    defer { speaker.stop() }
    speaker.apply(Self.plan())
    #expect(try eventually(within: .seconds(15)) { try world.learned().count == 2 && world.learned("-6").count == 1 }, "\(world.bird.log)")
    #expect(try world.learned() == ["10.98.0.0/16 via 172.30.1.1 dev eth0", "10.99.0.0/16 via 172.30.1.1 dev eth0"])
    #expect(try world.learned("-6") == ["fd00:99::/48 via fd30:1::1 dev eth0"])

    #expect(try eventually { try world.bird.routes().contains("fd00:65::/122") && world.bird.routes().contains("10.65.1.0/26") })
    let routes = try world.bird.routes()
    #expect(routes.contains("10.65.9.9/32"), "a borrowed address is announced")
    #expect(!routes.contains("10.65.1.5/32"), "what an own block covers is not announced")
    #expect(!routes.contains("10.77.0.1/32"), "what is in no pool is not announced")
    #expect(speaker.state("four") == "Established" && speaker.state("six") == "Established")
    #expect(speaker.session("four", "advertised") == 2)
    #expect(speaker.session("four", "accepted") == 2)

    // Deleting is followed at once, in both directions.
    try world.felix("del", "blackhole", "10.65.1.0/26")
    #expect(try eventually {
      let routes = try world.bird.routes()
      return !routes.contains("10.65.1.0/26") && routes.contains("10.65.1.5/32")
    })
    _ = try world.bird.birdc("disable", "far4")
    #expect(try eventually { try world.learned().isEmpty })
    _ = try world.bird.birdc("enable", "far4")
    #expect(try eventually { try world.learned().count == 2 })
  }

  @Test("A restart costs neither side a route and the kernel no change; what was withdrawn meanwhile goes", .timeLimit(.minutes(1)))
  func restart() throws {
    let world = try World()
    try world.felix("add", "blackhole", "10.65.1.0/26")
    var speaker = try RunningSpeaker(in: world.node)
    speaker.apply(Self.plan())
    #expect(try eventually(within: .seconds(15)) {
      try world.learned().count == 2 && world.learned("-6").count == 1 && world.bird.routes().contains("10.65.1.0/26")
    })
    speaker.stop()
    #expect(try world.learned().count == 2, "routes outlive the speaker")
    #expect(try world.bird.routes().contains("10.65.1.0/26"), "BIRD keeps our routes")

    // First: nothing changed meanwhile.
    speaker = try RunningSpeaker(in: world.node)
    #expect(speaker.isDeferring)
    speaker.apply(Self.plan())
    #expect(try eventually(within: .seconds(20)) { !speaker.isDeferring }, "\(speaker.status.text(pretty: true)) \(world.bird.log)")
    #expect(speaker.kernelChanges == 0)
    #expect(try world.learned().count == 2)
    #expect(try world.bird.routes().contains("10.65.1.0/26"))
    speaker.stop()

    // Then: a route of BIRD went and one of ours as well.
    try world.felix("del", "blackhole", "10.65.1.0/26")
    _ = try world.bird.birdc("configure", "soft")
    _ = try world.bird.birdc("disable", "far4")
    speaker = try RunningSpeaker(in: world.node)
    defer { speaker.stop() }
    speaker.apply(Self.plan())
    #expect(try eventually(within: .seconds(20)) { try world.learned().isEmpty })
    #expect(try eventually { try !world.bird.routes().contains("10.65.1.0/26") })
  }

  @Test("A next hop that becomes unreachable takes its routes along, and brings them back", .timeLimit(.minutes(1)))
  func nextHopLost() throws {
    let world = try World()
    let speaker = try RunningSpeaker(in: world.node)
    defer { speaker.stop() }
    speaker.apply(Self.plan())
    #expect(try eventually(within: .seconds(15)) { try world.learned().count == 2 })
    try world.sandbox.ip(world.node, "address", "del", "172.30.1.2/24", "dev", "eth0")
    #expect(try eventually { try world.learned().isEmpty })
    try world.sandbox.ip(world.node, "address", "add", "172.30.1.2/24", "dev", "eth0")
    #expect(try eventually(within: .seconds(20)) { try world.learned().count == 2 })
  }
}

@Suite("Speakers of ours among themselves", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct MeshTests {
  @Test("Two nodes of a mesh in different subnets route through the router between them", .timeLimit(.minutes(1)))
  func routedMiddle() throws {
    let sandbox = KernelSandbox()
    let router = try sandbox.namespace("router")
    var nodes: [NetworkNamespace] = []
    for number in 1...2 {
      let node = try sandbox.namespace("node")
      try sandbox.connect(
        node, "eth0", ["172.30.\(number).2/24", "fd30:\(number)::2/64"],
        router, "to\(number)", ["172.30.\(number).1/24", "fd30:\(number)::1/64"])
      try sandbox.ip(node, "route", "add", "default", "via", "172.30.\(number).1")
      try sandbox.ip(node, "-6", "route", "add", "default", "via", "fd30:\(number)::1")
      try sandbox.ip(node, "route", "add", "blackhole", "10.65.\(number).0/26", "proto", "80")
      try sandbox.ip(node, "route", "add", "blackhole", "fd00:65:\(number)::/122", "proto", "80")
      nodes.append(node)
    }
    for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] { try router.ensureSysctl("1", key) }
    var resources = BGPResources()
    for number in 1...2 {
      resources.nodes["node\(number)"] = .init(
        spec: .init(
          bgp: .init(
            ipv4Address: InterfaceAddress("172.30.\(number).2/24")!, ipv6Address: InterfaceAddress("fd30:\(number)::2/64")!)))
    }
    resources.pools["four"] = .init(cidr: IPPrefix("10.65.0.0/16")!)
    resources.pools["six"] = .init(cidr: IPPrefix("fd00:65::/32")!)
    let speakers = try nodes.map { try RunningSpeaker(in: $0) }
    defer { for speaker in speakers { speaker.stop() } }
    for number in 1...2 { speakers[number - 1].apply(BGPPlan(for: "node\(number)", resources)!) }

    func learned(_ index: Int, _ family: String) throws -> String { try sandbox.ip(nodes[index], family, "route", "show", "proto", "81") }
    #expect(try eventually(within: .seconds(15)) {
      try learned(0, "-4").contains("10.65.2.0/26 via 172.30.1.1 dev eth0")
        && learned(1, "-4").contains("10.65.1.0/26 via 172.30.2.1 dev eth0")
        && learned(0, "-6").contains("fd00:65:2::/122 via fd30:1::1 dev eth0")
        && learned(1, "-6").contains("fd00:65:1::/122 via fd30:2::1 dev eth0")
    }, "\(speakers[0].status.text(pretty: true))")

    // The default route goes and comes.
    try sandbox.ip(nodes[0], "route", "del", "default")
    #expect(try eventually { try learned(0, "-4").isEmpty })
    try sandbox.ip(nodes[0], "route", "add", "default", "via", "172.30.1.1")
    #expect(try eventually { try learned(0, "-4").contains("10.65.2.0/26 via 172.30.1.1 dev eth0") })

    // A new pool setting is applied in place: sessions stay.
    var without = resources
    without.pools["four"]!.disableBGPExport = true
    for number in 1...2 { speakers[number - 1].apply(BGPPlan(for: "node\(number)", without)!) }
    #expect(try eventually { try learned(0, "-4").isEmpty && learned(1, "-4").isEmpty })
    for number in 1...2 { speakers[number - 1].apply(BGPPlan(for: "node\(number)", resources)!) }
    #expect(try eventually { try !learned(0, "-4").isEmpty && !learned(1, "-4").isEmpty })
    #expect(speakers[0].session("Mesh_172_30_2_2", "timesEstablished") == 1)

    // A node leaves the cluster: its routes go at once.
    var alone = resources
    alone.nodes["node2"] = nil
    speakers[0].apply(BGPPlan(for: "node1", alone)!)
    #expect(try eventually { try learned(0, "-4").isEmpty && learned(0, "-6").isEmpty })
    #expect(try eventually { try learned(1, "-4").isEmpty }, "the other side was told, and keeps nothing")
  }
}

/// What stands before and behind policy, packet by packet: loops, tunnels, OpenStack's services, limits, marks.

import Addresses
import Glibc
import HostPlans
import KernelSandbox
import NetlinkEdge
@testable import PolicyRendering
import Resources
import RulesetDriver
import Sockets
import Testing

extension Fabric {
  func python(_ namespace: NetworkNamespace, _ lines: String...) throws {
    try sandbox.run(namespace, "/usr/bin/python3", ["-c", (["import socket"] + lines).joined(separator: "\n")])
  }
  func endpoint(_ n: Int, _ edit: (inout EndpointPlan) -> Void) -> HostPlanChange {
    guard case .endpoint(let key, var plan) = endpoint(n) else { preconditionFailure("it is an endpoint") }
    edit(&plan)
    return .endpoint(key, plan)
  }
  static func limits(_ limits: [QoSControls.Limit: Int64], dscp: String? = nil) -> QoSControls {
    var controls = QoSControls()
    controls.limits = limits
    controls.dscp = dscp.flatMap { DSCP($0) }
    return controls
  }
}

@Suite("Around policy", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct AroundPolicyTests {
  @Test("A packet to a service's address that nothing has translated does not loop: it ends, with or without a word")
  func loops() throws {
    let fabric = try Fabric()
    // Nobody says that there is a shorter way.
    for (namespace, name) in [(fabric.outside, "eth0"), (fabric.host, "out")] {
      try fabric.sandbox.run(
        namespace, "sysctl",
        ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.\(name).send_redirects=0"])
    }
    for (net, gateway, back) in [("10.96.0.0/12", "192.0.2.2", "192.0.2.1"), ("fd96::/112", "fd00:2::2", "fd00:2::1")] {
      try fabric.sandbox.ip(fabric.host, "route", "add", net, "via", gateway)
      try fabric.sandbox.ip(fabric.outside, "route", "add", net, "via", back)
    }
    func answers(_ from: NetworkNamespace, _ target: String, within seconds: String = "0.3") throws -> String {
      try fabric.sandbox.tryRun(from, "ping", ["-n", "-c1", "-W", seconds, target]).output
    }
    var settings = HostSettings()
    settings.filter.serviceLoops = .disabled
    try fabric.opened { $0 = settings }
    for target in ["10.96.0.1", "fd96::1"] {
      let answer = try answers(fabric.workloads[0], target, within: "3")
      #expect(answer.contains("exceeded"), "without prevention the packet runs around: \(answer)")
    }
    settings.filter.serviceLoops = .drop
    try fabric.apply(.settings(settings), .ipSet(.services, nets("10.96.0.0/12", "fd96::/112")))
    for target in ["10.96.0.1", "fd96::1"] {
      for from in [fabric.outside, fabric.workloads[0]] {
        let answer = try answers(from, target)
        #expect(answer.contains("100% packet loss") && !answer.contains("From"), "\(answer)")
      }
    }
    #expect(try fabric.count("forward", "to a service that nothing has translated") == 2)
    #expect(try fabric.pings(fabric.workloads[0], "192.0.2.2", expecting: true))
    settings.filter.serviceLoops = .reject
    try fabric.apply(.settings(settings))
    #expect(try answers(fabric.outside, "10.96.0.1", within: "3").contains("Packet filtered"))
    #expect(try answers(fabric.workloads[0], "fd96::1", within: "3").contains("prohibited"))
  }

  @Test("A workload sends no tunnelled packets, unless it may")
  func tunnels() throws {
    let fabric = try Fabric()
    let (one, outside) = (fabric.workloads[0], fabric.outside)
    try fabric.opened()
    func sendIPIP(_ target: String) throws {
      try fabric.python(
        one, "s=socket.socket(socket.AF_INET\(target.contains(":") ? "6" : ""), socket.SOCK_RAW, 4)", "s.sendto(b'\\x45'+b'\\0'*19, ('\(target)', 0))")
    }
    for target in ["192.0.2.2", "fd00:2::2"] {
      #expect(try !fabric.delivers(one, outside, target, 4789, expecting: false), "\(target)")
      #expect(try fabric.delivers(one, outside, target, 4790, expecting: true), "\(target)")
      try sendIPIP(target)
    }
    #expect(try fabric.count("from-workload", "IPIP from a workload") == 2)
    var settings = HostSettings()
    settings.tunnels.vxlanPort = 4790
    try fabric.apply(.settings(settings))
    #expect(try fabric.delivers(one, outside, "192.0.2.2", 4789, expecting: true))
    #expect(try !fabric.delivers(one, outside, "fd00:2::2", 4790, expecting: false))
    settings.filter.allowsVXLANFromWorkloads = true
    settings.filter.allowsIPIPFromWorkloads = true
    try fabric.apply(.settings(settings))
    #expect(try fabric.delivers(one, outside, "fd00:2::2", 4790, expecting: true))
    let listing = try fabric.sandbox.run(fabric.host, "nft", ["list", "chain", "inet", "margay", "from-workload"])
    #expect(!listing.contains("IPIP") && !listing.contains("VXLAN"))
  }

  @Test("OpenStack's instances reach DHCP, names and metadata of their host, and others do not; nothing else on the loopback is reached")
  func openStack() throws {
    let fabric = try Fabric()
    let (host, instance) = (fabric.host, fabric.workloads[2])
    try fabric.opened()
    let metadata = try socket(in: host) { try Socket.listening(on: SocketAddress(address("127.0.0.1"), port: 8775)) }
    // A request before the instance has an address.
    try fabric.sandbox.ip(instance, "address", "flush", "dev", "eth0", "scope", "global")
    func asksV4() throws -> Bool {
      let server = try socket(in: host) {
        let socket = try Socket.udp(.v4)
        try socket.bind(SocketAddress(address("0.0.0.0"), port: 67))
        return socket
      }
      try fabric.python(
        instance, "s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM)", "s.setsockopt(1, 25, b'eth0')", "s.setsockopt(1, 6, 1)",
        "s.bind(('0.0.0.0', 68))", "s.sendto(b'discover', ('255.255.255.255', 67))")
      return try eventually(within: Fabric.suspicion) { try server.receiveDatagram() != nil }
    }
    func asksV6() throws -> Bool {
      let server = try socket(in: host) {
        let socket = try Socket.udp(.v6)
        try socket.bind(SocketAddress(address("::"), port: 547))
        return socket
      }
      try fabric.python(
        instance, "s=socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)", "s.bind(('::', 546))",
        "s.sendto(b'solicit', ('fe80::1', 547, 0, socket.if_nametoindex('eth0')))")
      return try eventually(within: Fabric.suspicion) { try server.receiveDatagram() != nil }
    }
    func getsMetadata(_ expecting: Bool) throws -> Bool {
      let client = try socket(in: instance) { try Socket.tcp(.v4) }
      _ = try client.connect(to: SocketAddress(address("169.254.169.254"), port: 80))
      return try eventually(within: expecting ? Fabric.patience : Fabric.suspicion) {
        guard let connection = try metadata.accept() else { return false }
        _ = consume connection
        return true
      }
    }
    func isNamed(_ expecting: Bool) throws -> Bool {
      try fabric.delivers(instance, fabric.host, "169.254.1.1", 53, expecting: expecting)
    }
    try fabric.apply(fabric.endpoint(3))
    #expect(try !asksV4() && !asksV6())
    try fabric.apply(fabric.endpoint(3) { $0.isOpenStack = true })
    #expect(try asksV4())
    #expect(try asksV6())
    // With its address; the loopback is routed from there, as the link driver sees to it.
    try fabric.sandbox.ip(instance, "address", "add", "10.65.0.3/32", "dev", "eth0")
    try fabric.sandbox.ip(instance, "route", "replace", "169.254.1.1", "dev", "eth0")
    try fabric.sandbox.ip(instance, "route", "replace", "default", "via", "169.254.1.1")
    try fabric.sandbox.run(host, "sysctl", ["-qw", "net.ipv4.conf.cali3.route_localnet=1"])
    #expect(try getsMetadata(true))
    #expect(try isNamed(true))
    #expect(try !fabric.delivers(instance, host, "169.254.1.1", 54, expecting: false), "nothing else")

    // An instance that routes 127.0.0.1 to its gateway does not reach the host's loopback services, whatever policy lets it.
    var settings = HostSettings()
    settings.endpointToHostAction = .accept
    try fabric.apply(.settings(settings))
    try fabric.sandbox.run(instance, "sysctl", ["-qw", "net.ipv4.conf.eth0.route_localnet=1"])
    for local in ["127.0.0.0/8", "127.0.0.1/32"] { try fabric.sandbox.ip(instance, "route", "delete", "local", local, "dev", "lo", "table", "local") }
    try fabric.sandbox.ip(instance, "route", "add", "127.0.0.0/8", "via", "169.254.1.1", "src", "10.65.0.3")
    #expect(try !fabric.delivers(instance, source: "10.65.0.3", host, "127.0.0.1", 54, expecting: false))
    #expect(try fabric.count("workload-source", "to the host's loopback addresses") > 0)
    #expect(try fabric.delivers(instance, host, "169.254.1.1", 54, expecting: true))

    try fabric.apply(fabric.endpoint(3))
    #expect(try !getsMetadata(false))
    #expect(!(try fabric.sandbox.run(host, "nft", ["list", "ruleset"])).contains("openstack"))
  }
}

@Suite("Limits and marks of endpoints", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct EndpointLimitTests {
  @Test("Of a flood as many packets come through as burst and rate allow, in each direction, established or not")
  func packetRate() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    try fabric.opened()
    func flood(_ target: String) throws -> Int {
      let there = SocketAddress(address(target), port: 5001)
      let receiver = try socket(in: two) {
        let socket = try Socket.udp(there.address.family)
        try socket.bind(there)
        return socket
      }
      let sender = try socket(in: one) { try Socket.udp(there.address.family) }
      for _ in 0..<100 { _ = try sender.send([1], to: there) }
      var count = 0
      _ = try eventually(within: Fabric.suspicion) {
        while try receiver.receiveDatagram() != nil { count += 1 }
        return count >= 100
      }
      return count
    }
    #expect(try flood("10.65.0.2") == 100)
    // A packet each 100 s: beside the burst none.
    try fabric.apply(fabric.endpoint(1) { $0.qos = Fabric.limits([.egressPacketRate: 1, .egressPacketBurst: 20]) })
    let out = try flood("10.65.0.2")
    #expect((20...22).contains(out), "\(out)")
    try fabric.apply(fabric.endpoint(1), fabric.endpoint(2) { $0.qos = Fabric.limits([.ingressPacketRate: 1, .ingressPacketBurst: 30]) })
    let into = try flood("fd65::2")
    #expect((30...32).contains(into), "\(into)")
    // In place, and gone with the endpoint's wish.
    try fabric.apply(fabric.endpoint(2) { $0.qos = Fabric.limits([.ingressPacketRate: 1, .ingressPacketBurst: 40]) })
    #expect((40...42).contains(try flood("10.65.0.2")))
    try fabric.apply(fabric.endpoint(2))
    #expect(try flood("fd65::2") == 100)
    #expect(!(try fabric.sandbox.run(fabric.host, "nft", ["list", "ruleset"])).contains("packet-rate"))
  }

  @Test("The connection beyond the limit is refused with a reset, and one that ends makes room", arguments: [true, false])
  func connections(isIngress: Bool) throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    try fabric.opened()
    let target = isIngress ? "10.65.0.2" : "fd65::2"
    let limit = Fabric.limits([isIngress ? .ingressMaxConnections : .egressMaxConnections: 2])
    try fabric.apply(fabric.endpoint(isIngress ? 2 : 1) { $0.qos = limit })
    let there = SocketAddress(address(target), port: 80)
    let listener = try socket(in: two) { try Socket.listening(on: there) }
    var first: Attempt? = try Attempt(from: one, there)
    let second = try Attempt(from: one, there)
    #expect(first!.isConnected && second.isConnected)
    let third = try Attempt(from: one, there)
    #expect(!third.isConnected && third.error == ECONNREFUSED, "\(third.error ?? 0)")
    first = nil
    // The server lets go as well, and connection tracking has seen the end.
    while let connection = try listener.accept() { _ = consume connection }
    #expect(try eventually { try Attempt(from: one, there).isConnected })
    withExtendedLifetime(second) {}
  }

  private final class Attempt {
    private let client: Socket
    private(set) var isConnected = false
    private(set) var error: CInt?
    init(from namespace: NetworkNamespace, _ there: SocketAddress) throws {
      client = try socket(in: namespace) { try Socket.tcp(there.address.family) }
      _ = try client.connect(to: there)
      _ = try eventually(within: Fabric.patience) {
        error = client.pendingError()?.code
        isConnected = (try? client.peerAddress()) != nil
        return error != nil || isConnected
      }
    }
  }

  @Test("Packets that leave the cluster bear the code point, those within do not")
  func marks() throws {
    let fabric = try Fabric()
    let (one, two, outside) = (fabric.workloads[0], fabric.workloads[1], fabric.outside)
    try fabric.opened()
    for namespace in [two, outside] {
      try fabric.sandbox.run(
        namespace, "nft",
        ["add table inet seen; add chain inet seen c { type filter hook input priority 0; }; add rule inet seen c ip dscp 46 udp dport 5001 counter;"
          + " add rule inet seen c ip6 dscp 46 udp dport 5001 counter;"])
    }
    func marked(_ namespace: NetworkNamespace) throws -> [Int] {
      let words = try fabric.sandbox.run(namespace, "nft", ["list", "chain", "inet", "seen", "c"]).split(whereSeparator: \.isWhitespace)
      return words.indices.filter { words[$0] == "packets" }.compactMap { Int(words[$0 + 1]) }
    }
    try fabric.apply(
      .ipSet(.networkPools, nets("10.65.0.0/16", "fd65::/64")), .ipSet(.hosts, nets("192.0.2.99/32")), .ipSet(.masqueradedPools, nets("10.65.0.0/16")),
      fabric.endpoint(1) { $0.qos = Fabric.limits([:], dscp: "EF") })
    for target in ["192.0.2.2", "fd00:2::2"] { #expect(try fabric.delivers(one, outside, target, 5001, expecting: true), "\(target)") }
    for target in ["10.65.0.2", "fd65::2"] { #expect(try fabric.delivers(one, two, target, 5001, expecting: true), "\(target)") }
    #expect(try fabric.delivers(two, outside, "192.0.2.2", 5001, expecting: true))
    #expect(try marked(outside) == [1, 1], "the second workload does not mark, and translation does not hide the first")
    #expect(try marked(two) == [0, 0])
    // A host is inside as well.
    try fabric.apply(.ipSetMembers(.hosts, added: [.net(prefix("192.0.2.2/32"))], removed: []))
    #expect(try fabric.delivers(one, outside, "192.0.2.2", 5001, expecting: true))
    #expect(try marked(outside) == [1, 1])
    try fabric.apply(fabric.endpoint(1))
    #expect(!(try fabric.sandbox.run(fabric.host, "nft", ["list", "ruleset"])).contains("mark-leaving"))
  }
}

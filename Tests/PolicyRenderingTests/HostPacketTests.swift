/// Real packets to, from and through a host whose own interfaces have host endpoints. The world outside is at `out`, a second network at
/// `in`: 198.51.100.2 and fd00:3::2.

import Addresses
import Glibc
import HostPlans
import KernelSandbox
import NetlinkEdge
import Resources
import RulesetDriver
import Rulesets
import Sockets
import Testing

@testable import PolicyRendering

@Suite("Packets over the host's own interfaces", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct HostPacketTests {
  static func tcp(_ action: RuleAction, _ ports: UInt16...) -> RulePlan {
    rule(action) {
      $0.ipProtocol = .tcp
      $0.destination.ports = ports.map { $0...$0 }
    }
  }
  static func udp(_ action: RuleAction, from source: UInt16? = nil, to destination: UInt16? = nil) -> RulePlan {
    rule(action) {
      $0.ipProtocol = .udp
      $0.source.ports = source.map { [$0...$0] } ?? []
      $0.destination.ports = destination.map { [$0...$0] } ?? []
    }
  }
  static let open = PolicyPlan(ingress: [rule(.allow)], egress: [rule(.allow)])
  struct Ends: CustomStringConvertible {
    var host, outside, inside, workload: String
    var description: String { host }
  }
  static let ends = [
    Ends(host: "192.0.2.1", outside: "192.0.2.2", inside: "198.51.100.2", workload: "10.65.0.1"),
    Ends(host: "fd00:2::1", outside: "fd00:2::2", inside: "fd00:3::2", workload: "fd65::1"),
  ]

  /// The fabric with the network inside, and workload 1 known and open.
  func fabric() throws -> (Fabric, inside: NetworkNamespace) {
    let fabric = try Fabric()
    let inside = try fabric.sandbox.namespace("in")
    try fabric.sandbox.connect(
      fabric.host, "in", ["198.51.100.1/24", "fd00:3::1/64"], inside, "eth0", ["198.51.100.2/24", "fd00:3::2/64"])
    try fabric.sandbox.ip(inside, "route", "add", "default", "via", "198.51.100.1")
    try fabric.sandbox.ip(inside, "-6", "route", "add", "default", "via", "fd00:3::1")
    try fabric.apply(.policy(profileKey("kns.default"), Self.open), fabric.endpoint(1))
    return (fabric, inside)
  }

  @Test(
    "What comes to the host and leaves it is decided by its endpoint's policies; failsafe ports, neighbour discovery and the others' interfaces stay open"
  )
  func normal() throws {
    let (fabric, inside) = try fabric()
    let (host, outside) = (fabric.host, fabric.outside)
    for end in Self.ends { #expect(try fabric.connects(outside, host, end.host, 80, expecting: true)) }

    // Neither policy nor profile: nothing but the failsafe ports.
    try fabric.apply(.hostEndpoint(hostKey("out"), hostPlan()))
    try fabric.sandbox.ip(host, "neigh", "flush", "all")
    try fabric.sandbox.ip(outside, "neigh", "flush", "all")
    for end in Self.ends {
      #expect(try fabric.connects(outside, host, end.host, 22, expecting: true), "\(end): failsafe, and its neighbour is found")
      #expect(try !fabric.connects(outside, host, end.host, 80, expecting: false), "\(end)")
      #expect(try !fabric.pings(outside, end.host, expecting: false), "\(end)")
      #expect(try fabric.delivers(host, outside, end.outside, 53, expecting: true), "\(end)")
      #expect(try !fabric.delivers(host, outside, end.outside, 54, expecting: false), "\(end)")
      // Neither what it forwards nor its other interfaces.
      #expect(try fabric.connects(outside, inside, end.inside, 80, expecting: true), "\(end)")
      #expect(try fabric.connects(outside, fabric.workloads[0], end.workload, 80, expecting: true), "\(end)")
      #expect(try fabric.connects(host, fabric.workloads[0], end.workload, 80, expecting: true), "\(end)")
    }
    #expect(try fabric.connects(inside, host, "198.51.100.1", 80, expecting: true))

    // Policies in both directions, then the profile.
    try fabric.apply(
      .policy(globalKey("web"), PolicyPlan(ingress: [Self.tcp(.allow, 80)], egress: [Self.tcp(.deny, 81), rule(.pass)])),
      .policy(profileKey("open"), Self.open),
      .hostEndpoint(hostKey("out"), hostPlan(normal: TierLists(ingress: tiers("web"), egress: tiers("web")), profiles: ["open"])))
    for end in Self.ends {
      #expect(try fabric.connects(outside, host, end.host, 80, expecting: true), "\(end)")
      #expect(try !fabric.connects(outside, host, end.host, 82, expecting: false), "\(end)")
      #expect(try !fabric.connects(host, outside, end.outside, 81, expecting: false), "\(end)")
      #expect(try fabric.connects(host, outside, end.outside, 82, expecting: true), "\(end)")
      #expect(try fabric.pings(host, end.outside, expecting: true), "\(end): the reply belongs to a connection")
    }
    // Only the profile.
    try fabric.apply(.hostEndpoint(hostKey("out"), hostPlan(profiles: ["open"])))
    for end in Self.ends { #expect(try fabric.connects(outside, host, end.host, 82, expecting: true), "\(end)") }

    // A failsafe port for one network.
    var settings = HostSettings()
    settings.failsafes.inbound = [.init(.tcp, 22, net: prefix("192.0.2.0/30")), .init(.tcp, 23, net: prefix("203.0.113.0/24"))]
    try fabric.apply(.settings(settings), .hostEndpoint(hostKey("out"), hostPlan()))
    #expect(try fabric.connects(outside, host, "192.0.2.1", 22, expecting: true))
    #expect(try !fabric.connects(outside, host, "192.0.2.1", 23, expecting: false))
    #expect(try !fabric.connects(outside, host, "fd00:2::1", 22, expecting: false))
  }

  @Test("Forwarded packets meet policies with applyOnForward only, and then those of a workload; failsafe ports are not theirs")
  func forward() throws {
    let (fabric, inside) = try fabric()
    let (host, outside, workload) = (fabric.host, fabric.outside, fabric.workloads[0])
    try fabric.apply(
      .policy(globalKey("transit"), PolicyPlan(ingress: [Self.tcp(.allow, 80, 81)], egress: [Self.tcp(.allow, 80, 82)])),
      .hostEndpoint(hostKey("out"), hostPlan(forward: TierLists(ingress: tiers("transit"), egress: tiers("transit")))))
    for end in Self.ends {
      for target in [(workload, end.workload), (inside, end.inside)] {
        #expect(try fabric.connects(outside, target.0, target.1, 80, expecting: true), "\(target.1)")
        #expect(try !fabric.connects(outside, target.0, target.1, 22, expecting: false), "\(target.1)")
        #expect(try fabric.connects(target.0, outside, end.outside, 82, expecting: true), "\(target.1)")
        #expect(try !fabric.connects(target.0, outside, end.outside, 81, expecting: false), "\(target.1)")
      }
      // Between the other interfaces nothing is asked.
      #expect(try fabric.connects(inside, workload, end.workload, 82, expecting: true), "\(end)")
      // The host's own is another list: nobody allows it.
      #expect(try !fabric.connects(outside, host, end.host, 80, expecting: false), "\(end)")
    }
    // What the host's interface lets through, a workload's policy may still refuse.
    try fabric.apply(.policy(policyKey("web"), PolicyPlan(ingress: [Self.tcp(.allow, 80)])), fabric.endpoint(1, ingress: PacketTests.tier))
    for end in Self.ends {
      #expect(try fabric.connects(outside, workload, end.workload, 80, expecting: true), "\(end)")
      #expect(try !fabric.connects(outside, workload, end.workload, 81, expecting: false), "\(end)")
      #expect(try fabric.connects(outside, inside, end.inside, 81, expecting: true), "\(end)")
    }
  }

  @Test(
    "Untracked policy decides before there is a connection: no entry is made, replies need their own rule, and later policy is not asked")
  func untracked() throws {
    let (fabric, _) = try fabric()
    let (host, outside) = (fabric.host, fabric.outside)
    let raw = PolicyPlan(
      ingress: [Self.udp(.allow, to: 5000), Self.udp(.deny, to: 5002)], egress: [Self.udp(.allow, from: 5000)])
    try fabric.apply(
      .policy(globalKey("raw"), raw),
      .policy(globalKey("web"), PolicyPlan(ingress: [Self.udp(.allow, to: 5001), Self.udp(.allow, to: 5002)])),
      .hostEndpoint(
        hostKey("out"),
        hostPlan(normal: TierLists(ingress: tiers("web")), untracked: TierLists(ingress: tiers("raw"), egress: tiers("raw")))))
    for end in Self.ends {
      #expect(try fabric.delivers(outside, host, end.host, 5000, expecting: true), "\(end)")
      #expect(try fabric.delivers(outside, host, end.host, 5001, expecting: true), "\(end): tracked, and allowed by normal policy")
      #expect(try !fabric.delivers(outside, host, end.host, 5002, expecting: false), "\(end): denied before")
      #expect(try !fabric.delivers(outside, host, end.host, 5003, expecting: false), "\(end): allowed by nobody")
      #expect(try fabric.connects(outside, host, end.host, 22, expecting: true), "\(end): failsafe")
      // An answer from port 5000 passes untracked; from another port nobody allows it.
      #expect(try fabric.delivers(host, from: 5000, outside, end.outside, 6000), "\(end)")
      #expect(try !fabric.delivers(host, from: 5009, outside, end.outside, 6000), "\(end)")
    }
    let entries =
      try fabric.sandbox.run(host, "conntrack", ["-L", "-p", "udp"])
      + fabric.sandbox.run(host, "conntrack", ["-L", "-f", "ipv6", "-p", "udp"])
    #expect(entries.contains("dport=5001"))
    #expect(!entries.contains("dport=5000") && !entries.contains("sport=5000"), "\(entries)")
    // Somebody else's notrack is no permission of ours.
    try fabric.sandbox.run(
      host, "nft",
      [
        "add table inet foreign; add chain inet foreign raw { type filter hook prerouting priority -310; }; add rule inet foreign raw udp dport 5003 notrack"
      ])
    #expect(try !fabric.delivers(outside, host, "192.0.2.1", 5003, expecting: false))
  }

  @Test("Pre-DNAT policy sees the destination that the sender wrote; what it allows goes on to the workload's policy")
  func preDNAT() throws {
    let (fabric, _) = try fabric()
    let (host, outside, workload) = (fabric.host, fabric.outside, fabric.workloads[0])
    try fabric.sandbox.run(
      host, "nft",
      [
        """
        table inet foreign {
          chain translate { type nat hook prerouting priority -100;
            ip daddr 192.0.2.1 tcp dport 30000-30002 dnat ip to 10.65.0.1:80
            ip6 daddr fd00:2::1 tcp dport 30000-30002 dnat ip6 to [fd65::1]:80
          }
        }
        """
      ])
    func reaches(_ target: String, _ port: UInt16, expecting: Bool) throws -> Bool {
      try fabric.connects(
        outside, workload, target.contains(":") ? "fd65::1" : "10.65.0.1", 80, by: SocketAddress(address(target), port: port),
        expecting: expecting)
    }
    for end in Self.ends { #expect(try reaches(end.host, 30000, expecting: true), "\(end)") }
    try fabric.apply(
      .policy(globalKey("before"), PolicyPlan(ingress: [Self.tcp(.allow, 30000), Self.tcp(.deny, 30001)])),
      .hostEndpoint(hostKey("out"), hostPlan(preDNAT: TierLists(ingress: tiers("before")))))
    for end in Self.ends {
      #expect(try reaches(end.host, 30000, expecting: true), "\(end)")
      #expect(try !reaches(end.host, 30001, expecting: false), "\(end)")
      #expect(try reaches(end.host, 30002, expecting: true), "\(end): no policy decides, and forwarded packets are not asked for more")
      #expect(try fabric.connects(outside, host, end.host, 22, expecting: true), "\(end): failsafe")
      // Allowed before: the normal list, which would deny, is not asked.
      #expect(
        try fabric.connects(outside, host, end.host, 30000, by: SocketAddress(address(end.host), port: 30000), expecting: false) == false,
        "\(end): translated, it is not the host's")
    }
    // An allowed one is through for the host, and not for the workload behind it.
    try fabric.apply(.policy(policyKey("web"), PolicyPlan()), fabric.endpoint(1, ingress: PacketTests.tier))
    for end in Self.ends { #expect(try !reaches(end.host, 30000, expecting: false), "\(end)") }
    try fabric.sandbox.run(host, "nft", ["delete table inet foreign"])
    for end in Self.ends {
      #expect(
        try fabric.connects(outside, host, end.host, 30000, expecting: true), "\(end): allowed before translation, which did not come")
      #expect(try !fabric.connects(outside, host, end.host, 30002, expecting: false), "\(end)")
    }
  }

  @Test("What the host sends to a translated destination is policed by the interface that it leaves over")
  func translated() throws {
    let (fabric, inside) = try fabric()
    let host = fabric.host
    try fabric.sandbox.ip(host, "route", "add", "203.0.113.0/24", "dev", "out")
    try fabric.sandbox.ip(host, "-6", "route", "add", "2001:db8::/64", "dev", "out")
    try fabric.sandbox.run(
      host, "nft",
      [
        """
        table inet foreign {
          chain translate { type nat hook output priority -100;
            ip daddr 203.0.113.1 dnat ip to 198.51.100.2
            ip6 daddr 2001:db8::1 dnat ip6 to fd00:3::2
          }
        }
        """
      ])
    func reaches(_ target: String, _ port: UInt16, expecting: Bool) throws -> Bool {
      try fabric.connects(
        host, inside, target.contains(":") ? "fd00:3::2" : "198.51.100.2", port, by: SocketAddress(address(target), port: port),
        expecting: expecting)
    }
    let targets = ["203.0.113.1", "2001:db8::1"]
    for deny in [FilterSettings.Deny.drop, .reject] {
      var settings = HostSettings()
      settings.filter.deny = deny
      // It is routed to `out` first, whose endpoint denies everything.
      try fabric.apply(.settings(settings), .hostEndpoint(hostKey("out"), hostPlan()))
      for target in targets { #expect(try reaches(target, 80, expecting: true), "\(target)") }
      try fabric.apply(
        .policy(globalKey("web"), PolicyPlan(egress: [Self.tcp(.allow, 80)])),
        .hostEndpoint(hostKey("in"), hostPlan("in", normal: TierLists(egress: tiers("web")))))
      for target in targets {
        #expect(try reaches(target, 80, expecting: true), "\(target)")
        #expect(try !reaches(target, 81, expecting: false), "\(target)")
        #expect(try reaches(target, 2379, expecting: true), "\(target): failsafe")
      }
      try fabric.apply(.hostEndpointRemoved(hostKey("in")))
    }
    // Forwarded packets whose destination was translated are not the host's own.
    try fabric.sandbox.run(
      host, "nft",
      [
        "add chain inet foreign pre { type nat hook prerouting priority -100; }; add rule inet foreign pre ip daddr 192.0.2.1 tcp dport 8080 dnat ip to 198.51.100.2:80"
      ])
    try fabric.apply(.hostEndpointRemoved(hostKey("out")), .hostEndpoint(hostKey("in"), hostPlan("in")))
    #expect(
      try fabric.connects(fabric.outside, inside, "198.51.100.2", 80, by: SocketAddress(address("192.0.2.1"), port: 8080), expecting: true))
  }

  @Test("An endpoint for all interfaces polices those that have no other and are not excluded, new ones at once, and no workload's")
  func wildcard() throws {
    let (fabric, inside) = try fabric()
    let (host, outside, workload) = (fabric.host, fabric.outside, fabric.workloads[0])
    var settings = HostSettings()
    settings.endpointToHostAction = .accept
    settings.excludedInterfaces = ["/^in.*/"]
    fabric.rig.renderer.observe(interfaces: ["out": [address("192.0.2.1")], "in": [address("198.51.100.1")]])
    try fabric.apply(
      .settings(settings), .policy(globalKey("transit"), PolicyPlan(ingress: [Self.tcp(.allow, 80)])),
      .hostEndpoint(
        hostKey("all"),
        hostPlan("*", normal: TierLists(ingress: tiers("transit")), forward: TierLists(ingress: tiers("transit")), preDNAT: TierLists())))
    for end in Self.ends {
      #expect(try fabric.connects(outside, host, end.host, 80, expecting: true), "\(end)")
      #expect(try !fabric.connects(outside, host, end.host, 81, expecting: false), "\(end)")
      #expect(try !fabric.connects(outside, inside, end.inside, 81, expecting: false), "\(end)")
      // No egress policy and no profile: the host itself may not, but to its workloads it may, and they to it.
      #expect(try !fabric.connects(host, outside, end.outside, 80, expecting: false), "\(end)")
      #expect(try fabric.connects(host, workload, end.workload, 81, expecting: true), "\(end)")
      #expect(try fabric.connects(workload, host, end.host, 81, expecting: true), "\(end)")
      #expect(try fabric.connects(workload, outside, end.outside, 81, expecting: true), "\(end)")
      #expect(try fabric.connects(inside, workload, end.workload, 81, expecting: true), "\(end): excluded")
    }
    // A new interface, before anybody has heard of it.
    let other = try fabric.sandbox.namespace("new")
    try fabric.sandbox.connect(host, "new0", ["100.64.0.1/24"], other, "eth0", ["100.64.0.2/24"])
    #expect(try !fabric.connects(other, host, "100.64.0.1", 81, expecting: false))
    #expect(try fabric.connects(other, host, "100.64.0.1", 80, expecting: true))
    // Its own endpoint has no policy for forwarding: neither does the one for all then decide.
    try fabric.apply(.hostEndpoint(hostKey("out"), hostPlan("out")))
    #expect(try fabric.connects(outside, inside, "198.51.100.2", 81, expecting: true))
    #expect(try !fabric.connects(outside, host, "192.0.2.1", 80, expecting: false))
  }

  @Test("An endpoint follows its address from one interface to another")
  func addresses() throws {
    let (fabric, inside) = try fabric()
    let (host, outside) = (fabric.host, fabric.outside)
    let plan = hostPlan("", expecting: "192.0.2.1", "fd00:3::1")
    fabric.rig.renderer.observe(interfaces: ["out": [address("192.0.2.1")], "in": []])
    try fabric.apply(.hostEndpoint(hostKey("h"), plan))
    #expect(try !fabric.connects(outside, host, "192.0.2.1", 80, expecting: false))
    #expect(try fabric.connects(inside, host, "198.51.100.1", 80, expecting: true))
    fabric.rig.renderer.observe(interfaces: ["out": [], "in": [address("fd00:3::1")]])
    try fabric.apply()
    #expect(try fabric.connects(outside, host, "192.0.2.1", 80, expecting: true))
    #expect(try !fabric.connects(inside, host, "198.51.100.1", 80, expecting: false))
  }

  @Test("Reject tells the sender at once, of the host's own and of workloads' packets")
  func reject() throws {
    let (fabric, inside) = try fabric()
    var settings = HostSettings()
    settings.filter.deny = .reject
    settings.filter.markMask = 0x0000_0c00
    try fabric.apply(
      .settings(settings), .policy(policyKey("web"), PolicyPlan(ingress: [Self.tcp(.allow, 80)])),
      fabric.endpoint(1, ingress: PacketTests.tier),
      .policy(globalKey("transit"), PolicyPlan(ingress: [Self.tcp(.allow, 80), Self.tcp(.deny, 81), Self.tcp(.pass, 82)])),
      .hostEndpoint(hostKey("out"), hostPlan(normal: TierLists(ingress: tiers("transit")), forward: TierLists(ingress: tiers("transit")))))
    for end in Self.ends {
      #expect(try fabric.connects(fabric.outside, fabric.workloads[0], end.workload, 80, expecting: true), "\(end)")
      #expect(try fabric.refusal(inside, end.workload, 81) == ECONNREFUSED, "\(end): a workload's policy")
      #expect(try fabric.refusal(fabric.outside, end.host, 81) == ECONNREFUSED, "\(end): the host's")
      #expect(try fabric.refusal(fabric.outside, end.inside, 81) == ECONNREFUSED, "\(end): forwarded")
    }
    let answer = try fabric.sandbox.tryRun(fabric.outside, "ping", ["-c1", "-W1", "192.0.2.1"])
    #expect(answer.output.contains("Packet filtered"), "\(answer.output)")
    let listing = try fabric.sandbox.run(fabric.host, "nft", ["list", "table", "inet", "margay"])
    #expect(listing.contains("reject with icmpx admin-prohibited") && listing.contains("meta mark set meta mark & 0xfffff7ff"))
  }
}

extension Fabric {
  /// Whether a connection to `by`, which somebody translates, arrives at `target`.
  func connects(_ from: NetworkNamespace, _ to: NetworkNamespace, _ target: String, _ port: UInt16, by: SocketAddress, expecting: Bool)
    throws -> Bool
  {
    let listener = try socket(in: to) { try Socket.listening(on: SocketAddress(address(target), port: port)) }
    let client = try socket(in: from) { try Socket.tcp(by.address.family) }
    _ = try client.connect(to: by)
    return try eventually(within: expecting ? Self.patience : Self.suspicion) {
      if let connection = try listener.accept() {
        _ = consume connection
        return true
      }
      return false
    }
  }
  /// Whether a datagram from that port arrives.
  func delivers(_ from: NetworkNamespace, from source: UInt16, _ to: NetworkNamespace, _ target: String, _ port: UInt16) throws -> Bool {
    let there = SocketAddress(address(target), port: port)
    let receiver = try socket(in: to) {
      let socket = try Socket.udp(there.address.family)
      try socket.bind(there)
      return socket
    }
    let sender = try socket(in: from) {
      let socket = try Socket.udp(there.address.family)
      try socket.bind(SocketAddress(there.address.family == .v4 ? address("0.0.0.0") : address("::"), port: source))
      return socket
    }
    do throws(SystemError) {
      _ = try sender.send([7], to: there)
    } catch {
      // The kernel tells the sender at once of what its own output denies.
      return false
    }
    return try eventually(within: .milliseconds(300)) { try receiver.receiveDatagram()?.bytes.count == 1 }
  }
  /// The error that a connection ends with; nil if none comes.
  func refusal(_ from: NetworkNamespace, _ target: String, _ port: UInt16) throws -> CInt? {
    let there = SocketAddress(address(target), port: port)
    let client = try socket(in: from) { try Socket.tcp(there.address.family) }
    do throws(SystemError) {
      if try client.connect(to: there) { return 0 }
    } catch {
      return error.code
    }
    var code: CInt?
    _ = eventually(within: Self.patience) {
      code = client.pendingError()?.code
      return code != nil
    }
    return code
  }
}

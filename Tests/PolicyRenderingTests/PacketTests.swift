/// Real packets through a real kernel: a host's namespace routes between three workloads and the world outside.

import Addresses
import Glibc
import HostPlans
import KernelSandbox
import NetlinkEdge
@testable import PolicyRendering
import Resources
import RulesetDriver
import Rulesets
import Sockets
import Testing

/// A socket lives in the network where it was made.
func socket(in namespace: NetworkNamespace, _ make: () throws -> Socket) throws -> Socket {
  var made: Socket?
  try namespace.run { made = try make() }
  return made.take()!
}

/// host: cali1 - one, cali2 - two, cali3 - three, out - outside. Workload n has 10.65.0.n and fd65::n; outside is 192.0.2.2 and fd00:2::2.
final class Fabric {
  let sandbox = KernelSandbox()
  let host: NetworkNamespace
  let workloads: [NetworkNamespace]
  let outside: NetworkNamespace
  var rig: (renderer: PolicyRenderer, driver: RulesetDriver)
  private(set) var macs: [MACAddress] = []

  init() throws {
    host = try sandbox.namespace("host")
    outside = try sandbox.namespace("out")
    workloads = [try sandbox.namespace("w1"), try sandbox.namespace("w2"), try sandbox.namespace("w3")]
    rig = (PolicyRenderer(), try RulesetDriver(namespace: host.descriptor.borrowed))
    // All addresses of a test are there at once: no waiting for duplicate address detection.
    for namespace in [host, outside] + workloads {
      try sandbox.run(namespace, "sysctl", ["-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.dad_transmits=0"])
    }
    try sandbox.run(host, "sysctl", ["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])
    try sandbox.ip(host, "address", "add", "169.254.1.1/32", "dev", "lo")
    try sandbox.connect(host, "out", ["192.0.2.1/24", "fd00:2::1/64"], outside, "eth0", ["192.0.2.2/24", "fd00:2::2/64"])
    try sandbox.ip(outside, "route", "add", "default", "via", "192.0.2.1")
    try sandbox.ip(outside, "-6", "route", "add", "default", "via", "fd00:2::1")
    for (index, workload) in workloads.enumerated() {
      let n = index + 1
      try sandbox.connect(host, "cali\(n)", ["fe80::1/64"], workload, "eth0", ["10.65.0.\(n)/32", "fd65::\(n)/128"])
      try sandbox.ip(workload, "route", "add", "169.254.1.1", "dev", "eth0")
      try sandbox.ip(workload, "route", "add", "default", "via", "169.254.1.1")
      try sandbox.ip(workload, "-6", "route", "add", "default", "via", "fe80::1", "dev", "eth0")
      try sandbox.ip(host, "route", "add", "10.65.0.\(n)/32", "dev", "cali\(n)")
      try sandbox.ip(host, "-6", "route", "add", "fd65::\(n)/128", "dev", "cali\(n)")
      let link = try sandbox.ip(workload, "-o", "link", "show", "eth0")
      macs.append(try #require(link.firstRange(of: "link/ether ").flatMap { MACAddress(link[$0.upperBound...].prefix(17)) }))
    }
  }

  func apply(_ changes: HostPlanChange...) throws {
    let report = try rig.driver.apply(rig.renderer.apply(changes))
    #expect(report.failures == [])
  }
  func endpoint(_ n: Int, ingress: [TierPlan] = [], egress: [TierPlan] = []) -> HostPlanChange {
    .endpoint(
      endpointKey("w\(n)"),
      EndpointPlan(
        interfaceName: "cali\(n)", mac: n == 1 ? macs[0] : nil, addresses: [address("10.65.0.\(n)"), address("fd65::\(n)")],
          ingress: ingress,
        egress: egress, profiles: ["kns.default"]))
  }

  static let patience = Duration.milliseconds(2000)
  /// A packet that is dropped never comes; this long we look for it.
  static let suspicion = Duration.milliseconds(150)

  /// Whether a connection is made.
  func connects(_ from: NetworkNamespace, _ to: NetworkNamespace, _ target: String, _ port: UInt16, expecting: Bool) throws -> Bool {
    let there = SocketAddress(address(target), port: port)
    let listener = try socket(in: to) { try Socket.listening(on: there) }
    let client = try socket(in: from) { try Socket.tcp(there.address.family) }
    _ = try client.connect(to: there)
    return try eventually(within: expecting ? Self.patience : Self.suspicion) {
      if let connection = try listener.accept() {
        _ = consume connection
        return true
      }
      return false
    }
  }
  /// Whether a datagram arrives.
  func delivers(
    _ from: NetworkNamespace, source: String? = nil, _ to: NetworkNamespace, _ target: String, _ port: UInt16, octets: Int = 10,
      expecting: Bool
  ) throws -> Bool {
    let there = SocketAddress(address(target), port: port)
    let receiver = try socket(in: to) {
      let socket = try Socket.udp(there.address.family)
      try socket.bind(there)
      return socket
    }
    let sender = try socket(in: from) {
      let socket = try Socket.udp(there.address.family)
      if let source { try socket.bind(SocketAddress(address(source), port: 0)) }
      return socket
    }
    do throws(SystemError) {
      _ = try sender.send([UInt8](repeating: 7, count: octets), to: there)
    } catch {
      // What the sender's own kernel drops on the way out is told at once.
      guard error.code == EPERM, !expecting else { throw error }
      return false
    }
    return try eventually(within: expecting ? Self.patience : Self.suspicion) { try receiver.receiveDatagram()?.bytes.count == octets }
  }
  func pings(_ from: NetworkNamespace, _ target: String, expecting: Bool) throws -> Bool {
    let wait = expecting ? "2" : "0.2"
    return try sandbox.tryRun(from, "ping", ["-c1", "-W", wait, target]).code == 0
  }
  /// Packets counted by the rule of `chain` whose comment contains `comment`.
  func count(_ chain: String, _ comment: String) throws -> Int {
    let listing = try sandbox.run(host, "nft", ["list", "chain", "inet", "margay", chain])
    let line = try #require(listing.split(separator: "\n").first { $0.contains(comment) })
    let words = line.split(separator: " ")
    return try #require(words.firstIndex(of: "packets").flatMap { Int(words[$0 + 1]) })
  }
}

@Suite("Packets", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct PacketTests {
  static let allowAll = PolicyPlan(ingress: [rule(.allow)], egress: [rule(.allow)])
  static let clients = IPSetID("s:clients")
  static func web(_ extra: [RulePlan] = []) -> PolicyPlan {
    PolicyPlan(
      ingress: extra + [
        rule(.allow) {
          $0.ipProtocol = .tcp
          $0.source.sets = [clients]
          $0.destination.ports = [80...80, 443...443]
        }
      ])
  }
  static let tier = [TierPlan(name: "default", policies: [policyKey("web")])]

  @Test("A service's addresses and ports are open to egress, each protocol with its own ports, in both families")
  func service() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    let service = IPSetID("svc:billing")
    let members: [IPSetMember] = [
      .addressPort(address("10.65.0.2"), .tcp, 80), .addressPort(address("fd65::2"), .tcp, 80), .addressPort(address("10.65.0.2"), .udp, 53),
      .addressPort(address("fd65::2"), .udp, 53),
    ]
    try fabric.apply(
      .policy(profileKey("kns.default"), Self.allowAll),
      .ipSet(service, IPSetPlan(content: .addressPorts, members: Set(members), explanation: "service shop/billing")),
      .policy(policyKey("web"), PolicyPlan(egress: [rule(.allow) { $0.destination.namedPorts = [service] }])),
      fabric.endpoint(1, egress: Self.tier), fabric.endpoint(2))
    for target in ["10.65.0.2", "fd65::2"] {
      #expect(try fabric.connects(one, two, target, 80, expecting: true))
      #expect(try fabric.delivers(one, two, target, 53, expecting: true))
      #expect(try !fabric.connects(one, two, target, 53, expecting: false))
      #expect(try !fabric.delivers(one, two, target, 80, expecting: false))
      #expect(try !fabric.pings(one, target, expecting: false))
    }
    try fabric.apply(.ipSetMembers(service, added: [], removed: [members[0]]))
    #expect(try !fabric.connects(one, two, "10.65.0.2", 80, expecting: false))
    #expect(try fabric.connects(one, two, "fd65::2", 80, expecting: true))
  }

  @Test("Before an endpoint is known its interface has no traffic in either direction; then policy decides, in both families")
  func policy() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    try fabric.apply(.policy(profileKey("kns.default"), Self.allowAll))
    #expect(try !fabric.connects(one, two, "10.65.0.2", 80, expecting: false))
    #expect(try !fabric.connects(fabric.host, two, "10.65.0.2", 80, expecting: false))
    #expect(try fabric.count("workload-source", "source address is not of this workload") > 0)

    try fabric.apply(
      .ipSet(Self.clients, nets("10.65.0.1/32", "fd65::1/128")), .policy(policyKey("web"), Self.web()), fabric.endpoint(1),
      fabric.endpoint(2, ingress: Self.tier))
    for target in ["10.65.0.2", "fd65::2"] {
      #expect(try fabric.connects(one, two, target, 80, expecting: true), "\(target)")
      #expect(try fabric.connects(one, two, target, 443, expecting: true), "\(target)")
      #expect(try !fabric.connects(one, two, target, 81, expecting: false), "\(target)")
      #expect(try !fabric.delivers(one, two, target, 80, expecting: false), "\(target)")
      #expect(try !fabric.connects(fabric.outside, two, target, 80, expecting: false), "\(target)")
      // The host's own packets are not policed; replies pass as established.
      #expect(try fabric.connects(fabric.host, two, target, 81, expecting: true), "\(target)")
    }
    // Workload 3 is routed to, but nobody told of it.
    #expect(try !fabric.connects(fabric.workloads[2], two, "10.65.0.2", 80, expecting: false))
    #expect(try !fabric.connects(fabric.outside, fabric.workloads[2], "10.65.0.3", 80, expecting: false))

    // One element opens, one closes.
    try fabric.apply(.ipSetMembers(Self.clients, added: [.net(prefix("192.0.2.2/32"))], removed: []))
    #expect(try fabric.connects(fabric.outside, two, "10.65.0.2", 80, expecting: true))
    try fabric.apply(.ipSetMembers(Self.clients, added: [], removed: [.net(prefix("192.0.2.2/32"))]))
    #expect(try !fabric.connects(fabric.outside, two, "10.65.0.2", 80, expecting: false))
    // A prefix is consulted as well.
    try fabric.apply(.ipSetMembers(Self.clients, added: [.net(prefix("192.0.2.0/24"))], removed: []))
    #expect(try fabric.connects(fabric.outside, two, "10.65.0.2", 80, expecting: true))

    let listing = try fabric.sandbox.run(fabric.host, "nft", ["list", "ruleset"])
    #expect(listing.contains("comment \"NetworkPolicy default/web ingress rule 1\""))
  }

  @Test("Egress and ingress must both allow; a deny before an allow wins; Pass leads to the profile")
  func bothDirections() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    let out = [TierPlan(name: "default", policies: [policyKey("out")])]
    try fabric.apply(
      .policy(profileKey("kns.default"), Self.allowAll),
      .policy(
        policyKey("out"),
        PolicyPlan(egress: [
          rule(.deny) { $0.ipProtocol = .tcp; $0.destination.ports = [81...81] },
          rule(.pass) { $0.ipProtocol = .tcp; $0.destination.ports = [82...82] },
          rule(.allow) { $0.ipProtocol = .tcp; $0.destination.ports = [80...81] },
        ])),
      fabric.endpoint(1, egress: out), fabric.endpoint(2))
    #expect(try fabric.connects(one, two, "10.65.0.2", 80, expecting: true))
    #expect(try !fabric.connects(one, two, "10.65.0.2", 81, expecting: false))
    #expect(try fabric.connects(one, two, "10.65.0.2", 82, expecting: true))
    #expect(try !fabric.connects(one, two, "10.65.0.2", 83, expecting: false))
    #expect(try fabric.connects(one, fabric.outside, "192.0.2.2", 80, expecting: true))
    #expect(try !fabric.connects(one, fabric.outside, "192.0.2.2", 83, expecting: false))
    try fabric.apply(.policy(profileKey("kns.default"), PolicyPlan(egress: [rule(.allow)])))
    #expect(try !fabric.connects(one, two, "10.65.0.2", 80, expecting: false), "the profile of workload 2 no longer lets anything in")
    #expect(try fabric.connects(one, fabric.outside, "192.0.2.2", 80, expecting: true))
  }

  @Test("A workload sends from its own addresses only, also within an established flow")
  func spoofing() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    try fabric.apply(.policy(profileKey("kns.default"), Self.allowAll), fabric.endpoint(1), fabric.endpoint(2))
    try fabric.sandbox.ip(one, "address", "add", "10.65.0.99/32", "dev", "lo")
    try fabric.sandbox.ip(one, "address", "add", "fd65::99/128", "dev", "lo")
    #expect(try fabric.delivers(one, two, "10.65.0.2", 53, expecting: true))
    #expect(try !fabric.delivers(one, source: "10.65.0.99", two, "10.65.0.2", 53, expecting: false))
    #expect(try fabric.delivers(one, two, "fd65::2", 53, expecting: true))
    #expect(try !fabric.delivers(one, source: "fd65::99", two, "fd65::2", 53, expecting: false))

    // A flow is established; then its address is no longer this workload's.
    let there = SocketAddress(address("10.65.0.2"), port: 80)
    let listener = try socket(in: two) { try Socket.listening(on: there) }
    let client = try socket(in: one) { try Socket.tcp(.v4) }
    _ = try client.connect(to: there)
    var accepted: Socket?
    let isAccepted = try eventually {
      if let next = try listener.accept() {
        accepted = next.take()
        return true
      }
      return false
    }
    try #require(isAccepted)
    let server = accepted.take()!
    func arrives(_ text: String, expecting: Bool) throws -> Bool {
      _ = try client.send(Array(text.utf8))
      var bytes: [UInt8] = []
      return try eventually(within: expecting ? Fabric.patience : Fabric.suspicion) {
        _ = try server.receive(into: &bytes)
        return bytes.suffix(text.utf8.count) == Array(text.utf8)[...]
      }
    }
    #expect(try arrives("before", expecting: true))
    try fabric.apply(
      .endpoint(endpointKey("w1"), EndpointPlan(interfaceName: "cali1", addresses: [address("10.65.0.77")], profiles: ["kns.default"])))
    #expect(try !arrives("between", expecting: false))
    try fabric.apply(fabric.endpoint(1))
    #expect(try arrives("after", expecting: true))
    // The MAC address is known and another one is used.
    try fabric.sandbox.ip(one, "link", "set", "eth0", "address", "02:00:00:00:00:99")
    #expect(try !fabric.delivers(one, two, "10.65.0.2", 53, expecting: false))
  }

  @Test("Fragments are judged whole: with their ports")
  func fragments() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    try fabric.apply(
      .policy(profileKey("kns.default"), Self.allowAll),
      .policy(policyKey("web"), PolicyPlan(ingress: [rule(.allow) { $0.ipProtocol = .udp; $0.destination.ports = [5000...5000] }])),
      fabric.endpoint(1), fabric.endpoint(2, ingress: Self.tier))
    for target in ["10.65.0.2", "fd65::2"] {
      #expect(try fabric.delivers(one, two, target, 5000, octets: 6000, expecting: true), "\(target)")
      #expect(try !fabric.delivers(one, two, target, 5001, octets: 6000, expecting: false), "\(target)")
    }
  }

  @Test("To the host: by default nothing but neighbour discovery; as configured after the egress policy")
  func toHost() throws {
    let fabric = try Fabric()
    let one = fabric.workloads[0]
    try fabric.apply(.policy(profileKey("kns.default"), Self.allowAll), fabric.endpoint(1))
    #expect(try !fabric.pings(one, "169.254.1.1", expecting: false))
    #expect(try !fabric.connects(one, fabric.host, "fd00:2::1", 80, expecting: false))
    // The gateway is found by neighbour discovery, although the host lets nothing else in.
    #expect(try fabric.pings(one, "fd00:2::2", expecting: true))
    var settings = HostSettings()
    settings.endpointToHostAction = .accept
    try fabric.apply(.settings(settings))
    #expect(try fabric.pings(one, "169.254.1.1", expecting: true))
    try fabric.apply(.policy(profileKey("kns.default"), PolicyPlan(ingress: [rule(.allow)])))
    #expect(try !fabric.pings(one, "169.254.1.1", expecting: false), "no egress policy allows it")
  }

  @Test("A driver that ends leaves traffic as it is, and the next finds nothing to change")
  func restart() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    let changes: [HostPlanChange] = [
      .ipSet(Self.clients, nets("10.65.0.1/32", "10.66.0.0/16")), .policy(policyKey("web"), Self.web()),
      .policy(profileKey("kns.default"), Self.allowAll), fabric.endpoint(1), fabric.endpoint(2, ingress: Self.tier),
    ]
    _ = try fabric.rig.driver.apply(fabric.rig.renderer.apply(changes))
    #expect(try fabric.connects(one, two, "10.65.0.2", 80, expecting: true))
    fabric.rig = (PolicyRenderer(), RulesetDriver(kernel: FakeRuleset()))
    #expect(try fabric.connects(one, two, "10.65.0.2", 80, expecting: true))
    #expect(try !fabric.connects(one, two, "10.65.0.2", 81, expecting: false))
    fabric.rig.driver = try RulesetDriver(namespace: fabric.host.descriptor.borrowed)
    let report = try fabric.rig.driver.apply(fabric.rig.renderer.apply(changes))
    #expect(report.mutations == 0 && report.adopted && !report.rebuilt, "\(report)")
  }
}

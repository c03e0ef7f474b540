/// What others see of a workload, and how it is reached by addresses that are not its own: real packets.

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
  /// The source that the receiver of a datagram sees; nil if none comes.
  func source(
    _ from: NetworkNamespace, bound: String? = nil, _ to: NetworkNamespace, _ target: String, _ port: UInt16, at: String? = nil,
    expecting: Bool = true
  ) throws -> SocketAddress? {
    let receiver = try socket(in: to) {
      let socket = try Socket.udp(address(target).family)
      try socket.bind(SocketAddress(address(at ?? target), port: port))
      return socket
    }
    let sender = try socket(in: from) {
      let socket = try Socket.udp(address(target).family)
      if let bound { try socket.bind(SocketAddress(address(bound), port: 0)) }
      return socket
    }
    _ = try sender.send([1, 2, 3], to: SocketAddress(address(target), port: port))
    var seen: SocketAddress?
    _ = try eventually(within: expecting ? Self.patience : Self.suspicion) {
      seen = try receiver.receiveDatagram()?.from
      return seen != nil
    }
    return seen
  }
  func opened(_ settings: (inout HostSettings) -> Void = { _ in }) throws {
    var host = HostSettings()
    settings(&host)
    try apply(.settings(host), .policy(profileKey("kns.default"), PacketTests.allowAll), endpoint(1), endpoint(2))
  }
}

@Suite("NAT outgoing", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct NATOutgoingTests {
  static let inside = nets("10.65.0.0/16", "fd65::/64")

  @Test("From a pool with natOutgoing to outside the host's address is seen; to a pool and from elsewhere, the workload's; changed in place")
  func masquerade() throws {
    let fabric = try Fabric()
    let (one, two, outside) = (fabric.workloads[0], fabric.workloads[1], fabric.outside)
    try fabric.opened()
    #expect(try fabric.source(one, outside, "192.0.2.2", 5001)?.address == address("10.65.0.1"))
    try fabric.apply(.ipSet(.masqueradedPools, Self.inside), .ipSet(.networkPools, Self.inside))
    #expect(try fabric.source(one, outside, "192.0.2.2", 5002)?.address == address("192.0.2.1"))
    #expect(try fabric.source(one, outside, "fd00:2::2", 5002)?.address == address("fd00:2::1"))
    #expect(try fabric.source(one, two, "10.65.0.2", 5002)?.address == address("10.65.0.1"))
    #expect(try fabric.source(one, two, "fd65::2", 5002)?.address == address("fd65::1"))
    #expect(try fabric.connects(one, outside, "192.0.2.2", 80, expecting: true))
    #expect(try fabric.pings(one, "fd00:2::2", expecting: true))
    // The outside becomes a pool of its own, by a single address: it is inside now.
    try fabric.apply(.ipSetMembers(.networkPools, added: [.net(prefix("192.0.2.2/32"))], removed: []))
    #expect(try fabric.source(one, outside, "192.0.2.2", 5003)?.address == address("10.65.0.1"))
    #expect(try fabric.source(one, outside, "fd00:2::2", 5003)?.address == address("fd00:2::1"))
    // The pool no longer asks for it.
    try fabric.apply(.ipSetRemoved(.masqueradedPools), .ipSetMembers(.networkPools, added: [], removed: [.net(prefix("192.0.2.2/32"))]))
    #expect(try fabric.source(one, outside, "192.0.2.2", 5004)?.address == address("10.65.0.1"))
    #expect(!(try fabric.sandbox.run(fabric.host, "nft", ["list", "ruleset"])).contains("nat hook"), "nothing translates, so nothing is asked")
  }

  @Test("Ports within the range, a fixed address, and hosts that are spared")
  func settings() throws {
    let fabric = try Fabric()
    let (one, outside) = (fabric.workloads[0], fabric.outside)
    try fabric.sandbox.ip(fabric.host, "address", "add", "192.0.2.77/32", "dev", "out")
    var settings = HostSettings()
    settings.nat.ports = 40_000...40_001
    try fabric.opened { $0 = settings }
    try fabric.apply(.ipSet(.masqueradedPools, Self.inside), .ipSet(.networkPools, Self.inside), .ipSet(.hosts, nets("192.0.2.2/32")))
    for target in ["192.0.2.2", "fd00:2::2"] {
      let seen = try #require(try fabric.source(one, outside, target, 5001))
      #expect((40_000...40_001).contains(seen.port) && seen.address != address("10.65.0.1"), "\(seen)")
    }
    settings.nat.outgoingAddress = address("192.0.2.77")
    try fabric.apply(.settings(settings))
    let seen = try #require(try fabric.source(one, outside, "192.0.2.2", 5002))
    #expect(seen.address == address("192.0.2.77") && (40_000...40_001).contains(seen.port), "\(seen)")
    #expect(try fabric.source(one, outside, "fd00:2::2", 5002)?.address == address("fd00:2::1"), "the address is of the other family")
    settings.nat.ports = nil
    settings.nat.sparesHosts = true
    try fabric.apply(.settings(settings))
    #expect(try fabric.source(one, outside, "192.0.2.2", 5003)?.address == address("10.65.0.1"))
    #expect(try fabric.source(one, outside, "fd00:2::2", 5003)?.address == address("fd00:2::1"))
  }
}

@Suite("Floating addresses", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct FloatingAddressTests {
  static let pairs = [("198.51.100.7", "10.65.0.2"), ("fd33::7", "fd65::2")]

  private func floating(_ fabric: Fabric, _ n: Int, to inner: [(String, String)] = pairs) -> HostPlanChange {
    guard case .endpoint(let key, var plan) = fabric.endpoint(n, ingress: PacketTests.tier) else { preconditionFailure("it is an endpoint") }
    for (external, inner) in inner { plan.floating[address(external)] = address(inner) }
    return .endpoint(key, plan)
  }

  @Test("What is sent to a floating address arrives at the workload, from outside, from workloads and from the host; policy sees the workload")
  func reached() throws {
    let fabric = try Fabric()
    let (one, two) = (fabric.workloads[0], fabric.workloads[1])
    try fabric.opened()
    try fabric.apply(
      .ipSet(PacketTests.clients, nets("0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1")), .policy(policyKey("web"), PacketTests.web()),
      floating(fabric, 2))
    for (external, inner) in Self.pairs {
      // The route that Felix adds for the address.
      try fabric.sandbox.ip(fabric.host, ["route", "add", external, "dev", "cali2"])
      for from in [fabric.outside, one, fabric.host] {
        let there = SocketAddress(address(inner), port: 80)
        let listener = try socket(in: two) { try Socket.listening(on: there) }
        let client = try socket(in: from) { try Socket.tcp(there.address.family) }
        _ = try client.connect(to: SocketAddress(address(external), port: 80))
        let arrives = try eventually(within: Fabric.patience) {
          if let connection = try listener.accept() {
            _ = consume connection
            return true
          }
          return false
        }
        #expect(arrives, "\(external)")
      }
      #expect(try fabric.pings(fabric.outside, external, expecting: false) == false, "policy allows TCP to two ports")
      // The workload reaches itself by its floating address, and sees that one as the source.
      try fabric.apply(.policy(policyKey("web"), PacketTests.allowAll))
      #expect(try fabric.source(two, two, external, 5000, at: inner)?.address == address(external))
      try fabric.apply(.policy(policyKey("web"), PacketTests.web()))
    }
    let listing = try fabric.sandbox.run(fabric.host, "nft", ["list", "ruleset"])
    #expect(listing.contains("dnat ip to ip daddr map @floating4") && listing.contains("snat ip6 to ip6 saddr . ip6 daddr map @hairpin6"))

    // It moves to another workload in one step, and goes.
    try fabric.apply(floating(fabric, 2, to: []), floating(fabric, 1, to: [("198.51.100.7", "10.65.0.1"), ("fd33::7", "fd65::1")]))
    try fabric.apply(.policy(policyKey("web"), PacketTests.allowAll))
    #expect(try fabric.source(fabric.outside, one, "198.51.100.7", 5001, at: "10.65.0.1")?.address == address("192.0.2.2"))
    #expect(try fabric.source(fabric.outside, one, "fd33::7", 5001, at: "fd65::1")?.address == address("fd00:2::2"))
    try fabric.apply(.endpointRemoved(endpointKey("w1")))
    #expect(!(try fabric.sandbox.run(fabric.host, "nft", ["list", "ruleset"])).contains("nat hook"))
  }
}

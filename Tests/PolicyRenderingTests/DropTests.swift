/// What the kernel tells of dropped packets: which rule, of which packet; and what a flood costs.

import Addresses
import FlowReader
import Glibc
import HostPlans
import KernelSandbox
import NetlinkEdge
import Resources
import Sockets
import Testing

@testable import PolicyRendering

@Suite("Drops", .enabled(if: KernelSandbox.isAvailable && DropReader.isAvailable()), .serialized)
struct DropTests {
  private func reader(_ fabric: Fabric, budget: Int = 500) throws -> DropReader {
    try DropReader(groups: [1, 2], budget: budget, namespace: fabric.host.descriptor.borrowed)
  }
  /// The packets with these prefixes, once there are as many.
  private func take(_ reader: DropReader, _ count: Int) throws -> [DroppedPacket] {
    var packets: [DroppedPacket] = []
    #expect(
      try eventually(within: .seconds(5)) {
        reader.receive { packets.append($0) }
        return packets.count >= count
      })
    return packets
  }
  /// A datagram that nobody waits for.
  private func send(_ fabric: Fabric, from workload: Int, to target: String, port: UInt16, source: String? = nil) throws {
    let there = SocketAddress(address(target), port: port)
    let sender = try socket(in: fabric.workloads[workload]) {
      let socket = try Socket.udp(there.address.family)
      if let source { try socket.bind(SocketAddress(address(source), port: 0)) }
      return socket
    }
    _ = try sender.send([1, 2, 3], to: there)
  }

  @Test("Each is named by policy and rule, end of tier or end of profiles, with addresses, protocol and port, in both families")
  func named() throws {
    let fabric = try Fabric()
    let reader = try reader(fabric)
    let deny53 = rule(.deny) {
      $0.ipProtocol = .udp
      $0.destination.ports = [53...53]
      // As if a rule before it had been left out.
      $0.place = 4
    }
    let tier = [TierPlan(name: "default", policies: [policyKey("web")])]
    try fabric.apply(
      .policy(profileKey("kns.default"), PolicyPlan(ingress: [], egress: [rule(.allow)])),
      .policy(policyKey("web"), PolicyPlan(ingress: [rule(.allow) { $0.ipProtocol = .tcp }, deny53])), fabric.endpoint(1),
      fabric.endpoint(2, ingress: tier), fabric.endpoint(3))
    let ends = [("10.65.0.1", "10.65.0.2", "10.65.0.3"), ("fd65::1", "fd65::2", "fd65::3")]
    for (_, two, three) in ends {
      try send(fabric, from: 0, to: two, port: 53)
      try send(fabric, from: 0, to: two, port: 54)
      try send(fabric, from: 0, to: three, port: 9)
      #expect(try !fabric.pings(fabric.workloads[0], two, expecting: false))
    }
    let packets = try take(reader, 8)
    func expect(_ prefix: String, _ flow: Flow, _ sourceLine: SourceLocation = #_sourceLocation) {
      let found = packets.contains { packet in
        var seen = packet.flow
        seen.sourcePort = nil
        return packet.prefix == prefix && seen == flow
      }
      #expect(found, "\(prefix) \(flow) among \(packets)", sourceLocation: sourceLine)
    }
    for (one, two, three) in ends {
      let (one, two, three) = (address(one), address(two), address(three))
      expect("DPI4|np/default/web", Flow(one, two, .udp, destinationPort: 53))
      expect("DPI|default", Flow(one, two, .udp, destinationPort: 54))
      expect("DRI|", Flow(one, three, .udp, destinationPort: 9))
      let isV4 = one.family == .v4
      expect("DPI|default", Flow(one, two, isV4 ? .icmp : .icmpv6, icmpType: isV4 ? 8 : 128, icmpCode: 0))
    }
    #expect(packets.first { $0.flow.destinationPort == 53 && $0.flow.family == .v4 }?.octets == 31)
    #expect(reader.counts.lost == 0 && reader.counts.overruns == 0)
    // A source address that is not the workload's ends before any policy.
    try fabric.sandbox.ip(fabric.workloads[1], "address", "add", "10.65.9.9/32", "dev", "eth0")
    try send(fabric, from: 1, to: "10.65.0.1", port: 7, source: "10.65.9.9")
    #expect(try take(reader, 1).first?.prefix == "DFE|source address is not of this workload")
  }

  @Test("A flood is told in part and counted in full; after it, drops are named again")
  func flood() throws {
    let fabric = try Fabric()
    let reader = try reader(fabric, budget: 50)
    try fabric.apply(
      .policy(profileKey("kns.default"), PolicyPlan(ingress: [], egress: [rule(.allow)])), fabric.endpoint(1), fabric.endpoint(2))
    let there = SocketAddress(address("10.65.0.2"), port: 9)
    let sender = try socket(in: fabric.workloads[0]) { try Socket.udp(.v4) }
    var told = 0
    for _ in 0..<40 {
      for _ in 0..<50 { while try !sender.send([1], to: there) {} }
      reader.receive { _ in told += 1 }
    }
    #expect(reader.counts.overruns == 1 && !reader.isListening)
    #expect(told >= 50 && told < 1_000)
    let group = try #require(
      fabric.rig.driver.ruleset.chains.first { $0.value.rules.contains { $0.comment == KernelNames.endOfProfiles } && $0.key.hasPrefix("ingress") }?.key)
    #expect(try eventually(within: .seconds(2)) { try fabric.count(group, KernelNames.endOfProfiles) == 2_000 })
    try reader.renew()
    try send(fabric, from: 0, to: "fd65::2", port: 9)
    #expect(try take(reader, 1).last?.flow.family == .v6)
  }

  @Test("A prefix reads as it was written; a long name keeps its ends apart")
  func prefixes() {
    let long = ResourceKey(.networkPolicy, namespace: String(repeating: "n", count: 60), name: String(repeating: "p", count: 200) + "1")
    let other = ResourceKey(.networkPolicy, namespace: long.namespace, name: String(repeating: "p", count: 200) + "2")
    #expect(FlowPrefix.id(long) != FlowPrefix.id(other))
    for direction in Direction.allCases {
      for place: FlowPrefix.Place in [
        .rule("np/a/b", index: 0), .rule(FlowPrefix.id(long), index: 1023), .rule("pro/kns.a", index: 3), .endOfTier("default"), .endOfProfiles,
        .missing("pro/p"), .frame("source"),
      ] {
        let prefix = FlowPrefix(direction, place)
        #expect(FlowPrefix(prefix.text) == prefix && prefix.text.utf8.count < 127)
      }
    }
    for text in ["", "D", "DPI", "DPX|a", "APIx|a", "calico-packet: "] { #expect(FlowPrefix(text) == nil) }
  }
}

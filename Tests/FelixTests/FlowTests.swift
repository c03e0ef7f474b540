/// What an agent over a real kernel tells of denied packets.

import Addresses
import Datastore
import JSON
import KernelSandbox
import NetlinkEdge
import Resources
import Sockets
import Testing

@testable import FelixProgram

@Suite("Flows", .enabled(if: KernelSandbox.isAvailable), .serialized, .timeLimit(.minutes(1)))
struct FlowTests {
  @Test("A denied packet is told with the names of both ends, tier, policy and rule; to followers as it comes, to others what was kept")
  func denied() async throws {
    let rig = try await FelixRig()
    let (w1, w2) = (try await rig.workload(1), try await rig.workload(2))
    try await rig.record(w1)
    try await rig.record(w2, labels: ["app": "web"])
    let revision = try await rig.put(
      ResourceKey(.networkPolicy, name: "web"),
      spec: [
        "selector": "app == 'web'", "types": ["Ingress"],
        "ingress": [["action": "Allow", "protocol": "TCP"], ["action": "Deny", "protocol": "ICMP", "source": ["selector": "name == 'w1'"]]],
      ])
    let felix = try await rig.felix()
    try await felix.until(revision)
    for workload in [w1, w2] { try await felix.until(workload, is: "up") }
    #expect(await felix.ask { $0.flowLog.problem } == nil)

    let folder = try Files.makeTemporaryDirectory(prefix: "margay-flows-")
    let path = "\(folder)/flows.sock"
    try await felix.serveFlows(at: path)
    let follower = try Socket.connecting(toUnix: path)
    #expect(try await !rig.ping(w1, w2))
    #expect(try await !rig.ping(w1.namespace, w2.address6))
    var lines: [JSONValue] = []
    func record(_ ipProtocol: String, type: Int64) -> JSONValue? {
      lines.first { $0["protocol"]?.string == ipProtocol && $0["icmpType"]?.integer == type }
    }
    while record("ICMP", type: 8) == nil || record("ICMPv6", type: 128) == nil { lines += try await blocking { try Self.lines(of: follower) } }
    #expect(lines.first?["recent"]?.integer == 0)
    let record4 = try #require(record("ICMP", type: 8))
    #expect(record4["verdict"]?.string == "denied" && record4["direction"]?.string == "Ingress" && record4["packets"]?.integer == 1)
    #expect(record4["from"]?["name"]?.string == "default/w1" && record4["from"]?["address"]?.string == w1.address)
    #expect(record4["to"]?["name"]?.string == "default/w2")
    #expect(record4["tier"]?.string == "default" && record4["policy"]?.string == "web" && record4["rule"]?.integer == 2)
    #expect(record4["reason"]?.string == "NetworkPolicy default/web rule 2" && record4["bytes"]?.integer == 84)
    let record6 = try #require(record("ICMPv6", type: 128))
    #expect(record6["reason"]?.string == "end of tier default" && record6["policy"] == nil)

    // Whoever comes later hears of what was kept.
    let late = try Socket.connecting(toUnix: path)
    var kept: [JSONValue] = []
    while !kept.contains(where: { $0["recent"] != nil }) { kept += try await blocking { try Self.lines(of: late) } }
    #expect(Set(kept.map { $0.text() }).isSuperset(of: [record4.text(), record6.text()]))

    // An allowed connection is told of when it begins, with the policy that the plan in force says.
    #expect(try await rig.ping(w2, w1))
    while record("ICMP", type: 8).map({ _ in lines.contains { $0["verdict"]?.string == "allowed" } }) != true {
      lines += try await blocking { try Self.lines(of: follower) }
    }
    let allowed = try #require(lines.first { $0["verdict"]?.string == "allowed" })
    #expect(allowed["from"]?["name"]?.string == "default/w2" && allowed["moment"]?.string == "begun")
    #expect(allowed["reason"]?.string == "Profile projectcalico-default-allow rule 1")
    try await felix.stop()
    try Files.removeTree(folder)
  }

  @Test("A connection that a tightened policy no longer allows stops at once, from either end; its neighbour's goes on", arguments: [false, true])
  func flush(overIPv6: Bool) async throws {
    let rig = try await FelixRig()
    let (w1, w2, w3) = (try await rig.workload(1), try await rig.workload(2), try await rig.workload(3))
    try await rig.record(w1)
    try await rig.record(w3)
    try await rig.record(w2, labels: ["app": "web"])
    let revision = try await rig.put(ResourceKey(.felixConfiguration, name: "default"), spec: ["margayFlowFlush": "Enabled"])
    let felix = try await rig.felix()
    try await felix.until(revision)
    for workload in [w1, w2, w3] { try await felix.until(workload, is: "up") }
    let there = SocketAddress(IPAddress(overIPv6 ? w2.address6 : w2.address)!, port: 80)
    let listener = try inside(w2.namespace) { try Socket.listening(on: there) }
    func connect(_ from: Workload) async throws -> Ends {
      let ends = Ends(client: try inside(from.namespace) { try Socket.tcp(there.address.family) })
      _ = try ends.client.connect(to: there)
      try await eventually("a connection from \(from.name)") {
        ends.server = try listener.accept()?.take()
        return ends.server != nil
      }
      return ends
    }
    let (denied, allowed) = (try await connect(w1), try await connect(w3))
    for ends in [denied, allowed] { try await ends.exchange() }
    try await felix.until(
      try await rig.put(
        AgentTests.deny,
        spec: ["selector": "app == 'web'", "types": ["Ingress"], "ingress": [["action": "Allow", "source": ["selector": "name == 'w3'"]]]]))
    try await eventually("the denied connection's end") { await felix.ask { $0.tightening.ended } == 1 }
    for _ in 0..<20 { try await allowed.exchange() }
    // Neither end is heard any more: what has no connection may not begin one in its middle.
    for (from, to) in [(denied.toServer, denied.atServer), (denied.toClient, denied.atClient)] as [(() throws -> Void, () throws -> Int)] {
      try from()
      for _ in 0..<20 { try await allowed.exchange() }
      #expect(try to() == 0)
    }
    let flows = try await rig.flows(overIPv6 ? w2.address6 : w2.address).filter { $0.contains("ESTABLISHED") }
    #expect(overIPv6 || flows.count == 1)
    #expect(await felix.ask { $0.tightening.ended } == 1)
    #expect(await felix.ask { $0.metrics() }.contains("margay_felix_flows_ended_total 1"))
    try await felix.stop()
  }

  @Test("Metrics have each policy's and rule's packets as the kernel counts them, staged ones among them, and the latency by what changed")
  func metrics() async throws {
    let rig = try await FelixRig()
    let (w1, w2) = (try await rig.workload(1), try await rig.workload(2))
    try await rig.record(w1)
    try await rig.record(w2, labels: ["app": "web"])
    try await rig.put(AgentTests.deny, spec: ["selector": "app == 'web'", "types": ["Ingress"], "ingress": [["action": "Allow", "protocol": "ICMP"]]])
    let revision = try await rig.put(
      ResourceKey(.stagedNetworkPolicy, name: "web"), spec: ["selector": "app == 'web'", "types": ["Ingress"], "ingress": [["action": "Deny"]]])
    let felix = try await rig.felix()
    try await felix.until(revision)
    for workload in [w1, w2] { try await felix.until(workload, is: "up") }
    #expect(try await rig.ping(w1, w2))
    let page = await felix.ask { $0.metrics() }
    for line in [
      #"margay_felix_policy_packets_total{kind="NetworkPolicy",name="default/web",direction="ingress"} 1"#,
      #"margay_felix_policy_bytes_total{kind="NetworkPolicy",name="default/web",direction="ingress"} 84"#,
      #"margay_felix_policy_packets_total{kind="StagedNetworkPolicy",name="default/web",direction="ingress"} 1"#,
      #"margay_felix_rule_packets_total{kind="StagedNetworkPolicy",name="default/web",direction="ingress",rule="1"} 1"#,
      #"margay_felix_programming_seconds_count{kind="staged policy"} 1"#,
    ] { #expect(page.contains(line + "\n"), "\(line)") }
    try await felix.stop()
  }

  /// Both ends of a connection.
  private final class Ends: @unchecked Sendable {
    let client: Socket
    var server: Socket?
    init(client: consuming Socket) { self.client = client }
    func toServer() throws { _ = try client.send([1]) }
    func toClient() throws { _ = try server!.send([1]) }
    func atServer() throws -> Int { try Self.take(server!) }
    func atClient() throws -> Int { try Self.take(client) }
    private static func take(_ socket: borrowing Socket) throws -> Int {
      var octets: [UInt8] = []
      return try socket.receive(into: &octets) ?? 0
    }
    func exchange() async throws {
      try toServer()
      try await eventually("an octet at the server") { try self.atServer() > 0 }
      try toClient()
      try await eventually("an octet at the client") { try self.atClient() > 0 }
    }
  }
  private func inside(_ namespace: NetworkNamespace, _ make: () throws -> Socket) throws -> Socket {
    var made: Socket?
    try namespace.run { made = try make() }
    return made.take()!
  }

  private static func lines(of socket: borrowing Socket) throws -> [JSONValue] {
    var octets: [UInt8] = []
    repeat {
      guard let read = try socket.receive(into: &octets), read > 0 else { break }
    } while octets.last != UInt8(ascii: "\n")
    return try octets.split(separator: UInt8(ascii: "\n")).map { try JSONValue(parsing: Array($0)) }
  }
}

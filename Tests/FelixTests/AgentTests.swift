/// The agent over a real kernel: what the datastore says becomes packets that pass or do not, and stays so.

import Addresses
import CNIServer
import Datastore
import JSON
import KernelSandbox
import NetlinkEdge
import Resources
import Testing

@testable import FelixProgram

@Suite("Felix over a kernel", .enabled(if: KernelSandbox.isAvailable), .serialized, .timeLimit(.minutes(2)))
struct AgentTests {
  static let deny = ResourceKey(.networkPolicy, name: "web")

  @Test("From records to packets: rules, routes, neighbours and settings come, follow each change, and go")
  func life() async throws {
    let rig = try await FelixRig()
    let (w1, w2) = (try await rig.workload(1), try await rig.workload(2))
    try await rig.record(w1)
    let revision = try await rig.record(w2, labels: ["app": "web"])
    let felix = try await rig.felix()
    try await felix.until(revision)
    try await felix.until(w1, is: "up")
    try await felix.until(w2, is: "up")
    for workload in [w1, w2] {
      #expect(try await rig.ip("route show proto 80").contains("\(workload.address) dev \(workload.interface)"))
      #expect(try await rig.ip("-6 route show proto 80").contains("\(workload.address6) dev \(workload.interface)"))
      let neighbours = try await rig.ip("neigh show dev \(workload.interface) nud permanent")
      #expect(neighbours.contains("\(workload.address) lladdr \(workload.mac)"))
      #expect(neighbours.contains("\(workload.address6) lladdr \(workload.mac)"))
      #expect(try rig.host.readSysctl("ipv4/conf/\(workload.interface)/proxy_arp") == "1")
      #expect(try await rig.table().contains("\"\(workload.interface)\""))
    }
    #expect(try rig.host.readSysctl("ipv4/ip_forward") == "1")
    #expect(try await rig.ping(w1, w2))
    #expect(try await rig.ping(w2.namespace, w1.address6))

    let denyAll: JSONValue = ["selector": "app == 'web'", "types": ["Ingress"]]
    try await felix.until(try await rig.put(Self.deny, spec: denyAll))
    #expect(try await !rig.ping(w1, w2))
    #expect(try await rig.ping(w2, w1))
    let allowPing: JSONValue = [
      "selector": "app == 'web'", "types": ["Ingress"],
      "ingress": [["action": "Allow", "protocol": "ICMP", "source": ["selector": "name == 'w1'"]]],
    ]
    try await felix.until(try await rig.put(Self.deny, spec: allowPing))
    #expect(try await rig.ping(w1, w2))
    #expect(try await !rig.ping(w1.namespace, w2.address6))
    // A label decides who is meant.
    try await felix.until(try await rig.record(w1, labels: ["name": "other"]))
    #expect(try await !rig.ping(w1, w2))
    try await felix.until(try await rig.remove(Self.deny))
    #expect(try await rig.ping(w1, w2))

    try await felix.until(try await rig.remove(w2.key))
    #expect(try await !rig.ping(w1, w2))
    #expect(try await !rig.ip("route show proto 80").contains(w2.address))
    #expect(try await !rig.table().contains("\"\(w2.interface)\""))
    #expect(await felix.status().endpoint(w2) == nil)
    try await felix.stop()
  }

  @Test("A restart over a right kernel changes nothing in it, and no packet is lost meanwhile")
  func restart() async throws {
    let rig = try await FelixRig()
    let (w1, w2) = (try await rig.workload(1), try await rig.workload(2))
    try await rig.record(w1)
    try await rig.record(w2, labels: ["app": "web"])
    let revision = try await rig.put(
      Self.deny, spec: ["selector": "app == 'web'", "ingress": [["action": "Allow", "source": ["selector": "name == 'w1'"]]]])
    let first = try await rig.felix()
    try await first.until(revision)
    try await first.until(w2, is: "up")
    let before = (try await rig.table(), try await rig.ip("route"), try await rig.ip("neigh"))
    #expect(await first.status()["kernelChanges"]?.integer ?? 0 > 20)
    async let pings = rig.run(w1.namespace, "ping", "-i", "0.01", "-c", "60", "-W", "1", w2.address)
    try await first.stop()
    // Nobody is there: the kernel goes on.
    #expect(try await rig.ping(w1, w2))
    let second = try await rig.felix()
    try await second.until(revision)
    try await second.until(w2, is: "up")
    #expect(await second.status()["kernelChanges"]?.integer == 0)
    #expect(try await pings.output.contains(" 0% packet loss"))
    #expect(try await rig.ip("route") == before.1)
    #expect(try await rig.ip("neigh") == before.2)
    try await second.stop()
  }

  @Test("A second agent of one host is refused with the reason, and takes over without a change when the first ends")
  func twoAgents() async throws {
    let rig = try await FelixRig()
    let (w1, w2) = (try await rig.workload(1), try await rig.workload(2))
    try await rig.record(w1)
    let revision = try await rig.record(w2)
    let first = try await rig.felix()
    try await first.until(revision)
    try await first.until(w2, is: "up")
    // A kernel without owned tables cannot tell two agents apart.
    guard try await rig.table().contains("flags owner") else { return try await first.stop() }
    let second = try await rig.felix()
    try await second.until("the refusal") {
      $0["problems"]?.array?.contains { $0.string?.contains("another running process") ?? false } ?? false
    }
    #expect(await second.status()["inSync"]?.bool == false)
    #expect(await second.status().endpoint(w1)?["problem"]?.string == "the rules are not in the kernel")
    let endpoint = AttachedEndpoint(key: w1.key, resourceVersion: "1", interfaceName: w1.interface, addresses: [])
    await #expect(throws: ReadinessBoard.Late.self) {
      try await second.readiness.waitUntilProtected(endpoint, deadline: .now + .milliseconds(20))
    }
    // Asked of the first meanwhile, forgotten by nobody.
    try await first.until(try await rig.put(Self.deny, spec: ["selector": "name == 'w2'"]))
    try await first.stop()
    try await second.until(w1, is: "up")
    try await second.readiness.waitUntilProgrammed(endpoint, deadline: .now + .seconds(5))
    #expect(await second.status()["kernelChanges"]?.integer == 0)
    #expect(try await !rig.ping(w1, w2))
    try await second.until(try await rig.remove(Self.deny))
    #expect(try await rig.ping(w1, w2))
    try await second.stop()
  }

  @Test("While the datastore is away the kernel stays, also over a restart and a resync; what changed meanwhile is applied afterwards")
  func outage() async throws {
    let rig = try await FelixRig()
    let (w1, w2, w3) = (try await rig.workload(1), try await rig.workload(2), try await rig.workload(3))
    for workload in [w1, w3] { try await rig.record(workload) }
    let revision = try await rig.record(w2, labels: ["app": "web"])
    try await rig.put(
      Self.deny, spec: ["selector": "app == 'web'", "ingress": [["action": "Allow", "source": ["selector": "name == 'w1'"]]]])
    let felix = try await rig.felix()
    try await felix.until(revision)
    try await felix.until(w2, is: "up")
    rig.datastore.setOutage("no route to it")
    try await felix.until("the outage") { $0["datastore"]?.string?.contains("no route to it") ?? false }
    #expect(try await rig.ping(w1, w2))
    #expect(try await !rig.ping(w3, w2))
    try await felix.stop()

    // An agent that has not yet seen the datastore knows nothing, and must not act on that.
    let blind = try await rig.felix()
    try await blind.until("the outage") { $0["datastore"]?.string?.contains("no route to it") ?? false }
    await blind.ask { $0.resync() }
    #expect(await blind.status()["inSync"]?.bool == false)
    #expect(await blind.status()["kernelChanges"]?.integer == 0)
    #expect(try await rig.ping(w1, w2))
    #expect(try await !rig.ping(w3, w2))

    rig.datastore.setOutage(nil)
    let changed = try await rig.put(
      Self.deny, spec: ["selector": "app == 'web'", "ingress": [["action": "Allow", "source": ["selector": "name == 'w3'"]]]])
    try await blind.until(changed)
    #expect(await blind.status()["datastore"]?.string == "connected")
    #expect(try await !rig.ping(w1, w2))
    #expect(try await rig.ping(w3, w2))
    try await blind.stop()
  }

  @Test("Other hands: the table, our routes, neighbours and forwarding come back at once; settings that nobody tells of with the next look")
  func drift() async throws {
    let rig = try await FelixRig()
    let (w1, w2) = (try await rig.workload(1), try await rig.workload(2))
    try await rig.record(w1)
    let revision = try await rig.record(w2)
    let felix = try await rig.felix()
    try await felix.until(revision)
    try await felix.until(w1, is: "up")
    try await felix.until(w2, is: "up")
    let before = try await rig.table()

    // A kernel with owned tables refuses; without, the table is made anew.
    _ = try await rig.run(rig.host, "nft", "delete", "table", "inet", "margay")
    _ = try await rig.run(rig.host, "nft", "flush", "ruleset")
    let lines = before.split(separator: "\n").count
    try await eventually("the table is back") { try await rig.table().split(separator: "\n").count == lines }

    _ = try await rig.ip("route del \(w2.address) dev \(w2.interface)")
    try await eventually("the route is back") { try await rig.ip("route show proto 80").contains(w2.address) }
    #expect(try await rig.ping(w1, w2))

    // Somebody else's route in the place of ours is theirs: told, not fought.
    _ = try await rig.ip("route replace \(w2.address) dev lo proto static")
    try await felix.until(w2, is: "pending")
    try await felix.until("the conflict is told") { $0["problems"]?.array?.contains { $0.string?.contains(w2.address) ?? false } ?? false }
    _ = try await rig.ip("route del \(w2.address) dev lo")
    try await felix.until(w2, is: "up")
    #expect(try await rig.ping(w1, w2))

    // The gateway's address is heard of.
    _ = try await rig.ip("address del 169.254.1.1/32 dev \(w1.interface)")
    try await eventually("the gateway is back") { try await rig.ip("address show dev \(w1.interface)").contains("169.254.1.1/32") }

    // So is this.
    _ = try await rig.ip("neigh flush dev \(w2.interface) nud permanent")
    for key in ["ipv4/conf/\(w2.interface)/proxy_arp", "ipv4/ip_forward", "ipv6/conf/all/forwarding"] { try rig.host.ensureSysctl("0", key) }
    try await eventually("the neighbour is back") {
      try await rig.ip("neigh show dev \(w2.interface) nud permanent").contains("\(w2.address) lladdr \(w2.mac)")
    }
    for key in ["ipv4/conf/\(w2.interface)/proxy_arp", "ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
      try await eventually("\(key) is back") { try rig.host.readSysctl(key) == "1" }
    }
    // This is told by nobody, and found with the next look.
    try rig.host.ensureSysctl("1", "ipv6/conf/\(w2.interface)/accept_ra")
    let rounds = await felix.ask { agent in
      agent.resync()
      return agent.rounds
    }
    try await felix.until("a look") { ($0["rounds"]?.integer ?? 0) > rounds }
    #expect(try rig.host.readSysctl("ipv6/conf/\(w2.interface)/accept_ra") == "0")
    #expect(try await rig.ping(w1, w2))
    try await felix.stop()
  }

  @Test("Everything is looked at again in its time without anybody asking")
  func resyncs() async throws {
    let rig = try await FelixRig()
    let w1 = try await rig.workload(1)
    let revision = try await rig.record(w1)
    let felix = try await rig.felix(resyncInterval: .milliseconds(100))
    try await felix.until(revision)
    try await felix.until(w1, is: "up")
    _ = try await rig.ip("neigh flush dev \(w1.interface) nud permanent")
    try await eventually("the neighbour is back") {
      try await rig.ip("neigh show dev \(w1.interface) nud permanent").contains(w1.address)
    }
    try await felix.stop()
  }

  @Test("An interface of ours that no record knows has no traffic, also when routes and addresses are right")
  func unknownInterface() async throws {
    let rig = try await FelixRig()
    let (w1, w2) = (try await rig.workload(1), try await rig.workload(2))
    let felix = try await rig.felix()
    try await felix.until(try await rig.record(w1))
    try await felix.until(w1, is: "up")
    // As the CNI server of another version, or an operator, might leave it. Within the grace period nobody takes the route away.
    _ = try await rig.ip("route add \(w2.address) dev \(w2.interface)")
    _ = try await rig.ip("address add 169.254.1.1/32 scope host dev \(w2.interface)")
    #expect(try await !rig.ping(w1, w2))
    #expect(try await !rig.ping(w2, w1))
    #expect(try await !rig.ping(rig.host, w2.address))
    #expect(try await rig.ping(rig.host, w1.address))
    try await felix.until(try await rig.record(w2))
    try await felix.until(w2, is: "up")
    #expect(try await rig.ping(w1, w2))
    #expect(try await rig.ping(w2, w1))
    #expect(try await rig.ping(rig.host, w2.address))
    try await felix.stop()
  }

  @Test("A record before its interface is pending with the reason, and up at once when the interface comes, each time it comes")
  func interfaceComesLater() async throws {
    let rig = try await FelixRig()
    let w1 = try await rig.workload(1)
    let w2 = Workload(number: 2, namespace: try rig.sandbox.namespace("w"))
    let felix = try await rig.felix()
    // The kernel tells the workload's end of its carrier when it comes to it (linkwatch): on a busy machine after felix was done.
    func reaches() async throws { try await eventually("w1 reaches w2", within: .seconds(5)) { try await rig.ping(w1, w2) } }
    try await rig.record(w1)
    try await felix.until(try await rig.record(w2))
    try await felix.until(w1, is: "up")
    #expect(await felix.status().endpoint(w2)?["state"]?.string == "pending")
    #expect(await felix.status().endpoint(w2)?["problem"]?.string == "interface caliw2 does not exist")
    try await rig.addCable(w2)
    try await felix.until(w2, is: "up")
    try await reaches()

    // Renamed while it is up: nothing else about it changes.
    _ = try await rig.ip("link set caliw2 name tmp2")
    try await felix.until("renamed away") { $0.endpoint(w2)?["problem"]?.string == "interface caliw2 does not exist" }
    _ = try await rig.ip("link set tmp2 name caliw2")
    try await felix.until(w2, is: "up")
    try await reaches()

    _ = try await rig.ip("link set caliw2 down")
    try await felix.until("down") { $0.endpoint(w2)?["problem"]?.string == "interface caliw2 is down" }
    _ = try await rig.ip("link set caliw2 name tmp2")
    try await felix.until("renamed away") { $0.endpoint(w2)?["problem"]?.string == "interface caliw2 does not exist" }
    _ = try await rig.ip("link set tmp2 up")
    _ = try await rig.ip("link set tmp2 down")
    _ = try await rig.ip("link set tmp2 name caliw2")
    _ = try await rig.ip("link set caliw2 up")
    try await felix.until(w2, is: "up")
    try await reaches()

    _ = try await rig.ip("link del caliw2")
    try await felix.until(w2, is: "pending")
    try await rig.addCable(w2)
    try await felix.until(w2, is: "up")
    try await reaches()
    try await felix.stop()
  }

  @Test("Two endpoints may swap their interfaces in one change")
  func swap() async throws {
    let rig = try await FelixRig()
    let (w1, w2) = (try await rig.workload(1), try await rig.workload(2))
    let felix = try await rig.felix()
    try await rig.record(w1)
    try await felix.until(try await rig.record(w2))
    try await felix.until(w2, is: "up")
    // The records trade everything but their names.
    let (one, two) = (try #require(try await rig.datastore.get(w1.key.path)), try #require(try await rig.datastore.get(w2.key.path)))
    let (text1, text2) = (String(decoding: one.value, as: UTF8.self), String(decoding: two.value, as: UTF8.self))
    let result = try await rig.datastore.transact(
      if: [], then: [.put(w1.key.path, Array(text2.utf8)), .put(w2.key.path, Array(text1.utf8))])
    guard case .committed(let revision) = result else { throw Unmet(description: "it commits") }
    try await felix.until(revision)
    try await felix.until("both are up") { $0["endpoints"]?.array?.allSatisfy { $0["state"]?.string == "up" } ?? false }
    for workload in [w1, w2] {
      // Looked at after a flush: the wish is there, not only what once was written.
      _ = try await rig.ip("neigh flush dev \(workload.interface) nud permanent")
    }
    await felix.ask { $0.resync() }
    for workload in [w1, w2] {
      try await eventually("neighbours of \(workload.interface)") {
        try await rig.ip("neigh show dev \(workload.interface) nud permanent").contains("\(workload.address) lladdr \(workload.mac)")
      }
    }
    #expect(try await rig.ping(w1, w2))
    try await felix.stop()
  }

  @Test("Other interface prefixes are taken over in place")
  func prefixes() async throws {
    let rig = try await FelixRig()
    let w1 = try await rig.workload(1)
    let felix = try await rig.felix()
    try await felix.until(try await rig.record(w1))
    try await felix.until(w1, is: "up")
    #expect(try await rig.ping(rig.host, w1.address))
    _ = try await rig.ip("link add tap0 type veth peer name tap1")
    _ = try await rig.ip("link set tap0 up")
    _ = try await rig.ip("route add 10.65.9.9 dev tap0")
    try await felix.until(
      try await rig.put(ResourceKey(.felixConfiguration, name: "default"), spec: ["interfacePrefix": "cali,tap"]))
    #expect(try await rig.table().contains("\"tap*\""))
    #expect(try await rig.ping(rig.host, w1.address))
    #expect(await felix.status().endpoint(w1)?["state"]?.string == "up")
    // A route on an interface that is ours now, and that nobody wants.
    try await eventually("the stray route is gone", within: .seconds(15)) { try await !rig.ip("route").contains("10.65.9.9") }
    try await felix.stop()
  }

  @Test("An address that moves to another endpoint, here or from another host, leaves its flows behind")
  func flows() async throws {
    let rig = try await FelixRig()
    let (w1, w2, w3) = (try await rig.workload(1), try await rig.workload(2), try await rig.workload(3))
    let far = Workload(number: 9, namespace: w3.namespace)
    for workload in [w1, w2, w3] { try await rig.record(workload) }
    let felix = try await rig.felix()
    try await felix.until(try await rig.record(far, node: "h2"))
    for workload in [w1, w2, w3] { try await felix.until(workload, is: "up") }
    #expect(try await rig.ping(w1, w2))
    #expect(try await rig.ping(w3, w2))
    // Nobody answers, and yet a flow is remembered.
    _ = try await rig.ip("route add \(far.address) dev lo")
    _ = try await rig.run(w2.namespace, "ping", "-c", "1", "-W", "0.1", far.address)
    // A change that is not of addresses cuts nothing.
    try await felix.until(try await rig.record(w1, labels: ["a": "b"]))
    for address in [w1.address, w3.address] { #expect(try await rig.flows(address).count == 1) }
    try await felix.until(try await rig.record(w1, addresses: [w1.address6]))
    try await felix.until(try await rig.record(w3, addresses: [w1.address, w3.address]))
    #expect(try await rig.ip("route show proto 80").contains("\(w1.address) dev \(w3.interface)"))
    try await eventually("the flows of \(w1.address) are forgotten") { try await rig.flows(w1.address).isEmpty }
    #expect(try await rig.flows(w3.address).count == 1)
    // A younger record takes an address that the older one still names.
    var younger = try JSONValue(parsing: try #require(try await rig.datastore.get(w2.key.path)).value)
    younger["metadata"]?["creationTimestamp"] = "2099-01-01T00:00:00Z"
    younger["spec"]?["ipNetworks"] = [.string("\(w2.address)/32"), .string("\(w3.address)/32")]
    try await felix.until(try await rig.put(w2.key, text: younger.text()))
    #expect(try await rig.ip("route show proto 80").contains("\(w3.address) dev \(w2.interface)"))
    try await eventually("the flows of \(w3.address) are forgotten") { try await rig.flows(w3.address).isEmpty }
    #expect(await felix.status().endpoint(w3)?["problem"]?.string == "address \(w3.address) is routed to another endpoint")
    try await rig.remove(far.key)
    try await eventually("the flows of \(far.address) are forgotten") { try await rig.flows(far.address).isEmpty }
    try await felix.stop()
  }
}

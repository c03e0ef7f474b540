/// Host endpoints over a real kernel: from records and what is seen of the host's interfaces to packets.

import Addresses
import Datastore
import JSON
import KernelSandbox
import NetlinkEdge
import Resources
import Testing

@testable import FelixProgram

@Suite("Host endpoints of the agent", .enabled(if: KernelSandbox.isAvailable), .serialized, .timeLimit(.minutes(2)))
struct HostEndpointAgentTests {
  static let endpoint = ResourceKey(.hostEndpoint, name: "h1-fabric")
  static let policy = ResourceKey(.globalNetworkPolicy, name: "hosts")

  /// Two networks beside the host: `one` at 192.0.2.0/30 and `two` at 198.51.100.0/30.
  static func neighbours(of rig: FelixRig) throws -> (one: NetworkNamespace, two: NetworkNamespace) {
    let one = try rig.sandbox.namespace("one")
    let two = try rig.sandbox.namespace("two")
    try rig.sandbox.connect(rig.host, "eth1", ["192.0.2.1/30"], one, "eth0", ["192.0.2.2/30"])
    try rig.sandbox.connect(rig.host, "eth2", ["198.51.100.1/30"], two, "eth0", ["198.51.100.2/30"])
    return (one, two)
  }

  @Test("An endpoint follows its address at once, its policy follows each change, and an unreadable record leaves what stood")
  func life() async throws {
    let rig = try await FelixRig()
    let (one, two) = try Self.neighbours(of: rig)
    let felix = try await rig.felix()
    let revision = try await rig.put(Self.endpoint, spec: ["node": "h1", "expectedIPs": ["203.0.113.7"]])
    try await felix.until(revision)
    #expect(await felix.status().finding(Self.endpoint)?.contains("no interface has one of expectedIPs (203.0.113.7)") == true)
    #expect(try await rig.ping(one, "192.0.2.1"))

    func until(interfaces: [String]) async throws {
      try await felix.until("interfaces \(interfaces)") {
        $0["hostEndpoints"]?.array?.first?["interfaces"]?.array?.compactMap(\.string) == interfaces && $0["inSync"]?.bool == true
      }
    }
    _ = try await rig.ip("address add 203.0.113.7/32 dev eth1")
    try await until(interfaces: ["eth1"])
    #expect(await felix.status().finding(Self.endpoint) == nil)
    #expect(try await !rig.ping(one, "192.0.2.1"))
    #expect(try await rig.ping(two, "198.51.100.1"))
    _ = try await rig.ip("address del 203.0.113.7/32 dev eth1")
    _ = try await rig.ip("address add 203.0.113.7/32 dev eth2")
    try await until(interfaces: ["eth2"])
    #expect(try await rig.ping(one, "192.0.2.1"))
    #expect(try await !rig.ping(two, "198.51.100.1"))

    try await rig.put(
      Self.policy, spec: ["selector": "role == 'fabric'", "types": ["Ingress"], "ingress": [["action": "Allow", "protocol": "ICMP"]]])
    var labelled: JSONValue = [
      "apiVersion": "projectcalico.org/v3", "kind": "HostEndpoint", "spec": ["node": "h1", "interfaceName": "eth2"],
    ]
    labelled["metadata"] = ["name": .string(Self.endpoint.name), "labels": ["role": "fabric"]]
    try await felix.until(try await rig.put(Self.endpoint, text: labelled.text()))
    #expect(try await rig.ping(two, "198.51.100.1"))
    // What cannot be read changes nothing, neither the policy nor the endpoint.
    try await felix.until(try await rig.put(Self.policy, spec: ["selector": "role =="]))
    try await felix.until(try await rig.put(Self.endpoint, text: "no document"))
    #expect(try await rig.ping(two, "198.51.100.1"))
    #expect(await felix.status().finding(Self.endpoint) != nil)

    // The rules outlive the agent, and the next one finds them right.
    try await felix.until(try await rig.put(Self.endpoint, text: labelled.text()))
    let last = try await rig.put(
      Self.policy, spec: ["selector": "role == 'fabric'", "types": ["Ingress"], "ingress": [["action": "Allow", "protocol": "TCP"]]])
    try await felix.until(last)
    try await felix.stop()
    #expect(try await !rig.ping(two, "198.51.100.1"))
    let second = try await rig.felix()
    try await second.until(last)
    #expect(await second.status()["kernelChanges"]?.integer == 0)
    try await second.until(try await rig.remove(Self.endpoint))
    #expect(try await rig.ping(two, "198.51.100.1"))
    #expect(try await !rig.table().contains("host-"))
    try await second.stop()
  }

  @Test("An endpoint for all interfaces polices a new one; interfaceExclude is obeyed in place")
  func wildcard() async throws {
    let rig = try await FelixRig()
    let (one, two) = try Self.neighbours(of: rig)
    let felix = try await rig.felix()
    try await felix.until(try await rig.put(Self.endpoint, spec: ["node": "h1", "interfaceName": "*"]))
    #expect(try await !rig.ping(one, "192.0.2.1"))
    try await felix.until(
      try await rig.put(ResourceKey(.felixConfiguration, name: "default"), spec: ["interfaceExclude": "kube-ipvs0,/^eth1/"]))
    #expect(try await rig.ping(one, "192.0.2.1"))
    #expect(try await !rig.ping(two, "198.51.100.1"))
    // Another host's endpoint is not this one's.
    try await felix.until(try await rig.put(Self.endpoint, spec: ["node": "h2", "interfaceName": "*"]))
    #expect(try await rig.ping(two, "198.51.100.1"))
    try await felix.stop()
  }
}

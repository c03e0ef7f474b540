/// What stands around policy, by the whole agent: from objects in the datastore to translation, queues and forgotten flows in the kernel.

import Addresses
import Datastore
import JSON
import KernelSandbox
import NetlinkEdge
import Resources
import Testing

@testable import FelixProgram

@Suite("The agent around policy", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(2)))
struct AroundPolicyTests {
  private func change(_ rig: FelixRig, _ workload: Workload, _ edit: (inout WorkloadEndpointSpec) -> Void) async throws -> Revision {
    try await rig.record(workload)
    let key = ResourceKey(.workloadEndpoint, namespace: "default", name: workload.key.name)
    var resource = try #require(try await rig.store.get(key)).resource
    guard case .workloadEndpoint(var spec) = resource.spec else { throw Unmet(description: "it is an endpoint") }
    edit(&spec)
    resource.spec = .workloadEndpoint(spec)
    return try await rig.store.apply(resource).stored.revision
  }

  @Test("A floating address is routed, translated, and its flows are forgotten when it goes; limits of bandwidth come and go; pools translate")
  func life() async throws {
    let rig = try await FelixRig()
    let (one, two) = (try await rig.workload(1), try await rig.workload(2))
    let felix = try await rig.felix()
    try await rig.put(ResourceKey(.felixConfiguration, name: "default"), spec: ["floatingIPs": "Enabled", "workloadSourceSpoofing": "Disabled"])
    try await rig.put(ResourceKey(.ipPool, name: "pool"), spec: ["cidr": "10.65.0.0/16", "natOutgoing": true])
    try await rig.record(one)
    let external = IPAddress("198.51.100.7")!
    try await felix.until(
      try await change(rig, two) {
        $0.ipNATs = [.init(internalIP: IPAddress(two.address)!, externalIP: external)]
        $0.allowSpoofedSourcePrefixes = [IPPrefix("10.9.0.0/24")!]
        $0.qosControls = QoSControls()
        $0.qosControls!.limits = [.ingressBandwidth: 80_000_000, .egressBandwidth: 8_000_000]
      })
    try await felix.until(two, is: "up")
    #expect(try await rig.ip("route show 198.51.100.7").contains("dev \(two.interface)"))
    #expect(try await rig.ping(one.namespace, "198.51.100.7"))
    #expect(try await rig.flows("198.51.100.7").count == 1)
    let table = try await rig.table()
    #expect(table.contains("masquerade") && !table.contains("10.9.0.0"))
    let finding = await felix.status().finding(ResourceKey(.workloadEndpoint, namespace: "default", name: two.key.name))
    #expect(finding?.hasPrefix("allowSpoofedSourcePrefixes: not in effect") == true)
    let queues = try await rig.run(rig.host, "tc", "qdisc", "show").output
    #expect(queues.contains("tbf 4d67: dev \(two.interface) root") && queues.contains("rate 80Mbit") && queues.contains("rate 8Mbit"), "\(queues)")
    #expect(try await rig.ping(two, one), "through the detour")

    try await felix.until(try await rig.record(two))
    try await eventually("its flows are forgotten") { try await rig.flows("198.51.100.7").isEmpty }
    #expect(try await rig.ip("route show 198.51.100.7").isEmpty)
    #expect(try await rig.ping(one.namespace, "198.51.100.7") == false)
    let left = try await rig.run(rig.host, "tc", "qdisc", "show").output
    #expect(!left.contains("tbf") && !left.contains("ingress"), "\(left)")
    #expect(try await !rig.ip("link show").contains("mqos-"))
    try await felix.until(try await rig.remove(ResourceKey(.ipPool, name: "pool")))
    #expect(try await !rig.table().contains("nat hook"))
    try await felix.stop()
  }

  @Test("An instance of OpenStack has its floating address without being asked, and reaches metadata on the loopback of its host")
  func openStack() async throws {
    let rig = try await FelixRig()
    let vm = try await rig.workload(1)
    let felix = try await rig.felix()
    var spec = WorkloadEndpointSpec()
    (spec.orchestrator, spec.node, spec.workload, spec.endpoint) = ("openstack", "h1", "vm", "port")
    (spec.interfaceName, spec.mac, spec.profiles) = (vm.interface, MACAddress(vm.mac), ["projectcalico-default-allow"])
    spec.ipNetworks = [IPAddress(vm.address)!.hostPrefix]
    spec.ipNATs = [.init(internalIP: IPAddress(vm.address)!, externalIP: IPAddress("198.51.100.9")!)]
    let metadata = Metadata(name: "h1-openstack-vm-port", namespace: "openstack")
    try await felix.until(try await rig.store.apply(Resource(metadata, .workloadEndpoint(spec))).stored.revision)
    try await felix.until(vm, is: "up")
    #expect(try await rig.run(rig.host, "sysctl", "-n", "net.ipv4.conf.\(vm.interface).route_localnet").output == "1\n")
    #expect(try await rig.ping(rig.host, "198.51.100.9"))
    let table = try await rig.table()
    #expect(table.contains("dnat ip to 127.0.0.1:8775") && table.contains("elements = { 198.51.100.9 : \(vm.address) }"))
    try await rig.put(ResourceKey(.felixConfiguration, name: "default"), spec: ["metadataAddr": "none"])
    try await eventually("no metadata") { try await !rig.table().contains("8775") }
    try await felix.stop()
  }
}

/// A node taken out of the cluster with all that is only its.
import AddressAssignment
import Addresses
import Datastore
import DatastoreMemory
import JSON
import Resources
import Synchronization
import Testing

@testable import NodeProgram

/// A datastore in which nobody goes on from the first look at the nodes before all have looked.
private final class Starting: Datastore {
  private let base = MemoryDatastore()
  private let state: Mutex<(missing: Int, waiting: [CheckedContinuation<Void, Never>])>
  init(_ count: Int) { state = Mutex((count, [])) }
  var name: String { base.name }
  func get(_ key: String) async throws(DatastoreError) -> KeyValue? { try await base.get(key) }
  func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    let result = try await base.list(prefix: prefix)
    guard prefix == ResourceKey.prefix(of: .node) else { return result }
    await withCheckedContinuation { continuation in
      let ready = state.withLock { state in
        state.missing -= 1
        state.waiting.append(continuation)
        if state.missing > 0 { return [CheckedContinuation<Void, Never>]() }
        defer { state.waiting = [] }
        return state.waiting
      }
      for one in ready { one.resume() }
    }
    return result
  }
  func transact(if comparisons: [Comparison], then operations: [DatastoreOperation]) async throws(DatastoreError) -> TransactionResult {
    try await base.transact(if: comparisons, then: operations)
  }
  func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    base.watch(prefixes: prefixes, after: revision)
  }
  func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID { try await base.grantLease(seconds: seconds) }
  func keepAlive(_ lease: LeaseID) async throws(DatastoreError) { try await base.keepAlive(lease) }
  func revoke(_ lease: LeaseID) async throws(DatastoreError) { try await base.revoke(lease) }
  func compact(upTo revision: Revision) async throws(DatastoreError) { try await base.compact(upTo: revision) }
  func close() async { await base.close() }
}

@Suite("Deleting a node", .timeLimit(.minutes(1)))
struct NodeRemovalTests {
  let datastore = MemoryDatastore()
  var store: ResourceStore { ResourceStore(datastore) }

  /// Two nodes with a workload each, and everything that can be of one node.
  private func cluster() async throws {
    _ = try await store.create(Resource(Metadata(name: "pool"), .ipPool(IPPoolSpec(cidr: IPPrefix("10.65.0.0/24")!, blockSize: 26))))
    for number in 1...2 {
      let node = "host\(number)"
      _ = try await NodeStartup(name: node, ipv4: InterfaceAddress("172.30.0.\(number)/24")!, ipv6: InterfaceAddress("fd30::\(number)/64")!).run(datastore)
      let address = try await AddressBook(datastore: datastore, node: node)
        .assign(.v4, handle: "net.\(number)", attributes: ["node": node, "namespace": "shop", "pod": "web-\(number)"])
      var endpoint = WorkloadEndpointSpec()
      (endpoint.node, endpoint.orchestrator, endpoint.pod, endpoint.endpoint) = (node, "k8s", "web-\(number)", "eth0")
      endpoint.interfaceName = "cali\(number)"
      endpoint.ipNetworks = [address.hostPrefix]
      let name = "\(node)-k8s-web--\(number)-eth0"
      _ = try await store.create(Resource(Metadata(name: name, namespace: "shop"), .workloadEndpoint(endpoint)))
      var peer = BGPPeerSpec()
      (peer.node, peer.peerIP, peer.asNumber) = (node, IPAddress("172.30.0.254"), 65000)
      _ = try await store.create(Resource(Metadata(name: "\(node)-rack"), .bgpPeer(peer)))
      _ = try await store.create(Resource(Metadata(name: "node.\(node)"), .bgpConfiguration(BGPConfigurationSpec(asNumber: 65001))))
      let host: JSONValue = ["kind": "HostEndpoint", "metadata": ["name": .string("\(node)-eth0")], "spec": ["node": .string(node)]]
      _ = try await datastore.transact(if: [], then: [.put(NodeRemoval.hostEndpoints + "\(node)-eth0", host.bytes)])
    }
    var peer = BGPPeerSpec()
    (peer.node, peer.peerIP, peer.asNumber) = ("host1", IPAddress("172.30.0.2"), 64512)
    _ = try await store.create(Resource(Metadata(name: "to-host2"), .bgpPeer(peer)))
  }
  private func keys() async throws -> [String] {
    try await datastore.list(prefix: "/").items.map(\.key).filter { $0.contains("host2") || $0.contains("net.2") }
  }

  @Test("Everything of the node goes, in an order that takes the routes first; everything of the others stays; what may be wrong is told")
  func everything() async throws {
    try await cluster()
    let others = try await datastore.list(prefix: "/").items.map(\.key).filter { $0.contains("host1") || $0.contains("net.1") }
    var lines: [String] = []
    try await NodeRemoval(name: "host2").run(datastore) { lines.append($0) }
    #expect(lines.first == "Node host2 deleted")
    #expect(lines.contains { $0.hasPrefix("WorkloadEndpoint shop/host2-k8s-web--2-eth0 deleted (10.65.0.") }, "\(lines)")
    #expect(lines.contains { $0.hasPrefix("addresses 10.65.0.") } && lines.contains { $0.hasPrefix("block 10.65.0.") })
    #expect(lines.contains("BGPPeer host2-rack deleted") && lines.contains("HostEndpoint host2-eth0 deleted"))
    #expect(lines.last == "BGPPeer to-host2 stays: its peerIP 172.30.0.2 was this node's; delete it if nothing else has that address")
    #expect(try await keys() == [ResourceKey(.bgpPeer, name: "to-host2").path])
    #expect(try await datastore.list(prefix: "/").items.map(\.key).filter { $0.contains("host1") || $0.contains("net.1") } == others)
  }

  @Test("A removal that stopped half-way is finished by the next; of a node that never was, it is told")
  func again() async throws {
    try await cluster()
    try await store.delete(ResourceKey(.node, name: "host2"))
    try await NodeRemoval(name: "host2").run(datastore) { _ in }
    #expect(try await keys() == [ResourceKey(.bgpPeer, name: "to-host2").path])
    await #expect(throws: NodeRemoval.Problem.self) { try await NodeRemoval(name: "host2").run(datastore) { _ in } }
    // It comes back, as new.
    _ = try await NodeStartup(name: "host2", ipv4: InterfaceAddress("172.30.0.2/24")!, ipv6: InterfaceAddress("fd30::2/64")!).run(datastore)
    #expect(try await store.get(ResourceKey(.node, name: "host2")) != nil)
  }

  @Test("A node whose felix has just said that it is alive is known to be")
  func alive() async throws {
    try await cluster()
    let removal = NodeRemoval(name: "host2")
    #expect(try await removal.signOfLife(datastore) == nil)
    let status = Array(#"{"time":"2026-01-01T00:00:00Z","uptime":12.3,"first_update":false}"#.utf8)
    _ = try await datastore.transact(if: [], then: [.put("/calico/felix/v2/no-region/host/host2/status", status)])
    #expect(try await removal.signOfLife(datastore) == "2026-01-01T00:00:00Z")
  }

  @Test("Of nodes that start at the same moment with one address, one comes up")
  func racingStarts() async throws {
    for round in 0..<5 {
      let datastore = Starting(8)
      let started = await withTaskGroup(of: Bool.self) { group in
        for number in 0..<8 {
          group.addTask {
            var startup = NodeStartup(name: "h\(number)", ipv4: InterfaceAddress("172.30.0.1/24")!)
            startup.interfaces = { _ in [] }
            return (try? await startup.run(datastore)) != nil
          }
        }
        return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
      }
      #expect(started == 1, "round \(round)")
      #expect(try await ResourceStore(datastore).list(.node).items.count == 1)
    }
  }
}

/// Datastores for the tests: with content, with faults.
import Datastore
import DatastoreMemory
import EtcdServer
import Foundation
import JSON
import Resources
import Synchronization

func octets(_ text: String) -> [UInt8] { Array(text.utf8) }

extension Datastore {
  func put(_ key: String, _ value: String, lease: LeaseID? = nil) async throws {
    _ = try await transact(if: [], then: [.put(key, octets(value), lease: lease)])
  }
  func put(_ key: ResourceKey, spec: String) async throws {
    let namespace = key.namespace.map { #","namespace":"\#($0)""# } ?? ""
    try await put(
      key.path,
      #"{"apiVersion":"projectcalico.org/v3","kind":"\#(key.kind.rawValue)","metadata":{"name":"\#(key.name)"\#(namespace)},"spec":\#(spec)}"#)
  }
  /// Keys and values, without the marker of a transfer.
  func contents() async throws -> [String: [UInt8]] {
    Dictionary(uniqueKeysWithValues: try await list(prefix: "").items.filter { $0.key != TransferMarker.path }.map { ($0.key, $0.value) })
  }
}

/// With etcd's own limits.
func startedEtcd() async throws -> EtcdServer {
  var options = EtcdServer.Options()
  options.arguments = ["--max-txn-ops", "128"]
  let server = try EtcdServer(options)
  try await server.start()
  try await server.waitUntilReady()
  return server
}

/// A store that does as it is told for a number of transactions, and then is away: where a program would have been killed.
final class MortalDatastore: Datastore {
  let base: any Datastore
  private let left: Mutex<Int>
  init(_ base: any Datastore, transactions: Int) {
    self.base = base
    left = Mutex(transactions)
  }
  var name: String { base.name }
  func get(_ key: String) async throws(DatastoreError) -> KeyValue? { try await base.get(key) }
  func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) { try await base.list(prefix: prefix) }
  func transact(
    if comparisons: [Comparison], then operations: [DatastoreOperation]
  ) async throws(DatastoreError) -> TransactionResult {
    let isAlive = left.withLock { left in
      left -= 1
      return left >= 0
    }
    guard isAlive else { throw .unavailable("killed") }
    return try await base.transact(if: comparisons, then: operations)
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

/// A store recorded from Calico's own driver; provenance in Tests/Fixtures/calico-openstack.
func recordedOpenStack() throws -> [(key: String, value: String)] {
  let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Fixtures/calico-openstack/etcd.txt")
  let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
  return stride(from: 0, to: lines.count - 1, by: 2).map { (lines[$0], lines[$0 + 1]) }
}

/// A small cluster: objects, IPAM, status, one leased key, one value that is no UTF-8.
func fill(_ store: any Datastore, endpoints: Int = 300) async throws {
  try await ResourceStore(store).ensureDefaults()
  try await store.put(ResourceKey(.ipPool, name: "pool"), spec: #"{"cidr":"10.77.0.0/16","blockSize":26,"ipipMode":"Never","vxlanMode":"Never","nodeSelector":"all()","allowedUses":["Workload","Tunnel"],"assignmentMode":"Automatic"}"#)
  try await store.put(ResourceKey(.tier, name: "early"), spec: #"{"order":10}"#)
  try await store.put(ResourceKey(.networkPolicy, namespace: "shop", name: "early.web"), spec: #"{"tier":"early","selector":"app == 'web'","types":["Ingress"]}"#)
  for index in 0..<endpoints {
    try await store.put(
      ResourceKey(.workloadEndpoint, namespace: "shop", name: "host1-k8s-web\(index)-eth0"),
      spec: #"{"orchestrator":"k8s","node":"host1","pod":"web\#(index)","endpoint":"eth0","ipNetworks":["10.77.\#(index / 250).\#(index % 250)/32"]}"#)
  }
  try await store.put("/calico/ipam/v2/assignment/ipv4/block/10.77.0.0-26", #"{"cidr":"10.77.0.0/26","affinity":"host:host1"}"#)
  try await store.put("/calico/ipam/v2/host/host1/ipv4/block/10.77.0.0-26", "")
  try await store.put("/calico/ipam/v2/handle/k8s-pod-network.abc", #"{"block":{"10.77.0.0/26":1},"deleted":false}"#)
  try await store.put("/calico/ipam/v2/config", #"{"strict_affinity":true}"#)
  try await store.put("/calico/felix/v2/no-region/host/host1/last_reported_status", #"{"time":"2026-01-01T00:00:00Z"}"#)
  _ = try await store.transact(if: [], then: [.put("/calico/v1/config/odd", [0xff, 0x00, 0x0a])])
  let lease = try await store.grantLease(seconds: 600)
  try await store.put("/calico/felix/v2/no-region/host/host1/status", "{}", lease: lease)
}

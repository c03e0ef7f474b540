/// The CNI server over the real datastore layers: an outage reaches the container runtime as "try again later".

import Addresses
import CNIServer
import Datastore
import DatastoreMemory
import Glibc
import JSON
import KernelSandbox
import Logging
import NetlinkEdge
import Resources
import Sockets
import Testing

@testable import FelixProgram

@Suite("CNI and the datastore", .timeLimit(.minutes(1)))
struct CollaboratorTests {
  @Test("Every call says that the datastore is away in the datastore's own words, whatever layer it passes")
  func outage() async throws {
    let datastore = MemoryDatastore()
    let records = StoredEndpoints(store: ResourceStore(datastore))
    let addresses = BookedAddresses(datastore: datastore)
    let key = ResourceKey(.workloadEndpoint, name: "h1-k8s-w-eth0")
    let endpoint = Resource(Metadata(name: key.name, namespace: "default"), .workloadEndpoint(WorkloadEndpointSpec()))
    let profile = Resource(Metadata(name: "net"), .profile(ProfileSpec()))
    let request = AddressRequest(handle: "h", node: "h1", namespace: "default", families: [.v4])
    var exact = request
    exact.exact = [IPAddress("10.65.0.1")!]
    datastore.setOutage("no route to it")
    let calls: [(String, () async throws -> Void)] = [
      ("isReady", { _ = try await records.isReady() }), ("endpoint", { _ = try await records.endpoint(key) }),
      ("put", { _ = try await records.put(endpoint) }), ("delete", { try await records.delete(key) { _ in true } }),
      ("ensureProfile", { try await records.ensureProfile(profile) }), ("assign", { _ = try await addresses.assign(request) }),
      ("assign one", { [exact] in _ = try await addresses.assign(exact) }),
      ("heldBy", { _ = try await addresses.addresses(heldBy: "h") }), ("release", { try await addresses.release(handle: "h") }),
    ]
    for (name, call) in calls {
      await #expect(throws: DatastoreError.unavailable("no route to it"), "\(name)") { try await call() }
    }
  }

  private static let plugin: String = {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, 4095)
    return "\(Files.parent(of: String(decoding: buffer[..<max(count, 0)].map { UInt8(bitPattern: $0) }, as: UTF8.self)))/margay-cni"
  }()

  @Test(
    "ADD through the plugin: code 11 while the datastore is away, an address once it is back", .enabled(if: KernelSandbox.isAvailable))
  func plugin() async throws {
    let rig = try await FelixRig()
    let directory = try Files.makeTemporaryDirectory(prefix: "margay-felix-")
    defer { try? Files.removeTree(directory) }
    var pool = IPPoolSpec(cidr: IPPrefix("10.65.0.0/24")!)
    pool.blockSize = 26
    try await rig.store.create(Resource(Metadata(name: "pool"), .ipPool(pool)))
    try await rig.store.create(Resource(Metadata(name: "h1"), .node(NodeSpec())))
    let felix = try await rig.felix()
    let container = try rig.sandbox.namespace("c")
    var log = Logger(label: "cni")
    log.logLevel = .critical
    let server = CNIServer(
      options: CNIServerOptions(nodeName: "h1", socketPath: "\(directory)/cni.sock", hostNamespace: rig.host),
      records: StoredEndpoints(store: rig.store), addresses: BookedAddresses(datastore: rig.datastore), programmed: felix.readiness, log: log)
    let serving = Task { try await server.run() }
    try await eventually("the server listens") { Files.exists("\(directory)/cni.sock") }

    func plugin(_ command: String) async throws -> JSONValue {
      let configuration: JSONValue = ["cniVersion": "1.0.0", "name": "net", "type": "calico", "ipam": ["type": "calico-ipam"]]
      let environment = [
        "CNI_COMMAND=\(command)", "CNI_CONTAINERID=\(String(repeating: "c", count: 64))", "CNI_NETNS=\(container.name)", "CNI_IFNAME=eth0",
        "CNI_PATH=/opt/cni/bin", "MARGAY_CNI_SOCKET=\(directory)/cni.sock",
      ]
      let text = try await blocking {
        try Files.write(configuration.bytes, to: "\(directory)/stdin-\(command)", create: true)
        let input = OwnedDescriptor(owning: open("\(directory)/stdin-\(command)", O_RDONLY | O_CLOEXEC))
        return try ChildCommand(Self.plugin, [], environment: environment, input: input.borrowed).runToEnd().output
      }
      return text.isEmpty ? [:] : try JSONValue(parsing: text)
    }
    rig.datastore.setOutage("no route to it")
    let refused = try await plugin("ADD")
    #expect(refused["code"]?.integer == 11, "\(refused.text())")
    #expect(refused["msg"]?.string?.contains("no route to it") == true)
    rig.datastore.setOutage(nil)
    let added = try await plugin("ADD")
    #expect(added["ips"]?.array?.first?["address"]?.string?.hasPrefix("10.65.0.") == true, "\(added.text())")
    // When ADD returns, the host reaches the container.
    if let address = added["ips"]?.array?.first?["address"]?.string?.split(separator: "/").first {
      #expect(try await rig.ping(rig.host, String(address)))
    }
    #expect(try await plugin("DEL")["code"] == nil)
    serving.cancel()
    try await serving.value
    try await felix.stop()
  }
}

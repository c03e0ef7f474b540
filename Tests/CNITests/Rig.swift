/// One node for tests: a host namespace, a server in it, and the real plugin started as a runtime starts it.

import Addresses
import CNIMessages
import CNIServer
import Glibc
import JSON
import KernelSandbox
import Logging
import NetlinkEdge
import Sockets

/// Blocks a thread of its own instead of one of the few that run tasks.
func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    do {
      try DedicatedThread.start { continuation.resume(with: Result { try body() }) }
    } catch {
      continuation.resume(throwing: error)
    }
  }
}

/// True once `condition` holds; false when it does not within the deadline.
func blockingTruth(_ condition: @escaping @Sendable () -> Bool) async -> Bool {
  (try? await blocking { eventually { condition() } }) ?? false
}

final class Rig: Sendable {
  let sandbox = KernelSandbox()
  let host: NetworkNamespace
  let directory: String
  let faults = Faults()
  let records: FakeRecords
  let addresses: FakeAddresses
  let felix: FakeFelix
  var socket: String { "\(directory)/cni.sock" }
  var tombstones: String { "\(directory)/tombstones" }

  init() throws {
    host = try sandbox.namespace("host")
    directory = try Files.makeTemporaryDirectory(prefix: "margay-cni-")
    records = FakeRecords(faults)
    addresses = FakeAddresses(faults)
    felix = FakeFelix(host: host, records: records, faults: faults)
    // What containers can reach on the host.
    try sandbox.ip(host, "address", "add", "10.0.0.1/32", "dev", "lo")
    try sandbox.ip(host, "-6", "address", "add", "fd00::1/128", "dev", "lo")
  }
  deinit { try? Files.removeTree(directory) }

  func server(timeout: Duration = .seconds(20)) -> CNIServer {
    var log = Logger(label: "cni")
    log.logLevel = .critical
    return CNIServer(
      options: CNIServerOptions(nodeName: "node1", socketPath: socket, timeout: timeout, hostNamespace: host), records: records,
      addresses: addresses, programmed: felix, log: log)
  }

  /// Runs `body` while the server serves.
  func serving<Value: Sendable>(_ server: CNIServer? = nil, _ body: () async throws -> Value) async throws -> Value {
    let server = server ?? self.server()
    let task = Task { try await server.run() }
    guard try await blocking({ [socket] in eventually { Files.exists(socket) } }) else {
      throw Injected(description: "the server did not come")
    }
    let result: Result<Value, any Error>
    do {
      result = .success(try await body())
    } catch {
      result = .failure(error)
    }
    task.cancel()
    try await task.value
    return try result.get()
  }

  static let configuration: JSONValue = [
    "cniVersion": "1.0.0", "name": "net", "type": "calico", "ipam": ["type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"],
  ]

  struct Outcome: Sendable {
    let code: CInt
    let json: JSONValue?
    let text: String
    var errorCode: Int64? { json?["code"]?.integer }
    var message: String { json?["msg"]?.string ?? text }
  }

  static let plugin: String = {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, 4095)
    let own = String(decoding: buffer[..<max(count, 0)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return "\(Files.parent(of: own))/margay-cni"
  }()

  /// The plugin as an executed program: environment and standard input, as the specification has it.
  func plugin(
    _ command: String, _ container: String, _ namespace: NetworkNamespace?, interface: String = "eth0", arguments: String = "",
    configuration: JSONValue = Rig.configuration, program: String = "margay-cni"
  ) async throws -> Outcome {
    try await execute(
      try link(program), environment(command, container, namespace?.name ?? "", interface: interface, arguments: arguments),
      input: configuration.bytes)
  }

  func environment(
    _ command: String, _ container: String, _ namespace: String, interface: String = "eth0", arguments: String = ""
  ) -> [String] {
    [
      "CNI_COMMAND=\(command)", "CNI_CONTAINERID=\(container)", "CNI_NETNS=\(namespace)", "CNI_IFNAME=\(interface)",
      "CNI_ARGS=\(arguments)", "CNI_PATH=\(directory):\(Rig.referencePlugins)", "MARGAY_CNI_SOCKET=\(socket)", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    ]
  }

  /// Where the distribution has the reference plugins.
  static let referencePlugins = "/usr/lib/cni"
  static let hasReferencePlugins = Files.exists("\(referencePlugins)/host-local")

  /// The plugin's path under one of its names, as an installation has them side by side.
  func link(_ program: String) throws -> String {
    let path = "\(directory)/\(program)"
    if symlink(Rig.plugin, path) < 0, errno != EEXIST { throw SystemError.last("link \(path)") }
    return path
  }

  /// Any plugin, in the test's namespace or another one.
  func execute(
    _ path: String, _ environment: [String], input octets: [UInt8], in namespace: NetworkNamespace? = nil
  ) async throws -> Outcome {
    let directory = directory
    return try await blocking {
      let standing = "\(directory)/stdin-\(UInt32.random(in: 0...UInt32.max))"
      try Files.write(octets, to: standing, create: true)
      defer { try? Files.remove(standing) }
      let input = OwnedDescriptor(owning: open(standing, O_RDONLY | O_CLOEXEC))
      let command = ChildCommand(
        path, environment: environment, input: input.borrowed, networkNamespace: namespace?.descriptor.borrowed)
      let result = try command.runToEnd()
      return Outcome(code: result.code, json: try? JSONValue(parsing: result.output), text: result.output)
    }
  }

  func ping(_ namespace: NetworkNamespace, _ address: String) throws -> Bool {
    try sandbox.tryRun(namespace, "ping", ["-c", "1", "-W", "1", address]).code == 0
  }
  /// What is left of attachments, anywhere.
  func leftovers() throws -> String {
    let links = try RouteNetlink(namespace: host).links().map(\.name).filter { $0 != "lo" }
    let files = try Files.list(tombstones)
    let endpoints = records.keys.filter { $0.kind == .workloadEndpoint }
    var parts: [String] = []
    if !links.isEmpty { parts.append("links \(links)") }
    if !addresses.all.isEmpty { parts.append("addresses \(addresses.all)") }
    if !endpoints.isEmpty { parts.append("records \(endpoints)") }
    if !files.isEmpty { parts.append("tombstones \(files)") }
    return parts.joined(separator: "; ")
  }
}

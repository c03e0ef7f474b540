/// One host as it is in production: the real `margay felix` in a namespace, a datastore, and containers attached by executing the plugin.

import Addresses
import Datastore
import Datastores
import Glibc
import JSON
import KernelSandbox
import NetlinkEdge
import NodeProgram
import Resources
import Sockets

/// Where objects are kept during a bench.
enum StoreKind: String, CaseIterable {
  case sqlite = "SQLite"
  case etcd = "etcd"
}

/// A datastore that several processes share; etcd is started for it and ended with it.
final class BenchStore {
  let kind: StoreKind
  /// As `--datastore` takes it.
  let name: String
  let datastore: any Datastore
  private var server: ServerProcess?

  /// etcd listens on `address`, in the namespace of this process.
  init(_ kind: StoreKind, scratch: String, address: String = "127.0.0.1") async throws {
    self.kind = kind
    switch kind {
    case .sqlite:
      let path = "\(scratch)/store-\(UInt32.random(in: 0...UInt32.max)).db"
      name = "sqlite:\(path)"
      datastore = try DatastoreChoice(option: name, environment: { _ in nil }).open(creating: true)
    case .etcd:
      let (port, peerPort) = (try Self.freePort(), try Self.freePort())
      let urls = ["http://\(address):\(port)", "http://127.0.0.1:\(peerPort)"]
      let log = OwnedDescriptor(owning: open("\(scratch)/etcd.log", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
      server = try ServerProcess(
        ChildCommand(
          "etcd",
          [
            "--data-dir", "\(scratch)/etcd", "--listen-client-urls", urls[0], "--advertise-client-urls", urls[0], "--listen-peer-urls",
            urls[1], "--initial-advertise-peer-urls", urls[1], "--initial-cluster", "default=\(urls[1])", "--log-level", "error",
          ], output: log.borrowed, error: log.borrowed, deathSignal: SIGKILL))
      endpoint = urls[0]
      name = "etcd://\(address):\(port)"
      datastore = try DatastoreChoice(option: name, environment: { _ in nil }).open(creating: true)
      let deadline = MonotonicInstant.now + .seconds(15)
      while true {
        do throws(DatastoreError) {
          _ = try await datastore.get("/bench")
          break
        } catch {
          guard MonotonicInstant.now < deadline else {
            throw BenchProblem("etcd does not come: \(error); \((try? Files.readText("\(scratch)/etcd.log")) ?? "")")
          }
          try await Task.sleep(for: .milliseconds(20))
        }
      }
    }
  }
  /// For etcdctl.
  private(set) var endpoint = ""

  private static func freePort() throws -> UInt16 {
    try Socket.listening(on: SocketAddress(.v4(.loopback), port: 0)).localAddress()!.port
  }
  var serverPID: Int32? { server?.pid }
  func end() async {
    await datastore.close()
    server?.end()
  }
}

/// A daemon of the bench: killed and waited for at the end.
final class ServerProcess {
  private let child: ChildProcess
  var pid: Int32 { child.pid }
  init(_ command: ChildCommand) throws { child = try command.start() }
  private var isEnded = false
  func end() {
    guard !isEnded else { return }
    isEnded = true
    try? child.signal(SIGKILL)
    _ = try? child.wait()
  }
  deinit { end() }
}

struct Container: Sendable {
  var id: String
  var namespace: NetworkNamespace
}

final class BenchNode {
  static let name = "n1"
  let sandbox = KernelSandbox()
  let host: NetworkNamespace
  let store: BenchStore
  let plugin: String
  private let directory: String
  private var felix: ServerProcess!
  var felixPID: Int32 { felix.pid }

  /// Starts felix and waits until it serves.
  init(_ kind: StoreKind, _ options: Options) async throws {
    let name = UInt32.random(in: 0...UInt32.max)
    directory = "\(options.scratch)/node-\(name)"
    plugin = "\(options.binaries)/margay-cni"
    try Files.makeDirectories("\(directory)/state")
    host = try sandbox.namespace("host")
    // The host's cable to this process's own namespace, over which it reaches etcd.
    let own = try NetworkNamespace.current()
    try sandbox.connect(own, "up\(name % 10000)", ["10.99.0.1/24"], host, "eth0", ["10.99.0.2/24"])
    store = try await BenchStore(kind, scratch: directory, address: "10.99.0.1")
    let resources = ResourceStore(store.datastore)
    _ = try await NodeStartup(name: Self.name, ipv4: InterfaceAddress("10.99.0.2/24")).run(store.datastore)
    _ = try await resources.apply(Resource(Metadata(name: "pool"), .ipPool(IPPoolSpec(cidr: IPPrefix("10.66.0.0/16")!))))
    let log = OwnedDescriptor(owning: open("\(directory)/felix.log", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600))
    felix = try ServerProcess(
      ChildCommand(
        "\(options.binaries)/margay",
        [
          "felix", "--name", Self.name, "--datastore", store.name, "--run-dir", directory, "--state-dir", "\(directory)/state",
          "--log-level", "warning",
        ], output: log.borrowed, error: log.borrowed, networkNamespace: host.descriptor.borrowed, deathSignal: SIGKILL))
    guard eventually(within: .seconds(15), { Self.status("\(directory)/felix.sock")?["inSync"]?.bool == true }),
      eventually(within: .seconds(5), { Files.exists("\(directory)/cni.sock") })
    else {
      throw BenchProblem("felix does not come: \((try? Files.readText("\(directory)/felix.log")) ?? "")")
    }
  }
  /// The one JSON document that a daemon's status socket gives.
  private static func status(_ path: String) -> JSONValue? {
    guard let socket = try? Socket.connecting(toUnix: path), let bytes = try? Files.read(descriptor: socket.raw, name: path) else {
      return nil
    }
    return try? JSONValue(parsing: bytes)
  }
  func end() async {
    felix.end()
    await store.end()
  }

  func container(_ role: String) throws -> Container {
    Container(id: "\(role)-\(UInt32.random(in: 0...UInt32.max))", namespace: try sandbox.namespace(role))
  }

  /// Writes what the plugin is to read, and returns the path; IPv4 alone, as the peers do it.
  func configuration(labels: [String: String] = [:]) throws -> String {
    let labels = labels.map { ["key": .string($0.key), "value": .string($0.value)] as JSONValue }
    let json: JSONValue = [
      "cniVersion": "1.0.0", "name": "net", "type": "margay-cni",
      "ipam": ["type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "false"],
      "margay": ["socket": .string("\(directory)/cni.sock"), "tombstones": .string("\(directory)/state/tombstones")],
      "args": ["cni": ["labels": .array(labels)]],
    ]
    let path = "\(directory)/conf-\(UInt32.random(in: 0...UInt32.max)).json"
    try Files.writeAtomically(json.bytes, to: path)
    return path
  }

  /// One call as a container runtime makes it; the plugin runs in the host's namespace.
  @discardableResult
  static func call(
    _ plugin: String, _ verb: String, _ container: Container, configuration: String, host: NetworkNamespace
  ) throws -> String {
    let input = try Files.opened(configuration, O_RDONLY)
    let result = try ChildCommand(
      plugin, [],
      environment: [
        "CNI_COMMAND=\(verb)", "CNI_CONTAINERID=\(container.id)", "CNI_NETNS=\(container.namespace.name)", "CNI_IFNAME=eth0",
        "CNI_PATH=/usr/lib/cni", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
      ], input: input.borrowed, networkNamespace: host.descriptor.borrowed
    ).runToEnd()
    guard result.code == 0 else { throw BenchProblem("\(plugin) \(verb): exit code \(result.code): \(result.output)") }
    return result.output
  }

  /// Attaches a container and returns its address.
  func attach(_ container: Container, labels: [String: String]) throws -> IPAddress {
    let output = try Self.call(plugin, "ADD", container, configuration: try configuration(labels: labels), host: host)
    let json = try JSONValue(parsing: Array(output.utf8))
    guard let address = json["ips"]?.array?.first?["address"]?.string.flatMap({ InterfaceAddress($0) })?.address else {
      throw BenchProblem("margay-cni ADD gave no address: \(output)")
    }
    return address
  }
}

/// The datastore server of a lab: the distribution's etcd in a namespace of its own, reached by hosts through the underlay.
import Addresses
import Glibc
import NetlinkEdge
import Sockets

struct EtcdServer {
  let paths: LabPaths
  let fabric: Fabric

  static let port = 2379
  private var address: String { fabric.cables.first { $0.a.place == Topology.etcd }.map { "\($0.a.address4.address)" } ?? "127.0.0.1" }
  var endpoint: String { "http://\(address):\(Self.port)" }
  /// As `--datastore` takes it.
  var name: String { "etcd://\(address):\(Self.port)" }
  private var directory: String { paths.host(Topology.etcd) }

  func start(log: borrowing OwnedDescriptor) throws {
    guard let etcd = Preflight.find("etcd") else { return }
    try Files.makeDirectories(directory)
    let namespace = try NetworkNamespace.open(named: paths.namespace(Topology.etcd))
    let process = try ChildCommand(
      etcd,
      [
        "--name", paths.lab, "--data-dir", "\(directory)/data", "--listen-client-urls", "http://0.0.0.0:\(Self.port)",
        "--advertise-client-urls", endpoint, "--listen-peer-urls", "http://127.0.0.1:2380",
        "--initial-advertise-peer-urls", "http://127.0.0.1:2380", "--initial-cluster", "\(paths.lab)=http://127.0.0.1:2380",
      ],
      output: log.borrowed, error: log.borrowed, networkNamespace: namespace.descriptor.borrowed, newProcessGroup: true
    ).start()
    try Files.writeAtomically(Array("etcd \(process.pid)\n".utf8), to: "\(directory)/node.pids")
  }

  /// Whether it answers a read that its log agrees on.
  func isHealthy() -> Bool {
    guard let etcdctl = Preflight.find("etcdctl"), let namespace = try? NetworkNamespace.open(named: paths.namespace(Topology.etcd)) else {
      return false
    }
    let command = ChildCommand(
      etcdctl, ["--endpoints", endpoint, "--command-timeout=1s", "endpoint", "health"],
      environment: ["ETCDCTL_API=3", "PATH=/usr/bin:/bin"],
      networkNamespace: namespace.descriptor.borrowed, newProcessGroup: true)
    return (try? command.runToEnd())?.code == 0
  }

  static func version() -> String {
    guard let etcd = Preflight.find("etcd"), let result = try? ChildCommand(etcd, ["--version"]).runToEnd() else { return "" }
    return result.output.split(separator: "\n").first?.split(separator: " ").last.map(String.init) ?? ""
  }
}

extension Lab {
  /// Starts the lab's etcd and waits until it answers.
  public func startDatastore() throws {
    guard topology.datastore == .etcd else { throw LabProblem("lab \(paths.lab) keeps its objects in a file: there is no etcd to start") }
    let server = EtcdServer(paths: paths, fabric: fabric)
    try server.start(log: try openLog(Topology.etcd))
    do {
      try waitUntil("etcd answers", seconds: 15) { server.isHealthy() }
    } catch { throw LabProblem("\(error); its log is \(paths.log(Topology.etcd))") }
  }
}

/// The places of a lab by name, for commands: what runs there, and what a command run there should know.
import Sockets

extension Lab {
  /// Everything with a namespace of its own.
  public func places() -> [String] { topology.places }

  /// The name of a place where a program of the lab's runs; others are refused with those that there are.
  public func server(_ name: String) throws -> String {
    let known = topology.hosts.map(\.name) + topology.routers.map(\.name) + (topology.datastore == .etcd ? [Topology.etcd] : [])
    guard known.contains(name) else {
      throw LabProblem("lab \(paths.lab) has no host, router or datastore server \(name); there are \(known.joined(separator: ", "))")
    }
    return name
  }

  /// Starts a host's, a router's or the datastore's programs again and waits until they are ready.
  public func startProcesses(of place: String) throws {
    guard !processIDs(of: place).contains(where: Self.isRunning) else {
      throw LabProblem("\(place) runs already; stop it first with `margay lab kill \(place) --name \(paths.lab)`")
    }
    if place == Topology.etcd { return try startDatastore() }
    if let router = topology.routers.first(where: { $0.name == place }) {
      try startRouter(router, again: true)
    } else {
      try startNode(try host(place))
    }
    try waitForSessions()
  }

  /// For commands inside: the datastore under Margay's name for it and under that of etcd's own client.
  public func environment() -> [String] {
    var variables = ["MARGAY_LAB=\(paths.lab)", "MARGAY_DATASTORE=\(datastoreName)"]
    if topology.datastore == .etcd {
      variables += ["ETCDCTL_API=3", "ETCDCTL_ENDPOINTS=\(EtcdServer(paths: paths, fabric: fabric).endpoint)"]
    }
    return variables
  }
}

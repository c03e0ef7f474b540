/// The demo's datacenter. `Examples/datacenter.yaml` is the same as a file; a test compares them.

extension Topology {
  public static let datacenter = {
    var topology = Topology()
    topology.routers = [Router(name: "rack", role: .rack, program: .bird)]
    topology.hosts = (1...3).map { Host(name: "host\($0)", rack: "rack") }
    topology.cables = topology.hosts.map { Cable(a: $0.name, b: $0.rack) }
    topology.namespaces = [
      Namespace(name: "shop", labels: ["zone": "trusted"]), Namespace(name: "office", labels: ["zone": "trusted"]),
      Namespace(name: "outside", labels: ["zone": "untrusted"]),
    ]
    topology.workloads = [
      Workload(name: "web-1", namespace: "shop", host: "host1", labels: ["app": "web"]),
      Workload(name: "web-2", namespace: "shop", host: "host2", labels: ["app": "web"]),
      Workload(name: "db-1", namespace: "shop", host: "host3", labels: ["app": "db"]),
      Workload(name: "client-1", namespace: "shop", host: "host2", labels: ["app": "client", "team": "blue"]),
      Workload(name: "client-2", namespace: "office", host: "host1", labels: ["app": "client", "team": "red"]),
      Workload(name: "intruder", namespace: "outside", host: "host3", labels: ["app": "intruder"]),
    ]
    return topology
  }()
}

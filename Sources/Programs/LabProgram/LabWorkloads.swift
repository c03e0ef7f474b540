/// Workloads: fresh namespaces, attached by executing `margay-cni` exactly as a container runtime does.
import Addresses
import Glibc
import JSON
import NetlinkEdge
import Sockets

extension Lab {
  func networkConfiguration(host: String, workload: Topology.Workload, addresses: [IPAddress]) -> JSONValue {
    let labels = workload.labels.sorted { $0.key < $1.key }.map { label -> JSONValue in
      ["key": .string(label.key), "value": .string(label.value)]
    }
    var conventions = JSONObject([.init("labels", .array(labels))])
    if !addresses.isEmpty { conventions["ips"] = .array(addresses.map { .string($0.description) }) }
    func hasPool(_ family: IPFamily) -> JSONValue { topology.pools.contains { $0.family == family } ? "true" : "false" }
    return [
      "cniVersion": "1.0.0", "name": "k8s-pod-network", "type": "margay-cni",
      "ipam": ["type": "calico-ipam", "assign_ipv4": hasPool(.v4), "assign_ipv6": hasPool(.v6)],
      "margay": ["socket": .string("\(paths.host(host))/cni.sock"), "tombstones": .string("\(paths.host(host))/state/tombstones")],
      "args": ["cni": .object(conventions)],
    ]
  }

  /// One call of the plugin: environment and standard input as the CNI specification has them.
  func callPlugin(
    _ command: String, _ workload: Topology.Workload, on host: String, containerID: String, addresses: [IPAddress] = []
  ) throws -> JSONValue? {
    let input = networkConfiguration(host: host, workload: workload, addresses: addresses).text()
    let inputPath = "\(paths.directory)/\(workload.name).cni.json"
    try Files.writeAtomically(Array(input.utf8), to: inputPath)
    let reading = OwnedDescriptor(owning: try check(unsafe open(inputPath, O_RDONLY | O_CLOEXEC), "open \(inputPath)"))
    let namespace = try NetworkNamespace.open(named: paths.namespace(host))
    let result = try ChildCommand(
      plugin, [],
      environment: [
        "CNI_COMMAND=\(command)", "CNI_CONTAINERID=\(containerID)", "CNI_NETNS=\(paths.namespacePath(workload.name))", "CNI_IFNAME=eth0",
        "CNI_PATH=\(Files.parent(of: plugin))", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=\(workload.namespace);K8S_POD_NAME=\(workload.name);K8S_POD_INFRA_CONTAINER_ID=\(containerID)",
      ],
      input: reading.borrowed, networkNamespace: namespace.descriptor.borrowed, newProcessGroup: true
    ).runToEnd()
    guard result.code == 0 else {
      throw LabProblem("margay-cni \(command) for \(workload.name) on \(host) failed (exit \(result.code)): \(result.output)")
    }
    return result.output.isEmpty ? nil : try JSONValue(parsing: Array(result.output.utf8))
  }

  public func attach(_ workload: Topology.Workload) throws {
    _ = try NetworkNamespace.create(named: paths.namespace(workload.name))
    try add(workload, on: workload.host, addresses: workload.addresses)
  }

  /// ADD in the workload's namespace, which exists.
  func add(_ workload: Topology.Workload, on host: String, addresses: [IPAddress]) throws {
    let containerID = Files.random(32).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    guard let result = try callPlugin("ADD", workload, on: host, containerID: containerID, addresses: addresses),
      let ips = result["ips"]?.array
    else { throw LabProblem("margay-cni ADD for \(workload.name) on \(host) gave no addresses") }
    var given: [IPFamily: IPAddress] = [:]
    for ip in ips {
      if let address = ip["address"]?.string.flatMap({ InterfaceAddress($0) })?.address { given[address.family] = address }
    }
    attached[workload.name] = AttachedWorkload(containerID: containerID, host: host, addresses: given)
  }

  public func detach(_ workload: Topology.Workload) throws {
    try delete(workload)
    try NetworkNamespace.delete(named: paths.namespace(workload.name))
  }

  /// DEL; the namespace stays.
  func delete(_ workload: Topology.Workload) throws {
    guard let present = attached[workload.name] else { return }
    _ = try callPlugin("DEL", workload, on: present.host, containerID: present.containerID)
    attached[workload.name] = nil
  }

  public func workload(_ name: String) throws -> Topology.Workload {
    if let workload = topology.workloads.first(where: { $0.name == name }) { return workload }
    throw LabProblem("lab \(paths.lab) has no workload \(name); there are \(topology.workloads.map(\.name).joined(separator: ", "))")
  }

  /// The workloads as places of traffic.
  func stations() -> [Station] {
    topology.workloads.compactMap { workload in
      attached[workload.name].map {
        Station(name: workload.name, namespacePath: paths.namespacePath(workload.name), addresses: $0.addresses)
      }
    }
  }
}

/// A lab's life: up, attached, down. Everything it makes is named after it, so that whatever is left can be found again.
import Addresses
import Glibc
import JSON
import NetlinkEdge
import Sockets

public struct LabProblem: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

public final class Lab {
  public let paths: LabPaths
  public let topology: Topology
  public private(set) var arrangement: Topology.Arrangement
  /// This program; hosts run it, policies are applied with it.
  let executable: String
  let plugin: String
  let narrator: Narrator
  var attached: [String: AttachedWorkload] = [:]
  var rack: Rack { Rack(paths: paths, topology: topology) }
  public var datastoreName: String { "sqlite:\(paths.datastore)" }

  /// `executable` is the path of `margay`; `margay-cni` is looked for beside it.
  public init(
    name: String, topology: Topology = .datacenter, arrangement: Topology.Arrangement, executable: String, narrator: Narrator
  ) throws {
    guard isUsableLabName(name) else { throw LabProblem("\"\(name)\" cannot name a lab: use 1 to 20 letters a-z and digits") }
    paths = LabPaths(lab: name)
    self.topology = topology
    self.arrangement = arrangement
    self.executable = executable
    plugin = Files.parent(of: executable) + "/margay-cni"
    self.narrator = narrator
    guard Files.exists(plugin) else { throw LabProblem("\(plugin) is missing; build it: swift build -c release --product margay-cni") }
  }

  // MARK: Up

  public func up() throws {
    try Preflight.check()
    try refuseIfStanding()
    try Files.makeDirectories(paths.directory)
    try writeRecord()
    try narrator.step("namespaces: rack, \(topology.hosts.map(\.name).joined(separator: ", ")); links and addresses") { try wire() }
    try narrator.step("rack router: BIRD \(birdVersion())") { try startRack() }
    try narrator.step("margay apply: pools and BGP (\(arrangement.rawValue))") {
      try apply(DemoDocuments.network(topology, arrangement), as: "network.yaml")
    }
    try narrator.step("margay node on each host") { for host in topology.hosts { try startNode(host) } }
    try narrator.step("nodes ready, BGP sessions established") { try waitForSessions() }
    try narrator.step("margay apply: profiles") {
      try apply(DemoDocuments.profiles(Set(topology.workloads.map(\.namespace)).sorted()), as: "profiles.yaml")
    }
    try narrator.step("margay-cni ADD: \(topology.workloads.map(\.name).joined(separator: ", "))") {
      for workload in topology.workloads {
        Interruption.stopHere()
        try attach(workload)
      }
    }
    try writeRecord()
  }

  private func birdVersion() -> String {
    guard let bird = Preflight.find("bird"), let result = try? ChildCommand(bird, ["--version"]).runToEnd() else { return "" }
    return result.output.split(separator: " ").last.map { String($0.filter { $0 != "\n" }) } ?? ""
  }

  private func startRack() throws {
    try Files.makeDirectories("\(paths.directory)/rack")
    try Files.writeAtomically(Array(rack.configuration(arrangement).utf8), to: rack.configurationPath)
    let namespace = try NetworkNamespace.open(named: paths.namespace("rack"))
    let result = try ChildCommand(
      Preflight.find("bird")!, ["-c", rack.configurationPath, "-s", rack.controlPath, "-P", rack.pidPath],
      networkNamespace: namespace.descriptor.borrowed, newProcessGroup: true
    ).runToEnd()
    guard result.code == 0 else { throw LabProblem("BIRD does not start: \(result.output)") }
  }

  /// Changes how routes travel, while everything runs.
  public func rearrange(_ next: Topology.Arrangement) throws {
    arrangement = next
    try Files.writeAtomically(Array(rack.configuration(next).utf8), to: rack.configurationPath)
    for host in topology.hosts { try applyNode(host) }
    try apply(DemoDocuments.bgp(topology, next), as: "bgp.yaml")
    let answer = try rack.ask("configure")
    guard answer.contains("Reconfigur") else { throw LabProblem("BIRD does not take the new configuration: \(answer)") }
    try writeRecord()
  }

  private func applyNode(_ host: Topology.Host) throws {
    try apply(
      """
      apiVersion: projectcalico.org/v3
      kind: Node
      metadata: {name: \(host.name)}
      spec:
        bgp:
          ipv4Address: \(host.address4)
          ipv6Address: "\(host.address6)"
          asNumber: \(topology.hostAS(host, arrangement))

      """, as: "\(host.name).yaml")
  }

  public func host(_ name: String) throws -> Topology.Host {
    if let host = topology.hosts.first(where: { $0.name == name }) { return host }
    throw LabProblem("lab \(paths.lab) has no host \(name); there are \(topology.hosts.map(\.name).joined(separator: ", "))")
  }

  public func startNode(_ host: Topology.Host) throws {
    let directory = paths.host(host.name)
    try Files.makeDirectories(directory)
    let namespace = try NetworkNamespace.open(named: paths.namespace(host.name))
    let log = unsafe open(paths.log(host.name), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    let output = OwnedDescriptor(owning: try check(log, "open \(paths.log(host.name))"))
    // The supervisor outlives this program when the lab is kept; its process group keeps a Ctrl-C of the terminal away from it.
    _ = try ChildCommand(
      executable,
      [
        "node", "--name", host.name, "--datastore", datastoreName, "--run-dir", directory, "--state-dir", "\(directory)/state",
        "--ipv4", host.address4.description, "--ipv6", host.address6.description,
        "--as-number", "\(topology.hostAS(host, arrangement))",
      ],
      output: output.borrowed, error: output.borrowed, networkNamespace: namespace.descriptor.borrowed, newProcessGroup: true
    ).start()
  }

  /// Kills every Margay process of a host at once, as a crash would. Returns how many.
  @discardableResult
  public func killNode(_ host: Topology.Host) throws -> Int {
    let pids = processIDs(of: host)
    for pid in pids { kill(pid, SIGKILL) }
    try waitUntil("the processes of \(host.name) are gone", seconds: 5) {
      for pid in pids { _ = waitpid(pid, nil, WNOHANG) }
      return pids.allSatisfy { !Self.isRunning($0) }
    }
    return pids.count
  }

  func processIDs(of host: Topology.Host) -> [Int32] {
    guard let text = try? Files.readText("\(paths.host(host.name))/node.pids") else { return [] }
    return text.split(separator: "\n").compactMap { line in line.split(separator: " ").last.flatMap { Int32($0) } }
  }

  static func isRunning(_ pid: Int32) -> Bool {
    guard let stat = try? Files.readText("/proc/\(pid)/stat"), let end = stat.lastIndex(of: ")") else { return false }
    return !stat[end...].hasPrefix(") Z")
  }

  // MARK: Commands inside

  /// `margay apply -f`, as a person would call it.
  public func apply(_ text: String, as file: String) throws {
    let path = "\(paths.directory)/\(file)"
    try Files.writeAtomically(Array(text.utf8), to: path)
    // In a process group of its own: a Ctrl-C of the terminal is for the lab to handle, here and wherever a command is started.
    let result = try ChildCommand(executable, ["apply", "-f", path, "--datastore", datastoreName], newProcessGroup: true).runToEnd()
    guard result.code == 0 else { throw LabProblem("margay apply -f \(path) failed:\n\(result.output)") }
  }

  // MARK: Waiting

  func waitUntil(_ what: String, seconds: Int, _ condition: () throws -> Bool) throws {
    let deadline = MonotonicInstant.now + .seconds(seconds)
    while try !condition() {
      Interruption.stopHere()
      guard MonotonicInstant.now < deadline else { throw LabProblem("waited \(seconds) s in vain until \(what)") }
      usleep(10_000)
    }
  }

  public func waitForSessions() throws {
    var last = ""
    do {
      try waitUntil("all BGP sessions are established", seconds: 30) {
        last = ""
        for host in topology.hosts {
          guard let felix = status(of: host, "felix"), felix["inSync"]?.bool == true else {
            last = "felix on \(host.name) is not in sync"
            return false
          }
          guard let bgp = status(of: host, "bgp"), let sessions = bgp["sessions"]?.array else {
            last = "bgp on \(host.name) gives no status"
            return false
          }
          let expected = arrangement == .mesh ? topology.hosts.count * 2 : 2
          let established = sessions.filter { $0["state"]?.string?.lowercased() == "established" }
          guard established.count == expected, sessions.count == expected else {
            last = "\(host.name) has \(established.count) of \(expected) sessions established (\(sessions.count) configured)"
            return false
          }
        }
        return true
      }
    } catch let problem as LabProblem {
      throw LabProblem("\(problem): \(last); the log is \(paths.log(topology.hosts[0].name))")
    }
  }

  /// The status document of a daemon on a host, nil when it does not answer.
  public func status(of host: Topology.Host, _ daemon: String) -> JSONValue? {
    StatusReader.read("\(paths.host(host.name))/\(daemon).sock")
  }

  // MARK: Record

  func writeRecord() throws {
    var workloads = JSONObject()
    for (name, workload) in attached.sorted(by: { $0.key < $1.key }) {
      workloads[name] = .object(
        JSONObject([
          .init("container", .string(workload.containerID)), .init("host", .string(workload.host)),
          .init("addresses", .array(workload.addresses.values.sorted().map { .string($0.description) })),
        ]))
    }
    let record = JSONObject([
      .init("lab", .string(paths.lab)), .init("arrangement", .string(arrangement.rawValue)),
      .init("datastore", .string(datastoreName)), .init("workloads", .object(workloads)),
    ])
    try Files.writeAtomically(Array(JSONValue.object(record).text(pretty: true).utf8), to: paths.record)
  }

  /// Opens a lab that stands.
  public func openRecord() throws {
    guard let bytes = try? Files.read(paths.record), let record = try? JSONValue(parsing: bytes) else {
      let others = Self.standing()
      throw LabProblem("no lab \(paths.lab) stands here" + (others.isEmpty ? "" : "; there are: \(others.joined(separator: ", "))"))
    }
    arrangement = record["arrangement"]?.string.flatMap(Topology.Arrangement.init) ?? arrangement
    for member in record["workloads"]?.object?.members ?? [] {
      var addresses: [IPFamily: IPAddress] = [:]
      for text in member.value["addresses"]?.array ?? [] {
        if let address = text.string.flatMap({ IPAddress($0) }) { addresses[address.family] = address }
      }
      attached[member.name] = AttachedWorkload(
        containerID: member.value["container"]?.string ?? "", host: member.value["host"]?.string ?? "", addresses: addresses)
    }
  }

  /// Names of labs that left anything on this machine.
  public static func standing() -> [String] {
    var names = Set((try? Files.list(LabPaths.root)) ?? [])
    for namespace in NetworkNamespace.names() where namespace.hasPrefix("margay-") {
      let parts = namespace.split(separator: "-")
      if parts.count >= 3 { names.insert(String(parts[1])) }
    }
    return names.filter(isUsableLabName).sorted()
  }

  static func namespaces(of paths: LabPaths) -> [String] {
    NetworkNamespace.names().filter { $0.hasPrefix(paths.namespacePrefix) }.sorted()
  }
}

public struct AttachedWorkload: Sendable {
  public var containerID: String
  public var host: String
  public var addresses: [IPFamily: IPAddress]
}

/// Reads the one JSON document that a daemon's status socket gives.
public enum StatusReader {
  public static func read(_ path: String) -> JSONValue? {
    guard let socket = try? Socket.connecting(toUnix: path), let bytes = try? Files.read(descriptor: socket.raw, name: path) else {
      return nil
    }
    return try? JSONValue(parsing: bytes)
  }
}

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
  public private(set) var topology: Topology { didSet { fabric = Fabric(topology) } }
  private(set) var fabric: Fabric
  public var arrangement: Topology.Arrangement { topology.arrangement }
  /// This program; hosts run it, policies are applied with it.
  let executable: String
  let plugin: String
  let narrator: Narrator
  public internal(set) var attached: [String: AttachedWorkload] = [:]
  public var datastoreName: String {
    topology.datastore == .etcd ? EtcdServer(paths: paths, fabric: fabric).name : "sqlite:\(paths.datastore)"
  }

  /// `executable` is the path of `margay`; `margay-cni` is looked for beside it.
  public init(name: String, topology: Topology = .datacenter, executable: String, narrator: Narrator) throws {
    guard isUsableLabName(name) else { throw LabProblem("\"\(name)\" cannot name a lab: use 1 to 20 letters a-z and digits") }
    paths = LabPaths(lab: name)
    self.topology = topology
    fabric = Fabric(topology)
    self.executable = executable
    plugin = Files.parent(of: executable) + "/margay-cni"
    self.narrator = narrator
    guard Files.exists(plugin) else { throw LabProblem("\(plugin) is missing; build it: swift build -c release --product margay-cni") }
  }

  // MARK: Up

  public func up() throws {
    try Preflight.check(topology)
    try refuseIfStanding()
    try Files.makeDirectories(paths.directory)
    try writeRecord()
    let routers = topology.routers.map(\.name).joined(separator: ", ")
    try narrator.step("namespaces: \(routers), \(Self.short(topology.hosts.map(\.name))); links and addresses") { try wire() }
    if topology.datastore == .etcd {
      try narrator.step("datastore: etcd \(EtcdServer.version())") { try startDatastore() }
    }
    try narrator.step("margay apply: pools, nodes and BGP (\(arrangement.rawValue))") {
      try apply(NetworkDocuments(fabric).text, as: "network.yaml")
    }
    for program in Topology.RouterProgram.allCases {
      let routers = topology.routers.filter { $0.program == program }
      guard !routers.isEmpty else { continue }
      let what = program == .bird ? "BIRD \(birdVersion())" : "margay bgp"
      try narrator.step("\(what) on \(routers.map(\.name).joined(separator: ", "))") { for router in routers { try startRouter(router) } }
    }
    try narrator.step("margay node on each host") { for host in topology.hosts { try startNode(host) } }
    try narrator.step("nodes ready, BGP sessions established") { try waitForSessions() }
    if !topology.namespaces.isEmpty {
      try narrator.step("margay apply: profiles") {
        try apply(NetworkDocuments.profiles(topology.namespaces), as: "profiles.yaml")
      }
    }
    if !topology.documents.isEmpty || !topology.objects.isEmpty {
      try narrator.step("margay apply: \(documentNames)") { try applyDocuments() }
    }
    if !topology.workloads.isEmpty {
      try narrator.step("margay-cni ADD: \(Self.short(topology.workloads.map(\.name)))") {
        for workload in topology.workloads {
          Interruption.stopHere()
          try attach(workload)
        }
      }
    }
    try writeRecord()
  }

  /// At most seven names; a line is for people.
  private static func short(_ names: [String]) -> String {
    names.count <= 7 ? names.joined(separator: ", ") : names.prefix(6).joined(separator: ", ") + " and \(names.count - 6) more"
  }

  private var documentNames: String {
    let names = topology.documents.map { String($0.split(separator: "/").last ?? "") }
    return Self.short(names + (topology.objects.isEmpty ? [] : ["\(topology.objects.count) objects of the topology's file"]))
  }

  private func applyDocuments() throws {
    // Copies: what a lab was made of can be read in its directory, wherever the files have gone.
    for (index, path) in topology.documents.enumerated() { try apply(try Files.readText(path), as: "document-\(index + 1).yaml") }
    guard !topology.objects.isEmpty else { return }
    try apply(topology.objects.map { $0.text(pretty: true) + "\n" }.joined(separator: "---\n"), as: "objects.yaml")
  }

  private func birdVersion() -> String {
    guard let bird = Preflight.find("bird"), let result = try? ChildCommand(bird, ["--version"]).runToEnd() else { return "" }
    return result.output.split(separator: " ").last.map { String($0.filter { $0 != "\n" }) } ?? ""
  }

  func bird(_ name: String) -> BirdRouter { BirdRouter(name: name, paths: paths, fabric: fabric) }

  /// Starts the program that speaks for a router; `again` after it was killed: what its kernel routes by stays until its peers have spoken.
  public func startRouter(_ router: Topology.Router, again: Bool = false) throws {
    try Files.makeDirectories(paths.host(router.name))
    let namespace = try NetworkNamespace.open(named: paths.namespace(router.name))
    switch router.program {
    case .bird:
      let bird = bird(router.name)
      try Files.writeAtomically(Array(bird.configuration().utf8), to: bird.configurationPath)
      if Files.exists(bird.controlPath) { try Files.remove(bird.controlPath) }
      let result = try ChildCommand(
        Preflight.find("bird")!,
        ["-c", bird.configurationPath, "-s", bird.controlPath, "-P", bird.pidPath] + (again ? ["-R"] : []),
        networkNamespace: namespace.descriptor.borrowed, newProcessGroup: true
      ).runToEnd()
      guard result.code == 0 else { throw LabProblem("BIRD does not start on \(router.name): \(result.output)") }
    case .margay:
      let log = try openLog(router.name)
      let process = try ChildCommand(
        executable,
        [
          "bgp", "--name", router.name, "--datastore", datastoreName, "--run-dir", paths.host(router.name), "--state-dir",
          "\(paths.host(router.name))/state",
        ],
        output: log.borrowed, error: log.borrowed, networkNamespace: namespace.descriptor.borrowed, newProcessGroup: true
      ).start()
      try Files.writeAtomically(Array("bgp \(process.pid)\n".utf8), to: "\(paths.host(router.name))/node.pids")
    }
  }

  func openLog(_ place: String) throws -> OwnedDescriptor {
    let log = unsafe open(paths.log(place), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
    return OwnedDescriptor(owning: try check(log, "open \(paths.log(place))"))
  }

  /// Changes how routes travel, while everything runs. For topologies whose routers are all BIRD's.
  public func rearrange(_ next: Topology.Arrangement) throws {
    topology.arrangement = next
    try apply(NetworkDocuments(fabric).routing, as: "bgp.yaml")
    for router in topology.routers where router.program == .bird {
      let bird = bird(router.name)
      try Files.writeAtomically(Array(bird.configuration().utf8), to: bird.configurationPath)
      let answer = try bird.ask("configure")
      guard answer.contains("Reconfigur") else { throw LabProblem("BIRD does not take the new configuration: \(answer)") }
    }
    try writeRecord()
  }

  public func host(_ name: String) throws -> Topology.Host {
    if let host = topology.hosts.first(where: { $0.name == name }) { return host }
    throw LabProblem("lab \(paths.lab) has no host \(name); there are \(topology.hosts.map(\.name).joined(separator: ", "))")
  }

  public func startNode(_ host: Topology.Host) throws {
    let directory = paths.host(host.name)
    guard let speaker = fabric.speaker(host.name) else { return }
    try Files.makeDirectories(directory)
    let namespace = try NetworkNamespace.open(named: paths.namespace(host.name))
    let log = try openLog(host.name)
    // The supervisor outlives this program when the lab is kept; its process group keeps a Ctrl-C of the terminal away from it.
    _ = try ChildCommand(
      executable,
      [
        "node", "--name", host.name, "--datastore", datastoreName, "--run-dir", directory, "--state-dir", "\(directory)/state",
        "--ipv4", speaker.address4.description, "--ipv6", speaker.address6.description, "--as-number", "\(speaker.asNumber)",
      ],
      output: log.borrowed, error: log.borrowed, networkNamespace: namespace.descriptor.borrowed, newProcessGroup: true
    ).start()
  }

  /// Kills every Margay process of a host at once, as a crash would. Returns how many.
  @discardableResult
  public func killNode(_ host: Topology.Host) throws -> Int { try killProcesses(of: host.name) }

  /// The processes of a host, a router or the datastore. Returns how many there were.
  @discardableResult
  public func killProcesses(of place: String) throws -> Int {
    let pids = processIDs(of: place).filter(Self.isRunning)
    for pid in pids { kill(pid, SIGKILL) }
    try waitUntil("the processes of \(place) are gone", seconds: 5) {
      for pid in pids { _ = waitpid(pid, nil, WNOHANG) }
      return pids.allSatisfy { !Self.isRunning($0) }
    }
    return pids.count
  }

  func processIDs(of place: String) -> [Int32] {
    if let text = try? Files.readText(bird(place).pidPath) { return text.split(separator: "\n").compactMap { Int32($0) } }
    guard let text = try? Files.readText("\(paths.host(place))/node.pids") else { return [] }
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
    let result = try margay(["apply", "-f", path])
    guard result.code == 0 else { throw LabProblem("margay apply -f \(path) failed:\n\(result.output)") }
  }

  /// This program with other words, where the datastore can be reached.
  public func margay(_ words: [String]) throws -> (code: CInt, output: String) {
    // In a process group of its own: a Ctrl-C of the terminal is for the lab to handle, here and wherever a command is started.
    var command = ChildCommand(executable, words + ["--datastore", datastoreName], newProcessGroup: true)
    guard topology.datastore == .etcd else { return try command.runToEnd() }
    let namespace = try NetworkNamespace.open(named: paths.namespace(Topology.etcd))
    command.networkNamespace = namespace.descriptor.borrowed
    return try command.runToEnd()
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
    var place = topology.hosts.first?.name ?? ""
    do {
      try waitUntil("all BGP sessions are established", seconds: 30) {
        for speaker in fabric.speakers {
          if let fault = fault(of: speaker) {
            (last, place) = (fault, speaker.name)
            return false
          }
        }
        return true
      }
    } catch let problem as LabProblem {
      throw LabProblem("\(problem): \(last); the log is \(paths.log(place))")
    }
  }

  /// What keeps a speaker from having all it should have; nil if nothing does.
  private func fault(of speaker: Fabric.Speaker) -> String? {
    let expected = fabric.sessions(of: speaker.name).count * 2
    let states: [String]
    if speaker.isMargay {
      if !speaker.isRouter {
        guard let felix = status(of: speaker.name, "felix"), felix["inSync"]?.bool == true else {
          return "felix on \(speaker.name) is not in sync"
        }
      }
      guard let sessions = status(of: speaker.name, "bgp")?["sessions"]?.array else { return "bgp on \(speaker.name) gives no status" }
      states = sessions.map { $0["state"]?.string ?? "" }
    } else {
      states = bird(speaker.name).sessions().map(\.state)
    }
    let established = states.count { $0.lowercased() == "established" }
    guard established == expected, states.count == expected else {
      return "\(speaker.name) has \(established) of \(expected) sessions established (\(states.count) configured)"
    }
    return nil
  }

  /// The status document of a daemon on a host, nil when it does not answer.
  public func status(of host: Topology.Host, _ daemon: String) -> JSONValue? { status(of: host.name, daemon) }
  public func status(of place: String, _ daemon: String) -> JSONValue? { StatusReader.read("\(paths.host(place))/\(daemon).sock") }

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
      .init("datastore", .string(datastoreName)), .init("workloads", .object(workloads)), .init("topology", topology.document()),
    ])
    try Files.writeAtomically(Array(JSONValue.object(record).text(pretty: true).utf8), to: paths.record)
  }

  /// Opens a lab that stands.
  public func openRecord() throws {
    guard let bytes = try? Files.read(paths.record), let record = try? JSONValue(parsing: bytes) else {
      let others = Self.standing()
      throw LabProblem("no lab \(paths.lab) stands here" + (others.isEmpty ? "" : "; there are: \(others.joined(separator: ", "))"))
    }
    if let stored = record["topology"] { topology = try TopologyReader.read(Array(stored.text().utf8), file: "\(paths.record), topology") }
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

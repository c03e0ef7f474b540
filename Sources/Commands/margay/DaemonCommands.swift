/// The daemons' roles: node (the supervisor), felix, bgp, controllers.
import Addresses
import ArgumentParser
import BGPProgram
import ControllersProgram
import Datastore
import Datastores
import FelixProgram
import FelixSettings
import Glibc
import JSON
import LabProgram
import Logging
import DaemonLogs
import NodeProgram
import Resources
import Sockets
import Tables

struct DaemonOptions: ParsableArguments {
  @Option(name: .long, help: "This node's name; NODENAME or the host's name without it.") var name: String?
  @Option(name: .long, help: "Where sockets and process ids live.") var runDir = "/run/margay"
  @Option(name: .long, help: "What must survive a restart.") var stateDir = "/var/lib/margay"
  @Option(name: .long, help: ArgumentHelp("Felix's settings of this host, in lines Name = value.", valueName: "file"), completion: .file())
  var configFile: String?
  @Option(name: .long, help: "trace, debug, info, notice, warning, error or critical; for felix above logSeverityScreen.") var logLevel: String?

  var nodeName: String {
    if let name = name ?? given("NODENAME") ?? given("FELIX_FELIXHOSTNAME") ?? given("HOSTNAME")?.lowercased() { return name }
    var buffer = [CChar](repeating: 0, count: 256)
    guard unsafe gethostname(&buffer, 255) == 0 else { return "localhost" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  func localSettings() -> [SettingsLayer] { LocalSettings.layers(file: configFile) }

  private func given(_ variable: String) -> String? { environment(variable).flatMap { $0.isEmpty ? nil : $0 } }

  /// Where Calico's programs look for what a node says of itself: their own place for the node with the default folders, one below its own
  /// folder for any other, so that many nodes on one machine do not write each other's.
  var calicoStateDirectory: String { stateDir == "/var/lib/margay" ? "/var/lib/calico" : "\(stateDir)/calico" }

  func requireRoot(_ role: String) throws {
    guard geteuid() == 0 else { throw CommandProblem("margay \(role) programs the kernel's network, which needs root") }
  }
}

struct NodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node", abstract: "Run this host's daemons, or ask them how they are.", subcommands: [Run.self, NodeStatus.self, NodeDiags.self, NodeCheckSystem.self],
    defaultSubcommand: Run.self)

  struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Run felix, bgp and controllers of this host, and restart what crashes.",
      discussion: """
        Calico's variables say what no option says: NODENAME, IP and IP6 (an address, autodetect or none), IP_AUTODETECTION_METHOD and \
        IP6_AUTODETECTION_METHOD, AS, CALICO_ROUTER_ID, CALICO_IPV4POOL_CIDR and the like, NO_DEFAULT_POOLS, CLUSTER_TYPE, \
        CALICO_K8S_NODE_REF, DISABLE_NODE_IP_CHECK, AUTODETECT_POLL_INTERVAL. An address that is detected follows the host's.
        """)
    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var store: DatastoreOptions
    @Option(name: .long, help: "This node's IPv4 address with the length of its subnet; detected without it.") var ipv4: String?
    @Option(name: .long, help: "This node's IPv6 address with the length of its subnet; detected without it.") var ipv6: String?
    @Option(name: .long, help: "This node's AS number, when its Node object has none.") var asNumber: UInt32?
    @Flag(name: .long, help: "Make default pools, where the cluster has none of a family; CALICO_IPV4POOL_CIDR and the like ask for them too.")
    var defaultPools = false
    @Flag(name: .long, help: "Leave the cluster's housekeeping to other nodes: start no controllers here.") var noControllers = false

    func run() async throws {
      try daemon.requireRoot("node")
      try bootstrapLogging("node", level: daemon.logLevel ?? "info")
      let variables: NodeEnvironment
      do { variables = try NodeEnvironment(wholeEnvironment()) } catch { throw CommandProblem("\(error)") }
      func address(_ text: String?, _ family: IPFamily, _ option: String) throws -> InterfaceAddress? {
        guard let text else { return nil }
        guard let address = InterfaceAddress(text), address.address.family == family else {
          throw CommandProblem(
            "\(option) \(text): not an \(family) address with a prefix length, like \(family == .v4 ? "172.30.1.2/24" : "fd30::2/64")")
        }
        return address
      }
      var startup = NodeStartup(name: daemon.nodeName, asNumber: asNumber ?? variables.asNumber)
      startup.choices = variables.choices
      for (family, text, option) in [(IPFamily.v4, ipv4, "--ipv4"), (.v6, ipv6, "--ipv6")] {
        if let address = try address(text, family, option) { startup.choices[family] = .given(address) }
      }
      startup.toleratesConflicts = variables.toleratesConflicts
      startup.kubernetesName = variables.kubernetesName
      startup.clusterTypes = variables.clusterTypes
      startup.internalAddresses = variables.internalAddresses
      startup.defaultPools = variables.defaultPools
      if defaultPools, startup.defaultPools == nil { startup.defaultPools = DefaultPools([.v4: .init(.v4), .v6: .init(.v6)]) }
      let log = Logger(label: "node")
      let datastore = try store.open(creating: true, asDaemon: true)
      try await DatastoreWait(log: log).run(datastore) { _ = try await startup.run(datastore) }
      try Files.makeDirectories(daemon.calicoStateDirectory)
      try Files.writeAtomically(Array((daemon.nodeName + "\n").utf8), to: "\(daemon.calicoStateDirectory)/nodename")
      let common = [
        "--name", daemon.nodeName, "--run-dir", daemon.runDir, "--state-dir", daemon.stateDir,
      ] + (daemon.logLevel.map { ["--log-level", $0] } ?? []) + (daemon.configFile.map { ["--config-file", $0] } ?? []) + (try store.wordsForChildren())
      let controllers = SupervisedChild(
        name: "controllers", arguments: ["controllers"] + common, capabilities: SupervisedChild.Needs.controllers)
      let supervisor = try Supervisor(
        executable: executablePath(),
        children: [
          SupervisedChild(name: "felix", arguments: ["felix"] + common, capabilities: SupervisedChild.Needs.felix),
          SupervisedChild(name: "bgp", arguments: ["bgp"] + common, capabilities: SupervisedChild.Needs.bgp),
        ] + (noControllers ? [] : [controllers]),
        runDirectory: daemon.runDir, log: log)
      let monitor = startup.follows
        ? try supervisor.beside { try AddressMonitor(startup, datastore, loop: $0, pollInterval: variables.pollInterval, log: log) } : nil
      if monitor == nil { await datastore.close() }
      try withExtendedLifetime(monitor) { try supervisor.run() }
    }
  }
}

struct Felix: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "The agent alone; `margay node` starts it.", subcommands: [Run.self, FelixConfig.self], defaultSubcommand: Run.self)

  struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run the agent of this host.")
    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var store: DatastoreOptions

    func run() throws {
      try daemon.requireRoot("felix")
      var options = FelixOptions(node: daemon.nodeName, runDirectory: daemon.runDir, stateDirectory: daemon.stateDir)
      options.localSettings = daemon.localSettings()
      if let level = daemon.logLevel {
        guard Logger.Level(rawValue: level) != nil else { throw unknownLogLevel(level) }
        options.localSettings.append(SettingsLayer(.override("--log-level"), ["logSeverityScreen": .text(level)]))
      }
      // What the datastore says comes later.
      let known = SettingsResolution(StoredSettings(node: daemon.nodeName), local: options.localSettings).effective
      let logs = LogOutput(program: "margay-felix", LogPlan(known, isHosts: options.isHosts))
      LoggingSystem.bootstrap { logs.handler(label: $0) }
      options.logs = logs
      options.isTableOwned = environment("MARGAY_TABLE_OWNER") != "no"
      try FelixProgram.run(options, try store.open(creating: true, asDaemon: true))
    }
  }
}

struct BGP: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "bgp", abstract: "The BGP speaker alone; `margay node` starts it.")
  @OptionGroup var daemon: DaemonOptions
  @OptionGroup var store: DatastoreOptions

  func run() throws {
    try daemon.requireRoot("bgp")
    try bootstrapLogging("bgp", level: daemon.logLevel ?? "info")
    var options = BGPProgram.Options(
      nodeName: daemon.nodeName, runDirectory: daemon.runDir, datastore: try store.open(creating: true, asDaemon: true), loop: try EventLoop(),
      log: Logger(label: "bgp"))
    options.environment = wholeEnvironment()
    if let text = environment("CALICO_ROUTER_ID"), !text.isEmpty {
      guard let routerID = BGPPlan.routerID(text, of: daemon.nodeName) else {
        throw CommandProblem("CALICO_ROUTER_ID is \"\(text)\", which is neither hash nor an identifier like 10.0.0.1")
      }
      options.routerID = routerID
    }
    options.localSettings = daemon.localSettings()
    try BGPProgram.run(options)
  }
}

struct Controllers: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "controllers", abstract: "The cluster's housekeeping alone; `margay node` starts it.",
    discussion: """
      Runs on as many hosts as you like: one of them, elected by a key in the datastore, works, and the others wait for its end. Needs no \
      root. Health and metrics are at localhost:9094, or where KubeControllersConfiguration's prometheusMetricsPort, MARGAY_CONTROLLERS_PORT \
      and MARGAY_CONTROLLERS_HOST say.
      """)
  @OptionGroup var daemon: DaemonOptions
  @OptionGroup var store: DatastoreOptions

  func run() throws {
    try bootstrapLogging("controllers", level: daemon.logLevel ?? "info")
    var options = ControllersProgram.Options(
      nodeName: daemon.nodeName, runDirectory: daemon.runDir, datastore: try store.open(asDaemon: true), loop: try EventLoop(),
      log: Logger(label: "controllers"))
    options.environment = Dictionary(
      uniqueKeysWithValues: ControllersSettings.variables.compactMap { name in environment(name).map { (name, $0) } })
    try ControllersProgram.run(options)
  }
}

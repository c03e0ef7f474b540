/// The daemons' roles: node (the supervisor), felix, bgp, controllers.
import Addresses
import ArgumentParser
import BGPProgram
import ControllersProgram
import Datastore
import Datastores
import FelixProgram
import Glibc
import JSON
import LabProgram
import Logging
import NodeProgram
import Sockets
import Tables

struct DaemonOptions: ParsableArguments {
  @Option(name: .long, help: "This node's name; the host's name without it.") var name: String?
  @Option(name: .long, help: "Where sockets and process ids live.") var runDir = "/run/margay"
  @Option(name: .long, help: "What must survive a restart.") var stateDir = "/var/lib/margay"
  @Option(name: .long, help: "trace, debug, info, notice, warning, error or critical.") var logLevel = "info"

  var nodeName: String {
    if let name { return name }
    var buffer = [CChar](repeating: 0, count: 256)
    guard unsafe gethostname(&buffer, 255) == 0 else { return "localhost" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  func requireRoot(_ role: String) throws {
    guard geteuid() == 0 else { throw CommandProblem("margay \(role) programs the kernel's network, which needs root") }
  }
}

struct NodeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node", abstract: "Run this host's daemons, or ask them how they are.", subcommands: [Run.self, NodeStatus.self, NodeDiags.self, NodeCheckSystem.self],
    defaultSubcommand: Run.self)

  struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run felix, bgp and controllers of this host, and restart what crashes.")
    @OptionGroup var daemon: DaemonOptions
    @OptionGroup var store: DatastoreOptions
    @Option(name: .long, help: "This node's IPv4 address with the length of its subnet; detected without it.") var ipv4: String?
    @Option(name: .long, help: "This node's IPv6 address with the length of its subnet; detected without it.") var ipv6: String?
    @Option(name: .long, help: "This node's AS number, when its Node object has none.") var asNumber: UInt32?
    @Flag(name: .long, help: "Leave the cluster's housekeeping to other nodes: start no controllers here.") var noControllers = false

    func run() async throws {
      try daemon.requireRoot("node")
      try bootstrapLogging("node", level: daemon.logLevel)
      func address(_ text: String?, _ family: IPFamily, _ option: String) throws -> InterfaceAddress? {
        guard let text else { return nil }
        guard let address = InterfaceAddress(text), address.address.family == family else {
          throw CommandProblem(
            "\(option) \(text): not an \(family) address with a prefix length, like \(family == .v4 ? "172.30.1.2/24" : "fd30::2/64")")
        }
        return address
      }
      let startup = NodeStartup(
        name: daemon.nodeName, ipv4: try address(ipv4, .v4, "--ipv4"), ipv6: try address(ipv6, .v6, "--ipv6"), asNumber: asNumber)
      let log = Logger(label: "node")
      let datastore = try store.open(creating: true, asDaemon: true)
      try await DatastoreWait(log: log).run(datastore) { _ = try await startup.run(datastore) }
      await datastore.close()
      let common = [
        "--name", daemon.nodeName, "--run-dir", daemon.runDir, "--state-dir", daemon.stateDir, "--log-level", daemon.logLevel,
      ] + (try store.wordsForChildren())
      let supervisor = try Supervisor(
        executable: executablePath(),
        children: [
          SupervisedChild(name: "felix", arguments: ["felix"] + common), SupervisedChild(name: "bgp", arguments: ["bgp"] + common),
        ] + (noControllers ? [] : [SupervisedChild(name: "controllers", arguments: ["controllers"] + common)]),
        runDirectory: daemon.runDir, log: log)
      try supervisor.run()
    }
  }
}

struct Felix: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "The agent alone; `margay node` starts it.")
  @OptionGroup var daemon: DaemonOptions
  @OptionGroup var store: DatastoreOptions

  func run() throws {
    try daemon.requireRoot("felix")
    try bootstrapLogging("felix", level: daemon.logLevel)
    var options = FelixOptions(node: daemon.nodeName, runDirectory: daemon.runDir, stateDirectory: daemon.stateDir)
    options.environment = servingEnvironment()
    options.isTableOwned = environment("MARGAY_TABLE_OWNER") != "no"
    try FelixProgram.run(options, try store.open(creating: true, asDaemon: true))
  }
}

struct BGP: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "bgp", abstract: "The BGP speaker alone; `margay node` starts it.")
  @OptionGroup var daemon: DaemonOptions
  @OptionGroup var store: DatastoreOptions

  func run() throws {
    try daemon.requireRoot("bgp")
    try bootstrapLogging("bgp", level: daemon.logLevel)
    var options = BGPProgram.Options(
      nodeName: daemon.nodeName, runDirectory: daemon.runDir, datastore: try store.open(creating: true, asDaemon: true), loop: try EventLoop(),
      log: Logger(label: "bgp"))
    options.environment = servingEnvironment()
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
    try bootstrapLogging("controllers", level: daemon.logLevel)
    var options = ControllersProgram.Options(
      nodeName: daemon.nodeName, runDirectory: daemon.runDir, datastore: try store.open(asDaemon: true), loop: try EventLoop(),
      log: Logger(label: "controllers"))
    options.environment = Dictionary(
      uniqueKeysWithValues: ControllersSettings.variables.compactMap { name in environment(name).map { (name, $0) } })
    try ControllersProgram.run(options)
  }
}

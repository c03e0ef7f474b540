/// `margay felix`: the agent of one host, with the CNI server beside it.
import CNIServer
public import Datastore
import AddressAssignment
public import FelixSettings
import Glibc
import HealthServer
import JSON
import Logging
public import DaemonLogs
import NetlinkEdge
import Resources
import Sockets

public struct FelixOptions: Sendable {
  public var node: String
  public var runDirectory: String
  public var stateDirectory: String
  /// What this host says itself of the settings, weakest first.
  public var localSettings: [SettingsLayer] = []
  /// Follows the settings of logs.
  public var logs: LogOutput?
  /// This is the host's own daemon, and Calico's folders are its: of many on one machine each has its own below `stateDirectory` and
  /// `runDirectory`.
  public var isHosts: Bool { runDirectory == "/run/margay" && stateDirectory == "/var/lib/margay" }
  /// False: the table is made as on a kernel whose tables have no owner, so that others can edit it.
  public var isTableOwned = true
  public init(node: String, runDirectory: String, stateDirectory: String) {
    self.node = node
    self.runDirectory = runDirectory
    self.stateDirectory = stateDirectory
  }
}

public enum FelixProgram {
  /// Serves until SIGTERM or SIGINT. What is in the kernel stays there.
  public static func run(_ options: FelixOptions, _ store: any Datastore) throws {
    let datastore = MeteredDatastore(store)
    let log = Logger(label: "felix")
    let loop = try EventLoop()
    let readiness = ReadinessBoard()
    try Files.makeDirectories(options.runDirectory)
    try Files.makeDirectories(options.stateDirectory)
    try loop.onSignal([SIGTERM, SIGINT]) { _ in loop.stop() }
    let agent = try FelixAgent(
      node: options.node, loop: loop, readiness: readiness, localSettings: options.localSettings,
      isTableOwned: options.isTableOwned, log: log)
    let desk = AddressDesk(datastore, node: options.node)
    let mtu = WorkloadMTU()
    var serverOptions = CNIServerOptions(
      nodeName: options.node, socketPath: "\(options.runDirectory)/cni.sock", tombstoneDirectory: "\(options.stateDirectory)/tombstones")
    serverOptions.mtuFound = { mtu.value }
    let server = CNIServer(
      options: serverOptions,
      records: StoredEndpoints(store: ResourceStore(datastore)), addresses: BookedAddresses(datastore: datastore, desk: desk), programmed: readiness,
      log: Logger(label: "cni"))
    let reporter = StatusReporter(datastore, node: options.node, loop: loop)
    agent.reporter = reporter
    let status = try StatusSocket(path: "\(options.runDirectory)/felix.sock", loop: loop) {
      var status = agent.status()
      status["store"] = datastore.status
      status["cni"] = server.status
      return Array((status.text() + "\n").utf8)
    }
    defer { status.close() }
    let flows = try FlowSocket(path: "\(options.runDirectory)/flows.sock", loop: loop, flows: agent.flowLog)
    defer { flows.close() }

    // The agent is touched on the loop's thread only: tasks reach it through the mailbox.
    nonisolated(unsafe) let onLoop = agent
    let mailbox = loop.mailbox
    let feed = FelixAgent.feed(datastore, node: options.node)
    let queue = FeedQueue { queue in mailbox.post { unsafe onLoop.receive(queue.take()) } }
    let feeding = Task.detached { await feed.run(queue.put) }
    agent.addDatastoreMetrics = { page in datastore.add(to: &page, feed: feed.meter, queue: queue) }
    let patience = ProbePatience()
    let health = HealthServer(FelixAgent.pages(mailbox, patience) { unsafe onLoop }, log: Logger(label: "health"))
    let tunnelAddresses = TunnelAddressKeeper(datastore, desk.book, log: log)
    agent.onTunnelDemands = tunnelAddresses.want
    agent.otherProblems = {
      health.problems + (options.logs?.problems ?? []) + [tunnelAddresses.problem, reporter.leased.problem].compactMap { $0 }
    }
    agent.hostFiles = try HostFiles(
      mtu: mtu, folder: options.isHosts ? "/var/lib/calico" : "\(options.stateDirectory)/calico",
      usualPrefix: options.isHosts ? "/var/run/calico" : "\(options.runDirectory)/calico")
    let adopt = { (settings: FelixConfigurationSpec) in
      health.want(ServingPlan(.felix, settings))
      patience.adopt(settings)
      options.logs?.adopt(LogPlan(settings, isHosts: options.isHosts))
      NetlinkSocket.timeout = settings.duration("netlinkTimeout").map { $0 > .zero ? $0 : .seconds(10) } ?? .seconds(10)
    }
    agent.onSettings = { resolution in adopt(resolution.effective) }
    // Until the datastore has been read: a probe must be able to hear that it has not.
    adopt(agent.settings)
    let leased = reporter.leased
    let telling = [
      Task.detached { await health.run() }, Task.detached { await leased.run() }, Task.detached { await desk.run() },
      Task.detached { await tunnelAddresses.run() },
    ]
    let serving = Task.detached {
      do {
        try await server.run()
      } catch {
        log.critical("the CNI server ended: \(error)")
        mailbox.stop()
      }
    }
    loop.run()
    feeding.cancel()
    serving.cancel()
    for task in telling { task.cancel() }
    loop.clear()
  }
}

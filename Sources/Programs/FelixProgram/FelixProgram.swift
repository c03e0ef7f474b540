/// `margay felix`: the agent of one host, with the CNI server beside it.
import CNIServer
public import Datastore
import AddressAssignment
import Glibc
import HealthServer
import JSON
import Logging
import Resources
import Sockets

public struct FelixOptions: Sendable {
  public var node: String
  public var runDirectory: String
  public var stateDirectory: String
  /// What may overrule FelixConfiguration.
  public var environment: [String: String] = [:]
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
      node: options.node, loop: loop, readiness: readiness, isTableOwned: options.isTableOwned, log: log)
    let desk = AddressDesk(datastore, node: options.node)
    let server = CNIServer(
      options: CNIServerOptions(
        nodeName: options.node, socketPath: "\(options.runDirectory)/cni.sock", tombstoneDirectory: "\(options.stateDirectory)/tombstones"),
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

    // The agent is touched on the loop's thread only: tasks reach it through the mailbox.
    nonisolated(unsafe) let onLoop = agent
    let mailbox = loop.mailbox
    let feed = FelixAgent.feed(datastore, node: options.node)
    let queue = FeedQueue { queue in mailbox.post { unsafe onLoop.receive(queue.take()) } }
    let feeding = Task.detached { await feed.run(queue.put) }
    agent.addDatastoreMetrics = { page in datastore.add(to: &page, feed: feed.meter, queue: queue) }
    let health = HealthServer(FelixAgent.pages(mailbox) { unsafe onLoop }, log: Logger(label: "health"))
    let tunnelAddresses = TunnelAddressKeeper(datastore, desk.book, log: log)
    agent.onTunnelDemands = tunnelAddresses.want
    agent.otherProblems = { health.problems + [tunnelAddresses.problem].compactMap { $0 } + (reporter.leased.problem.map { [$0] } ?? []) }
    agent.onConfiguration = { [environment = options.environment] configurations in
      health.want(ServingPlan(.felix, configurations, environment: environment))
    }
    // Until the datastore has been read: a probe must be able to hear that it has not.
    health.want(ServingPlan(.felix, [], environment: options.environment))
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

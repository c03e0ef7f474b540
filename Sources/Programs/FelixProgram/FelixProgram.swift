/// `margay felix`: the agent of one host, with the CNI server beside it.
import CNIServer
public import Datastore
import AddressAssignment
import Glibc
import JSON
import Logging
import Resources
import Sockets

public struct FelixOptions: Sendable {
  public var node: String
  public var runDirectory: String
  public var stateDirectory: String
  public init(node: String, runDirectory: String, stateDirectory: String) {
    self.node = node
    self.runDirectory = runDirectory
    self.stateDirectory = stateDirectory
  }
}

public enum FelixProgram {
  /// Serves until SIGTERM or SIGINT. What is in the kernel stays there.
  public static func run(_ options: FelixOptions, _ datastore: any Datastore) throws {
    let log = Logger(label: "felix")
    let loop = try EventLoop()
    let readiness = ReadinessBoard()
    try Files.makeDirectories(options.runDirectory)
    try Files.makeDirectories(options.stateDirectory)
    try loop.onSignal([SIGTERM, SIGINT]) { _ in loop.stop() }
    let agent = try FelixAgent(node: options.node, loop: loop, readiness: readiness, log: log)
    let status = try StatusSocket(path: "\(options.runDirectory)/felix.sock", loop: loop) { Array((agent.status().text() + "\n").utf8) }
    defer { status.close() }

    // The agent is touched on the loop's thread only: tasks reach it through the mailbox.
    nonisolated(unsafe) let onLoop = agent
    let mailbox = loop.mailbox
    let feed = FelixAgent.feed(datastore, node: options.node)
    let feeding = Task.detached {
      await feed.run { events in mailbox.post { unsafe onLoop.receive(events) } }
    }
    let server = CNIServer(
      options: CNIServerOptions(
        nodeName: options.node, socketPath: "\(options.runDirectory)/cni.sock", tombstoneDirectory: "\(options.stateDirectory)/tombstones"),
      records: StoredEndpoints(store: ResourceStore(datastore)), addresses: BookedAddresses(datastore: datastore), programmed: readiness,
      log: Logger(label: "cni"))
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
  }
}

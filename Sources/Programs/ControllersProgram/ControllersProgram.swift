/// `margay controllers`: the cluster's housekeeping. It may run on every host; one of them, elected, works, and the others wait. Touches
/// the datastore and nothing else, so it needs no privileges.
public import Datastore
import Glibc
import HealthServer
import JSON
public import Logging
import Resources
public import Sockets

public enum ControllersProgram {
  public struct Options {
    public var nodeName: String
    /// Holds `controllers.sock`.
    public var runDirectory: String
    public var datastore: any Datastore
    public var loop: EventLoop
    public var log: Logger
    public var tasks = ElectedTask.all
    public var terms = Election.Terms()
    public var handlesSignals = true
    /// May overrule where health and metrics are served.
    public var environment: [String: String] = [:]
    public init(nodeName: String, runDirectory: String, datastore: any Datastore, loop: EventLoop, log: Logger) {
      (self.nodeName, self.runDirectory, self.datastore) = (nodeName, runDirectory, datastore)
      (self.loop, self.log) = (loop, log)
    }
    public static func statusPath(_ runDirectory: String) -> String { "\(runDirectory)/controllers.sock" }
  }

  /// Runs until the loop is stopped or a signal comes. A leader resigns at its end, so that another one begins at once.
  public static func run(_ options: Options) throws {
    let (loop, log) = (options.loop, options.log)
    if options.handlesSignals { try loop.onSignal([SIGTERM, SIGINT]) { [unowned loop] _ in loop.stop() } }
    try Files.makeDirectories(options.runDirectory)
    let datastore = MeteredDatastore(options.datastore)
    let feed = ResourceFeed(datastore, kinds: [.kubeControllersConfiguration])
    let house = Housekeeping(
      datastore, candidate: options.nodeName, tasks: options.tasks, terms: options.terms, log: log)
    let mailbox = loop.mailbox
    let limit = Duration.seconds(5)
    let hung = HealthReport([.init("loop", fault: "controllers has not answered within \(limit)")])
    let server = HealthServer(
      HealthServer.Pages(
        liveness: { await mailbox.ask(within: limit) { HealthReport([.init("loop")]) } ?? hung },
        readiness: { await mailbox.ask(within: limit) { house.state.health() } ?? hung },
        metrics: {
          await mailbox.ask(within: limit) { house.state.metrics(tasks: house.tasks) { datastore.add(to: &$0, feed: feed.meter) } }
        }), log: Logger(label: "health"))
    let startedAt = MonotonicInstant.now
    let status = try StatusSocket(path: Options.statusPath(options.runDirectory), loop: loop) {
      let state = house.state
      var document = state.document(tasks: house.tasks)
      document["node"] = .string(options.nodeName)
      document["health"] = state.health().json
      document["store"] = datastore.status
      document["uptimeSeconds"] = .integer((MonotonicInstant.now - startedAt).components.seconds)
      if !server.problems.isEmpty { document["problems"] = .array((state.problems + server.problems).map { .string($0) }) }
      return document.bytes(pretty: false) + [UInt8(ascii: "\n")]
    }
    defer { status.close() }

    let environment = options.environment
    // Until the datastore has been read: a probe must be able to hear that it has not.
    server.want(ControllersSettings().plan(environment))
    let others = [
      Task.detached { await server.run() },
      Task.detached {
        await feed.run { events in
          if let settings = house.take(events) { server.want(settings.plan(environment)) }
        }
      },
    ]
    let working = Task.detached { await house.run() }
    loop.run()
    working.cancel()
    for task in others { task.cancel() }
    // The resignation is a call to the datastore: it gets a moment.
    let end = MonotonicInstant.now + .seconds(3)
    let ended = Task.detached {
      await working.value
      mailbox.stop()
    }
    loop.schedule(at: end) { [unowned loop] in loop.stop() }
    loop.run()
    ended.cancel()
    loop.clear()
  }
}

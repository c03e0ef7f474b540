/// `margay bgp`: the speaker of one host, fed by the datastore, on one event loop.
///
/// Routes in the kernel belong to the host and not to this process: they stay when it stops or dies, and so does the forwarding of
/// peers with graceful restart, since a stop closes connections without a NOTIFICATION. To withdraw a host's routes, remove its Node
/// or disable its pools, not the daemon.

public import BGPMessages
public import Datastore
public import FelixSettings
import Glibc
import HealthServer
import JSON
public import Logging
import MetricsText
import Resources
public import Sockets

public enum BGPProgram {
  public struct Options {
    public var nodeName: String
    /// Holds `bgp.sock` and the mark of a run. It must not outlive the kernel: a directory below /run.
    public var runDirectory: String
    public var datastore: any Datastore
    public var loop: EventLoop
    public var log: Logger
    public var speaker = Speaker.Options()
    /// Installs handlers that end the program on SIGTERM and SIGINT.
    public var handlesSignals = true
    /// Serves health and metrics, as Felix's settings and this environment say. Nil: serves neither.
    public var environment: [String: String]?
    /// Nil: the node's IPv4 address, or without one a hash of its name.
    public var routerID: RouterID?
    /// What this host says itself of Felix's settings, weakest first.
    public var localSettings: [SettingsLayer] = []
    public init(nodeName: String, runDirectory: String, datastore: any Datastore, loop: EventLoop, log: Logger) {
      self.nodeName = nodeName
      self.runDirectory = runDirectory
      self.datastore = datastore
      self.loop = loop
      self.log = log
    }
    public static func statusPath(_ runDirectory: String) -> String { "\(runDirectory)/bgp.sock" }
  }

  /// Runs until the loop is stopped or a signal comes. Call it on the thread that is to be the speaker's, inside the network
  /// namespace that it is to serve.
  public static func run(_ options: Options) throws {
    let loop = options.loop
    let log = options.log
    if options.handlesSignals {
      try loop.onSignal([SIGTERM, SIGINT]) { [unowned loop] number in
        log.notice("signal \(number): stopping; routes stay in the kernel, and peers keep ours for the restart time")
        loop.stop()
      }
    }
    try Files.makeDirectories(options.runDirectory)
    let mark = "\(options.runDirectory)/bgp.ran"
    let wasRunning = Files.exists(mark)
    let speaker = try Speaker(loop: loop, log: log, options: options.speaker, wasRunning: wasRunning)
    try Files.write([], to: mark, create: true)
    let datastore = MeteredDatastore(options.datastore)
    let feed = ResourceFeed(datastore, kinds: FollowedResources.kinds)
    let inbox = Inbox(
      nodeName: options.nodeName, localSettings: options.localSettings, speaker: speaker,
      reporter: SessionReporter(datastore, node: options.nodeName), log: log)
    inbox.routerID = options.routerID
    let status = try StatusSocket(path: Options.statusPath(options.runDirectory), loop: loop) {
      var document = speaker.status()
      document["health"] = inbox.readiness().json
      document["store"] = datastore.status
      document["uptimeSeconds"] = .integer((MonotonicInstant.now - inbox.startedAt).components.seconds)
      return document.bytes(pretty: false) + [UInt8(ascii: "\n")]
    }

    let mailbox = loop.mailbox
    let reporter = inbox.reporter.leased
    var telling = [Task.detached { await reporter.run() }]
    if let environment = options.environment {
      let health = HealthServer(inbox.pages(mailbox), log: Logger(label: "health"))
      inbox.serve = { health.want(ServingPlan(.bgp, $0, environment: environment)) }
      inbox.otherProblems = { health.problems }
      // Until the datastore has been read: a probe must be able to hear that it has not.
      inbox.serve(inbox.settings)
      telling.append(Task.detached { await health.run() })
    }
    // Gathers what one turn of the loop brings.
    speaker.onNews = { [unowned loop] in inbox.scheduleReport(loop) }
    let queue = FeedQueue { queue in mailbox.post { inbox.take(queue.take()) } }
    inbox.addDatastoreMetrics = { page in datastore.add(to: &page, feed: feed.meter, queue: queue) }
    let task = Task.detached { await feed.run(queue.put) }
    loop.run()
    task.cancel()
    for task in telling { task.cancel() }
    status.close()
    speaker.stop()
    loop.clear()
  }

  /// What the datastore says reaches the speaker here.
  ///
  /// Sendable: it is made on the loop's thread and `take` runs only there, since it comes through the loop's mailbox.
  private final class Inbox: @unchecked Sendable {
    let nodeName: String
    let speaker: Speaker
    let reporter: SessionReporter
    let log: Logger
    private let localSettings: [SettingsLayer]
    var routerID: RouterID?
    var serve: (FelixConfigurationSpec) -> Void = { _ in }
    var otherProblems: () -> [String] = { [] }
    var addDatastoreMetrics: (inout MetricsPage) -> Void = { _ in }
    private var followed: FollowedResources
    private var hadPlan: Bool?
    private var isReportDue = false
    let startedAt = MonotonicInstant.now
    init(nodeName: String, localSettings: [SettingsLayer], speaker: Speaker, reporter: SessionReporter, log: Logger) {
      self.nodeName = nodeName
      self.localSettings = localSettings
      followed = FollowedResources(node: nodeName)
      self.speaker = speaker
      self.reporter = reporter
      self.log = log
    }

    var settings: FelixConfigurationSpec { SettingsResolution(followed.felix, local: localSettings).effective }

    /// Half a picture is not reported: what an earlier run told stands until then.
    private func report() {
      guard followed.isInSync else { return }
      var terms = LeasedKeys.Terms()
      if let seconds = settings.reportingTTLSeconds, seconds > 0 { terms.ttlSeconds = seconds }
      reporter.report(speaker, terms)
    }
    func scheduleReport(_ loop: EventLoop) {
      guard !isReportDue else { return }
      isReportDue = true
      loop.schedule(after: .zero) { [self] in
        isReportDue = false
        report()
      }
    }

    func readiness() -> HealthReport {
      speaker.readiness(
        isInSync: followed.isInSync, datastoreProblem: followed.datastoreProblem, sinceStart: MonotonicInstant.now - startedAt)
    }

    func pages(_ mailbox: EventLoop.Mailbox) -> HealthServer.Pages {
      // Below the ten seconds that kubelets give.
      let limit = Duration.seconds(5)
      let hung = HealthReport([.init("loop", fault: "bgp has not answered within \(limit)")])
      return HealthServer.Pages(
        liveness: { await mailbox.ask(within: limit) { HealthReport([.init("loop")]) } ?? hung },
        readiness: { [self] in
          await mailbox.ask(within: limit) { [self] in readiness() } ?? hung
        },
        metrics: { [self] in
          await mailbox.ask(within: limit) { [self] in
            speaker.metrics(
              isDatastoreConnected: followed.datastoreProblem == nil, statusWrites: reporter.leased.writes, addDatastoreMetrics)
          }
        })
    }

    func take(_ events: [FeedEvent]) {
      let before = followed
      followed.take(events)
      if followed.datastoreProblem != before.datastoreProblem {
        if let problem = followed.datastoreProblem {
          log.warning("\(problem); sessions and routes stay")
        } else {
          log.info("the datastore answers again")
        }
      }
      let known = Set(before.problems)
      for problem in followed.problems where !known.contains(problem) { log.error("\(problem)") }
      speaker.storedProblems =
        (followed.datastoreProblem.map { ["\($0); sessions and routes stay"] } ?? []) + followed.problems + otherProblems()
      if followed.isInSync, !before.isInSync || followed.felix != before.felix { serve(settings) }
      defer { report() }
      // Half a picture would end sessions that the other half wants.
      guard followed.isInSync, !before.isInSync || followed.resources != before.resources else { return }
      var plan = BGPPlan(for: nodeName, followed.resources)
      if let routerID { plan?.routerID = routerID }
      if plan == nil, hadPlan != false { log.warning("no Node \(nodeName) with a BGP address in the datastore: no sessions") }
      hadPlan = plan != nil
      speaker.apply(plan)
    }
  }
}

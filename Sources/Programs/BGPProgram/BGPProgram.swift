/// `margay bgp`: the speaker of one host, fed by the datastore, on one event loop.
///
/// Routes in the kernel belong to the host and not to this process: they stay when it stops or dies, and so does the forwarding of
/// peers with graceful restart, since a stop closes connections without a NOTIFICATION. To withdraw a host's routes, remove its Node
/// or disable its pools, not the daemon.

public import Datastore
import Glibc
import JSON
public import Logging
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
    let status = try StatusSocket(path: Options.statusPath(options.runDirectory), loop: loop) {
      speaker.status().bytes(pretty: false) + [UInt8(ascii: "\n")]
    }

    let inbox = Inbox(nodeName: options.nodeName, speaker: speaker, log: log)
    let mailbox = loop.mailbox
    let feed = ResourceFeed(options.datastore, kinds: FollowedResources.kinds)
    let task = Task.detached { await feed.run { events in mailbox.post { inbox.take(events) } } }
    loop.run()
    task.cancel()
    status.close()
    speaker.stop()
  }

  /// What the datastore says reaches the speaker here.
  ///
  /// Sendable: it is made on the loop's thread and `take` runs only there, since it comes through the loop's mailbox.
  private final class Inbox: @unchecked Sendable {
    let nodeName: String
    let speaker: Speaker
    let log: Logger
    private var followed = FollowedResources()
    private var hadPlan: Bool?
    init(nodeName: String, speaker: Speaker, log: Logger) {
      self.nodeName = nodeName
      self.speaker = speaker
      self.log = log
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
      speaker.storedProblems = (followed.datastoreProblem.map { ["\($0); sessions and routes stay"] } ?? []) + followed.problems
      // Half a picture would end sessions that the other half wants.
      guard followed.isInSync, !before.isInSync || followed.resources != before.resources else { return }
      let plan = BGPPlan(for: nodeName, followed.resources)
      if plan == nil, hadPlan != false { log.warning("no Node \(nodeName) with a BGP address in the datastore: no sessions") }
      hadPlan = plan != nil
      speaker.apply(plan)
    }
  }
}

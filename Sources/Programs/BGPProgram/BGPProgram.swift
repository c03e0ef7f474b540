/// `margay bgp`: the speaker of one host, fed by the datastore, on one event loop.
///
/// Routes in the kernel belong to the host and not to this process: they stay when it stops or dies, and so does the forwarding of
/// peers with graceful restart, since a stop closes connections without a NOTIFICATION. To withdraw a host's routes, remove its Node
/// or disable its pools, not the daemon.

public import Datastore
import Documents
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
    let feed = ResourceFeed(options.datastore, kinds: [.node, .bgpPeer, .bgpConfiguration, .ipPool])
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
    private var hadPlan: Bool?
    private var resources = BGPResources()
    private var isInSync = false
    init(nodeName: String, speaker: Speaker, log: Logger) {
      self.nodeName = nodeName
      self.speaker = speaker
      self.log = log
    }

    func take(_ events: [FeedEvent]) {
      let before = resources
      let wasInSync = isInSync
      for event in events {
        switch event {
        case .resource(let key, let stored): put(key, stored)
        case .unreadable(_, let reason): log.error("\(reason): ignored, the last good version stays in force")
        case .inSync: isInSync = true
        case .connection(let problem?): log.warning("\(problem); sessions and routes stay")
        case .connection(nil): log.notice("the datastore answers again")
        case .raw, .revision: break
        }
      }
      // Before everything has been told, what is missing may only not have been told yet: no session is ended for that.
      guard isInSync, !wasInSync || resources != before else { return }
      let plan = BGPPlan(for: nodeName, resources)
      if plan == nil, hadPlan != false { log.warning("no Node \(nodeName) with a BGP address in the datastore: no sessions") }
      hadPlan = plan != nil
      speaker.apply(plan)
    }

    private func put(_ key: ResourceKey, _ stored: StoredResource?) {
      if let stored, let faults = try? ResourceCodec.decodeReporting(kind: key.kind, value: stored.document).faults, let first = faults.first {
        log.error("\(key): \(first): ignored, the last good version stays in force")
        return
      }
      let name = key.name
      switch (key.kind, stored?.resource.spec) {
      case (_, .node(let spec)?): resources.nodes[name] = .init(spec: spec, labels: stored?.resource.metadata.labels ?? [:])
      case (_, .bgpPeer(let spec)?): resources.peers[name] = spec
      case (_, .bgpConfiguration(let spec)?): resources.configurations[name] = spec
      case (_, .ipPool(let spec)?): resources.pools[name] = spec
      case (.node, nil): resources.nodes[name] = nil
      case (.bgpPeer, nil): resources.peers[name] = nil
      case (.bgpConfiguration, nil): resources.configurations[name] = nil
      case (.ipPool, nil): resources.pools[name] = nil
      default: break
      }
    }
  }
}

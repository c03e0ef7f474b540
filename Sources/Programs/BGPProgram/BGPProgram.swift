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
    let status = try StatusServer(loop: loop, path: Options.statusPath(options.runDirectory)) { speaker.status() }

    let inbox = Inbox(nodeName: options.nodeName, speaker: speaker, log: log)
    let mailbox = loop.mailbox
    let datastore = options.datastore
    let task = Task.detached { await follow(datastore, log) { resources in mailbox.post { inbox.take(resources) } } }
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
    init(nodeName: String, speaker: Speaker, log: Logger) {
      self.nodeName = nodeName
      self.speaker = speaker
      self.log = log
    }
    func take(_ resources: BGPResources) {
      let plan = BGPPlan(for: nodeName, resources)
      if plan == nil, hadPlan != false { log.warning("no Node \(nodeName) with a BGP address in the datastore: no sessions") }
      hadPlan = plan != nil
      speaker.apply(plan)
    }
  }

  /// Follows the datastore for ever; each complete picture is told. While the store is away the last one stays.
  private static func follow(_ datastore: any Datastore, _ log: Logger, tell: @Sendable (BGPResources) -> Void) async {
    var pause: Duration = .milliseconds(100)
    while !Task.isCancelled {
      do {
        var stored = StoredResources()
        // Everything is watched from the oldest of the lists; what a later list has seen already is passed over.
        var listed: [(prefix: String, at: Revision)] = []
        for prefix in StoredResources.prefixes {
          let (items, at) = try await datastore.list(prefix: prefix)
          listed.append((prefix, at))
          for item in items { put(item, into: &stored, log) }
        }
        func isNews(_ key: String, _ revision: Revision) -> Bool {
          listed.first { key.hasPrefix($0.prefix) }.map { revision > $0.at } ?? false
        }
        tell(stored.resources)
        pause = .milliseconds(100)
        for try await batch in datastore.watch(prefixes: StoredResources.prefixes, after: listed.map(\.at).min() ?? .zero) {
          let before = stored.resources
          for event in batch.events {
            switch event {
            case .put(let item): if isNews(item.key, item.modRevision) { put(item, into: &stored, log) }
            case .delete(let key, let revision): if isNews(key, revision) { stored.remove(key) }
            }
          }
          if stored.resources != before { tell(stored.resources) }
        }
      } catch {
        if Task.isCancelled { return }
        log.warning("\(datastore.name): \(error); sessions and routes stay, retrying in \(pause)")
      }
      try? await Task.sleep(for: pause)
      pause = min(pause * 2, .seconds(5))
    }
  }

  private static func put(_ item: KeyValue, into stored: inout StoredResources, _ log: Logger) {
    do throws(StoredResources.Unreadable) {
      try stored.put(item.key, item.value)
    } catch {
      log.error("\(error): ignored, the last good version stays in force")
    }
  }
}

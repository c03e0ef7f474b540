/// Felix's word to the datastore. Lives on the loop's thread and never waits: `LeasedKeys` writes, in a task beside it.
///
/// Nothing is said before the agent has gone through its first round: what an earlier run reported stands until then, so that a restart
/// over a right kernel changes no endpoint's status.
import Datastore
import JSON
import Names
import Resources
import Sockets

final class StatusReporter {
  let leased: LeasedKeys
  private let node: String
  private let loop: EventLoop
  private let startedAt = MonotonicInstant.now
  private var settings = ReportingSettings()
  private var keys: StatusKeys
  private var endpoints: [ResourceKey: (status: EndpointStatus, since: UTCTime)] = [:]
  private var host = HostStatus()
  private(set) var hasBegun = false
  private var hasReported = false
  private var heartbeat: EventLoop.TimerHandle?

  init(_ datastore: any Datastore, node: String, loop: EventLoop) {
    self.node = node
    self.loop = loop
    keys = StatusKeys(region: nil, host: node)
    leased = LeasedKeys(datastore, prefixes: [], inherit: EndpointStatus.inherit)
  }

  /// How many endpoints are in which state.
  var counts: [EndpointStatus.State: Int] { endpoints.values.reduce(into: [:]) { $0[$1.status.state, default: 0] += 1 } }
  func status(of key: ResourceKey) -> (status: EndpointStatus, since: UTCTime)? { endpoints[key] }

  /// Takes new settings over in place.
  func configure(_ new: ReportingSettings) {
    guard new != settings else { return }
    let old = (settings, keys)
    settings = new
    keys = StatusKeys(region: new.region, host: node)
    guard hasBegun else { return }
    if old.1 != keys || old.0.reportsEndpoints != new.reportsEndpoints {
      for key in endpoints.keys { old.1.endpoint(key).map { leased.want(nil, for: $0) } }
    }
    if old.1 != keys || new.interval == nil {
      leased.want(nil, for: old.1.status)
      leased.want(nil, for: old.1.lastReported)
    }
    begin()
  }

  /// What the agent found after a round; nil: the endpoint is gone.
  func report(_ changed: [ResourceKey: EndpointStatus?]) {
    for (key, status) in changed {
      guard endpoints[key]?.status != status else { continue }
      endpoints[key] = status.map { ($0, .now()) }
      if hasBegun { write(key) }
    }
  }

  /// From the first call on, status is written.
  func report(_ host: HostStatus) {
    let isNews = host != self.host
    self.host = host
    if !hasBegun {
      hasBegun = true
      begin()
    } else if isNews, settings.interval != nil {
      writeHost()
    }
  }

  private func begin() {
    for key in endpoints.keys { write(key) }
    beat()
    leased.begin(settings.terms, prefixes: [keys.workloads])
  }

  private func write(_ key: ResourceKey) {
    guard settings.reportsEndpoints, let path = keys.endpoint(key) else { return }
    leased.want(endpoints[key].map { $0.status.document(since: $0.since).bytes(pretty: false) }, for: path)
  }

  private func writeHost() {
    let uptime = Double((MonotonicInstant.now - startedAt).wholeNanoseconds) / 1e9
    let document = host.document(time: .now(), uptime: uptime, isFirst: !hasReported).bytes(pretty: false)
    hasReported = true
    leased.want(document, for: keys.status)
    leased.want(document, for: keys.lastReported, isLeased: false)
  }

  private func beat() {
    heartbeat?.cancel()
    guard let interval = settings.interval else { return }
    writeHost()
    heartbeat = loop.schedule(after: interval) { [weak self] in self?.beat() }
  }
}

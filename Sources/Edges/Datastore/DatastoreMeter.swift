/// What a daemon asks of its datastore and how it fares, for Prometheus: a store that counts what passes through it, and what a feed counts.
public import JSON
public import MetricsText
import Synchronization

/// Any store, counted.
public final class MeteredDatastore: Datastore {
  /// Requests of one kind.
  struct Requests {
    var outcomes: [String: Int] = [:]
    var seconds = Histogram.latency
  }
  struct State {
    var requests: [String: Requests] = [:]
    var puts = 0
    var deletes = 0
    var watchesOpen = 0
    var leasesLost = 0
    var newest = Revision.zero
  }
  private let base: any Datastore
  private let state = Mutex(State())
  public init(_ base: any Datastore) { self.base = base }

  public var name: String { base.name }
  public var connection: DatastoreConnection? { base.connection }
  public func close() async { await base.close() }

  private func measured<Value>(
    _ kind: String, _ body: () async throws(DatastoreError) -> Value
  ) async throws(DatastoreError) -> Value {
    let began = ContinuousClock.now
    var outcome = "ok"
    defer {
      let took = (ContinuousClock.now - began).components
      state.withLock { state in
        state.requests[kind, default: Requests()].outcomes[outcome, default: 0] += 1
        state.requests[kind, default: Requests()].seconds.observe(Double(took.seconds) + Double(took.attoseconds) / 1e18)
      }
    }
    do throws(DatastoreError) { return try await body() } catch {
      outcome = error.word
      throw error
    }
  }
  private func heard(_ revision: Revision) { state.withLock { $0.newest = max($0.newest, revision) } }

  public func get(_ key: String) async throws(DatastoreError) -> KeyValue? {
    try await measured("get") { () async throws(DatastoreError) in try await base.get(key) }
  }
  public func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    let found = try await measured("list") { () async throws(DatastoreError) in try await base.list(prefix: prefix) }
    heard(found.revision)
    return found
  }
  public func page(prefix: String, limit: Int, from continuation: ListContinuation?) async throws(DatastoreError) -> ListPage {
    let page = try await measured("list") { () async throws(DatastoreError) in
      try await base.page(prefix: prefix, limit: limit, from: continuation)
    }
    heard(page.revision)
    return page
  }
  public func remembers(_ item: KeyValue) async throws(DatastoreError) -> Bool {
    try await measured("get") { () async throws(DatastoreError) in try await base.remembers(item) }
  }
  public func transact(
    if comparisons: [Comparison], then operations: [DatastoreOperation]
  ) async throws(DatastoreError) -> TransactionResult {
    let result = try await measured("write") { () async throws(DatastoreError) in
      try await base.transact(if: comparisons, then: operations)
    }
    switch result {
    case .committed(let revision): heard(revision)
    case .conflict:
      state.withLock { state in
        state.requests["write"]?.outcomes["ok", default: 0] -= 1
        state.requests["write"]?.outcomes["conflict", default: 0] += 1
      }
    }
    return result
  }
  public func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID {
    try await measured("lease") { () async throws(DatastoreError) in try await base.grantLease(seconds: seconds) }
  }
  public func keepAlive(_ lease: LeaseID) async throws(DatastoreError) {
    do throws(DatastoreError) {
      try await measured("lease") { () async throws(DatastoreError) in try await base.keepAlive(lease) }
    } catch {
      if error == .leaseNotFound { state.withLock { $0.leasesLost += 1 } }
      throw error
    }
  }
  public func revoke(_ lease: LeaseID) async throws(DatastoreError) {
    try await measured("lease") { () async throws(DatastoreError) in try await base.revoke(lease) }
  }
  public func compact(upTo revision: Revision) async throws(DatastoreError) {
    try await measured("compact") { () async throws(DatastoreError) in try await base.compact(upTo: revision) }
  }

  public func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    let counted = CountedWatch(base.watch(prefixes: prefixes, after: revision)) { [weak self] in self?.note($0) }
    return AsyncThrowingStream { try await counted.next() }
  }
  private func note(_ event: CountedWatch.Note) {
    state.withLock { state in
      switch event {
      case .opened: state.watchesOpen += 1
      case .batch(let batch):
        let puts = batch.events.count { if case .put = $0 { true } else { false } }
        state.puts += puts
        state.deletes += batch.events.count - puts
        state.newest = max(state.newest, batch.revision)
      case .ended(let word): state.requests["watch", default: Requests()].outcomes[word, default: 0] += 1
      case .dropped: state.watchesOpen -= 1
      }
    }
  }

  /// For a daemon's status: which store, how it is connected, and where its revision is.
  public var status: JSONValue {
    let newest = state.withLock { $0.newest }
    var value: JSONValue = ["name": .string(base.name), "revision": .integer(max(newest, base.connection?.newest ?? .zero).rawValue)]
    guard let connection = base.connection else { return value }
    value["endpoint"] = connection.endpoint.map { .string($0) } ?? nil
    value["problem"] = connection.problem.map { .string($0) } ?? nil
    value["tls"] = .bool(connection.isEncrypted)
    value["connections"] = .integer(Int64(connection.made))
    return value
  }

  /// - Parameter feed: whose place in history is told, and how far it is behind.
  public func add(to page: inout MetricsPage, feed: FeedMeter?, queue: FeedQueue? = nil) {
    let state = state.withLock { $0 }
    let connection = base.connection
    let newest = max(state.newest, connection?.newest ?? .zero)
    for (kind, requests) in state.requests.sorted(by: { $0.key < $1.key }) {
      for (outcome, count) in requests.outcomes.sorted(by: { $0.key < $1.key }) where count > 0 {
        page.counter(
          "margay_datastore_requests_total", "Requests to the datastore, and watches that ended, by kind and outcome.", count,
          ["kind": kind, "outcome": outcome])
      }
    }
    for (kind, requests) in state.requests.sorted(by: { $0.key < $1.key }) where kind != "watch" {
      page.histogram("margay_datastore_request_seconds", "From a request to its answer.", requests.seconds, ["kind": kind])
    }
    if let connection {
      page.gauge("margay_datastore_connected", "1 while there is a connection.", connection.endpoint == nil ? 0 : 1)
      page.counter("margay_datastore_connections_total", "Connections that came about.", connection.made)
      page.counter("margay_datastore_connect_failures_total", "Rounds of all members in which no connection came about.", connection.failed)
      page.counter(
        "margay_datastore_replaced_total", "How often the store turned out to be another one, or its own past.", connection.replaced)
    }
    page.gauge("margay_datastore_watches", "Watches that stand.", state.watchesOpen)
    page.counter("margay_datastore_watch_events_total", "Changes that watches told of.", state.puts, ["type": "put"])
    page.counter("margay_datastore_watch_events_total", "Changes that watches told of.", state.deletes, ["type": "delete"])
    page.counter("margay_datastore_leases_lost_total", "Leases that had ended when they were to be kept alive.", state.leasesLost)
    page.gauge("margay_datastore_revision", "The newest revision of the store that was heard of.", Double(newest.rawValue))
    guard let feed else { return }
    let counts = feed.counts
    page.gauge("margay_datastore_feed_revision", "Everything up to this revision has been seen.", Double(counts.position.rawValue))
    page.gauge(
      "margay_datastore_feed_lag_revisions", "How far the newest revision heard of is ahead; most revisions are of keys that are not read.",
      Double(max(0, newest.rawValue - counts.position.rawValue)))
    page.counter("margay_datastore_feed_lists_total", "Times that everything was read anew; the first included.", counts.lists)
    page.counter("margay_datastore_feed_resumes_total", "Times that a watch went on behind what had been seen.", counts.resumes)
    page.counter("margay_datastore_feed_compactions_total", "Times that history had been forgotten, so that it could not.", counts.compactions)
    page.counter(
      "margay_datastore_feed_replacements_total", "Times that the store did not remember what had been read from it.", counts.replacements)
    guard let queue else { return }
    page.gauge("margay_datastore_feed_queue_keys", "Keys whose last change waits for its turn.", queue.depth)
    page.gauge("margay_datastore_feed_queue_keys_most", "The most that ever waited.", queue.depthMost)
  }
}

/// Pulls from a watch and tells of what it sees.
///
/// Sendable by hand: the stream that holds it is pulled by one task at a time.
private final class CountedWatch: @unchecked Sendable {
  enum Note {
    case opened
    case batch(WatchBatch)
    case ended(String)
    case dropped
  }
  private var iterator: AsyncThrowingStream<WatchBatch, any Error>.AsyncIterator
  private let tell: (Note) -> Void
  init(_ stream: AsyncThrowingStream<WatchBatch, any Error>, _ tell: @escaping (Note) -> Void) {
    iterator = stream.makeAsyncIterator()
    self.tell = tell
    tell(.opened)
  }
  deinit { tell(.dropped) }
  func next() async throws -> WatchBatch? {
    do {
      let batch = try await iterator.next()
      if let batch { tell(.batch(batch)) }
      return batch
    } catch {
      tell(.ended((error as? DatastoreError)?.word ?? "failed"))
      throw error
    }
  }
}

/// A feed's counts; the feed writes, pages read.
public final class FeedMeter: Sendable {
  public struct Counts: Sendable {
    public var position = Revision.zero
    public var events = 0
    public var lists = 0
    public var resumes = 0
    public var compactions = 0
    public var replacements = 0
  }
  private let state = Mutex(Counts())
  public var counts: Counts { state.withLock { $0 } }
  func count(_ body: (inout Counts) -> Void) { state.withLock { body(&$0) } }
}

extension DatastoreError {
  /// For labels: few values, no text.
  var word: String {
    switch self {
    case .unavailable: "unavailable"
    case .compacted: "compacted"
    case .leaseNotFound: "lease lost"
    case .refused: "refused"
    case .unusable: "unusable"
    }
  }
}

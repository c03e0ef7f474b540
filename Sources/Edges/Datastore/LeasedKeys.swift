/// Keys that a daemon keeps at the values it wishes, under a lease: when the daemon or its host dies, they vanish.
///
/// The daemon says `want` from its own thread and never waits; a task beside it writes. Hazards and the answers:
/// - The datastore is slow or away: wishes are merged by key, so what waits is never more than what there is to tell.
/// - The lease ends (a long outage, a datastore that was restored): a new one is granted, and everything is read back and written anew.
/// - A write ended without an answer: what stands is not known, and it is read back before anything else is written.
/// - Keys of an earlier run, or of somebody else, below our prefixes: what is not wanted is removed. Nothing is touched before `begin`,
///   since a daemon that has no picture yet would wish for nothing.
/// - A value that changes many times a second: after two writes in a row a key rests for `delay`. One change on the heels of another, as
///   when an endpoint comes up, is told at once; a removal waits for nothing.
import Deltas
import Synchronization

public final class LeasedKeys: Sendable {
  public struct Terms: Hashable, Sendable {
    public var ttlSeconds: Int
    public var delay: Duration
    public init(ttlSeconds: Int = 90, delay: Duration = .seconds(1)) {
      self.ttlSeconds = ttlSeconds
      self.delay = delay
    }
  }
  struct Entry: Hashable, Sendable {
    var value: [UInt8]
    /// Whether it vanishes with the lease; nil where it stands under a lease that is not the present one.
    var isLeased: Bool?
  }
  private struct Wishes {
    var terms: Terms
    var prefixes: [String]
    var changes: [String: Entry?] = [:]
    var hasBegun = false
    var problem: String?
    var writes = 0
  }
  private let wishes: Mutex<Wishes>
  private let wakes: AsyncStream<Void>
  private let wake: AsyncStream<Void>.Continuation
  private let datastore: any Datastore
  private let inherit: @Sendable (_ wanted: [UInt8], _ standing: [UInt8]) -> [UInt8]
  /// How often it is read back against changes by others.
  private let relisting: Duration = .seconds(300)

  /// `prefixes`: below them, every key is ours. `inherit` may take over what an earlier run has written to the same key and what is
  /// still true, such as a time.
  public init(
    _ datastore: any Datastore, prefixes: [String], terms: Terms = Terms(),
    inherit: @escaping @Sendable (_ wanted: [UInt8], _ standing: [UInt8]) -> [UInt8] = { wanted, _ in wanted }
  ) {
    self.datastore = datastore
    self.inherit = inherit
    wishes = Mutex(Wishes(terms: terms, prefixes: prefixes))
    (wakes, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
  }

  // MARK: The daemon's side

  /// Nil: the key shall not exist.
  public func want(_ value: [UInt8]?, for key: String, isLeased: Bool = true) {
    wishes.withLock { $0.changes[key] = .some(value.map { Entry(value: $0, isLeased: isLeased) }) }
    wake.yield()
  }
  /// From here on it is written. Called again, it changes the terms in place.
  public func begin(_ terms: Terms, prefixes: [String]) {
    wishes.withLock {
      $0.hasBegun = true
      $0.terms = terms
      $0.prefixes = prefixes
    }
    wake.yield()
  }
  /// Why what is wanted is not written, in words.
  public var problem: String? { wishes.withLock { $0.problem } }
  /// Keys written or removed since the start.
  public var writes: Int { wishes.withLock { $0.writes } }

  // MARK: The task

  /// Serves until the task is cancelled. The lease is left to end by itself: a restart within its time changes nothing for readers.
  public func run() async {
    var keeper = Keeper(datastore: datastore, inherit: inherit)
    var retry = Backoff(first: .milliseconds(100), max: .seconds(5))
    while !Task.isCancelled {
      let (terms, prefixes, hasBegun) = wishes.withLock { wishes in
        for (key, entry) in wishes.changes { keeper.keys.want(entry, for: key) }
        wishes.changes = [:]
        return (wishes.terms, wishes.prefixes, wishes.hasBegun)
      }
      var pause = Duration.seconds(3600)
      if hasBegun {
        do {
          pause = try await keeper.step(terms, prefixes, relisting: relisting)
          retry.reset()
          note(nil, keeper.writes)
        } catch {
          keeper.forget(isLeaseLost: error == .leaseNotFound)
          if error == .leaseNotFound {
            try? await Task.sleep(for: .milliseconds(20))
            continue
          }
          note("reporting status: \(error)", keeper.writes)
          // Wishes that come meanwhile are merged; they do not shorten the wait.
          try? await Task.sleep(for: retry.next())
          continue
        }
      }
      let timer = Task { [wake] in
        try await Task.sleep(for: pause)
        wake.yield()
      }
      for await _ in wakes { break }
      timer.cancel()
    }
  }

  private func note(_ problem: String?, _ writes: Int) {
    wishes.withLock {
      $0.problem = problem
      $0.writes = writes
    }
  }
}

/// The task's own state.
private struct Keeper {
  let datastore: any Datastore
  let inherit: @Sendable ([UInt8], [UInt8]) -> [UInt8]
  var keys = DeltaMap<String, LeasedKeys.Entry>()
  var writes = 0

  private var lease: (id: LeaseID, ttlSeconds: Int)?
  private var renewed = ContinuousClock.now
  /// Of the last full reading; nil: what stands is not known.
  private var listed: ContinuousClock.Instant?
  private var listedPrefixes: [String] = []
  /// Keys written within the last `delay`: until when that lasts, and whether they may not be written before.
  private var recent: [String: (until: ContinuousClock.Instant, rests: Bool)] = [:]

  init(datastore: any Datastore, inherit: @escaping @Sendable ([UInt8], [UInt8]) -> [UInt8]) {
    self.datastore = datastore
    self.inherit = inherit
  }

  mutating func forget(isLeaseLost: Bool) {
    listed = nil
    if isLeaseLost { lease = nil }
  }

  /// Does what is due, and says when something is due again.
  mutating func step(_ terms: LeasedKeys.Terms, _ prefixes: [String], relisting: Duration) async throws(DatastoreError) -> Duration {
    let renewal = Duration.milliseconds(terms.ttlSeconds * 1000 / 3)
    // Other terms are another lease; the keys move to it before the old one is given up.
    let before = lease
    if lease == nil || lease?.ttlSeconds != terms.ttlSeconds {
      lease = (try await datastore.grantLease(seconds: terms.ttlSeconds), terms.ttlSeconds)
      renewed = .now
      listed = nil
    } else if let lease, ContinuousClock.now - renewed >= renewal {
      try await datastore.keepAlive(lease.id)
      renewed = .now
    }
    if listed == nil || listedPrefixes != prefixes || ContinuousClock.now - listed! >= relisting { try await list(prefixes) }
    try await write(terms)
    if let before, before.id != lease?.id { try? await datastore.revoke(before.id) }

    let now = ContinuousClock.now
    recent = recent.filter { $0.value.until > now }
    let rested = keys.updateKeys.compactMap { recent[$0]?.until }.min()
    return max(.milliseconds(1), min(renewal - (now - renewed), relisting, rested.map { $0 - now } ?? relisting))
  }

  private mutating func list(_ prefixes: [String]) async throws(DatastoreError) {
    var found: [String: LeasedKeys.Entry] = [:]
    func take(_ item: KeyValue) {
      let isLeased: Bool? = item.lease == nil ? false : item.lease == lease?.id ? true : nil
      found[item.key] = LeasedKeys.Entry(value: item.value, isLeased: isLeased)
    }
    for prefix in prefixes { for item in try await datastore.list(prefix: prefix).items { take(item) } }
    // Those wanted elsewhere, and those that stood elsewhere: prefixes change.
    for key in Set(keys.wanted.keys).union(keys.observed.keys).sorted() where !prefixes.contains(where: key.hasPrefix) {
      if let item = try await datastore.get(key) { take(item) }
    }
    for (key, entry) in found {
      guard let wanted = keys.wanted[key] else { continue }
      keys.want(LeasedKeys.Entry(value: inherit(wanted.value, entry.value), isLeased: wanted.isLeased), for: key)
    }
    keys.observeAll(found)
    listed = .now
    listedPrefixes = prefixes
  }

  private mutating func write(_ terms: LeasedKeys.Terms) async throws(DatastoreError) {
    let now = ContinuousClock.now
    var due: [(key: String, entry: LeasedKeys.Entry?)] = keys.deletionKeys.map { ($0, nil) }
    due += keys.pendingUpdates.filter { !rests($0.key, $0.value, now) }.map { ($0.key, $0.value) }
    due.sort { $0.key < $1.key }
    // etcd takes 128 operations at once.
    for start in stride(from: 0, to: due.count, by: 100) {
      let batch = due[start..<min(start + 100, due.count)]
      let operations = batch.map { key, entry -> DatastoreOperation in
        guard let entry else { return .delete(key) }
        return .put(key, entry.value, lease: entry.isLeased == true ? lease?.id : nil)
      }
      _ = try await datastore.transact(if: [], then: operations)
      writes += operations.count
      for (key, entry) in batch {
        keys.observe(entry, for: key)
        if entry != nil { recent[key] = (ContinuousClock.now + terms.delay, (recent[key]?.until ?? now) > now) }
      }
    }
  }

  /// What is missing, or stands under a lease that is about to go, waits for nothing.
  private func rests(_ key: String, _ wanted: LeasedKeys.Entry, _ now: ContinuousClock.Instant) -> Bool {
    guard let recent = recent[key], let standing = keys.observed[key], standing.isLeased == wanted.isLeased else { return false }
    return recent.rests && recent.until > now
  }
}

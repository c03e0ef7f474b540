/// What every daemon reads: a list, then every change, for good. Outages and compaction are survived here and seen by nobody else.
///
/// Hazards, and the answers:
/// - The watch breaks: it goes on behind the last revision that was seen. Nothing is read anew, and nothing comes twice.
/// - That revision is no longer kept: everything is read anew. What is gone meanwhile is reported as deleted, what stayed the same is not
///   reported.
/// - The store is another one when it is back, or its own past (a snapshot was restored): its revisions may have caught up with ours and
///   mean something else. Before a watch goes on, the store must remember the newest value that we have of it, at its revision.
/// - An idle watch: the store tells now and then how far it is, so that the place to go on from does not fall behind compaction.
/// - A thousand daemons lose their store at once: their pauses differ by chance.
public import Resources

public enum FeedEvent: Sendable {
  /// Nil: it does not exist (any more).
  case resource(ResourceKey, StoredResource?)
  /// A value under a kind's prefix that is no object of that kind.
  case unreadable(ResourceKey, reason: String)
  /// A key under one of the raw prefixes.
  case raw(key: String, value: [UInt8]?)
  /// Everything that existed at the first list has been reported. Once.
  case inSync
  /// All changes up to here have been reported.
  case revision(Revision)
  /// The datastore answers again, or does not and why. Reported on change.
  case connection(problem: String?)
}

public struct ResourceFeed: Sendable {
  public let datastore: any Datastore
  public let kinds: [Kind]
  public let rawPrefixes: [String]
  public let meter = FeedMeter()
  private let chance: @Sendable () -> Double
  /// `chance`: from 0 to 1, for the pauses after failures.
  public init(
    _ datastore: any Datastore, kinds: [Kind], rawPrefixes: [String] = [], chance: @escaping @Sendable () -> Double = { .random(in: 0...1) }
  ) {
    self.datastore = datastore
    self.kinds = kinds
    self.rawPrefixes = rawPrefixes
    self.chance = chance
  }

  private var prefixes: [String] { kinds.map { ResourceKey.prefix(of: $0) } + rawPrefixes }

  /// Calls `deliver` with batches, in order, until the task is cancelled. Retries wait up to 100 ms, doubling to 5 s; the wait begins anew
  /// once a watch delivered something or stood for a while.
  public func run(_ deliver: @Sendable ([FeedEvent]) -> Void) async {
    var view = FeedView()
    view.isRecordAnObject = kinds.contains(.ipamConfiguration)
    var problem: String?
    var pace = Backoff(first: .milliseconds(100), max: .seconds(5), chance: chance)
    /// The store has answered.
    func answered() {
      guard problem != nil else { return }
      problem = nil
      deliver([.connection(problem: nil)])
    }
    while !Task.isCancelled {
      var began = ContinuousClock.now
      do {
        if view.position != nil, let witness = view.witness, try await !datastore.remembers(witness) {
          meter.count { $0.replacements += 1 }
          view.position = nil
        }
        if view.position == nil {
          try await list(&view, answered, deliver)
        } else {
          meter.count { $0.resumes += 1 }
          answered()
        }
        guard let start = view.position else { continue }
        meter.count { $0.position = start }
        began = .now
        for try await batch in datastore.watch(prefixes: prefixes, after: start) {
          let events = view.take(batch)
          meter.count {
            $0.position = batch.revision
            $0.events += batch.events.count
          }
          pace.reset()
          if !batch.events.isEmpty { deliver(events + [.revision(batch.revision)]) }
        }
        if Task.isCancelled { return }
        // A watch ends with an error; one that ends without has been cut off all the same.
        throw DatastoreError.unavailable("the watch ended")
      } catch DatastoreError.compacted {
        // Nobody needs to hear of it: the next list says what was missed.
        meter.count { $0.compactions += 1 }
        view.position = nil
      } catch {
        let text = "\(error)"
        if problem != text {
          problem = text
          deliver([.connection(problem: text)])
        }
      }
      if ContinuousClock.now - began > .seconds(5) { pace.reset() }
      try? await Task.sleep(for: pace.next())
    }
  }

  /// Everything anew, page by page: what is delivered of a list that then fails is true all the same, only not yet all.
  private func list(_ view: inout FeedView, _ answered: () -> Void, _ deliver: ([FeedEvent]) -> Void) async throws(DatastoreError) {
    view.beginList()
    // The oldest revision of all lists: a change between two of them is seen twice rather than never.
    var position: Revision?
    for prefix in prefixes {
      let revision = try await datastore.eachPage(prefix: prefix) { items in
        answered()
        let events = view.takeListed(items)
        if !events.isEmpty { deliver(events) }
      }
      position = min(position ?? revision, revision)
    }
    let start = position ?? .zero
    meter.count { $0.lists += 1 }
    deliver(view.endList(at: start) + [.revision(start)])
  }
}

/// What a consumer has been told: the keys and their revisions. A value; every way through outages ends here.
struct FeedView {
  private struct Entry {
    var revision: Revision
    /// The list that has shown it.
    var pass: Int
  }
  private var known: [String: Entry] = [:]
  private var pass = 0
  private var isInSync = false
  /// The record of address assignment is an object only to whoever asked for the kind; others follow the key as it is.
  var isRecordAnObject = false
  /// Up to where all changes have been reported; nil: a list is needed.
  var position: Revision?
  /// The newest value known, by which the store is recognised.
  private(set) var witness: KeyValue?

  mutating func beginList() {
    pass += 1
    // A store that went back has older revisions: what was newest in it is to be found anew.
    witness = nil
  }

  mutating func takeListed(_ items: [KeyValue]) -> [FeedEvent] {
    var events: [FeedEvent] = []
    events.reserveCapacity(items.count)
    for item in items {
      noteWitness(item)
      let before = known.updateValue(Entry(revision: item.modRevision, pass: pass), forKey: item.key)
      if before?.revision != item.modRevision, let event = event(item.key, item) { events.append(event) }
    }
    return events
  }

  mutating func endList(at revision: Revision) -> [FeedEvent] {
    var events: [FeedEvent] = []
    for key in known.filter({ $0.value.pass != pass }).keys.sorted() {
      known[key] = nil
      if let event = event(key, nil) { events.append(event) }
    }
    if !isInSync {
      isInSync = true
      events.append(.inSync)
    }
    position = revision
    return events
  }

  mutating func take(_ batch: WatchBatch) -> [FeedEvent] {
    var events: [FeedEvent] = []
    for change in batch.events {
      switch change {
      case .put(let item):
        noteWitness(item)
        // The list of this prefix may have been younger than where the watch begins.
        guard (known[item.key]?.revision ?? .zero) < item.modRevision else { continue }
        known[item.key] = Entry(revision: item.modRevision, pass: pass)
        if let event = event(item.key, item) { events.append(event) }
      case .delete(let key, let revision):
        guard let seen = known[key], seen.revision < revision else { continue }
        known[key] = nil
        if let event = event(key, nil) { events.append(event) }
      }
    }
    position = batch.revision
    return events
  }

  private mutating func noteWitness(_ item: KeyValue) {
    if let witness, witness.modRevision > item.modRevision { return }
    witness = item
  }

  private func event(_ key: String, _ item: KeyValue?) -> FeedEvent? {
    guard let resourceKey = ResourceKey(path: key), resourceKey.kind != .ipamConfiguration || isRecordAnObject
    else { return .raw(key: key, value: item?.value) }
    guard let item else { return .resource(resourceKey, nil) }
    do throws(ResourceStoreError) {
      return .resource(resourceKey, try ResourceStore.decode(item, resourceKey))
    } catch {
      return .unreadable(resourceKey, reason: error.description)
    }
  }
}

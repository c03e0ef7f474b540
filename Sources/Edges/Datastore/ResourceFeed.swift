/// What every daemon reads: a list, then every change, for good. Outages and compaction are survived here and seen by nobody else:
/// after a new list, what is gone meanwhile is reported as deleted, and what stayed the same is not reported.
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
  public init(_ datastore: any Datastore, kinds: [Kind], rawPrefixes: [String] = []) {
    self.datastore = datastore
    self.kinds = kinds
    self.rawPrefixes = rawPrefixes
  }

  private var prefixes: [String] { kinds.map { ResourceKey.prefix(of: $0) } + rawPrefixes }

  /// Calls `deliver` with batches, in order, until the task is cancelled. Retries wait 100 ms, doubling to 5 s; the wait begins anew once a
  /// watch delivered something.
  public func run(_ deliver: @Sendable ([FeedEvent]) -> Void) async {
    var known: [String: Revision] = [:]
    var isInSync = false
    var problem: String?
    var delay = Duration.milliseconds(100)
    while !Task.isCancelled {
      do {
        // The oldest revision of all lists: a change between two of them is seen twice rather than never.
        var position: Revision?
        var present: [KeyValue] = []
        for prefix in prefixes {
          let (items, revision) = try await datastore.list(prefix: prefix)
          present += items
          position = min(position ?? revision, revision)
        }
        var events: [FeedEvent] = []
        if problem != nil {
          problem = nil
          events.append(.connection(problem: nil))
        }
        let names = Set(present.map(\.key))
        for key in known.keys.filter({ !names.contains($0) }).sorted() {
          known[key] = nil
          if let event = event(key, nil) { events.append(event) }
        }
        for item in present where known[item.key] != item.modRevision {
          known[item.key] = item.modRevision
          if let event = event(item.key, item) { events.append(event) }
        }
        if !isInSync {
          isInSync = true
          events.append(.inSync)
        }
        let start = position ?? .zero
        events.append(.revision(start))
        deliver(events)
        for try await batch in datastore.watch(prefixes: prefixes, after: start) {
          var events: [FeedEvent] = []
          for change in batch.events {
            switch change {
            case .put(let item):
              // The list of this prefix may have been younger than where the watch begins.
              guard (known[item.key] ?? .zero) < item.modRevision else { continue }
              known[item.key] = item.modRevision
              if let event = event(item.key, item) { events.append(event) }
            case .delete(let key, let revision):
              guard let seen = known[key], seen < revision else { continue }
              known[key] = nil
              if let event = event(key, nil) { events.append(event) }
            }
          }
          events.append(.revision(batch.revision))
          delay = .milliseconds(100)
          deliver(events)
        }
        if Task.isCancelled { return }
        // A watch ends with an error; one that ends without has been cut off all the same.
        throw DatastoreError.unavailable("the watch ended")
      } catch DatastoreError.compacted {
        // Nobody needs to hear of it: the next list says what was missed.
      } catch {
        let text = "\(error)"
        if problem != text {
          problem = text
          deliver([.connection(problem: text)])
        }
      }
      try? await Task.sleep(for: delay)
      delay = min(delay * 2, .seconds(5))
    }
  }

  private func event(_ key: String, _ item: KeyValue?) -> FeedEvent? {
    guard let resourceKey = ResourceKey(path: key) else { return .raw(key: key, value: item?.value) }
    guard let item else { return .resource(resourceKey, nil) }
    do throws(ResourceStoreError) {
      return .resource(resourceKey, try ResourceStore.decode(item, resourceKey))
    } catch {
      return .unreadable(resourceKey, reason: error.description)
    }
  }
}

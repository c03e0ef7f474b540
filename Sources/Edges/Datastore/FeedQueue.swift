/// Between a feed and a consumer that has its own pace: the last value of each key waits, deletions included, and nothing else.
///
/// A consumer that is busy for a minute costs memory in proportion to how many keys changed meanwhile, not to how often. What must keep its
/// place does: `inSync` comes behind everything that was reported before it, the revision behind all events.
import Resources
import Synchronization

public final class FeedQueue: Sendable {
  fileprivate enum Slot: Hashable {
    case resource(ResourceKey)
    case raw(String)
  }
  fileprivate struct State {
    /// In the order in which their keys were first reported.
    var events: [FeedEvent] = []
    var places: [Slot: Int] = [:]
    var isInSync = false
    var connection: FeedEvent?
    var revision: Revision?
    var isWoken = false
    var depthMost = 0
  }
  private let state = Mutex(State())
  private let wake: @Sendable (FeedQueue) -> Void

  /// `wake` is called when something waits for `take`: once, until it has been taken.
  public init(wake: @escaping @Sendable (FeedQueue) -> Void) { self.wake = wake }

  @Sendable public func put(_ events: [FeedEvent]) {
    let mustWake = state.withLock { state in
      for event in events { state.take(event) }
      state.depthMost = max(state.depthMost, state.events.count)
      defer { state.isWoken = true }
      return !state.isWoken
    }
    if mustWake { wake(self) }
  }

  public func take() -> [FeedEvent] {
    state.withLock { state in
      var events = state.events
      if let connection = state.connection { events.insert(connection, at: 0) }
      if state.isInSync { events.append(.inSync) }
      if let revision = state.revision { events.append(.revision(revision)) }
      let most = state.depthMost
      state = State()
      state.depthMost = most
      return events
    }
  }

  /// Keys that wait now, and at most so far.
  public var depth: Int { state.withLock { $0.events.count } }
  public var depthMost: Int { state.withLock { $0.depthMost } }
}

extension FeedQueue.State {
  fileprivate mutating func take(_ event: FeedEvent) {
    switch event {
    case .resource(let key, _), .unreadable(let key, _): set(.resource(key), event)
    case .raw(let key, _): set(.raw(key), event)
    case .inSync: isInSync = true
    case .revision(let revision): self.revision = revision
    case .connection: connection = event
    }
  }
  private mutating func set(_ slot: FeedQueue.Slot, _ event: FeedEvent) {
    if let place = places[slot] {
      events[place] = event
    } else {
      places[slot] = events.count
      events.append(event)
    }
  }
}

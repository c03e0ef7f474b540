/// Where watchers of one store wait for its next revision. Whoever learns of a revision advances the gate; watchers then read history at
/// their own pace, so a slow watcher costs no memory here.
import Synchronization

public final class RevisionGate: Sendable {
  private struct State {
    var revision: Revision
    var isClosed = false
    var stirs = 0
    var waiterNext = 0
    var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
  }
  private let state: Mutex<State>

  public init(at revision: Revision) { state = Mutex(State(revision: revision)) }

  /// The newest revision anybody reported.
  public var revision: Revision { state.withLock { $0.revision } }
  public var isClosed: Bool { state.withLock { $0.isClosed } }

  /// Wakes the waiters if `revision` is news; an older one is ignored.
  public func advance(to revision: Revision) {
    let woken = state.withLock { state -> [CheckedContinuation<Void, Never>] in
      guard revision > state.revision else { return [] }
      state.revision = revision
      defer { state.waiters.removeAll() }
      return Array(state.waiters.values)
    }
    for waiter in woken { waiter.resume() }
  }

  /// Wakes everybody without news: they look again and find out why (compaction, a failure).
  public func stir() {
    let woken = state.withLock { state in
      state.stirs += 1
      defer { state.waiters.removeAll() }
      return Array(state.waiters.values)
    }
    for waiter in woken { waiter.resume() }
  }
  /// How often it was stirred: taken before a look at the store and given to `wait`, it keeps a stir in between from being missed.
  public var stirs: Int { state.withLock { $0.stirs } }

  /// Ends all waiting, now and later.
  public func close() {
    state.withLock { $0.isClosed = true }
    stir()
  }

  /// Returns when there may be something after `revision`, when stirred or closed, and when the calling task is cancelled.
  public func wait(after revision: Revision, stirs: Int) async {
    let id = state.withLock { state in
      state.waiterNext += 1
      return state.waiterNext
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        let isOver = state.withLock { state -> Bool in
          // The cancellation handler may have run before the waiter stood here: it would never be called again.
          if state.revision > revision || state.stirs != stirs || state.isClosed || Task.isCancelled { return true }
          state.waiters[id] = continuation
          return false
        }
        if isOver { continuation.resume() }
      }
    } onCancel: {
      state.withLock { $0.waiters.removeValue(forKey: id) }?.resume()
    }
  }
}

/// A watcher's place in history, for streams that pull.
public final class WatchCursor: Sendable {
  private let state: Mutex<(revision: Revision, hasLooked: Bool)>
  public init(after revision: Revision) { state = Mutex((revision, false)) }
  public var revision: Revision {
    get { state.withLock { $0.revision } }
    set { state.withLock { $0.revision = newValue } }
  }
  /// True once: the first look must find out whether the revision is still kept, news or not.
  public func isFirstLook() -> Bool {
    state.withLock { state in
      defer { state.hasLooked = true }
      return !state.hasLooked
    }
  }
}

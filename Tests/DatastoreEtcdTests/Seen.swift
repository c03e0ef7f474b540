/// What a feed's consumer has been told.
import Datastore
import Resources
import Synchronization

/// A feed's consumer.
final class Seen: Sendable {
  struct State {
    var names: [String] = []
    var raw: [String] = []
    /// `key=value` and `key gone`, as they came.
    var rawDeliveries: [String] = []
    var deliveries: [String] = []
    var inSyncs = 0
    var problem: String?
    var revision = Revision.zero
  }
  private let state = Mutex(State())
  private let changes: AsyncStream<Void>
  private let continuation: AsyncStream<Void>.Continuation
  init() { (changes, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1)) }

  @Sendable func take(_ events: [FeedEvent]) {
    state.withLock { state in
      for event in events {
        switch event {
        case .resource(let key, let stored):
          state.names.removeAll { $0 == key.name }
          if stored != nil { state.names.append(key.name) }
          state.deliveries.append(key.name)
        case .raw(let key, let value):
          state.raw.removeAll { $0 == key }
          if value != nil { state.raw.append(key) }
          state.rawDeliveries.append(value.map { "\(key)=\(String(decoding: $0, as: UTF8.self))" } ?? "\(key) gone")
        case .unreadable: break
        case .inSync: state.inSyncs += 1
        case .connection(let problem): state.problem = problem
        case .revision(let revision): state.revision = revision
        }
      }
    }
    continuation.yield()
  }
  var now: State { state.withLock { $0 } }
  @discardableResult
  func wait(_ what: String, until isSo: @escaping @Sendable (State) -> Bool) async throws -> State {
    try await within(.seconds(30), what) { [self] in
      while true {
        let now = state.withLock { $0 }
        if isSo(now) { return now }
        for await _ in changes { break }
        try Task.checkCancellation()
      }
    }
  }
}

/// The feed: whatever happens to the datastore, a consumer that applies the events has what the datastore has.
import Addresses
import Datastore
import DatastoreMemory
import Documents
import Resources
import Synchronization
import Testing

/// Applies events, and lets tests wait for a state.
private final class Consumer: Sendable {
  struct State {
    var objects: [ResourceKey: StoredResource] = [:]
    var raw: [String: [UInt8]] = [:]
    var unreadable: Set<ResourceKey> = []
    var problems: [String?] = []
    var inSyncs = 0
    var deliveries: [ResourceKey] = []
    var revision = Revision.zero
  }
  private let state = Mutex(State())
  private let changes: AsyncStream<State>
  private let continuation: AsyncStream<State>.Continuation
  init() { (changes, continuation) = AsyncStream.makeStream() }

  @Sendable func take(_ events: [FeedEvent]) {
    let now = state.withLock { state in
      for event in events {
        switch event {
        case .resource(let key, let stored):
          state.objects[key] = stored
          state.unreadable.remove(key)
          state.deliveries.append(key)
        case .raw(let key, let value): state.raw[key] = value
        case .unreadable(let key, _): state.unreadable.insert(key)
        case .inSync: state.inSyncs += 1
        case .connection(let problem): state.problems.append(problem)
        case .revision(let revision): state.revision = revision
        }
      }
      return state
    }
    continuation.yield(now)
  }
  /// The first state of which `isReached` holds.
  func wait(until isReached: (State) -> Bool) async throws -> State {
    let present = state.withLock { $0 }
    if isReached(present) { return present }
    for await state in changes where isReached(state) { return state }
    throw CancellationError()
  }
}

@Suite("ResourceFeed", .timeLimit(.minutes(1)))
struct ResourceFeedTests {
  let datastore = MemoryDatastore()
  var store: ResourceStore { ResourceStore(datastore) }
  private func set(_ name: String, _ net: String) -> Resource {
    Resource(Metadata(name: name), .globalNetworkSet(NetworkSetSpec(nets: [IPPrefix(net)!])))
  }
  private func put(_ key: String, _ text: String) async throws {
    _ = try await datastore.transact(if: [], then: [.put(key, Array(text.utf8))])
  }

  private func run(_ consumer: Consumer) -> Task<Void, Never> {
    let feed = ResourceFeed(datastore, kinds: [.globalNetworkSet, .node], rawPrefixes: ["/calico/ipam/v2/host/"])
    return Task { await feed.run(consumer.take) }
  }

  @Test("What exists comes first, then one in-sync, then each change; other kinds do not come")
  func following() async throws {
    try await store.create(set("a", "10.0.0.0/8"))
    try await store.ensureDefaults()
    try await put("/calico/ipam/v2/host/n/ipv4/block/10.65.0.0-26", "{}")
    let consumer = Consumer()
    let task = run(consumer)
    let first = try await consumer.wait { $0.inSyncs == 1 }
    #expect(first.objects.keys.map(\.name) == ["a"] && first.raw.count == 1)
    try await store.apply(set("a", "11.0.0.0/8"))
    try await store.create(set("b", "10.0.0.0/8"))
    try await store.delete(ResourceKey(.globalNetworkSet, name: "b"))
    _ = try await datastore.transact(if: [], then: [.delete("/calico/ipam/v2/host/n/ipv4/block/10.65.0.0-26")])
    let last = try await consumer.wait { $0.inSyncs == 1 && $0.raw.isEmpty }
    #expect(last.deliveries.map(\.name) == ["a", "a", "b", "b"])
    #expect(last.objects.keys.map(\.name) == ["a"] && last.inSyncs == 1 && last.problems.isEmpty)
    task.cancel()
    await task.value
  }

  @Test("After an outage with compaction the consumer has what the datastore has, and nothing unchanged came twice")
  func outage() async throws {
    for name in ["same", "changed", "deleted"] { try await store.create(set(name, "10.0.0.0/8")) }
    let consumer = Consumer()
    let task = run(consumer)
    _ = try await consumer.wait { $0.inSyncs == 1 }
    datastore.setOutage("cable cut")
    _ = try await consumer.wait { $0.problems.count == 1 }
    datastore.setOutage(nil)
    // The feed may come back between any two of these; the result is the same.
    try await store.apply(set("changed", "11.0.0.0/8"))
    try await store.delete(ResourceKey(.globalNetworkSet, name: "deleted"))
    let last = try await store.create(set("new", "10.0.0.0/8")).revision
    try await datastore.compact(upTo: last)
    let state = try await consumer.wait { $0.revision >= last }
    #expect(Set(state.objects.keys.map(\.name)) == ["same", "changed", "new"])
    #expect(state.deliveries.filter { $0.name == "same" }.count == 1)
    #expect(state.problems.count == 2 && state.problems[0]?.contains("cable cut") == true && state.problems[1] == nil)
    #expect(state.inSyncs == 1)
    task.cancel()
    await task.value
  }

  @Test("A datastore that is away at the start is waited for")
  func lateDatastore() async throws {
    datastore.setOutage("not started")
    let consumer = Consumer()
    let task = run(consumer)
    #expect(try await consumer.wait { !$0.problems.isEmpty }.inSyncs == 0)
    datastore.setOutage(nil)
    let state = try await consumer.wait { $0.inSyncs == 1 }
    #expect(state.problems.last == .some(nil))
    task.cancel()
    await task.value
  }

  @Test("A value that is no object is reported, and so is its repair")
  func unreadable() async throws {
    let key = ResourceKey(.globalNetworkSet, name: "a")
    try await put(key.path, "no JSON")
    let consumer = Consumer()
    let task = run(consumer)
    #expect(try await consumer.wait { $0.inSyncs == 1 }.unreadable == [key])
    try await put(key.path, #"{"metadata":{"name":"a"},"spec":{"nets":["10.0.0.0/8"]}}"#)
    #expect(try await consumer.wait { $0.unreadable.isEmpty }.objects[key] != nil)
    task.cancel()
    await task.value
  }

  @Test("Changes made while cuts and compactions go on all arrive")
  func turbulence() async throws {
    let consumer = Consumer()
    let task = run(consumer)
    for round in 0..<60 {
      try await store.apply(set("s\(round % 7)", "10.0.\(round).0/24"))
      if round % 5 == 0 { try await store.delete(ResourceKey(.globalNetworkSet, name: "s\(round % 7)")) }
      if round % 3 == 0 { try await datastore.compact(upTo: try await datastore.list(prefix: "/none").revision) }
      if round % 10 == 9 {
        datastore.setOutage("round \(round)")
        datastore.setOutage(nil)
      }
    }
    let (items, _, revision) = try await store.list(.globalNetworkSet)
    let state = try await consumer.wait { $0.revision >= revision }
    #expect(state.objects == Dictionary(uniqueKeysWithValues: items.map { ($0.resource.key, $0) }))
    task.cancel()
    await task.value
  }
}

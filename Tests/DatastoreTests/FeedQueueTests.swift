/// Between feed and consumer: what waits is bounded by the number of keys, and nothing that counts is lost.
import Datastore
import DatastoreMemory
import Resources
import Synchronization
import Testing

@Suite("FeedQueue", .timeLimit(.minutes(1)))
struct FeedQueueTests {
  private func describe(_ events: [FeedEvent]) -> [String] {
    events.map { event in
      switch event {
      case .resource(let key, let stored): "\(key.name)=\(stored.map { "\($0.revision)" } ?? "gone")"
      case .unreadable(let key, _): "\(key.name)=unreadable"
      case .raw(let key, let value): "\(key)=\(value.map { String(decoding: $0, as: UTF8.self) } ?? "gone")"
      case .inSync: "in sync"
      case .revision(let revision): "revision \(revision)"
      case .connection(let problem): "connection \(problem ?? "works")"
      }
    }
  }

  @Test("The last value of each key waits, deletions included, in the order in which the keys came; in-sync and the revision come behind")
  func coalesces() {
    let queue = FeedQueue { _ in }
    queue.put([.connection(problem: "away"), .raw(key: "/a", value: [0x31]), .raw(key: "/b", value: [0x31]), .revision(Revision(rawValue: 1))])
    queue.put([.inSync, .revision(Revision(rawValue: 2))])
    queue.put([.connection(problem: nil), .raw(key: "/a", value: nil), .raw(key: "/c", value: [0x33]), .revision(Revision(rawValue: 3))])
    queue.put([.raw(key: "/b", value: [0x32])])
    #expect(queue.depth == 3)
    #expect(describe(queue.take()) == ["connection works", "/a=gone", "/b=2", "/c=3", "in sync", "revision 3"])
    #expect(queue.take().isEmpty && queue.depth == 0 && queue.depthMost == 3)
  }

  @Test("It wakes once until it is emptied")
  func wakes() {
    let wakes = Mutex(0)
    let queue = FeedQueue { _ in wakes.withLock { $0 += 1 } }
    for _ in 0..<5 { queue.put([.raw(key: "/a", value: [])]) }
    #expect(wakes.withLock { $0 } == 1)
    _ = queue.take()
    queue.put([.inSync])
    #expect(wakes.withLock { $0 } == 2)
  }

  @Test("A consumer that sleeps through ten thousand changes of ten keys finds ten, and what is in the store")
  func slowConsumer() async throws {
    let datastore = MemoryDatastore()
    let prefix = "/calico/ipam/v2/host/h/"
    let queue = FeedQueue { _ in }
    let feed = ResourceFeed(datastore, kinds: [], rawPrefixes: [prefix])
    let running = Task { await feed.run(queue.put) }
    var last = Revision.zero
    for index in 0..<10_000 {
      let key = "\(prefix)\(index % 10)"
      let operation: DatastoreOperation = index % 3 == 2 ? .delete(key) : .put(key, Array("\(index)".utf8))
      if case .committed(let revision) = try await datastore.transact(if: [], then: [operation]) { last = revision }
    }
    while feed.meter.counts.position < last { await Task.yield() }
    #expect(queue.depthMost <= 10)
    var found: [String: [UInt8]] = [:]
    // The feed's place moves just before the queue is told.
    var told = Revision.zero
    while told < last {
      for event in queue.take() {
        if case .raw(let key, let value) = event { found[key] = value }
        if case .revision(let revision) = event { told = revision }
      }
      await Task.yield()
    }
    let present = try await datastore.list(prefix: prefix).items
    #expect(found == Dictionary(uniqueKeysWithValues: present.map { ($0.key, $0.value) }))
    running.cancel()
    await running.value
  }
}

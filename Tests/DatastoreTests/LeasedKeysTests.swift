/// Keys under a lease: written when they change, gone when nobody vouches for them, written anew when the lease was lost.
import Datastore
import DatastoreMemory
import Resources
import Testing

@Suite("Keys under a lease", .timeLimit(.minutes(1)))
struct LeasedKeysTests {
  private func eventually(_ what: String, _ condition: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(20)
    while try await !condition() {
      try #require(ContinuousClock.now < deadline, "\(what)")
      try await Task.sleep(for: .milliseconds(5))
    }
  }
  private func started(_ store: MemoryDatastore, ttl: Int = 90, delay: Duration = .zero) -> (LeasedKeys, Task<Void, Never>) {
    let keys = LeasedKeys(store, prefixes: [])
    keys.begin(.init(ttlSeconds: ttl, delay: delay), prefixes: ["/h/"])
    return (keys, Task.detached { await keys.run() })
  }

  @Test("Wishes are written, repeated wishes are not, and what nobody wants below the prefix is removed")
  func writing() async throws {
    let store = MemoryDatastore()
    _ = try await store.transact(if: [], then: [.put("/h/stale", [1]), .put("/other", [1])])
    let keys = LeasedKeys(store, prefixes: [])
    keys.want([1], for: "/h/a")
    keys.want([2], for: "/beside", isLeased: false)
    let task = Task.detached { await keys.run() }
    // Before it begins, nothing is touched.
    try await Task.sleep(for: .milliseconds(20))
    #expect(try await store.get("/h/stale") != nil)
    #expect(try await store.get("/h/a") == nil)
    keys.begin(.init(delay: .zero), prefixes: ["/h/"])
    try await eventually("written") { try await store.get("/h/a") != nil }
    #expect(try await store.get("/h/a")?.lease != nil)
    #expect(try await store.get("/beside")?.lease == .some(nil))
    #expect(try await store.get("/h/stale") == nil)
    #expect(try await store.get("/other") != nil)
    let revision = try await store.list(prefix: "/").revision
    for _ in 0..<10 { keys.want([1], for: "/h/a") }
    keys.want([3], for: "/h/b")
    try await eventually("the other") { try await store.get("/h/b") != nil }
    #expect(try await store.list(prefix: "/").revision.rawValue == revision.rawValue + 1)
    keys.want(nil, for: "/h/a")
    try await eventually("removed") { try await store.get("/h/a") == nil }
    #expect(keys.writes == 5)
    task.cancel()
  }

  @Test("The first change and the one on its heels are written at once; a key that changes on and on is written once per delay")
  func pace() async throws {
    let store = MemoryDatastore()
    let (keys, task) = started(store, delay: .milliseconds(400))
    let began = ContinuousClock.now
    keys.want([0], for: "/h/a")
    try await eventually("the first") { try await store.get("/h/a") != nil }
    keys.want([255], for: "/h/a")
    try await eventually("the second") { try await store.get("/h/a")?.value == [255] }
    // On a slow machine the time may have passed by itself.
    let isWithin = ContinuousClock.now - began < .milliseconds(400)
    for number in 1...200 {
      keys.want([UInt8(number)], for: "/h/a")
      await Task.yield()
    }
    try await eventually("the last") { try await store.get("/h/a")?.value == [200] }
    if isWithin {
      #expect(ContinuousClock.now - began >= .milliseconds(400))
      #expect(keys.writes <= 4)
    }
    task.cancel()
  }

  @Test("Without its keeper the keys vanish with the lease")
  func death() async throws {
    let store = MemoryDatastore()
    let (keys, task) = started(store, ttl: 1)
    keys.want([1], for: "/h/a")
    keys.want([1], for: "/h/last", isLeased: false)
    try await eventually("written") { try await store.get("/h/last") != nil }
    // Kept alive over more than its time.
    let until = ContinuousClock.now + .milliseconds(2500)
    while ContinuousClock.now < until {
      #expect(try await store.get("/h/a") != nil)
      try await Task.sleep(for: .milliseconds(50))
    }
    task.cancel()
    await task.value
    try await eventually("gone") { try await store.get("/h/a") == nil }
    #expect(try await store.get("/h/last") != nil)
  }

  @Test("An outage beyond the lease: everything is written anew under a new one, changes of meanwhile once")
  func outage() async throws {
    let store = MemoryDatastore()
    let (keys, task) = started(store, ttl: 1)
    for name in ["a", "b", "c"] { keys.want([1], for: "/h/\(name)") }
    try await eventually("written") { try await store.list(prefix: "/h/").items.count == 3 }
    let lease = try await store.get("/h/a")?.lease
    store.setOutage("cut")
    try await eventually("it is told") { keys.problem?.contains("cut") == true }
    for number in 2...50 { keys.want([UInt8(number)], for: "/h/a") }
    keys.want(nil, for: "/h/b")
    // The store comes back without the lease, as one does that was away for long.
    store.setOutage(nil)
    if let lease { try? await store.revoke(lease) }
    try await eventually("written anew") {
      let items = try await store.list(prefix: "/h/").items
      return items.map(\.key) == ["/h/a", "/h/c"] && items[0].value == [50] && items.allSatisfy { $0.lease != nil && $0.lease != lease }
    }
    try await eventually("no problem") { keys.problem == nil }
    task.cancel()
  }

  @Test("Another time to live moves the keys to another lease without a gap")
  func terms() async throws {
    let store = MemoryDatastore()
    // A key that rests moves as well: with the old lease it would vanish.
    let (keys, task) = started(store, ttl: 60, delay: .seconds(60))
    for value: UInt8 in [0, 1] {
      keys.want([value], for: "/h/a")
      try await eventually("written") { try await store.get("/h/a")?.value == [value] }
    }
    let item = try #require(try await store.get("/h/a"))
    let watch = store.watch(prefixes: ["/h/"], after: item.modRevision)
    keys.begin(.init(ttlSeconds: 30, delay: .seconds(60)), prefixes: ["/h/"])
    for try await batch in watch {
      guard case .put(let moved) = try #require(batch.events.first) else {
        Issue.record("the key was deleted in between")
        break
      }
      #expect(moved.lease != item.lease)
      break
    }
    try await eventually("the old lease is given up") {
      do throws(DatastoreError) {
        try await store.keepAlive(item.lease!)
        return false
      } catch { return error == .leaseNotFound }
    }
    #expect(try await store.get("/h/a") != nil)
    task.cancel()
  }

  @Test("Calico's paths: regions, escaped workloads, and back")
  func paths() {
    let keys = StatusKeys(region: nil, host: "h1")
    #expect(keys.status == "/calico/felix/v2/no-region/host/h1/status")
    #expect(StatusKeys(region: "north", host: "h1").lastReported == "/calico/felix/v2/region-north/host/h1/last_reported_status")
    let path = keys.endpoint(.init(.workloadEndpoint, namespace: "shop", name: "h1-k8s-web--1-eth0"))
    #expect(path == "/calico/felix/v2/no-region/host/h1/workload/k8s/shop%2fweb-1/endpoint/eth0")
    #expect(StatusKeys.Subject(path: path!) == .endpoint(host: "h1", orchestrator: "k8s", workload: "shop/web-1", endpoint: "eth0"))
    #expect(StatusKeys.Subject(path: keys.status) == .status(host: "h1"))
    #expect(StatusKeys.Subject(path: keys.status + "/x") == nil)
    #expect(keys.endpoint(.init(.workloadEndpoint, namespace: "shop", name: "nonsense")) == nil)
    #expect(StatusKeys.bgpHost(path: StatusKeys.bgp(host: "a/b")) == "a/b")
  }
}

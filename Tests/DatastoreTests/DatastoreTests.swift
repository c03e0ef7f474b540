/// The contract on every backend that needs no server.
import Datastore
import DatastoreContract
import DatastoreMemory
import Synchronization
import Testing

/// Time that passes when the test says so.
final class TestClock: Sendable {
  private let passed = Mutex(Duration.zero)
  var now: Duration { passed.withLock { $0 } }
  func step(seconds: Int) { passed.withLock { $0 += .seconds(seconds) } }
}

@Suite("Datastore contract: memory")
struct MemoryContractTests {
  @Test("The contract holds", arguments: DatastoreContract.claims)
  func contract(claim: ContractClaim) async throws {
    try await claim.check {
      let clock = TestClock()
      let store = MemoryDatastore(now: { clock.now })
      return StoreUnderTest(
        first: store, second: store, compact: { try await store.compact(upTo: $0) },
        elapse: {
          clock.step(seconds: $0)
          await store.expireLeases()
        })
    }
  }

  @Test("With the clock of the machine a lease ends by itself")
  func leaseOfMachineTime() async throws {
    let store = MemoryDatastore()
    let lease = try await store.grantLease(seconds: 1)
    guard case .committed(let revision) = try await store.transact(if: [], then: [.put("/l", [], lease: lease)]) else {
      Issue.record("a put without comparisons conflicts")
      return
    }
    var events: [WatchEvent] = []
    for try await batch in store.watch(prefixes: ["/l"], after: revision) {
      events = batch.events
      break
    }
    #expect(events == [.delete(key: "/l", at: Revision(rawValue: revision.rawValue + 1))])
  }

  @Test("A watcher further back than the history is told that it is compacted")
  func boundedHistory() async throws {
    let store = MemoryDatastore(historyMax: 10)
    for index in 0..<100 { _ = try await store.transact(if: [], then: [.put("/h", [UInt8(index)])]) }
    await #expect(throws: DatastoreError.compacted) {
      for try await _ in store.watch(prefixes: ["/h"], after: Revision(rawValue: 1)) { break }
    }
  }

  @Test("A fault reaches calls and waiting watchers, and ends when it is lifted")
  func faults() async throws {
    let store = MemoryDatastore()
    let watching = Task {
      for try await _ in store.watch(prefixes: ["/f"], after: .zero) {}
    }
    store.setOutage("cut")
    await #expect(throws: DatastoreError.unavailable("cut")) { _ = try await store.get("/f") }
    let outcome = await watching.result
    #expect(throws: DatastoreError.unavailable("cut")) { try outcome.get() }
    store.setOutage(nil)
    #expect(try await store.get("/f") == nil)
  }
}

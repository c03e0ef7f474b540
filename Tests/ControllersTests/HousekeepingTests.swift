/// Elected tasks: who runs them, how often, and what becomes of failures; and the first of them.
import Datastore
import DatastoreMemory
import JSON
import Logging
import Resources
import Synchronization
import Testing

@testable import ControllersProgram

@Suite("Housekeeping", .timeLimit(.minutes(1)))
struct HousekeepingTests {
  private let datastore = MemoryDatastore()

  private func run(_ name: String, _ tasks: [ElectedTask]) -> (house: Housekeeping, task: Task<Void, Never>) {
    let house = Housekeeping(
      datastore, candidate: name, tasks: tasks, terms: Election.Terms(ttlSeconds: 3), log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    let feed = ResourceFeed(datastore, kinds: [.kubeControllersConfiguration])
    let task = Task {
      async let following: Void = feed.run { events in _ = house.take(events) }
      await house.run()
      await following
    }
    return (house, task)
  }

  @Test("Of two processes one runs the tasks; after its end the other does, and each run's writes carry the fence of its term")
  func oneWorks() async throws {
    let (runs, continuation) = AsyncStream<String>.makeStream()
    let task = ElectedTask(name: "count", purpose: "", period: { _ in .milliseconds(1) }) { context in
      let result = try await context.datastore.transact(if: [context.term.fence], then: [.put("/n", Array(context.candidate.utf8))])
      guard case .committed = result else { throw ElectedTaskProblem("fenced off") }
      continuation.yield(context.candidate)
      return "counted"
    }
    let houses = [run("a", [task]), run("b", [task])]
    var iterator = runs.makeAsyncIterator()
    let first = await iterator.next()
    for _ in 0..<20 { #expect(await iterator.next() == first) }
    let (leader, other) = first == "a" ? (houses[0], houses[1]) : (houses[1], houses[0])
    #expect(leader.house.state.standing == .leading)
    leader.task.cancel()
    await leader.task.value
    var next = await iterator.next()
    while next == first { next = await iterator.next() }
    #expect(next == (first == "a" ? "b" : "a"))
    let metrics = other.house.state.metrics(tasks: [task])
    #expect(metrics.contains("margay_controllers_leader 1\n"))
    #expect(leader.house.state.records["count"].map { $0.done > 20 && $0.failed == 0 } == true)
    other.task.cancel()
    await other.task.value
  }

  @Test("A task that fails is told with its reason, tried again, and forgiven when it works")
  func failures() async throws {
    let failing = Mutex(true)
    let (runs, continuation) = AsyncStream<Void>.makeStream()
    let task = ElectedTask(name: "hard", purpose: "", period: { _ in .milliseconds(10) }) { _ in
      defer { continuation.yield() }
      if failing.withLock({ $0 }) { throw ElectedTaskProblem("the disk of m1 is full") }
      return nil
    }
    let (house, running) = run("a", [task])
    var iterator = runs.makeAsyncIterator()
    for _ in 0..<3 { await iterator.next() }
    #expect(house.state.problems == ["hard: the disk of m1 is full"])
    #expect(house.state.health().isGood)
    failing.withLock { $0 = false }
    while !house.state.problems.isEmpty { await iterator.next() }
    #expect(house.state.records["hard"].map { $0.failed >= 2 && $0.idle >= 1 } == true)
    running.cancel()
    await running.value
  }

  @Test("Settings take effect in place: a period of 0 switches the task off, another one switches it on")
  func settings() async throws {
    let key = ResourceKey(.kubeControllersConfiguration, name: "default")
    let (runs, continuation) = AsyncStream<Duration?>.makeStream()
    let task = ElectedTask(name: "periodic", purpose: "", period: { $0.compactionPeriod }) { context in
      continuation.yield(context.settings.compactionPeriod)
      return nil
    }
    func write(_ period: String) async throws {
      let document: JSONValue = [
        "apiVersion": "projectcalico.org/v3", "kind": "KubeControllersConfiguration", "metadata": ["name": "default"],
        "spec": ["etcdV3CompactionPeriod": .string(period)],
      ]
      _ = try await datastore.transact(if: [], then: [.put(key.path, document.bytes)])
    }
    try await write("0")
    let (house, running) = run("a", [task])
    var iterator = runs.makeAsyncIterator()
    try await write("7ms")
    #expect(await iterator.next() == .milliseconds(7))
    #expect(house.state.standing == .leading)
    try await write("5ms")
    while await iterator.next() != .milliseconds(5) {}
    running.cancel()
    await running.value
  }

  @Test("What is no setting is told, and the usual value holds")
  func nonsense() {
    func settings(_ spec: JSONValue) -> ControllersSettings {
      ControllersSettings([
        "apiVersion": "projectcalico.org/v3", "kind": "KubeControllersConfiguration", "metadata": ["name": "default"], "spec": spec,
      ])
    }
    let nonsense = settings(["etcdV3CompactionPeriod": "soon", "prometheusMetricsPort": 70000, "healthChecks": "Disabled"])
    #expect(nonsense.compactionPeriod == .seconds(600) && nonsense.port == 9094 && !nonsense.servesHealth)
    #expect(nonsense.problems.count == 2 && nonsense.problems[0].contains("soon") && nonsense.problems[1].contains("70000"))
    #expect(settings(["etcdV3CompactionPeriod": "1h30m"]).compactionPeriod == .seconds(5400))
    #expect(settings(["etcdV3CompactionPeriod": "0"]).compactionPeriod == nil)
    #expect(settings(["prometheusMetricsPort": 0]).plan([:]).places.isEmpty)
  }
}

@Suite("Compaction of history")
struct HistoryCompactionTests {
  private let datastore = MemoryDatastore()

  /// A term, and what a look at history does in it.
  private func look(_ candidate: String = "a") async throws -> String? {
    let (answers, continuation) = AsyncStream<Result<String?, any Error>>.makeStream()
    let election = Election(datastore, name: "test", candidate: candidate)
    let leading = Task {
      await election.run({ _ in }) { [datastore] term in
        let context = ElectedTask.Context(
          datastore: datastore, term: term, settings: ControllersSettings(), candidate: candidate, log: Logger(label: "test"))
        do {
          continuation.yield(.success(try await HistoryCompaction(context).run()))
        } catch {
          continuation.yield(.failure(error))
        }
        for await _ in AsyncStream<Void>.makeStream().stream {}
      }
    }
    var iterator = answers.makeAsyncIterator()
    let answer = await iterator.next()
    leading.cancel()
    await leading.value
    return try answer?.get()
  }
  private func write(_ count: Int) async throws {
    for index in 0..<count { _ = try await datastore.transact(if: [], then: [.put("/x", Array("\(index)".utf8))]) }
  }
  private func last() async throws -> (value: String, at: Revision)? {
    try await datastore.get(HistoryCompaction.lastKey).map { (String(decoding: $0.value, as: UTF8.self), $0.modRevision) }
  }
  private func endTrigger() async throws {
    let lease = try await datastore.get(HistoryCompaction.triggerKey)?.lease
    try await datastore.revoke(try #require(lease, "the trigger stands under a lease"))
  }

  @Test("At the first look nothing is known of the past; at the next, what was the present then is forgotten, the newest thousand kept")
  func turns() async throws {
    try await write(300)
    #expect(try await look() == nil)
    let first = try #require(try await last())
    #expect(first.value == "0")
    try await write(2000)
    #expect(try await look() == nil, "the trigger stands: somebody has looked within the period")
    #expect(try await last()?.at == first.at)
    try await endTrigger()
    #expect(try await look()?.contains("\(first.at)") == true)
    #expect(try await last()?.value == "\(first.at)")
    await #expect(throws: DatastoreError.compacted) {
      for try await _ in datastore.watch(prefixes: ["/x"], after: Revision(rawValue: first.at.rawValue - 1)) { break }
    }
    for try await batch in datastore.watch(prefixes: ["/x"], after: first.at) {
      #expect(!batch.events.isEmpty)
      break
    }
    // The last look was a moment ago; of what came before it, the newest thousand revisions stay.
    try await endTrigger()
    let revision = try await datastore.list(prefix: "/none").revision.rawValue
    _ = try await look()
    let word = try #require(try await last()).value
    let kept = try #require(Int64(word))
    #expect((revision - 1000...revision - 990).contains(kept))
    // Nothing has happened since: nothing is cut, and the look is noted.
    try await endTrigger()
    let noted = try #require(try await last()).at
    _ = try await look()
    #expect(try await last().map { $0.at > noted && Int64($0.value)! <= kept + 20 } == true)
  }

  @Test("The keys are those of Calico's driver for OpenStack: its trigger is respected, its last cut gone on from")
  func sharesWithDriver() async throws {
    let lease = try await datastore.grantLease(seconds: 3600)
    _ = try await datastore.transact(
      if: [], then: [.put(HistoryCompaction.triggerKey, Array("23188".utf8), lease: lease), .put(HistoryCompaction.lastKey, Array("0".utf8))])
    let noted = try #require(try await last()).at
    try await write(1500)
    #expect(try await look() == nil)
    try await datastore.revoke(lease)
    #expect(try await look()?.contains("revision \(noted);") == true)
  }
}

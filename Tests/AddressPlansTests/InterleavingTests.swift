/// Every order in which two or three actors may take their steps on the datastore, each stopped anywhere, up to a bound: no address twice,
/// counts right, nothing lost after repair. One of the actors may be Calico, which writes handle, affinity and block one after another.
///
/// An actor stops at the gate before each call to the datastore; only the one that the explorer lets pass runs. A run is a list of choices;
/// the explorer repeats it with every other choice at its end. Two runs that lead to the same store, and in which every actor has heard the
/// same, go on alike: only one of them is followed.
import Addresses
import Datastore
import DatastoreMemory
import Glibc
import JSON
import Names
import Resources
import Synchronization
import Testing

@testable import AddressAssignment
@testable import AddressPlans

/// The datastore as one actor sees it: each call waits for its turn, and after a crash there is none.
final class GatedDatastore: Datastore {
  struct State {
    var waiting: CheckedContinuation<Bool, Never>?
    var isCrashed = false
    var isDone = false
    /// Everything that this actor was told: what it will do next is a function of it.
    var heard = Hasher()
    var steps = 0
  }
  let base: MemoryDatastore
  let state = Mutex(State())
  private let scheduler: Scheduler
  init(_ base: MemoryDatastore, _ scheduler: Scheduler) { (self.base, self.scheduler) = (base, scheduler) }
  var name: String { "gated" }

  /// What no actor writes is read without a turn: it is the same whenever it is read.
  private func pass(_ key: String) async throws(DatastoreError) {
    guard key.hasPrefix("/calico/ipam/v2/"), key != AddressKeys.configuration else {
      if state.withLock({ $0.isCrashed }) { throw .unavailable("crashed") }
      return
    }
    if state.withLock({ $0.isCrashed }) { throw .unavailable("crashed") }
    let isGranted = await withCheckedContinuation { continuation in
      state.withLock { $0.waiting = continuation }
      scheduler.parked()
    }
    if !isGranted { throw .unavailable("crashed") }
  }
  private func hear<Value: Hashable>(_ value: Value) -> Value {
    state.withLock {
      $0.heard.combine(value)
      $0.steps += 1
    }
    return value
  }
  func get(_ key: String) async throws(DatastoreError) -> KeyValue? {
    try await pass(key)
    return hear(try await base.get(key))
  }
  func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    try await pass(prefix)
    let answer = try await base.list(prefix: prefix)
    _ = hear(answer.items)
    return answer
  }
  func transact(if comparisons: [Comparison], then operations: [DatastoreOperation]) async throws(DatastoreError) -> TransactionResult {
    try await pass(operations.first?.key ?? comparisons[0].key)
    return hear(try await base.transact(if: comparisons, then: operations))
  }
  func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    base.watch(prefixes: prefixes, after: revision)
  }
  func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID { try await base.grantLease(seconds: seconds) }
  func keepAlive(_ lease: LeaseID) async throws(DatastoreError) { try await base.keepAlive(lease) }
  func revoke(_ lease: LeaseID) async throws(DatastoreError) { try await base.revoke(lease) }
  func compact(upTo revision: Revision) async throws(DatastoreError) {}
  func close() async {}
}

/// Wakes the explorer when the actor that ran has come to its next gate, or to its end.
final class Scheduler: Sendable {
  private let state = Mutex<(pending: Int, waiter: CheckedContinuation<Void, Never>?)>((0, nil))
  func started(_ count: Int) { state.withLock { $0.pending += count } }
  func parked() {
    let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
      state.pending -= 1
      guard state.pending == 0 else { return nil }
      defer { state.waiter = nil }
      return state.waiter
    }
    waiter?.resume()
  }
  func quiet() async {
    await withCheckedContinuation { continuation in
      let isQuiet = state.withLock { state -> Bool in
        if state.pending > 0 { state.waiter = continuation }
        return state.pending == 0
      }
      if isQuiet { continuation.resume() }
    }
  }
}

/// What the actors hold, as they themselves believe: an address is theirs from the moment they are told until they begin to give it back.
final class Beliefs: Sendable {
  private let held = Mutex<[IPAddress: String]>([:])
  private let faults = Mutex<[String]>([])
  func got(_ address: IPAddress, _ handle: String) {
    let other = held.withLock { held in
      defer { held[address] = handle }
      return held[address]
    }
    if let other, other != handle { faults.withLock { $0.append("\(address) is given to \(handle) while \(other) has it") } }
  }
  func gives(_ address: IPAddress) { held.withLock { $0[address] = nil } }
  var all: [IPAddress: String] { held.withLock { $0 } }
  var problems: [String] { faults.withLock { $0 } }
}

struct Actor: Sendable {
  var name: String
  var crashes = true
  var run: @Sendable (any Datastore, Beliefs) async throws -> Void
}

struct Explorer {
  enum Choice: Hashable { case step(Int), crash(Int) }
  struct Outcome {
    var runs = 0
    var states = 0
    var crashes = 0
    var isComplete = true
  }
  var prepare: @Sendable (any Datastore) async throws -> Void
  var actors: [Actor]
  /// At most so many crashes in one run.
  var crashesMax = 1
  var runsMax = 60_000
  /// What must hold at the end, on the plain store.
  var check: @Sendable (MemoryDatastore, Beliefs, [Choice]) async throws -> Void

  func explore() async throws -> Outcome {
    var outcome = Outcome()
    var visited: Set<Int> = []
    var todo: [[Choice]] = [[]]
    // In an order that is the same each time and takes from everywhere, so that a bound leaves out as much of the beginning as of the end.
    var seed = UInt64(1)
    while !todo.isEmpty {
      seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      todo.swapAt(Int((seed >> 33) % UInt64(todo.count)), todo.count - 1)
      let prefix = todo.removeLast()
      guard outcome.runs < runsMax else {
        outcome.isComplete = false
        break
      }
      outcome.runs += 1
      try await run(prefix, &visited, &todo, &outcome)
    }
    outcome.states = visited.count
    return outcome
  }

  /// Follows `prefix`, then goes on with the first choice each time, and puts the others on the list.
  private func run(_ prefix: [Choice], _ visited: inout Set<Int>, _ todo: inout [[Choice]], _ outcome: inout Outcome) async throws {
    let base = MemoryDatastore()
    try await prepare(base)
    let (scheduler, beliefs) = (Scheduler(), Beliefs())
    let gates = actors.map { _ in GatedDatastore(base, scheduler) }
    scheduler.started(actors.count)
    let tasks = zip(actors, gates).map { actor, gate in
      Task {
        try? await actor.run(gate, beliefs)
        gate.state.withLock { $0.isDone = true }
        scheduler.parked()
      }
    }
    await scheduler.quiet()
    var path: [Choice] = []
    var isPruned = false
    while true {
      let ready = gates.indices.filter { index in gates[index].state.withLock { $0.waiting != nil } }
      if ready.isEmpty { break }
      let choice: Choice
      if path.count < prefix.count {
        choice = prefix[path.count]
      } else {
        if !isPruned, !visited.insert(try await fingerprint(base, gates, path, beliefs)).inserted { isPruned = true }
        let crashed = path.count { if case .crash = $0 { true } else { false } }
        var choices = ready.map { Choice.step($0) }
        if crashed < crashesMax { choices += ready.filter { actors[$0].crashes && gates[$0].state.withLock { $0.steps > 0 } }.map { .crash($0) } }
        choice = choices[0]
        if !isPruned { for other in choices.dropFirst() { todo.append(path + [other]) } }
      }
      path.append(choice)
      switch choice {
      case .step(let index): grant(gates[index], true, scheduler)
      case .crash(let index):
        gates[index].state.withLock { $0.isCrashed = true }
        grant(gates[index], false, scheduler)
      }
      await scheduler.quiet()
    }
    for task in tasks { await task.value }
    if isPruned { return }
    if path.contains(where: { if case .crash = $0 { true } else { false } }) { outcome.crashes += 1 }
    try await check(base, beliefs, path)
  }

  private func grant(_ gate: GatedDatastore, _ isGranted: Bool, _ scheduler: Scheduler) {
    scheduler.started(1)
    let waiting = gate.state.withLock { state in
      defer { state.waiting = nil }
      return state.waiting
    }
    waiting?.resume(returning: isGranted)
  }

  private func fingerprint(_ base: MemoryDatastore, _ gates: [GatedDatastore], _ path: [Choice], _ beliefs: Beliefs) async throws -> Int {
    var hasher = Hasher()
    hasher.combine(try await base.list(prefix: "/").items)
    for gate in gates {
      gate.state.withLock { state in
        hasher.combine(state.heard.finalize())
        hasher.combine(state.isDone)
        hasher.combine(state.isCrashed)
      }
    }
    hasher.combine(beliefs.all)
    return hasher.finalize()
  }
}

/// Calico's writer: the handle is counted first, then the affinity stands as pending, the block is made or changed, and the affinity is
/// confirmed. When the block was changed meanwhile, the count is taken back and it begins again.
struct CalicoWriter {
  let datastore: any Datastore
  let node: String
  let pool: IPPrefix
  let now: UTCTime

  private func change(_ key: String, _ body: (JSONValue?) -> JSONValue?) async throws {
    for _ in 0..<20 {
      let item = try await datastore.get(key)
      let before = try item.map { try JSONValue(parsing: $0.value) }
      let comparison = item.map { Comparison.modRevision(key, equals: $0.modRevision) } ?? .absent(key)
      let after = body(before)
      let operation: DatastoreOperation? = after.map { .put(key, $0.bytes) } ?? (item == nil ? nil : .delete(key))
      guard let operation else { return }
      if case .committed = try await datastore.transact(if: [comparison], then: [operation]) { return }
    }
  }
  private func count(_ handle: String, _ cidr: IPPrefix, _ by: Int64) async throws {
    try await change(AddressKeys.handle(handle)) { document in
      var document = document ?? ["block": [:], "deleted": false]
      let count = (document["block"]?[cidr.description]?.integer ?? 0) + by
      document["block"]?[cidr.description] = count > 0 ? .integer(count) : nil
      return document["block"]?.object?.isEmpty == true ? nil : document
    }
  }

  func assign(_ handle: String, _ attributes: [String: String]) async throws -> IPAddress? {
    let affinityKey = AddressKeys.affinity(node: node, pool)
    let blockKey = AddressKeys.block(pool)
    for _ in 0..<4 {
      if try await datastore.get(affinityKey) == nil {
        let pending = Array(#"{"state":"pending","deleted":false}"#.utf8)
        _ = try await datastore.transact(if: [.absent(affinityKey)], then: [.put(affinityKey, pending)])
      }
      if try await datastore.get(blockKey) == nil {
        let block = AllocationBlock(
          cidr: pool, affinity: "host:\(node)", claimTime: now.text, sequenceNumber: UInt64(now.unixSeconds) * 1_000_000_000)
        _ = try await datastore.transact(if: [.absent(blockKey)], then: [.put(blockKey, block.json().bytes)])
      }
      guard let item = try await datastore.get(blockKey) else { continue }
      var block = try AllocationBlock(parsing: JSONValue(parsing: item.value))
      if block.affinity == "host:\(node)" {
        try await change(affinityKey) { $0.map { _ in ["state": "confirmed", "deleted": false] } }
      } else {
        try await change(affinityKey) { _ in nil }
      }
      let given = block.allocate(1, for: .init(handleID: handle, secondary: attributes))
      guard let address = given.first else { return nil }
      try await count(handle, pool, 1)
      if case .committed = try await datastore.transact(
        if: [.modRevision(blockKey, equals: item.modRevision)], then: [.put(blockKey, block.json().bytes)]) { return address }
      try await count(handle, pool, -1)
    }
    return nil
  }

  func release(_ address: IPAddress, _ handle: String) async throws {
    var isDone = false
    for _ in 0..<20 where !isDone {
      guard let item = try await datastore.get(AddressKeys.block(pool)) else { return }
      var block = try AllocationBlock(parsing: JSONValue(parsing: item.value))
      guard !block.release([address], handle: handle).isEmpty else { return }
      if case .committed = try await datastore.transact(
        if: [.modRevision(item.key, equals: item.modRevision)], then: [.put(item.key, block.json().bytes)]) { isDone = true }
    }
    try await count(handle, pool, -1)
  }
}

@Suite("Every interleaving of the steps of assignment")
struct InterleavingTests {
  static let pool = IPPrefix("10.65.0.0/30")!
  static let start = UTCTime(unixSeconds: 1_800_000_000)

  private static func attributes(_ node: String, _ pod: String) -> [String: String] { ["node": node, "namespace": "shop", "pod": pod] }

  @Sendable private static func prepare(_ datastore: any Datastore) async throws {
    let store = ResourceStore(datastore)
    _ = try await store.create(Resource(Metadata(name: "pool"), .ipPool(IPPoolSpec(cidr: pool, blockSize: 30))))
    for node in ["a", "b"] { _ = try await store.create(Resource(Metadata(name: node), .node(NodeSpec()))) }
  }
  private static func book(_ datastore: any Datastore, _ node: String) -> AddressBook {
    AddressBook(datastore: datastore, owner: .host(node), now: { start })
  }
  /// Assigns, and gives back if `gives`.
  private static func ours(_ node: String, _ handle: String, gives: Bool, crashes: Bool = true) -> Actor {
    Actor(name: "ours on \(node)", crashes: crashes) { datastore, beliefs in
      let address = try await book(datastore, node).assign(.v4, handle: handle, attributes: attributes(node, handle))
      beliefs.got(address, handle)
      guard gives else { return }
      beliefs.gives(address)
      try await book(datastore, node).release(handle: handle)
    }
  }
  private static func calicos(_ node: String, _ handle: String, gives: Bool) -> Actor {
    Actor(name: "Calico on \(node)") { datastore, beliefs in
      let writer = CalicoWriter(datastore: datastore, node: node, pool: pool, now: start)
      guard let address = try await writer.assign(handle, attributes(node, handle)) else { return }
      beliefs.got(address, handle)
      guard gives else { return }
      beliefs.gives(address)
      try await writer.release(address, handle)
    }
  }
  /// A repairer that looks twice in the middle of it all, so many seconds apart.
  private static func repairer(_ seconds: Int64) -> Actor {
    Actor(name: "repairer", crashes: false) { datastore, _ in
      let clock = StandingClock()
      var repairer = AddressRepairer(datastore, now: { clock.now })
      for _ in 0..<2 {
        _ = try await repairer.look()
        clock.advance(seconds)
      }
    }
  }

  /// After all is over: each address believed held is held by that handle, and after two looks of repair nothing else is, every count is
  /// right and every free address can be had.
  @Sendable private static func check(_ datastore: MemoryDatastore, _ beliefs: Beliefs, _ path: [Explorer.Choice]) async throws {
    #expect(beliefs.problems == [], "\(path)")
    // What is held is in use: the record says so.
    for (address, handle) in beliefs.all {
      var endpoint = JSONValue.object(JSONObject())
      endpoint["metadata"] = ["name": .string("a-k8s-\(handle)-eth0"), "namespace": "shop"]
      endpoint["spec"] = ["ipNetworks": .array([.string("\(address)/32")])]
      let key = ResourceKey(.workloadEndpoint, namespace: "shop", name: "a-k8s-\(handle)-eth0").path
      _ = try await datastore.transact(if: [], then: [.put(key, endpoint.bytes)])
    }
    let clock = StandingClock()
    var repairer = AddressRepairer(datastore, now: { clock.now })
    for _ in 0..<3 {
      let report = try await repairer.look()
      #expect(report.failed.isEmpty, "\(path): \(report.failed)")
      clock.advance(1000)
    }
    let held = try await audit(datastore)
    #expect(held == Dictionary(grouping: beliefs.all.keys, by: { beliefs.all[$0]! }).mapValues { $0.sorted() }, "\(path)")
    let findings = AddressFindings(try await AddressCensus.read(datastore))
    #expect(findings.problemCount == 0, "\(path): \(findings)")
    let rest = try await book(datastore, "b").autoAssign(v4: 4, handle: "rest").v4.count
    #expect(rest == 4 - beliefs.all.count, "\(path): \(rest) of \(4 - beliefs.all.count) left")
  }

  static let casts: [(String, [Actor])] = [
    ("two nodes, both keep", [ours("a", "h1", gives: false), ours("b", "h2", gives: false)]),
    ("one node, one gives back", [ours("a", "h1", gives: true), ours("a", "h2", gives: false)]),
    ("two attachments of one handle", [ours("a", "h1", gives: false), ours("b", "h1", gives: false)]),
    ("ours and Calico", [ours("a", "h1", gives: true), calicos("b", "h2", gives: false)]),
    ("ours and Calico on one node", [ours("a", "h1", gives: false), calicos("a", "h2", gives: true)]),
    ("ours and the repairer", [ours("a", "h1", gives: true), repairer(1)]),
    ("Calico and the repairer", [calicos("a", "h1", gives: false), repairer(1)]),
  ]

  @Test("No address twice, counts right, nothing lost after repair; with a crash between any two steps", arguments: casts.indices)
  func interleavings(index: Int) async throws {
    let (name, actors) = Self.casts[index]
    let isLong = Environment.isLong
    let explorer = Explorer(
      prepare: Self.prepare, actors: actors, crashesMax: isLong ? 2 : 1, runsMax: isLong ? 200_000 : 300, check: Self.check)
    let outcome = try await explorer.explore()
    print("interleavings, \(name): \(outcome.runs) runs, \(outcome.states) states, \(outcome.crashes) ends after a crash"
      + (outcome.isComplete ? ", all of them" : ", the bound was reached"))
    #expect(outcome.runs > 50 && outcome.crashes > 0)
  }

  @Test("A leak whose grace period is over, its late DEL, the next holder of the address, and the repairer: what was given anew is not released")
  func leakGivenAnew() async throws {
    let single = IPPrefix("10.65.0.0/32")!
    let leak = Actor(name: "leak", crashes: false) { datastore, _ in
      try await Self.book(datastore, "a").release(handle: "lost")
    }
    // Without a namespace nobody looks for its user: whoever releases it takes it from a holder.
    let next = Actor(name: "next", crashes: false) { datastore, beliefs in
      for _ in 0..<2 {
        guard let address = try await Self.book(datastore, "a").autoAssign(v4: 1, handle: "lost").v4.first else { continue }
        beliefs.got(address, "lost")
        return
      }
    }
    let explorer = Explorer(
      prepare: { datastore in
        let pool = Resource(Metadata(name: "pool"), .ipPool(IPPoolSpec(cidr: single, blockSize: 32)))
        _ = try await ResourceStore(datastore).create(pool)
        _ = try await ResourceStore(datastore).create(Resource(Metadata(name: "a"), .node(NodeSpec())))
        _ = try await Self.book(datastore, "a").assign(.v4, handle: "lost", attributes: Self.attributes("a", "lost"))
      },
      actors: [leak, next, Self.repairer(1000)], runsMax: Environment.isLong ? 100_000 : 300,
      check: { datastore, beliefs, path in
        let held = try await audit(datastore)
        for (address, handle) in beliefs.all { #expect(held[handle]?.contains(address) == true, "\(path)") }
      })
    let outcome = try await explorer.explore()
    print("interleavings, a leak given anew: \(outcome.runs) runs, \(outcome.states) states, complete: \(outcome.isComplete)")
    #expect(outcome.runs > 50)
  }

  @Test("Three actors, one of them Calico")
  func three() async throws {
    let explorer = Explorer(
      prepare: Self.prepare, actors: [Self.ours("a", "h1", gives: true), Self.ours("b", "h2", gives: false), Self.calicos("b", "h3", gives: false)],
      runsMax: Environment.isLong ? 100_000 : 300, check: Self.check)
    let outcome = try await explorer.explore()
    print("interleavings, three: \(outcome.runs) runs, \(outcome.states) states, \(outcome.crashes) ends after a crash, complete: \(outcome.isComplete)")
    #expect(outcome.runs > 50)
  }
}

enum Environment {
  /// Set by `make test-long`: bounds that take minutes.
  static var isLong: Bool { getenv("MARGAY_LONG_TESTS") != nil }
}

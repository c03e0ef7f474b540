/// Elections: one leader, and none that goes on when another has begun.
import Datastore
import Synchronization

extension DatastoreContract {
  /// Long enough for a loaded machine to renew in time.
  private static let terms = Election.Terms(ttlSeconds: 3)

  static let electionClaims: [ContractClaim] = [
    ContractClaim("Of many candidates one leads, and when it resigns another one begins after it has stopped") { store in
      let record = LeaderRecord()
      let candidates = (0..<6).map { index in
        (name: "c\(index)", task: lead("c\(index)", index % 2 == 0 ? store.first : store.second, record))
      }
      for round in 1...6 {
        let leader = try await record.wait("leader \(round)") { $0.begun.count == round ? $0.begun.last : nil }
        let present = try await store.first.get(Election.root + "test")
        try expectEqual(present.flatMap { Election.holder(of: $0).name }, leader, "who the key names")
        candidates.first { $0.name == leader }?.task.cancel()
        await candidates.first { $0.name == leader }?.task.value
      }
      try expectEqual(Set(record.state.begun).count, 6, "each has led once")
      try expectEqual(record.state.togetherMost, 1, "leaders at once")
      try expectEqual(try await store.first.keys(prefix: Election.root), [], "keys after the last has resigned")
    },
    ContractClaim("A leader whose key is taken away stops, and from that moment the fence refuses what it writes") { store in
      let record = LeaderRecord()
      let one = lead("one", store.first, record)
      let term = try await record.wait("the first term") { $0.terms.first }
      try await store.first.commit([.put("/work", octets("1"))], if: [term.fence])
      let key = Election.root + "test"
      // Another one's lease, as after an administrator's intervention.
      try await store.second.commit([.put(key, octets("{}"), lease: try await store.second.grantLease(seconds: 600))])
      let result = try await store.first.transact(if: [term.fence], then: [.put("/work", octets("2"))])
      guard case .conflict = result else { throw ContractBroken("a write of a term that is over was let through") }
      _ = try await record.wait("the end of the term") { $0.ended.isEmpty ? nil : true }
      try expectEqual(try await store.second.get("/work")?.value, octets("1"), "what stands")
      try expectEqual(record.state.begun, ["one"], "leaders")
      one.cancel()
      await one.value
    },
    ContractClaim("A leader that is cut off stops before its lease ends, and nobody begins before that") { store in
      let record = LeaderRecord()
      let cut = CutStore(store.first)
      let one = lead("one", cut, record)
      let term = try await record.wait("the first term") { $0.terms.first }
      let two = lead("two", store.second, record)
      cut.isCut.withLock { $0 = true }
      _ = try await record.wait("the end of the first term") { $0.ended.first }
      try expect(!term.isHeld, "the term is over by its holder's clock")
      try expectEqual(record.state.begun, ["one"], "leaders when the first has stopped")
      try await store.elapse(terms.ttlSeconds + 2)
      _ = try await record.wait("the second term") { $0.begun.count == 2 ? true : nil }
      try expectEqual(record.state.begun, ["one", "two"], "leaders")
      try expectEqual(record.state.togetherMost, 1, "leaders at once")
      for task in [one, two] {
        task.cancel()
        await task.value
      }
    },
    ContractClaim("A key of a leader that stands without a lease is taken over") { store in
      try await store.first.put(Election.root + "test", #"{"holder": "gone"}"#)
      let record = LeaderRecord()
      let one = lead("one", store.second, record)
      _ = try await record.wait("the first term") { $0.begun.first }
      one.cancel()
      await one.value
    },
  ]

  private static func lead(_ name: String, _ datastore: any Datastore, _ record: LeaderRecord) -> Task<Void, Never> {
    let election = Election(datastore, name: "test", candidate: name, terms: terms)
    return Task {
      await election.run({ _ in }) { term in
        record.begin(name, term)
        // Returns when the term ends: nobody else finishes this stream.
        for await _ in AsyncStream<Void>.makeStream().stream {}
        record.end(name)
      }
    }
  }
}

/// Who led, as the leaders themselves saw it.
private final class LeaderRecord: Sendable {
  struct State {
    var begun: [String] = []
    var ended: [String] = []
    var terms: [LeaderTerm] = []
    var togetherMost = 0
  }
  private let guarded = Mutex(State())
  private let gate = RevisionGate(at: .zero)
  var state: State { guarded.withLock { $0 } }

  func begin(_ name: String, _ term: LeaderTerm) {
    guarded.withLock {
      $0.begun.append(name)
      $0.terms.append(term)
      $0.togetherMost = max($0.togetherMost, $0.begun.count - $0.ended.count)
    }
    gate.stir()
  }
  func end(_ name: String) {
    guarded.withLock { $0.ended.append(name) }
    gate.stir()
  }
  func wait<Value: Sendable>(_ what: String, _ look: @escaping @Sendable (State) -> Value?) async throws -> Value {
    try await withDeadline(seconds: 30, what) { [self] in
      while true {
        let stirs = gate.stirs
        if let value = look(state) { return value }
        try Task.checkCancellation()
        await gate.wait(after: .zero, stirs: stirs)
      }
    }
  }
}

/// A store that can be cut off from one of its clients.
private final class CutStore: Datastore {
  let isCut = Mutex(false)
  private let store: any Datastore
  init(_ store: any Datastore) { self.store = store }
  private func look() throws(DatastoreError) {
    if isCut.withLock({ $0 }) { throw .unavailable("cut off") }
  }

  var name: String { store.name }
  func get(_ key: String) async throws(DatastoreError) -> KeyValue? {
    try look()
    return try await store.get(key)
  }
  func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    try look()
    return try await store.list(prefix: prefix)
  }
  func transact(
    if comparisons: [Comparison], then operations: [DatastoreOperation]
  ) async throws(DatastoreError) -> TransactionResult {
    try look()
    return try await store.transact(if: comparisons, then: operations)
  }
  func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    store.watch(prefixes: prefixes, after: revision)
  }
  func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID {
    try look()
    return try await store.grantLease(seconds: seconds)
  }
  func keepAlive(_ lease: LeaseID) async throws(DatastoreError) {
    try look()
    try await store.keepAlive(lease)
  }
  func revoke(_ lease: LeaseID) async throws(DatastoreError) {
    try look()
    try await store.revoke(lease)
  }
  func compact(upTo revision: Revision) async throws(DatastoreError) {
    try look()
    try await store.compact(upTo: revision)
  }
  func close() async {}
}

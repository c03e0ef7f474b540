/// Which of many equal processes does what must be done once: a key in the datastore, held under a lease by whoever leads.
///
/// The key is made by compare-and-swap, so there is one holder; it vanishes when the holder resigns, or when it has not been heard of for the
/// lease's time. Hazards, and the answers:
/// - A leader that is cut off, or was stopped by the scheduler, does not know that its lease has ended: it counts by its own clock, from
///   before each renewal was sent, and stops `margin` (a third of the lease) before the lease can end. Within a lease its clock may thus run
///   slow by half of the store's, or its work may take that long to stop, before two would be at work at once.
/// - Work that does not stop in time (a call under way is finished, up to its own deadline): every write of an elected task carries the term's
///   `fence`, a comparison with the key that this very term has made. Once the key is another's or gone, the store refuses the write.
/// - Time asleep: `ContinuousClock` counts it, as the store does.
/// - The key was deleted by hand: the leader looks with each renewal, and the fence holds from the first moment.
/// - The key stands without a lease (a backup was restored by writing keys): nobody would ever remove it, so it is taken over.
/// - A write without an answer: whether the key is ours is read back.
/// - Many candidates see the key vanish at once: each waits a moment of chance, and looks before it tries.
import JSON
import Names
import Synchronization

public struct Election: Sendable {
  public struct Terms: Hashable, Sendable {
    public var ttlSeconds: Int
    public init(ttlSeconds: Int = 15) { self.ttlSeconds = ttlSeconds }
    var ttl: Duration { .seconds(ttlSeconds) }
    /// How long before its lease can end a leader stops.
    public var margin: Duration { ttl / 3 }
    var renewal: Duration { ttl / 5 }
    /// After a vacancy, candidates try within this time.
    var spread: Duration { ttl / 15 }
  }
  public enum Standing: Hashable, Sendable {
    /// Another one leads; by name, if it says so.
    case waiting(for: String?)
    case leading
    /// The datastore does not let us find out, and why.
    case unknown(String)
  }

  public static let root = "/calico/margay/v1/election/"
  public let key: String
  private let datastore: any Datastore
  private let candidate: String
  private let terms: Terms

  /// - Parameters:
  ///   - name: what is elected for.
  ///   - candidate: who we are, for people.
  public init(_ datastore: any Datastore, name: String, candidate: String, terms: Terms = Terms()) {
    self.datastore = datastore
    self.candidate = candidate
    self.terms = terms
    key = Self.root + KeyPart.escape(name)
  }

  /// Who holds the key, as it says, and since when.
  public static func holder(of item: KeyValue) -> (name: String?, since: String?) {
    let value = try? JSONValue(parsing: item.value)
    return (value?["holder"]?.string, value?["since"]?.string)
  }

  /// Until the task is cancelled: whenever this candidate is elected, `lead` runs, and is cancelled when the term ends. A `lead` that returns
  /// resigns. `tell` hears of each change.
  public func run(_ tell: @escaping @Sendable (Standing) -> Void, lead: @escaping @Sendable (LeaderTerm) async -> Void) async {
    var pace = Backoff(first: .milliseconds(200), max: .seconds(5))
    while !Task.isCancelled {
      do throws(DatastoreError) {
        guard let term = try await campaign(tell) else { continue }
        tell(.leading)
        pace.reset()
        await serve(term, lead)
        tell(.waiting(for: nil))
      } catch {
        if Task.isCancelled { return }
        tell(.unknown("\(error)"))
        try? await Task.sleep(for: pace.next())
      }
    }
  }

  /// Waits for a vacancy and tries for it. Nil: another one was faster, or the task was cancelled.
  private func campaign(_ tell: @Sendable (Standing) -> Void) async throws(DatastoreError) -> LeaderTerm? {
    let (items, revision) = try await datastore.list(prefix: key)
    let present = items.first { KeyOrder.equal($0.key, key) }
    if let present, present.lease != nil {
      tell(.waiting(for: Self.holder(of: present).name))
      try await vacancy(after: revision, tell)
      try? await Task.sleep(for: terms.spread * Double.random(in: 0...1))
      return nil
    }
    // The lease is younger than this moment, so it cannot end before this moment and its time.
    let asked = ContinuousClock.now
    let lease = try await datastore.grantLease(seconds: terms.ttlSeconds)
    let value: JSONValue = ["holder": .string(candidate), "since": .string(UTCTime.now().text)]
    let comparison: Comparison = present.map { .modRevision(key, equals: $0.modRevision) } ?? .absent(key)
    var made: Revision?
    do throws(DatastoreError) {
      let result = try await datastore.transact(if: [comparison], then: [.put(key, value.bytes(pretty: false), lease: lease)])
      if case .committed(let revision) = result { made = revision }
    } catch {
      guard let item = try? await datastore.get(key), item.lease == lease else {
        try? await datastore.revoke(lease)
        throw error
      }
      made = item.modRevision
    }
    guard let made else {
      try? await datastore.revoke(lease)
      return nil
    }
    return LeaderTerm(key: key, made: made, lease: lease, end: asked + terms.ttl - terms.margin)
  }

  private func vacancy(after revision: Revision, _ tell: @Sendable (Standing) -> Void) async throws(DatastoreError) {
    do {
      for try await batch in datastore.watch(prefixes: [key], after: revision) {
        for event in batch.events where KeyOrder.equal(event.key, key) {
          switch event {
          case .delete: return
          case .put(let item): tell(.waiting(for: Self.holder(of: item).name))
          }
        }
      }
    } catch DatastoreError.compacted {
      // What was missed is seen by looking anew.
    } catch let error as DatastoreError {
      throw error
    } catch {
      throw .unavailable("\(error)")
    }
  }

  private func serve(_ term: LeaderTerm, _ lead: @escaping @Sendable (LeaderTerm) async -> Void) async {
    await withTaskGroup(of: Void.self) { group in
      group.addTask { await lead(term) }
      group.addTask { await keep(term) }
      group.addTask { await term.wait() }
      await group.next()
      // Whichever ends first ends the term; the next campaign begins when all have stopped.
      group.cancelAll()
    }
    if term.isHeld { try? await datastore.revoke(term.lease) }
  }

  /// Returns when the key is ours no more.
  private func keep(_ term: LeaderTerm) async {
    var pause = terms.renewal
    while !Task.isCancelled, term.isHeld {
      try? await Task.sleep(for: pause)
      if Task.isCancelled { return }
      pause = terms.renewal
      let asked = ContinuousClock.now
      do throws(DatastoreError) {
        try await datastore.keepAlive(term.lease)
        guard try await datastore.get(key)?.modRevision == term.made else { return }
        term.extend(to: asked + terms.ttl - terms.margin)
      } catch {
        if error == .leaseNotFound { return }
        // An outage shorter than the lease costs nothing.
        pause = terms.renewal / 4
      }
    }
  }
}

/// The time for which a process leads.
public final class LeaderTerm: Sendable {
  /// Holds while the key is the one that this term has made: to be among the comparisons of every write of an elected task.
  public let fence: Comparison
  let made: Revision
  let lease: LeaseID
  private let end: Mutex<ContinuousClock.Instant>

  init(key: String, made: Revision, lease: LeaseID, end: ContinuousClock.Instant) {
    fence = .modRevision(key, equals: made)
    (self.made, self.lease) = (made, lease)
    self.end = Mutex(end)
  }

  /// By our own clock: nobody else leads yet.
  public var isHeld: Bool { .now < end.withLock { $0 } }
  func extend(to instant: ContinuousClock.Instant) { end.withLock { $0 = Swift.max($0, instant) } }
  /// Returns when the term is over by our own clock, or the task is cancelled.
  func wait() async {
    while !Task.isCancelled {
      let until = end.withLock { $0 }
      if until <= .now { return }
      try? await Task.sleep(until: until, clock: .continuous)
    }
  }
}

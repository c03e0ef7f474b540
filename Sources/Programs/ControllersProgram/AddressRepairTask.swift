/// Leaked addresses, miscounted handles, half-made affinities and empty blocks are put right, without Kubernetes: what is in use is what
/// endpoints, nodes and host endpoints say. `design/ipam.md` has the rules.
import AddressAssignment
import AddressPlans
import Datastore
import Logging
import Synchronization

extension ElectedTask {
  /// `leakGracePeriod` zero switches it off, as with Calico.
  static let addressRepair: ElectedTask = {
    let memory = RepairMemory()
    return ElectedTask(
      name: "address-repair", purpose: "gives leaked addresses back, and puts the records of addresses right",
      period: { settings in settings.leakGracePeriod.map { min(settings.reconcilerPeriod, $0 / 2) } },
      run: { context in
        var rules = AddressRepair.Rules()
        if let grace = context.settings.leakGracePeriod { rules.grace = grace }
        return try await memory.run(context, rules)
      })
  }()
}

/// What was seen in this term. A new term begins anew: what happened between two terms nobody has seen.
private final class RepairMemory: Sendable {
  private let kept = Mutex<(term: LeaderTerm, repairer: AddressRepairer)?>(nil)

  func run(_ context: ElectedTask.Context, _ rules: AddressRepair.Rules) async throws -> String? {
    var repairer = kept.withLock { kept in kept.flatMap { $0.term === context.term ? $0.repairer : nil } }
      ?? AddressRepairer(FencedDatastore(context.datastore, context.term))
    let report = try await repairer.look(rules)
    kept.withLock { [repairer] in $0 = (context.term, repairer) }
    for action in report.done { context.log.notice("addresses: \(action)") }
    for action in report.overtaken { context.log.info("addresses: somebody was faster: \(action)") }
    for (action, why) in report.failed { context.log.warning("addresses: could not \(action): \(why)") }
    if let failed = report.failed.first { throw ElectedTaskProblem("could not \(failed.key): \(failed.value)") }
    var words: [String] = []
    func count(_ what: String, _ isThat: (AddressRepairAction) -> Bool) {
      let number = report.done.count(where: isThat)
      if number > 0 { words.append("\(number) \(what)") }
    }
    count("leaked addresses released") { if case .release = $0 { true } else { false } }
    count("handles counted anew") { if case .recount = $0 { true } else { false } }
    count("affinities put right") { action in
      switch action {
      case .dropAffinity, .confirmAffinity: true
      default: false
      }
    }
    count("empty blocks given up") { action in
      switch action {
      case .giveUp, .deleteBlock: true
      default: false
      }
    }
    if report.coldCount > 0 { words.append("\(report.coldCount) addresses have rested long enough") }
    return words.isEmpty ? nil : words.joined(separator: ", ")
  }
}

/// A datastore that takes writes only while the term is held.
struct FencedDatastore: Datastore {
  private let base: any Datastore
  private let fence: Comparison
  init(_ base: any Datastore, _ term: LeaderTerm) { (self.base, fence) = (base, term.fence) }

  var name: String { base.name }
  func get(_ key: String) async throws(DatastoreError) -> KeyValue? { try await base.get(key) }
  func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) { try await base.list(prefix: prefix) }
  func transact(if comparisons: [Comparison], then operations: [DatastoreOperation]) async throws(DatastoreError) -> TransactionResult {
    switch try await base.transact(if: comparisons + [fence], then: operations) {
    case .committed(let revision): return .committed(revision)
    case .conflict(let present):
      guard fence.holds(for: present.last ?? nil) else { throw .refused("this process does not lead any longer") }
      return .conflict(present.dropLast())
    }
  }
  func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    base.watch(prefixes: prefixes, after: revision)
  }
  func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID { try await base.grantLease(seconds: seconds) }
  func keepAlive(_ lease: LeaseID) async throws(DatastoreError) { try await base.keepAlive(lease) }
  func revoke(_ lease: LeaseID) async throws(DatastoreError) { try await base.revoke(lease) }
  func compact(upTo revision: Revision) async throws(DatastoreError) { try await base.compact(upTo: revision) }
  func close() async { await base.close() }
}

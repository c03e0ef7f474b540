/// The store's history is cut regularly: etcd keeps every version of every key until somebody says otherwise, and is full one day.
///
/// Calico's driver for OpenStack does the same with the help of two keys, and ours are the same two, so that the two take turns instead of
/// cutting twice as often:
/// - `/calico/compaction/v1/trigger` stands under a lease of about a period. While it stands, somebody has looked within the period.
/// - `/calico/compaction/v1/last` holds the revision cut at last, and is written at every look: its own revision says what was the present
///   then. History is cut there at the next look, so that what watchers may need is kept for at least a period, and always the newest
///   `revisionsMin` revisions.
///
/// Others who compact without these keys (kube-controllers, kube-apiserver, etcd itself) do no harm: cutting what is cut is success.
import Datastore

extension ElectedTask {
  static let historyCompaction = ElectedTask(
    name: "history-compaction", purpose: "forgets old versions of keys in the datastore", period: { $0.compactionPeriod },
    run: { context in try await HistoryCompaction(context).run() })
}

struct HistoryCompaction {
  static let triggerKey = "/calico/compaction/v1/trigger"
  static let lastKey = "/calico/compaction/v1/last"
  static let revisionsMin: Int64 = 1000

  private let datastore: any Datastore
  private let term: LeaderTerm
  private let period: Duration
  private let candidate: String

  init(_ context: ElectedTask.Context) {
    datastore = context.datastore
    term = context.term
    period = context.settings.compactionPeriod ?? .seconds(600)
    candidate = context.candidate
  }

  func run() async throws -> String? {
    let (items, revision) = try await datastore.list(prefix: "/calico/compaction/v1/")
    let last = items.first { $0.key == Self.lastKey }
    if items.contains(where: { $0.key == Self.triggerKey }) { return nil }
    let lastCut = last.flatMap { Int64(String(decoding: $0.value, as: UTF8.self)) } ?? 0
    var cut: Int64?
    if let last {
      let target = min(last.modRevision.rawValue, revision.rawValue - Self.revisionsMin)
      if target > lastCut { cut = target }
    }
    // First the word, then the deed: whoever looks meanwhile finds the trigger and leaves it to us. A deed that fails is done at the next
    // look, since what is written then is a later revision.
    let lease = try await datastore.grantLease(seconds: max(1, Int(period.components.seconds) * 9 / 10))
    let result = try await datastore.transact(
      if: [term.fence, .absent(Self.triggerKey), last.map { .modRevision(Self.lastKey, equals: $0.modRevision) } ?? .absent(Self.lastKey)],
      then: [
        .put(Self.triggerKey, Array(candidate.utf8), lease: lease), .put(Self.lastKey, Array("\(cut ?? lastCut)".utf8)),
      ])
    guard case .committed = result else {
      try? await datastore.revoke(lease)
      return nil
    }
    guard let cut else { return nil }
    try await datastore.compact(upTo: Revision(rawValue: cut))
    return "forgot the history up to revision \(cut); the newest is \(revision)"
  }
}

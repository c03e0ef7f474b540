/// The datastore on an etcd v3 cluster, as Calico uses it: keys and values lie in etcd as they are.
///
/// Hazards, and the answers:
/// - A list of a hundred thousand keys is read in pages at one pinned revision, so that it is one truth. If that revision is compacted
///   meanwhile, the list begins anew.
/// - A member cut off from its cluster would answer with the past: reads are linearizable, and every call and watch asks for a leader.
/// - The connection breaks while a write is under way: it is not repeated, because it may have been carried out; the error says so.
/// - A task that is cancelled still finishes its call: a daemon that shuts down has to write its last word. Watches end at once.
public import Datastore
import EtcdMessages
import Octets

public final class EtcdDatastore: Datastore {
  public var name: String { client.name }
  private let client: EtcdClient

  /// Does not connect yet; the first call does.
  /// - Throws: `.unusable` if the files for TLS cannot be used.
  public init(_ configuration: EtcdConfiguration) throws(DatastoreError) {
    client = try EtcdClient(configuration)
  }

  deinit { client.close() }

  public func close() async { client.close() }

  // MARK: Keys

  public func get(_ key: String) async throws(DatastoreError) -> KeyValue? {
    guard !key.isEmpty else { return nil }
    let response = try await range(EtcdRangeRequest(EtcdKeyRange(key: Array(key.utf8))), what: "reading \(key)")
    return response.items.first.flatMap { KeyValue($0) }
  }

  public func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    let what = "reading the keys under \(prefix.isEmpty ? "everything" : prefix)"
    let octets = Array(prefix.utf8)
    // History may be cut under the feet of a list. One page alone is always a truth, so the pages grow from try to try.
    for limit in [Self.pageMax, Self.pageMax * 8, Self.pageMax * 64, 0] {
      do throws(DatastoreError) {
        return try await listOnce(EtcdKeyRange(from: octets, to: KeyRanges.end(ofPrefix: octets)), limit: limit, what)
      } catch .compacted {
        continue
      }
    }
    throw .unavailable("\(name): its history is compacted faster than \(what) takes")
  }

  /// How many keys one answer may hold.
  static let pageMax: Int64 = 5000

  private func listOnce(
    _ range: EtcdKeyRange, limit: Int64, _ what: String
  ) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    var request = EtcdRangeRequest(range, limit: limit)
    var items: [KeyValue] = []
    while true {
      let page = try await rangePage(&request, what)
      for item in page.items {
        if let item = KeyValue(item) { items.append(item) }
      }
      // The first page says which truth it is; the others ask for the same.
      if request.revision == 0 { request.revision = page.header.revision }
      guard page.hasMore, let last = page.items.last else { return (items, Revision(rawValue: request.revision)) }
      request.keys.start = last.key + [0]
    }
  }

  public func page(prefix: String, limit: Int, from continuation: ListContinuation?) async throws(DatastoreError) -> ListPage {
    let octets = Array(prefix.utf8)
    var request = EtcdRangeRequest(
      EtcdKeyRange(from: octets, to: KeyRanges.end(ofPrefix: octets)), limit: Int64(limit), revision: continuation?.revision.rawValue ?? 0)
    if let continuation { request.keys.start = Array(continuation.key.utf8) + [0] }
    var items: [KeyValue] = []
    // Once, unless a whole page is of keys that are no text, or without limit more than one answer holds.
    while true {
      let page = try await rangePage(&request, "reading the keys under \(prefix.isEmpty ? "everything" : prefix)")
      if request.revision == 0 { request.revision = page.header.revision }
      let revision = Revision(rawValue: request.revision)
      items += page.items.lazy.compactMap { KeyValue($0) }
      guard page.hasMore, let end = page.items.last else { return ListPage(items: items, revision: revision) }
      if limit > 0, let last = items.last { return ListPage(items: items, revision: revision, next: ListContinuation(after: last.key, at: revision)) }
      request.keys.start = end.key + [0]
    }
  }

  /// One answer; the limit becomes smaller if it would be too large.
  private func rangePage(_ request: inout EtcdRangeRequest, _ what: String) async throws(DatastoreError) -> EtcdRangeResponse {
    while true {
      do throws(EtcdClient.CallProblem) {
        return try await rangeCall(request, what)
      } catch {
        switch error {
        case .datastore(let error): throw error
        case .tooLarge(let size):
          guard request.limit != 1 else { throw .unusable("\(name): a value of \(size) octets") }
          request.limit = request.limit == 0 ? Self.pageMax : max(1, request.limit / 16)
        }
      }
    }
  }

  /// A snapshot may have been restored: the same cluster, by its number, that knows nothing of what it told us; or tells another story.
  public func remembers(_ item: KeyValue) async throws(DatastoreError) -> Bool {
    let request = EtcdRangeRequest(EtcdKeyRange(key: Array(item.key.utf8)), revision: item.modRevision.rawValue)
    let response: EtcdRangeResponse
    do throws(DatastoreError) {
      response = try await range(request, what: "reading \(item.key) at revision \(item.modRevision)")
    } catch {
      guard error == .compacted else { throw error }
      // Or that revision is still to come: a store that is behind what it has told is not the one that told it.
      let newest = try await range(EtcdRangeRequest(EtcdKeyRange(key: [0])), what: "asking for the revision").header.revision
      guard newest < item.modRevision.rawValue else { throw error }
      client.noteReplaced(at: newest)
      return false
    }
    let isSame = response.items.first.flatMap { KeyValue($0) } == item
    if !isSame { client.noteReplaced(at: response.header.revision) }
    return isSame
  }

  public var connection: DatastoreConnection? { client.report }

  private func rangeCall(_ request: EtcdRangeRequest, _ what: String) async throws(EtcdClient.CallProblem) -> EtcdRangeResponse {
    try await client.call(.range, request.encoded(), isRepeatable: true, what: what, header: { $0.header }) {
      (reader) throws(WireError) in try EtcdRangeResponse(decoding: &reader)
    }
  }
  private func range(_ request: EtcdRangeRequest, what: String) async throws(DatastoreError) -> EtcdRangeResponse {
    do throws(EtcdClient.CallProblem) { return try await rangeCall(request, what) } catch { throw plain(error, what) }
  }
  private func plain(_ problem: EtcdClient.CallProblem, _ what: String) -> DatastoreError {
    switch problem {
    case .datastore(let error): error
    case .tooLarge(let size): .unusable("\(name): \(what) brings an answer of \(size) octets")
    }
  }

  public func transact(
    if comparisons: [Comparison], then operations: [DatastoreOperation]
  ) async throws(DatastoreError) -> TransactionResult {
    DatastoreOperation.requireDistinctKeys(operations)
    let request = EtcdTransactionRequest(
      if: comparisons.map { comparison in
        switch comparison {
        case .absent(let key): .createRevision(key: Array(key.utf8), equals: 0)
        case .modRevision(let key, let revision): .modRevision(key: Array(key.utf8), equals: revision.rawValue)
        }
      },
      then: operations.map { operation in
        switch operation {
        case .put(let key, let value, let lease): .put(key: Array(key.utf8), value: value, lease: lease?.rawValue ?? 0)
        case .delete(let key): .delete(EtcdKeyRange(key: Array(key.utf8)))
        }
      },
      otherwise: comparisons.map { .range(EtcdRangeRequest(EtcdKeyRange(key: Array($0.key.utf8)))) })
    let what = Self.describe(comparisons, operations)
    let response: EtcdTransactionResponse
    do throws(EtcdClient.CallProblem) {
      response = try await client.call(
        .transaction, request.encoded(), isRepeatable: operations.isEmpty, what: what, header: { $0.header }
      ) { (reader) throws(WireError) in try EtcdTransactionResponse(decoding: &reader) }
    } catch {
      throw plain(error, what)
    }
    if response.succeeded { return .committed(Revision(rawValue: response.header.revision)) }
    guard response.ranges.count == comparisons.count else {
      throw .unusable("\(name): \(response.ranges.count) answers to \(comparisons.count) comparisons")
    }
    return .conflict(response.ranges.map { $0?.items.first.flatMap { KeyValue($0) } })
  }

  private static func describe(_ comparisons: [Comparison], _ operations: [DatastoreOperation]) -> String {
    guard let first = operations.first else { return "comparing \(comparisons.count) keys" }
    if operations.count == 1 {
      if case .put(let key, let value, _) = first { return "writing \(key) (\(value.count) octets)" }
      return "deleting \(first.key)"
    }
    return "writing \(first.key) and \(operations.count - 1) more keys"
  }

  // MARK: Watches

  public func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    let watch = EtcdWatch(client, prefixes: prefixes, after: revision)
    // The stream holds the store: whoever has a watch has not let go of it.
    return AsyncThrowingStream { [self] in
      defer { withExtendedLifetime(self) {} }
      return try await watch.next()
    }
  }

  // MARK: Leases

  public func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID {
    // Twice granted is one lease that nobody uses and that ends by itself.
    let response = try await lease(.leaseGrant, EtcdRequest.leaseGrant(seconds: Int64(seconds)), isRepeatable: true, "asking for a lease")
    guard response.lease != 0 else { throw .unusable("\(name): it grants a lease without a number") }
    return LeaseID(rawValue: response.lease)
  }

  public func keepAlive(_ lease: LeaseID) async throws(DatastoreError) {
    let request = EtcdRequest.leaseKeepAlive(lease.rawValue)
    let response = try await self.lease(.leaseKeepAlive, request, isRepeatable: true, "keeping a lease")
    // No error in etcd's eyes.
    if response.seconds <= 0 { throw .leaseNotFound }
  }

  public func revoke(_ lease: LeaseID) async throws(DatastoreError) {
    _ = try await plainCall(.leaseRevoke, EtcdRequest.leaseRevoke(lease.rawValue), isRepeatable: false, "ending a lease")
  }

  private func lease(
    _ method: EtcdMethod, _ request: [UInt8], isRepeatable: Bool, _ what: String
  ) async throws(DatastoreError) -> EtcdLeaseResponse {
    do throws(EtcdClient.CallProblem) {
      return try await client.call(method, request, isRepeatable: isRepeatable, what: what, header: { $0.header }) {
        (reader) throws(WireError) in try EtcdLeaseResponse(decoding: &reader)
      }
    } catch {
      throw plain(error, what)
    }
  }

  // MARK: History

  /// Forgets the history up to and including `revision`, for every client of the cluster. The newest revision stays, whatever is asked.
  public func compact(upTo revision: Revision) async throws(DatastoreError) {
    let newest = try await range(EtcdRangeRequest(EtcdKeyRange(key: [0])), what: "compacting").header.revision
    do throws(DatastoreError) {
      // etcd keeps the revision that it is compacted at.
      let request = EtcdRequest.compact(upTo: min(revision.rawValue + 1, newest))
      _ = try await plainCall(.compact, request, isRepeatable: true, "compacting")
    } catch .compacted {
      // Somebody has done so already.
    } catch .refused(let why) where why.contains("lacks permission") {
      throw .refused("\(name): forgetting history takes the role root: `etcdctl user grant-role USER root`, or let etcd do it (--auto-compaction-retention)")
    }
  }

  private func plainCall(
    _ method: EtcdMethod, _ request: [UInt8], isRepeatable: Bool, _ what: String
  ) async throws(DatastoreError) -> EtcdPlainResponse {
    do throws(EtcdClient.CallProblem) {
      return try await client.call(method, request, isRepeatable: isRepeatable, what: what, header: { $0.header }) {
        (reader) throws(WireError) in try EtcdPlainResponse(decoding: &reader)
      }
    } catch {
      throw plain(error, what)
    }
  }
}

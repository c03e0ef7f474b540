/// Makes a datastore hold a given content: the common part of restore, import and migration.
///
/// Hazards, and the answers:
/// - The target holds something already: refused, unless a marker in it says that it is this very transfer, which then goes on.
/// - Daemons start on what is half there: `margay node` refuses a datastore with a marker, and ClusterInformation, without which no workload is
///   attached, comes last, in the transaction that takes the marker away.
/// - Interrupted at any point: done again, it compares and writes what differs, and nothing else.
/// - Somebody else writes to the target meanwhile: the comparison at the end finds it, and it is put right.
public import Datastore
import JSON
import Names
import Resources

public struct TransferProblem: Error, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

/// Called with how much of how much is done.
public typealias TransferProgress = @Sendable (_ done: Int, _ total: Int) -> Void

public struct Transfer: Sendable {
  /// Written last.
  static let last = ResourceKey(.clusterInformation, name: "default").path

  public let target: any Datastore
  /// What makes this transfer the same when it is begun again: a cluster's GUID, a file's hash.
  let identity: String
  /// For people.
  let source: String

  public init(to target: any Datastore, identity: String, source: String) {
    self.target = target
    self.identity = identity
    self.source = source
  }

  /// Claims the target. True if an earlier attempt is continued.
  @discardableResult
  public func begin() async throws -> Bool {
    let content = try await StoreContent.read(target)
    if let marker = content.marker {
      let words = try? JSONValue(parsing: marker.value)
      guard words?["identity"]?.string == identity else {
        throw TransferProblem(
          "\(target.name): another transfer into it is not finished: from \(words?["source"]?.string ?? "somewhere"), begun "
            + "\(words?["begun"]?.string ?? "some time ago"). Finish that one, or take an empty datastore")
      }
      return true
    }
    guard content.items.isEmpty, content.leased.isEmpty else {
      throw TransferProblem(
        "\(target.name) is not empty: it has \(content.items.count + content.leased.count) keys, \((content.items.first?.key ?? content.leased[0])) "
          + "among them; name an empty datastore")
    }
    let words: JSONValue = [
      "identity": .string(identity), "source": .string(source), "begun": .string(UTCTime.now().text),
    ]
    guard case .committed = try await target.transact(if: [.absent(TransferMarker.path)], then: [.put(TransferMarker.path, words.bytes)]) else {
      throw TransferProblem("\(target.name): somebody else has just begun a transfer into it")
    }
    return false
  }

  /// Writes and deletes until the target holds the content, but for what comes last. Returns how many keys were changed.
  public func bring(_ content: StoreContent, progress: TransferProgress = { _, _ in }) async throws -> Int {
    let present = try await StoreContent.read(target)
    guard present.marker != nil else {
      throw TransferProblem("\(target.name): the marker of this transfer is gone: somebody else has finished or removed it")
    }
    let operations = Self.difference(from: present.items, to: content.items.filter { $0.key != Self.last })
    try await write(operations, progress: progress)
    return operations.count
  }

  public func write(_ operations: [DatastoreOperation], progress: TransferProgress = { _, _ in }) async throws {
    var done = 0
    for portion in Self.portions(operations) {
      guard case .committed = try await target.transact(if: [], then: portion) else { preconditionFailure("a write without comparisons commits") }
      done += portion.count
      progress(done, operations.count)
    }
  }

  /// Whether the target holds the content, but for what comes last.
  public func compare(_ content: StoreContent) async throws -> (isEqual: Bool, wanted: ContentDigest, found: ContentDigest) {
    let found = try await StoreContent.read(target).items.filter { $0.key != Self.last }
    let wanted = content.items.filter { $0.key != Self.last }
    let digests = (ContentDigest(wanted), ContentDigest(found))
    return (digests.0 == digests.1, digests.0, digests.1)
  }

  /// Writes what comes last and takes the marker away: from here on the target is in force.
  public func finish(clusterInformation: [UInt8]?) async throws {
    guard let marker = try await target.get(TransferMarker.path) else {
      throw TransferProblem("\(target.name): the marker of this transfer is gone: somebody else has finished or removed it")
    }
    let operations = [.delete(TransferMarker.path)] + (clusterInformation.map { [.put(Self.last, $0)] } ?? [] as [DatastoreOperation])
    guard
      case .committed = try await target.transact(
        if: [.modRevision(TransferMarker.path, equals: marker.modRevision)], then: operations)
    else { throw TransferProblem("\(target.name): somebody else changes it meanwhile; repeat the command") }
  }

  // MARK: Pure

  /// Both in order of keys.
  static func difference(from present: [KeyValue], to wanted: [KeyValue]) -> [DatastoreOperation] {
    var operations: [DatastoreOperation] = []
    var (left, right) = (0, 0)
    while left < present.count || right < wanted.count {
      if right == wanted.count || left < present.count && KeyOrder.precedes(present[left].key, wanted[right].key) {
        operations.append(.delete(present[left].key))
        left += 1
      } else if left == present.count || KeyOrder.precedes(wanted[right].key, present[left].key) {
        operations.append(.put(wanted[right].key, wanted[right].value))
        right += 1
      } else {
        if present[left].value != wanted[right].value { operations.append(.put(wanted[right].key, wanted[right].value)) }
        left += 1
        right += 1
      }
    }
    return operations
  }

  /// etcd takes 128 operations and 1.5 MB at once, unless told otherwise.
  static func portions(_ operations: [DatastoreOperation]) -> [[DatastoreOperation]] {
    var portions: [[DatastoreOperation]] = []
    var size = 0
    for operation in operations {
      var cost = operation.key.utf8.count
      if case .put(_, let value, _) = operation { cost += value.count }
      if portions.isEmpty || portions[portions.count - 1].count == 100 || size + cost > 1_000_000 {
        portions.append([])
        size = 0
      }
      portions[portions.count - 1].append(operation)
      size += cost
    }
    return portions
  }
}

/// From one datastore to another while the cluster goes on: a copy at one revision, then every change, until the switch.
///
/// The switch: `datastoreReady` becomes false in the source, so that no workload is attached or detached meanwhile; what was written last is
/// brought over; both are read as a whole and compared by count and hash; then the target comes into force. The source stays locked: whoever still
/// uses it is told so by CNI instead of being served from the past.
public import Datastore
import JSON
import Resources

public struct Migration: Sendable {
  public enum Event: Hashable, Sendable {
    case begun(isResumed: Bool, keys: Int, leased: Int)
    case copied(ContentDigest, Revision)
    case followed(changes: Int, revision: Revision)
    /// The source forgot the history that was needed: everything is compared anew.
    case comparedAnew(changes: Int)
    /// One of the two does not answer; it is tried again.
    case waiting(String)
    case locked
    case inForce(ContentDigest)
  }
  public let source: any Datastore
  private let transfer: Transfer
  private let tell: @Sendable (Event) -> Void

  public init(from source: any Datastore, to target: any Datastore, tell: @escaping @Sendable (Event) -> Void = { _ in }) async throws {
    guard source.name != target.name else { throw TransferProblem("\(source.name) is both where from and where to") }
    let content = try await StoreContent.read(source)
    if content.marker != nil { throw TransferProblem("\(source.name) is itself being filled by a transfer that is not finished") }
    guard !content.items.isEmpty else { throw TransferProblem("\(source.name) is empty: there is nothing to migrate") }
    self.source = source
    self.tell = tell
    let information = content.items.first { $0.key == Transfer.last }.flatMap { try? JSONValue(parsing: $0.value) }
    transfer = Transfer(
      to: target, identity: "cluster \(information?["spec"]?["clusterGUID"]?.string ?? source.name)", source: source.name)
  }

  /// The copy, verified. The revision of the source that it shows.
  public func copy(progress: TransferProgress = { _, _ in }) async throws -> Revision {
    let isResumed = try await transfer.begin()
    let content = try await StoreContent.read(source)
    tell(.begun(isResumed: isResumed, keys: content.items.count, leased: content.leased.count))
    _ = try await transfer.bring(content, progress: progress)
    try await verify(content)
    tell(.copied(content.digest, content.revision))
    return content.revision
  }

  private func verify(_ content: StoreContent) async throws {
    let (isEqual, wanted, found) = try await transfer.compare(content)
    guard isEqual else {
      throw TransferProblem(
        "\(transfer.target.name) holds \(found) and should hold \(wanted): somebody else writes to it. Stop that, and repeat the command")
    }
  }

  /// Brings over every change after `revision` until the task is cancelled. Returns how far it has come.
  public func follow(after revision: Revision) async throws -> Revision {
    var position = revision
    while !Task.isCancelled {
      do {
        for try await batch in source.watch(prefixes: [StoreContent.root], after: position) {
          let operations = Self.operations(of: batch)
          try await transfer.write(operations)
          position = batch.revision
          if !operations.isEmpty { tell(.followed(changes: operations.count, revision: position)) }
        }
      } catch DatastoreError.compacted {
        let content = try await StoreContent.read(source)
        tell(.comparedAnew(changes: try await transfer.bring(content)))
        position = content.revision
      } catch DatastoreError.unavailable(let why) {
        tell(.waiting(why))
        // Cancelled, it ends by the loop's condition.
        try? await Task.sleep(for: .seconds(1))
      }
    }
    return position
  }

  /// Locks the source, brings over the rest, verifies, and puts the target into force.
  public func finish() async throws -> ContentDigest {
    try await DatastoreLock(source).set(isReady: false)
    tell(.locked)
    // Others than CNI may still write. Once both are read and equal, the target is what the source was at that moment.
    for _ in 0..<20 {
      let content = try await StoreContent.read(source)
      _ = try await transfer.bring(content)
      guard try await transfer.compare(content).isEqual else { continue }
      var information = content.items.first { $0.key == Transfer.last }.flatMap { try? JSONValue(parsing: $0.value) }
      information?["spec"]?["datastoreReady"] = true
      try await transfer.finish(clusterInformation: information?.bytes)
      tell(.inForce(content.digest))
      return content.digest
    }
    throw TransferProblem(
      "\(source.name) and \(transfer.target.name) did not become equal: somebody writes to the target. The source is locked; repeat the command, "
        + "or go back with `margay datastore unlock`")
  }

  /// What a batch means for the target: the last word on each key.
  static func operations(of batch: WatchBatch) -> [DatastoreOperation] {
    var last: [String: DatastoreOperation] = [:]
    var order: [String] = []
    for event in batch.events where event.key != TransferMarker.path && event.key != Transfer.last {
      if last[event.key] == nil { order.append(event.key) }
      switch event {
      case .put(let item): last[event.key] = item.lease == nil ? .put(item.key, item.value) : .delete(item.key)
      case .delete(let key, _): last[key] = .delete(key)
      }
    }
    return order.compactMap { last[$0] }
  }
}

/// etcd's responses to one watch, put together to batches: a value that is fed responses.
///
/// Several prefixes are watched as the one range from the first to the last of them, and what lies between is dropped here. A watch of its
/// own for each prefix would be told of one transaction in several responses, and etcd does not say when the last of them has come; the keys
/// of Calico lie so that what a daemon reads is close together (design/etcd-client.md).
import Datastore
import EtcdMessages

struct WatchAssembly: Sendable {
  /// Disjoint, in order.
  private let prefixes: [[UInt8]]
  /// Of a response that is not complete: its last revision may go on in the next piece.
  private var held: [WatchEvent] = []
  private var heldRevision = Revision.zero

  init(prefixes: [String]) {
    var kept: [[UInt8]] = []
    for prefix in prefixes.map({ Array($0.utf8) }).sorted(by: { $0.lexicographicallyPrecedes($1) }) {
      if let last = kept.last, prefix.starts(with: last) { continue }
      kept.append(prefix)
    }
    self.prefixes = kept
  }

  /// The one range that holds every prefix.
  var range: EtcdKeyRange {
    guard let first = prefixes.first, let last = prefixes.last else { return EtcdKeyRange(key: [0]) }
    return EtcdKeyRange(from: first, to: KeyRanges.end(ofPrefix: last))
  }

  func isWanted(_ key: [UInt8]) -> Bool {
    // The last prefix that does not come after the key is the only one that can hold it.
    var (low, high) = (0, prefixes.count)
    while low < high {
      let middle = (low + high) / 2
      if key.lexicographicallyPrecedes(prefixes[middle]) { high = middle } else { low = middle + 1 }
    }
    return low > 0 && key.starts(with: prefixes[low - 1])
  }

  /// The batch that is complete with this response, if there is one. Without events it says how far everything has been told.
  mutating func take(_ response: EtcdWatchResponse) -> WatchBatch? {
    guard let newest = response.events.last?.item.modRevision else {
      if response.isFragment { return nil }
      if let batch = flush() { return batch }
      // The answer to the request tells where the store is, not where the watch is.
      return response.isCreated ? nil : WatchBatch(events: [], revision: Revision(rawValue: response.header.revision))
    }
    let revision = Revision(rawValue: newest)
    var batch = WatchBatch(events: [], revision: revision)
    var rest: [WatchEvent] = []
    if !held.isEmpty || heldRevision != .zero {
      // The rest of a revision, or the first piece of another.
      if heldRevision == revision, response.isFragment { rest = held } else { batch.events = held }
      held = []
    }
    for event in response.events where isWanted(event.item.key) {
      guard let change = event.change else { continue }
      if response.isFragment, event.item.modRevision == newest { rest.append(change) } else { batch.events.append(change) }
    }
    if response.isFragment {
      (held, heldRevision) = (rest, revision)
      // Complete is what comes before the last revision.
      batch.revision = Revision(rawValue: newest - 1)
      return batch.events.isEmpty ? nil : batch
    }
    heldRevision = .zero
    return batch
  }

  private mutating func flush() -> WatchBatch? {
    defer { (held, heldRevision) = ([], .zero) }
    return held.isEmpty ? nil : WatchBatch(events: held, revision: heldRevision)
  }
}

enum KeyRanges {
  /// The first key after all with this prefix, by octets; nil if there is none.
  static func end(ofPrefix prefix: [UInt8]) -> [UInt8]? {
    var octets = prefix
    while let last = octets.popLast() {
      if last < 0xff {
        octets.append(last + 1)
        return octets
      }
    }
    return nil
  }
}

extension EtcdEvent {
  /// Nil if its key is no text: then it is nobody's of ours.
  var change: WatchEvent? {
    if isDelete {
      guard let key = String(validating: item.key, as: UTF8.self) else { return nil }
      return .delete(key: key, at: Revision(rawValue: item.modRevision))
    }
    return KeyValue(item).map { .put($0) }
  }
}

extension KeyValue {
  /// Nil if the key is no text.
  init?(_ item: EtcdKeyValue) {
    guard let key = String(validating: item.key, as: UTF8.self) else { return nil }
    self.init(
      key: key, value: item.value, createRevision: Revision(rawValue: item.createRevision),
      modRevision: Revision(rawValue: item.modRevision), lease: item.lease == 0 ? nil : LeaseID(rawValue: item.lease))
  }
}

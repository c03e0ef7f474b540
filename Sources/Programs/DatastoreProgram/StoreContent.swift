/// What a datastore holds at one revision, as it is backed up, moved and compared.
///
/// Left out: keys under a lease, which are somebody's sign of life and mean nothing elsewhere, and the marker of a transfer.
public import Datastore
import Names

public struct StoreContent: Sendable {
  /// Everything of Calico and of Margay. An etcd may serve other programs, too: their keys are theirs.
  public static let root = "/calico/"

  /// In order of keys.
  public var items: [KeyValue]
  /// Keys that were left out because they are leased.
  public var leased: [String]
  public var revision: Revision
  /// What the marker of a transfer says, where one is under way.
  var marker: KeyValue?

  public init(_ found: [KeyValue], revision: Revision) {
    items = found.filter { $0.lease == nil && $0.key != TransferMarker.path }
    leased = found.filter { $0.lease != nil }.map(\.key)
    marker = found.first { $0.key == TransferMarker.path }
    self.revision = revision
  }

  public static func read(_ datastore: any Datastore) async throws(DatastoreError) -> StoreContent {
    let (items, revision) = try await datastore.list(prefix: root)
    return StoreContent(items, revision: revision)
  }

  public var digest: ContentDigest { ContentDigest(items) }
}

/// Count and hash of keys and values. Revisions do not count: they are another datastore's own.
public struct ContentDigest: Hashable, Sendable, CustomStringConvertible {
  public var count: Int
  /// Hexadecimal SHA-256 over the SHA-256 of each key and its value, in order of keys; a length before the key keeps the two apart.
  public var sha256: String

  public init(count: Int, sha256: String) {
    self.count = count
    self.sha256 = sha256
  }
  public init(_ items: [KeyValue]) {
    var digests: [UInt8] = []
    digests.reserveCapacity(items.count * 32)
    for item in items {
      let key = Array(item.key.utf8)
      let length = (0..<8).map { UInt8(truncatingIfNeeded: key.count >> (8 * $0)) }
      digests += SHA256.digest(of: length + key + item.value)
    }
    count = items.count
    sha256 = hexadecimalText(SHA256.digest(of: digests))
  }
  public var description: String { "\(count) keys, sha256 \(sha256.prefix(16))…" }
}

/// The datastore as every component sees it: a revisioned key-value store with watch, compare-and-swap and leases (the model of etcd v3).
///
/// Every backend obeys the same contract suite (`DatastoreContract`). Keys are Calico's paths; values are octets, JSON by convention.

/// A point in the store's history; each transaction that changes something adds one.
public struct Revision: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
  public let rawValue: Int64
  public init(rawValue: Int64) { self.rawValue = rawValue }
  public static let zero = Revision(rawValue: 0)
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
  public var description: String { "\(rawValue)" }
}

public struct LeaseID: RawRepresentable, Hashable, Sendable {
  public let rawValue: Int64
  public init(rawValue: Int64) { self.rawValue = rawValue }
}

public struct KeyValue: Hashable, Sendable {
  public var key: String
  public var value: [UInt8]
  public var createRevision: Revision
  public var modRevision: Revision
  public var lease: LeaseID?
  public init(key: String, value: [UInt8], createRevision: Revision, modRevision: Revision, lease: LeaseID? = nil) {
    self.key = key
    self.value = value
    self.createRevision = createRevision
    self.modRevision = modRevision
    self.lease = lease
  }
}

public enum Comparison: Hashable, Sendable {
  case absent(String)
  case modRevision(String, equals: Revision)
}

public enum DatastoreOperation: Hashable, Sendable {
  case put(String, [UInt8], lease: LeaseID? = nil)
  case delete(String)
}

public enum TransactionResult: Hashable, Sendable {
  case committed(Revision)
  /// Nothing was written. The present values of the compared keys, in order.
  case conflict([KeyValue?])
}

public enum WatchEvent: Hashable, Sendable {
  case put(KeyValue)
  case delete(key: String, at: Revision)
  public var key: String {
    switch self {
    case .put(let keyValue): keyValue.key
    case .delete(let key, _): key
    }
  }
}

/// What a watcher is told, in order of revisions. Events of one revision are never split over two batches.
public struct WatchBatch: Hashable, Sendable {
  public var events: [WatchEvent]
  public var revision: Revision
  public init(events: [WatchEvent], revision: Revision) {
    self.events = events
    self.revision = revision
  }
}

public enum DatastoreError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The store cannot be reached or does not answer; trying again later may help.
  case unavailable(String)
  /// The revision asked for is no longer kept: list again.
  case compacted
  case leaseNotFound
  /// The store does not do what was asked: no permission, wrong password, too large. Trying again does not help.
  case refused(String)
  /// The store holds something that cannot be what it should be (schema of a newer version, foreign machine, damaged file).
  case unusable(String)
  public var description: String {
    switch self {
    case .unavailable(let why): "the datastore is not available: \(why)"
    case .compacted: "the revision asked for is no longer kept"
    case .leaseNotFound: "the lease has ended"
    case .refused(let why): "the datastore refuses: \(why)"
    case .unusable(let why): "the datastore cannot be used: \(why)"
    }
  }
}

public protocol Datastore: Sendable {
  /// `sqlite:PATH`, `etcd://…`: for messages.
  var name: String { get }
  func get(_ key: String) async throws(DatastoreError) -> KeyValue?
  /// All keys that begin with `prefix`, in order of keys, and the revision at which this was the truth.
  func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision)
  /// The first so many of these keys, or those behind a continuation; all pages of one list show one revision. 0 is without limit, and a store
  /// may hand out more than asked for. Throws `.compacted` when that revision is no longer kept.
  func page(prefix: String, limit: Int, from continuation: ListContinuation?) async throws(DatastoreError) -> ListPage
  /// Whether the store's history still holds this item at its revision: false once it was replaced by another store or its own past. Throws
  /// `.compacted` when that revision is no longer kept.
  func remembers(_ item: KeyValue) async throws(DatastoreError) -> Bool
  /// Writes all operations at one revision if all comparisons hold.
  func transact(if comparisons: [Comparison], then operations: [DatastoreOperation]) async throws(DatastoreError) -> TransactionResult
  /// Batches of all changes under any of `prefixes` after `revision`. The stream ends by throwing a `DatastoreError`.
  ///
  /// A batch without events tells that everything up to its revision has been told.
  func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error>
  /// A lease of at least `seconds`; keys put under it vanish when it ends.
  func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID
  func keepAlive(_ lease: LeaseID) async throws(DatastoreError)
  func revoke(_ lease: LeaseID) async throws(DatastoreError)
  /// Forgets the history up to and including `revision`, for everybody: watches from before it end with `.compacted`, the present stays. What
  /// is forgotten already is success.
  func compact(upTo revision: Revision) async throws(DatastoreError)
  /// Nil for a store without connections.
  var connection: DatastoreConnection? { get }
  func close() async
}

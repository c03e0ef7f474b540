/// What is asked of etcd. Field numbers are those of etcd's `rpc.proto`.

/// A method of etcd's gRPC services, by its path.
public enum EtcdMethod: String, Sendable {
  case range = "/etcdserverpb.KV/Range"
  case transaction = "/etcdserverpb.KV/Txn"
  case compact = "/etcdserverpb.KV/Compact"
  case watch = "/etcdserverpb.Watch/Watch"
  case leaseGrant = "/etcdserverpb.Lease/LeaseGrant"
  case leaseRevoke = "/etcdserverpb.Lease/LeaseRevoke"
  case leaseKeepAlive = "/etcdserverpb.Lease/LeaseKeepAlive"
  /// What a member says of itself, to whoever asks: no user is needed.
  case status = "/etcdserverpb.Maintenance/Status"
  case authenticate = "/etcdserverpb.Auth/Authenticate"
}

/// Keys from `start` up to `end`, which is not among them; without `end`, one key.
public struct EtcdKeyRange: Hashable, Sendable {
  public var start: [UInt8]
  public var end: [UInt8]?
  public init(key: [UInt8]) { start = key }
  /// From `start` to before `end`; without `end` to the last key of all. etcd has no empty key, and takes one zero octet for "all".
  public init(from start: [UInt8], to end: [UInt8]?) {
    self.start = start.isEmpty ? [0] : start
    self.end = end ?? [0]
  }
}

public struct EtcdRangeRequest: Hashable, Sendable {
  public var keys: EtcdKeyRange
  /// 0: as many as there are.
  public var limit: Int64
  /// 0: the present.
  public var revision: Int64
  public init(_ keys: EtcdKeyRange, limit: Int64 = 0, revision: Int64 = 0) {
    self.keys = keys
    self.limit = limit
    self.revision = revision
  }
  public func encoded() -> [UInt8] {
    var writer = ProtobufWriter()
    write(into: &writer)
    return writer.octets
  }
  func write(into writer: inout ProtobufWriter) {
    writer.octets(1, keys.start)
    if let end = keys.end { writer.octets(2, end) }
    writer.int64(3, limit)
    writer.int64(4, revision)
  }
}

public struct EtcdTransactionRequest: Hashable, Sendable {
  public enum Comparison: Hashable, Sendable {
    /// 0: there is no such key.
    case createRevision(key: [UInt8], equals: Int64)
    case modRevision(key: [UInt8], equals: Int64)
  }
  public enum Operation: Hashable, Sendable {
    case range(EtcdRangeRequest)
    case put(key: [UInt8], value: [UInt8], lease: Int64)
    case delete(EtcdKeyRange)
  }
  public var comparisons: [Comparison]
  public var success: [Operation]
  public var failure: [Operation]
  public init(if comparisons: [Comparison], then success: [Operation], otherwise failure: [Operation]) {
    self.comparisons = comparisons
    self.success = success
    self.failure = failure
  }
  public func encoded() -> [UInt8] {
    var writer = ProtobufWriter()
    for comparison in comparisons {
      writer.message(1) { writer in
        // The result asked for is EQUAL, which is 0. The number compared with is written even as 0: it tells the kind.
        switch comparison {
        case .createRevision(let key, let revision):
          writer.int64(2, 1)
          writer.octets(3, key)
          writer.int64(5, revision, evenZero: true)
        case .modRevision(let key, let revision):
          writer.int64(2, 2)
          writer.octets(3, key)
          writer.int64(6, revision, evenZero: true)
        }
      }
    }
    for operation in success { writer.message(2) { operation.write(into: &$0) } }
    for operation in failure { writer.message(3) { operation.write(into: &$0) } }
    return writer.octets
  }
}

extension EtcdTransactionRequest.Operation {
  func write(into writer: inout ProtobufWriter) {
    switch self {
    case .range(let request): writer.message(1) { request.write(into: &$0) }
    case .put(let key, let value, let lease):
      writer.message(2) { writer in
        writer.octets(1, key)
        writer.octets(2, value)
        writer.int64(3, lease)
      }
    case .delete(let keys):
      writer.message(3) { writer in
        writer.octets(1, keys.start)
        if let end = keys.end { writer.octets(2, end) }
      }
    }
  }
}

public struct EtcdWatchRequest: Hashable, Sendable {
  public var keys: EtcdKeyRange
  /// The first revision of which events are wanted.
  public var startRevision: Int64
  /// Lets the server cut large responses into pieces.
  public var allowsFragments: Bool
  public init(_ keys: EtcdKeyRange, startRevision: Int64, allowsFragments: Bool) {
    self.keys = keys
    self.startRevision = startRevision
    self.allowsFragments = allowsFragments
  }
  public func encoded() -> [UInt8] {
    var writer = ProtobufWriter()
    writer.message(1) { writer in
      writer.octets(1, keys.start)
      if let end = keys.end { writer.octets(2, end) }
      writer.int64(3, startRevision)
      // An idle watch is told now and then how far the store is (each ten minutes, or as etcd's options say).
      writer.bool(4, true)
      writer.bool(8, allowsFragments)
    }
    return writer.octets
  }
}

/// The small requests.
public enum EtcdRequest {
  public static func leaseGrant(seconds: Int64) -> [UInt8] { numbers([(1, seconds)]) }
  public static func leaseRevoke(_ lease: Int64) -> [UInt8] { numbers([(1, lease)]) }
  public static func leaseKeepAlive(_ lease: Int64) -> [UInt8] { numbers([(1, lease)]) }
  public static func compact(upTo revision: Int64) -> [UInt8] { numbers([(1, revision)]) }
  public static func authenticate(name: String, password: String) -> [UInt8] {
    var writer = ProtobufWriter()
    writer.octets(1, name.utf8)
    writer.octets(2, password.utf8)
    return writer.octets
  }
  private static func numbers(_ fields: [(Int, Int64)]) -> [UInt8] {
    var writer = ProtobufWriter()
    for (number, value) in fields { writer.int64(number, value) }
    return writer.octets
  }
}

/// What etcd answers. Field numbers are those of etcd's `rpc.proto` and `kv.proto`; fields that nobody here needs are stepped over.
public import Octets

/// On every answer: who gave it, and how far it was.
public struct EtcdHeader: Hashable, Sendable {
  public var clusterID: UInt64 = 0
  public var memberID: UInt64 = 0
  public var revision: Int64 = 0
  public init() {}

  init(decoding reader: inout OctetReader) throws(WireError) {
    var header = EtcdHeader()
    try ProtobufReading.fields(&reader) { (tag, reader) throws(WireError) in
      switch (tag.number, tag.kind) {
      case (1, .varint): header.clusterID = try ProtobufReading.varint(&reader)
      case (2, .varint): header.memberID = try ProtobufReading.varint(&reader)
      case (3, .varint): header.revision = try ProtobufReading.int64(&reader)
      default: return false
      }
      return true
    }
    self = header
  }
}

public struct EtcdKeyValue: Hashable, Sendable {
  public var key: [UInt8] = []
  public var value: [UInt8] = []
  public var createRevision: Int64 = 0
  public var modRevision: Int64 = 0
  /// 0: none.
  public var lease: Int64 = 0
  public init() {}

  init(decoding reader: inout OctetReader) throws(WireError) {
    var item = EtcdKeyValue()
    try ProtobufReading.fields(&reader) { (tag, reader) throws(WireError) in
      switch (tag.number, tag.kind) {
      case (1, .delimited): item.key = try ProtobufReading.octets(&reader)
      case (2, .varint): item.createRevision = try ProtobufReading.int64(&reader)
      case (3, .varint): item.modRevision = try ProtobufReading.int64(&reader)
      case (5, .delimited): item.value = try ProtobufReading.octets(&reader)
      case (6, .varint): item.lease = try ProtobufReading.int64(&reader)
      default: return false
      }
      return true
    }
    self = item
  }
}

public struct EtcdRangeResponse: Hashable, Sendable {
  public var header = EtcdHeader()
  public var items: [EtcdKeyValue] = []
  /// There are keys beyond the limit.
  public var hasMore = false

  public init(decoding reader: inout OctetReader) throws(WireError) {
    // `self` cannot be captured before it is whole.
    var (header, items, hasMore) = (EtcdHeader(), [EtcdKeyValue](), false)
    try ProtobufReading.fields(&reader) { (tag, reader) throws(WireError) in
      switch (tag.number, tag.kind) {
      case (1, .delimited): header = try message(&reader, EtcdHeader.init(decoding:))
      case (2, .delimited): items.append(try message(&reader, EtcdKeyValue.init(decoding:)))
      case (3, .varint): hasMore = try ProtobufReading.bool(&reader)
      default: return false
      }
      return true
    }
    (self.header, self.items, self.hasMore) = (header, items, hasMore)
  }
}

public struct EtcdTransactionResponse: Hashable, Sendable {
  public var header = EtcdHeader()
  public var succeeded = false
  /// The answers of range operations, in order; nil for other operations.
  public var ranges: [EtcdRangeResponse?] = []

  public init(decoding reader: inout OctetReader) throws(WireError) {
    var (header, succeeded, ranges) = (EtcdHeader(), false, [EtcdRangeResponse?]())
    try ProtobufReading.fields(&reader) { (tag, reader) throws(WireError) in
      switch (tag.number, tag.kind) {
      case (1, .delimited): header = try message(&reader, EtcdHeader.init(decoding:))
      case (2, .varint): succeeded = try ProtobufReading.bool(&reader)
      case (3, .delimited): ranges.append(try message(&reader, Self.rangeInside))
      default: return false
      }
      return true
    }
    (self.header, self.succeeded, self.ranges) = (header, succeeded, ranges)
  }
  private static func rangeInside(_ reader: inout OctetReader) throws(WireError) -> EtcdRangeResponse? {
    var range: EtcdRangeResponse?
    try ProtobufReading.fields(&reader) { (tag, reader) throws(WireError) in
      guard tag.number == 1, tag.kind == .delimited else { return false }
      range = try message(&reader, EtcdRangeResponse.init(decoding:))
      return true
    }
    return range
  }
}

public struct EtcdEvent: Hashable, Sendable {
  public var isDelete = false
  public var item = EtcdKeyValue()
  public init() {}

  init(decoding reader: inout OctetReader) throws(WireError) {
    var event = EtcdEvent()
    try ProtobufReading.fields(&reader) { (tag, reader) throws(WireError) in
      switch (tag.number, tag.kind) {
      case (1, .varint): event.isDelete = try ProtobufReading.varint(&reader) == 1
      case (2, .delimited): event.item = try message(&reader, EtcdKeyValue.init(decoding:))
      default: return false
      }
      return true
    }
    self = event
  }
}

public struct EtcdWatchResponse: Hashable, Sendable {
  public var header = EtcdHeader()
  public var isCreated = false
  public var isCancelled = false
  public var cancelReason = ""
  /// More than 0: the watch was cancelled because history before this revision is gone.
  public var compactRevision: Int64 = 0
  /// More of the same response follows.
  public var isFragment = false
  public var events: [EtcdEvent] = []

  public init(decoding reader: inout OctetReader) throws(WireError) {
    var (header, isCreated, isCancelled, cancelReason) = (EtcdHeader(), false, false, "")
    var (compactRevision, isFragment, events): (Int64, Bool, [EtcdEvent]) = (0, false, [])
    try ProtobufReading.fields(&reader) { (tag, reader) throws(WireError) in
      switch (tag.number, tag.kind) {
      case (1, .delimited): header = try message(&reader, EtcdHeader.init(decoding:))
      case (3, .varint): isCreated = try ProtobufReading.bool(&reader)
      case (4, .varint): isCancelled = try ProtobufReading.bool(&reader)
      case (5, .varint): compactRevision = try ProtobufReading.int64(&reader)
      case (6, .delimited): cancelReason = try ProtobufReading.text(&reader)
      case (7, .varint): isFragment = try ProtobufReading.bool(&reader)
      case (11, .delimited): events.append(try message(&reader, EtcdEvent.init(decoding:)))
      default: return false
      }
      return true
    }
    (self.header, self.isCreated, self.isCancelled, self.cancelReason) = (header, isCreated, isCancelled, cancelReason)
    (self.compactRevision, self.isFragment, self.events) = (compactRevision, isFragment, events)
  }
}

/// The answers to a grant and to a keep-alive: the lease, and the seconds it has.
public struct EtcdLeaseResponse: Hashable, Sendable {
  public var header = EtcdHeader()
  public var lease: Int64 = 0
  /// 0 in the answer to a keep-alive: there is no such lease (any more).
  public var seconds: Int64 = 0

  public init(decoding reader: inout OctetReader) throws(WireError) {
    var (header, lease, seconds): (EtcdHeader, Int64, Int64) = (EtcdHeader(), 0, 0)
    try ProtobufReading.fields(&reader) { (tag, reader) throws(WireError) in
      switch (tag.number, tag.kind) {
      case (1, .delimited): header = try message(&reader, EtcdHeader.init(decoding:))
      case (2, .varint): lease = try ProtobufReading.int64(&reader)
      case (3, .varint): seconds = try ProtobufReading.int64(&reader)
      default: return false
      }
      return true
    }
    (self.header, self.lease, self.seconds) = (header, lease, seconds)
  }
}

public struct EtcdAuthenticateResponse: Hashable, Sendable {
  public var header = EtcdHeader()
  public var token = ""

  public init(decoding reader: inout OctetReader) throws(WireError) {
    var (header, token) = (EtcdHeader(), "")
    try ProtobufReading.fields(&reader) { (tag, reader) throws(WireError) in
      switch (tag.number, tag.kind) {
      case (1, .delimited): header = try message(&reader, EtcdHeader.init(decoding:))
      case (2, .delimited): token = try ProtobufReading.text(&reader)
      default: return false
      }
      return true
    }
    (self.header, self.token) = (header, token)
  }
}

/// An answer of which only the header matters.
public struct EtcdPlainResponse: Hashable, Sendable {
  public var header = EtcdHeader()

  public init(decoding reader: inout OctetReader) throws(WireError) {
    var header = EtcdHeader()
    try ProtobufReading.fields(&reader) { (tag, reader) throws(WireError) in
      guard tag.number == 1, tag.kind == .delimited else { return false }
      header = try message(&reader, EtcdHeader.init(decoding:))
      return true
    }
    self.header = header
  }
}

/// A message inside a message: read by a reader that ends where it ends.
private func message<Value>(
  _ reader: inout OctetReader, _ decode: (inout OctetReader) throws(WireError) -> Value
) throws(WireError) -> Value {
  var inner = try reader.nested(ProtobufReading.length(&reader))
  return try decode(&inner)
}

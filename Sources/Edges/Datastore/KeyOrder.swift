/// Order and prefixes of keys, by octets: what etcd and SQLite do.
///
/// Swift's own comparison of strings follows Unicode's canonical equivalence, under which two different keys can be equal. Every backend
/// and everything that sorts or matches keys uses these functions instead.

public enum KeyOrder {
  public static func precedes(_ a: String, _ b: String) -> Bool { a.utf8.lexicographicallyPrecedes(b.utf8) }
  public static func equal(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }
  public static func hasPrefix(_ key: String, _ prefix: String) -> Bool { key.utf8.starts(with: prefix.utf8) }
  public static func hasPrefix(_ key: String, anyOf prefixes: [String]) -> Bool { prefixes.contains { hasPrefix(key, $0) } }

  /// The first key after all keys with this prefix; nil if there is none (the empty prefix).
  ///
  /// The order of UTF-8 octets is the order of scalars, so the successor of the last scalar gives a bound that is text again.
  public static func end(ofPrefix prefix: String) -> String? {
    var scalars = Array(prefix.unicodeScalars)
    while let last = scalars.popLast() {
      // The surrogates are no scalars: the successor of U+D7FF is U+E000.
      let successor = last.value == 0xd7ff ? 0xe000 : last.value + 1
      if let scalar = Unicode.Scalar(successor) {
        scalars.append(scalar)
        var text = String.UnicodeScalarView()
        text.append(contentsOf: scalars)
        return String(text)
      }
    }
    return nil
  }
}

extension DatastoreOperation {
  public var key: String {
    switch self {
    case .put(let key, _, _), .delete(let key): key
    }
  }
  /// etcd refuses a transaction that writes a key twice, so every backend does: the caller's plan is broken, not the store.
  public static func requireDistinctKeys(_ operations: [DatastoreOperation]) {
    guard operations.count > 1 else { return }
    var seen: Set<[UInt8]> = []
    for operation in operations {
      precondition(seen.insert(Array(operation.key.utf8)).inserted, "a transaction writes each key once; \(operation.key) is written twice")
    }
  }
}

extension Comparison {
  public var key: String {
    switch self {
    case .absent(let key), .modRevision(let key, _): key
    }
  }
  public func holds(for present: KeyValue?) -> Bool {
    switch self {
    case .absent: present == nil
    case .modRevision(_, let revision): present?.modRevision == revision
    }
  }
}

/// How a client of a remote store is connected, for status and metrics.
public struct DatastoreConnection: Hashable, Sendable {
  /// Which of several members answers; nil: none.
  public var endpoint: String?
  public var isEncrypted = false
  /// Why there is none, in words; nil while there is one, and before anybody asked.
  public var problem: String?
  /// Connections that came about, and rounds of all members in which none did.
  public var made = 0
  public var failed = 0
  /// The newest revision that any answer told of.
  public var newest = Revision.zero
  /// How often the store turned out to be another one, or its own past.
  public var replaced = 0
  public init() {}
}

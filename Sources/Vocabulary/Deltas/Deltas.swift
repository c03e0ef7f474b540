/// What is wanted, what stands, and what is left to do: the pure heart of every driver.
///
/// The driver says `want` as decisions come in and `observe` as it reads the kernel or has changed it; in any order, any number of
/// times. What is pending depends only on the last value said for each key, never on the path.

public struct DeltaMap<Key: Hashable, Value: Equatable & SendableMetatype> {
  public private(set) var wanted: [Key: Value] = [:]
  public private(set) var observed: [Key: Value] = [:]
  /// Wanted, and missing or different in what stands.
  public private(set) var updateKeys: Set<Key> = []
  /// Standing, and not wanted.
  public private(set) var deletionKeys: Set<Key> = []
  /// (wanted, observed): true when what stands will do. Equality unless a wanted value leaves something open.
  private let isSatisfied: @Sendable (Value, Value) -> Bool

  public init(isSatisfied: @escaping @Sendable (_ wanted: Value, _ observed: Value) -> Bool = { $0 == $1 }) {
    self.isSatisfied = isSatisfied
  }

  /// Nil: not wanted (any more).
  public mutating func want(_ value: Value?, for key: Key) {
    wanted[key] = value
    compare(key)
  }
  /// Nil: does not stand (any more).
  public mutating func observe(_ value: Value?, for key: Key) {
    observed[key] = value
    compare(key)
  }
  /// What stands is exactly this: the result of reading everything back.
  public mutating func observeAll(_ all: [Key: Value]) {
    let before = observed
    observed = all
    for key in before.keys where all[key] == nil { compare(key) }
    for key in all.keys { compare(key) }
  }
  /// Exactly this is wanted.
  public mutating func wantAll(_ all: [Key: Value]) {
    let before = wanted
    wanted = all
    for key in before.keys where all[key] == nil { compare(key) }
    for key in all.keys { compare(key) }
  }

  private mutating func compare(_ key: Key) {
    switch (wanted[key], observed[key]) {
    case (nil, nil):
      updateKeys.remove(key)
      deletionKeys.remove(key)
    case (nil, _?):
      updateKeys.remove(key)
      deletionKeys.insert(key)
    case (_?, nil):
      updateKeys.insert(key)
      deletionKeys.remove(key)
    case (let wanted?, let observed?):
      deletionKeys.remove(key)
      if isSatisfied(wanted, observed) { updateKeys.remove(key) } else { updateKeys.insert(key) }
    }
  }

  public var isSettled: Bool { updateKeys.isEmpty && deletionKeys.isEmpty }
  /// What must be made or changed, in no order.
  public var pendingUpdates: [(key: Key, value: Value)] { updateKeys.map { ($0, wanted[$0]!) } }
  /// What must go, with what stands there, in no order.
  public var pendingDeletions: [(key: Key, value: Value)] { deletionKeys.map { ($0, observed[$0]!) } }
}

extension DeltaMap: Sendable where Key: Sendable, Value: Sendable {}

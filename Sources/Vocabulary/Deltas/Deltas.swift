/// What is wanted, what stands, and what is left to do: the pure heart of every driver.
///
/// The driver says `want` as decisions come in and `observe` as it reads the kernel or has changed it; in any order, any number of
/// times. What is pending depends only on the last value said for each key, never on the path.
///
/// Inlinable throughout: a hundred thousand routes pass here, and generic code that is not specialised costs more than the kernel does.
@frozen
public struct DeltaMap<Key: Hashable, Value: Equatable & SendableMetatype> {
  @usableFromInline var wantedValues: [Key: Value] = [:]
  @usableFromInline var observedValues: [Key: Value] = [:]
  @usableFromInline var updates: Set<Key> = []
  @usableFromInline var deletions: Set<Key> = []
  /// (wanted, observed): true when what stands will do. Equality unless a wanted value leaves something open.
  @usableFromInline let isSatisfied: @Sendable (Value, Value) -> Bool

  @inlinable public init(isSatisfied: @escaping @Sendable (_ wanted: Value, _ observed: Value) -> Bool = { $0 == $1 }) {
    self.isSatisfied = isSatisfied
  }

  @inlinable public var wanted: [Key: Value] { wantedValues }
  @inlinable public var observed: [Key: Value] { observedValues }
  /// Wanted, and missing or different in what stands.
  @inlinable public var updateKeys: Set<Key> { updates }
  /// Standing, and not wanted.
  @inlinable public var deletionKeys: Set<Key> { deletions }

  /// Nil: not wanted (any more).
  @inlinable public mutating func want(_ value: Value?, for key: Key) {
    if let value { wantedValues[key] = value } else { wantedValues.removeValue(forKey: key) }
    compare(key, wanted: value, observed: observedValues[key])
  }
  /// Nil: does not stand (any more).
  @inlinable public mutating func observe(_ value: Value?, for key: Key) {
    if let value { observedValues[key] = value } else { observedValues.removeValue(forKey: key) }
    compare(key, wanted: wantedValues[key], observed: value)
  }
  /// The wanted value of this key stands now: what `observe` says of it, without comparing.
  @inlinable public mutating func settle(_ key: Key, with value: Value) {
    observedValues[key] = value
    updates.remove(key)
  }
  /// What stands is exactly this: the result of reading everything back.
  @inlinable public mutating func observeAll(_ all: [Key: Value]) {
    let before = observedValues
    observedValues = all
    for key in before.keys where all[key] == nil { compare(key, wanted: wantedValues[key], observed: nil) }
    for (key, value) in all { compare(key, wanted: wantedValues[key], observed: value) }
  }
  /// Exactly this is wanted.
  @inlinable public mutating func wantAll(_ all: [Key: Value]) {
    let before = wantedValues
    wantedValues = all
    for key in before.keys where all[key] == nil { compare(key, wanted: nil, observed: observedValues[key]) }
    for (key, value) in all { compare(key, wanted: value, observed: observedValues[key]) }
  }

  @inlinable mutating func compare(_ key: Key, wanted: Value?, observed: Value?) {
    switch (wanted, observed) {
    case (nil, nil): settle(key)
    case (nil, _?):
      if !updates.isEmpty { updates.remove(key) }
      deletions.insert(key)
    case (_?, nil):
      updates.insert(key)
      if !deletions.isEmpty { deletions.remove(key) }
    case (let wanted?, let observed?):
      if isSatisfied(wanted, observed) {
        settle(key)
      } else {
        updates.insert(key)
        if !deletions.isEmpty { deletions.remove(key) }
      }
    }
  }
  @inlinable mutating func settle(_ key: Key) {
    // Asking an empty set costs a hash as well.
    if !updates.isEmpty { updates.remove(key) }
    if !deletions.isEmpty { deletions.remove(key) }
  }

  @inlinable public var isSettled: Bool { updates.isEmpty && deletions.isEmpty }
  /// What must be made or changed, in no order.
  @inlinable public var pendingUpdates: [(key: Key, value: Value)] { updates.map { ($0, wantedValues[$0]!) } }
  /// What must go, with what stands there, in no order.
  @inlinable public var pendingDeletions: [(key: Key, value: Value)] { deletions.map { ($0, observedValues[$0]!) } }
}

extension DeltaMap: Sendable where Key: Sendable, Value: Sendable {}

/// A set of arena slots. Most sets in the label index hold one slot (a label value that one endpoint has), and such a set costs no
/// allocation.
enum SlotSet: Sendable {
  case none
  case one(Int)
  case many(Set<Int>)

  var isEmpty: Bool {
    switch self {
    case .none: true
    case .one: false
    case .many(let slots): slots.isEmpty
    }
  }
  var count: Int {
    switch self {
    case .none: 0
    case .one: 1
    case .many(let slots): slots.count
    }
  }
  func contains(_ slot: Int) -> Bool {
    switch self {
    case .none: false
    case .one(let only): only == slot
    case .many(let slots): slots.contains(slot)
    }
  }
  mutating func insert(_ slot: Int) {
    switch self {
    case .none: self = .one(slot)
    case .one(let only): if only != slot { self = .many([only, slot]) }
    case .many(var slots):
      // Emptied first, so that the set is uniquely held and changes in place.
      self = .none
      slots.insert(slot)
      self = .many(slots)
    }
  }
  mutating func remove(_ slot: Int) {
    switch self {
    case .none: break
    case .one(let only): if only == slot { self = .none }
    case .many(var slots):
      self = .none
      slots.remove(slot)
      self = slots.isEmpty ? .none : .many(slots)
    }
  }
  func forEach(_ body: (Int) -> Void) {
    switch self {
    case .none: break
    case .one(let only): body(only)
    case .many(let slots): for slot in slots { body(slot) }
    }
  }
}

/// Values at stable integer places; a freed place is used again.
struct Arena<Value: Sendable>: Sendable {
  private var values: [Value?] = []
  private var free: [Int] = []
  private(set) var count = 0

  mutating func add(_ value: Value) -> Int {
    count += 1
    if let slot = free.popLast() {
      values[slot] = value
      return slot
    }
    values.append(value)
    return values.count - 1
  }
  mutating func remove(_ slot: Int) {
    precondition(values[slot] != nil, "a slot is freed once")
    values[slot] = nil
    free.append(slot)
    count -= 1
  }
  subscript(slot: Int) -> Value {
    get { values[slot]! }
    _modify { yield &values[slot]! }
  }
}

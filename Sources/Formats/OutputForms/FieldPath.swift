/// The path expressions of `kubectl`'s JSONPath: which values of a document are meant. One value goes in, any number come out.
///
/// `.metadata.name`, `['projectcalico.org/tier']`, `.spec.ingress[0]`, `[-1]`, `[0:2]`, `[0,2]`, `[*]`, `.*`, `..action`,
/// `[?(@.action=="Deny")]`. A path that leads nowhere has no values; that is no error.
public import JSON

public struct FieldPath: Hashable, Sendable {
  indirect enum Step: Hashable, Sendable {
    /// One or several members (`['a','b']`).
    case members([String])
    case elements([Int])
    /// From, to (exclusive), step; negative numbers count from the end.
    case slice(Int?, Int?, Int)
    case all
    /// Every value below, the value itself included.
    case descendants
    case filter(Filter)
    case root
  }
  struct Filter: Hashable, Sendable {
    enum Operand: Hashable, Sendable {
      case path(FieldPath)
      case literal(JSONValue)
    }
    enum Comparison: String, Hashable, Sendable, CaseIterable {
      // The longer ones first: they are looked for in this order.
      case equal = "==", notEqual = "!=", atMost = "<=", atLeast = ">=", less = "<", more = ">"
    }
    var left: Operand
    /// Nil: whether `left` exists.
    var comparison: Comparison?
    var right: Operand?
  }
  var steps: [Step]

  /// As columns and `--sort-by` take it: `{.metadata.name}`, `.metadata.name` or `metadata.name`.
  public init(relaxed text: String) throws(TemplateError) {
    var cursor = TemplateCursor(text)
    cursor.skipBlanks()
    let isBraced = cursor.take("{")
    let steps = try Self.read(&cursor, mayBeginWithName: true)
    cursor.skipBlanks()
    if isBraced, !cursor.take("}") { throw cursor.error("the path does not end here with }") }
    cursor.skipBlanks()
    if let scalar = cursor.next { throw cursor.error("\"\(scalar)\" is not expected behind the path") }
    if steps.isEmpty { throw cursor.error("a path is missing, such as .metadata.name") }
    self.steps = steps
  }
  init(steps: [Step]) { self.steps = steps }

  // MARK: Reading

  /// Up to the first character that is no part of a path.
  static func read(_ cursor: inout TemplateCursor, mayBeginWithName: Bool = false) throws(TemplateError) -> [Step] {
    var steps: [Step] = []
    if cursor.take("$") { steps.append(.root) } else { _ = cursor.take("@") }
    if mayBeginWithName, steps.isEmpty, cursor.next?.isWord == true { steps.append(.members([try name(&cursor)])) }
    while let scalar = cursor.next {
      switch scalar {
      case ".":
        cursor.advance()
        if cursor.take(".") {
          steps.append(.descendants)
          if cursor.next == "[" { continue }
        }
        if cursor.take("*") {
          steps.append(.all)
        } else if cursor.next?.isNamePart == true {
          steps.append(.members([try name(&cursor)]))
        } else if cursor.next == "[" || steps.isEmpty {
          // `.[0]` and the lone `.` mean the value itself.
          continue
        } else {
          throw cursor.error("a field's name is missing behind the dot")
        }
      case "[": steps.append(try bracket(&cursor))
      default: return steps
      }
    }
    return steps
  }

  /// A name; `\.` is a dot inside of it.
  private static func name(_ cursor: inout TemplateCursor) throws(TemplateError) -> String {
    var text = String.UnicodeScalarView()
    while let scalar = cursor.next {
      if scalar == "\\", let escaped = cursor.peek(1) {
        cursor.advance(2)
        text.append(escaped)
      } else if scalar.isNamePart {
        text.append(cursor.advance())
      } else {
        break
      }
    }
    return String(text)
  }

  private static func bracket(_ cursor: inout TemplateCursor) throws(TemplateError) -> Step {
    let start = cursor.position
    cursor.advance()
    cursor.skipBlanks()
    func close(_ cursor: inout TemplateCursor) throws(TemplateError) {
      cursor.skipBlanks()
      guard cursor.take("]") else { throw TemplateError("the bracket that opens here has no closing ]", at: start) }
    }
    if cursor.take("*") {
      try close(&cursor)
      return .all
    }
    if cursor.take("?(") {
      let filter = try filter(&cursor)
      cursor.skipBlanks()
      guard cursor.take(")") else { throw TemplateError("the filter that opens here has no closing )", at: start) }
      try close(&cursor)
      return .filter(filter)
    }
    if cursor.next == "'" || cursor.next == "\"" {
      var names: [String] = []
      repeat {
        cursor.skipBlanks()
        guard cursor.next == "'" || cursor.next == "\"" else { throw cursor.error("a name in quotes is missing") }
        names.append(try cursor.quoted())
        cursor.skipBlanks()
      } while cursor.take(",")
      try close(&cursor)
      return .members(names)
    }
    var numbers: [Int?] = [try number(&cursor)]
    cursor.skipBlanks()
    if cursor.next == ":" {
      while cursor.take(":") {
        numbers.append(try number(&cursor))
        cursor.skipBlanks()
      }
      let step = numbers.count > 2 ? numbers[2] ?? 1 : 1
      guard numbers.count <= 3, step > 0 else {
        throw TemplateError("a range is [from:to] or [from:to:step] with a step above 0", at: start)
      }
      try close(&cursor)
      return .slice(numbers[0], numbers[1], step)
    }
    while cursor.take(",") {
      cursor.skipBlanks()
      numbers.append(try number(&cursor))
      cursor.skipBlanks()
    }
    try close(&cursor)
    let given = numbers.compactMap { $0 }
    guard given.count == numbers.count else {
      throw TemplateError("brackets hold a number, a range, *, ?(filter) or a name in quotes", at: start)
    }
    return .elements(given)
  }

  private static func number(_ cursor: inout TemplateCursor) throws(TemplateError) -> Int? {
    cursor.skipBlanks()
    let start = cursor.position
    let text = cursor.take { $0.isDigit || $0 == "-" }
    if text.isEmpty { return nil }
    guard let number = Int(text) else { throw TemplateError("\"\(text)\" is no number", at: start) }
    return number
  }

  private static func filter(_ cursor: inout TemplateCursor) throws(TemplateError) -> Filter {
    let left = try operand(&cursor)
    cursor.skipBlanks()
    for comparison in Filter.Comparison.allCases where cursor.take(comparison.rawValue) {
      return Filter(left: left, comparison: comparison, right: try operand(&cursor))
    }
    if cursor.next == "&" || cursor.next == "|" || cursor.next == "=" {
      throw cursor.error("a filter is one comparison: @.field, and ==, !=, <, <=, > or >= with a value")
    }
    return Filter(left: left)
  }

  private static func operand(_ cursor: inout TemplateCursor) throws(TemplateError) -> Filter.Operand {
    cursor.skipBlanks()
    switch cursor.next {
    case "@", "$": return .path(FieldPath(steps: try read(&cursor)))
    case "'", "\"": return .literal(.string(try cursor.quoted()))
    default:
      let start = cursor.position
      let text = cursor.take { $0.isWord || $0 == "-" || $0 == "." }
      switch text {
      case "true": return .literal(true)
      case "false": return .literal(false)
      case "null", "nil": return .literal(nil)
      default:
        if let number = Int64(text) { return .literal(.integer(number)) }
        if let number = Double(text), number.isFinite { return .literal(.double(number)) }
        throw TemplateError("\"\(text)\" is no value to compare with: a text in quotes, a number, true, false or @.field", at: start)
      }
    }
  }

  // MARK: Evaluation

  public func values(in value: JSONValue, root: JSONValue? = nil) -> [JSONValue] {
    let root = root ?? value
    var present = [value]
    for step in steps {
      var found: [JSONValue] = []
      for value in present { Self.apply(step, value, root, &found) }
      present = found
    }
    return present
  }

  private static func apply(_ step: Step, _ value: JSONValue, _ root: JSONValue, _ found: inout [JSONValue]) {
    switch step {
    case .root: found.append(root)
    case .members(let names): for name in names { if let member = value[name] { found.append(member) } }
    case .elements(let indices):
      guard let elements = value.array else { return }
      for index in indices {
        let index = index < 0 ? index + elements.count : index
        if elements.indices.contains(index) { found.append(elements[index]) }
      }
    case .slice(let from, let to, let step):
      guard let elements = value.array else { return }
      func place(_ index: Int) -> Int { min(max(index < 0 ? index + elements.count : index, 0), elements.count) }
      found += stride(from: place(from ?? 0), to: place(to ?? elements.count), by: step).map { elements[$0] }
    case .all:
      switch value {
      case .array(let elements): found += elements
      case .object(let object): found += object.members.map(\.value)
      default: break
      }
    case .descendants: descend(value, &found)
    case .filter(let filter):
      let candidates = value.array ?? value.object?.members.map(\.value) ?? []
      found += candidates.filter { filter.holds(for: $0, root: root) }
    }
  }

  private static func descend(_ value: JSONValue, _ found: inout [JSONValue]) {
    found.append(value)
    switch value {
    case .array(let elements): for element in elements { descend(element, &found) }
    case .object(let object): for member in object.members { descend(member.value, &found) }
    default: break
    }
  }
}

extension FieldPath.Filter {
  func holds(for value: JSONValue, root: JSONValue) -> Bool {
    func operand(_ operand: Operand) -> JSONValue? {
      switch operand {
      case .literal(let value): value
      case .path(let path): path.values(in: value, root: root).first
      }
    }
    let left = operand(left)
    guard let comparison, let right = right.map(operand) else { return left != nil }
    guard let left, let right else { return comparison == .notEqual && left != right }
    let order = ValueOrder.compare(left, right)
    switch comparison {
    case .equal: return order == 0
    case .notEqual: return order != 0
    case .less: return order.map { $0 < 0 } ?? false
    case .atMost: return order.map { $0 <= 0 } ?? false
    case .more: return order.map { $0 > 0 } ?? false
    case .atLeast: return order.map { $0 >= 0 } ?? false
    }
  }
}

/// How values of documents are ordered.
public enum ValueOrder {
  /// Below 0, 0 or above 0 for two numbers, two texts, two truth values or two nulls; nil for values that have no order.
  public static func compare(_ a: JSONValue, _ b: JSONValue) -> Int? {
    switch (a, b) {
    case (.string(let a), .string(let b)): return a == b ? 0 : a < b ? -1 : 1
    case (.bool(let a), .bool(let b)): return a == b ? 0 : b ? -1 : 1
    case (.integer(let a), .integer(let b)): return a == b ? 0 : a < b ? -1 : 1
    case (.null, .null): return 0
    default:
      guard let a = a.double, let b = b.double else { return nil }
      return a == b ? 0 : a < b ? -1 : 1
    }
  }

  /// Whether `a` comes before `b` in a sorted list: what is missing first, then by kind of value, then by value. Digits inside of texts
  /// count as numbers, so that web-2 comes before web-10.
  public static func precedes(_ a: JSONValue?, _ b: JSONValue?) -> Bool {
    guard let a, let b else { return a == nil && b != nil }
    if case (.string(let a), .string(let b)) = (a, b) { return naturally(a, b) }
    if let order = compare(a, b) { return order < 0 }
    func rank(_ value: JSONValue) -> Int {
      switch value {
      case .null: 0
      case .bool: 1
      case .integer, .unsigned, .double: 2
      case .string: 3
      case .array: 4
      case .object: 5
      }
    }
    return rank(a) < rank(b)
  }

  private static func naturally(_ a: String, _ b: String) -> Bool {
    let (a, b) = (Array(a.utf8), Array(b.utf8))
    var (i, j) = (0, 0)
    func digits(_ text: [UInt8], _ start: Int) -> ArraySlice<UInt8> {
      text[start...].prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
    }
    while i < a.count, j < b.count {
      let (numberA, numberB) = (digits(a, i), digits(b, j))
      if !numberA.isEmpty, !numberB.isEmpty {
        // Without leading zeros, the longer number is the greater one.
        let (plainA, plainB) = (numberA.drop { $0 == UInt8(ascii: "0") }, numberB.drop { $0 == UInt8(ascii: "0") })
        if plainA.count != plainB.count { return plainA.count < plainB.count }
        if !plainA.elementsEqual(plainB) { return plainA.lexicographicallyPrecedes(plainB) }
        (i, j) = (i + numberA.count, j + numberB.count)
      } else {
        if a[i] != b[j] { return a[i] < b[j] }
        (i, j) = (i + 1, j + 1)
      }
    }
    return a.count - i < b.count - j
  }
}

extension Unicode.Scalar {
  /// Part of a field's name in a path without quotes.
  fileprivate var isNamePart: Bool { isWord || self == "-" || self == "/" || self == "\\" }
}

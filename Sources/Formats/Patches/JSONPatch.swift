/// JSON Patch (RFC 6902): a list of operations, done in order, all or none.
///
/// Hazard: a document copied into itself again and again doubles each time. What copies bring together is bounded, and so is the depth.
public import JSON

public struct JSONPatch: Hashable, Sendable {
  /// RFC 6902, section 4.
  public enum Operation: Hashable, Sendable {
    case add(JSONPointer, JSONValue)
    case remove(JSONPointer)
    case replace(JSONPointer, JSONValue)
    case move(from: JSONPointer, to: JSONPointer)
    case copy(from: JSONPointer, to: JSONPointer)
    case test(JSONPointer, JSONValue)
  }
  public let operations: [Operation]

  /// RFC 6902, section 3: an array of objects. Members that no operation defines are ignored (section 4).
  public init(_ document: JSONValue) throws(PatchProblem) {
    guard let elements = document.array else {
      throw PatchProblem("a JSON patch is a list of operations, such as [{\"op\": \"add\", \"path\": \"/spec/order\", \"value\": 10}]")
    }
    var operations: [Operation] = []
    for (index, element) in elements.enumerated() {
      do throws(PatchProblem) {
        operations.append(try Self.operation(element))
      } catch {
        throw PatchProblem("operation \(index + 1) of the patch: \(error)")
      }
    }
    self.operations = operations
  }

  private static func operation(_ element: JSONValue) throws(PatchProblem) -> Operation {
    guard element.object != nil else { throw PatchProblem("is no object") }
    guard let word = element["op"]?.string else { throw PatchProblem("has no op") }
    func pointer(_ name: String) throws(PatchProblem) -> JSONPointer {
      guard let text = element[name]?.string else { throw PatchProblem("\(word) has no \(name)") }
      return try JSONPointer(text)
    }
    func value() throws(PatchProblem) -> JSONValue {
      guard let value = element["value"] else { throw PatchProblem("\(word) has no value") }
      return value
    }
    switch word {
    case "add": return .add(try pointer("path"), try value())
    case "remove": return .remove(try pointer("path"))
    case "replace": return .replace(try pointer("path"), try value())
    case "move": return .move(from: try pointer("from"), to: try pointer("path"))
    case "copy": return .copy(from: try pointer("from"), to: try pointer("path"))
    case "test": return .test(try pointer("path"), try value())
    default: throw PatchProblem("\"\(word)\" is no operation; one of add, remove, replace, move, copy, test")
    }
  }

  /// RFC 6902, section 5: an operation that fails ends it all.
  public func apply(to document: JSONValue) throws(PatchProblem) -> JSONValue {
    var result = document
    var copied = 0
    for (index, operation) in operations.enumerated() {
      do throws(PatchProblem) {
        try Self.perform(operation, on: &result, &copied)
      } catch {
        throw PatchProblem("operation \(index + 1) of the patch: \(error)")
      }
    }
    return result
  }

  /// Values that all copies of one patch may bring together.
  static let copiedMax = 1_000_000

  private static func perform(_ operation: Operation, on document: inout JSONValue, _ copied: inout Int) throws(PatchProblem) {
    func present(_ pointer: JSONPointer) throws(PatchProblem) -> JSONValue {
      guard let value = pointer.value(in: document) else { throw PatchProblem("there is nothing at \(pointer)") }
      return value
    }
    switch operation {
    case .add(let path, let value): try add(value, path.tokens[...], path, &document)
    case .remove(let path):
      _ = try present(path)
      try remove(path.tokens[...], path, &document)
    case .replace(let path, let value):
      _ = try present(path)
      try set(value, path.tokens[...], &document)
    case .move(let from, let to):
      let value = try present(from)
      if from.isProperPrefix(of: to) { throw PatchProblem("\(from) cannot move into itself, to \(to)") }
      if from == to { return }
      try remove(from.tokens[...], from, &document)
      try add(value, to.tokens[...], to, &document)
    case .copy(let from, let to):
      let value = try present(from)
      copied += value.extent.count
      if copied > copiedMax { throw PatchProblem("the copies of this patch are more than \(copiedMax) values together") }
      try add(value, to.tokens[...], to, &document)
    case .test(let path, let value):
      let found = try present(path)
      guard found.means(value) else { throw PatchProblem("test: \(path) is \(found.text()), not \(value.text())") }
    }
  }

  private static func add(
    _ value: JSONValue, _ tokens: ArraySlice<String>, _ path: JSONPointer, _ target: inout JSONValue
  ) throws(PatchProblem) {
    if tokens.count == path.tokens.count, path.tokens.count + value.extent.depth > JSONValue.depthMax {
      throw PatchProblem("\(path) would be nested deeper than \(JSONValue.depthMax) levels")
    }
    guard let token = tokens.first else {
      target = value
      return
    }
    let isLast = tokens.count == 1
    switch target {
    case .object(var object):
      if isLast {
        object[token] = value
      } else {
        guard var inner = object[token] else { throw PatchProblem("there is no \"\(token)\" on the way to \(path)") }
        try add(value, tokens.dropFirst(), path, &inner)
        object[token] = inner
      }
      target = .object(object)
    case .array(var elements):
      if isLast {
        guard let index = token == "-" ? elements.count : JSONPointer.index(token), index <= elements.count else {
          throw PatchProblem("\(path) is no place in a list of \(elements.count): 0 to \(elements.count), or - for its end")
        }
        elements.insert(value, at: index)
      } else {
        guard let index = JSONPointer.index(token), index < elements.count else {
          throw PatchProblem("there is no element \"\(token)\" on the way to \(path)")
        }
        try add(value, tokens.dropFirst(), path, &elements[index])
      }
      target = .array(elements)
    default: throw PatchProblem("\"\(token)\" on the way to \(path) is neither in an object nor in a list")
    }
  }

  // What the two below change is there: the caller looked.

  private static func set(_ value: JSONValue, _ tokens: ArraySlice<String>, _ target: inout JSONValue) throws(PatchProblem) {
    guard let token = tokens.first else {
      target = value
      return
    }
    if case .array(var elements) = target, let index = JSONPointer.index(token) {
      try set(value, tokens.dropFirst(), &elements[index])
      target = .array(elements)
    } else if var inner = target[token] {
      try set(value, tokens.dropFirst(), &inner)
      target[token] = inner
    }
  }

  private static func remove(_ tokens: ArraySlice<String>, _ path: JSONPointer, _ target: inout JSONValue) throws(PatchProblem) {
    guard let token = tokens.first else { throw PatchProblem("the whole document cannot be removed") }
    if case .array(var elements) = target, let index = JSONPointer.index(token) {
      if tokens.count == 1 { elements.remove(at: index) } else { try remove(tokens.dropFirst(), path, &elements[index]) }
      target = .array(elements)
    } else if tokens.count == 1 {
      target[token] = nil
    } else if var inner = target[token] {
      try remove(tokens.dropFirst(), path, &inner)
      target[token] = inner
    }
  }
}

extension JSONValue {
  /// How many values there are in it, itself included, and how deep they are nested.
  fileprivate var extent: (count: Int, depth: Int) {
    let inner: [JSONValue] =
      switch self {
      case .array(let elements): elements
      case .object(let object): object.members.map(\.value)
      default: []
      }
    return inner.map(\.extent).reduce((1, 1)) { ($0.0 + $1.count, max($0.1, $1.depth + 1)) }
  }

  /// Equality by RFC 6902, section 4.6: the order of members does not count, and 1 is 1.0.
  public func means(_ other: JSONValue) -> Bool {
    switch (self, other) {
    case (.object(let a), .object(let b)):
      guard a.members.count == b.members.count else { return false }
      let values = Dictionary(b.members.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
      return a.members.allSatisfy { member in values[member.name].map { member.value.means($0) } ?? false }
    case (.array(let a), .array(let b)): return a.count == b.count && zip(a, b).allSatisfy { $0.means($1) }
    case (.double, _), (_, .double): return double != nil && double == other.double
    default: return self == other
    }
  }
}

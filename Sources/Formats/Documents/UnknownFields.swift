/// Fields that this program does not know.
///
/// In a document that somebody wrote they are mistakes. In an object that is stored already they are somebody else's, a newer Calico's
/// perhaps, and stay: whoever changes such an object as a whole finds them here, sets them aside for the review, and writes them again.
public import JSON

extension DocumentError {
  static let unknownFieldRule = "is not a field that exists here"
  public var isUnknownField: Bool { rule == Self.unknownFieldRule }
}

extension ResourceCodec {
  /// An object without what nobody here knows of it.
  static func withoutUnknownFields(_ document: JSONValue) -> JSONValue {
    review(PositionedDocument(file: "", value: document)).errors.filter(\.isUnknownField).reduce(document) { value, error in
      value.removingMember(at: error.path.steps ?? [])
    }
  }
}

extension JSONPath {
  public enum Step: Hashable, Sendable {
    case member(String)
    case element(Int)
  }
  /// The way, step by step; nil if the text is no path.
  public var steps: [Step]? {
    var steps: [Step] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.first {
      if byte == UInt8(ascii: "["), rest.dropFirst().first == UInt8(ascii: "\"") {
        // To the closing quote: the first that no backslash escapes.
        var end = rest.startIndex + 2
        while end < rest.endIndex, rest[end] != UInt8(ascii: "\"") { end += rest[end] == UInt8(ascii: "\\") ? 2 : 1 }
        guard end + 1 < rest.endIndex, rest[end + 1] == UInt8(ascii: "]"),
          let name = (try? JSONValue(parsing: rest[(rest.startIndex + 1)...end]))?.string
        else { return nil }
        steps.append(.member(name))
        rest = rest[(end + 2)...]
      } else if byte == UInt8(ascii: "[") {
        guard let end = rest.firstIndex(of: UInt8(ascii: "]")),
          let index = Int(String(decoding: rest[(rest.startIndex + 1)..<end], as: UTF8.self))
        else { return nil }
        steps.append(.element(index))
        rest = rest[(end + 1)...]
      } else {
        if byte == UInt8(ascii: ".") { rest = rest.dropFirst() }
        let name = rest.prefix { $0 != UInt8(ascii: ".") && $0 != UInt8(ascii: "[") }
        if name.isEmpty { return nil }
        steps.append(.member(String(decoding: name, as: UTF8.self)))
        rest = rest[name.endIndex...]
      }
    }
    return steps
  }
}

extension JSONValue {
  public func value(at steps: some Collection<JSONPath.Step>) -> JSONValue? {
    var value = self
    for step in steps {
      switch step {
      case .member(let name):
        guard let inner = value[name] else { return nil }
        value = inner
      case .element(let index):
        guard let elements = value.array, elements.indices.contains(index) else { return nil }
        value = elements[index]
      }
    }
    return value
  }

  /// Without the member at the end of these steps. What is not there stays away; an element of a list is never taken out.
  public func removingMember(at steps: some Collection<JSONPath.Step>) -> JSONValue {
    guard let step = steps.first else { return self }
    switch (step, self) {
    case (.member(let name), .object(var object)):
      if steps.count == 1 { object[name] = nil } else { object[name] = object[name]?.removingMember(at: steps.dropFirst()) }
      return .object(object)
    case (.element(let index), .array(var elements)) where elements.indices.contains(index):
      elements[index] = elements[index].removingMember(at: steps.dropFirst())
      return .array(elements)
    default: return self
    }
  }
}

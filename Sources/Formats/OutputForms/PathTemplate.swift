/// `-o jsonpath=…`: text with path expressions in braces, as `kubectl` reads it.
///
/// `{.items[*].metadata.name}` prints all values with blanks between them; `{range .items[*]}{.metadata.name}{"\n"}{end}` repeats what stands
/// between for each value. Texts print as they are, everything else as JSON; a path that leads nowhere prints nothing.
public import JSON

public struct PathTemplate: Hashable, Sendable {
  indirect enum Part: Hashable, Sendable {
    case text(String)
    case path(FieldPath)
    case range(FieldPath, [Part])
  }
  let parts: [Part]

  public init(_ text: String) throws(TemplateError) {
    var cursor = TemplateCursor(text)
    parts = try Self.read(&cursor, rangeFrom: nil)
  }

  private static func read(_ cursor: inout TemplateCursor, rangeFrom start: JSONPosition?) throws(TemplateError) -> [Part] {
    var parts: [Part] = []
    while !cursor.isAtEnd {
      let plain = cursor.take { $0 != "{" }
      if !plain.isEmpty { parts.append(.text(plain)) }
      if cursor.isAtEnd { break }
      let opening = cursor.position
      cursor.advance()
      cursor.skipBlanks()
      var part: Part?
      if isWord("end", cursor) {
        cursor.advance(3)
        cursor.skipBlanks()
        guard cursor.take("}") else { throw TemplateError("the expression that begins here has no closing }", at: opening) }
        guard start != nil else { throw TemplateError("{end} without a {range …} before it", at: opening) }
        return parts
      }
      if isWord("range", cursor) {
        cursor.advance(5)
        cursor.skipBlanks()
        let steps = try FieldPath.read(&cursor, mayBeginWithName: true)
        try close(&cursor, opening)
        parts.append(.range(FieldPath(steps: steps), try read(&cursor, rangeFrom: opening)))
        continue
      }
      switch cursor.next {
      case "\"", "'": part = .text(try cursor.quoted())
      case "}": throw TemplateError("the expression is empty; write a path, as in {.metadata.name}", at: opening)
      default: part = .path(FieldPath(steps: try FieldPath.read(&cursor, mayBeginWithName: true)))
      }
      try close(&cursor, opening)
      if let part { parts.append(part) }
    }
    if let start { throw TemplateError("the {range …} that begins here has no {end}", at: start) }
    return parts
  }
  private static func isWord(_ word: String, _ cursor: TemplateCursor) -> Bool {
    guard cursor.starts(with: word), let behind = cursor.peek(word.unicodeScalars.count) else { return false }
    return behind.isBlank || behind == "}"
  }
  private static func close(_ cursor: inout TemplateCursor, _ opening: JSONPosition) throws(TemplateError) {
    cursor.skipBlanks()
    if cursor.take("}") { return }
    if let scalar = cursor.next { throw cursor.error("\"\(scalar)\" is not expected here; } ends the expression") }
    throw TemplateError("the expression that begins here has no closing }", at: opening)
  }

  public func text(for value: JSONValue) -> String {
    var text = ""
    Self.print(parts, value, value, &text)
    return text
  }
  private static func print(_ parts: [Part], _ value: JSONValue, _ root: JSONValue, _ text: inout String) {
    for part in parts {
      switch part {
      case .text(let plain): text += plain
      case .path(let path): text += path.values(in: value, root: root).map(\.plainText).joined(separator: " ")
      case .range(let path, let inner): for element in path.values(in: value, root: root) { print(inner, element, root, &text) }
      }
    }
  }
}

extension JSONValue {
  /// A text without its quotes; everything else as JSON on one line.
  public var plainText: String { string ?? text() }
}

/// What is wrong with a template or a path that somebody gave for the output, and where in their text.
public import JSON

public struct TemplateError: Error, Hashable, Sendable, CustomStringConvertible {
  public var position: JSONPosition
  public var message: String
  public init(_ message: String, at position: JSONPosition) {
    self.position = position
    self.message = message
  }
  /// `line 1, column 9: …`
  public var description: String { "line \(position.line), column \(position.column): \(message)" }
}

/// The characters of a template with a cursor that knows its place.
struct TemplateCursor {
  private let characters: [Unicode.Scalar]
  private(set) var index = 0
  private(set) var position = JSONPosition(line: 1, column: 1)

  init(_ text: String) { characters = Array(text.unicodeScalars) }

  var isAtEnd: Bool { index >= characters.count }
  var next: Unicode.Scalar? { isAtEnd ? nil : characters[index] }
  /// The scalar `offset` places behind the next one.
  func peek(_ offset: Int) -> Unicode.Scalar? { index + offset < characters.count ? characters[index + offset] : nil }
  func starts(with text: String) -> Bool {
    var offset = 0
    for scalar in text.unicodeScalars {
      guard peek(offset) == scalar else { return false }
      offset += 1
    }
    return true
  }
  @discardableResult
  mutating func advance() -> Unicode.Scalar {
    let scalar = characters[index]
    index += 1
    if scalar == "\n" { position = JSONPosition(line: position.line + 1, column: 1) } else { position.column += 1 }
    return scalar
  }
  mutating func advance(_ count: Int) { for _ in 0..<count where !isAtEnd { advance() } }
  /// Steps over `text` if it comes next.
  mutating func take(_ text: String) -> Bool {
    guard starts(with: text) else { return false }
    advance(text.unicodeScalars.count)
    return true
  }
  mutating func skipBlanks() { while let scalar = next, scalar.isBlank { advance() } }
  mutating func take(while condition: (Unicode.Scalar) -> Bool) -> String {
    var text = String.UnicodeScalarView()
    while let scalar = next, condition(scalar) { text.append(advance()) }
    return String(text)
  }
  func error(_ message: String) -> TemplateError { TemplateError(message, at: position) }

  /// A literal between equal quotes, with the escapes that both Go and JSON have.
  mutating func quoted() throws(TemplateError) -> String {
    let start = position
    let quote = advance()
    var text = String.UnicodeScalarView()
    while let scalar = next {
      if scalar == quote {
        advance()
        return String(text)
      }
      if scalar == "\n" { break }
      advance()
      guard scalar == "\\" else {
        text.append(scalar)
        continue
      }
      guard let escaped = next else { break }
      switch escaped {
      case "n": text.append("\n")
      case "t": text.append("\t")
      case "r": text.append("\r")
      case "\\", "\"", "'", "/": text.append(escaped)
      case "u":
        let digits = (1...4).compactMap { peek($0) }
        var hex = String.UnicodeScalarView()
        hex.append(contentsOf: digits)
        guard digits.count == 4, let number = UInt32(String(hex), radix: 16), let character = Unicode.Scalar(number) else {
          throw error("\\u needs four hexadecimal digits")
        }
        text.append(character)
        advance(4)
      default: throw error("\\\(escaped) is no escape; \\n, \\t, \\r, \\\\, \\\" and \\u0000 are")
      }
      advance()
    }
    throw TemplateError("the text that begins here has no closing \(quote)", at: start)
  }
}

extension Unicode.Scalar {
  var isBlank: Bool { self == " " || self == "\t" || self == "\n" || self == "\r" }
  var isDigit: Bool { ("0"..."9").contains(self) }
  /// May stand in a name: of a field, a function, a variable.
  var isWord: Bool { isDigit || self == "_" || ("a"..."z").contains(self) || ("A"..."Z").contains(self) || value > 127 }
}

/// Text to selector. The grammar is Calico's:
///
///     or   := and ("||" and)*
///     and  := op ("&&" op)*
///     op   := "!"* ( "has(" label ")" | "all()" | "global()" | label comparison | "(" or ")" )
///     comparison := ("==" | "!=" | "contains" | "starts with" | "ends with") literal | ("in" | "not in") "{" literals "}"
///
/// White space is blank and tab; literals stand in either kind of quote and know no escapes. Words such as `in` are labels wherever a label
/// is expected, so `in == "x"` is fine.

/// Why a text is no selector, and where.
public struct SelectorError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The character, from 1; one more than the text has if something is missing at its end.
  public let position: Int
  /// What stands there and what may stand there.
  public let message: String
  public var description: String { "character \(position): \(message)" }
}

struct SelectorParser {
  /// Parentheses may be nested this deep; the parser and every walk over the tree recurse.
  static let depthMax = 128
  static let labelLengthMax = 512

  private let bytes: [UInt8]
  private var offset = 0

  init(_ text: String) { bytes = Array(text.utf8) }

  mutating func whole() throws(SelectorError) -> Selector.Node {
    skipBlanks()
    if offset == bytes.count { return .all }
    let node = try or(depth: 0)
    skipBlanks()
    if offset < bytes.count { throw unexpected("&&, || or the end") }
    return node
  }

  // MARK: Grammar

  private mutating func or(depth: Int) throws(SelectorError) -> Selector.Node {
    var operands = [try and(depth: depth)]
    while try symbol("||") { operands.append(try and(depth: depth)) }
    return operands.count == 1 ? operands[0] : .or(operands)
  }

  private mutating func and(depth: Int) throws(SelectorError) -> Selector.Node {
    var operands = [try operation(depth: depth)]
    while try symbol("&&") { operands.append(try operation(depth: depth)) }
    return operands.count == 1 ? operands[0] : .and(operands)
  }

  private mutating func operation(depth: Int) throws(SelectorError) -> Selector.Node {
    var negated = false
    skipBlanks()
    while peek() == UInt8(ascii: "!") {
      offset += 1
      negated.toggle()
      skipBlanks()
    }
    let node = try condition(depth: depth)
    guard negated else { return node }
    // `!(!x)`: double negation collapses through parentheses too, as the canonical text has none for a single operand.
    if case .not(let operand) = node { return operand }
    return .not(node)
  }

  private mutating func condition(depth: Int) throws(SelectorError) -> Selector.Node {
    guard let byte = peek() else { throw unexpected("a condition") }
    if byte == UInt8(ascii: "(") {
      let start = offset
      if depth >= Self.depthMax { throw error("parentheses are nested deeper than \(Self.depthMax) levels") }
      offset += 1
      skipBlanks()
      if peek() == UInt8(ascii: ")") { throw error("the parentheses hold no condition; write all() to select everything", at: start) }
      let node = try or(depth: depth + 1)
      skipBlanks()
      guard peek() == UInt8(ascii: ")") else {
        if offset == bytes.count { throw error("this '(' is never closed; ')' is missing at the end", at: start) }
        throw unexpected("&&, || or ')'")
      }
      offset += 1
      return node
    }
    if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
      throw error("a quoted value where a label is expected; labels stand without quotes, on the left: label == \"value\"")
    }
    guard Self.isLabelByte(byte) else { throw unexpected("a label, has(…), all(), global(), '!' or '('") }
    let start = offset
    let word = try label()
    if peek() == UInt8(ascii: "("), ["has", "all", "global"].contains(word) {
      offset += 1
      skipBlanks()
      var node: Selector.Node = word == "all" ? .all : .global
      if word == "has" {
        guard let byte = peek(), Self.isLabelByte(byte) else { throw unexpected("a label, without quotes, inside has()") }
        node = .has(try label())
        skipBlanks()
      }
      guard peek() == UInt8(ascii: ")") else { throw unexpected("')' to close \(word)(") }
      offset += 1
      return node
    }
    return try comparison(of: word, at: start)
  }

  private mutating func comparison(of label: String, at start: Int) throws(SelectorError) -> Selector.Node {
    skipBlanks()
    let operatorStart = offset
    guard let byte = peek() else { throw bare(label, at: start) }
    switch byte {
    case UInt8(ascii: "="):
      guard try symbol("==") else { throw error("a single '='; write ==") }
      return .equal(label, try literal(after: "=="))
    case UInt8(ascii: "!"):
      guard try symbol("!=") else { throw unexpected("!= or another operator after label \(label)") }
      return .notEqual(label, try literal(after: "!="))
    case UInt8(ascii: "&"), UInt8(ascii: "|"), UInt8(ascii: ")"): throw bare(label, at: start)
    default: break
    }
    guard Self.isLabelByte(byte) else { throw unexpected("an operator after label \(label): \(Self.operators)") }
    switch word() {
    case "contains": return .contains(label, try literal(after: "contains"))
    case "startswith": return .starts(label, try literal(after: "starts with"))
    case "endswith": return .ends(label, try literal(after: "ends with"))
    case "in": return .isIn(label, try set(after: "in"))
    case "notin": return .notIn(label, try set(after: "not in"))
    case "starts" where follows("with"): return .starts(label, try literal(after: "starts with"))
    case "ends" where follows("with"): return .ends(label, try literal(after: "ends with"))
    case "not" where follows("in"): return .notIn(label, try set(after: "not in"))
    case let word:
      throw error("\"\(word)\" is no operator; after label \(label) may stand \(Self.operators)", at: operatorStart)
    }
  }

  static let operators = "==, !=, in, not in, contains, starts with or ends with"

  private mutating func literal(after operation: String) throws(SelectorError) -> String {
    skipBlanks()
    guard let quote = peek(), quote == UInt8(ascii: "\"") || quote == UInt8(ascii: "'") else {
      if let byte = peek(), Self.isLabelByte(byte) {
        let start = offset
        let word = word()
        throw error("\(word) where a value is expected after \(operation); values stand in quotes: \"\(word)\"", at: start)
      }
      throw unexpected("a value in quotes after \(operation)")
    }
    let start = offset
    guard let end = bytes[(start + 1)...].firstIndex(of: quote) else {
      throw error("the quote that opens here is never closed", at: start)
    }
    offset = end + 1
    return String(decoding: bytes[(start + 1)..<end], as: UTF8.self)
  }

  private mutating func set(after operation: String) throws(SelectorError) -> [String] {
    skipBlanks()
    guard peek() == UInt8(ascii: "{") else { throw unexpected("a set after \(operation), such as {\"a\", \"b\"}") }
    let start = offset
    offset += 1
    var values: [String] = []
    while true {
      skipBlanks()
      guard let byte = peek(), byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") else { break }
      values.append(try literal(after: operation))
      skipBlanks()
      guard peek() == UInt8(ascii: ",") else { break }
      offset += 1
    }
    guard peek() == UInt8(ascii: "}") else {
      if offset == bytes.count { throw error("this '{' is never closed; '}' is missing at the end", at: start) }
      throw unexpected("a value in quotes, ',' or '}'")
    }
    offset += 1
    // Octet order, so that every host writes the same canonical text.
    values.sort { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    return values.enumerated().filter { $0.offset == 0 || values[$0.offset - 1] != $0.element }.map(\.element)
  }

  // MARK: Words

  static func isLabelByte(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
      UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "/"), UInt8(ascii: "-"):
      true
    default: false
    }
  }

  private mutating func word() -> String {
    let start = offset
    while let byte = peek(), Self.isLabelByte(byte) { offset += 1 }
    return String(decoding: bytes[start..<offset], as: UTF8.self)
  }

  private mutating func label() throws(SelectorError) -> String {
    let start = offset
    let label = word()
    if label.utf8.count > Self.labelLengthMax {
      throw error("the label has \(label.utf8.count) characters; at most \(Self.labelLengthMax) are allowed", at: start)
    }
    return label
  }

  /// Reads the second word of an operator; stays in place if it is not there.
  private mutating func follows(_ second: String) -> Bool {
    let start = offset
    skipBlanks()
    if word() == second { return true }
    offset = start
    return false
  }

  private mutating func symbol(_ symbol: StaticString) throws(SelectorError) -> Bool {
    skipBlanks()
    let wanted = Array(symbol.description.utf8)
    guard peek() == wanted[0] else { return false }
    guard offset + 1 < bytes.count, bytes[offset + 1] == wanted[1] else {
      if wanted[0] == wanted[1] { throw error("a single '\(symbol.description.prefix(1))'; write \(symbol)") }
      return false
    }
    offset += 2
    return true
  }

  private func peek() -> UInt8? { offset < bytes.count ? bytes[offset] : nil }

  private mutating func skipBlanks() {
    while let byte = peek(), byte == 0x20 || byte == 0x09 { offset += 1 }
  }

  // MARK: Errors

  private func error(_ message: String, at target: Int? = nil) -> SelectorError {
    // Characters, not octets: the operator counts what is seen.
    SelectorError(position: bytes[..<(target ?? offset)].count { $0 & 0xc0 != 0x80 } + 1, message: message)
  }

  private func bare(_ label: String, at start: Int) -> SelectorError {
    error("label \(label) stands alone; write has(\(label)), or compare it: \(label) == \"value\"", at: start)
  }

  private func unexpected(_ expected: String) -> SelectorError {
    guard offset < bytes.count else { return error("the selector ends where \(expected) is expected") }
    // Enough of what stands there to find it again: the whole word, or one character.
    var end = offset + 1
    if Self.isLabelByte(bytes[offset]) {
      while end < bytes.count, Self.isLabelByte(bytes[end]) { end += 1 }
    } else {
      while end < bytes.count, bytes[end] & 0xc0 == 0x80 { end += 1 }
    }
    let found = String(decoding: bytes[offset..<end], as: UTF8.self)
    let named = found == "\n" || found == "\r" ? "a line break" : "'\(found)'"
    return error("\(named) where \(expected) is expected")
  }
}

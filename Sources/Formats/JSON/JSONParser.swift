/// Octets to a JSON tree, strictly by RFC 8259; whatever the tree could not hold exactly is refused with its line and column.
///
/// Hazards and the answer to each: nesting (a depth limit, because the parser recurses), repeated member names (refused; RFC 8259,
/// section 4, calls the outcome unpredictable), lone surrogates and broken UTF-8 (refused; a Swift string cannot hold them), integers
/// beyond 64 bits (kept as the nearest double), numbers beyond a double (refused).

/// Why a text is no JSON, and where.
public struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What stands there and what may stand there.
  public let message: String
  public let position: JSONPosition
  public init(_ message: String, at position: JSONPosition) {
    self.message = message
    self.position = position
  }
  public var description: String { "\(position): \(message)" }
}

extension JSONValue {
  /// Nesting of arrays and objects that parsing accepts unless told otherwise.
  public static let depthMax = 128

  /// Parses one JSON value that fills the whole input (white space around it is allowed).
  public init(parsing bytes: [UInt8], depthMax: Int = JSONValue.depthMax) throws(JSONError) {
    var parser = JSONParser(bytes, depthMax: depthMax, recording: false)
    self = try parser.document()
  }
  /// Parses one JSON value that fills the whole input.
  public init(parsing bytes: some Collection<UInt8>) throws(JSONError) {
    try self.init(parsing: Array(bytes))
  }
  /// Parses one JSON value that fills the whole text.
  public init(parsing text: String) throws(JSONError) {
    try self.init(parsing: Array(text.utf8))
  }
  /// Parses like `init(parsing:)` and also tells where each value stands in the source.
  public static func parsePositioned(
    _ bytes: some Collection<UInt8>, depthMax: Int = JSONValue.depthMax
  ) throws(JSONError) -> (value: JSONValue, positions: JSONPositions) {
    var parser = JSONParser(Array(bytes), depthMax: depthMax, recording: true)
    let value = try parser.document()
    return (value, parser.positions)
  }
}

struct JSONParser {
  private let bytes: [UInt8]
  private let depthMax: Int
  private let recording: Bool
  private var offset = 0
  private(set) var positions = JSONPositions()
  private var path = JSONPath()
  // Positions are asked for in the order of the source, so one pass over the octets serves them all.
  private var located = 0
  private var line = 1
  private var column = 1

  init(_ bytes: [UInt8], depthMax: Int, recording: Bool) {
    self.bytes = bytes
    self.depthMax = depthMax
    self.recording = recording
  }

  mutating func document() throws(JSONError) -> JSONValue {
    if bytes.starts(with: [0xef, 0xbb, 0xbf]) { throw fail("a byte order mark is not JSON (RFC 8259, section 8.1); remove it") }
    skipSpace()
    let result = try value(depth: 0)
    skipSpace()
    if offset < bytes.count { throw fail("\(here) after the end of the value") }
    return result
  }

  // MARK: Values

  private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
    if recording { positions.record(value: position(at: offset), at: path) }
    guard offset < bytes.count else { throw fail("the text ends where a value is expected") }
    switch bytes[offset] {
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "{"): return try object(depth: depth + 1)
    case UInt8(ascii: "["): return try array(depth: depth + 1)
    case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
    case UInt8(ascii: "t"):
      try literal("true")
      return .bool(true)
    case UInt8(ascii: "f"):
      try literal("false")
      return .bool(false)
    case UInt8(ascii: "n"):
      try literal("null")
      return .null
    default: throw fail("\(here) where a value is expected")
    }
  }

  private mutating func literal(_ word: StaticString) throws(JSONError) {
    let text = word.description
    let end = offset + text.utf8.count
    guard end <= bytes.count, bytes[offset..<end].elementsEqual(text.utf8) else {
      throw fail("\(here) where a value is expected; the bare words are true, false and null")
    }
    offset = end
  }

  private mutating func array(depth: Int) throws(JSONError) -> JSONValue {
    if depth > depthMax { throw fail("nested deeper than \(depthMax) levels") }
    offset += 1
    skipSpace()
    var elements: [JSONValue] = []
    if next(is: UInt8(ascii: "]")) { return .array(elements) }
    let outer = path
    while true {
      if recording { path = outer.element(elements.count) }
      elements.append(try value(depth: depth))
      skipSpace()
      if next(is: UInt8(ascii: ",")) {
        skipSpace()
        continue
      }
      guard next(is: UInt8(ascii: "]")) else { throw fail("\(here) where ',' or ']' is expected") }
      path = outer
      return .array(elements)
    }
  }

  private mutating func object(depth: Int) throws(JSONError) -> JSONValue {
    if depth > depthMax { throw fail("nested deeper than \(depthMax) levels") }
    offset += 1
    skipSpace()
    var members: [JSONObject.Member] = []
    if next(is: UInt8(ascii: "}")) { return .object(JSONObject()) }
    // A linear look is cheapest for the few members that objects usually have; beyond that a set keeps big maps linear in total.
    var names: Set<String> = []
    let outer = path
    while true {
      let start = offset
      guard offset < bytes.count, bytes[offset] == UInt8(ascii: "\"") else {
        throw fail("\(here) where a member name in quotes is expected")
      }
      let name = try string()
      let repeated: Bool
      if members.count < 16 {
        repeated = members.contains { $0.name == name }
      } else {
        if members.count == 16 { names = Set(members.map(\.name)) }
        repeated = !names.insert(name).inserted
      }
      if repeated { throw fail("member \(JSONValue.string(name).text()) appears twice in one object", at: start) }
      if recording {
        path = outer.member(name)
        positions.record(name: position(at: start), at: path)
      }
      skipSpace()
      guard next(is: UInt8(ascii: ":")) else { throw fail("\(here) where ':' is expected") }
      skipSpace()
      members.append(JSONObject.Member(name, try value(depth: depth)))
      skipSpace()
      if next(is: UInt8(ascii: ",")) {
        skipSpace()
        continue
      }
      guard next(is: UInt8(ascii: "}")) else { throw fail("\(here) where ',' or '}' is expected") }
      path = outer
      return .object(JSONObject(members))
    }
  }

  private mutating func number() throws(JSONError) -> JSONValue {
    let start = offset
    let negative = next(is: UInt8(ascii: "-"))
    guard let first = digit() else { throw fail("\(here) where a digit is expected") }
    var magnitude = UInt64(first)
    var exact = true
    if first == 0 {
      if digit() != nil { throw fail("a number does not begin with a superfluous 0", at: start) }
    } else {
      while let digit = digit() {
        let (product, high) = magnitude.multipliedReportingOverflow(by: 10)
        let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
        if high || carry { exact = false }
        magnitude = sum
      }
    }
    var whole = true
    if next(is: UInt8(ascii: ".")) {
      whole = false
      guard digit() != nil else { throw fail("\(here) where a digit is expected after '.'") }
      while digit() != nil {}
    }
    if next(is: UInt8(ascii: "e")) || next(is: UInt8(ascii: "E")) {
      whole = false
      if !next(is: UInt8(ascii: "+")) { _ = next(is: UInt8(ascii: "-")) }
      guard digit() != nil else { throw fail("\(here) where a digit of the exponent is expected") }
      while digit() != nil {}
    }
    if whole, exact {
      if !negative { return magnitude <= UInt64(Int64.max) ? .integer(Int64(magnitude)) : .unsigned(magnitude) }
      if magnitude <= UInt64(Int64.max) { return .integer(-Int64(magnitude)) }
      if magnitude == UInt64(Int64.max) + 1 { return .integer(Int64.min) }
    }
    let text = String(decoding: bytes[start..<offset], as: UTF8.self)
    guard let double = Double(text), double.isFinite else { throw fail("number \(text) is out of range", at: start) }
    return .double(double)
  }

  private mutating func digit() -> UInt8? {
    guard offset < bytes.count, bytes[offset] >= UInt8(ascii: "0"), bytes[offset] <= UInt8(ascii: "9") else { return nil }
    defer { offset += 1 }
    return bytes[offset] - UInt8(ascii: "0")
  }

  // MARK: Strings

  private mutating func string() throws(JSONError) -> String {
    let start = offset
    offset += 1
    var plain = offset
    var buffer: [UInt8] = []
    while true {
      guard offset < bytes.count else { throw fail("the string that begins here has no closing quote", at: start) }
      let byte = bytes[offset]
      switch byte {
      case UInt8(ascii: "\""):
        defer { offset += 1 }
        if buffer.isEmpty {
          guard let text = String(validating: bytes[plain..<offset], as: UTF8.self) else {
            throw fail("the string is not UTF-8", at: start)
          }
          return text
        }
        buffer.append(contentsOf: bytes[plain..<offset])
        guard let text = String(validating: buffer, as: UTF8.self) else { throw fail("the string is not UTF-8", at: start) }
        return text
      case UInt8(ascii: "\\"):
        buffer.append(contentsOf: bytes[plain..<offset])
        buffer.append(contentsOf: Array(String(Character(try escape())).utf8))
        plain = offset
      case 0..<0x20:
        throw fail("control character U+\(hexadecimal(UInt32(byte))) in a string; write it as \\u\(hexadecimal(UInt32(byte)))")
      default: offset += 1
      }
    }
  }

  private mutating func escape() throws(JSONError) -> UnicodeScalar {
    let start = offset
    offset += 1
    guard offset < bytes.count else { throw fail("the text ends inside an escape", at: start) }
    defer { offset += 1 }
    switch bytes[offset] {
    case UInt8(ascii: "\""): return "\""
    case UInt8(ascii: "\\"): return "\\"
    case UInt8(ascii: "/"): return "/"
    case UInt8(ascii: "b"): return "\u{8}"
    case UInt8(ascii: "f"): return "\u{c}"
    case UInt8(ascii: "n"): return "\n"
    case UInt8(ascii: "r"): return "\r"
    case UInt8(ascii: "t"): return "\t"
    case UInt8(ascii: "u"):
      let unit = try hexadecimalUnit(from: start)
      if let scalar = UnicodeScalar(unit) { return scalar }
      // RFC 8259, section 7: characters beyond the basic plane are two escapes, a surrogate pair.
      guard unit < 0xdc00, offset + 2 < bytes.count, bytes[offset + 1] == UInt8(ascii: "\\"), bytes[offset + 2] == UInt8(ascii: "u") else {
        throw fail("\\u\(hexadecimal(unit)) is half of a surrogate pair", at: start)
      }
      offset += 2
      let low = try hexadecimalUnit(from: start)
      guard (0xdc00...0xdfff).contains(low), let scalar = UnicodeScalar(0x10000 + (unit - 0xd800) << 10 + (low - 0xdc00)) else {
        throw fail("\\u\(hexadecimal(unit)) is half of a surrogate pair", at: start)
      }
      return scalar
    default: throw fail("a backslash escapes only \" \\ / b f n r t and u with four hexadecimal digits", at: start)
    }
  }

  /// The four digits after the `u` at `offset`; leaves `offset` on the last of them.
  private mutating func hexadecimalUnit(from start: Int) throws(JSONError) -> UInt32 {
    var unit: UInt32 = 0
    for _ in 0..<4 {
      offset += 1
      guard offset < bytes.count, let digit = Character(UnicodeScalar(bytes[offset])).hexDigitValue, bytes[offset] < 0x80 else {
        throw fail("\\u takes four hexadecimal digits", at: start)
      }
      unit = unit << 4 | UInt32(digit)
    }
    return unit
  }

  // MARK: Octets and positions

  private mutating func skipSpace() {
    while offset < bytes.count {
      switch bytes[offset] {
      case 0x20, 0x09, 0x0a, 0x0d: offset += 1
      default: return
      }
    }
  }

  private mutating func next(is byte: UInt8) -> Bool {
    guard offset < bytes.count, bytes[offset] == byte else { return false }
    offset += 1
    return true
  }

  /// What stands at `offset`, for messages.
  private var here: String {
    guard offset < bytes.count else { return "the text ends" }
    let byte = bytes[offset]
    return byte > 0x20 && byte < 0x7f ? "'\(Character(UnicodeScalar(byte)))'" : "octet 0x" + String(byte, radix: 16)
  }

  private func hexadecimal(_ unit: UInt32) -> String {
    let digits = String(unit, radix: 16)
    return String(repeating: "0", count: max(0, 4 - digits.utf8.count)) + digits
  }

  private mutating func position(at target: Int) -> JSONPosition {
    if target < located { (located, line, column) = (0, 1, 1) }
    while located < target {
      if bytes[located] == 0x0a {
        line += 1
        column = 1
      } else if bytes[located] & 0xc0 != 0x80 {
        // Columns count characters, not the continuation octets of UTF-8.
        column += 1
      }
      located += 1
    }
    return JSONPosition(line: line, column: column)
  }

  private func fail(_ message: String, at target: Int? = nil) -> JSONError {
    var copy = self
    return JSONError(message, at: copy.position(at: target ?? offset))
  }
}

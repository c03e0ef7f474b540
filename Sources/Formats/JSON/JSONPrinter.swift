/// A JSON tree to text; parsing the text gives the same tree again.

extension JSONValue {
  /// One line, or with `pretty` indented by two blanks per level. Doubles must be finite.
  public func text(pretty: Bool = false) -> String {
    String(decoding: bytes(pretty: pretty), as: UTF8.self)
  }
  /// The one-line text as UTF-8.
  public var bytes: [UInt8] { bytes(pretty: false) }

  public func bytes(pretty: Bool) -> [UInt8] {
    var printer = JSONPrinter(pretty: pretty)
    printer.print(self, depth: 0)
    return printer.octets
  }
}

struct JSONPrinter {
  let pretty: Bool
  var octets: [UInt8] = []

  init(pretty: Bool) { self.pretty = pretty }

  mutating func print(_ value: JSONValue, depth: Int) {
    switch value {
    case .null: write("null")
    case .bool(let value): write(value ? "true" : "false")
    case .integer(let value): write(String(value))
    case .unsigned(let value): write(String(value))
    case .double(let value):
      precondition(value.isFinite, "JSON has no word for an infinite number")
      write(value.description)
    case .string(let value): print(string: value)
    case .array(let elements):
      if elements.isEmpty { return write("[]") }
      octets.append(UInt8(ascii: "["))
      for (index, element) in elements.enumerated() {
        if index > 0 { octets.append(UInt8(ascii: ",")) }
        newLine(depth + 1)
        print(element, depth: depth + 1)
      }
      newLine(depth)
      octets.append(UInt8(ascii: "]"))
    case .object(let object):
      if object.isEmpty { return write("{}") }
      octets.append(UInt8(ascii: "{"))
      for (index, member) in object.members.enumerated() {
        if index > 0 { octets.append(UInt8(ascii: ",")) }
        newLine(depth + 1)
        print(string: member.name)
        octets.append(UInt8(ascii: ":"))
        if pretty { octets.append(UInt8(ascii: " ")) }
        print(member.value, depth: depth + 1)
      }
      newLine(depth)
      octets.append(UInt8(ascii: "}"))
    }
  }

  mutating func print(string: String) {
    octets.append(UInt8(ascii: "\""))
    for byte in string.utf8 {
      switch byte {
      case UInt8(ascii: "\""): write("\\\"")
      case UInt8(ascii: "\\"): write("\\\\")
      case 0x08: write("\\b")
      case 0x09: write("\\t")
      case 0x0a: write("\\n")
      case 0x0c: write("\\f")
      case 0x0d: write("\\r")
      case 0..<0x20:
        write(byte < 0x10 ? "\\u000" : "\\u00")
        write(String(byte, radix: 16))
      default: octets.append(byte)
      }
    }
    octets.append(UInt8(ascii: "\""))
  }

  private mutating func write(_ text: String) { octets.append(contentsOf: text.utf8) }

  private mutating func newLine(_ depth: Int) {
    guard pretty else { return }
    octets.append(0x0a)
    octets.append(contentsOf: repeatElement(0x20, count: 2 * depth))
  }
}

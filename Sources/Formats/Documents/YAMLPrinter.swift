/// A JSON tree as YAML, in the block style people know from `kubectl get -o yaml`; reading the text gives the same tree again.
import JSON

extension JSONValue {
  /// YAML with a line break at its end. Members keep their order.
  public var yamlText: String {
    var printer = YAMLPrinter()
    switch self {
    case .array(let elements) where !elements.isEmpty: printer.sequence(elements, indent: 0)
    case .object(let object) where !object.isEmpty: printer.mapping(object, indent: 0)
    default: printer.text += YAMLPrinter.inline(self) + "\n"
    }
    return printer.text
  }
}

extension JSONValue {
  /// YAML on one line: `{action: Allow, destination: {ports: [80]}}`.
  public var yamlLine: String {
    switch self {
    case .array(let elements): "[" + elements.map(\.yamlLine).joined(separator: ", ") + "]"
    case .object(let object):
      "{" + object.members.map { "\(YAMLPrinter.flow($0.name)): \($0.value.yamlLine)" }.joined(separator: ", ") + "}"
    case .string(let text): YAMLPrinter.flow(text)
    default: text()
    }
  }
}

private struct YAMLPrinter {
  var text = ""

  mutating func mapping(_ object: JSONObject, indent: Int, isFirstLineBegun: Bool = false) {
    for (index, member) in object.members.enumerated() {
      if index > 0 || !isFirstLineBegun { text += String(repeating: " ", count: indent) }
      text += Self.word(member.name) + ":"
      switch member.value {
      case .array(let elements) where !elements.isEmpty:
        text += "\n"
        sequence(elements, indent: indent)
      case .object(let object) where !object.isEmpty:
        text += "\n"
        mapping(object, indent: indent + 2)
      default: text += " \(Self.inline(member.value))\n"
      }
    }
  }

  mutating func sequence(_ elements: [JSONValue], indent: Int, isFirstLineBegun: Bool = false) {
    for (index, element) in elements.enumerated() {
      if index > 0 || !isFirstLineBegun { text += String(repeating: " ", count: indent) }
      text += "- "
      switch element {
      case .array(let elements) where !elements.isEmpty: sequence(elements, indent: indent + 2, isFirstLineBegun: true)
      case .object(let object) where !object.isEmpty: mapping(object, indent: indent + 2, isFirstLineBegun: true)
      default: text += "\(Self.inline(element))\n"
      }
    }
  }

  static func inline(_ value: JSONValue) -> String {
    if case .string(let text) = value { word(text) } else { value.text() }
  }

  /// Plain where it can be, in JSON's quotes (which YAML reads alike) where a plain word would mean something else.
  static func word(_ text: String) -> String {
    let scalars = text.unicodeScalars
    guard let first = scalars.first, let last = scalars.last, YAMLScalar.resolve(text) == .string(text), text != "<<", text != "=" else {
      return quoted(text)
    }
    // `y` and `n` are booleans to some readers.
    if ["y", "n", "Y", "N"].contains(text) { return quoted(text) }
    if "-?:,[]{}#&*!|>'\"%@` ".unicodeScalars.contains(first) || last == " " || last == ":" { return quoted(text) }
    if text.hasPrefix("...") { return quoted(text) }
    var previous = first
    for scalar in scalars {
      guard scalar.value >= 0x20, scalar.value < 0x7f else { return quoted(text) }
      if scalar == "#" && previous == " " || scalar == " " && previous == ":" { return quoted(text) }
      previous = scalar
    }
    return text
  }

  /// Within brackets some more signs have a meaning.
  static func flow(_ text: String) -> String { text.contains { ",[]{}".contains($0) } ? quoted(text) : word(text) }

  /// A tilde above ASCII is no escape; controls beyond C0, which YAML does not take as they are, become `\u` escapes.
  private static func quoted(_ text: String) -> String {
    var result = ""
    for scalar in JSONValue.string(text).text().unicodeScalars {
      if (0x7f...0x9f).contains(scalar.value) || [0x2028, 0x2029, 0xfeff].contains(scalar.value) {
        let digits = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      } else {
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}

/// YAML to the JSON tree, by the rules that people know from Kubernetes: plain `yes` is a boolean, `0755` an octal number, whatever is
/// quoted a string; anchors and merge keys work.
///
/// Hazards and the answer to each: aliases that multiply (the number of nodes is bounded after expansion), deep nesting (bounded like
/// JSON's), numbers beyond 64 bits (nearest double), keys that are no scalars and repeated keys (refused).
import JSON
import Yams

enum YAMLReader {
  /// Nodes of one document with all aliases expanded.
  static let nodesMax = 1_000_000

  static func read(_ bytes: [UInt8], file: String) throws(DocumentErrors) -> [(value: JSONValue, positions: JSONPositions)] {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw DocumentErrors([DocumentError(file: file, path: JSONPath(), rule: "the text is not UTF-8")])
    }
    var trees: [(JSONValue, JSONPositions)] = []
    do {
      let parser = try Parser(yaml: text)
      while let node = try parser.nextRoot() {
        var conversion = YAMLConversion(file: file)
        let value = try conversion.value(of: node, at: JSONPath(), depth: 0)
        trees.append((value, conversion.positions))
      }
    } catch let errors as DocumentErrors {
      throw errors
    } catch let error as YamlError {
      throw DocumentErrors([describe(error, file: file)])
    } catch {
      throw DocumentErrors([DocumentError(file: file, path: JSONPath(), rule: "\(error)")])
    }
    return trees
  }

  private static func describe(_ error: YamlError, file: String) -> DocumentError {
    switch error {
    case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
      .composer(let context, let problem, let mark, _):
      let during = context.map { " (\($0.text.trimmedBlanks))" } ?? ""
      return DocumentError(
        file: file, position: JSONPosition(line: mark.line, column: mark.column), path: JSONPath(), rule: "\(problem)\(during)")
    case .duplicatedKeysInMapping(let duplicates, let context):
      return DocumentError(
        file: file, position: JSONPosition(line: context.mark.line, column: context.mark.column), path: JSONPath(),
        rule: "key \(duplicates.map { "\"\($0)\"" }.joined(separator: ", ")) appears twice in one mapping")
    case .reader(let problem, _, _, _):
      return DocumentError(file: file, path: JSONPath(), rule: problem)
    default:
      return DocumentError(file: file, path: JSONPath(), rule: "\(error)")
    }
  }
}

extension String {
  fileprivate var trimmedBlanks: Substring {
    var rest = self[...]
    while rest.first == " " { rest.removeFirst() }
    while rest.last == " " { rest.removeLast() }
    return rest
  }
}

private struct YAMLConversion {
  let file: String
  var positions = JSONPositions()
  private var nodes = 0

  init(file: String) { self.file = file }

  private func fail(_ rule: String, _ node: Node, _ path: JSONPath) -> DocumentErrors {
    DocumentErrors([DocumentError(file: file, position: position(of: node), path: path, rule: rule)])
  }
  private func position(of node: Node) -> JSONPosition? { node.mark.map { JSONPosition(line: $0.line, column: $0.column) } }

  mutating func value(of node: Node, at path: JSONPath, depth: Int) throws(DocumentErrors) -> JSONValue {
    nodes += 1
    if nodes > YAMLReader.nodesMax {
      throw fail("the document has more than \(YAMLReader.nodesMax) nodes once its aliases are expanded", node, path)
    }
    if depth > JSONValue.depthMax { throw fail("nested deeper than \(JSONValue.depthMax) levels", node, path) }
    if let position = position(of: node) { positions.record(value: position, at: path) }
    switch node {
    case .scalar(let scalar): return try self.scalar(scalar, node, path)
    case .sequence(let sequence):
      var elements: [JSONValue] = []
      elements.reserveCapacity(sequence.count)
      for (index, element) in sequence.enumerated() {
        elements.append(try value(of: element, at: path.element(index), depth: depth + 1))
      }
      return .array(elements)
    case .mapping(let mapping): return .object(try object(mapping, path, depth))
    case .alias: throw fail("an alias stands for nothing here", node, path)
    }
  }

  private mutating func object(_ mapping: Node.Mapping, _ path: JSONPath, _ depth: Int) throws(DocumentErrors) -> JSONObject {
    var members: [JSONObject.Member] = []
    var names: Set<String> = []
    var merged: [Node.Mapping] = []
    for (key, element) in mapping {
      guard case .scalar(let scalar) = key else { throw fail("a key must be a plain word or a quoted string", key, path) }
      let name = scalar.string
      if name == "<<", scalar.style == .plain {
        switch element {
        case .mapping(let other): merged.append(other)
        case .sequence(let sequence):
          for other in sequence {
            guard case .mapping(let other) = other else { throw fail("<< takes mappings", element, path) }
            merged.append(other)
          }
        default: throw fail("<< takes a mapping or a sequence of mappings", element, path)
        }
        continue
      }
      guard names.insert(name).inserted else { throw fail("key \(JSONValue.string(name).text()) appears twice in one mapping", key, path) }
      let memberPath = path.member(name)
      if let position = position(of: key) { positions.record(name: position, at: memberPath) }
      members.append(JSONObject.Member(name, try value(of: element, at: memberPath, depth: depth + 1)))
    }
    // What the mapping says itself wins over what it merges, and earlier merges over later ones.
    for other in merged {
      // Merging costs what the merged mapping holds, so it counts as that many nodes; an empty one as one.
      nodes += 1
      if nodes > YAMLReader.nodesMax {
        throw fail("the document has more than \(YAMLReader.nodesMax) nodes once its aliases are expanded", .mapping(other), path)
      }
      if depth > JSONValue.depthMax { throw fail("merge keys are nested deeper than \(JSONValue.depthMax) levels", .mapping(other), path) }
      for member in try object(other, path, depth + 1).members where names.insert(member.name).inserted { members.append(member) }
    }
    return JSONObject(members)
  }

  private func scalar(_ scalar: Node.Scalar, _ node: Node, _ path: JSONPath) throws(DocumentErrors) -> JSONValue {
    // The tag as written; what an untagged scalar means is decided here, by its style and its text.
    let text = scalar.string
    switch scalar.tag.description.split(separator: ":").last.map(String.init) ?? "" {
    case "", "?": if scalar.style != .plain, scalar.style != .any { return .string(text) }
    case "!", "str": return .string(text)
    case "int", "float", "bool", "null": break
    case let tag: throw fail("the tag \(tag) is not supported", node, path)
    }
    guard let value = YAMLScalar.resolve(text) else { throw fail("\(text) is not a number that JSON knows", node, path) }
    return value
  }
}

/// What a plain scalar means.
enum YAMLScalar {
  /// Nil for infinities and not-a-number.
  static func resolve(_ text: String) -> JSONValue? {
    switch text {
    case "", "~", "null", "Null", "NULL": return .null
    case "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON": return .bool(true)
    case "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF": return .bool(false)
    case ".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF": return nil
    default: return number(text) ?? .string(text)
    }
  }

  private static func number(_ text: String) -> JSONValue? {
    var digits = Array(text.utf8)
    guard let first = digits.first, first == UInt8(ascii: "+") || first == UInt8(ascii: "-") || first == UInt8(ascii: ".") || isDigit(first)
    else { return nil }
    let negative = first == UInt8(ascii: "-")
    if negative || first == UInt8(ascii: "+") { digits.removeFirst() }
    guard let lead = digits.first, lead == UInt8(ascii: ".") || isDigit(lead) else { return nil }
    var radix = 10
    var body = digits[...]
    if lead == UInt8(ascii: "0"), digits.count > 1 {
      switch digits[1] {
      case UInt8(ascii: "x"): (radix, body) = (16, digits[2...])
      case UInt8(ascii: "o"): (radix, body) = (8, digits[2...])
      case UInt8(ascii: "b"): (radix, body) = (2, digits[2...])
      default: if digits.allSatisfy({ isDigit($0) || $0 == UInt8(ascii: "_") }) { (radix, body) = (8, digits[1...]) }
      }
    }
    let plain = String(decoding: body.filter { $0 != UInt8(ascii: "_") }, as: UTF8.self)
    if !plain.isEmpty, plain.first != "-", plain.first != "+" {
      if let magnitude = UInt64(plain, radix: radix) {
        if !negative { return magnitude <= UInt64(Int64.max) ? .integer(Int64(magnitude)) : .unsigned(magnitude) }
        if magnitude <= UInt64(Int64.max) { return .integer(-Int64(magnitude)) }
        if magnitude == UInt64(Int64.max) + 1 { return .integer(Int64.min) }
      }
    }
    guard radix == 10 || (radix == 8 && lead == UInt8(ascii: "0") && digits[1] != UInt8(ascii: "o")) else { return nil }
    // [0-9]*(.[0-9]*)?([eE][-+]?[0-9]+)? with a digit before the exponent.
    var index = 0
    var seen = 0
    func skipDigits() {
      while index < digits.count, isDigit(digits[index]) {
        index += 1
        seen += 1
      }
    }
    skipDigits()
    if index < digits.count, digits[index] == UInt8(ascii: ".") {
      index += 1
      skipDigits()
    }
    if seen == 0 { return nil }
    if index < digits.count, digits[index] | 0x20 == UInt8(ascii: "e") {
      index += 1
      if index < digits.count, digits[index] == UInt8(ascii: "+") || digits[index] == UInt8(ascii: "-") { index += 1 }
      seen = 0
      skipDigits()
      if seen == 0 { return nil }
    }
    guard index == digits.count, let magnitude = Double(String(decoding: digits, as: UTF8.self)), magnitude.isFinite else { return nil }
    return .double(negative ? -magnitude : magnitude)
  }

  static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }
}

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
    let (trees, errors) = survey(bytes, file: file)
    if !errors.isEmpty { throw DocumentErrors(errors) }
    return trees
  }

  /// Faults of one file that are looked for; each costs a reading of the file.
  static let faultsMax = 20

  /// What can be read, and everything that is wrong with the text. After a fault of syntax reading goes on at the next `---`; a key that
  /// appears twice is told of, with both places, and does not hide what is wrong elsewhere.
  static func survey(
    _ bytes: [UInt8], file: String
  ) -> (trees: [(value: JSONValue, positions: JSONPositions)], errors: [DocumentError]) {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      return ([], [DocumentError(file: file, path: JSONPath(), rule: "the text is not UTF-8")])
    }
    var trees: [(JSONValue, JSONPositions)] = []
    var errors: [DocumentError] = []
    var source = MarkedText(text)
    var unfinished: DocumentError?
    for _ in 0..<faultsMax {
      trees = []
      unfinished = nil
      var found: [DocumentError] = []
      do {
        let parser = try Parser(yaml: source.text)
        while let node = try parser.nextRoot() {
          var conversion = YAMLConversion(file: file, source: source)
          do throws(DocumentErrors) {
            let value = try conversion.value(of: node, at: JSONPath(), depth: 0)
            trees.append((value, conversion.positions))
          } catch {
            found += error.errors
          }
          found += conversion.repeated
        }
        return (trees, (errors + found).sorted { ($0.position ?? .start) < ($1.position ?? .start) })
      } catch let error as YamlError {
        let fault = describe(error, file: file)
        if case .duplicatedKeysInMapping(let keys, let context) = error, source.mark(keys.first ?? "", at: context.mark) {
          unfinished = fault
          continue
        }
        errors.append(fault)
        // What came before is read once more, without what is broken.
        guard let line = Self.beginning(of: error) ?? fault.position?.line, source.blank(documentAround: line) else { break }
      } catch {
        errors.append(DocumentError(file: file, path: JSONPath(), rule: "\(error)"))
        break
      }
    }
    // Not read to the end: nothing that was read counts.
    if let unfinished { errors.append(unfinished) }
    return ([], errors.sorted { ($0.position ?? .start) < ($1.position ?? .start) })
  }

  /// The line where what could not be read began: an unclosed bracket is found wrong in the document after its own.
  private static func beginning(of error: YamlError) -> Int? {
    switch error {
    case .scanner(let context?, _, _, _), .parser(let context?, _, _, _), .composer(let context?, _, _, _): context.mark.line
    default: nil
    }
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

/// A text whose faults are made harmless one after the other, so that the parser reaches the next one. Lines stay lines.
struct MarkedText {
  private let whole: String
  /// Made when the first fault is found.
  private lazy var lines = whole.split(separator: "\n", omittingEmptySubsequences: false)
  private var isWhole = true
  /// Stands before the name of a key that appears once more later: a character that the text lacks.
  private var mark: Character?
  /// Columns of marks, by line from 1, in the columns of the original.
  private var marks: [Int: [Int]] = [:]

  init(_ text: String) {
    whole = text
  }
  var text: String {
    mutating get { isWhole ? whole : lines.joined(separator: "\n") }
  }

  /// Marks the key that begins here; false if it does not look like one.
  mutating func mark(_ key: String, at place: Mark) -> Bool {
    let reserved = 0xe000...0xf8ff as ClosedRange<UInt32>
    if mark == nil {
      let present = Set(whole.unicodeScalars.lazy.map(\.value).filter(reserved.contains))
      mark = reserved.first { !present.contains($0) }.flatMap { Unicode.Scalar($0) }.map { Character($0) }
    }
    guard let mark, place.line >= 1, place.line <= lines.count else { return false }
    isWhole = false
    var line = String(lines[place.line - 1])
    let scalars = line.unicodeScalars
    guard var index = scalars.index(scalars.startIndex, offsetBy: place.column - 1, limitedBy: scalars.endIndex) else { return false }
    if let quote = scalars[index...].first, quote == "\"" || quote == "'" { index = scalars.index(after: index) }
    guard line[index...].hasPrefix(key) else { return false }
    line.insert(mark, at: index)
    lines[place.line - 1] = Substring(line)
    marks[place.line, default: []].append(original(JSONPosition(line: place.line, column: place.column)).column)
    return true
  }
  /// The name without its mark; nil if it has none.
  func unmarked(_ name: String) -> String? {
    guard let mark = mark?.unicodeScalars.first, name.unicodeScalars.first == mark else { return nil }
    return String(name.unicodeScalars.drop { $0 == mark })
  }
  /// Where a place of the marked text is in the original.
  func original(_ position: JSONPosition) -> JSONPosition {
    guard let columns = marks[position.line] else { return position }
    var column = position.column
    for mark in columns.sorted() where mark < column { column -= 1 }
    return JSONPosition(line: position.line, column: column)
  }
  /// Empties the document that has this line; false if there is nothing left to read.
  mutating func blank(documentAround line: Int) -> Bool {
    func begins(_ index: Int) -> Bool { lines[index].hasPrefix("---") }
    let fault = min(max(line, 1), lines.count) - 1
    let first = (0...fault).last(where: begins) ?? 0
    let next = (fault..<lines.count).first { $0 > first && begins($0) } ?? lines.count
    if lines[first..<next].allSatisfy(\.isEmpty) { return false }
    isWhole = false
    for index in first..<next { lines[index] = "" }
    return true
  }
}

private struct YAMLConversion {
  let file: String
  let source: MarkedText
  var positions = JSONPositions()
  /// Keys that stand in their mapping already.
  var repeated: [DocumentError] = []
  private var nodes = 0

  init(file: String, source: MarkedText) {
    self.file = file
    self.source = source
  }

  private func fail(_ rule: String, _ node: Node, _ path: JSONPath) -> DocumentErrors {
    DocumentErrors([DocumentError(file: file, position: position(of: node), path: path, rule: rule)])
  }
  private func position(of node: Node) -> JSONPosition? {
    node.mark.map { source.original(JSONPosition(line: $0.line, column: $0.column)) }
  }

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
    var earlier: [String: JSONPosition] = [:]
    for (key, element) in mapping {
      guard case .scalar(let scalar) = key else { throw fail("a key must be a plain word or a quoted string", key, path) }
      var name = scalar.string
      if let word = source.unmarked(name) {
        name = word
        if let first = earlier[name], let position = position(of: key) { repeated.append(repetition(of: name, position, path, first)) }
        earlier[name] = earlier[name] ?? position(of: key)
        // The last one counts; what is wrong in this one is told of all the same.
        _ = try value(of: element, at: path.member(name), depth: depth + 1)
        continue
      }
      if let first = earlier[name], let position = position(of: key) { repeated.append(repetition(of: name, position, path, first)) }
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

  private func repetition(of name: String, _ position: JSONPosition, _ path: JSONPath, _ first: JSONPosition) -> DocumentError {
    DocumentError(
      file: file, position: position, path: path.member(name), rule: "appears twice in one mapping, first at \(first)",
      fix: "remove one of them")
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

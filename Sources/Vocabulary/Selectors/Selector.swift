/// A selector: a condition over labels, as policies, sets and pools write it (`role == "web" && has(tier)`).
///
/// Parsing stands in `SelectorParser.swift`, what a selector tells an index in `LabelRestriction.swift`. A selector is a value with one
/// canonical text, from which its identifier is made: the same condition has the same set on every host, whoever wrote the blanks.
import Names

public struct Selector: Hashable, Sendable, CustomStringConvertible {
  public indirect enum Node: Hashable, Sendable {
    case all
    /// Everything outside namespaces. True for every set of labels: it has a meaning only where it is translated, in rules.
    case global
    case has(String)
    case equal(String, String)
    /// Also true without the label, like `notIn`.
    case notEqual(String, String)
    case contains(String, String)
    case starts(String, String)
    case ends(String, String)
    /// The values are sorted and differ.
    case isIn(String, [String])
    case notIn(String, [String])
    case not(Node)
    /// Two or more operands, likewise in `or`.
    case and([Node])
    case or([Node])
  }
  public let root: Node
  /// The text that every spelling of this selector shares; it parses to the same selector.
  public let canonical: String

  public init(_ root: Node) {
    self.root = root
    canonical = root.canonical
  }
  /// The empty text, also all blank, selects everything.
  public init(parsing text: String) throws(SelectorError) {
    var parser = SelectorParser(text)
    self.init(try parser.whole())
  }
  public static let all = Selector(.all)

  public var description: String { canonical }
  /// `s:` and a digest of the canonical text.
  public var uniqueID: String { Names.uniqueID(prefix: "s", text: canonical) }
  public var isAll: Bool { root == .all }
  /// True if `global()` occurs anywhere.
  public var mentionsGlobal: Bool { root.mentionsGlobal }

  /// Equal if they select by the same canonical text, octet for octet like the identifier: to Swift, two spellings of "é" are one string.
  public static func == (a: Self, b: Self) -> Bool {
    a.canonical == b.canonical && a.canonical.utf8.elementsEqual(b.canonical.utf8)
  }
  public func hash(into hasher: inout Hasher) { hasher.combine(canonical) }

  /// True if the labels that the function knows satisfy the condition; it answers nil for an absent label.
  public func matches(_ label: (String) -> String?) -> Bool { root.matches(label) }
  public func matches(_ labels: [String: String]) -> Bool { root.matches { labels[$0] } }

  /// All of the conditions; `all()` adds nothing and is left out.
  public static func and(_ selectors: some Sequence<Selector>) -> Selector {
    let operands = selectors.map(\.root).filter { $0 != .all }
    return switch operands.count {
    case 0: .all
    case 1: Selector(operands[0])
    default: Selector(.and(operands))
    }
  }
  public static func and(_ selectors: Selector...) -> Selector { and(selectors) }
  public static prefix func ! (selector: Selector) -> Selector {
    if case .not(let operand) = selector.root { Selector(operand) } else { Selector(.not(selector.root)) }
  }

  /// The same condition over labels named `prefix` + name: a namespace's label `a` reaches its endpoints as `pcns.a`.
  public func prefixingLabels(_ prefix: String) -> Selector { Selector(root.renaming { prefix + $0 }) }
  /// Every label that the condition looks at.
  public var labels: Set<String> {
    var found: Set<String> = []
    _ = root.renaming { name in
      found.insert(name)
      return name
    }
    return found
  }
}

extension Selector.Node {
  func matches(_ label: (String) -> String?) -> Bool {
    switch self {
    case .all, .global: true
    case .has(let name): label(name) != nil
    case .equal(let name, let value): label(name) == value
    case .notEqual(let name, let value): label(name) != value
    case .contains(let name, let part): label(name).map { $0.utf8.contains(Array(part.utf8)) } ?? false
    case .starts(let name, let part): label(name).map { $0.utf8.starts(with: part.utf8) } ?? false
    case .ends(let name, let part): label(name).map { $0.utf8.reversed().starts(with: part.utf8.reversed()) } ?? false
    case .isIn(let name, let values): label(name).map(values.contains) ?? false
    case .notIn(let name, let values): label(name).map { !values.contains($0) } ?? true
    case .not(let operand): !operand.matches(label)
    case .and(let operands): operands.allSatisfy { $0.matches(label) }
    case .or(let operands): operands.contains { $0.matches(label) }
    }
  }

  var canonical: String {
    func quoted(_ value: String) -> String { value.utf8.contains(UInt8(ascii: "\"")) ? "'\(value)'" : "\"\(value)\"" }
    func set(_ values: [String]) -> String { "{\(values.map(quoted).joined(separator: ", "))}" }
    return switch self {
    case .all: "all()"
    case .global: "global()"
    case .has(let name): "has(\(name))"
    case .equal(let name, let value): "\(name) == \(quoted(value))"
    case .notEqual(let name, let value): "\(name) != \(quoted(value))"
    case .contains(let name, let part): "\(name) contains \(quoted(part))"
    case .starts(let name, let part): "\(name) starts with \(quoted(part))"
    case .ends(let name, let part): "\(name) ends with \(quoted(part))"
    case .isIn(let name, let values): "\(name) in \(set(values))"
    case .notIn(let name, let values): "\(name) not in \(set(values))"
    case .not(let operand): "!\(operand.canonical)"
    case .and(let operands): "(\(operands.map(\.canonical).joined(separator: " && ")))"
    case .or(let operands): "(\(operands.map(\.canonical).joined(separator: " || ")))"
    }
  }

  var mentionsGlobal: Bool {
    switch self {
    case .global: true
    case .not(let operand): operand.mentionsGlobal
    case .and(let operands), .or(let operands): operands.contains(where: \.mentionsGlobal)
    default: false
    }
  }

  func renaming(_ rename: (String) -> String) -> Selector.Node {
    switch self {
    case .all, .global: self
    case .has(let name): .has(rename(name))
    case .equal(let name, let value): .equal(rename(name), value)
    case .notEqual(let name, let value): .notEqual(rename(name), value)
    case .contains(let name, let part): .contains(rename(name), part)
    case .starts(let name, let part): .starts(rename(name), part)
    case .ends(let name, let part): .ends(rename(name), part)
    case .isIn(let name, let values): .isIn(rename(name), values)
    case .notIn(let name, let values): .notIn(rename(name), values)
    case .not(let operand): .not(operand.renaming(rename))
    case .and(let operands): .and(operands.map { $0.renaming(rename) })
    case .or(let operands): .or(operands.map { $0.renaming(rename) })
    }
  }
}

extension String.UTF8View {
  /// True if the octets occur anywhere; no octets occur everywhere.
  fileprivate func contains(_ part: [UInt8]) -> Bool {
    if part.isEmpty { return true }
    var rest = self[...]
    while rest.count >= part.count {
      guard let start = rest.firstIndex(of: part[0]) else { return false }
      rest = rest[start...]
      if rest.starts(with: part) { return true }
      rest = rest.dropFirst()
    }
    return false
  }
}

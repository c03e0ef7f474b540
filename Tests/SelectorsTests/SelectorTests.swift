import Selectors
import Testing

@Suite("Selectors")
struct SelectorTests {
  @Test(
    "Every spelling has one canonical text",
    arguments: [
      ("", "all()"), ("  \t", "all()"), ("all()", "all()"), (" all( ) ", "all()"), ("global()", "global()"), ("a == 'b'", #"a == "b""#),
      ("a=='b'", #"a == "b""#), ("a != \"b\"", #"a != "b""#), (#"a == 'say "x"'"#, #"a == 'say "x"'"#), ("a == \"it's\"", #"a == "it's""#),
      ("a == ''", #"a == """#), ("a contains 'b'", #"a contains "b""#), ("a startswith 'b'", #"a starts with "b""#),
      ("a  starts\t with 'b'", #"a starts with "b""#), ("a endswith 'b'", #"a ends with "b""#), ("a ends with 'b'", #"a ends with "b""#),
      ("a in {'c','b', 'c'}", #"a in {"b", "c"}"#), ("a in{'b',}", #"a in {"b"}"#), ("a in {}", "a in {}"),
      ("a notin {'b'}", #"a not in {"b"}"#),
      ("a not  in {'b'}", #"a not in {"b"}"#), ("has(a/b.c-d_e)", "has(a/b.c-d_e)"), ("has( a )", "has(a)"), ("!has(a)", "!has(a)"),
      ("!!has(a)", "has(a)"), ("!(!has(a))", "has(a)"), ("! ! !a == 'b'", #"!a == "b""#), ("((has(a)))", "has(a)"),
      ("has(a) && has(b) && has(c)", "(has(a) && has(b) && has(c))"), ("has(a) && (has(b) && has(c))", "(has(a) && (has(b) && has(c)))"),
      ("has(a)||has(b)&&has(c)", "(has(a) || (has(b) && has(c)))"), ("!(has(a)||has(b))", "!(has(a) || has(b))"),
      ("in == 'x'", #"in == "x""#),
      ("all == 'x'", #"all == "x""#), ("has in {'x'}", #"has in {"x"}"#), ("not not in {'x'}", #"not not in {"x"}"#),
      ("a == 'é'", #"a == "é""#),
    ])
  func canonical(text: String, canonical: String) throws {
    let selector = try Selector(parsing: text)
    #expect(selector.canonical == canonical)
    #expect(try Selector(parsing: canonical).root == selector.root)
  }

  @Test(
    "Bad selectors name the character and what belongs there",
    arguments: [
      ("a", 1, "has(a)"), ("a == b", 6, "\"b\""), ("'a' == 'b'", 1, "label"), ("a & b", 1, "stands alone"), ("has(a) & has(b)", 8, "&&"),
      ("has(a) | has(b)", 8, "||"), ("a == 'b", 6, "never closed"), ("a == \"b'", 6, "never closed"), ("(has(a)", 1, "never closed"),
      ("has(a))", 7, "')'"), ("a in 'b'", 6, "set"), ("a in", 5, "set"), ("a in {'b'", 6, "never closed"), ("a in {b}", 7, "'b'"),
      ("a in {,}", 7, "','"),
      ("a not {'b'}", 3, "\"not\""), ("()", 1, "all()"), ("a # 'b'", 3, "'#'"), ("a = 'b'", 3, "=="), ("a ==", 5, "ends"),
      ("has(a) &&", 10, "ends"),
      ("&& has(a)", 1, "'&'"), ("has()", 5, "label"), ("has('a')", 5, "label"), ("has(a", 6, "')'"), ("all(a)", 5, "')'"),
      ("all() has(a)", 7, "'has'"),
      ("a == 'b' c == 'd'", 10, "'c'"), ("é == 'b'", 1, "'é'"), ("'é' x", 1, "label"), ("a\n== 'b'", 2, "line break"),
      ("a is 'b'", 3, "\"is\""),
      ("a starts 'b'", 3, "\"starts\""), ("!", 2, "ends"), ("has (a)", 5, "operator"), ("a == 'é' x", 10, "'x'"), ("a ! 'b'", 3, "!="),
    ])
  func refused(text: String, position: Int, part: String) {
    #expect {
      try Selector(parsing: text)
    } throws: {
      let error = $0 as! SelectorError
      return error.position == position && error.message.contains(part)
    }
  }

  @Test("Labels end at 512 characters, parentheses at the limit")
  func limits() throws {
    _ = try Selector(parsing: "has(\(String(repeating: "a", count: 512)))")
    #expect(throws: SelectorError.self) { try Selector(parsing: "has(\(String(repeating: "a", count: 513)))") }
    #expect(throws: SelectorError.self) { try Selector(parsing: String(repeating: "(", count: 100_000)) }
    _ = try Selector(parsing: String(repeating: "(", count: 100) + "has(a)" + String(repeating: ")", count: 100))
    _ = try Selector(parsing: String(repeating: "!", count: 100_001) + "has(a)")
  }

  @Test(
    "What absent labels mean",
    arguments: [
      ("a == 'b'", false), ("a != 'b'", true), ("a in {'b'}", false), ("a not in {'b'}", true), ("a contains ''", false),
      ("a starts with ''", false),
      ("a ends with ''", false), ("has(a)", false), ("!has(a)", true), ("all()", true), ("global()", true), ("", true), ("!all()", false),
    ])
  func absent(text: String, matches: Bool) throws { #expect(try Selector(parsing: text).matches(["x": "b"]) == matches) }

  @Test(
    "What present labels mean",
    arguments: [
      ("a == 'web'", true), ("a == 'we'", false), ("a != 'web'", false), ("a contains 'e'", true), ("a contains ''", true),
      ("a contains 'wb'", false),
      ("a contains 'webs'", false), ("a starts with 'we'", true), ("a starts with 'eb'", false), ("a ends with 'eb'", true),
      ("a ends with 'we'", false),
      ("a in {'x', 'web'}", true), ("a in {}", false), ("a not in {}", true), ("a not in {'web'}", false), ("!a == 'x' && has(a)", true),
      ("a == 'x' || b == ''", true), ("a == 'web' && b == 'x'", false), ("has(c) || has(b) && has(a)", true),
      ("(has(c) || has(b)) && has(c)", false),
    ])
  func present(text: String, matches: Bool) throws { #expect(try Selector(parsing: text).matches(["a": "web", "b": ""]) == matches) }

  @Test("all() has Calico's identifier, however it is written", arguments: ["", "all()", " ( all() ) "])
  func uniqueID(text: String) throws {
    #expect(try Selector(parsing: text).uniqueID == "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug")
    #expect(try Selector(parsing: text).isAll)
  }

  @Test("Combining leaves all() out, and prefixes reach every label")
  func combining() throws {
    let (a, b) = (try Selector(parsing: "x == 'y'"), try Selector(parsing: "has(b) || !c in {'d'}"))
    #expect(Selector.and(.all, a, .all, b).canonical == #"(x == "y" && (has(b) || !c in {"d"}))"#)
    #expect(Selector.and(.all, .all).isAll && Selector.and([]) == .all && Selector.and(a) == a)
    #expect(b.prefixingLabels("pcns.").canonical == #"(has(pcns.b) || !pcns.c in {"d"})"#)
    #expect(b.labels == ["b", "c"] && !(!a) == a)
    #expect(try Selector(parsing: "!(has(a) || global())").mentionsGlobal && !a.mentionsGlobal)
  }

  @Test(
    "Restrictions",
    arguments: [
      ("a == 'x'", ["a": LabelRestriction(mustBePresent: true, values: ["x"])]), ("has(a)", ["a": LabelRestriction(mustBePresent: true)]),
      ("!has(a)", ["a": LabelRestriction(mustBeAbsent: true)]), ("a != 'x'", [:]), ("all()", [:]),
      ("a in {'x','y'} && a in {'y','z'}", ["a": LabelRestriction(mustBePresent: true, values: ["y"])]),
      ("a == 'x' || a == 'w'", ["a": LabelRestriction(mustBePresent: true, values: ["w", "x"])]),
      ("a == 'x' || has(a)", ["a": LabelRestriction(mustBePresent: true)]), ("a == 'x' || b == 'x'", [:]), ("has(a) || !has(a)", [:]),
      ("a == 'x' && !has(b)", ["a": LabelRestriction(mustBePresent: true, values: ["x"]), "b": LabelRestriction(mustBeAbsent: true)]),
      ("!(a != 'x' || has(b))", ["a": LabelRestriction(mustBePresent: true, values: ["x"]), "b": LabelRestriction(mustBeAbsent: true)]),
    ] as [(String, [String: LabelRestriction])])
  func restrictions(text: String, expected: [String: LabelRestriction]) throws {
    #expect(try Selector(parsing: text).restrictions == expected)
  }

  /// A second reading of the semantics: the set of matching worlds, by set algebra over all of them.
  private func naive(_ node: Selector.Node, _ worlds: [[String: String]]) -> Set<Int> {
    func those(_ holds: ([String: String]) -> Bool) -> Set<Int> { Set(worlds.indices.filter { holds(worlds[$0]) }) }
    switch node {
    case .all, .global: return Set(worlds.indices)
    case .has(let name): return those { $0.keys.contains(name) }
    case .equal(let name, let value): return those { $0.contains { $0.key == name && $0.value == value } }
    case .notEqual(let name, let value): return naive(.all, worlds).subtracting(naive(.equal(name, value), worlds))
    case .contains(let name, let part):
      return those { world in
        guard let value = world[name].map(Array.init) else { return false }
        return (0...value.count).contains { value[$0...].starts(with: Array(part)) }
      }
    case .starts(let name, let part): return those { $0[name]?.hasPrefix(part) == true }
    case .ends(let name, let part): return those { $0[name]?.hasSuffix(part) == true }
    case .isIn(let name, let values): return values.reduce([]) { $0.union(naive(.equal(name, $1), worlds)) }
    case .notIn(let name, let values): return naive(.all, worlds).subtracting(naive(.isIn(name, values), worlds))
    case .not(let operand): return naive(.all, worlds).subtracting(naive(operand, worlds))
    case .and(let operands): return operands.reduce(naive(.all, worlds)) { $0.intersection(naive($1, worlds)) }
    case .or(let operands): return operands.reduce([]) { $0.union(naive($1, worlds)) }
    }
  }

  @Test("Random selectors agree with the naive reading, survive printing, and keep their restrictions")
  func random() throws {
    let seed = UInt64.random(in: 0...UInt64.max)
    var random = Generator(state: seed)
    let values = ["", "x", "xy", "yx"]
    let names = ["a", "b"]
    var worlds: [[String: String]] = []
    for a in [nil] + values.map(Optional.some) {
      for b in [nil] + values.map(Optional.some) {
        var world: [String: String] = [:]
        world["a"] = a
        world["b"] = b
        worlds.append(world)
      }
    }
    func expression(_ depth: Int) -> String {
      let name = names.randomElement(using: &random)!
      func value() -> String { "'\(values.randomElement(using: &random)!)'" }
      func set() -> String { "{\((0..<Int.random(in: 0...3, using: &random)).map { _ in value() }.joined(separator: ","))}" }
      return switch Int.random(in: 0..<(depth > 0 ? 14 : 9), using: &random) {
      case 0: "has(\(name))"
      case 1: "\(name) == \(value())"
      case 2: "\(name) != \(value())"
      case 3: "\(name) contains \(value())"
      case 4: "\(name) starts with \(value())"
      case 5: "\(name) endswith \(value())"
      case 6: "\(name) in \(set())"
      case 7: "\(name) not in \(set())"
      case 8: "all()"
      case 9, 10: "!\(expression(depth - 1))"
      case 11, 12: "(\(expression(depth - 1)) && \(expression(depth - 1)) && \(expression(depth - 1)))"
      default: "(\(expression(depth - 1)) || \(expression(depth - 1)))"
      }
    }
    for _ in 0..<2000 {
      let text = expression(4)
      let selector = try Selector(parsing: text)
      #expect(try Selector(parsing: selector.canonical).root == selector.root, "seed \(seed): \(text)")
      let expected = naive(selector.root, worlds)
      for (index, world) in worlds.enumerated() {
        #expect(selector.matches(world) == expected.contains(index), "seed \(seed): \(text) over \(world)")
        guard expected.contains(index) else { continue }
        for (name, restriction) in selector.restrictions {
          #expect(!restriction.mustBePresent || world[name] != nil, "seed \(seed): \(text) over \(world)")
          #expect(!restriction.mustBeAbsent || world[name] == nil, "seed \(seed): \(text) over \(world)")
          #expect(restriction.values.map { $0.contains(world[name] ?? "absent") } ?? true, "seed \(seed): \(text) over \(world)")
        }
      }
    }
  }
}

@Suite("Selectors of any size and spelling")
struct LargeSelectorTests {
  @Test("Values that look alike and differ in octets make two selectors, as they make two identifiers")
  func spelling() throws {
    let (composed, decomposed) = (try Selector(parsing: "a == \"\u{e9}\""), try Selector(parsing: "a == \"e\u{301}\""))
    #expect(composed != decomposed && composed.uniqueID != decomposed.uniqueID)
  }
  @Test("What a hundred thousand alternatives have in common is found in one pass")
  func alternatives() throws {
    let text = (0..<100_000).map { "a == \"\($0)\"" }.joined(separator: " || ")
    let restriction = try #require(try Selector(parsing: text).restrictions["a"])
    #expect(restriction.mustBePresent && restriction.values?.count == 100_000)
    #expect(try Selector(parsing: text + " || has(b)").restrictions.isEmpty)
  }
}

/// SplitMix64: small, seedable, good enough to choose test cases.
struct Generator: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ mixed >> 27) &* 0x94d0_49bb_1331_11eb
    return mixed ^ mixed >> 31
  }
}

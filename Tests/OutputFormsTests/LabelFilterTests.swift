/// `-l` in both languages.
import OutputForms
import Testing

@Suite("Label filters")
struct LabelFilterTests {
  @Test(
    "A filter in either language",
    arguments: [
      ("app == 'web' && has(tier)", true), ("app in {'web', 'db'}", true), ("!has(app)", false), ("", true), ("all()", true),
      ("app=web", true), ("app==web,tier!=back", true), ("app = db", false), ("app in (web, db)", true), ("app notin (web,db)", false),
      ("other notin (web)", true), ("other!=x", true), ("tier", true), ("!tier", false), ("!other,app", true),
      ("projectcalico.org/x=1", true),
      ("app=", false), ("app in (db),tier", false),
    ])
  func matches(text: String, expected: Bool) throws {
    #expect(try LabelFilter(text).matches(["app": "web", "tier": "front", "projectcalico.org/x": "1"]) == expected)
  }

  @Test(
    "A filter that is neither is explained in the words of the language that was meant",
    arguments: [
      ("app = 'web'", "app = 'web': character 5"), ("app in (web", "app in (web: line 1, column 8: the parenthesis"),
      ("app=a b", "app=a b: line 1, column 7: \"b\" is not expected here"), ("=a", "=a: line 1, column 1: a label is missing"),
    ])
  func mistakes(text: String, expected: String) {
    let problem = #expect(throws: LabelFilter.Problem.self) { try LabelFilter(text) }
    #expect(problem!.description.hasPrefix(expected))
  }
}

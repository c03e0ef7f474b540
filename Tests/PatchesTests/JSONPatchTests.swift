import JSON
import Patches
import Testing

@Suite("RFC 6902: JSON Patch")
struct JSONPatchTests {
  struct Example: CustomTestStringConvertible, Sendable {
    let title: String
    let document: String
    let patch: String
    /// Nil: the patch must fail.
    let result: String?
    var testDescription: String { title }
    init(_ title: String, _ document: String, _ patch: String, _ result: String?) {
      (self.title, self.document, self.patch, self.result) = (title, document, patch, result)
    }
  }

  @Test(
    "Appendix A: the examples",
    arguments: [
      Example(
        "A.1 adding an object member", #"{"foo":"bar"}"#, #"[{"op":"add","path":"/baz","value":"qux"}]"#, #"{"foo":"bar","baz":"qux"}"#),
      Example(
        "A.2 adding an array element", #"{"foo":["bar","baz"]}"#, #"[{"op":"add","path":"/foo/1","value":"qux"}]"#,
        #"{"foo":["bar","qux","baz"]}"#),
      Example("A.3 removing an object member", #"{"baz":"qux","foo":"bar"}"#, #"[{"op":"remove","path":"/baz"}]"#, #"{"foo":"bar"}"#),
      Example(
        "A.4 removing an array element", #"{"foo":["bar","qux","baz"]}"#, #"[{"op":"remove","path":"/foo/1"}]"#, #"{"foo":["bar","baz"]}"#),
      Example(
        "A.5 replacing a value", #"{"baz":"qux","foo":"bar"}"#, #"[{"op":"replace","path":"/baz","value":"boo"}]"#,
        #"{"baz":"boo","foo":"bar"}"#),
      Example(
        "A.6 moving a value", #"{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}"#,
        #"[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]"#, #"{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}"#),
      Example(
        "A.7 moving an array element", #"{"foo":["all","grass","cows","eat"]}"#, #"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#,
        #"{"foo":["all","cows","eat","grass"]}"#),
      Example(
        "A.8 testing a value: success", #"{"baz":"qux","foo":["a",2,"c"]}"#,
        #"[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]"#, #"{"baz":"qux","foo":["a",2,"c"]}"#),
      Example("A.9 testing a value: error", #"{"baz":"qux"}"#, #"[{"op":"test","path":"/baz","value":"bar"}]"#, nil),
      Example(
        "A.10 adding a nested member object", #"{"foo":"bar"}"#, #"[{"op":"add","path":"/child","value":{"grandchild":{}}}]"#,
        #"{"foo":"bar","child":{"grandchild":{}}}"#),
      Example(
        "A.11 ignoring unrecognized elements", #"{"foo":"bar"}"#, #"[{"op":"add","path":"/baz","value":"qux","xyz":123}]"#,
        #"{"foo":"bar","baz":"qux"}"#),
      Example("A.12 adding to a nonexistent target", #"{"foo":"bar"}"#, #"[{"op":"add","path":"/baz/bat","value":"qux"}]"#, nil),
      Example("A.14 ~ escape ordering", #"{"/":9,"~1":10}"#, #"[{"op":"test","path":"/~01","value":10}]"#, #"{"/":9,"~1":10}"#),
      Example("A.15 comparing strings and numbers", #"{"/":9,"~1":10}"#, #"[{"op":"test","path":"/~01","value":"10"}]"#, nil),
      Example(
        "A.16 adding an array value", #"{"foo":["bar"]}"#, #"[{"op":"add","path":"/foo/-","value":["abc","def"]}]"#,
        #"{"foo":["bar",["abc","def"]]}"#),
    ])
  func appendixA(_ example: Example) throws { try check(example) }

  @Test("A.13 invalid JSON Patch document: a repeated member is no JSON here")
  func a13() {
    #expect(throws: JSONError.self) { try JSONValue(parsing: #"[{"op":"add","path":"/baz","value":"qux","op":"remove"}]"#) }
  }

  @Test(
    "Section 4: what each operation may and may not",
    arguments: [
      Example("4.1 add replaces a member that exists", #"{"a":1}"#, #"[{"op":"add","path":"/a","value":2}]"#, #"{"a":2}"#),
      Example("4.1 add of the root replaces the document", #"{"a":1}"#, #"[{"op":"add","path":"","value":[1]}]"#, #"[1]"#),
      Example("4.1 add at the end of an array", #"{"a":[1]}"#, #"[{"op":"add","path":"/a/1","value":2}]"#, #"{"a":[1,2]}"#),
      Example("4.1 add beyond the end of an array", #"{"a":[1]}"#, #"[{"op":"add","path":"/a/2","value":2}]"#, nil),
      Example("4.1 an index has no leading zero", #"{"a":[1,2]}"#, #"[{"op":"add","path":"/a/01","value":2}]"#, nil),
      Example("4.1 an index is no name", #"{"a":[1,2]}"#, #"[{"op":"add","path":"/a/b","value":2}]"#, nil),
      Example("4.2 remove of what is not there", #"{"a":1}"#, #"[{"op":"remove","path":"/b"}]"#, nil),
      Example("4.2 remove of the end of an array", #"{"a":[1]}"#, #"[{"op":"remove","path":"/a/-"}]"#, nil),
      Example("4.3 replace of what is not there", #"{"a":1}"#, #"[{"op":"replace","path":"/b","value":1}]"#, nil),
      Example("4.3 replace keeps the place", #"{"a":[1,2,3]}"#, #"[{"op":"replace","path":"/a/1","value":9}]"#, #"{"a":[1,9,3]}"#),
      Example("4.4 move into itself", #"{"a":{"b":{}}}"#, #"[{"op":"move","from":"/a","path":"/a/b/c"}]"#, nil),
      Example("4.4 move onto itself changes nothing", #"{"a":1}"#, #"[{"op":"move","from":"/a","path":"/a"}]"#, #"{"a":1}"#),
      Example("4.5 copy", #"{"a":{"b":1}}"#, #"[{"op":"copy","from":"/a","path":"/c"}]"#, #"{"a":{"b":1},"c":{"b":1}}"#),
      Example("4.5 copy of what is not there", #"{"a":1}"#, #"[{"op":"copy","from":"/b","path":"/c"}]"#, nil),
      Example(
        "4.6 test: the order of members does not count", #"{"a":{"b":1,"c":2}}"#, #"[{"op":"test","path":"/a","value":{"c":2,"b":1}}]"#,
        #"{"a":{"b":1,"c":2}}"#),
      Example("4.6 test: numbers are equal by value", #"{"a":1}"#, #"[{"op":"test","path":"/a","value":1.0}]"#, #"{"a":1}"#),
      Example("4.6 test: null is a value", #"{"a":null}"#, #"[{"op":"test","path":"/a","value":null}]"#, #"{"a":null}"#),
      Example(
        "5 a failure undoes what went before", #"{"a":1}"#, #"[{"op":"add","path":"/b","value":1},{"op":"test","path":"/a","value":2}]"#,
        nil),
      Example("3 a patch is an array", #"{"a":1}"#, #"{"op":"remove","path":"/a"}"#, nil),
      Example("4 an unknown operation", #"{"a":1}"#, #"[{"op":"spin","path":"/a"}]"#, nil),
      Example("4 an operation without a path", #"{"a":1}"#, #"[{"op":"remove"}]"#, nil),
      Example("4.1 an addition without a value", #"{"a":1}"#, #"[{"op":"add","path":"/b"}]"#, nil),
      Example("RFC 6901, section 3: a pointer begins with a slash", #"{"a":1}"#, #"[{"op":"remove","path":"a"}]"#, nil),
      Example("RFC 6901, section 3: a tilde is escaped", #"{"a~b":1}"#, #"[{"op":"remove","path":"/a~b"}]"#, nil),
      Example("RFC 6901, section 4: the empty name", #"{"":1,"a":2}"#, #"[{"op":"remove","path":"/"}]"#, #"{"a":2}"#),
    ])
  func section4(_ example: Example) throws { try check(example) }

  private func check(_ example: Example) throws {
    let document = try JSONValue(parsing: example.document)
    let patch = try JSONValue(parsing: example.patch)
    if let result = example.result {
      #expect(try JSONPatch(patch).apply(to: document) == JSONValue(parsing: result))
    } else {
      #expect(throws: PatchProblem.self) { try JSONPatch(patch).apply(to: document) }
    }
  }

  @Test("A failed test says what is there, and which operation it was")
  func failureIsExplained() throws {
    let patch = try JSONPatch(try JSONValue(parsing: #"[{"op":"test","path":"/a","value":1},{"op":"test","path":"/b/0","value":"x"}]"#))
    #expect(throws: PatchProblem(#"operation 2 of the patch: test: /b/0 is "y", not "x""#)) {
      try patch.apply(to: try JSONValue(parsing: #"{"a":1,"b":["y"]}"#))
    }
  }

  @Test("A document copied into itself again and again is refused before it fills the memory")
  func copies() throws {
    let once: JSONValue = ["op": "copy", "from": "", "path": "/a"]
    let patch = try JSONPatch(.array([JSONValue](repeating: once, count: 200)))
    #expect(throws: PatchProblem.self) { try patch.apply(to: ["a": 1]) }
    let wide = try JSONPatch(.array((0..<40).map { ["op": "copy", "from": "", "path": .string("/x\($0)")] }))
    #expect(throws: PatchProblem.self) { try wide.apply(to: ["a": 1]) }
  }
}

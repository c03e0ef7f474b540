import JSON
import Patches
import Testing

@Suite("RFC 7396: JSON Merge Patch")
struct MergePatchTests {
  /// Original, patch, result.
  static let table: [(String, String, String)] = [
    (#"{"a":"b"}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
    (#"{"a":"b"}"#, #"{"b":"c"}"#, #"{"a":"b","b":"c"}"#),
    (#"{"a":"b"}"#, #"{"a":null}"#, #"{}"#),
    (#"{"a":"b","b":"c"}"#, #"{"a":null}"#, #"{"b":"c"}"#),
    (#"{"a":["b"]}"#, #"{"a":"c"}"#, #"{"a":"c"}"#),
    (#"{"a":"c"}"#, #"{"a":["b"]}"#, #"{"a":["b"]}"#),
    (#"{"a":{"b":"c"}}"#, #"{"a":{"b":"d","c":null}}"#, #"{"a":{"b":"d"}}"#),
    (#"{"a":[{"b":"c"}]}"#, #"{"a":[1]}"#, #"{"a":[1]}"#),
    (#"["a","b"]"#, #"["c","d"]"#, #"["c","d"]"#),
    (#"{"a":"b"}"#, #"["c"]"#, #"["c"]"#),
    (#"{"a":"foo"}"#, #"null"#, #"null"#),
    (#"{"a":"foo"}"#, #""bar""#, #""bar""#),
    (#"{"e":null}"#, #"{"a":1}"#, #"{"e":null,"a":1}"#),
    (#"[1,2]"#, #"{"a":"b","c":null}"#, #"{"a":"b"}"#),
    (#"{}"#, #"{"a":{"bb":{"ccc":null}}}"#, #"{"a":{"bb":{}}}"#),
  ]

  @Test("Appendix A: the table of test cases", arguments: 0..<table.count)
  func appendixA(row: Int) throws {
    let (original, patch, result) = Self.table[row]
    #expect(MergePatch.apply(try JSONValue(parsing: patch), to: try JSONValue(parsing: original)) == (try JSONValue(parsing: result)))
  }

  @Test("Section 3: the example document")
  func section3() throws {
    let original = try JSONValue(
      parsing:
        #"{"title":"Goodbye!","author":{"givenName":"John","familyName":"Doe"},"tags":["example","sample"],"content":"This will be unchanged"}"#
    )
    let patch = try JSONValue(
      parsing: #"{"title":"Hello!","phoneNumber":"+01-123-456-7890","author":{"familyName":null},"tags":["example"]}"#)
    let result = try JSONValue(
      parsing:
        #"{"title":"Hello!","author":{"givenName":"John"},"tags":["example"],"content":"This will be unchanged","phoneNumber":"+01-123-456-7890"}"#
    )
    #expect(MergePatch.apply(patch, to: original) == result)
  }
}

@Suite("Merge patches from two documents")
struct MergePatchDifferenceTests {
  @Test(
    "The difference of two documents makes one of the other",
    arguments: [
      (#"{"a":1}"#, #"{"a":2,"b":{"c":[1]}}"#), (#"{"a":{"b":1,"c":2}}"#, #"{"a":{"c":3}}"#), (#"{"a":[1,2]}"#, #"{"a":[2]}"#),
      (#"{"a":{"b":1}}"#, #"{"a":5}"#),
      (#"{"a":5}"#, #"{"a":{"b":1}}"#), (#"{"a":1}"#, #"{"a":1}"#),
    ])
  func roundTrip(old: String, new: String) throws {
    let (old, new) = (try JSONValue(parsing: old), try JSONValue(parsing: new))
    #expect(MergePatch.apply(MergePatch.difference(from: old, to: new), to: old).means(new))
  }
  @Test("Two patches clash where they say different things of the same member")
  func conflicts() throws {
    func places(_ a: String, _ b: String) throws -> [String] {
      MergePatch.conflicts(try JSONValue(parsing: a), try JSONValue(parsing: b)).map { $0.joined(separator: ".") }
    }
    #expect(try places(#"{"a":1,"b":{"c":2}}"#, #"{"b":{"d":3},"e":1}"#) == [])
    #expect(try places(#"{"a":1,"b":{"c":2}}"#, #"{"a":1,"b":{"c":3}}"#) == ["b.c"])
    #expect(try places(#"{"a":null}"#, #"{"a":{"b":1}}"#) == ["a"])
  }
}

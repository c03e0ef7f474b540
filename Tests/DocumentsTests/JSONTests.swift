import JSON
import Testing

@Suite("JSON, RFC 8259")
struct JSONTests {
  @Test(
    "Accepted texts keep order, exact integers and every character",
    arguments: [
      ("null", JSONValue.null), (" true ", true), ("0", 0), ("-0", 0), ("9223372036854775807", .integer(.max)),
      ("-9223372036854775808", .integer(.min)), ("9223372036854775808", .unsigned(9_223_372_036_854_775_808)),
      ("18446744073709551615", .unsigned(.max)), ("18446744073709551616", .double(18_446_744_073_709_551_616)), ("1.5e3", .double(1500)),
      ("1E-2", .double(0.01)), (#""a\u00e9\ud83d\ude00\n\/""#, "aé😀\n/"), ("[]", []), ("{}", [:]),
      (#"{"b":1,"a":[true,{"x":null}]}"#, ["b": 1, "a": [true, ["x": nil]]]),
    ] as [(String, JSONValue)])
  func accepts(text: String, expected: JSONValue) throws {
    let value = try JSONValue(parsing: text)
    #expect(value == expected)
    #expect(try JSONValue(parsing: value.text()) == value)
    #expect(try JSONValue(parsing: value.text(pretty: true)) == value)
  }

  @Test(
    "Refused texts say where",
    arguments: [
      ("", "1:1"), ("nul", "1:1"), ("01", "1:1"), ("-", "1:2"), ("1.", "1:3"), ("1e", "1:3"), ("1e999", "1:1"), ("+1", "1:1"),
      ("[1,]", "1:4"),
      ("{\"a\":1,}", "1:8"), ("{\"a\":1,\n \"a\":2}", "2:2"), ("[1] x", "1:5"), ("\"abc", "1:1"), ("\"a\tb\"", "1:3"), (#""\x""#, "1:2"),
      (#""\ud800""#, "1:2"), (#""\udc00x""#, "1:2"), (#""\u12g4""#, "1:2"), ("{a:1}", "1:2"), ("['a']", "1:2"), ("[1 2]", "1:4"),
      ("\"é\" x", "1:5"), ("NaN", "1:1"), ("{\"a\" 1}", "1:6"),
    ])
  func refuses(text: String, position: String) {
    #expect { try JSONValue(parsing: text) } throws: { "\(($0 as! JSONError).position)" == position }
  }

  @Test("Broken UTF-8 and a byte order mark are refused")
  func encodings() {
    #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22, 0xff, 0x22] as [UInt8]) }
    #expect(throws: JSONError.self) { try JSONValue(parsing: [0xef, 0xbb, 0xbf, 0x31] as [UInt8]) }
  }

  @Test("Nesting stops at the limit, not at the end of the stack")
  func depth() throws {
    let nest = { (depth: Int) in String(repeating: "[", count: depth) + String(repeating: "]", count: depth) }
    _ = try JSONValue(parsing: nest(JSONValue.depthMax))
    #expect(throws: JSONError.self) { try JSONValue(parsing: nest(JSONValue.depthMax + 1)) }
    #expect(throws: JSONError.self) { try JSONValue(parsing: String(repeating: "[", count: 1_000_000)) }
  }

  @Test("Many members are checked for repetition too")
  func manyMembers() throws {
    let members = (0..<100).map { "\"m\($0)\":\($0)" }
    #expect(try JSONValue(parsing: "{\(members.joined(separator: ","))}").object?.members.count == 100)
    #expect(throws: JSONError.self) { try JSONValue(parsing: "{\(members.joined(separator: ",")),\"m7\":0}") }
    #expect(throws: JSONError.self) { try JSONValue(parsing: "{\(members.joined(separator: ",")),\"m16\":0}") }
  }

  @Test("Control characters, quotes and backslashes survive printing")
  func escapes() throws {
    let text = String(String.UnicodeScalarView((0..<0x80).map { UnicodeScalar(UInt8($0)) })) + "\u{2028}ü"
    #expect(try JSONValue(parsing: JSONValue.string(text).text()).string == text)
  }

  @Test("Pretty text indents by two and keeps empty containers short")
  func pretty() {
    let value: JSONValue = ["a": [1, ["b": []]], "c": [:]]
    #expect(value.text(pretty: true) == "{\n  \"a\": [\n    1,\n    {\n      \"b\": []\n    }\n  ],\n  \"c\": {}\n}")
  }

  @Test("Positions name the line and column of every value and name")
  func positions() throws {
    let text = "{\n  \"spec\": {\"ingress\": [{}, {\"source\":\n {\"nets\": [\"é\", \"10.0.0.1/8\"]}}]},\n  \"l\": {\"a.b/c\": 1}}"
    let (_, positions) = try JSONValue.parsePositioned(text.utf8)
    #expect("\(positions.position(of: "spec.ingress[1].source.nets[1]"))" == "3:17")
    #expect("\(positions.namePosition(of: "spec.ingress[1].source.nets"))" == "3:3")
    #expect("\(positions.position(of: "spec.ingress[1].source.nets[7].x"))" == "3:11")
    #expect("\(positions.position(of: JSONPath("l").member("a.b/c")))" == "4:18")
    #expect("\(positions.position(of: JSONPath("l").member("x.[\"y").member("z")))" == "4:8")
    #expect("\(positions.position(of: ""))" == "1:1")
  }
}

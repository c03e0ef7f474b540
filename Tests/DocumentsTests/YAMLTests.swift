import Addresses
import JSON
import Resources
import Testing

@testable import Documents

@Suite("YAML documents")
struct YAMLTests {
  private func read(_ text: String) throws -> [PositionedDocument] { try DocumentReader.read(bytes: Array(text.utf8), file: "f.yaml") }

  @Test(
    "Plain words mean what they mean in Kubernetes, quoted ones are texts",
    arguments: [
      ("1", 1), ("-7", -7), ("+7", 7), ("0755", 493), ("0o17", 15), ("0x1F", 31), ("0b101", 5), ("1_000", 1000), ("08", .double(8)),
      ("9223372036854775807", .integer(.max)), ("18446744073709551615", .unsigned(.max)), ("-9223372036854775808", .integer(.min)),
      ("1.5", .double(1.5)), ("1e3", .double(1000)), (".5", .double(0.5)), ("-.5", .double(-0.5)), ("1.", .double(1)), ("true", true),
      ("Yes", true),
      ("off", false), ("y", "y"), ("~", nil), ("null", nil), ("", nil), ("\"1\"", "1"), ("'true'", "true"), ("!!str 1", "1"),
      ("!!int \"1\"", 1),
      ("1.2.3", "1.2.3"), ("10.0.0.0/8", "10.0.0.0/8"), ("2026-01-01", "2026-01-01"), ("1e", "1e"), ("-", "-x"), ("0x", "0x"), ("+", "+"),
      ("12:30", "12:30"),
      ("fd00::1", "fd00::1"), ("|-\n  a\n  b", "a\nb"), ("all()", "all()"), ("--5", "--5"), ("_1", "_1"),
    ] as [(String, JSONValue)])
  func scalars(text: String, expected: JSONValue) throws {
    let text = text == "-" ? "-x" : text
    #expect(try read("v: \(text)\n")[0].value["v"] == expected)
  }

  @Test(
    "Infinities, other tags, repeated keys and odd keys are refused",
    arguments: [
      "v: .inf", "v: !!binary aGk=", "a: 1\na: 2", "a: 1\n\"a\": 2", "? [a]\n: 1", "a: [1", "a: *b", "\ta: 1", "a: 'x", "<<: 1",
    ])
  func refused(text: String) {
    #expect {
      try read(text)
    } throws: {
      ($0 as! DocumentErrors).description.hasPrefix("f.yaml:")
    }
  }

  @Test(
    "Several documents, comments, and lists of Kubernetes",
    arguments: [
      ("---\n# nothing\n---\na: 1\n---\na: 2\n", [1, 2]), ("kind: List\nitems:\n- a: 1\n- a: 2\n", [1, 2]),
      ("kind: TierList\nitems: []\n", []),
      ("- a: 1\n- a: 2\n", [1, 2]), ("{\"kind\":\"List\",\"items\":[{\"a\":1}]}", [1]), ("{a: 7}", [7]), ("", []),
    ] as [(String, [Int64])])
  func documents(text: String, expected: [Int64]) throws { #expect(try read(text).map { $0.value["a"]?.integer } == expected) }

  @Test("Anchors and merge keys: what a mapping says itself wins")
  func merging() throws {
    let document = try read("x: &x {a: 1, b: 1}\ny: &y {b: 2, c: 2}\nz:\n  <<: [*x, *y]\n  a: 3\nw: *x\n")[0]
    #expect(document.value["z"] == ["a": 3, "b": 1, "c": 2])
    #expect(document.value["w"] == ["a": 1, "b": 1])
  }

  @Test("Aliases that multiply end in an error, not in the memory")
  func bomb() {
    var text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for level in 1...12 { text += "a\(level): &a\(level) [\(Array(repeating: "*a\(level - 1)", count: 10).joined(separator: ", "))]\n" }
    #expect(throws: DocumentErrors.self) { try read(text) }
  }

  @Test("Positions are those of the file, in each document")
  func positions() throws {
    let documents = try read("kind: A\n---\nkind: List\nitems:\n- spec:\n    nets: [a, b]\n- spec: &s\n    x: 1\n")
    #expect(documents.count == 3)
    #expect("\(documents[1].position(of: documents[1].root.member("spec").member("nets").element(1)))" == "6:15")
    #expect("\(documents[2].position(of: "items[1].spec.x"))" == "8:8")
    #expect("\(documents[2].positions.namePosition(of: "items[1].spec.x"))" == "8:5")
  }

  @Test("JSON in a YAML file keeps JSON's strictness and its messages")
  func json() throws {
    #expect(throws: DocumentErrors.self) { try read("{\"a\": 1, \"a\": 2}") }
    #expect {
      try DocumentReader.read(bytes: Array("{\"a\": 1,}".utf8), file: "f.json")
    } throws: {
      ($0 as! DocumentErrors).description == "f.json:1:9: '}' where a member name in quotes is expected"
    }
  }

  @Test("Every key that appears twice is named, with both places, and hides nothing else")
  func repeatedKeys() {
    let text = """
      kind: A
      spec:
        "x": 1
        y: {a: 1, a: 2, b: 3, 'b': 4}
        x: 2
        z: [{q: 1, q: 2, q: 3}]
      kind: B
      """
    let (documents, errors) = DocumentReader.survey(bytes: Array(text.utf8), file: "f.yaml")
    #expect(
      errors.map(\.description) == [
        "f.yaml:4:13: spec.y.a: appears twice in one mapping, first at 4:7; remove one of them",
        "f.yaml:4:25: spec.y.b: appears twice in one mapping, first at 4:19; remove one of them",
        "f.yaml:5:3: spec.x: appears twice in one mapping, first at 3:3; remove one of them",
        "f.yaml:6:14: spec.z[0].q: appears twice in one mapping, first at 6:8; remove one of them",
        "f.yaml:6:20: spec.z[0].q: appears twice in one mapping, first at 6:8; remove one of them",
        "f.yaml:7:1: kind: appears twice in one mapping, first at 1:1; remove one of them",
      ])
    #expect(documents.count == 1 && documents[0].value["kind"] == "B")
  }

  @Test("A fault of syntax ends its document, not the file")
  func severalFaults() {
    let text = "a: 1\n---\nb: [1\n---\nc: 2\n---\nd: 'x\n---\ne: 3\n---\nf: {\n"
    let (documents, errors) = DocumentReader.survey(bytes: Array(text.utf8), file: "f.yaml")
    #expect(documents.map(\.value) == [["a": 1], ["c": 2], ["e": 3]])
    #expect(errors.count == 3 && errors.allSatisfy { $0.position != nil }, "\(errors)")
    #expect(documents.map { "\($0.position(of: JSONPath("c")))" }.contains("5:4"))
  }

  @Test("A missing file is named with the reason")
  func missing() {
    #expect {
      try DocumentReader.read(path: "/nonexistent/x.yaml")
    } throws: {
      "\($0)" == "/nonexistent/x.yaml: cannot be read: No such file or directory"
    }
  }

  @Test(
    "Printed YAML reads back the same",
    arguments: [
      nil, true, 1, .double(1.5), "", "a", [], [:], ["a": [1, [2, ["b": [], "c": [["d": nil]]]]], "e": [:]],
      [
        "yes", "no", "y", "null", "~", "1", "0x1f", "1e3", ".5", "- a", "a: b", "a #b", "#a", "a:", ":a", "é", "\u{85}", "a\nb", "\t", " a",
        "a ", "'", "\"",
        "*a", "&a", "!a", "%a", "@a", "`a", "{a", "[a", "}", "]", ",", "|", ">", "?", "? a", "-", "---", "...", "<<", "=", "\\", "a\u{1}b",
        "2026-01-01",
        "10.0.0.0/8", "has(a) && b == 'c'", "on", ".inf", "08",
      ],
      ["": 1, "yes": 2, "a b": 3, "1": 4, "<<": 5, "a: b": 6, "projectcalico.org/tier": 7],
    ] as [JSONValue])
  func printing(value: JSONValue) throws {
    // A scalar or list at the root would read as something else for the reader of documents, so it stands in a mapping.
    let text = JSONValue.object(JSONObject([JSONObject.Member("v", value)])).yamlText
    #expect(try read(text)[0].value["v"] == value, "\(text)")
  }

  @Test("Printed YAML looks like kubectl's")
  func looks() {
    let value: JSONValue = [
      "spec": ["nets": ["10.0.0.0/8"], "ingress": [["action": "Allow", "ports": [80, "a:b"]], ["action": "Deny"]]], "e": [],
    ]
    #expect(
      value.yamlText == """
        spec:
          nets:
          - 10.0.0.0/8
          ingress:
          - action: Allow
            ports:
            - 80
            - a:b
          - action: Deny
        e: []

        """)
  }
}

@Suite("Documents made to be expensive")
struct ExpensiveDocumentTests {
  @Test("Merge keys that multiply empty mappings are bounded like everything else that is expanded")
  func merges() {
    var text = "a0: &a0 {}\n"
    for level in 1...12 { text += "a\(level): &a\(level)\n  <<: [\((0..<10).map { _ in "*a\(level - 1)" }.joined(separator: ", "))]\n" }
    #expect(throws: DocumentErrors.self) { try DocumentReader.read(bytes: Array(text.utf8), file: "merges.yaml") }
  }
  @Test("A field with a name of a million octets is unknown, and compared with nothing")
  func longName() throws {
    let rule = JSONValue.object(JSONObject([.init("action", "Allow"), .init(String(repeating: "x", count: 1_000_000), 1)]))
    let value: JSONValue = ["metadata": ["name": "p"], "spec": ["ingress": [rule]]]
    let read = try ResourceCodec.decodeReporting(kind: .networkPolicy, value: value)
    #expect(read.faults.count == 1)
  }
  @Test("A network put in front of fifty thousand keeps them in their places")
  func largeSet() throws {
    let nets = (0..<50_000).map { "10.\($0 >> 8).\($0 & 255).0/24" }
    let old: JSONValue = ["kind": "GlobalNetworkSet", "metadata": ["name": "s"], "spec": ["nets": .array(nets.map { .string($0) })]]
    guard case .globalNetworkSet(var set) = try ResourceCodec.decodeLenient(kind: .globalNetworkSet, value: old).spec else { return }
    set.nets.insert(IPPrefix("192.0.2.0/24")!, at: 0)
    let new = ResourceCodec.encode(Resource(Metadata(name: "s"), .globalNetworkSet(set)), onto: old)
    #expect(new["spec"]?["nets"]?.array?.compactMap(\.string) == ["192.0.2.0/24"] + nets)
  }
}

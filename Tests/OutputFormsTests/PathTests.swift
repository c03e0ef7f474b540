/// JSONPath, custom columns, sorting.
import JSON
import OutputForms
import Testing

@Suite("Paths into documents")
struct PathTests {
  @Test(
    "A path means what it means to kubectl",
    arguments: [
      (".metadata.name", []), ("{.items[*].metadata.name}", ["blue", "green"]), ("items[0].metadata.name", ["blue"]),
      (".items[-1].metadata.name", ["green"]), (".items[0:1].spec.cidr", ["10.65.0.0/16"]), (".items[1:].spec.cidr", ["fd00:65::/64"]),
      (".items[0,1].spec.blockSize", ["26", "122"]), (".items[0].metadata.labels['projectcalico.org/tier']", ["gold"]),
      (#".items[0].metadata.labels.projectcalico\.org/tier"#, ["gold"]), (".items[0].metadata.labels['n','absent']", ["10"]),
      ("$.items[?(@.metadata.name==\"green\")].spec.cidr", ["fd00:65::/64"]),
      (".items[?(@.spec.blockSize > 100)].metadata.name", ["green"]),
      (".items[?(@.metadata.labels)].metadata.name", ["blue"]), (".items[?(@.spec.natOutgoing==true)].metadata.name", ["blue"]),
      (".items[?(@.spec.weight != 2)].metadata.name", ["blue", "green"]), ("..cidr", ["10.65.0.0/16", "fd00:65::/64"]),
      (".items[0].spec.allowedUses.*", ["Workload", "Tunnel"]), (".items[0].spec.allowedUses", [#"["Workload","Tunnel"]"#]),
      (".items[9].x", []),
    ] as [(String, [String])])
  func values(path: String, expected: [String]) throws {
    #expect(try FieldPath(relaxed: path).values(in: pools).map(\.plainText) == expected)
  }

  @Test(
    "A path that cannot be read is named with its place",
    arguments: [
      ("", "line 1, column 1: a path is missing"), (".a[", "line 1, column 3: the bracket that opens here"),
      (".a[]", "line 1, column 3: brackets hold"), (".a[0", "line 1, column 3: the bracket"),
      (".a[?(@.b=1)]", "line 1, column 9: a filter is one comparison"), (".a b", "line 1, column 4: \"b\" is not expected"),
      (".a[1:2:0]", "line 1, column 3: a range is"), ("{.a", "line 1, column 4: the path does not end here with }"),
      (".a.", "line 1, column 4: a field's name"),
      (".a['b]", "line 1, column 4: the text that begins here"),
    ])
  func mistakes(path: String, expected: String) {
    let error = #expect(throws: TemplateError.self) { try FieldPath(relaxed: path) }
    #expect("\(error!)".hasPrefix(expected))
  }

  @Test(
    "A jsonpath template prints what kubectl prints",
    arguments: [
      ("{.items[*].metadata.name}", "blue green"),
      (#"{range .items[*]}{.metadata.name}{"\t"}{.spec.blockSize}{"\n"}{end}"#, "blue\t26\ngreen\t122\n"),
      ("kind: {.kind}, none: {.nothing}.", "kind: IPPoolList, none: ."), ("{.items[0].spec.allowedUses}", #"["Workload","Tunnel"]"#),
      ("{range .items[*]}{$.kind} {end}", "IPPoolList IPPoolList "), ("plain", "plain"), ("{'it'} {\"\\u00e4\"}", "it ä"),
    ])
  func template(text: String, expected: String) throws {
    #expect(try PathTemplate(text).text(for: pools) == expected)
  }

  @Test(
    "A jsonpath template that cannot be read is named with its place",
    arguments: [
      ("{range .items[*]}\n{.a}", "line 1, column 1: the {range …} that begins here has no {end}"),
      ("a{end}", "line 1, column 2: {end} without"),
      ("{.a", "line 1, column 1: the expression that begins here has no closing }"), ("\n {}", "line 2, column 2: the expression is empty"),
      ("{.a ! b}", "line 1, column 5: \"!\" is not expected here"),
    ])
  func templateMistakes(text: String, expected: String) {
    let error = #expect(throws: TemplateError.self) { try PathTemplate(text) }
    #expect("\(error!)".hasPrefix(expected))
  }

  @Test("Columns have a heading and a path, or the name of a column of the kind")
  func columns() throws {
    let columns = try CustomColumns("NAME:.metadata.name,uses:{.spec.allowedUses[0,1]},cidr").columns
    #expect(columns.map(\.heading) == ["NAME", "uses", "CIDR"])
    #expect(columns[2].path == nil)
    let blue = pools["items"]!.array![0]
    #expect(columns.prefix(2).map { CustomColumns.cell($0.path!, blue) } == ["blue", "Workload,Tunnel"])
    #expect(CustomColumns.cell(try FieldPath(relaxed: ".spec.none"), blue) == "<none>")
    let file = try CustomColumns(file: "NAME          CIDR\nmetadata.name .spec.cidr\n")
    #expect(file.columns.map { CustomColumns.cell($0.path!, blue) } == ["blue", "10.65.0.0/16"])
  }

  @Test("A column that cannot be read is named with its place")
  func columnMistakes() {
    func problem(_ body: () throws -> CustomColumns) -> String {
      do { return "\(try body())" } catch { return "\(error)" }
    }
    #expect(
      problem { try CustomColumns("NAME:.a,B:.c[]") }
        == "line 1, column 13: brackets hold a number, a range, *, ?(filter) or a name in quotes")
    #expect(problem { try CustomColumns("NAME:.a,") }.hasPrefix("line 1, column 9: a column is missing"))
    #expect(problem { try CustomColumns(":.a") }.hasPrefix("line 1, column 1: the column has no heading"))
    #expect(problem { try CustomColumns(file: "A B\n.a") }.hasPrefix("line 2, column 1: 2 headings and 1 paths"))
  }

  @Test("Sorting: what is missing first, numbers by value, texts with their numbers")
  func order() {
    let values: [JSONValue?] = ["web-10", 3, nil, "web-2", .double(2.5), true, "web-02", "a"]
    let sorted = values.sorted { ValueOrder.precedes($0, $1) }
    #expect(sorted == [nil, true, .double(2.5), 3, "a", "web-2", "web-02", "web-10"])
  }
}

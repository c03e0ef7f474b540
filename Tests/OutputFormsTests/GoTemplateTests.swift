/// Go templates, as people write them for calicoctl and kubectl.
import JSON
import OutputForms
import Testing

private func text(_ template: String, _ document: JSONValue = pools) throws -> String { try GoTemplate(template).text(for: document) }
private func problem(_ template: String) -> String {
  do { return "no problem: \(try text(template))" } catch { return "\(error)" }
}

@Suite("Go templates")
struct GoTemplateTests {
  @Test(
    "A template prints what Go prints",
    arguments: [
      // calicoctl: the root is the list of results, and fields have Go's names.
      ("{{range .}}{{range .Items}}{{.ObjectMeta.Name}},{{end}}{{end}}", "blue,green,"),
      (
        "{{- range .}}{{- range .Items}}\n  {{.Name}} {{.Spec.CIDR}} {{.Spec.NATOutgoing}}\n{{- end}}{{- end}}\n",
        "\n  blue 10.65.0.0/16 true\n  green fd00:65::/64 false\n"
      ),
      // kubectl: the root is the document.
      ("{{range .items}}{{.metadata.name}} {{end}}", "blue green "),
      ("{{len .items}} {{.kind}}", "2 IPPoolList"),
      ("{{range $i, $pool := .items}}{{$i}}={{$pool.metadata.name}};{{end}}", "0=blue;1=green;"),
      ("{{range $pool := .items}}{{$pool.spec.cidr}} {{end}}", "10.65.0.0/16 fd00:65::/64 "),
      ("{{with index .items 1}}{{.spec.cidr}}{{end}}", "fd00:65::/64"),
      (#"{{index (index .items 0).metadata.labels "projectcalico.org/tier"}}"#, "gold"),
      (#"{{range .items}}{{if .spec.natOutgoing}}{{.metadata.name}} yes{{else}} {{.metadata.name}} no{{end}}{{end}}"#, "blue yes green no"),
      (
        #"{{range .items}}{{if eq .spec.blockSize 26 27}}v4{{else if and (gt .spec.blockSize 100) (not .spec.natOutgoing)}}v6{{else}}?{{end}} {{end}}"#,
        "v4 v6 "
      ),
      (#"{{range .items}}{{if or .spec.allowedUses .spec.weight}}x{{end}}{{end}}"#, "xx"),
      (#"{{range .items}}{{join .spec.allowedUses "+"}}|{{end}}"#, "Workload+Tunnel||"),
      (#"{{range .items}}{{.spec.allowedUses | join ","}};{{end}}"#, "Workload,Tunnel;;"),
      (#"{{printf "%-6s|%4d|%q|%v|%05.1f%%" "ab" 26 "x" true 2.25}}"#, #"ab    |  26|"x"|true|002.3%"#),
      (#"{{ "a" | printf "%s-%s" "b" }}"#, "b-a"),
      ("{{range .nothing}}a{{else}}none{{end}}", "none"),
      ("{{range $k, $v := (index .items 0).metadata.labels}}{{$k}}={{$v}} {{end}}", "n=10 projectcalico.org/tier=gold "),
      ("a  {{- /* why */ -}}  b", "ab"),
      ("a {{- 1 -}} b {{- -2 }}", "a1b-2"),
      ("{{$n := 0}}{{range .items}}{{$n = .spec.blockSize}}{{end}}{{$n}}", "122"),
      ("{{range .items}}{{if eq .metadata.name \"green\"}}{{break}}{{end}}{{.metadata.name}}{{end}}", "blue"),
      ("{{range .items}}{{if eq .metadata.name \"blue\"}}{{continue}}{{end}}{{.metadata.name}}{{end}}", "green"),
      ("{{.kind}} {{range .items}}{{$.kind}} {{end}}", "IPPoolList IPPoolList IPPoolList "),
      (
        "{{(index .items 1).spec.weight}} {{(index .items 0).spec.allowedUses}} {{(index .items 0).metadata.labels}}",
        "1.5 [Workload Tunnel] map[n:10 projectcalico.org/tier:gold]"
      ),
      ("[{{.absent.field}}] {{if .absent}}a{{else}}b{{end}} {{len .absent}} {{eq .absent \"\"}}", "[] b 0 true"),
      ("{{slice \"abcdef\" 1 3}} {{print 1 2 \"a\"}} {{`raw \\n`}}", #"bc 1 2a raw \n"#),
      ("no action {at} all }}", "no action {at} all }}"),
    ])
  func prints(template: String, expected: String) throws {
    #expect(try text(template) == expected)
  }

  @Test(
    "A mistake is named with its line and column",
    arguments: [
      ("{{.metadata.name", "line 1, column 1: the action that begins here has no closing }}"),
      ("{{range .items}}\n  {{.metadata.name}}\n", "line 1, column 1: the {{range}} that begins here has no {{end}}"),
      ("a\n{{end}}", "line 2, column 1: {{end}} without a block before it"),
      ("a\nb {{else}}", "line 2, column 3: {{else}} without {{if}}, {{range}} or {{with}} before it"),
      ("{{if .a}}{{else}}{{else}}{{end}}", "line 1, column 1: a second {{else}} of the {{if}} that begins here"),
      ("\n {{nosuch .a}}", "line 2, column 4: there is no function \"nosuch\""),
      (
        "{{template \"x\"}}",
        "line 1, column 1: {{template}} is not supported; write the text in place, or use -o jsonpath or custom-columns"
      ),
      ("{{$x}}", "line 1, column 3: the variable $x is not declared"),
      ("{{$x = 1}}", "line 1, column 3: the variable $x is not declared; write $x := …"),
      ("{{break}}", "line 1, column 1: {{break}} outside of {{range}}"),
      ("{{\"abc}}", "line 1, column 3: the text that begins here has no closing \""),
      ("{{(.a}}", "line 1, column 3: the parenthesis that opens here has no closing )"),
      ("{{.kind.name}}", "line 1, column 3: a text has no field .name"),
      ("{{index .items 7}}", "line 1, column 3: index: 7 is outside of a list of 2"),
      ("{{printf \"%d\" .kind}}", "line 1, column 3: printf: %d needs a whole number, and this is a text"),
      ("{{printf \"%s\"}}", "line 1, column 3: printf: %s has no value: 0 given"),
      ("{{.a ?}}", "line 1, column 6: \"?\" is not expected here"),
      ("{{}}", "line 1, column 3: a value is missing"),
      ("{{len .kind .kind}}", "line 1, column 3: len: takes 1 value, not 2"),
    ])
  func mistakes(template: String, expected: String) {
    #expect(problem(template).hasPrefix(expected))
  }

  @Test("A template of a thousand nested blocks is refused, not run out of stack")
  func nesting() {
    #expect(problem(String(repeating: "{{if .a}}", count: 1000)).contains("stand in each other"))
    #expect(problem("{{" + String(repeating: "(", count: 1000) + "}}").contains("stand in each other"))
  }
}

/// Manual pages from what commands say of themselves.
import JSON
import OutputForms
import Testing

@Suite("Manual pages")
struct ManualPagesTests {
  private let dump: JSONValue = [
    "command": [
      "commandName": "margay", "abstract": "A network.",
      "subcommands": [
        [
          "commandName": "get", "abstract": "Show objects: a table - or 'more'.", "discussion": "One thing. And another\n\n.so /etc/passwd",
          "arguments": [
            [
              "kind": "positional", "shouldDisplay": true, "isOptional": false, "isRepeating": true, "valueName": "kind",
              "abstract": "The \\kind.",
            ],
            [
              "kind": "option", "shouldDisplay": true, "isOptional": true, "valueName": "form", "defaultValue": "table",
              "abstract": "The form.",
              "names": [["kind": "long", "name": "output"], ["kind": "short", "name": "o"]],
              "preferredName": ["kind": "long", "name": "output"],
            ],
            [
              "kind": "flag", "shouldDisplay": false, "isOptional": true, "names": [["kind": "long", "name": "hidden"]],
              "preferredName": ["kind": "long", "name": "hidden"],
            ],
          ],
        ], ["commandName": "inner", "shouldDisplay": false], ["commandName": "help", "abstract": "Show subcommand help."],
      ],
    ]
  ]

  @Test("Each command that is shown has a page; what is roff's is escaped")
  func pages() throws {
    let pages = ManualPages.pages(of: dump, version: "1.2", date: "2026-11-05T00:00:00Z")
    #expect(pages.map(\.name) == ["margay", "margay-get"])
    #expect(pages[0].text.contains(".It Xr margay-get 1\n"))
    let expected = #"""
      .Dd November 5, 2026
      .Dt MARGAY-GET 1
      .Os Margay 1.2
      .Sh NAME
      .Nm margay-get
      .Nd Show objects: a table \- or \(aqmore\(aq
      .Sh SYNOPSIS
      .Nm margay get
      .Ar kind ...
      .Op Fl -output Ar form
      .Sh DESCRIPTION
      Show objects: a table \- or \(aqmore\(aq.
      .Pp
      One thing.
      And another
      .Pp
      \&.so /etc/passwd
      .Pp
      Arguments and options:
      .Bl -tag -width Ds
      .It Ar kind
      The \ekind.
      .It Fl -output , Fl o Ar form
      The form.
      The default is table.
      .El
      .Sh SEE ALSO
      .Xr margay 1

      """#
    #expect(pages[1].text.split(separator: "\n", maxSplits: 1)[1] == expected)
  }
}

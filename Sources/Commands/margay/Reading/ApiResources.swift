/// api-resources: the kinds and the words for them.
import ArgumentParser
import JSON
import Resources
import Tables

struct APIResources: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "api-resources", abstract: "The kinds of objects, and the words for them.")
  enum Output: String, ExpressibleByArgument, CaseIterable { case table, name, json }
  @Option(name: .shortAndLong, help: "table, name or json.") var output: Output = .table
  @OptionGroup var colour: ColourOptions

  func run() {
    switch output {
    case .name: emit(Kind.allCases.map { $0.plural + "\n" }.joined())
    case .json:
      let kinds: [JSONValue] = Kind.allCases.map { kind in
        [
          "kind": .string(kind.rawValue), "name": .string(kind.plural), "shortNames": .array(kind.shortNames.map { .string($0) }),
          "namespaced": .bool(kind.isNamespaced),
        ]
      }
      emit(JSONValue.array(kinds).text(pretty: true) + "\n")
    case .table:
      var table = TextTable(["NAME", "SHORTNAMES", "NAMESPACED", "KIND"])
      for kind in Kind.allCases {
        table.append([kind.plural, kind.shortNames.joined(separator: ","), kind.isNamespaced ? "true" : "false", kind.rawValue])
      }
      emit(table.text(colour.palette, widthMax: terminalWidth()))
    }
  }
}

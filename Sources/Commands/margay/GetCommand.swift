/// get: objects as tables and documents.
import ArgumentParser
import Datastore
import Documents
import JSON
import Resources
import Tables

struct Get: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Show objects: a table, or the documents.")
  enum Output: String, ExpressibleByArgument, CaseIterable { case table, wide, yaml, json, name }

  @Argument(help: "The kind, in any of its words.") var kindWord: String
  @Argument(help: "Names; none means all.") var names: [String] = []
  @Option(name: [.customShort("n"), .long], help: "The namespace, for kinds that have one.") var namespace = "default"
  @Flag(name: [.customShort("A"), .long], help: "All namespaces.") var allNamespaces = false
  @Option(name: .shortAndLong, help: "table, wide, yaml, json or name.") var output: Output = .table
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    let kind = try kind(kindWord)
    let client = ResourceStore(try store.open())
    var items: [StoredResource] = []
    if names.isEmpty {
      let (found, unreadable, _) = try await client.list(kind, namespace: kind.isNamespaced && !allNamespaces ? namespace : nil)
      items = found
      for item in unreadable { writeError("\(item.reason)\n") }
    } else {
      for name in names {
        let key = ResourceKey(kind, namespace: namespace, name: name)
        guard let item = try await client.get(key) else { throw CommandProblem("\(key) does not exist") }
        items.append(item)
      }
    }
    switch output {
    case .table, .wide: write(ResourceTable.table(kind, items, isWide: output == .wide).text(palette()))
    case .name: for item in items { write("\(kind.rawValue.lowercased())/\(item.resource.key.name)\n") }
    case .json: write(document(items).text(pretty: true) + "\n")
    case .yaml: write(document(items).yamlText)
    }
  }

  private func document(_ items: [StoredResource]) -> JSONValue {
    if items.count == 1, names.count == 1 { return items[0].document }
    return [
      "kind": .string("\(items.first?.resource.kind.rawValue ?? "")List"), "apiVersion": "projectcalico.org/v3",
      "items": .array(items.map(\.document)),
    ]
  }
}

/// margay felix config: each setting of Felix, where it comes from, and what it would be without.
import ArgumentParser
import Datastore
import Documents
import FelixProgram
import FelixSettings
import JSON
import LabProgram
import Resources
import Sockets
import Tables

/// What this host says itself.
enum LocalSettings {
  static let usualFile = "/etc/calico/felix.cfg"

  static func layers(file: String?) -> [SettingsLayer] {
    let path = file ?? usualFile
    var layers: [SettingsLayer] = []
    do {
      // Without the option nobody promised the file.
      if file != nil || Files.exists(path) { layers.append(SettingsLayer(file: path, text: try Files.readText(path))) }
    } catch {
      layers.append(SettingsLayer(.file(path), faults: [.init(field: nil, name: "it", reason: "cannot be read: \(error)")]))
    }
    layers.append(SettingsLayer(environment: wholeEnvironment()))
    return layers
  }
}

struct FelixConfig: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "config", abstract: "Felix's settings: what is in force, who says so, and the default.",
    discussion: """
      On a host whose Felix runs, it says what is in force there. Otherwise, and with --computed, it follows from the datastore, this host's \
      file and environment; for another node, from the datastore alone. Without names, what somebody has set is shown. Exit code 1: a value \
      is bad and kept out, or a name is not known.
      """)
  @Argument(help: "Names of settings, as FelixConfiguration or the environment spell them.") var names: [String] = []
  @Flag(name: .shortAndLong, help: "Every setting.") var all = false
  @Option(name: .long, help: "Another node; this one without it.") var node: String?
  @Flag(name: .long, help: "Compute, also if Felix runs here.") var computed = false
  @Option(name: .shortAndLong, help: "table, json or yaml.") var output: Output = .table
  @OptionGroup var daemon: DaemonOptions
  @OptionGroup var store: DatastoreOptions
  enum Output: String, ExpressibleByArgument, CaseIterable { case table, json, yaml }

  func run() async throws {
    let unknown = names.filter { FelixParameter.known(as: $0) == nil }
    if let name = unknown.first { throw CommandProblem("there is no setting \"\(name)\" of Felix; margay felix config --all lists them") }
    let (report, place) = try await report()
    let wanted = Set(names.compactMap { FelixParameter.known(as: $0)?.field })
    let rows = report.rows.filter { row in
      if !wanted.isEmpty { return wanted.contains(row.parameter.field) }
      return all || !row.given.isEmpty || !row.faults.isEmpty
    }
    switch output {
    case .table: emit(table(rows, report, place))
    case .json: write(document(rows, report).text(pretty: true) + "\n")
    case .yaml: write(document(rows, report).yamlText)
    }
    if !report.problems.isEmpty { throw ExitCode(1) }
  }

  private func report() async throws -> (SettingsReport, String) {
    let here = daemon.nodeName
    if !computed, let status = StatusReader.read("\(daemon.runDir)/felix.sock"), node == nil || status["node"]?.string == node,
      let report = status["settings"].flatMap({ SettingsReport($0) })
    {
      return (report, "in force on \(status["node"]?.string ?? "this host")")
    }
    let name = node ?? here
    let datastore = try store.open()
    defer { Task { await datastore.close() } }
    let objects = ResourceStore(datastore)
    var stored = StoredSettings(node: name)
    for item in try await objects.list(.felixConfiguration).items { stored.note(item.resource.key, item.resource) }
    let key = ResourceKey(.node, name: name)
    if let item = try await objects.get(key) { stored.note(key, item.resource) }
    let isHere = name == here
    let resolution = SettingsResolution(stored, local: isHere ? daemon.localSettings() : [])
    let place = isHere ? "of \(name), from the datastore and this host" : "of \(name), from the datastore; its own file and environment are not known here"
    return (SettingsReport(resolution), place)
  }

  private func document(_ rows: [SettingsReport.Row], _ report: SettingsReport) -> JSONValue {
    [
      "settings": .array(
        rows.map { row in
          var document: JSONValue = [
            "name": .string(row.parameter.field), "value": row.given.first?.value ?? Self.usual(row.parameter), "source": .string(row.source),
            "default": Self.usual(row.parameter), "effect": .string(row.effect),
          ]
          if row.given.count > 1 {
            document["overruled"] = .array(row.given.dropFirst().map { ["source": .string($0.source), "value": $0.value] })
          }
          if !row.faults.isEmpty { document["faults"] = .array(row.faults.map { .string($0) }) }
          return document
        }),
      "problems": .array(report.problems.map { .string($0) }),
    ]
  }

  /// As a document would have it, where the table's words are one.
  private static func usual(_ parameter: FelixParameter) -> JSONValue {
    if parameter.usual.isEmpty { return nil }
    guard let value = try? parameter.value(of: parameter.usual) else { return .string(parameter.usual) }
    return ResourceCodec.json(value)
  }

  private func table(_ rows: [SettingsReport.Row], _ report: SettingsReport, _ place: String) -> String {
    let palette = palette()
    var text = palette("Felix's settings \(place)", .bold) + "\n"
    if rows.isEmpty {
      text += "nobody has set anything; --all shows the defaults\n"
    } else {
      var table = TextTable(["NAME", "VALUE", "SOURCE", "DEFAULT", "EFFECT"])
      for row in rows {
        let isGiven = !row.given.isEmpty
        table.append([
          row.faults.isEmpty ? TextTable.Cell(row.parameter.field) : TextTable.Cell(row.parameter.field, .red),
          isGiven ? TextTable.Cell(row.value, .bold) : TextTable.Cell(row.value),
          isGiven ? TextTable.Cell(row.source) : TextTable.Cell(row.source, .dim), TextTable.Cell(row.parameter.usual, .dim),
          TextTable.Cell(row.effect, .dim),
        ])
        for weaker in row.given.dropFirst() {
          table.append(["", TextTable.Cell(SettingsReport.Row.text(weaker.value), .dim), TextTable.Cell("overruled: \(weaker.source)", .dim), "", ""])
        }
      }
      text += table.text(palette)
    }
    if !report.problems.isEmpty { text += "\n" + report.problems.map { palette($0, .red) + "\n" }.joined() }
    return text
  }
}

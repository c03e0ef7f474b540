/// Changes to text: a table with the event's name in front, or a stream of documents that say what happened and to which object.
import Documents
import JSON
import OutputForms
public import Tables
import Resources

public struct ChangePrinter: Sendable {
  private let form: ObjectPrinter.Form
  private let hasSeveralKinds: Bool
  private let isExport: Bool
  private let palette: Palette
  private let widthMax: Int?
  private let hasHeadings: Bool
  private var table: (kind: Kind, rows: ObjectTable, stream: TableStream)?

  public init(form: ObjectPrinter.Form, several: Bool, export: Bool, palette: Palette, widthMax: Int?, headings: Bool) {
    self.form = form
    hasSeveralKinds = several
    isExport = export
    self.palette = palette
    self.widthMax = widthMax
    hasHeadings = headings
  }

  public mutating func text(_ changes: [(change: ObjectWatch.Change, object: ShownObject)]) throws -> String {
    guard case .table(let shape) = form else {
      var text = ""
      for (change, object) in changes { text += try document(change, object) }
      return text
    }
    // Changes in a row that are of one kind share their widths.
    var text = ""
    var rest = changes[...]
    while let kind = rest.first?.object.key.kind {
      let run = rest.prefix { $0.object.key.kind == kind }
      rest = rest.dropFirst(run.count)
      if table?.kind != kind {
        let rows = try ObjectTable(kind, shape)
        let stream = TableStream(["EVENT"] + rows.headings, widthMax: widthMax, hasHeadings: hasHeadings)
        if table != nil { text += "\n" }
        table = (kind, rows, stream)
      }
      let rows = run.map { [Self.cell($0.change)] + table!.rows.row($0.object) }
      text += table!.stream.text(rows, palette)
    }
    return text
  }

  private static func cell(_ change: ObjectWatch.Change) -> TextTable.Cell {
    switch change {
    case .added: TextTable.Cell(change.rawValue, .green)
    case .modified: TextTable.Cell(change.rawValue, .yellow)
    case .deleted: TextTable.Cell(change.rawValue, .red)
    }
  }

  private func document(_ change: ObjectWatch.Change, _ object: ShownObject) throws -> String {
    let document = isExport ? object.exported : object.document
    func event() -> JSONValue {
      var value: JSONValue = ["type": .string(change.rawValue), "object": document ?? Self.reference(object.key)]
      if let problem = object.problem { value["problem"] = .string(problem) }
      return value
    }
    switch form {
    case .table: preconditionFailure("tables have rows")
    case .name: return "\(object.key.kind.rawValue.lowercased())/\(object.key.name)\n"
    case .json: return event().text() + "\n"
    case .yaml: return "---\n" + event().yamlText
    case .jsonPath(let template): return document.map { template.text(for: $0) + "\n" } ?? ""
    case .goTemplate(let template): return try document.map { value throws in try template.text(for: value) + "\n" } ?? ""
    }
  }

  /// What is left to say of an object whose value is no document.
  private static func reference(_ key: ResourceKey) -> JSONValue {
    var metadata: JSONValue = ["name": .string(key.name)]
    if let namespace = key.namespace { metadata["namespace"] = .string(namespace) }
    return ["kind": .string(key.kind.rawValue), "metadata": metadata]
  }
}

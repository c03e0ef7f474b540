/// Objects to text in the form that was asked for. Tables, lists and names come out in portions; templates need all objects at once.
public import JSON
import Documents
public import OutputForms
public import Resources
public import Tables

public struct ObjectPrinter: Sendable {
  public enum Form: Sendable {
    case table(ObjectTable.Shape)
    case name
    case json
    case yaml
    case jsonPath(PathTemplate)
    case goTemplate(GoTemplate)

    public var needsAll: Bool {
      switch self {
      case .jsonPath, .goTemplate: true
      default: false
      }
    }
  }
  public let form: Form
  /// One object was asked for by name: it is the document, not a list of one.
  public var isSingle = false
  /// Objects of several kinds: names are written `kind/name`.
  public var hasSeveralKinds = false
  public var isExport = false
  public var palette = Palette(coloured: false)
  public var widthMax: Int?
  public var hasHeadings = true
  public var facts = ClusterFacts()
  public init(_ form: Form) { self.form = form }

  private var table: (kind: Kind, table: ObjectTable, stream: TableStream)?
  private var hasBegun = false
  private var documents: [JSONValue] = []
  /// The kind of a list: of its first object, or what was asked for.
  private var listKind: String?

  /// The next objects, all of one kind. A kind without objects may be told as well: it gives a table's headings.
  public mutating func text(_ kind: Kind, _ objects: [ShownObject]) throws -> String {
    switch form {
    case .table(let shape): return try tableText(kind, objects, shape)
    case .name: return objects.map { "\(kind.rawValue.lowercased())/\($0.key.name)\n" }.joined()
    case .jsonPath, .goTemplate:
      listKind = listKind ?? kind.rawValue
      documents += objects.compactMap(document)
      return ""
    case .json, .yaml:
      listKind = listKind ?? kind.rawValue
      var text = ""
      for document in objects.compactMap(document) {
        if isSingle {
          text += Self.text(document, isJSON: form.isJSON)
          hasBegun = true
          continue
        }
        if form.isJSON {
          text += hasBegun ? ",\n" : head + "\n"
          text += Self.indented(document.text(pretty: true), by: 4)
        } else {
          if !hasBegun { text += head }
          text += JSONValue.array([document]).yamlText
        }
        hasBegun = true
      }
      return text
    }
  }

  /// What ends the list; for templates, everything.
  public mutating func finish() throws -> String {
    switch form {
    case .table, .name: return ""
    case .jsonPath(let template):
      let text = template.text(for: whole)
      return text.isEmpty || text.hasSuffix("\n") ? text : text + "\n"
    case .goTemplate(let template):
      let text = try template.text(for: whole)
      return text.isEmpty || text.hasSuffix("\n") ? text : text + "\n"
    case .json: return isSingle ? "" : hasBegun ? "\n  ]\n}\n" : head + "]\n}\n"
    case .yaml: return isSingle || hasBegun ? "" : head.dropLast() + " []\n"
    }
  }

  private var whole: JSONValue {
    if isSingle, documents.count == 1 { return documents[0] }
    return [
      "apiVersion": .string(ResourceCodec.apiVersion), "kind": .string(listName), "items": .array(documents),
    ]
  }
  private var listName: String { hasSeveralKinds ? "List" : "\(listKind ?? "")List" }
  private var head: String {
    form.isJSON
      ? "{\n  \"apiVersion\": \"\(ResourceCodec.apiVersion)\",\n  \"kind\": \"\(listName)\",\n  \"items\": ["
      : "apiVersion: \(ResourceCodec.apiVersion)\nkind: \(listName)\nitems:\n"
  }
  private func document(_ object: ShownObject) -> JSONValue? { isExport ? object.exported : object.document }

  public static func text(_ document: JSONValue, isJSON: Bool) -> String { isJSON ? document.text(pretty: true) + "\n" : document.yamlText }

  /// Line breaks inside of texts are escapes in JSON, so every one of them begins a line.
  private static func indented(_ text: String, by count: Int) -> String {
    let margin = String(repeating: " ", count: count)
    return margin + text.split(separator: "\n", omittingEmptySubsequences: false).joined(separator: "\n" + margin)
  }

  private mutating func tableText(_ kind: Kind, _ objects: [ShownObject], _ shape: ObjectTable.Shape) throws -> String {
    var text = ""
    if table?.kind != kind {
      let rows = try ObjectTable(kind, shape)
      if table != nil { text += "\n" }
      table = (kind, rows, TableStream(rows.headings, widthMax: widthMax, hasHeadings: hasHeadings))
    }
    var rows = objects.map { table!.table.row($0, facts) }
    if hasSeveralKinds, shape.custom == nil {
      let column = shape.showsNamespace && kind.isNamespaced ? 1 : 0
      for index in rows.indices { rows[index][column].text = "\(kind.rawValue.lowercased())/\(rows[index][column].text)" }
    }
    return text + table!.stream.text(rows, palette)
  }
}

extension ObjectPrinter.Form {
  public var isJSON: Bool { if case .json = self { true } else { false } }
}

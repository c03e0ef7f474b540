/// Rows of one kind: which columns, and the cells of each object.
public import OutputForms
public import Resources
public import Tables

public struct ObjectTable: Sendable {
  public struct Shape: Sendable {
    public var isWide = false
    public var showsNamespace = false
    public var showsLabels = false
    /// A column for each, with the label's value.
    public var labelColumns: [String] = []
    public var custom: CustomColumns?
    public init() {}
  }
  public struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
  }
  public let kind: Kind
  public let shape: Shape
  private let columns: [ObjectColumn]

  public init(_ kind: Kind, _ shape: Shape) throws(Problem) {
    self.kind = kind
    self.shape = shape
    let known = ObjectColumn.all(of: kind)
    guard let custom = shape.custom else {
      columns = known.filter { shape.isWide || !$0.isWide }
      return
    }
    var columns: [ObjectColumn] = []
    for column in custom.columns {
      if let path = column.path {
        columns.append(
          ObjectColumn(column.heading) { object, _ in
            TextTable.Cell(object.document.map { CustomColumns.cell(path, $0) } ?? CustomColumns.absent)
          })
      } else if column.heading == "NAME" {
        columns.append(ObjectColumn("NAME") { object, _ in TextTable.Cell(object.key.name) })
      } else if column.heading == "NAMESPACE" {
        columns.append(ObjectColumn("NAMESPACE") { object, _ in TextTable.Cell(object.key.namespace ?? "") })
      } else if let own = known.first(where: { $0.heading == column.heading }) {
        columns.append(own)
      } else {
        let words = (["NAME"] + (kind.isNamespaced ? ["NAMESPACE"] : []) + known.map(\.heading)).joined(separator: ", ")
        throw Problem(
          description: "\(kind.rawValue) has no column \(column.heading); it has \(words); or give a path: \(column.heading):.spec.field")
      }
    }
    self.columns = columns
  }

  public var headings: [String] {
    guard shape.custom == nil else { return columns.map(\.heading) }
    return (shape.showsNamespace && kind.isNamespaced ? ["NAMESPACE"] : []) + ["NAME"] + columns.map(\.heading)
      + shape.labelColumns.map { Self.heading(ofLabel: $0) } + (shape.showsLabels ? ["LABELS"] : [])
  }
  /// The last part of a label's name, as kubectl heads its column.
  private static func heading(ofLabel label: String) -> String { (label.split(separator: "/").last ?? "").uppercased() }

  public func row(_ object: ShownObject, _ facts: ClusterFacts = ClusterFacts()) -> [TextTable.Cell] {
    var cells = columns.map { $0.cell(object, facts) }
    guard shape.custom == nil else { return cells }
    // Whatever else can be seen of it, this comes first: it is not in force.
    if object.document == nil { cells = cells.map { _ in "" } }
    if object.resource == nil, !cells.isEmpty { cells[0] = TextTable.Cell("UNREADABLE", .red) }
    let labels = object.labels
    cells = [TextTable.Cell(object.key.name)] + cells
    if shape.showsNamespace, kind.isNamespaced { cells = [TextTable.Cell(object.key.namespace ?? "")] + cells }
    cells += shape.labelColumns.map { TextTable.Cell(labels[$0] ?? CustomColumns.absent) }
    if shape.showsLabels {
      let text = labels.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")
      cells.append(TextTable.Cell(text.isEmpty ? CustomColumns.absent : text))
    }
    return cells
  }
}

/// Aligned tables and colour for people; programs ask for JSON instead.

/// Terminal styles. A `Style` prints nothing but the text itself when colour is off.
public enum Style: String, Sendable {
  case bold = "1"
  case dim = "2"
  case red = "31"
  case green = "32"
  case yellow = "33"
  case blue = "34"
}

/// Where text goes, and whether it may be coloured there. `NO_COLOR` (https://no-color.org) is the caller's to honour.
public struct Palette: Sendable {
  public let coloured: Bool
  public init(coloured: Bool) { self.coloured = coloured }
  public func callAsFunction(_ text: String, _ styles: Style...) -> String {
    coloured && !styles.isEmpty ? "\u{1b}[\(styles.map(\.rawValue).joined(separator: ";"))m\(text)\u{1b}[0m" : text
  }
}

/// Columns as wide as their widest cell, two blanks between them, nothing behind the last.
public struct TextTable: Sendable {
  public enum Alignment: Sendable { case left, right }
  public struct Cell: Sendable, ExpressibleByStringInterpolation {
    public var text: String
    public var styles: [Style]
    public init(_ text: String, _ styles: Style...) {
      self.text = text
      self.styles = styles
    }
    public init(stringLiteral value: String) { self.init(value) }
  }
  let headings: [String]
  let alignments: [Alignment]
  var rows: [[Cell]] = []

  /// A heading that ends in ">" aligns its column to the right.
  public init(_ headings: [String]) {
    self.headings = headings.map { $0.hasSuffix(">") ? String($0.dropLast()) : $0 }
    alignments = headings.map { $0.hasSuffix(">") ? .right : .left }
  }
  public mutating func append(_ cells: [Cell]) {
    precondition(cells.count == headings.count, "a row has one cell for each heading")
    rows.append(cells)
  }
  public mutating func append(_ cells: [String]) { append(cells.map { Cell($0) }) }
  public var isEmpty: Bool { rows.isEmpty }

  /// Each line ends in a newline. With `widthMax`, the widest columns are cut until the lines fit.
  public func text(_ palette: Palette = Palette(coloured: false), indent: Int = 0, widthMax: Int? = nil, hasHeadings: Bool = true) -> String
  {
    var stream = TableStream(headings: headings, alignments: alignments, indent: indent, widthMax: widthMax, hasHeadings: hasHeadings)
    return stream.text(rows, palette)
  }
}

/// A table that comes in portions: the first decides how wide the columns are, later ones make them wider where they must.
public struct TableStream: Sendable {
  private let headings: [String]
  private let alignments: [TextTable.Alignment]
  private let indent: Int
  private let widthMax: Int?
  private var hasHeadings: Bool
  private var widths: [Int]

  /// A heading that ends in ">" aligns its column to the right.
  public init(_ headings: [String], widthMax: Int? = nil, hasHeadings: Bool = true) {
    let table = TextTable(headings)
    self.init(headings: table.headings, alignments: table.alignments, indent: 0, widthMax: widthMax, hasHeadings: hasHeadings)
  }
  init(headings: [String], alignments: [TextTable.Alignment], indent: Int, widthMax: Int?, hasHeadings: Bool) {
    self.headings = headings
    self.alignments = alignments
    self.indent = indent
    self.widthMax = widthMax
    self.hasHeadings = hasHeadings
    widths = hasHeadings ? headings.map(\.count) : headings.map { _ in 0 }
  }

  /// The headings, the first time, and the rows.
  public mutating func text(_ rows: [[TextTable.Cell]], _ palette: Palette) -> String {
    for row in rows { for (index, cell) in row.enumerated() { widths[index] = max(widths[index], cell.text.count) } }
    fit()
    var text = ""
    if hasHeadings {
      hasHeadings = false
      text += line(headings.map { TextTable.Cell($0, .bold) }, palette)
    }
    for row in rows { text += line(row, palette) }
    return text
  }

  /// Takes from the widest column until the lines fit, but never so much that a cell says nothing.
  private mutating func fit() {
    guard let widthMax else { return }
    var excess = indent + widths.reduce(0, +) + 2 * (widths.count - 1) - widthMax
    while excess > 0, let widest = widths.indices.max(by: { widths[$0] < widths[$1] }), widths[widest] > 12 {
      widths[widest] -= 1
      excess -= 1
    }
  }

  private func line(_ cells: [TextTable.Cell], _ palette: Palette) -> String {
    var line = String(repeating: " ", count: indent)
    for (index, cell) in cells.enumerated() {
      let isCut = cell.text.count > widths[index]
      let plain = isCut ? "\(cell.text.prefix(max(0, widths[index] - 1)))…" : cell.text
      let padding = String(repeating: " ", count: isCut ? 0 : widths[index] - plain.count)
      let text = cell.styles.reduce(plain) { palette($0, $1) }
      let isLast = index == cells.count - 1
      switch alignments[index] {
      case .left: line += text + (isLast ? "" : padding)
      case .right: line += padding + text
      }
      if !isLast { line += "  " }
    }
    while line.last == " " { line.removeLast() }
    return line + "\n"
  }
}

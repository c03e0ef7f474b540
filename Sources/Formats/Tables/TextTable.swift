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

  /// Each line ends in a newline.
  public func text(_ palette: Palette = Palette(coloured: false), indent: Int = 0) -> String {
    var widths = headings.map(\.count)
    for row in rows { for (index, cell) in row.enumerated() { widths[index] = max(widths[index], cell.text.count) } }
    let margin = String(repeating: " ", count: indent)
    func line(_ cells: [(text: String, styles: [Style])]) -> String {
      var line = margin
      for (index, cell) in cells.enumerated() {
        let padding = String(repeating: " ", count: widths[index] - cell.text.count)
        let text = cell.styles.reduce(cell.text) { palette($0, $1) }
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
    return line(headings.map { ($0, [.bold]) }) + rows.map { line($0.map { ($0.text, $0.styles) }) }.joined()
  }
}

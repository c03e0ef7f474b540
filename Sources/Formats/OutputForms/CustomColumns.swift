/// `-o custom-columns=…`: the reader's own table.
///
/// `NAME:.metadata.name,TIER:.spec.tier` gives each column its heading and path, as in `kubectl`; a heading alone, `NAME,SELECTOR`, means the
/// column of that name of the kind's own wide table, as in `calicoctl`. A file holds the headings in its first line and the paths in its second.
public import JSON

public struct CustomColumns: Hashable, Sendable {
  public struct Column: Hashable, Sendable {
    public var heading: String
    /// Nil: the kind's own column of this name.
    public var path: FieldPath?
  }
  public let columns: [Column]

  /// What a value that is not there looks like.
  public static let absent = "<none>"

  public init(_ text: String) throws(TemplateError) {
    var columns: [Column] = []
    var column = 1
    // A comma inside of brackets belongs to the path: [0,1], ['a,b'].
    for part in Self.split(text) {
      let position = JSONPosition(line: 1, column: column)
      column += part.unicodeScalars.count + 1
      guard let colon = part.firstIndex(of: ":") else {
        let heading = part.filter { !$0.isWhitespace }
        if heading.isEmpty { throw TemplateError("a column is missing; write NAME or NAME:.metadata.name", at: position) }
        columns.append(Column(heading: heading.uppercased(), path: nil))
        continue
      }
      let heading = String(part[..<colon])
      if heading.isEmpty { throw TemplateError("the column has no heading; write NAME\(part)", at: position) }
      let offset = heading.unicodeScalars.count + 1
      do throws(TemplateError) {
        columns.append(Column(heading: heading, path: try FieldPath(relaxed: String(part[part.index(after: colon)...]))))
      } catch {
        throw TemplateError(error.message, at: JSONPosition(line: 1, column: position.column + offset + error.position.column - 1))
      }
    }
    self.columns = columns
  }

  public init(file text: String) throws(TemplateError) {
    let lines = text.split(separator: "\n").map { $0.split { $0.isWhitespace } }.filter { !$0.isEmpty }
    guard lines.count == 2 else {
      throw TemplateError(
        "a file of columns has two lines, the headings and below them the paths; this one has \(lines.count)", at: .init(line: 1, column: 1)
      )
    }
    guard lines[0].count == lines[1].count else {
      throw TemplateError(
        "\(lines[0].count) headings and \(lines[1].count) paths; each column needs one of both", at: .init(line: 2, column: 1))
    }
    var columns: [Column] = []
    for (heading, path) in zip(lines[0], lines[1]) {
      do throws(TemplateError) {
        columns.append(Column(heading: String(heading), path: try FieldPath(relaxed: String(path))))
      } catch {
        throw TemplateError("\(path): \(error.message)", at: .init(line: 2, column: 1))
      }
    }
    self.columns = columns
  }

  private static func split(_ text: String) -> [Substring] {
    var parts: [Substring] = []
    var start = text.startIndex
    var depth = 0
    for index in text.indices {
      switch text[index] {
      case "[", "(": depth += 1
      case "]", ")": depth -= 1
      case "," where depth <= 0:
        parts.append(text[start..<index])
        start = text.index(after: index)
      default: break
      }
    }
    return parts + [text[start...]]
  }

  /// Several values stand side by side with commas.
  public static func cell(_ path: FieldPath, _ document: JSONValue) -> String {
    let values = path.values(in: document)
    return values.isEmpty ? absent : values.map(\.plainText).joined(separator: ",")
  }
}

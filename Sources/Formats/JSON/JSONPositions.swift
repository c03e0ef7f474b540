/// Where each value of a document stands in its source, by path, so that a message can say `policies.yaml:12:9`.
///
/// The same table serves JSON and YAML; `Documents` fills it for YAML.

/// A place in a text; both numbers count from 1, columns in Unicode scalars.
public struct JSONPosition: Hashable, Comparable, Sendable, CustomStringConvertible {
  public var line: Int
  public var column: Int
  public init(line: Int, column: Int) {
    self.line = line
    self.column = column
  }
  public static func < (a: Self, b: Self) -> Bool { (a.line, a.column) < (b.line, b.column) }
  /// `12:9`
  public var description: String { "\(line):\(column)" }
}

/// The way from the root of a document to one value: `spec.ingress[2].source.nets[0]`; the root is empty.
public struct JSONPath: Hashable, Sendable, CustomStringConvertible, ExpressibleByStringLiteral {
  public let text: String
  public init(_ text: String = "") { self.text = text }
  public init(stringLiteral value: String) { text = value }
  /// Names that would read as something else in a path stand in brackets: `metadata.labels["projectcalico.org/tier"]`.
  public func member(_ name: String) -> JSONPath {
    let plain =
      !name.isEmpty
      && name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"),
          UInt8(ascii: "_"), UInt8(ascii: "-"):
          true
        default: false
        }
      }
    if !plain { return JSONPath("\(text)[\(JSONValue.string(name).text())]") }
    return JSONPath(text.isEmpty ? name : "\(text).\(name)")
  }
  public func element(_ index: Int) -> JSONPath { JSONPath("\(text)[\(index)]") }
  /// The path without its last step; nil for the root.
  public var parent: JSONPath? {
    if text.isEmpty { return nil }
    if text.utf8.last == UInt8(ascii: "]") {
      // A quoted name may hold brackets; its opening is the last `["` then.
      let bytes = Array(text.utf8)
      var index = bytes.count - 1
      let quoted = bytes.count >= 2 && bytes[bytes.count - 2] == UInt8(ascii: "\"")
      while index > 0 {
        index -= 1
        if bytes[index] == UInt8(ascii: "["), !quoted || bytes[index + 1] == UInt8(ascii: "\"") { break }
      }
      return JSONPath(String(decoding: bytes[..<index], as: UTF8.self))
    }
    guard let dot = text.utf8.lastIndex(of: UInt8(ascii: ".")) else { return JSONPath() }
    return JSONPath(String(text[..<dot]))
  }
  public var description: String { text }
}

/// The positions of one document.
public struct JSONPositions: Sendable {
  private var values: [JSONPath: JSONPosition] = [:]
  private var names: [JSONPath: JSONPosition] = [:]
  public init() {}
  public mutating func record(value position: JSONPosition, at path: JSONPath) { values[path] = position }
  public mutating func record(name position: JSONPosition, at path: JSONPath) { names[path] = position }
  /// Where the value of this path begins; for a path that the document lacks, where its nearest ancestor begins.
  public func position(of path: JSONPath) -> JSONPosition {
    var path: JSONPath? = path
    while let candidate = path {
      if let position = values[candidate] { return position }
      path = candidate.parent
    }
    return JSONPosition(line: 1, column: 1)
  }
  /// Where the name of this member stands; its value's place if it has no name of its own.
  public func namePosition(of path: JSONPath) -> JSONPosition { names[path] ?? position(of: path) }
}

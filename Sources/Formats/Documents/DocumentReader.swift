/// Files of documents, YAML or JSON, as positioned trees: one per document, Kubernetes lists expanded.
import Glibc
import JSON

/// One document of a source, or one item of a list in it.
public struct PositionedDocument: Sendable {
  /// The name of the source, for messages.
  public let file: String
  public let value: JSONValue
  /// Where `value` stands in its document: empty, or `items[3]` for an item of a list. Paths in messages begin with it.
  public let root: JSONPath
  public let positions: JSONPositions

  public init(file: String, value: JSONValue, root: JSONPath = JSONPath(), positions: JSONPositions = JSONPositions()) {
    self.file = file
    self.value = value
    self.root = root
    self.positions = positions
  }
  /// Where the value of this path begins; the path includes `root`.
  public func position(of path: JSONPath) -> JSONPosition { positions.position(of: path) }
  /// `kind` and name for messages, as far as the document has them.
  public var title: String {
    let kind = value["kind"]?.string ?? "document"
    guard let name = value["metadata"]?["name"]?.string else { return kind }
    return "\(kind) \(value["metadata"]?["namespace"]?.string.map { "\($0)/" } ?? "")\(name)"
  }
}

public enum DocumentReader {
  /// Reads a file; `-` is the standard input. Throws `DocumentErrors`.
  public static func read(path: String) throws(DocumentErrors) -> [PositionedDocument] {
    try read(bytes: bytes(path: path), file: path == "-" ? "<stdin>" : path)
  }

  /// The octets of a file; `-` is the standard input.
  public static func bytes(path: String) throws(DocumentErrors) -> [UInt8] {
    let name = path == "-" ? "<stdin>" : path
    let descriptor = path == "-" ? 0 : unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw unreadable(name) }
    defer { if descriptor != 0 { close(descriptor) } }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = unsafe Glibc.read(descriptor, &chunk, chunk.count)
      if count < 0 {
        if errno == EINTR { continue }
        throw unreadable(name)
      }
      if count == 0 { break }
      bytes.append(contentsOf: chunk[..<count])
    }
    return bytes
  }

  /// Reads the documents of a text. A name ending in `.json` is read as JSON; otherwise a text that is JSON is read as such (its rules
  /// are stricter, its numbers exact), and everything else as YAML.
  public static func read(bytes: [UInt8], file: String) throws(DocumentErrors) -> [PositionedDocument] {
    let (documents, errors) = survey(bytes: bytes, file: file)
    if !errors.isEmpty { throw DocumentErrors(errors) }
    return documents
  }

  /// Like `read`, for whoever wants everything that is wrong with a file: the documents that can be read, and the faults of the rest.
  public static func survey(bytes: [UInt8], file: String) -> (documents: [PositionedDocument], errors: [DocumentError]) {
    var (trees, errors) = Self.trees(bytes, file)
    var documents: [PositionedDocument] = []
    for (value, positions) in trees where !value.isNull {
      do throws(DocumentErrors) {
        try expand(PositionedDocument(file: file, value: value, positions: positions), into: &documents)
      } catch {
        errors += error.errors
      }
    }
    return (documents, errors)
  }

  /// The one value of a text that is no object of the API: a patch.
  public static func readValue(bytes: [UInt8], file: String) throws(DocumentErrors) -> JSONValue {
    let (trees, errors) = Self.trees(bytes, file)
    if !errors.isEmpty { throw DocumentErrors(errors) }
    let values = trees.map(\.value).filter { !$0.isNull }
    guard values.count == 1 else {
      throw DocumentErrors([DocumentError(file: file, path: JSONPath(), rule: "holds \(values.count) documents where one is expected")])
    }
    return values[0]
  }

  private static func trees(
    _ bytes: [UInt8], _ file: String
  ) -> (trees: [(value: JSONValue, positions: JSONPositions)], errors: [DocumentError]) {
    let first = bytes.first { ![0x20, 0x09, 0x0a, 0x0d].contains($0) }
    guard file.hasSuffix(".json") || first == UInt8(ascii: "{") || first == UInt8(ascii: "[") else {
      return YAMLReader.survey(bytes, file: file)
    }
    do throws(JSONError) {
      return ([try JSONValue.parsePositioned(bytes)], [])
    } catch let error {
      // `{a: 1}` is YAML's flow form. If it is not that either, what JSON said is the more helpful answer.
      if !file.hasSuffix(".json"), let flow = try? YAMLReader.read(bytes, file: file) { return (flow, []) }
      return ([], [DocumentError(file: file, position: error.position, path: JSONPath(), rule: error.message)])
    }
  }

  /// `kind: List`, and `NetworkPolicyList` and its like with `items`, stand for their items. So does an array of objects. Items of a typed
  /// list need not repeat what the list says: Kubernetes' own API leaves `apiVersion` and `kind` out of them.
  private static func expand(_ document: PositionedDocument, into documents: inout [PositionedDocument]) throws(DocumentErrors) {
    var items: [JSONValue]
    let root: JSONPath
    if let elements = document.value.array {
      (items, root) = (elements, document.root)
    } else if let kind = document.value["kind"]?.string, kind.hasSuffix("List"), let elements = document.value["items"] {
      root = document.root.member("items")
      if elements.isNull { return }
      guard let array = elements.array else {
        throw DocumentErrors([
          DocumentError(
            file: document.file, position: document.position(of: root), path: root, value: elements, rule: "is not an array of objects")
        ])
      }
      items = array
      if kind != "List" {
        for index in items.indices where items[index].object != nil && items[index]["kind"] == nil && items[index]["apiVersion"] == nil {
          items[index]["kind"] = .string(String(kind.dropLast("List".count)))
          items[index]["apiVersion"] = document.value["apiVersion"]
        }
      }
    } else {
      documents.append(document)
      return
    }
    for (index, item) in items.enumerated() {
      try expand(
        PositionedDocument(file: document.file, value: item, root: root.element(index), positions: document.positions), into: &documents)
    }
  }

  private static func unreadable(_ name: String) -> DocumentErrors {
    let reason = unsafe String(cString: strerror(errno))
    return DocumentErrors([DocumentError(file: name, path: JSONPath(), rule: "cannot be read: \(reason)")])
  }
}

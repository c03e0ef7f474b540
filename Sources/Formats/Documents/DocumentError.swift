/// What is wrong with a document, in the words of whoever wrote it: where, which value, which rule, and what to write instead.
import JSON

public struct DocumentError: Error, Hashable, Sendable, CustomStringConvertible {
  /// The name of the source as given to the reader; nil for a value that came from no file.
  public var file: String?
  /// Nil for a value that came from no text.
  public var position: JSONPosition?
  public var path: JSONPath
  /// The offending value, nil if the fault is its absence.
  public var value: JSONValue?
  /// What the value is or lacks, as the rest of a sentence that begins with the value: `is not a network: host bits are set`.
  public var rule: String
  /// What to write instead, if that is known: `write 10.0.0.0/8`.
  public var fix: String?

  public init(
    file: String? = nil, position: JSONPosition? = nil, path: JSONPath, value: JSONValue? = nil, rule: String, fix: String? = nil
  ) {
    self.file = file
    self.position = position
    self.path = path
    self.value = value
    self.rule = rule
    self.fix = fix
  }

  /// `policies.yaml:12:9: spec.ingress[0].source.nets[0]: "10.0.0.1/8" is not a network: host bits are set; write 10.0.0.0/8`
  public var description: String {
    var text = file ?? ""
    if let position { text += text.isEmpty ? "\(position)" : ":\(position)" }
    if !text.isEmpty { text += ": " }
    return text + message
  }
  /// The same without the place in the file.
  public var message: String {
    var text = path.text.isEmpty ? "" : "\(path): "
    if let value { text += "\(Self.excerpt(value)) " }
    text += rule
    if let fix { text += "; \(fix)" }
    return text
  }

  static func excerpt(_ value: JSONValue) -> String {
    let text = value.text()
    return text.count > 80 ? "\(text.prefix(77))…" : text
  }
}

/// Everything wrong with one document, in the order of the document.
public struct DocumentErrors: Error, Hashable, Sendable, CustomStringConvertible {
  public var errors: [DocumentError]
  public init(_ errors: [DocumentError]) { self.errors = errors }
  /// One line each.
  public var description: String { errors.map(\.description).joined(separator: "\n") }
}

/// The known word that a mistyped one probably meant.
package func nearest(_ word: String, among known: some Sequence<String>) -> String? {
  // Too far from every known word, and too long to compare: the cost grows with the length.
  if word.utf8.count > 128 { return nil }
  let lower = word.lowercased()
  var best: (word: String, distance: Int)?
  for candidate in known {
    let distance = candidate.lowercased() == lower ? 0 : editDistance(Array(lower.utf8), Array(candidate.lowercased().utf8))
    if distance < best?.distance ?? Int.max { best = (candidate, distance) }
  }
  guard let best, best.distance <= max(1, min(3, word.utf8.count / 3)) else { return nil }
  return best.word
}

/// Insertions, deletions, replacements and swaps of neighbours that make one word of the other.
private func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  var before = [Int](repeating: 0, count: b.count + 1)
  var previous = Array(0...b.count)
  for i in 0..<a.count {
    var row = [i + 1] + [Int](repeating: 0, count: b.count)
    for j in 0..<b.count {
      row[j + 1] = min(previous[j] + (a[i] == b[j] ? 0 : 1), previous[j + 1] + 1, row[j] + 1)
      if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] { row[j + 1] = min(row[j + 1], before[j - 1] + 1) }
    }
    (before, previous) = (previous, row)
  }
  return previous[b.count]
}

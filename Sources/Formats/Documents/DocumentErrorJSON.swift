/// Findings for programs: what `-o json` prints of what is wrong with a file.
///
/// One object for each finding. `severity`, `path` and `rule` are always there; `file`, `line`, `column`, `value`, `fix`, `kind`,
/// `namespace` and `name` where they are known. Names do not change once released; members may be added.
import JSON

extension DocumentError {
  public enum Severity: String, Sendable {
    /// The object is refused.
    case error
    /// The object is accepted; something in it may not do what it seems to.
    case warning
  }

  /// `document` is the one that the finding is about, if it came so far as to be one.
  public func json(_ severity: Severity = .error, of document: PositionedDocument? = nil) -> JSONValue {
    var fields = JSONObject()
    fields["severity"] = .string(severity.rawValue)
    fields["file"] = file.map(JSONValue.string)
    fields["line"] = position.map { .integer(Int64($0.line)) }
    fields["column"] = position.map { .integer(Int64($0.column)) }
    if let document {
      fields["kind"] = document.value["kind"]?.string.map(JSONValue.string)
      fields["namespace"] = document.value["metadata"]?["namespace"]?.string.map(JSONValue.string)
      fields["name"] = document.value["metadata"]?["name"]?.string.map(JSONValue.string)
    }
    fields["path"] = .string(path.text)
    fields["value"] = value
    fields["rule"] = .string(rule)
    fields["fix"] = fix.map(JSONValue.string)
    return .object(fields)
  }
}

extension DocumentErrors {
  public var json: [JSONValue] { errors.map { $0.json() } }
}

extension ResourceCodec.Review {
  /// Errors and warnings in the order of the document.
  public func json(of document: PositionedDocument) -> [JSONValue] {
    let findings = errors.map { ($0, DocumentError.Severity.error) } + warnings.map { ($0, .warning) }
    return findings.sorted { ($0.0.position ?? .start) < ($1.0.position ?? .start) }.map { $0.0.json($0.1, of: document) }
  }
}

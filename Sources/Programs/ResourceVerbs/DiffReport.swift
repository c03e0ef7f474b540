/// What `margay diff` shows: for each object what apply would change, as a difference of YAML.
public import Documents
public import JSON
public import Patches
public import Resources

public struct ObjectDifference: Sendable {
  public enum State: String, Sendable { case created, changed, unchanged }
  public let key: ResourceKey
  public let state: State
  public let difference: LineDifference

  public var lines: [(text: String, mark: LineDifference.Mark)] {
    let name = "\(key.kind.rawValue.lowercased())/\(key.qualifiedName)"
    return difference.unified(from: state == .created ? "/dev/null" : "stored/\(name)", to: "applied/\(name)")
  }
}

public struct DiffReport: Sendable {
  public var objects: [ObjectDifference] = []
  public var failures: [(key: ResourceKey, failure: WriteFailure)] = []
  public var errors: [DocumentError] = []
  public var warnings: [DocumentError] = []
  public init() {}

  /// diff's own habit: 0 no difference, 1 differences, 2 trouble.
  public var exitCode: Int32 {
    if !failures.isEmpty || !errors.isEmpty { return 2 }
    return objects.contains { $0.state != .unchanged } ? 1 : 0
  }

  public var json: JSONValue {
    var document = JSONObject()
    document["verb"] = "diff"
    document["exitCode"] = .integer(Int64(exitCode))
    document["objects"] = .array(
      objects.map { object in
        var fields = object.key.jsonFields
        fields["state"] = .string(object.state.rawValue)
        if object.state != .unchanged { fields["difference"] = .string(object.lines.map { $0.text + "\n" }.joined()) }
        return .object(fields)
      } + failures.map { ObjectReport($0.key, .failed, failure: $0.failure).json })
    document["errors"] = .array(errors.map { $0.json(.error) })
    document["warnings"] = .array(warnings.map { $0.json(.warning) })
    return .object(document)
  }
}

extension ResourceWriter {
  /// Applies the document, on a rehearsal, and compares what stood there with what stands there now.
  public func difference(applying submission: Submission) async throws -> ObjectDifference {
    let key = submission.resource.key
    let before = try await read(key)?.document
    _ = try await apply(submission)
    let after = try await read(key)?.document
    let isNew = before == nil
    let difference = LineDifference(from: before.map { Self.text($0) } ?? "", to: after.map { Self.text($0, isNew: isNew) } ?? "")
    return ObjectDifference(key: key, state: isNew ? .created : difference.isEmpty ? .unchanged : .changed, difference: difference)
  }

  /// Without what every write changes, or what only the write itself will say.
  private static func text(_ document: JSONValue, isNew: Bool = false) -> String {
    var document = document
    for name in isNew ? ["resourceVersion", "uid", "creationTimestamp"] : ["resourceVersion"] { document["metadata"]?[name] = nil }
    return document.yamlText
  }
}

/// A patch of one of the three kinds that `kubectl` and `calicoctl` know.
public import JSON

public enum PatchKind: String, CaseIterable, Sendable { case merge, json, strategic }

public enum DocumentPatch: Hashable, Sendable {
  case merge(JSONValue)
  case json(JSONPatch)
  case strategic(JSONValue)

  public init(_ kind: PatchKind, _ document: JSONValue) throws(PatchProblem) {
    if kind != .json, document.object == nil {
      throw PatchProblem(
        document.array == nil
          ? "a \(kind.rawValue) patch is an object with the fields that change, such as {\"spec\": {\"order\": 10}}"
          : "a list of operations is a JSON patch; say so with --type json")
    }
    switch kind {
    case .merge: self = .merge(document)
    case .json: self = .json(try JSONPatch(document))
    case .strategic: self = .strategic(document)
    }
  }

  public func apply(to document: JSONValue) throws(PatchProblem) -> JSONValue {
    switch self {
    case .merge(let patch): MergePatch.apply(patch, to: document)
    case .json(let patch): try patch.apply(to: document)
    case .strategic(let patch): try StrategicMerge.objects.apply(patch, to: document)
    }
  }
}

/// JSON Merge Patch (RFC 7396): a patch looks like the document, with only the members that change, and null for those that go.
public import JSON

public enum MergePatch {
  /// RFC 7396, section 2: the function MergePatch, word for word.
  public static func apply(_ patch: JSONValue, to target: JSONValue) -> JSONValue {
    guard case .object(let patch) = patch else { return patch }
    var result = target.object ?? JSONObject()
    for member in patch.members {
      // Not `?:`, in which a bare nil would be JSON's null.
      if member.value.isNull {
        result[member.name] = nil
      } else {
        result[member.name] = apply(member.value, to: result[member.name] ?? .null)
      }
    }
    return .object(result)
  }
}

extension MergePatch {
  /// The patch that makes one document of the other. A member that is null counts as absent: a merge patch cannot say otherwise.
  public static func difference(from old: JSONValue, to new: JSONValue) -> JSONValue {
    guard case .object(let a) = old, case .object(let b) = new else { return new }
    var patch = JSONObject()
    for member in a.members where !member.value.isNull && (b[member.name] ?? .null).isNull { patch[member.name] = .null }
    for member in b.members where !member.value.isNull {
      guard let before = a[member.name], !before.isNull else {
        patch[member.name] = member.value
        continue
      }
      if before != member.value { patch[member.name] = difference(from: before, to: member.value) }
    }
    return .object(patch)
  }

  /// Where two patches of the same document say different things: the names on the way.
  public static func conflicts(_ a: JSONValue, _ b: JSONValue) -> [[String]] {
    guard case .object(let first) = a, case .object(let second) = b else { return a.means(b) ? [] : [[]] }
    return first.members.flatMap { member in
      second[member.name].map { conflicts(member.value, $0).map { [member.name] + $0 } } ?? []
    }
  }
}

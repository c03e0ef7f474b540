/// Patches: whatever they say, they end, and what is computed from two documents leads from one to the other.
import JSON
import Patches

/// The octets are an array of two values: a document, and a patch or another document.
func checkPatches(_ octets: [UInt8]) throws(Violation) {
  guard let pair = (try? JSONValue(parsing: octets))?.array, pair.count == 2 else { return }
  let (document, other) = (pair[0], pair[1])
  if let patch = try? JSONPatch(other), let patched = try? patch.apply(to: document) {
    // What came out can be printed and read like any document.
    try claim((try? JSONValue(parsing: patched.bytes)) == patched, "the patched document does not read back: \(patched.text())")
  }
  _ = try? StrategicMerge.objects.apply(other, to: document)
  let merged = MergePatch.apply(other, to: document)
  try claim(MergePatch.apply(other, to: merged).means(merged), "a merge patch applied twice differs: \(other.text()) on \(document.text())")
  let (old, new) = (document.withoutNulls, other.withoutNulls)
  if new.object != nil {
    let patch = MergePatch.difference(from: old, to: new)
    try claim(MergePatch.apply(patch, to: old).means(new), "\(patch.text()) does not lead from \(old.text()) to \(new.text())")
  }
  let difference = LineDifference(from: document.text(pretty: true), to: other.text(pretty: true))
  let before = difference.lines.filter { if case .added = $0 { false } else { true } }.map(\.text)
  let after = difference.lines.filter { if case .removed = $0 { false } else { true } }.map(\.text)
  try claim(before.joined(separator: "\n") == document.text(pretty: true), "the difference lacks lines of the old text")
  try claim(after.joined(separator: "\n") == other.text(pretty: true), "the difference lacks lines of the new text")
}

extension JSONValue {
  /// A merge patch cannot set null, so documents for it have none; lists are replaced as a whole and may hold what they like.
  fileprivate var withoutNulls: JSONValue {
    guard case .object(let object) = self else { return self }
    return .object(JSONObject(object.members.filter { !$0.value.isNull }.map { JSONObject.Member($0.name, $0.value.withoutNulls) }))
  }
}

extension LineDifference.Line {
  fileprivate var text: String {
    switch self {
    case .same(let text), .removed(let text), .added(let text): text
    }
  }
}

/// What `margay label` does to an object's labels.
public import JSON
import Names
public import Resources

public struct LabelChange: Hashable, Sendable {
  public var set: [String: String]
  public var remove: Set<String>
  /// A label that has another value already may change.
  public var overwrite: Bool

  public init(set: [String: String] = [:], remove: Set<String> = [], overwrite: Bool = false) {
    self.set = set
    self.remove = remove
    self.overwrite = overwrite
  }

  /// `key=value` and `key-`; with `removing`, bare keys as well. Throws for words that are no labels.
  public init(words: [String], removing: Bool = false, overwrite: Bool = false) throws(WriteFailure) {
    self.init(overwrite: overwrite)
    for word in words {
      if let equals = word.firstIndex(of: "=") {
        let (key, value) = (String(word[..<equals]), String(word[word.index(after: equals)...]))
        if removing { throw WriteFailure(.invalid, "\"\(word)\": --remove takes keys without a value") }
        if let fault = NameRules.labelKeyFault(key) { throw WriteFailure(.invalid, "\"\(key)\" is not a label: \(fault)") }
        if let fault = NameRules.labelValueFault(value) { throw WriteFailure(.invalid, "\"\(value)\" is not a label's value: \(fault)") }
        if let other = set[key], other != value { throw WriteFailure(.invalid, "\"\(key)\" is given two values, \(other) and \(value)") }
        set[key] = value
      } else {
        let key = word.hasSuffix("-") ? String(word.dropLast()) : word
        guard removing || word.hasSuffix("-") else {
          throw WriteFailure(.invalid, "\"\(word)\" is no label; write key=value, or key- to remove it")
        }
        if let fault = NameRules.labelKeyFault(key) { throw WriteFailure(.invalid, "\"\(key)\" is not a label: \(fault)") }
        remove.insert(key)
      }
    }
    if let key = remove.first(where: { set[$0] != nil }) { throw WriteFailure(.invalid, "\"\(key)\" is to be set and removed at once") }
  }

  func apply(to document: JSONValue, of key: ResourceKey) throws -> JSONValue {
    var document = document
    var labels = document["metadata"]?["labels"]?.object ?? JSONObject()
    for (name, value) in set.sorted(by: { $0.key < $1.key }) {
      if let present = labels[name], present.string != value, !overwrite {
        throw WriteFailure(
          .refused, "\(key) has the label \(name) already, with the value \(present.string ?? present.text()); use --overwrite to change it"
        )
      }
      labels[name] = .string(value)
    }
    for name in remove { labels[name] = nil }
    guard labels != document["metadata"]?["labels"]?.object ?? JSONObject() else { return document }
    if labels.isEmpty { document["metadata"]?["labels"] = nil } else { document["metadata"]?["labels"] = .object(labels) }
    return document
  }
}

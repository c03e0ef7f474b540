/// Types of fields that the networking kinds share.
import Addresses
import JSON
import Names
import Resources

extension FieldReader {
  /// The value of a field that must be there.
  func required(_ name: String, fix: String? = nil) -> JSONValue? {
    if let value = value(name) { return value }
    findings.error(path(name), nil, "is missing", fix: fix)
    return nil
  }

  /// A text that must not be empty; an empty one counts as absent in Calico.
  func word(_ name: String) -> String? { string(name).flatMap { $0.isEmpty ? nil : $0 } }

  /// One of a few words; an empty text counts as absent.
  func choiceOrEmpty<Choice: RawRepresentable & CaseIterable>(_ name: String, _ type: Choice.Type) -> Choice?
  where Choice.RawValue == String {
    guard let value = value(name), value.string != "" else { return nil }
    return choice(value, path(name), type)
  }

  /// A duration as Go writes it: `90s`, `1m30s`, `250ms`.
  func duration(_ name: String) -> Duration? {
    guard let value = value(name), let text = string(value, path(name)) else { return nil }
    if let duration = GoDuration.parse(text) {
      if duration >= .zero { return duration }
      findings.refusal(path(name), value, "is negative", fix: "write 0s or more")
      return nil
    }
    findings.error(
      path(name), value, "is not a duration",
      fix: Int(text) == nil ? "write a number and a unit, such as 90s or 2m0s" : "add the unit: \(text)s")
    return nil
  }

  /// A port from 1, or from 0 where 0 means none.
  func port(_ name: String, from first: Int64 = 1) -> UInt16? { integer(name, in: first...65535).map { UInt16($0) } }
}

extension ResourceCodec {
  static func duration(_ duration: Duration?) -> JSONValue? { duration.map { .string(GoDuration.text($0)) } }
  static func word(_ word: (some RawRepresentable<String>)?) -> JSONValue? { word.map { .string($0.rawValue) } }
  /// The inner object; nil for none.
  static func object<Value>(_ value: Value?, _ build: (Value, inout JSONObject) -> Void) -> JSONValue? {
    value.map {
      var inner = JSONObject()
      build($0, &inner)
      return .object(inner)
    }
  }
  static func objects<Value>(_ values: [Value], _ build: (Value, inout JSONObject) -> Void) -> JSONValue? {
    values.isEmpty ? nil : .array(values.compactMap { object($0, build) })
  }
}

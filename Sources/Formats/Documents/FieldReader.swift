/// Reading the members of one object by name and type; what is wrong is collected, not thrown, so that one pass finds everything.
import Addresses
import JSON
import Names
import Selectors

/// What reading one document found.
package final class Findings {
  /// Writing is strict: every rule counts. Reading is lenient: only what cannot be understood or enforced counts.
  package let isStrict: Bool
  private let document: PositionedDocument?
  package private(set) var errors: [DocumentError] = []
  package private(set) var warnings: [DocumentError] = []
  /// What the readers asked for and what they let pass unread, if somebody wants to know: the fields that exist.
  package private(set) var trace: FieldTrace?

  package init(isStrict: Bool, document: PositionedDocument? = nil, traces: Bool = false) {
    self.isStrict = isStrict
    self.document = document
    trace = traces ? FieldTrace() : nil
  }
  fileprivate func note(asked path: JSONPath) { trace?.asked.insert(path) }
  fileprivate func note(passed path: JSONPath) { trace?.passed.insert(path) }

  private func make(_ path: JSONPath, _ value: JSONValue?, _ rule: String, _ fix: String?, atName: Bool) -> DocumentError {
    let position = document.map { atName ? $0.positions.namePosition(of: path) : $0.position(of: path) }
    return DocumentError(file: document?.file, position: position, path: path, value: value, rule: rule, fix: fix)
  }
  /// Something that cannot be understood or enforced.
  package func error(_ path: JSONPath, _ value: JSONValue?, _ rule: String, fix: String? = nil, atName: Bool = false) {
    errors.append(make(path, value, rule, fix, atName: atName))
  }
  /// Something that Calico's API forbids, but whose meaning is clear once it is stored: only writing refuses it.
  package func refusal(_ path: JSONPath, _ value: JSONValue?, _ rule: String, fix: String? = nil, atName: Bool = false) {
    if isStrict { error(path, value, rule, fix: fix, atName: atName) }
  }
  package func warning(_ path: JSONPath, _ value: JSONValue?, _ rule: String, fix: String? = nil) {
    if isStrict { warnings.append(make(path, value, rule, fix, atName: true)) }
  }
}

/// The fields of one document that its readers know.
package struct FieldTrace: Sendable {
  /// Read, whether the document has them or not.
  package var asked: Set<JSONPath> = []
  /// Known by name; kept as they stand.
  package var passed: Set<JSONPath> = []
}

package final class FieldReader {
  package let object: JSONObject
  package let path: JSONPath
  package let findings: Findings
  private var asked: [String] = []

  package init(_ object: JSONObject, _ path: JSONPath, _ findings: Findings) {
    self.object = object
    self.path = path
    self.findings = findings
  }

  /// The member's value; nil if it is absent or null, which mean the same in Kubernetes documents.
  package func value(_ name: String) -> JSONValue? {
    if !asked.contains(name) { asked.append(name) }
    if findings.trace != nil { findings.note(asked: path(name)) }
    guard let value = object[name], !value.isNull else { return nil }
    return value
  }
  package func path(_ name: String) -> JSONPath { path.member(name) }

  /// Call once all fields are read: names nobody asked for are reported, with the known name they resemble. `inert` names are Calico's, but
  /// have no effect here; `hints` need no warning either.
  package func finish(inert: [String] = [], hints: [String] = [], unknownIsFault: Bool = false, unknownIsWarning: Bool = false) {
    if !findings.isStrict && !unknownIsFault { return }
    if findings.trace != nil { for name in inert + hints { findings.note(passed: path(name)) } }
    for member in object.members where !asked.contains(member.name) && !hints.contains(member.name) {
      let memberPath = path(member.name)
      if inert.contains(member.name) {
        if !member.value.isNull { warnUnused(member.name) }
        continue
      }
      let known = asked + inert + hints
      let suggestion = nearest(member.name, among: known)
      if unknownIsWarning, suggestion == nil {
        findings.warning(memberPath, nil, "is not known here; it is kept, but has no effect")
      } else {
        findings.error(
          memberPath, nil, DocumentError.unknownFieldRule,
          fix: suggestion.map { "did you mean \($0)?" } ?? "known here: \(known.joined(separator: ", "))", atName: true)
      }
    }
  }

  /// Fields that are read and checked, but that no program acts upon so far.
  package func warnUnused(_ names: String...) {
    for name in names where object[name].map({ !$0.isNull }) ?? false {
      findings.warning(path(name), nil, "is kept, but has no effect yet")
    }
  }

  // MARK: Plain types

  package func string(_ name: String) -> String? { value(name).flatMap { string($0, path(name)) } }

  /// `path` is only spelled out for a fault.
  package func string(_ value: JSONValue, _ path: @autoclosure () -> JSONPath) -> String? {
    if let text = value.string { return text }
    let path = path()
    switch value {
    case .array, .object: findings.error(path, value, "is not a text")
    default: findings.error(path, value, "is not a text", fix: "put it in quotes: \"\(value.text())\"")
    }
    return nil
  }

  package func bool(_ name: String) -> Bool? {
    guard let value = value(name) else { return nil }
    if let bool = value.bool { return bool }
    let fix = value.string.flatMap { ["true", "false"].contains($0.lowercased()) ? "write \($0.lowercased()) without quotes" : nil }
    findings.error(path(name), value, "is not true or false", fix: fix)
    return nil
  }

  package func integer(_ name: String, in range: ClosedRange<Int64>, unit: String? = nil) -> Int64? {
    guard let value = value(name) else { return nil }
    return integer(value, path(name), in: range, unit: unit)
  }
  package func integer(_ value: JSONValue, _ path: JSONPath, in range: ClosedRange<Int64>, unit: String? = nil) -> Int64? {
    var number = value.integer
    if number == nil, case .double(let double) = value, double == double.rounded(), abs(double) < 9e15 { number = Int64(double) }
    if let number, range.contains(number) { return number }
    let isNumber = value.double != nil
    findings.error(
      path, value,
      isNumber
        ? "is not a whole number from \(range.lowerBound) to \(range.upperBound)\(unit.map { " (\($0))" } ?? "")" : "is not a number",
      fix: value.string.flatMap(Int64.init).map { "write \($0) without quotes" })
    return nil
  }
  func double(_ name: String) -> Double? {
    guard let value = value(name) else { return nil }
    if let double = value.double { return double }
    findings.error(path(name), value, "is not a number", fix: value.string.flatMap(Double.init) == nil ? nil : "remove the quotes")
    return nil
  }

  package func array(_ name: String, countMax: Int? = nil) -> [(value: JSONValue, path: JSONPath)] {
    guard let value = value(name) else { return [] }
    guard let elements = value.array else {
      findings.error(
        path(name), value, "is not a list", fix: value.object == nil ? "write [\(value.text())]" : "begin its elements with '- '")
      return []
    }
    if let countMax, elements.count > countMax {
      findings.refusal(path(name), nil, "has \(elements.count) elements; at most \(countMax) are allowed")
    }
    return elements.enumerated().map { ($0.element, path(name).element($0.offset)) }
  }
  package func strings(_ name: String) -> [String] { array(name).compactMap { string($0.value, $0.path) } }

  package func reader(_ name: String) -> FieldReader? { value(name).flatMap { reader($0, path(name)) } }
  package func reader(_ value: JSONValue, _ path: JSONPath) -> FieldReader? {
    if let object = value.object { return FieldReader(object, path, findings) }
    findings.error(path, value, "is not an object with fields")
    return nil
  }

  package func stringMap(_ name: String) -> [String: String] {
    guard let reader = reader(name) else { return [:] }
    var result: [String: String] = [:]
    for member in reader.object.members {
      // A null value in a map of texts is the empty text in Kubernetes.
      if member.value.isNull {
        result[member.name] = ""
      } else if let text = string(member.value, reader.path(member.name)) {
        result[member.name] = text
      }
    }
    return result
  }

  package func choice<Choice: RawRepresentable & CaseIterable>(_ name: String, _ type: Choice.Type) -> Choice? where Choice.RawValue == String {
    value(name).flatMap { choice($0, path(name), type) }
  }
  package func choice<Choice: RawRepresentable & CaseIterable>(
    _ value: JSONValue, _ path: JSONPath, _ type: Choice.Type
  ) -> Choice? where Choice.RawValue == String {
    guard let text = string(value, path) else { return nil }
    if let choice = Choice(rawValue: text) { return choice }
    let words = Choice.allCases.map(\.rawValue)
    findings.error(
      path, value, "is none of \(words.joined(separator: ", "))", fix: nearest(text, among: words).map { "did you mean \($0)?" })
    return nil
  }

  // MARK: Domain types

  /// A network, or one address of it. Host bits are an error of writing; once stored, they are cleared.
  package func prefix(_ value: JSONValue, _ path: JSONPath, masked: Bool = true) -> IPPrefix? {
    guard let text = string(value, path) else { return nil }
    guard let parsed = InterfaceAddress(text) else {
      findings.error(path, value, "is not a network", fix: Self.networkFix(text))
      return nil
    }
    if masked, !parsed.isMasked {
      findings.refusal(path, value, "is not a network: host bits are set", fix: "write \(parsed.prefix)")
    }
    return parsed.prefix
  }
  private static func networkFix(_ text: String) -> String {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    if let address = IPAddress(parts[0]), parts.count == 2 {
      return "the length after '/' is 0 to \(address.family.bits) for \(address.family)"
    }
    return "write an address and a length, such as 10.0.0.0/8 or fd00::/8"
  }

  package func address(_ name: String, of family: IPFamily? = nil) -> IPAddress? {
    guard let value = value(name), let address = address(value, path(name)) else { return nil }
    if let family, address.family != family { findings.refusal(path(name), value, "is not an \(family) address") }
    return address
  }
  package func address(_ value: JSONValue, _ path: JSONPath) -> IPAddress? {
    guard let text = string(value, path) else { return nil }
    if let address = IPAddress(text) { return address }
    findings.error(path, value, "is not an IP address")
    return nil
  }
  package func addresses(_ name: String) -> [IPAddress] { array(name).compactMap { address($0.value, $0.path) } }

  /// Labels with Kubernetes' rules for keys and values.
  package func labels(_ name: String) -> [String: String] {
    let labels = stringMap(name)
    // Most of what a daemon reads are endpoints, and most of an endpoint are its labels: what nobody would hear of is not looked for.
    guard findings.isStrict else { return labels }
    for (key, value) in labels {
      let labelPath = path(name).member(key)
      if let fault = NameRules.labelKeyFault(key) { findings.refusal(labelPath, nil, "is not a label: \(fault)", atName: true) }
      if let fault = NameRules.labelValueFault(value) { findings.refusal(labelPath, .string(value), "is not a label's value: \(fault)") }
    }
    return labels
  }

  /// The text of a selector. A bad one is a fault where it decides about a single rule; elsewhere it stays as text for whoever reads the
  /// object, since "cannot be read" has its own meaning there.
  package func selector(_ name: String, mayBeGlobal: Bool = true, isFault: Bool = false) -> String? {
    guard let value = value(name), let text = string(value, path(name)) else { return nil }
    do throws(SelectorError) {
      let selector = try Selector(parsing: text)
      if text.count > 1024 { findings.refusal(path(name), nil, "has \(text.count) characters; at most 1024 are allowed") }
      if !mayBeGlobal, selector.mentionsGlobal {
        findings.refusal(path(name), value, "holds global(), which is only for the namespaceSelector of a rule")
      }
    } catch {
      let rule = "is not a selector: \(error)"
      if isFault { findings.error(path(name), value, rule) } else { findings.refusal(path(name), value, rule) }
    }
    return text
  }

  /// An AS number: a number, or its text, plain or in two parts (RFC 5396).
  package func asNumber(_ name: String) -> UInt32? {
    value(name).flatMap { asNumber($0, path(name)) }
  }
  func asNumber(_ value: JSONValue, _ path: JSONPath) -> UInt32? {
    if let number = value.integer.flatMap({ UInt32(exactly: $0) }) { return number }
    if let text = value.string {
      if let number = UInt32(text) { return number }
      let parts = text.split(separator: ".", omittingEmptySubsequences: false)
      if parts.count == 2, let high = UInt16(parts[0]), let low = UInt16(parts[1]) { return UInt32(high) << 16 | UInt32(low) }
    }
    findings.error(path, value, "is not an AS number (0 to 4294967295)")
    return nil
  }

  /// Whole seconds of a duration such as `2m0s` or `90s`.
  func seconds(_ name: String) -> Int? {
    guard let value = value(name), let text = string(value, path(name)) else { return nil }
    let units: [(String, Double)] = [("ms", 0.001), ("us", 0.000_001), ("ns", 0.000_000_001), ("h", 3600), ("m", 60), ("s", 1)]
    var rest = text[...]
    var total = 0.0
    var isGood = text == "0" || !text.isEmpty
    while !rest.isEmpty, text != "0" {
      let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
      rest = rest.dropFirst(digits.count)
      guard let number = Double(digits), let unit = units.first(where: { rest.hasPrefix($0.0) }) else {
        isGood = false
        break
      }
      total += number * unit.1
      rest = rest.dropFirst(unit.0.count)
    }
    guard isGood, total < 1e9 else {
      findings.error(path(name), value, "is not a duration", fix: "write a number and a unit, such as 90s or 2m0s")
      return nil
    }
    return Int(total)
  }
}

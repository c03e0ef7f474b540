/// The texts by which people say what they want to see of objects.
import JSON
import OutputForms
import Selectors

private let subject: JSONValue = [
  "kind": "List",
  "items": [
    [
      "kind": "IPPool", "metadata": ["name": "blue", "labels": ["app": "web", "a/b": "1"]],
      "spec": ["cidr": "10.0.0.0/8", "n": 26, "list": ["a", "b"], "off": false, "none": nil, "half": .double(0.5)],
    ]
  ],
]

/// The first octet chooses the language; whatever is refused is refused at a place inside of the text.
func checkForms(_ octets: [UInt8]) throws(Violation) {
  guard let first = octets.first, let text = String(validating: octets.dropFirst(), as: UTF8.self) else { return }
  let lines = text.unicodeScalars.count { $0 == "\n" } + 1
  func refused(_ error: TemplateError) throws(Violation) {
    try claim((1...lines).contains(error.position.line) && error.position.column >= 1, "\(error): outside of \(text)")
    try claim(error.position.column <= text.unicodeScalars.count + 1, "\(error): outside of \(text)")
  }
  switch first & 3 {
  case 0:
    let output: String
    do throws(TemplateError) { output = try GoTemplate(text).text(for: subject, stepsMax: 2000) } catch { return try refused(error) }
    // By scalars: a brace and a combining mark behind it are one character.
    let hasAction = zip(text.unicodeScalars, text.unicodeScalars.dropFirst()).contains { $0 == "{" && $1 == "{" }
    try claim(hasAction || output == text, "a template without an action is not its own output: \(text)")
  case 1:
    // Each `..` multiplies the values, which is what it is for.
    if text.split(separator: "..", omittingEmptySubsequences: false).count > 3 { return }
    do throws(TemplateError) { _ = try PathTemplate(text).text(for: subject) } catch { try refused(error) }
  case 2:
    if text.split(separator: "..", omittingEmptySubsequences: false).count > 3 { return }
    do throws(TemplateError) {
      for column in try CustomColumns(text).columns { if let path = column.path { _ = CustomColumns.cell(path, subject) } }
    } catch {
      try refused(error)
    }
  default:
    guard let filter = try? LabelFilter(text) else { return }
    // A text that is a selector means what the selector means.
    guard let selector = try? Selector(parsing: text) else { return }
    for labels in [[:], ["app": "web"], ["app": "db", "a": "b"]] {
      try claim(filter.matches(labels) == selector.matches(labels), "the filter \(text) and the selector differ about \(labels)")
    }
  }
}

/// The example documents, and the places in them.
import Documents
import JSON
import Resources
import Sockets

/// One step from a value into what it holds.
enum Step: Hashable, Sendable {
  case member(String)
  case element(Int)
}

/// A value in an example: where it stands, and which field that is.
struct Place: Hashable, Sendable {
  var steps: [Step] = []
  var path: JSONPath { steps.reduce(JSONPath()) { path, step in
    switch step {
    case .member(let name): path.member(name)
    case .element(let index): path.element(index)
    }
  } }
  /// The field whatever the element of a list: `spec.ingress[].source.nets[]`.
  var field: String { Self.field(of: path) }
  var name: String? { if case .member(let name)? = steps.last { name } else { nil } }

  static func field(of path: JSONPath) -> String {
    var field = ""
    var rest = path.text[...]
    while let open = rest.firstIndex(of: "[") {
      let end = rest[open...].firstIndex(of: "]") ?? rest.endIndex
      let inner = rest[rest.index(after: open)..<end]
      field += rest[..<open]
      field += inner.allSatisfy(\.isNumber) ? "[]" : "[\(inner)]"
      rest = end < rest.endIndex ? rest[rest.index(after: end)...] : ""
    }
    return field + rest
  }
}

extension JSONValue {
  func value(at steps: some Collection<Step>) -> JSONValue? {
    guard let first = steps.first else { return self }
    return switch first {
    case .member(let name): self[name]?.value(at: steps.dropFirst())
    case .element(let index): array.flatMap { index < $0.count ? $0[index].value(at: steps.dropFirst()) : nil }
    }
  }
  /// The same with another value at one place.
  func replacing(_ steps: some Collection<Step>, with change: (JSONValue) -> JSONValue) -> JSONValue {
    guard let first = steps.first else { return change(self) }
    var copy = self
    switch first {
    case .member(let name): copy[name] = (self[name] ?? nil).replacing(steps.dropFirst(), with: change)
    case .element(let index):
      var elements = array ?? []
      elements[index] = elements[index].replacing(steps.dropFirst(), with: change)
      copy = .array(elements)
    }
    return copy
  }
}

/// One document of the catalogue, with everything that reading it shows.
struct Example: Sendable {
  let document: PositionedDocument
  let review: ResourceCodec.Review
  let trace: FieldTrace
  /// Every value of the document that is a field, an element of a list, or an entry of a map.
  let places: [Place]

  init(_ document: PositionedDocument) {
    self.document = document
    (review, trace) = ResourceCodec.reviewTracing(document)
    var places: [Place] = []
    func walk(_ value: JSONValue, _ place: Place) {
      if !place.steps.isEmpty { places.append(place) }
      for member in value.object?.members ?? [] { walk(member.value, Place(steps: place.steps + [.member(member.name)])) }
      for (index, element) in (value.array ?? []).enumerated() { walk(element, Place(steps: place.steps + [.element(index)])) }
    }
    walk(document.value, Place())
    self.places = places
  }

  /// What a strict reading of a changed document says.
  func errors(of value: JSONValue) -> [DocumentError] {
    ResourceCodec.review(PositionedDocument(file: document.file, value: value)).errors
  }

  static let folder = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Fixtures/Resources"
  static func read(_ name: String) throws -> [Example] {
    try DocumentReader.read(path: "\(folder)/\(name).yaml").map(Example.init)
  }
}

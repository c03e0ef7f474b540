/// One field of a kind, tried out on its examples.
import Documents
import JSON

/// All examples of one kind, or of what all kinds share.
struct Catalogue: Sendable {
  let examples: [Example]
  /// Fields that the readers ask for.
  let asked: Set<String>
  /// Fields that are known by name only.
  let passed: Set<String>
  /// Fields that the examples have; entries of maps are none.
  let present: Set<String>
  /// Fields, elements of lists and entries of maps, in the order of the examples.
  let rows: [String]
  private let places: [String: [(example: Example, place: Place)]]
  /// What holds the element or the entry of a map.
  private let parents: [String: String]

  /// Fields begin with one of `roots`.
  init(_ examples: [Example], roots: [String]) {
    func belongs(_ field: String) -> Bool {
      roots.contains { root in field == root || field.hasPrefix(root + ".") || field.hasPrefix(root + "[") }
    }
    func fields(_ paths: KeyPath<Example, Set<JSONPath>>) -> Set<String> {
      Set(examples.flatMap { $0[keyPath: paths].map(Place.field(of:)) }.filter(belongs))
    }
    let asked = fields(\.trace.asked)
    let passed = fields(\.trace.passed).subtracting(asked)
    var places: [String: [(example: Example, place: Place)]] = [:]
    var parents: [String: String] = [:]
    var order: [String] = []
    for example in examples {
      for place in example.places {
        let field = place.field
        guard belongs(field) else { continue }
        if places[field] == nil {
          order.append(field)
          parents[field] = Place(steps: Array(place.steps.dropLast())).field
        }
        places[field, default: []].append((example, place))
      }
    }
    self.examples = examples
    (self.asked, self.passed, self.places, self.parents) = (asked, passed, places, parents)
    present = Set(order).intersection(asked.union(passed))
    rows = order.filter { asked.contains($0) || passed.contains($0) || asked.contains(parents[$0]!) }
  }

  /// The places of a field, in every example.
  func places(of field: String) -> [(example: Example, place: Place)] { places[field] ?? [] }

  /// Fields that the readers ask for only to refuse them: an example's reading says so at exactly this place when it is given a good value of
  /// the same name. Such a field is in no example.
  func refusalOfPresence(_ field: String) -> DocumentError? {
    guard let dot = field.lastIndex(of: ".") else { return nil }
    let (parent, name) = (String(field[..<dot]), String(field[field.index(after: dot)...]))
    let donors = examples.flatMap { example in example.places.filter { $0.name == name }.map { example.document.value.value(at: $0.steps)! } }
    for (example, place) in places(of: parent) {
      for donor in donors {
        let changed = example.document.value.replacing(place.steps + [.member(name)]) { _ in donor }
        if let error = example.errors(of: changed).first(where: { $0.path == place.path.member(name) }) { return error }
      }
    }
    return nil
  }

  static let wrongValues: [JSONValue] = [
    "!", "a b", "-", "10.0.0.1/8", "soon", -1, 0, 4_294_967_296, .integer(.max), 7, "7", .object(JSONObject()), .array([]),
  ]

  /// The first wrong value that an example's reading refuses at exactly this place. Values of the right type come first: what is wrong with
  /// them says more than that they are no text.
  func refusal(of field: String) -> (value: JSONValue, error: DocumentError)? {
    let candidates = places(of: field)
    for sameType in [true, false] {
      for wrong in Self.wrongValues {
        for (example, place) in candidates {
          let good = example.document.value.value(at: place.steps)!
          guard Self.isSameType(good, wrong) == sameType else { continue }
          let errors = example.errors(of: example.document.value.replacing(place.steps) { _ in wrong })
          if let error = errors.first(where: { $0.path == place.path && !$0.rule.isEmpty }) { return (wrong, error) }
        }
      }
    }
    return nil
  }
  private static func isSameType(_ a: JSONValue, _ b: JSONValue) -> Bool {
    switch (a, b) {
    case (.string, .string), (.bool, .bool), (.array, .array), (.object, .object): true
    default: a.double != nil && b.double != nil
    }
  }

  /// What a mistyped name of the field is told.
  func suggestion(for field: String) -> String? {
    for (example, place) in places(of: field) {
      guard let name = place.name else { return nil }
      let mistyped = name + String(name.last!)
      let parent = place.steps.dropLast()
      let changed = example.document.value.replacing(parent) { value in
        .object(JSONObject(value.object!.members.map { .init($0.name == name ? mistyped : $0.name, $0.value) }))
      }
      let path = Place(steps: parent + [.member(mistyped)]).path
      if let fix = example.errors(of: changed).first(where: { $0.path == path })?.fix { return fix }
    }
    return nil
  }

  /// What the reading warned of; without a warning, whether a program reads it.
  func effect(of field: String) -> String {
    if passed.contains(field) { return "kept, not looked at" }
    if !asked.contains(field), let parent = parents[field] { return effect(of: parent) }
    for example in examples {
      for warning in example.review.warnings {
        let place = Place.field(of: warning.path)
        if place == "kind" || field == place || field.hasPrefix(place + ".") || field.hasPrefix(place + "[") {
          if warning.rule.hasPrefix("is kept, but has no effect here"), let why = warning.rule.split(separator: ": ").last {
            return "kept, no effect: \(why)"
          }
          if warning.rule.hasPrefix("is kept, but has no effect") { return "kept, no effect yet" }
          if warning.rule.hasPrefix("cannot be enforced") { return "kept, the rule denies" }
        }
      }
    }
    return Programs.read(field) ? "used" : "kept, read by no program"
  }
}

/// Every field of every kind: accepted, checked, suggested, written back, and kept company. The table in `design/fields.md` is what these
/// tests saw, so it cannot say more than is true. `UPDATE_GOLDENS=1 swift test --filter FieldTable` writes it anew.
import Datastore
import DatastoreMemory
import Documents
import Glibc
import JSON
import Resources
import Sockets
import Testing

@Suite("Fields of all kinds")
struct FieldTableTests {
  /// The part that all kinds share, and each kind.
  static let subjects: [String] = ["Metadata"] + Kind.allCases.map(\.rawValue)

  private static let catalogues = Dictionary(uniqueKeysWithValues: subjects.map { subject in
    (subject, Result {
      Catalogue(try Example.read(subject), roots: roots(subject))
    })
  })
  private static func roots(_ subject: String) -> [String] {
    if subject == "Metadata" { return ["apiVersion", "kind", "metadata"] }
    return Kind(rawValue: subject)?.isFlat ?? false ? ["addressType", "endpoints", "ports"] : ["spec", "status"]
  }
  static func catalogue(_ subject: String) throws -> Catalogue { try catalogues[subject]!.get() }

  @Test("The examples of a kind are accepted, and have every field that its readers ask for", arguments: subjects)
  func complete(subject: String) throws {
    let catalogue = try Self.catalogue(subject)
    for example in catalogue.examples {
      if subject != "Metadata" { #expect(example.document.value["kind"]?.string == subject) }
      #expect(example.review.errors.map(\.description) == [])
    }
    let lacking = catalogue.asked.subtracting(catalogue.present).filter { catalogue.refusalOfPresence($0) == nil }
    #expect(lacking.sorted() == [], "known, but in no example")
  }

  @Test("A wrong value is refused at its own place", arguments: subjects)
  func refusals(subject: String) throws {
    let catalogue = try Self.catalogue(subject)
    for field in catalogue.rows where !catalogue.passed.contains(field) {
      #expect(catalogue.refusal(of: field) != nil, "\(subject): nothing is wrong enough for \(field)")
    }
  }

  @Test("A mistyped name is answered with the right one", arguments: subjects)
  func suggestions(subject: String) throws {
    let catalogue = try Self.catalogue(subject)
    let known = catalogue.asked.union(catalogue.passed)
    for field in catalogue.rows where known.contains(field) {
      let name = try #require(catalogue.places(of: field).first?.place.name)
      #expect(catalogue.suggestion(for: field) == "did you mean \(name)?", "\(subject): \(field)")
    }
  }

  @Test("An example survives reading and writing: alone with every field, and octet for octet over itself", arguments: subjects)
  func roundTrip(subject: String) throws {
    for example in try Self.catalogue(subject).examples {
      let resource = try #require(example.review.resource)
      let written = ResourceCodec.encode(resource)
      #expect(example.review(of: written).resource == resource)
      #expect(ResourceCodec.encode(resource, onto: example.document.value).text() == example.document.value.text())
      #expect(try ResourceCodec.decodeLenient(kind: resource.kind, value: example.document.value) == resource)
    }
  }

  @Test("A field that nobody knows stays at every level, whatever else is written", arguments: subjects)
  func unknownSiblings(subject: String) async throws {
    let stranger: JSONValue = ["deep": [1, ["er": true]]]
    for example in try Self.catalogue(subject).examples {
      let datastore = MemoryDatastore()
      let store = ResourceStore(datastore)
      try await store.ensureDefaults()
      _ = try await store.apply(Resource(Metadata(name: "security"), .tier(TierSpec(order: 100))))
      // Maps of texts hold texts; everything else that is an object gets a stranger.
      let known = example.trace.asked.union(example.trace.passed)
      var stored = example.document.value
      var levels: [Place] = []
      for place in [Place()] + example.places {
        guard let object = stored.value(at: place.steps)?.object else { continue }
        let isMap = !object.isEmpty && object.members.allSatisfy { !known.contains(place.path.member($0.name)) }
        if isMap { continue }
        levels.append(place)
        stored = stored.replacing(place.steps) { value in
          var value = value
          value["fromTheFuture"] = stranger
          return value
        }
      }
      stored["metadata"]?["resourceVersion"] = nil
      var resource = try #require(example.review.resource)
      let key = resource.key
      _ = try await datastore.transact(if: [], then: [.put(key.path, Array(stored.text().utf8))])
      resource.metadata.resourceVersion = nil
      resource.metadata.uid = nil
      for round in 0..<2 {
        resource.metadata.labels["example.org/round"] = "\(round)"
        do {
          if round == 0 { _ = try await store.apply(resource) } else { _ = try await store.update(resource) }
        } catch {
          Issue.record("\(key): \(error)")
        }
        let after = try JSONValue(parsing: try #require(try await datastore.get(key.path)).value)
        #expect(after["metadata"]?["labels"]?["example.org/round"]?.string == "\(round)")
        for level in levels {
          #expect(after.value(at: level.steps)?["fromTheFuture"] == stranger, "\(key): lost at \"\(level.path)\" in round \(round)")
        }
      }
    }
  }

  @Test("The table in design/fields.md is the one that these tests give")
  func table() throws {
    let text = try FieldTable.text()
    let path = #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" } + "/design/fields.md"
    if unsafe getenv("UPDATE_GOLDENS") != nil { try Files.writeAtomically(Array(text.utf8), to: path) }
    let golden = try Files.readText(path)
    #expect(text == golden)
  }
}

extension Example {
  func review(of value: JSONValue) -> ResourceCodec.Review {
    ResourceCodec.review(PositionedDocument(file: document.file, value: value))
  }
}

import Datastore
import DatastoreMemory
import Documents
import JSON
import ResourceVerbs
import Resources
import Testing

/// A store in memory and the verbs on it.
struct Bench {
  let store = MemoryDatastore()
  var writer: ResourceWriter { ResourceWriter(store) }

  /// The documents of a YAML text, as `-f` reads them.
  func read(_ text: String, namespace: String = "default") throws -> Submissions {
    var submissions = Submissions()
    for document in try DocumentReader.read(bytes: Array(text.utf8), file: "test.yaml") { submissions.add(document, namespace) }
    return submissions
  }
  func one(_ text: String) throws -> Submission {
    let submissions = try read(text)
    #expect(submissions.errors.isEmpty, "\(submissions.errors)")
    return try #require(submissions.items.first)
  }
  @discardableResult
  func apply(_ text: String) async throws -> ObjectReport { try await writer.apply(try one(text)) }

  /// Stores a value as somebody else would.
  func put(_ key: ResourceKey, _ json: String) async throws {
    _ = try await store.transact(if: [], then: [.put(key.path, Array(json.utf8))])
  }
  func value(_ key: ResourceKey) async throws -> JSONValue? {
    try await store.get(key.path).map { try JSONValue(parsing: $0.value) }
  }
}

let head = "apiVersion: projectcalico.org/v3\n"

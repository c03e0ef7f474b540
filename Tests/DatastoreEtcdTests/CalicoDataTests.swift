/// What Calico stores is read, and what Margay does not understand of it survives a write. Provenance of the data: Tests/Fixtures.
import Datastore
import DatastoreEtcd
import EtcdServer
import Foundation
import JSON
import Resources
import Testing

@Suite("etcd: Calico's data", .serialized, .enabled(if: EtcdServer.isInstalled, "etcd is not installed"), .timeLimit(.minutes(1)))
struct CalicoDataTests {
  /// Keys and values of the recorded store.
  static func recorded() throws -> [(key: String, value: String)] {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Fixtures/calico-openstack/etcd.txt")
    let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    return stride(from: 0, to: lines.count - 1, by: 2).map { (lines[$0], lines[$0 + 1]) }
  }

  @Test("Objects written by Calico are read; a write keeps every field, known or not")
  func roundTrip() async throws {
    try await withServer { server in
      let datastore = try EtcdDatastore(server.configuration)
      for (key, value) in try Self.recorded() { try await datastore.put(key, value) }
      let store = ResourceStore(datastore)
      for kind in [Kind.workloadEndpoint, .networkPolicy, .clusterInformation, .felixConfiguration] {
        let (items, unreadable, _) = try await store.list(kind)
        #expect(!items.isEmpty && unreadable.isEmpty, "\(kind): \(unreadable)")
      }
      let endpoint = try #require(try await store.list(.workloadEndpoint).items.first)
      let before = try JSONValue(parsing: try #require(try await datastore.get(endpoint.resource.key.path)).value)
      var changed = endpoint.resource
      changed.metadata.labels["margay"] = "was here"
      try await store.update(changed)
      var after = try JSONValue(parsing: try #require(try await datastore.get(endpoint.resource.key.path)).value)
      #expect(after["metadata"]?["labels"]?["margay"]?.string == "was here")
      after["metadata"]?["labels"]?["margay"] = nil
      #expect(members(after) == members(before))
      // A field that no version knows yet.
      var future = before
      future["spec"]?["fromTheFuture"] = ["deep": [1, 2]]
      try await datastore.put(endpoint.resource.key.path, future.text())
      changed.metadata.resourceVersion = nil
      try await store.update(changed)
      let kept = try JSONValue(parsing: try #require(try await datastore.get(endpoint.resource.key.path)).value)
      #expect(kept["spec"]?["fromTheFuture"] == ["deep": [1, 2]])
      await datastore.close()
    }
  }
}

/// A cluster as OpenStack's driver writes it, stage by stage on a real etcd: every object is read, is valid, and stays as it is when what was
/// read is written back. Provenance of the data: Tests/Fixtures/openstack.
///
/// Not skipped without etcd: it fails then.
import Datastore
import DatastoreEtcd
import Documents
import EtcdServer
import Foundation
import JSON
import Resources
import Testing

struct OpenStackStage: Sendable, CustomTestStringConvertible {
  var name: String
  /// Every key under `/calico`, in the order of the record.
  var items: [(key: String, value: String)] = []
  var testDescription: String { name }

  static let all: [OpenStackStage] = {
    let file = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("Fixtures/openstack/etcd-dump.txt")
    var stages: [OpenStackStage] = []
    var key: String?
    for line in ((try? String(contentsOf: file, encoding: .utf8)) ?? "").split(separator: "\n").map(String.init) {
      if line.hasPrefix("==== stage ") {
        stages.append(OpenStackStage(name: String(line.dropFirst(11))))
      } else if let present = key {
        stages[stages.count - 1].items.append((present, line))
        key = nil
      } else if !line.hasPrefix("##") {
        key = line
      }
    }
    return stages
  }()
}

@Suite("etcd: OpenStack's stages", .serialized, .timeLimit(.minutes(2)))
struct OpenStackStagesTests {
  @Test("Ten stages, read, checked and written back: nothing changes but what is asked for")
  func stages() async throws {
    try #require(EtcdServer.isInstalled, "these claims need etcd; scripts/prepare installs it")
    #expect(OpenStackStage.all.map(\.items.count).reduce(0, +) == 137 && OpenStackStage.all.count == 10)
    try await withServer { server in
      let datastore = try EtcdDatastore(server.configuration)
      var present: Set<String> = []
      var kinds: Set<Kind> = []
      for stage in OpenStackStage.all {
        let keys = Set(stage.items.map(\.key))
        for key in present.subtracting(keys) { _ = try await datastore.transact(if: [], then: [.delete(key)]) }
        for (key, value) in stage.items { try await datastore.put(key, value) }
        present = keys
        kinds.formUnion(try await check(stage, in: datastore))
      }
      #expect(kinds == [.clusterInformation, .felixConfiguration, .networkPolicy, .workloadEndpoint, .liveMigration])
      await datastore.close()
    }
  }

  /// The kinds that the stage holds.
  private func check(_ stage: OpenStackStage, in datastore: EtcdDatastore) async throws -> Set<Kind> {
    let before = try await datastore.list(prefix: "/calico/").items
    #expect(Set(before.map(\.key)) == Set(stage.items.map(\.key)))
    let store = ResourceStore(datastore)
    var objects: [StoredResource] = []
    for kind in Kind.allCases {
      let (items, unreadable, _) = try await store.list(kind)
      #expect(unreadable.isEmpty, "\(stage.name): \(unreadable)")
      // The built-in profile is shown, and not stored.
      objects += items.filter { $0.resource.key.path != ResourceStore.builtInProfilePath }
    }
    #expect(objects.count == stage.items.count { $0.key.hasPrefix(ResourceKey.root) })

    for object in objects {
      let place = "\(stage.name): \(object.resource.key)"
      // Reading lets nothing pass that it does not understand.
      let faults = try ResourceCodec.decodeReporting(kind: object.resource.kind, value: object.document).faults
      #expect(faults.map(\.description) == [], "\(place)")
      // What is shown is what can be written: strictly valid, and the same.
      let document = try #require(try DocumentReader.read(bytes: Array(object.document.yamlText.utf8), file: place).first)
      #expect(document.value == object.document, "\(place)")
      let review = ResourceCodec.review(document)
      #expect(review.errors.map(\.description) == [], "\(place)")
      let resource = try #require(review.resource)
      #expect(try await store.apply(resource, document: document.value).outcome == .unchanged, "\(place)")
    }
    // Not an octet of the store has changed, and no key was written at all.
    #expect(try await datastore.list(prefix: "/calico/").items == before, "\(stage.name)")

    for object in objects { try await keep(object, in: datastore, "\(stage.name): \(object.resource.key)") }
    let others = before.filter { !$0.key.hasPrefix(ResourceKey.root) }
    #expect(try await datastore.list(prefix: "/calico/").items.filter { !$0.key.hasPrefix(ResourceKey.root) } == others)
    return Set(objects.map(\.resource.kind))
  }

  /// A field of the future survives a change of something else, and so does everything else.
  private func keep(_ object: StoredResource, in datastore: EtcdDatastore, _ place: String) async throws {
    let path = object.resource.key.path
    let original = try #require(try await datastore.get(path))
    var future = try JSONValue(parsing: original.value)
    future["fromTheFuture"] = 1
    future["metadata"]?["fromTheFuture"] = ["a": [1]]
    future["spec"]?["fromTheFuture"] = ["deep": [["er": true]]]
    try await datastore.put(path, future.text())
    var changed = object.resource
    changed.metadata.resourceVersion = nil
    changed.metadata.labels["example.org/seen"] = "yes"
    try await ResourceStore(datastore).update(changed)
    var after = try JSONValue(parsing: try #require(try await datastore.get(path)).value)
    #expect(after["metadata"]?["labels"]?["example.org/seen"] == "yes", "\(place)")
    after["metadata"]?["labels"]?["example.org/seen"] = nil
    if after["metadata"]?["labels"]?.object?.isEmpty == true { after["metadata"]?["labels"] = nil }
    #expect(members(after) == members(future), "\(place)")
    try await datastore.put(path, original.value)
  }
}

/// Every member with its path, whatever its order.
func members(_ value: JSONValue, _ path: String = "") -> Set<String> {
  switch value {
  case .object(let object): object.members.reduce(into: []) { $0.formUnion(members($1.value, "\(path).\($1.name)")) }
  case .array(let elements) where elements.contains { $0.object != nil }:
    elements.enumerated().reduce(into: ["\(path)#\(elements.count)"]) { $0.formUnion(members($1.element, "\(path)[\($1.offset)]")) }
  default: ["\(path)=\(value.text())"]
  }
}

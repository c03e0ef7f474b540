/// Everything that is stored, as it is when the question is asked: the objects, the documents as people wrote them, and what cannot be read.
import Datastore
public import JSON
public import Resources

public struct Cluster: Sendable {
  public var resources: [Resource] = []
  public var documents: [ResourceKey: JSONValue] = [:]
  public var unreadable: [ResourceKey: String] = [:]
  public init() {}

  /// What files say; of two documents for one object the last one counts, as if they were applied in turn.
  public init(_ objects: [(resource: Resource, document: JSONValue)]) {
    var byKey: [ResourceKey: Resource] = [:]
    for (resource, document) in objects {
      byKey[resource.key] = resource
      documents[resource.key] = document
    }
    resources = byKey.values.sorted { $0.key < $1.key }
  }

  public static func read(_ store: ResourceStore) async throws(ResourceStoreError) -> Cluster {
    var cluster = Cluster()
    for kind in Kind.allCases {
      let (items, unreadable, _) = try await store.list(kind)
      for item in items {
        cluster.resources.append(item.resource)
        cluster.documents[item.resource.key] = item.document
      }
      for (key, reason) in unreadable { cluster.unreadable[key] = reason }
    }
    return cluster
  }

  /// Rule `index` of a policy or profile, as its document has it.
  func rule(_ key: ResourceKey, _ direction: Direction, _ index: Int) -> JSONValue? {
    guard let rules = documents[key]?["spec"]?[direction.rawValue.lowercased()]?.array, rules.indices.contains(index) else { return nil }
    return rules[index]
  }
}

/// `spec.datastoreReady` of ClusterInformation: while it is false, CNI neither attaches nor detaches workloads. It does not keep anybody from
/// writing objects (as `calicoctl datastore migrate lock`).
public import Datastore
import Resources

public struct DatastoreLock: Sendable {
  private let store: ResourceStore
  public init(_ datastore: any Datastore) { store = ResourceStore(datastore) }

  /// False if it was so already.
  @discardableResult
  public func set(isReady: Bool) async throws(ResourceStoreError) -> Bool {
    try await store.ensureDefaults()
    let key = ResourceKey(.clusterInformation, name: "default")
    for _ in 0..<100 {
      guard let stored = try await store.get(key), case .clusterInformation(var spec) = stored.resource.spec else { throw .doesNotExist(key) }
      if spec.datastoreReady == isReady { return false }
      spec.datastoreReady = isReady
      do throws(ResourceStoreError) {
        try await store.update(Resource(stored.resource.metadata, .clusterInformation(spec)))
        return true
      } catch .conflict {
        continue
      }
    }
    throw .conflict(key, base: nil, present: nil)
  }
}

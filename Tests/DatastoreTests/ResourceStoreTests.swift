/// The typed client: what it fills in, keeps, refuses.
import Addresses
import Datastore
import DatastoreMemory
import Documents
import JSON
import Resources
import Testing

@Suite("ResourceStore")
struct ResourceStoreTests {
  let datastore = MemoryDatastore()
  var store: ResourceStore { ResourceStore(datastore) }

  private func set(_ name: String, _ nets: String..., labels: [String: String] = [:]) -> Resource {
    Resource(Metadata(name: name, labels: labels), .globalNetworkSet(NetworkSetSpec(nets: nets.map { IPPrefix($0)! })))
  }
  private func policy(_ name: String, tier: String) -> Resource {
    var policy = PolicySpec()
    policy.tier = tier
    return Resource(Metadata(name: name), .globalNetworkPolicy(policy))
  }
  private func error(_ body: @Sendable () async throws -> Void) async -> ResourceStoreError? {
    do {
      try await body()
      return nil
    } catch {
      return error as? ResourceStoreError
    }
  }
  /// The document as it lies in the store.
  private func lying(_ key: ResourceKey) async throws -> JSONValue? {
    try await datastore.get(key.path).map { try JSONValue(parsing: $0.value) }
  }

  @Test(
    "Keys are Calico's paths, and paths are keys again",
    arguments: [
      (ResourceKey(.node, name: "node1"), "nodes/node1"),
      (ResourceKey(.networkPolicy, namespace: "red", name: "allow"), "networkpolicies/red/allow"),
      (ResourceKey(.workloadEndpoint, name: "node1-k8s-web--1-eth0"), "workloadendpoints/default/node1-k8s-web--1-eth0"),
      (ResourceKey(.globalNetworkPolicy, name: "a/b%c"), "globalnetworkpolicies/a%2fb%25c"),
      (ResourceKey(.ipPool, name: "pool"), "ippools/pool"),
      // The mark makes one character with the slash before it.
      (ResourceKey(.ipPool, name: "\u{301}"), "ippools/\u{301}"),
    ])
  func paths(key: ResourceKey, path: String) {
    #expect(key.path == "/calico/resources/v3/projectcalico.org/" + path)
    #expect(ResourceKey(path: key.path) == key)
  }

  @Test("Other paths are no keys", arguments: ["", "/", "/calico/ipam/v2/config", "nodes/a/b", "networkpolicies/a", "unknowns/a", "nodes"])
  func otherPaths(path: String) {
    #expect(ResourceKey(path: path.hasPrefix("/") ? path : ResourceKey.root + path) == nil)
  }

  @Test("Create sets uid and time, stores no revision, and reading fills it in")
  func create() async throws {
    let created = try await store.create(set("a", "10.0.0.0/8"))
    #expect(created.resource.metadata.uid?.count == 36)
    #expect(created.resource.metadata.creationTimestamp?.hasSuffix("Z") == true)
    #expect(created.resource.metadata.resourceVersion == "\(created.revision)")
    let document = try #require(try await lying(created.resource.key))
    #expect(document["kind"]?.string == "GlobalNetworkSet" && document["apiVersion"]?.string == "projectcalico.org/v3")
    #expect(document["metadata"]?["resourceVersion"] == nil)
    #expect(document["metadata"]?["uid"]?.string == created.resource.metadata.uid)
    let read = try #require(try await store.get(created.resource.key))
    #expect(read.resource == created.resource && read.revision == created.revision)
    #expect(read.document["metadata"]?["resourceVersion"]?.string == "\(created.revision)")
  }

  @Test("Creating what exists, changing what is missing, and changing what changed are errors that name the object")
  func concurrency() async throws {
    let created = try await store.create(set("a", "10.0.0.0/8"))
    guard case .alreadyExists(let key) = await error({ _ = try await store.create(set("a")) }) else {
      return #expect(Bool(false), "no error")
    }
    #expect(key == created.resource.key)
    guard case .doesNotExist = await error({ _ = try await store.update(set("b")) }) else { return #expect(Bool(false), "no error") }
    guard case .doesNotExist = await error({ try await store.delete(ResourceKey(.node, name: "b")) }) else {
      return #expect(Bool(false), "no error")
    }
    var first = created.resource
    first.metadata.labels = ["a": "1"]
    let second = first
    try await store.update(first)
    let conflict = await error { _ = try await store.update(second) }
    guard case .conflict = conflict else { return #expect(Bool(false), "no conflict") }
    #expect(conflict?.description.contains("GlobalNetworkSet a") == true)
    guard case .conflict = await error({ try await store.delete(created.resource.key, revision: created.revision) }) else {
      return #expect(Bool(false), "no conflict")
    }
  }

  @Test("Apply creates, then updates, then leaves alone; uid and time of creation stay, labels follow")
  func apply() async throws {
    let created = try await store.apply(set("a", "10.0.0.0/8", labels: ["x": "1", "y": "1"]))
    let updated = try await store.apply(set("a", "10.0.0.0/8", "11.0.0.0/8", labels: ["y": "2"]))
    let same = try await store.apply(set("a", "10.0.0.0/8", "11.0.0.0/8", labels: ["y": "2"]))
    #expect([created.outcome, updated.outcome, same.outcome] == [.created, .updated, .unchanged])
    #expect(updated.stored.resource.metadata.uid == created.stored.resource.metadata.uid)
    #expect(updated.stored.resource.metadata.creationTimestamp == created.stored.resource.metadata.creationTimestamp)
    #expect(same.stored.revision == updated.stored.revision)
    let read = try #require(try await store.get(created.stored.resource.key))
    #expect(read.resource == updated.stored.resource)
    #expect(read.resource.metadata.labels == ["y": "2"])
  }

  @Test("A write keeps every field that it does not understand")
  func unknownFields() async throws {
    let key = ResourceKey(.globalNetworkSet, name: "a")
    let text = """
      {"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"a","uid":"u","generation":7,
      "ownerReferences":[{"kind":"Thing"}]},"spec":{"nets":["10.0.0.0/8"],"future":{"deep":[1,18446744073709551615]}},
      "status":{"seen":true}}
      """
    _ = try await datastore.transact(if: [], then: [.put(key.path, Array(text.utf8))])
    _ = try await store.apply(set("a", "11.0.0.0/8"))
    let document = try #require(try await lying(key))
    #expect(document["spec"]?["nets"] == ["11.0.0.0/8"])
    #expect(document["spec"]?["future"] == ["deep": [1, .unsigned(18_446_744_073_709_551_615)]])
    #expect(document["status"] == ["seen": true])
    #expect(document["metadata"]?["generation"] == 7 && document["metadata"]?["uid"] == "u")
    #expect(document["metadata"]?["ownerReferences"]?.array?.count == 1)
  }

  @Test("A policy stored without types governs both directions, and still does when a document without types is applied to it")
  func typesUnspelled() async throws {
    let key = ResourceKey(.networkPolicy, namespace: "openstack", name: "ossg.default.a")
    let stored: JSONValue = [
      "apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": ["name": "ossg.default.a", "namespace": "openstack", "uid": "1"],
      "spec": ["selector": "has(a)", "egress": [["action": "Allow"]]],
    ]
    _ = try await datastore.transact(if: [], then: [.put(key.path, Array(stored.text().utf8))])
    #expect(try await store.get(key)?.resource.policy?.effectiveTypes == [.ingress, .egress])
    let document = PositionedDocument(file: "", value: stored)
    let resource = try ResourceCodec.decodeStrict(document).get()
    #expect(resource.policy?.types == [.egress], "what the API makes of it for a new object")
    #expect(try await store.apply(resource, document: stored).outcome == .unchanged)
    var changed = stored
    changed["spec"]?["selector"] = "has(b)"
    let again = try ResourceCodec.decodeStrict(PositionedDocument(file: "", value: changed)).get()
    #expect(try await store.apply(again, document: changed).stored.resource.policy?.effectiveTypes == [.ingress, .egress])
    changed["spec"]?["types"] = ["Egress"]
    let explicit = try ResourceCodec.decodeStrict(PositionedDocument(file: "", value: changed)).get()
    #expect(try await store.apply(explicit, document: changed).stored.resource.policy?.effectiveTypes == [.egress])
  }

  @Test("Fifty tasks that change one object by reading and updating lose no change")
  func manyWriters() async throws {
    let key = try await store.create(set("a")).resource.key
    try await withThrowingTaskGroup(of: Void.self) { group in
      for index in 0..<50 {
        group.addTask {
          while true {
            var resource = try await store.get(key)!.resource
            resource.metadata.labels["l\(index)"] = "1"
            let failure = await error { [resource] in try await store.update(resource) }
            guard case .conflict = failure else {
              if let failure { throw failure }
              return
            }
          }
        }
      }
      try await group.waitForAll()
    }
    #expect(try await store.get(key)?.resource.metadata.labels.count == 50)
  }

  @Test("Every cluster has its tiers and its information, however often and by however many they are ensured")
  func defaults() async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<8 { group.addTask { [store] in try await store.ensureDefaults() } }
      try await group.waitForAll()
    }
    let tiers = try await store.list(.tier).items.map(\.resource.metadata.name)
    #expect(tiers == ["default", "kube-admin", "kube-baseline"])
    let information = try #require(try await store.get(ResourceKey(.clusterInformation, name: "default")))
    guard case .clusterInformation(let spec) = information.resource.spec else { return #expect(Bool(false), "not the information") }
    #expect(spec.datastoreReady == true && spec.clusterGUID?.count == 32)
    try await store.ensureDefaults()
    #expect(try await store.get(ResourceKey(.clusterInformation, name: "default"))?.revision == information.revision)
  }

  @Test("A policy needs its tier; a tier with policies stays; the built-in ones always do")
  func tiers() async throws {
    try await store.ensureDefaults()
    guard case .refused(_, let missing) = await error({ _ = try await store.create(policy("p", tier: "security")) }) else {
      return #expect(Bool(false), "a policy without its tier")
    }
    #expect(missing.contains("Tier security does not exist"))
    let tier = try await store.create(Resource(Metadata(name: "security"), .tier(TierSpec(order: 10)))).resource.key
    let key = try await store.create(policy("p", tier: "security")).resource.key
    guard case .refused(_, let full) = await error({ try await store.delete(tier) }) else {
      return #expect(Bool(false), "a tier with a policy")
    }
    #expect(full.contains("GlobalNetworkPolicy p"))
    try await store.delete(key)
    try await store.delete(tier)
    for name in ["default", "kube-admin", "kube-baseline"] {
      guard case .refused = await error({ try await store.delete(ResourceKey(.tier, name: name)) }) else {
        return #expect(Bool(false), "\(name) was deleted")
      }
    }
  }

  @Test("Pools neither overlap nor change their addresses")
  func pools() async throws {
    @Sendable func pool(_ name: String, _ cidr: String) -> Resource {
      Resource(Metadata(name: name), .ipPool(IPPoolSpec(cidr: IPPrefix(cidr)!)))
    }
    try await store.create(pool("a", "10.65.0.0/16"))
    guard case .refused(_, let why) = await error({ _ = try await store.create(pool("b", "10.65.3.0/24")) }) else {
      return #expect(Bool(false), "an overlapping pool")
    }
    #expect(why.contains("IPPool a"))
    guard case .refused = await error({ _ = try await store.apply(pool("a", "10.66.0.0/16")) }) else {
      return #expect(Bool(false), "a pool that moves")
    }
  }

  @Test("A list names what cannot be read instead of failing")
  func unreadable() async throws {
    try await store.create(set("good"))
    _ = try await datastore.transact(if: [], then: [.put(ResourceKey(.globalNetworkSet, name: "bad").path, Array("{".utf8))])
    let (items, unreadable, _) = try await store.list(.globalNetworkSet)
    #expect(items.map(\.resource.metadata.name) == ["good"])
    #expect(unreadable.map(\.key.name) == ["bad"])
  }
}

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
      (ResourceKey(.ipamConfiguration, name: "other"), "ipamconfigurations/other"),
    ])
  func paths(key: ResourceKey, path: String) {
    #expect(key.path == "/calico/resources/v3/projectcalico.org/" + path)
    #expect(ResourceKey(path: key.path) == key)
  }

  @Test("Other paths are no keys", arguments: ["", "/", "/calico/ipam/v2/configs", "nodes/a/b", "networkpolicies/a", "unknowns/a", "nodes"])
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

  @Test("A new pool is stored with its defaults spelled out, as Calico's programs need it; applying the short document again changes nothing")
  func spelledPool() async throws {
    let text = "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: p}, spec: {cidr: 10.0.0.0/16, unknownToUs: 1}}"
    let document = try #require(try DocumentReader.read(bytes: Array(text.utf8), file: "p.yaml").first).value
    let pool = Resource(Metadata(name: "p"), .ipPool(IPPoolSpec(cidr: IPPrefix("10.0.0.0/16")!)))
    try await store.create(pool, document: document)
    let spec = try #require(try await lying(pool.key)?["spec"])
    #expect(spec["blockSize"] == 26 && spec["ipipMode"] == "Never" && spec["vxlanMode"] == "Never" && spec["nodeSelector"] == "all()")
    #expect(spec["allowedUses"] == ["Workload", "Tunnel"] && spec["assignmentMode"] == "Automatic" && spec["unknownToUs"] == 1)
    #expect(try await store.apply(pool, document: document).outcome == .unchanged)
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

  @Test("A uid in the metadata means just that object: one of the same name that was made anew is another")
  func uids() async throws {
    let first = try await store.create(set("a"))
    try await store.delete(first.resource.key)
    let second = try await store.create(set("a"))
    var old = first.resource
    old.metadata.resourceVersion = nil
    let message = await error { [old] in _ = try await store.apply(old) }
    guard case .replaced(_, let wanted, let present) = message else { return #expect(Bool(false), "\(message as Any)") }
    #expect(wanted == first.resource.metadata.uid && present == second.resource.metadata.uid)
    guard case .replaced = await error({ [old] in try await store.delete(old.key, uid: wanted) }) else { return #expect(Bool(false), "deleted") }
    try await store.delete(old.key, uid: present)
  }

  @Test("A tier with a staged policy stays, and so does one of whose policies nobody can read")
  func stagedPolicies() async throws {
    let tier = try await store.create(Resource(Metadata(name: "security"), .tier(TierSpec(order: 10)))).resource.key
    var spec = PolicySpec()
    spec.tier = "security"
    let staged = Resource(Metadata(name: "p", namespace: "d"), .stagedNetworkPolicy(StagedPolicySpec(spec)))
    try await store.create(staged)
    #expect(await error { try await store.delete(tier) }?.description.contains("StagedNetworkPolicy d/p is in it") == true)
    try await store.delete(staged.key)
    let damaged = ResourceKey(.globalNetworkPolicy, name: "damaged").path
    _ = try await datastore.transact(if: [], then: [.put(damaged, Array("{".utf8))])
    #expect(await error { try await store.delete(tier) }?.description.contains("GlobalNetworkPolicy damaged cannot be read") == true)
    _ = try await datastore.transact(if: [], then: [.delete(damaged)])
    try await store.delete(tier)
    #expect(try await datastore.list(prefix: "/calico/margay/").items == [])
  }

  @Test("The fixed tiers cannot be made, or made anew, with an order of one's own")
  func fixedTiers() async throws {
    let other = Resource(Metadata(name: "kube-admin"), .tier(TierSpec(order: 5, defaultAction: .pass)))
    for write in [
      { @Sendable () async throws in _ = try await store.create(other) }, { @Sendable () async throws in _ = try await store.apply(other) },
    ] {
      guard case .refused(_, let why) = await error(write) else { return #expect(Bool(false), "written") }
      #expect(why.contains("fixed: 1000 and Pass"))
    }
  }

  @Test("The built-in profile is read like any other, and cannot be written")
  func builtInProfile() async throws {
    let key = ResourceKey(.profile, name: "projectcalico-default-allow")
    try await store.create(Resource(Metadata(name: "kns.a"), .profile(ProfileSpec())))
    try await store.create(Resource(Metadata(name: "z"), .profile(ProfileSpec())))
    let read = try #require(try await store.get(key))
    #expect(read.document["spec"]?["ingress"] == [["action": "Allow"]])
    #expect(try await store.list(.profile).items.map(\.resource.metadata.name) == ["kns.a", key.name, "z"])
    #expect(try await store.apply(read.resource).outcome == .unchanged)
    let closed = Resource(Metadata(name: key.name), .profile(ProfileSpec()))
    for write in [
      { @Sendable () async throws in _ = try await store.create(closed) }, { @Sendable () async throws in _ = try await store.apply(closed) },
      { @Sendable () async throws in _ = try await store.update(closed) }, { @Sendable () async throws in try await store.delete(key) },
    ] { #expect(await error(write) != nil) }
    #expect(try await datastore.get(key.path) == nil)
  }

  @Test("A pool's use for load balancers is settled when it is made")
  func loadBalancers() async throws {
    var spec = IPPoolSpec(cidr: IPPrefix("10.65.0.0/16")!)
    try await store.create(Resource(Metadata(name: "a"), .ipPool(spec)))
    spec.allowedUses = [.loadBalancer]
    guard case .refused = await error({ [spec] in _ = try await store.apply(Resource(Metadata(name: "a"), .ipPool(spec))) }) else {
      return #expect(Bool(false), "a pool that becomes a load balancer's")
    }
  }

  private func put(_ key: String, _ value: String) async throws {
    _ = try await datastore.transact(if: [], then: [.put(key, Array(value.utf8))])
  }
  private let block = "/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26"
  private let affinity = "/calico/ipam/v2/host/n1/ipv4/block/10.65.0.0-26"

  @Test("A pool is made only with the size of the blocks that exist")
  func blockSizes() async throws {
    try await put(block, #"{"cidr":"10.65.0.0/26","allocations":[]}"#)
    let pool = Resource(Metadata(name: "a"), .ipPool(IPPoolSpec(cidr: IPPrefix("10.65.0.0/16")!, blockSize: 28)))
    #expect(await error { _ = try await store.create(pool) }?.description.contains("give blockSize 26") == true)
    try await store.create(Resource(Metadata(name: "a"), .ipPool(IPPoolSpec(cidr: IPPrefix("10.65.0.0/16")!))))
  }

  @Test("A pool in use stays as it was; an empty one goes with its blocks and claims; force leaves the addresses to their holders")
  func poolRemoval() async throws {
    let other = "/calico/ipam/v2/host/n1/ipv4/block/10.66.0.0-26"
    func fill(_ allocations: String, _ attributes: String) async throws {
      try await put(
        block,
        """
        {"cidr":"10.65.0.0/26","affinity":"host:n1","allocations":\(allocations),"unallocated":[],"attributes":\(attributes),"future":1}
        """)
      try await put(affinity, #"{"state":"confirmed"}"#)
      try await put("/calico/ipam/v2/host/n2/ipv4/block/10.65.1.0-26", #"{"state":"pending"}"#)
      try await put(other, #"{"state":"confirmed"}"#)
    }
    let pool = Resource(Metadata(name: "a"), .ipPool(IPPoolSpec(cidr: IPPrefix("10.65.0.0/16")!)))
    let created = try await store.create(pool)
    try await fill("[null,0,0]", #"[{"handle_id":"h"}]"#)
    let why = await error { try await store.delete(pool.key) }?.description
    #expect(why?.contains("2 addresses of it are, such as 10.65.0.1, in use") == true, "\(why ?? "deleted")")
    #expect(try await store.get(pool.key)?.revision == created.revision)

    try await store.delete(pool.key, force: true)
    let kept = try await datastore.get(block)
    let document = try JSONValue(parsing: try #require(kept).value)
    #expect(document["affinity"] == nil && document["allocations"] == [nil, 0, 0] && document["future"] == 1)
    #expect(try await datastore.list(prefix: "/calico/ipam/v2/host/").items.map(\.key) == [other])

    try await store.create(pool)
    // In cooldown, so nobody's.
    try await fill("[null,0]", #"[{"handle_id":"h","releasedAt":"2026-01-01T00:00:00Z"}]"#)
    try await store.delete(pool.key)
    #expect(try await store.get(pool.key) == nil)
    #expect(try await datastore.get(block) == nil)
    #expect(try await datastore.list(prefix: "/calico/ipam/v2/host/").items.map(\.key) == [other])
  }

  @Test("Names that lead nowhere are told, not refused")
  func warnings() async throws {
    var peer = BGPPeerSpec()
    peer.node = "n1"
    peer.filters = ["f1", "f2"]
    try await store.create(Resource(Metadata(name: "f2"), .bgpFilter(BGPFilterSpec())))
    let warnings = try await store.warnings(for: Resource(Metadata(name: "p"), .bgpPeer(peer)))
    #expect(warnings.count == 2 && warnings[0].contains("BGPFilter f1") && warnings[1].contains("Node n1"))
  }

  @Test("Every way of writing keeps what it does not understand, at every level, the stored and the given")
  func everyWayKeeps() async throws {
    let key = ResourceKey(.workloadEndpoint, namespace: "d", name: "n-k8s-p-eth0")
    let stored = """
      {"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","later":1,"metadata":{"name":"n-k8s-p-eth0","namespace":"d","uid":"u",
      "future":[1]},"spec":{"orchestrator":"k8s","node":"n","pod":"p","endpoint":"eth0","later":{"x":[{"y":1}]},
      "ports":[{"name":"http","protocol":"TCP","port":80,"later":2}]},"status":{"s":1}}
      """
    let given: JSONValue = [
      "kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3", "given": 1,
      "metadata": ["name": "n-k8s-p-eth0", "namespace": "d", "labels": ["a": "b"], "given": 2],
      "spec": [
        "orchestrator": "k8s", "node": "n", "pod": "p", "endpoint": "eth0", "given": 3,
        "ports": [["name": "http", "protocol": "TCP", "port": 80, "given": 4]],
      ],
    ]
    func check(_ way: String, given isGiven: Bool) async throws {
      let document = try #require(try await lying(key))
      let port = document["spec"]?["ports"]?.array?.first
      #expect(
        document["later"] == 1 && document["metadata"]?["future"] == [1] && document["metadata"]?["uid"] == "u"
          && document["spec"]?["later"] == ["x": [["y": 1]]] && port?["later"] == 2 && document["status"] == ["s": 1]
          && document["metadata"]?["labels"]?["a"] == "b", "\(way): \(document.text())")
      let own = [document["given"], document["metadata"]?["given"], document["spec"]?["given"], port?["given"]]
      #expect(own == (isGiven ? [1, 2, 3, 4] : [nil, nil, nil, nil]), "\(way): \(document.text())")
    }
    let resource = try ResourceCodec.decodeLenient(kind: .workloadEndpoint, value: given)
    for isGiven in [false, true] {
      try await put(key.path, stored)
      try await store.apply(resource, document: isGiven ? given : nil)
      try await check("apply", given: isGiven)
      try await put(key.path, stored)
      try await store.update(resource, document: isGiven ? given : nil)
      try await check("update", given: isGiven)
    }
    try await put(key.path, stored)
    try await store.modify(key) { $0.metadata.labels["a"] = "b" }
    try await check("modify", given: false)
    try await store.delete(key)
    let created = try await store.create(resource, document: given)
    #expect(created.document["given"] == 1 && created.document["spec"]?["ports"]?.array?.first?["given"] == 4)
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

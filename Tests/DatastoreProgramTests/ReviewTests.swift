/// `margay datastore check`: what is wrong, and what it does.
import AddressAssignment
import AddressPlans
import Calculation
import Datastore
import DatastoreEtcd
import DatastoreMemory
import DatastoreProgram
import EtcdServer
import JSON
import Resources
import Testing

@Suite("Datastore check")
struct ReviewTests {
  private func review(_ store: any Datastore) async throws -> StoreReview {
    let (items, revision) = try await store.list(prefix: StoreContent.root)
    return StoreReview(items, revision: revision)
  }
  private func only(_ key: ResourceKey, spec: String) async throws -> [StoreReview.Finding] {
    let store = MemoryDatastore()
    try await store.put(key, spec: spec)
    return try await review(store).findings
  }

  @Test("A sound store has nothing to tell, and every key is counted")
  func sound() async throws {
    let store = MemoryDatastore()
    try await fill(store, endpoints: 3)
    let review = try await review(store)
    #expect(review.findings.isEmpty, "\(review.findings)")
    #expect(review.keyCount == 17)
    #expect(review.counts.reduce(0) { $0 + $1.count } == review.keyCount)
    #expect(review.counts.contains { $0 == ("WorkloadEndpoint", 3) } && review.counts.contains { $0 == ("IPAM handles", 1) })
  }

  @Test(
    "A store recorded from Calico's driver, on etcd: every object is read, nothing is denied for a fault, nothing is changed",
    .enabled(if: EtcdServer.isInstalled, "etcd is not installed"))
  func openStack() async throws {
    let server = try await startedEtcd()
    let store = try EtcdDatastore(server.configuration)
    for (key, value) in try recordedOpenStack() { try await store.put(key, value) }
    let before = try await store.list(prefix: "")
    let review = try await review(store)
    for finding in review.findings { print("\(finding)") }
    #expect(!review.findings.contains { $0.class == .unenforceable || $0.class == .stray }, "\(review.findings)")
    #expect(review.keyCount == before.items.count)
    #expect(try await store.list(prefix: "").items == before.items)
    await store.close()
    withExtendedLifetime(server) {}
  }

  /// Kind, spec, what the effect must say.
  static let effects: [(ResourceKey, String, String)] = [
    (ResourceKey(.networkPolicy, namespace: "shop", name: "p"), #"{"selector":"a =="}"#, "it denies every endpoint of namespace shop"),
    (ResourceKey(.globalNetworkPolicy, name: "p"), #"{"selector":"a =="}"#, "it has no effect"),
    (ResourceKey(.globalNetworkPolicy, name: "p"), #"{"selector":"a ==","doNotTrack":true,"applyOnForward":true}"#, "it has no effect"),
    (
      ResourceKey(.globalNetworkPolicy, name: "p"), #"{"types":["Egress"],"egress":[{"action":"Allow"},{"action":"Allow","destination":{"nets":["10/8x"]}}]}"#,
      "egress rule 2 denies everything at its place in tier default"
    ),
    (
      ResourceKey(.networkPolicy, namespace: "shop", name: "p"), #"{"ingress":[{"action":"Allow","protocol":"TCP","http":{"methods":["GET"]}}]}"#,
      "ingress rule 1 denies everything at its place in tier default (http"
    ),
    // The direction is not governed by the policy: the rule decides nothing.
    (ResourceKey(.globalNetworkPolicy, name: "p"), #"{"types":["Ingress"],"egress":[{"action":"Allow","protocol":"XYZ"}]}"#, "what cannot be read counts as not set"),
    (ResourceKey(.profile, name: "p"), #"{"ingress":[{"action":"Permit"}]}"#, "ingress rule 1 denies everything at its place in the profile"),
    (ResourceKey(.ipPool, name: "p"), #"{"cidr":"10.0.0/33"}"#, "no address is given from it"),
    (
      ResourceKey(.workloadEndpoint, namespace: "shop", name: "h-k8s-w-eth0"),
      #"{"orchestrator":"k8s","node":"h","pod":"w","endpoint":"eth0","ipNetworks":["10.0.0.1/32","10.0.0.300/32"]}"#, "addresses that are not listed get no traffic"
    ),
    (ResourceKey(.globalNetworkSet, name: "s"), #"{"nets":["10.0.0.0/8","nonsense"]}"#, "rules that select it do not match"),
    (ResourceKey(.ipPool, name: "p"), #"{"cidr":"10.0.0.0/8","blockSize":4}"#, "what cannot be read counts as not set"),
  ]
  @Test("What cannot be enforced is told with its effect", arguments: effects.indices)
  func effect(index: Int) async throws {
    let (key, spec, effect) = Self.effects[index]
    let findings = try await only(key, spec: spec)
    #expect(findings.count == 1 && findings[0].object == "\(key)" && findings[0].effect.contains(effect), "\(findings)")
  }

  @Test("A value that is no JSON, or another kind, has the effect of an absent object, and a policy denies")
  func unreadable() async throws {
    for (key, effect) in [
      (ResourceKey(.networkPolicy, namespace: "shop", name: "p"), "it denies every endpoint of namespace shop"),
      (ResourceKey(.globalNetworkPolicy, name: "p"), "it has no effect"), (ResourceKey(.ipPool, name: "p"), "no address is given"),
      (ResourceKey(.tier, name: "t"), "come last"), (ResourceKey(.workloadEndpoint, namespace: "shop", name: "w"), "it gets no traffic"),
    ] {
      for value in ["{", "[]", #"{"kind":"Node","metadata":{"name":"p"}}"#, "\u{0}"] {
        let store = MemoryDatastore()
        try await store.put(key.path, value)
        let findings = try await review(store).findings
        #expect(findings.count == 1 && findings[0].class == .unenforceable && findings[0].effect.contains(effect), "\(key) \(value): \(findings)")
      }
    }
  }

  @Test("References to tiers, profiles and filters that do not exist")
  func dangling() async throws {
    let store = MemoryDatastore()
    try await store.put(ResourceKey(.networkPolicy, namespace: "shop", name: "gone.p"), spec: #"{"tier":"gone","types":["Ingress"]}"#)
    try await store.put(ResourceKey(.networkPolicy, namespace: "shop", name: "q"), spec: #"{"tier":"default","types":["Ingress"]}"#)
    try await store.put(
      ResourceKey(.workloadEndpoint, namespace: "shop", name: "h-k8s-w-eth0"),
      spec: #"{"orchestrator":"k8s","node":"h","pod":"w","endpoint":"eth0","profiles":["kns.shop","projectcalico-default-allow"]}"#)
    try await store.put(ResourceKey(.bgpPeer, name: "rr"), spec: #"{"peerIP":"10.0.0.1","asNumber":64512,"filters":["gone"]}"#)
    let findings = try await review(store).findings.filter { $0.class == .dangling }
    #expect(findings.map(\.object) == ["BGPPeer rr", "NetworkPolicy shop/gone.p", "WorkloadEndpoint shop/h-k8s-w-eth0"])
    #expect(findings.map(\.faults) == [
      ["spec.filters: BGPFilter gone does not exist"], ["spec.tier: Tier gone does not exist"], ["spec.profiles: Profile kns.shop does not exist"],
    ])
  }

  @Test("Keys outside of the layout, objects of unknown kinds, names that differ from their keys, transfers that are not finished")
  func strays() async throws {
    let store = MemoryDatastore()
    try await store.put("/calico/surprise", "x")
    try await store.put("/calico/resources/v3/projectcalico.org/wormholes/a", "{}")
    try await store.put("/calico/resources/v3/projectcalico.org/tiers/a/b", "{}")
    try await store.put(ResourceKey(.tier, name: "a").path, #"{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"b"},"spec":{"order":1}}"#)
    try await store.put(TransferMarker.path, #"{"source":"etcd://old:2379"}"#)
    let review = try await review(store)
    #expect(review.findings.filter { $0.class == .stray }.map(\.object).sorted() == [
      "/calico/resources/v3/projectcalico.org/tiers/a/b", "/calico/resources/v3/projectcalico.org/wormholes/a", "/calico/surprise",
    ])
    #expect(review.findings.contains { $0.object == "Tier a" && $0.class == .invalid && $0.faults[0].contains("calls itself b") })
    #expect(review.unfinishedTransfer == "etcd://old:2379")
    #expect(review.json["findings"]?.array?.count == 4)
  }

  @Test("What `margay ipam check` finds is summed up")
  func addresses() async throws {
    let store = MemoryDatastore()
    try await store.put(ResourceKey(.ipPool, name: "pool"), spec: #"{"cidr":"10.77.0.0/16","blockSize":26}"#)
    for pod in ["a", "b"] {
      try await store.put(
        ResourceKey(.workloadEndpoint, namespace: "shop", name: "h-k8s-\(pod)-eth0"),
        spec: #"{"orchestrator":"k8s","node":"h","pod":"\#(pod)","endpoint":"eth0","ipNetworks":["10.77.0.1/32"]}"#)
    }
    try await store.put("/calico/ipam/v2/assignment/ipv4/block/10.77.9.0-26", "{")
    var review = try await review(store)
    #expect(review.findings.isEmpty)
    review.add(AddressFindings(try await AddressCensus.read(store)))
    let found = Dictionary(uniqueKeysWithValues: review.findings.map { ($0.object, $0.faults[0]) })
    #expect(review.findings.allSatisfy { $0.class == .addresses })
    #expect(found["IPAM: addresses that two workloads use"]?.contains("10.77.0.1 (WorkloadEndpoint shop/h-k8s-a-eth0, ") == true, "\(found)")
    #expect(found["IPAM: addresses in use that are recorded as free"]?.contains("10.77.0.1") == true)
    #expect(found["IPAM: blocks that cannot be read"]?.contains("10.77.9.0-26") == true)
  }
}

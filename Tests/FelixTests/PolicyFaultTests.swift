/// What cannot be read or enforced fails safe, and says so.

import Addresses
import Calculation
import Datastore
import JSON
import KernelSandbox
import NetlinkEdge
import Resources
import Testing

@testable import FelixProgram

@Suite("Unreadable policies, on packets", .enabled(if: KernelSandbox.isAvailable), .serialized, .timeLimit(.minutes(2)))
struct PolicyFaultTests {
  static let policy = ResourceKey(.networkPolicy, name: "web")
  static let global = ResourceKey(.globalNetworkPolicy, name: "web")

  /// w1 and w3 ask, w2 is asked.
  private func world() async throws -> (FelixRig, RunningFelix, Workload, Workload, Workload) {
    let rig = try await FelixRig()
    let (w1, w2, w3) = (try await rig.workload(1), try await rig.workload(2), try await rig.workload(3))
    for workload in [w1, w3] { try await rig.record(workload) }
    let revision = try await rig.record(w2, labels: ["app": "web"])
    let felix = try await rig.felix()
    try await felix.until(revision)
    for workload in [w1, w2, w3] { try await felix.until(workload, is: "up") }
    return (rig, felix, w1, w2, w3)
  }
  private static func allow(_ name: String) -> JSONValue { ["action": "Allow", "source": ["selector": .string("name == '\(name)'")]] }

  @Test("A rule that cannot be enforced denies at its own place: what is allowed before it stays allowed")
  func rule() async throws {
    let (rig, felix, w1, w2, w3) = try await world()
    let unknown: [JSONValue] = [
      ["action": "Frobnicate"], ["action": "Allow", "source": ["selector": "name =="]], ["action": "Allow", "fromMars": true],
    ]
    for bad in unknown {
      let spec: JSONValue = ["selector": "app == 'web'", "ingress": .array([Self.allow("w1"), bad, Self.allow("w3")])]
      try await felix.until(try await rig.put(Self.policy, spec: spec))
      #expect(try await rig.ping(w1, w2), "\(bad)")
      #expect(try await !rig.ping(w3, w2), "\(bad)")
      #expect(await felix.status().finding(Self.policy) != nil, "\(bad)")
    }
    try await felix.until(try await rig.put(Self.policy, spec: ["selector": "app == 'web'", "ingress": .array([Self.allow("w3")])]))
    #expect(try await rig.ping(w3, w2))
    #expect(await felix.status().finding(Self.policy) == nil)
    try await felix.stop()
  }

  @Test("A policy whose new version cannot be read is enforced as it was, until it can be read again or is deleted")
  func lastGood() async throws {
    let (rig, felix, w1, w2, w3) = try await world()
    for key in [Self.policy, Self.global] {
      try await felix.until(try await rig.put(key, spec: ["selector": "app == 'web'", "ingress": .array([Self.allow("w1")])]))
      let selector: JSONValue = [
        "kind": .string(key.kind.rawValue), "metadata": ["name": "web", "namespace": "default"],
        "spec": ["selector": "app ==", "ingress": [["action": "Allow"]]],
      ]
      for text in [selector.text(), "{ this is no JSON", "[]"] {
        try await felix.until(try await rig.put(key, text: text))
        #expect(try await rig.ping(w1, w2), "\(key): \(text)")
        #expect(try await !rig.ping(w3, w2), "\(key): \(text)")
        #expect(await felix.status().finding(key)?.contains("the last readable version stays in force") == true, "\(key): \(text)")
      }
      try await felix.until(try await rig.put(key, spec: ["selector": "app == 'web'", "ingress": .array([Self.allow("w3")])]))
      #expect(try await !rig.ping(w1, w2))
      #expect(try await rig.ping(w3, w2))
      #expect(await felix.status().finding(key) == nil)
      try await rig.put(key, text: "no JSON")
      try await felix.until(try await rig.remove(key))
      #expect(try await rig.ping(w1, w2))
      #expect(await felix.status().finding(key) == nil)
    }
    try await felix.stop()
  }

  @Test("Never read: a namespaced policy denies in its namespace and no other, a global one only reports")
  func neverRead() async throws {
    let (rig, felix, w1, w2, _) = try await world()
    let selector = #"{"kind":"NetworkPolicy","metadata":{"name":"web","namespace":"default"},"spec":{"selector":"app =="}}"#
    for text in ["{ this is no JSON", selector] {
      try await felix.until(try await rig.put(Self.policy, text: text))
      #expect(try await !rig.ping(w1, w2), "\(text)")
      #expect(await felix.status().finding(Self.policy)?.contains("denies every endpoint of namespace default") == true, "\(text)")
      try await felix.until(try await rig.remove(Self.policy))
      #expect(try await rig.ping(w1, w2), "\(text)")
      let other = ResourceKey(.networkPolicy, namespace: "other", name: "web")
      try await felix.until(try await rig.put(other, text: text.replacing("default", with: "other")))
      #expect(try await rig.ping(w1, w2), "\(text)")
      try await felix.until(
        try await rig.put(Self.global, text: text.replacing(#""NetworkPolicy""#, with: #""GlobalNetworkPolicy""#)))
      #expect(try await rig.ping(w1, w2), "\(text)")
      #expect(await felix.status().finding(Self.global)?.contains("without effect") == true, "\(text)")
      try await rig.remove(other)
      try await felix.until(try await rig.remove(Self.global))
    }
    try await felix.stop()
  }

  @Test("An endpoint whose new record cannot be read keeps what it had")
  func endpoint() async throws {
    let (rig, felix, w1, w2, _) = try await world()
    try await felix.until(try await rig.put(w2.key, text: "no JSON"))
    #expect(await felix.status().finding(w2.key) != nil)
    #expect(try await rig.ping(w1, w2))
    try await felix.stop()
  }
}

@Suite("Memory of policies")
struct PolicyMemoryTests {
  let key = ResourceKey(.networkPolicy, namespace: "a", name: "security.web")
  private func denial(_ answer: PolicyMemory.Answer) -> PolicySpec? {
    if case .resource(_, let resource?)? = answer.input, case .networkPolicy(let spec) = resource.spec { spec } else { nil }
  }

  @Test("What stands in for an unread policy denies both directions, first in the tier of its name if there is such a tier")
  func substitute() {
    var memory = PolicyMemory()
    for (exists, tier) in [(false, "default"), (true, "security"), (false, "default")] {
      memory.note(tier: "security", exists: exists)
      let spec = denial(memory.unreadable(key, reason: "broken"))
      #expect(spec?.tier == tier)
      #expect(spec?.effectiveTypes == [.ingress, .egress])
      #expect(spec?.ingress.map(\.action) == [.deny] && spec?.egress.map(\.action) == [.deny])
      #expect(spec?.order ?? 0 < -1e300)
    }
  }

  @Test("An untracked policy that becomes unreadable stays as it was; one that always was is handed on, to be reported")
  func untracked() {
    var memory = PolicyMemory()
    var spec = PolicySpec()
    spec.doNotTrack = true
    let global = ResourceKey(.globalNetworkPolicy, name: "g")
    func read(_ selector: String) -> PolicyMemory.Answer {
      spec.selector = selector
      return memory.readable(global, Resource(Metadata(name: "g"), .globalNetworkPolicy(spec)))
    }
    let always = read("a ==")
    #expect(always.input != nil && always.finding == nil)
    _ = read("has(a)")
    let later = read("a ==")
    #expect(later.input == nil && later.finding?.contains("the last readable version stays in force") == true)
  }

  @Test("Deleted and made again unreadable, a policy has no last good version")
  func forgets() {
    var memory = PolicyMemory()
    let good = Resource(Metadata(name: key.name, namespace: "a"), .networkPolicy(PolicySpec()))
    _ = memory.readable(key, good)
    #expect(memory.unreadable(key, reason: "broken").input == nil)
    #expect(memory.readable(key, nil).input == .resource(key, nil))
    #expect(memory.unreadable(key, reason: "broken").input != nil)
  }
}

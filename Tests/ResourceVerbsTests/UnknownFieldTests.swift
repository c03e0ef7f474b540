import Documents
import JSON
import Patches
import ResourceVerbs
import Resources
import Testing

/// What another program, a newer Calico perhaps, has written at every level of an object.
@Suite("Fields that nobody here knows")
struct UnknownFieldTests {
  static let policy = ResourceKey(.networkPolicy, namespace: "shop", name: "web")
  static let stored = """
    {"apiVersion":"projectcalico.org/v3","kind":"NetworkPolicy","aboveAll":[1,{"x":2}],
     "metadata":{"name":"web","namespace":"shop","labels":{"team":"a"},"finalizers":["keep/me"],"inMetadata":"m"},
     "spec":{"tier":"default","order":5,"selector":"app == 'web'","types":["Ingress"],"inSpec":{"deep":[1,2]},
      "ingress":[{"action":"Allow","protocol":"TCP","inRule":true,"source":{"nets":["10.0.0.0/8"],"inEntity":"e"},"destination":{"ports":[80]}},
                 {"action":"Log","inLog":18446744073709551615}]},
     "status":{"conditions":[{"type":"Ready","inCondition":1}],"inStatus":1.5}}
    """
  static let places = [
    "aboveAll", "metadata.inMetadata", "metadata.finalizers", "spec.inSpec", "spec.ingress[0].inRule", "spec.ingress[0].source.inEntity",
    "spec.ingress[1].inLog", "status.conditions", "status.inStatus",
  ]

  private func bench() async throws -> Bench {
    let bench = Bench()
    try await bench.put(Self.policy, Self.stored)
    return bench
  }
  private func expectKept(_ bench: Bench, except gone: [String] = [], _ location: SourceLocation = #_sourceLocation) async throws {
    let before = try JSONValue(parsing: Self.stored)
    let after = try #require(try await bench.value(Self.policy))
    for place in Self.places where !gone.contains(place) {
      let steps = try #require(JSONPath(place).steps)
      #expect(after.value(at: steps) == before.value(at: steps), "\(place)", sourceLocation: location)
    }
  }

  static let applied =
    head + """
      kind: NetworkPolicy
      metadata: {name: web, namespace: shop, labels: {team: b}}
      spec:
        selector: app == 'web'
        order: 7
        ingress:
          - {action: Allow, protocol: TCP, source: {nets: [10.0.0.0/8, 192.168.0.0/16]}, destination: {ports: [80]}}
          - {action: Log}
      """

  @Test("stay when apply changes what stands beside them, in elements of lists too")
  func apply() async throws {
    let bench = try await bench()
    #expect(try await bench.apply(Self.applied).outcome == .updated)
    try await expectKept(bench)
    #expect(try await bench.value(Self.policy)?["spec"]?["order"] == 7)
  }

  @Test("stay when apply changes nothing: the stored octets are the same")
  func applyUnchanged() async throws {
    let bench = try await bench()
    let before = try await bench.store.get(Self.policy.path)
    let same =
      head + """
        kind: NetworkPolicy
        metadata: {name: web, namespace: shop, labels: {team: a}}
        spec: {tier: default, selector: app == 'web', order: 5, types: [Ingress], ingress: [
          {action: Allow, protocol: TCP, source: {nets: [10.0.0.0/8]}, destination: {ports: [80]}}, {action: Log}]}
        """
    let outcome = try await bench.apply(same).outcome
    let after = try await bench.store.get(Self.policy.path)
    // The only thing that a first write adds is a uid.
    #expect(outcome == .updated || after?.value == before?.value)
    try await expectKept(bench)
    #expect(try await bench.apply(same).outcome == .unchanged)
  }

  @Test("stay when a rule is put before theirs")
  func applyInserting() async throws {
    let bench = try await bench()
    try await bench.apply(
      head + """
        kind: NetworkPolicy
        metadata: {name: web, namespace: shop}
        spec: {selector: app == 'web', order: 5, ingress: [{action: Pass, protocol: UDP},
          {action: Allow, protocol: TCP, source: {nets: [10.0.0.0/8]}, destination: {ports: [80]}}]}
        """)
    let rules = try #require(try await bench.value(Self.policy)?["spec"]?["ingress"]?.array)
    #expect(rules[0]["inRule"] == nil && rules[1]["inRule"] == true && rules[1]["source"]?["inEntity"] == "e")
  }

  @Test("stay in a rule while what the new document leaves out of it goes")
  func applyNarrowing() async throws {
    let bench = try await bench()
    try await bench.apply(
      head + """
        kind: NetworkPolicy
        metadata: {name: web, namespace: shop}
        spec: {selector: app == 'web', order: 5, ingress: [{action: Deny, source: {nets: [10.0.0.0/8]}}, {action: Log}]}
        """)
    let rule = try #require(try await bench.value(Self.policy)?["spec"]?["ingress"]?.array?.first)
    #expect(rule["action"] == "Deny" && rule["protocol"] == nil && rule["destination"] == nil, "\(rule)")
    #expect(rule["inRule"] == true && rule["source"]?["inEntity"] == "e", "\(rule)")
  }

  @Test("stay through replace")
  func replace() async throws {
    let bench = try await bench()
    #expect(try await bench.writer.replace(try bench.one(Self.applied)).outcome == .updated)
    try await expectKept(bench)
  }

  @Test(
    "stay through a patch",
    arguments: [
      (PatchKind.merge, #"{"spec":{"order":9}}"#), (.strategic, #"{"spec":{"order":9}}"#),
      (.json, #"[{"op":"replace","path":"/spec/order","value":9}]"#),
    ])
  func patch(kind: PatchKind, text: String) async throws {
    let bench = try await bench()
    let patch = try DocumentPatch(kind, try JSONValue(parsing: text))
    #expect(try await bench.writer.patch(Self.policy, patch).outcome == .updated)
    try await expectKept(bench)
    #expect(try await bench.value(Self.policy)?["spec"]?["order"] == 9)
  }

  @Test("go when a patch takes them out by name, and only these")
  func patchedAway() async throws {
    let bench = try await bench()
    let patch = try DocumentPatch(
      .json, try JSONValue(parsing: #"[{"op":"remove","path":"/spec/ingress/0/inRule"},{"op":"remove","path":"/spec/inSpec"}]"#))
    _ = try await bench.writer.patch(Self.policy, patch)
    try await expectKept(bench, except: ["spec.ingress[0].inRule", "spec.inSpec"])
    #expect(try await bench.value(Self.policy)?["spec"]?["inSpec"] == nil)
    #expect(try await bench.value(Self.policy)?["spec"]?["ingress"]?.array?[0]["inRule"] == nil)
  }

  @Test("move with their rule when a patch moves it")
  func patchedMove() async throws {
    let bench = try await bench()
    let patch = try DocumentPatch(.json, try JSONValue(parsing: #"[{"op":"move","from":"/spec/ingress/0","path":"/spec/ingress/1"}]"#))
    _ = try await bench.writer.patch(Self.policy, patch)
    #expect(try await bench.value(Self.policy)?["spec"]?["ingress"]?.array?[1]["inRule"] == true)
  }

  @Test("stay when labels change")
  func label() async throws {
    let bench = try await bench()
    _ = try await bench.writer.label(Self.policy, LabelChange(set: ["team": "b", "new": "x"], overwrite: true))
    try await expectKept(bench)
    #expect(try await bench.value(Self.policy)?["metadata"]?["labels"] == ["team": "b", "new": "x"])
  }

  @Test("are not what create keeps besides the fields with a meaning here: those of Kubernetes and of no effect yet")
  func create() async throws {
    let bench = Bench()
    let text =
      head + """
        kind: NetworkPolicy
        metadata: {name: web, namespace: shop, finalizers: [keep/me], ownerReferences: [{apiVersion: v1, kind: X, name: x, uid: "1"}], generation: 7}
        spec: {selector: app == 'web', performanceHints: [AssumeNeededOnEveryNode], ingress: [{action: Allow, metadata: {annotations: {a: b}}}]}
        """
    let submission = try bench.one(text)
    _ = try await bench.writer.create(submission)
    let stored = try #require(try await bench.value(Self.policy))
    for place in [
      "metadata.finalizers", "metadata.ownerReferences", "metadata.generation", "spec.performanceHints", "spec.ingress[0].metadata",
    ] {
      let steps = try #require(JSONPath(place).steps)
      #expect(stored.value(at: steps) == submission.document.value(at: steps), "\(place)")
      #expect(stored.value(at: steps) != nil)
    }
  }

  @Test("may not come in: not by create, not by apply, not by a patch")
  func strange() async throws {
    let bench = try await bench()
    let text = head + "kind: Tier\nmetadata: {name: t}\nspec: {ordre: 1}\n"
    await #expect(throws: WriteFailure.self) { try await bench.writer.create(try bench.one(text)) }
    await #expect(throws: WriteFailure.self) { try await bench.apply(text) }
    let failure = await #expect(throws: WriteFailure.self) {
      try await bench.writer.patch(Self.policy, try DocumentPatch(.merge, ["spec": ["ordre": 1]]))
    }
    #expect(failure?.description.contains("did you mean order?") == true, "\(failure.map { "\($0)" } ?? "")")
    try await expectKept(bench)
  }

  @Test("pass in a document that is the stored object's copy, so that what get prints can be applied")
  func copy() async throws {
    let bench = try await bench()
    let shown = try #require(try await bench.writer.read(Self.policy)?.document)
    let copy = try bench.one(shown.yamlText)
    #expect(copy.unknown.count >= 4)
    _ = try await bench.writer.apply(copy)
    try await expectKept(bench)
    var changed = shown
    changed["spec"]?["inSpec"] = "otherwise"
    await #expect(throws: WriteFailure.self) { try await bench.writer.replace(try bench.one(changed.yamlText)) }
  }
}

extension UnknownFieldTests {
  @Test("stay through an edit, and go when the person takes them out")
  func edit() async throws {
    let bench = Bench()
    try await bench.put(Self.policy, Self.stored)
    var session = try await EditSession([Self.policy], bench.writer)
    let body = session.body.replacing("order: 5", with: "order: 6").replacing("  inStatus: 1.5\n", with: "")
    guard case .done = await session.submit(body) else { return #expect(Bool(false), "unknown fields that were there before pass") }
    let after = try #require(try await bench.value(Self.policy))
    let before = try JSONValue(parsing: Self.stored)
    for place in Self.places where place != "status.inStatus" {
      let steps = try #require(JSONPath(place).steps)
      #expect(after.value(at: steps) == before.value(at: steps), "\(place)")
    }
    #expect(after["status"]?["inStatus"] == nil && after["spec"]?["order"] == 6)
  }
}

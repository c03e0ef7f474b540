import Datastore
import Documents
import JSON
import Patches
import ResourceVerbs
import Resources
import Synchronization
import Testing

@Suite("Verbs")
struct WriterTests {
  let bench = Bench()
  static let tier = ResourceKey(.tier, name: "early")
  static let text = head + "kind: Tier\nmetadata: {name: early}\nspec: {order: 10}\n"

  private func failure(_ body: () async throws -> ObjectReport) async -> WriteFailure? {
    do { _ = try await body() } catch { return WriteFailure(error, of: Self.tier) }
    return nil
  }

  @Test("create refuses what exists, or leaves it alone if told so")
  func create() async throws {
    let tier = try bench.one(Self.text)
    #expect(try await bench.writer.create(tier).outcome == .created)
    #expect(await failure { try await bench.writer.create(tier) }?.reason == .alreadyExists)
    let other = try bench.one(Self.text.replacing("10", with: "20"))
    #expect(try await bench.writer.create(other, skipExists: true).outcome == .existed)
    #expect(try await bench.value(Self.tier)?["spec"]?["order"] == 10)
  }

  @Test("replace refuses what does not exist, or another revision than the document's")
  func replace() async throws {
    let tier = try bench.one(Self.text)
    #expect(await failure { try await bench.writer.replace(tier) }?.reason == .doesNotExist)
    #expect(try await bench.writer.replace(tier, skipNotExists: true).outcome == .absent)
    let created = try await bench.writer.create(tier)
    #expect(try await bench.writer.replace(tier).outcome == .unchanged)
    var stale = tier
    stale.resource.metadata.resourceVersion = created.object?["metadata"]?["resourceVersion"]?.string
    try await bench.apply(Self.text.replacing("10", with: "20"))
    #expect(await failure { try await bench.writer.replace(stale) }?.reason == .conflict)
    #expect(try await bench.writer.replace(tier).outcome == .updated)
  }

  @Test("delete of what is not there fails, or is success if told so")
  func delete() async throws {
    #expect(await failure { try await bench.writer.delete(Self.tier) }?.reason == .doesNotExist)
    #expect(try await bench.writer.delete(Self.tier, skipNotExists: true).outcome == .absent)
    try await bench.apply(Self.text)
    #expect(try await bench.writer.delete(Self.tier).outcome == .deleted)
    #expect(try await bench.value(Self.tier) == nil)
  }

  @Test("A patch is validated strictly: nothing invalid is written, the identity does not change")
  func patchIsValidated() async throws {
    try await bench.apply(Self.text)
    for (text, words) in [
      (#"{"spec":{"order":"ten"}}"#, "is not a number"), (#"{"metadata":{"name":"late"}}"#, "cannot change"),
      (#"{"kind":"IPPool"}"#, "cannot change"),
      (#"{"metadata":{"labels":{"a b":"c"}}}"#, "is not a label"), (#"{"metadata":{"resourceVersion":"999"}}"#, "changed by somebody else"),
    ] {
      let patch = try DocumentPatch(.merge, try JSONValue(parsing: text))
      let failure = await failure { try await bench.writer.patch(Self.tier, patch) }
      #expect(failure?.description.contains(words) == true, "\(text): \(failure.map { "\($0)" } ?? "no failure")")
    }
    #expect(try await bench.value(Self.tier)?["spec"]?["order"] == 10)
    #expect(try await bench.writer.patch(Self.tier, try DocumentPatch(.merge, ["spec": ["order": 10]])).outcome == .unchanged)
  }

  @Test("A change that somebody else was faster than is made again to what is stored then: twenty at once lose nothing")
  func noLostUpdate() async throws {
    try await bench.apply(Self.text)
    let writer = bench.writer
    await withTaskGroup(of: Void.self) { group in
      for index in 0..<20 {
        group.addTask {
          for turn in 0..<5 { _ = try? await writer.label(Self.tier, LabelChange(set: ["l\(index)-\(turn)": "x"])) }
        }
      }
    }
    #expect(try await bench.value(Self.tier)?["metadata"]?["labels"]?.object?.members.count == 100)
  }

  @Test("A label with another value stays without --overwrite; a label that is not there may be removed")
  func labels() async throws {
    try await bench.apply(Self.text)
    _ = try await bench.writer.label(Self.tier, try LabelChange(words: ["a=1", "b="]))
    #expect(
      await failure { try await bench.writer.label(Self.tier, try LabelChange(words: ["a=2"])) }?.description.contains("--overwrite")
        == true)
    #expect(try await bench.writer.label(Self.tier, try LabelChange(words: ["a=1"])).outcome == .unchanged)
    _ = try await bench.writer.label(Self.tier, try LabelChange(words: ["a=2", "b-", "c-"], overwrite: true))
    #expect(try await bench.value(Self.tier)?["metadata"]?["labels"] == ["a": "2"])
    _ = try await bench.writer.label(Self.tier, try LabelChange(words: ["a"], removing: true))
    #expect(try await bench.value(Self.tier)?["metadata"]?["labels"] == nil)
  }

  @Test("Words that are no labels are refused", arguments: [["a"], ["=x"], ["a=b c"], ["a=1", "a=2"], ["a=1", "a-"], ["a b=1"]])
  func wordsThatAreNoLabels(words: [String]) { #expect(throws: WriteFailure.self) { try LabelChange(words: words) } }

  @Test("A datastore that goes away ends the batch: what is left was not tried, and the exit code says so")
  func unreachable() async throws {
    let submissions = try bench.read((1...4).map { Self.text.replacing("early", with: "t\($0)") }.joined(separator: "---\n"))
    let writer = bench.writer
    var report = WriteReport(verb: "apply")
    let store = bench.store
    report.objects = await WriteBatch.run(
      submissions.items, key: \.resource.key, tell: { _, left in if left == 2 { store.setOutage("gone") } }
    ) {
      try await writer.apply($0)
    }
    #expect(report.objects.map(\.outcome) == [.created, .created, .failed, .notTried])
    #expect(report.exitStatus == .unreachable)
  }

  @Test("One object that fails does not stop the others, and the exit code says so")
  func partialFailure() async throws {
    let submissions = try bench.read(
      head + "kind: GlobalNetworkPolicy\nmetadata: {name: p}\nspec: {tier: missing}\n---\n" + Self.text)
    let writer = bench.writer
    var report = WriteReport(verb: "apply")
    report.objects = await WriteBatch.run(submissions.items, key: \.resource.key) { try await writer.apply($0) }
    #expect(report.objects.map(\.outcome) == [.failed, .created])
    #expect(report.exitStatus == .failed)
    #expect(report.json["objects"]?.array?[0]["error"]?["reason"] == "refused")
  }

  @Test("A rehearsal sees the objects that it would have written before: a policy in a tier of the same files")
  func rehearsal() async throws {
    let submissions = try bench.read(head + "kind: GlobalNetworkPolicy\nmetadata: {name: p}\nspec: {tier: early}\n---\n" + Self.text)
    let writer = ResourceWriter(Rehearsal(of: bench.store))
    let reports = await WriteBatch.run(WriteOrder.writing(submissions.items, \.resource.kind), key: \.resource.key) {
      try await writer.apply($0)
    }
    #expect(reports.map(\.outcome) == [.created, .created])
    #expect(try await bench.store.list(prefix: "/").items.isEmpty)
  }

  @Test("diff says created, changed with the lines that change, unchanged; and writes nothing")
  func difference() async throws {
    try await bench.apply(Self.text)
    let before = try await bench.store.list(prefix: "/").revision
    let writer = ResourceWriter(Rehearsal(of: bench.store))
    #expect(try await writer.difference(applying: try bench.one(Self.text)).state == .unchanged)
    let changed = try await writer.difference(applying: try bench.one(Self.text.replacing("10", with: "20")))
    #expect(changed.state == .changed)
    #expect(changed.lines.filter { $0.mark == .removed || $0.mark == .added }.map(\.text) == ["-  order: 10", "+  order: 20"])
    let created = try await writer.difference(applying: try bench.one(Self.text.replacing("early", with: "late")))
    #expect(created.state == .created && created.lines.first?.text == "--- /dev/null")
    #expect(try await bench.store.list(prefix: "/").revision == before)
  }
}

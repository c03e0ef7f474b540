import Documents
import JSON
import ResourceVerbs
import Resources
import Testing

@Suite("Editing")
struct EditTests {
  let bench = Bench()
  static let tier = ResourceKey(.tier, name: "early")
  static let text = head + "kind: Tier\nmetadata: {name: early, labels: {a: x}}\nspec: {order: 10}\n"

  private func session() async throws -> EditSession {
    try await bench.apply(Self.text)
    return try await EditSession([Self.tier], bench.writer)
  }
  private func order() async throws -> JSONValue? { try await bench.value(Self.tier)?["spec"]?["order"] }

  @Test("The text has the objects, without the revision; comments at the top are no part of it")
  func text() async throws {
    let session = try await session()
    #expect(session.body.contains("order: 10") && !session.body.contains("resourceVersion"))
    let shown = EditSession.text(session.body, errors: ["one", "two\nlines"])
    #expect(shown.hasPrefix("# ") && shown.contains("#   one\n#   two\n#   lines\n"))
    #expect(EditSession.body(of: shown) == session.body)
  }

  @Test("What comes back is written; the same text changes nothing")
  func written() async throws {
    var session = try await session()
    guard case .done(let reports) = await session.submit(session.body.replacing("order: 10", with: "order: 11")) else {
      return #expect(Bool(false), "it is valid")
    }
    #expect(reports.map(\.outcome) == [.updated])
    #expect(try await order() == 11)
    guard case .done(let again) = await session.submit(session.body) else { return #expect(Bool(false), "it is valid") }
    #expect(again.map(\.outcome) == [.unchanged])
  }

  @Test(
    "What is wrong is told with its place, and nothing is written",
    arguments: [
      ("order: 10", "order: ten", "is not a number"), ("order: 10", "ordre: 10", "did you mean order?"),
      ("name: early", "name: late", "none of the objects"),
      ("order: 10", "order: [", "the text:"), ("kind: Tier", "kind: Node", "none of the objects"),
    ])
  func wrong(old: String, new: String, words: String) async throws {
    var session = try await session()
    guard case .again(let errors) = await session.submit(session.body.replacing(old, with: new)) else {
      return #expect(Bool(false), "it is invalid")
    }
    #expect(errors.joined().contains(words) && errors.joined().contains("the text:"), "\(errors)")
    #expect(try await order() == 10)
  }

  @Test("What others change meanwhile in other fields stays")
  func otherFields() async throws {
    var session = try await session()
    _ = try await bench.writer.label(Self.tier, LabelChange(set: ["b": "theirs"]))
    guard case .done = await session.submit(session.body.replacing("order: 10", with: "order: 11")) else {
      return #expect(Bool(false), "the changes do not meet")
    }
    let stored = try await bench.value(Self.tier)
    #expect(stored?["spec"]?["order"] == 11 && stored?["metadata"]?["labels"] == ["a": "x", "b": "theirs"])
  }

  @Test("A clash is shown, with their changes below the person's own; saved once more it is written")
  func clash() async throws {
    var session = try await session()
    try await bench.apply(Self.text.replacing("10", with: "99").replacing("a: x", with: "a: z"))
    guard case .merged(let text, let errors) = await session.submit(session.body.replacing("order: 10", with: "order: 11")) else {
      return #expect(Bool(false), "both changed spec.order")
    }
    #expect(errors.joined().contains("spec.order") && errors.joined().contains("+  order: 99"), "\(errors)")
    #expect(try await order() == 99)
    #expect(text.contains("order: 11") && text.contains("a: z"))
    guard case .done = await session.submit(text) else { return #expect(Bool(false), "nobody changed it since") }
    #expect(try await order() == 11)
  }

  @Test("Several objects are one text; one that is taken out of it stays as it is")
  func several() async throws {
    try await bench.apply(Self.text.replacing("early", with: "late"))
    try await bench.apply(Self.text)
    var session = try await EditSession([Self.tier, ResourceKey(.tier, name: "late")], bench.writer)
    #expect(session.body.split(separator: "---\n").count == 2)
    let first = String(session.body.split(separator: "---\n")[0]).replacing("order: 10", with: "order: 12")
    guard case .done(let reports) = await session.submit(first) else { return #expect(Bool(false), "it is valid") }
    #expect(reports.count == 1)
    #expect(try await bench.value(ResourceKey(.tier, name: "late"))?["spec"]?["order"] == 10)
  }

  @Test("A datastore that is gone is told as such")
  func gone() async throws {
    var session = try await session()
    bench.store.setOutage("gone")
    guard case .unreachable = await session.submit(session.body.replacing("order: 10", with: "order: 11")) else {
      return #expect(Bool(false), "the datastore is gone")
    }
  }
}

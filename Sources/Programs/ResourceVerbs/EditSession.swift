import Datastore
/// `margay edit` without the editor: the text that a person gets, and what becomes of the text that comes back.
///
/// Nothing of a person's work is lost: whoever runs a session keeps the last text in a file until it is `done`. What somebody else changed
/// meanwhile is kept as well, if it is in other fields; else the person decides.
public import Documents
public import JSON
import Patches
public import Resources

public struct EditSession: Sendable {
  /// What the text was made of, and what a write replaces.
  private struct Item {
    let key: ResourceKey
    var document: JSONValue
    var revision: Revision
  }
  private let writer: ResourceWriter
  private var items: [Item]

  public enum Answer: Sendable {
    /// All of it is written, or there was nothing to write.
    case done([ObjectReport])
    /// These are to be told above the text, for another round.
    case again([String])
    /// Others changed the same fields. The text is now theirs with the person's changes on top; saved as it is, it is written.
    case merged(String, [String])
    /// The datastore is gone; another round would not help.
    case unreachable(WriteFailure)
  }

  public init(_ keys: [ResourceKey], _ writer: ResourceWriter) async throws {
    self.writer = writer
    items = []
    for key in keys {
      guard let (document, revision) = try await writer.read(key) else { throw ResourceStoreError.doesNotExist(key) }
      items.append(Item(key: key, document: Self.withoutRevision(document), revision: revision))
    }
  }

  private static func withoutRevision(_ document: JSONValue) -> JSONValue {
    var document = document
    document["metadata"]?["resourceVersion"] = nil
    return document
  }

  // MARK: The text

  /// The objects as YAML.
  public var body: String { Self.body(items.map(\.document)) }
  private static func body(_ documents: [JSONValue]) -> String { documents.map(\.yamlText).joined(separator: "---\n") }

  /// What the editor shows: a few words, what is wrong, the text.
  public static func text(_ body: String, errors: [String] = []) -> String {
    var lines = ["Edit the text below; these lines at the top are not part of it. Save nothing, or an empty text, to change nothing."]
    if !errors.isEmpty {
      lines += ["", "It could not be written as it is:"]
      lines += errors.flatMap { $0.split(separator: "\n", omittingEmptySubsequences: false) }.map { "  \($0)" }
    }
    return lines.map { $0.isEmpty ? "#\n" : "# \($0)\n" }.joined() + body
  }

  /// The text without the comments at its top.
  public static func body(of text: String) -> String {
    var rest = text[...]
    while rest.first == "#" { rest = rest.drop { $0 != "\n" }.dropFirst() }
    return String(rest)
  }

  // MARK: What comes back

  /// Judges all of it, then writes object by object. Objects that are not in the text any more stay as they are.
  public mutating func submit(_ body: String) async -> Answer {
    let documents: [PositionedDocument]
    do throws(DocumentErrors) {
      documents = try DocumentReader.read(bytes: Array(body.utf8), file: "the text")
    } catch {
      return .again(error.errors.map(\.description))
    }
    var errors: [String] = []
    var changes: [(index: Int, document: JSONValue)] = []
    for document in documents {
      do {
        let index = try item(of: document)
        var value = document.value
        value["metadata"]?["resourceVersion"] = nil
        if changes.contains(where: { $0.index == index }) { throw WriteFailure(.invalid, "\(items[index].key) is there twice") }
        _ = try writer.review(value, of: items[index].key, before: items[index].document, in: document)
        changes.append((index, value))
      } catch {
        errors += (error as? WriteFailure).map { $0.findings.isEmpty ? [$0.description] : $0.findings.map(\.description) } ?? ["\(error)"]
      }
    }
    guard errors.isEmpty else { return .again(errors) }
    var reports: [ObjectReport] = []
    var merged: [Int: JSONValue] = [:]
    for (index, document) in changes {
      do {
        reports.append(try await write(document, index))
      } catch let clash as Clash {
        errors.append(clash.description)
        merged[index] = clash.document
      } catch {
        let failure = WriteFailure(error, of: items[index].key)
        if failure.isUnreachable { return .unreachable(failure) }
        errors.append(failure.description)
      }
    }
    if errors.isEmpty { return .done(reports) }
    if merged.isEmpty { return .again(errors) }
    let mine = Dictionary(changes.map { ($0.index, $0.document) }, uniquingKeysWith: { first, _ in first })
    return .merged(Self.body(items.indices.map { merged[$0] ?? mine[$0] ?? items[$0].document }), errors)
  }

  private struct Clash: Error, CustomStringConvertible {
    let description: String
    let document: JSONValue
  }

  private func item(of document: PositionedDocument) throws -> Int {
    let named = items.indices.first { index in
      let key = items[index].key
      return document.value["kind"]?.string == key.kind.rawValue && document.value["metadata"]?["name"]?.string == key.name
        && (key.namespace == nil || document.value["metadata"]?["namespace"]?.string == key.namespace)
    }
    guard let named else {
      throw WriteFailure(
        [
          DocumentError(
            file: document.file, position: document.position(of: document.root), path: document.root,
            rule: "\(document.title) is none of the objects that were opened (\(items.map(\.key.description).joined(separator: ", ")))",
            fix: "kind, name and namespace cannot change; use create for another object")
        ], of: items[0].key)
    }
    return named
  }

  /// By compare-and-swap over what the person saw. If others were faster, their changes stay where they are in other fields.
  private mutating func write(_ edited: JSONValue, _ index: Int) async throws -> ObjectReport {
    var document = edited
    let key = items[index].key
    for _ in 0..<ResourceWriter.attempts {
      if document == items[index].document { return ObjectReport(key, .unchanged, object: document) }
      let resource = try writer.review(document, of: key, before: items[index].document)
      do throws(ResourceStoreError) {
        let (stored, outcome) = try await writer.store.rewrite(resource, document: document, over: items[index].revision)
        items[index].document = Self.withoutRevision(stored.document)
        items[index].revision = stored.revision
        return ObjectReport(key, Outcome(outcome), object: stored.document)
      } catch {
        guard case .conflict = error else { throw error }
      }
      guard let (read, revision) = try await writer.read(key) else {
        throw WriteFailure(.doesNotExist, "\(key) was deleted by somebody else meanwhile; save the text elsewhere and create it anew")
      }
      let current = Self.withoutRevision(read)
      let mine = MergePatch.difference(from: items[index].document, to: document)
      let theirs = MergePatch.difference(from: items[index].document, to: current)
      let both = MergePatch.conflicts(mine, theirs)
      let change = LineDifference(from: items[index].document.yamlText, to: current.yamlText)
      (items[index].document, items[index].revision) = (current, revision)
      document = MergePatch.apply(mine, to: current)
      if !both.isEmpty {
        throw Clash(
          description: """
            \(key) was changed by somebody else meanwhile, at \(both.map { $0.joined(separator: ".") }.joined(separator: ", ")) too. \
            The text below has their changes with yours on top: save it to write it, or change it first. They changed:
            \(change.unified(from: "opened", to: "stored").map(\.text).joined(separator: "\n"))
            """, document: document)
      }
    }
    throw ResourceStoreError.conflict(key, base: nil, present: nil)
  }
}

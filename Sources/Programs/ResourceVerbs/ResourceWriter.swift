/// The verbs that write, one object at a time: create, apply, replace, change (patch, label, edit), delete.
///
/// Whoever changes an object in place (`change`) keeps what nobody here knows of it and may take it out by name; whoever writes a document
/// of their own (create, apply, replace) may not bring unknown fields in, but a document that has just those of the stored object is its
/// copy, and passes.
import Addresses
public import Datastore
public import Documents
public import JSON
import NodeProgram
public import OutputForms
public import Patches
public import Resources

public struct ResourceWriter: Sendable {
  public let store: ResourceStore
  /// A change that others were faster than is tried again so often.
  static let attempts = 100

  public init(_ datastore: any Datastore) { store = ResourceStore(datastore) }

  // MARK: Whole documents

  public func create(_ submission: Submission, skipExists: Bool = false) async throws -> ObjectReport {
    let key = submission.resource.key
    if !submission.unknown.isEmpty { throw WriteFailure(submission.unknown, of: key) }
    do throws(ResourceStoreError) {
      let stored = try await store.create(submission.resource, document: submission.document)
      return try await warned(ObjectReport(key, .created, object: stored.document), stored.resource)
    } catch {
      if case .alreadyExists = error, skipExists { return ObjectReport(key, .existed) }
      throw WriteFailure(error)
    }
  }

  public func apply(_ submission: Submission) async throws -> ObjectReport {
    try await checkUnknown(submission)
    let (stored, outcome) = try await store.apply(submission.resource, document: submission.document)
    return try await warned(ObjectReport(stored.resource.key, Outcome(outcome), object: stored.document), stored.resource)
  }

  public func replace(_ submission: Submission, skipNotExists: Bool = false) async throws -> ObjectReport {
    try await checkUnknown(submission)
    let key = submission.resource.key
    guard let before = try await read(key) else {
      if skipNotExists { return ObjectReport(key, .absent) }
      throw ResourceStoreError.doesNotExist(key)
    }
    let stored = try await store.update(submission.resource, document: submission.document)
    let outcome: Outcome = stored.revision == before.revision ? .unchanged : .updated
    return try await warned(ObjectReport(key, outcome, object: stored.document), stored.resource)
  }

  /// Names that lead nowhere so far are no mistakes: what they name may come later. They are worth a word all the same.
  private func warned(_ report: ObjectReport, _ resource: Resource) async throws(ResourceStoreError) -> ObjectReport {
    if report.outcome == .unchanged { return report }
    var report = report
    report.warnings = try await store.warnings(for: resource)
    return report
  }

  /// Unknown fields are accepted where the stored object has them, with the same value.
  public func checkUnknown(_ submission: Submission) async throws {
    guard !submission.unknown.isEmpty else { return }
    let stored = try await read(submission.resource.key)?.document
    let strange = submission.unknown.filter { error in
      let steps = error.steps(below: submission.root)
      return stored?.value(at: steps) != submission.document.value(at: steps)
    }
    if !strange.isEmpty { throw WriteFailure(strange, of: submission.resource.key) }
  }

  // MARK: Changes in place

  /// The stored document whatever is in it, with the name and the revision that the datastore gives it.
  public func read(_ key: ResourceKey) async throws -> (document: JSONValue, revision: Revision)? {
    guard let item = try await store.datastore.get(key.path) else { return nil }
    guard var document = (try? JSONValue(parsing: item.value)).map({ StoredForm.document($0, key) }), document.object != nil else {
      throw WriteFailure(.unreadable, "\(key) is stored as something that is no JSON object; delete it and create it anew")
    }
    if document["kind"] == nil { document["kind"] = .string(key.kind.rawValue) }
    if document["metadata"] == nil { document["metadata"] = .object(JSONObject()) }
    document["metadata"]?["name"] = .string(key.name)
    if let namespace = key.namespace { document["metadata"]?["namespace"] = .string(namespace) }
    document["metadata"]?["resourceVersion"] = .string("\(item.modRevision)")
    return (document, item.modRevision)
  }

  /// Reads, changes, validates strictly and writes if nobody was faster; else again with what is stored then.
  public func change(_ key: ResourceKey, _ body: (JSONValue) throws -> JSONValue) async throws -> ObjectReport {
    for _ in 0..<Self.attempts {
      guard let (before, revision) = try await read(key) else { throw ResourceStoreError.doesNotExist(key) }
      let after = try body(before)
      if after == before { return ObjectReport(key, .unchanged, object: before) }
      // A revision in the change says which state it was made for.
      if let wanted = after["metadata"]?["resourceVersion"]?.string, !wanted.isEmpty, wanted != "\(revision)" {
        throw ResourceStoreError.conflict(key, base: wanted, present: revision)
      }
      let resource = try review(after, of: key, before: before)
      do throws(ResourceStoreError) {
        let (stored, outcome) = try await store.rewrite(resource, document: after, over: revision)
        return try await warned(ObjectReport(key, Outcome(outcome), object: stored.document), stored.resource)
      } catch {
        guard case .conflict = error else { throw error }
      }
    }
    throw ResourceStoreError.conflict(key, base: nil, present: nil)
  }

  /// The object that a changed document gives; unknown fields that were there before may stay. `source` says where in a text it stands.
  func review(
    _ document: JSONValue, of key: ResourceKey, before: JSONValue, in source: PositionedDocument? = nil
  ) throws -> Resource {
    for (path, value) in [
      ("kind", JSONValue.string(key.kind.rawValue)), ("metadata.name", .string(key.name)),
      ("metadata.namespace", key.namespace.map { .string($0) } ?? .null),
    ] {
      let now = document.value(at: JSONPath(path).steps ?? []) ?? .null
      if !now.means(value), !(path == "metadata.namespace" && now.isNull) {
        throw WriteFailure(
          [DocumentError(path: JSONPath(path), value: now, rule: "cannot change", fix: "delete \(key) and create the other object")],
          of: key)
      }
    }
    let positioned = PositionedDocument(
      file: source?.file ?? "", value: document, root: source?.root ?? JSONPath(), positions: source?.positions ?? JSONPositions())
    let review = Review(of: positioned, namespace: key.namespace ?? "default")
    var errors = review.errors
    if review.resource != nil {
      errors = review.unknown.filter { error in
        let steps = error.steps(below: positioned.root)
        return before.value(at: steps) == nil && !Self.holds(before, steps, document.value(at: steps))
      }
    }
    guard let resource = review.resource, errors.isEmpty else {
      // What comes from no text has no place in one.
      if source == nil { errors = errors.map { DocumentError(path: $0.path, value: $0.value, rule: $0.rule, fix: $0.fix) } }
      throw WriteFailure(errors, of: key)
    }
    return resource
  }

  /// Whether the unknown field was in another element of the same list: elements may move.
  private static func holds(_ before: JSONValue, _ steps: [JSONPath.Step], _ value: JSONValue?) -> Bool {
    func search(_ value: JSONValue, _ steps: ArraySlice<JSONPath.Step>) -> [JSONValue] {
      guard let step = steps.first else { return [value] }
      switch step {
      case .member(let name): return value[name].map { search($0, steps.dropFirst()) } ?? []
      case .element: return (value.array ?? []).flatMap { search($0, steps.dropFirst()) }
      }
    }
    guard let value else { return false }
    return search(before, steps[...]).contains(value)
  }

  public func patch(_ key: ResourceKey, _ patch: DocumentPatch) async throws -> ObjectReport {
    try await change(key) { try patch.apply(to: $0) }
  }

  public func label(_ key: ResourceKey, _ change: LabelChange) async throws -> ObjectReport {
    try await self.change(key) { try change.apply(to: $0, of: key) }
  }

  // MARK: Selections

  /// Everything of a kind, or what its labels pick. What cannot be read has no labels, but can be deleted.
  public func keys(_ kind: Kind, namespace: String?, labels: LabelFilter?) async throws -> [ResourceKey] {
    let (items, unreadable, _) = try await store.list(kind, namespace: kind.isNamespaced ? namespace : nil)
    guard let labels else { return (items.map(\.resource.key) + unreadable.map(\.key)).sorted() }
    return items.filter { labels.matches($0.resource.metadata.labels) }.map(\.resource.key)
  }

  // MARK: Deleting

  /// - Parameter force: a Node although it says that it is alive, a pool although its addresses are in use.
  public func delete(_ key: ResourceKey, skipNotExists: Bool = false, force: Bool = false) async throws -> ObjectReport {
    do {
      switch key.kind {
      case .node: return try await delete(node: key, skipNotExists, force)
      default:
        try await store.delete(key, force: force)
        return ObjectReport(key, .deleted)
      }
    } catch ResourceStoreError.doesNotExist where skipNotExists {
      return ObjectReport(key, .absent)
    }
  }

  private func delete(node key: ResourceKey, _ skip: Bool, _ force: Bool) async throws -> ObjectReport {
    let removal = NodeRemoval(name: key.name)
    if !force, let time = try await removal.signOfLife(store.datastore) {
      throw WriteFailure(
        .refused,
        """
        \(key): its felix is alive or was so less than 90 s ago (its last word: \(time)). Stop `margay node` there first, or repeat with --force \
        if the host is lost
        """)
    }
    var lines: [String] = []
    do {
      try await removal.run(store.datastore) { lines.append($0) }
    } catch let problem as NodeRemoval.Problem {
      if skip { return ObjectReport(key, .absent) }
      throw WriteFailure(.doesNotExist, "\(problem)")
    } catch {
      var failure = WriteFailure(error, of: key)
      failure.description = "\(key): not everything of it is deleted, repeat the command: \(error)"
      if !lines.isEmpty { failure.description += lines.map { "\n  \($0)" }.joined() }
      throw failure
    }
    return ObjectReport(key, .deleted, details: lines.filter { $0 != "\(key) deleted" })
  }
}

extension Outcome {
  init(_ outcome: ResourceStore.WriteOutcome) {
    self =
      switch outcome {
      case .created: .created
      case .updated: .updated
      case .unchanged: .unchanged
      }
  }
}

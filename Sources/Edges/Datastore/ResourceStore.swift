/// The typed client: API objects over any datastore, with optimistic concurrency and the rules that need a look at other objects.
///
/// Writing is strict (the caller validated the document with `ResourceCodec.decodeStrict`); reading is lenient. A write keeps every field
/// of the stored document that this program does not understand.
import Documents
import Addresses
public import JSON
public import Resources
import Names

/// An object as it is stored.
public struct StoredResource: Hashable, Sendable {
  public var resource: Resource
  /// The whole document, unknown fields included; `metadata.resourceVersion` filled from the revision.
  public var document: JSONValue
  public var revision: Revision
  public init(resource: Resource, document: JSONValue, revision: Revision) {
    self.resource = resource
    self.document = document
    self.revision = revision
  }
}

public struct ResourceStore: Sendable {
  public let datastore: any Datastore
  public init(_ datastore: any Datastore) { self.datastore = datastore }

  static let attempts = 100

  // MARK: Reading

  public func get(_ key: ResourceKey) async throws(ResourceStoreError) -> StoredResource? {
    guard let item = try await fetch(key.path) else { return key == Self.builtInProfile.resource.key ? Self.builtInProfile : nil }
    return try Self.decode(item, key)
  }

  /// In order of keys. Values that cannot be read are left out and told in `unreadable`.
  public func list(
    _ kind: Kind, namespace: String? = nil
  ) async throws(ResourceStoreError) -> (items: [StoredResource], unreadable: [(key: ResourceKey, reason: String)], revision: Revision) {
    let items: [KeyValue]
    let revision: Revision
    do throws(DatastoreError) {
      (items, revision) = try await datastore.list(prefix: ResourceKey.prefix(of: kind, namespace: namespace))
    } catch {
      throw .datastore(error)
    }
    var resources: [StoredResource] = []
    var unreadable: [(key: ResourceKey, reason: String)] = []
    for item in items {
      guard let key = ResourceKey(path: item.key) else { continue }
      do throws(ResourceStoreError) {
        resources.append(try Self.decode(item, key))
      } catch {
        unreadable.append((key, error.description))
      }
    }
    if kind == .profile, !items.contains(where: { $0.key == Self.builtInProfile.resource.key.path }) {
      let place = resources.firstIndex { Self.builtInProfile.resource.key < $0.resource.key } ?? resources.endIndex
      resources.insert(Self.builtInProfile, at: place)
    }
    return (resources, unreadable, revision)
  }

  static func decode(_ item: KeyValue, _ key: ResourceKey) throws(ResourceStoreError) -> StoredResource {
    do {
      var document = StoredForm.document(try JSONValue(parsing: item.value), key)
      // The name and namespace of a key are the truth; the revision in the value, if any, is of the time before it was written.
      if document["metadata"] == nil { document["metadata"] = .object(JSONObject()) }
      document["metadata"]?["resourceVersion"] = .string("\(item.modRevision)")
      var resource = try ResourceCodec.decodeLenient(kind: key.kind, value: document)
      resource.metadata.name = key.name
      resource.metadata.namespace = key.namespace
      resource.metadata.resourceVersion = "\(item.modRevision)"
      return StoredResource(resource: resource, document: document, revision: item.modRevision)
    } catch {
      throw .unreadable(key, reason: "\(error)")
    }
  }

  func fetch(_ path: String) async throws(ResourceStoreError) -> KeyValue? {
    do throws(DatastoreError) { return try await datastore.get(path) } catch { throw .datastore(error) }
  }
  func fetchAll(_ prefix: String) async throws(ResourceStoreError) -> [KeyValue] {
    do throws(DatastoreError) { return try await datastore.list(prefix: prefix).items } catch { throw .datastore(error) }
  }

  func transact(
    if comparisons: [Comparison], then operations: [DatastoreOperation]
  ) async throws(ResourceStoreError) -> TransactionResult {
    do throws(DatastoreError) {
      return try await datastore.transact(if: comparisons, then: operations)
    } catch {
      throw .datastore(error)
    }
  }

  /// The object as it is stored, if it is the one that is meant.
  func present(_ key: ResourceKey, _ revision: Revision?, _ uid: String?) async throws(ResourceStoreError) -> KeyValue {
    guard let item = try await fetch(key.path) else { throw .doesNotExist(key) }
    try Self.check(item, key, revision?.description, uid)
    return item
  }

  /// Whether a stored object is the one that a writer has in mind. Records that are views have no uid.
  private static func check(_ item: KeyValue, _ key: ResourceKey, _ revision: String?, _ uid: String?) throws(ResourceStoreError) {
    if let revision, !revision.isEmpty, revision != "\(item.modRevision)" {
      throw .conflict(key, base: revision, present: item.modRevision)
    }
    if let uid, !uid.isEmpty, key.kind != .ipamConfiguration {
      let present = (try? JSONValue(parsing: item.value))?["metadata"]?["uid"]?.string
      if let present, present != uid { throw .replaced(key, wantedUID: uid, presentUID: present) }
    }
  }

  // MARK: Writing

  public enum WriteOutcome: String, Hashable, Sendable {
    case created, updated, unchanged
  }

  /// What must hold besides for an object to be written, and what is written along with it.
  public struct Condition: Sendable {
    public var comparisons: [Comparison]
    public var operations: [DatastoreOperation]
    public init(_ comparisons: [Comparison], also operations: [DatastoreOperation]) {
      self.comparisons = comparisons
      self.operations = operations
    }
    static func + (a: Condition, b: Condition?) -> Condition {
      Condition(a.comparisons + (b?.comparisons ?? []), also: a.operations + (b?.operations ?? []))
    }
  }

  /// `document` is the validated document as the user wrote it, nil to make one from the resource; its unknown fields are stored as well.
  /// A condition that does not hold is a conflict.
  @discardableResult
  public func create(
    _ resource: Resource, document: JSONValue? = nil, if condition: Condition? = nil
  ) async throws(ResourceStoreError) -> StoredResource {
    let key = resource.key
    if key == Self.builtInProfile.resource.key { throw .alreadyExists(key) }
    let stored = Self.newDocument(resource, document)
    for _ in 0..<Self.attempts {
      let all = try await checkRules(resource, replacing: nil) + condition
      let value = StoredForm.value(stored, key).bytes
      switch try await transact(if: [.absent(key.path)] + all.comparisons, then: [.put(key.path, value)] + all.operations) {
      case .committed(let revision): return Self.stored(resource, stored, revision)
      case .conflict(let present):
        if present[0] != nil { throw .alreadyExists(key) }
        if condition != nil { throw .conflict(key, base: nil, present: nil) }
      }
    }
    throw .conflict(key, base: nil, present: nil)
  }

  /// Replaces what is stored. With `metadata.resourceVersion` set, only if that is still the revision; with `metadata.uid`, only that object.
  @discardableResult
  public func update(
    _ resource: Resource, document: JSONValue? = nil, if condition: Condition? = nil
  ) async throws(ResourceStoreError) -> StoredResource {
    let key = resource.key
    if key == Self.builtInProfile.resource.key { return try Self.unchangedBuiltIn(resource) }
    for _ in 0..<Self.attempts {
      guard let old = try await fetch(key.path) else { throw .doesNotExist(key) }
      try Self.check(old, key, resource.metadata.resourceVersion, resource.metadata.uid)
      if let (result, _) = try await replace(old, resource, document, condition) { return result }
      if condition != nil { break }
    }
    throw .conflict(key, base: resource.metadata.resourceVersion, present: try await fetch(key.path)?.modRevision)
  }

  /// Creates or updates. Nothing is written when nothing would change. A condition that does not hold is a conflict. What a revision or
  /// uid in the metadata says of an object that is gone does not matter: it is created.
  @discardableResult
  public func apply(
    _ resource: Resource, document: JSONValue? = nil, if condition: Condition? = nil
  ) async throws(ResourceStoreError) -> (stored: StoredResource, outcome: WriteOutcome) {
    let key = resource.key
    if key == Self.builtInProfile.resource.key { return (try Self.unchangedBuiltIn(resource), .unchanged) }
    for _ in 0..<Self.attempts {
      guard let old = try await fetch(key.path) else {
        do throws(ResourceStoreError) {
          return (try await create(resource, document: document, if: condition), .created)
        } catch .alreadyExists {
          continue
        }
      }
      try Self.check(old, key, resource.metadata.resourceVersion, resource.metadata.uid)
      if let result = try await replace(old, resource, document, condition) { return result }
      if condition != nil { break }
    }
    throw .conflict(key, base: resource.metadata.resourceVersion, present: try await fetch(key.path)?.modRevision)
  }

  /// Reads, changes and writes, anew as long as somebody else is faster: no change of either is lost. `change` may run several times.
  @discardableResult
  public func modify(
    _ key: ResourceKey, _ change: @Sendable (inout Resource) -> Void
  ) async throws(ResourceStoreError) -> StoredResource {
    // Whoever fails has seen another succeed: with some hundred writers there must be as many attempts.
    for _ in 0..<(10 * Self.attempts) {
      guard let stored = try await get(key) else { throw .doesNotExist(key) }
      var resource = stored.resource
      change(&resource)
      do throws(ResourceStoreError) {
        return try await update(resource)
      } catch .conflict {
        continue
      }
    }
    throw .conflict(key, base: nil, present: try await fetch(key.path)?.modRevision)
  }

  /// Writes the document as it stands over what was read at `revision`, for whoever changed the object as a whole: what is not in the
  /// document any more goes, fields that are not known here included. Other than at `revision` it is a conflict.
  @discardableResult
  public func rewrite(
    _ resource: Resource, document: JSONValue, over revision: Revision
  ) async throws(ResourceStoreError) -> (stored: StoredResource, outcome: WriteOutcome) {
    let key = resource.key
    guard let old = try await fetch(key.path) else { throw .doesNotExist(key) }
    try Self.check(old, key, revision.description, nil)
    if let result = try await replace(old, resource, document, isWhole: true) { return result }
    throw .conflict(key, base: revision.description, present: try await fetch(key.path)?.modRevision)
  }

  /// One attempt; nil when somebody was faster.
  private func replace(
    _ old: KeyValue, _ resource: Resource, _ document: JSONValue?, _ condition: Condition? = nil, isWhole: Bool = false
  ) async throws(ResourceStoreError) -> (StoredResource, WriteOutcome)? {
    let key = resource.key
    let before = StoredForm.document((try? JSONValue(parsing: old.value)) ?? .object(JSONObject()), key)
    let all = try await checkRules(resource, replacing: (try? Self.decode(old, key))?.resource) + condition
    var merged = resource
    if key.kind != .ipamConfiguration {
      merged.metadata.uid = before["metadata"]?["uid"]?.string ?? resource.metadata.uid ?? randomUUID()
      merged.metadata.creationTimestamp = before["metadata"]?["creationTimestamp"]?.string ?? resource.metadata.creationTimestamp
    }
    merged.metadata.resourceVersion = nil
    // Where neither document spells a policy's types, they keep the meaning that they have in the store.
    if let document, document["spec"]?["types"] == nil, before["spec"]?["types"] == nil {
      merged.spec.changePolicy { $0.types = PolicySpec.typesUnspelled }
    }
    // The first encoding brings the lists into the order of the new object, which is that of the user's document.
    var after = ResourceCodec.encode(merged, onto: isWhole ? document ?? before : before)
    if let document, !isWhole { after = Self.overlay(document, on: after, known: ResourceCodec.encode(merged)) }
    after["metadata"]?["resourceVersion"] = nil
    let value = StoredForm.value(after, key)
    if value == (try? JSONValue(parsing: old.value)) { return (Self.stored(merged, after, old.modRevision), .unchanged) }
    let comparisons = [.modRevision(key.path, equals: old.modRevision)] + all.comparisons
    switch try await transact(if: comparisons, then: [.put(key.path, value.bytes)] + all.operations) {
    case .committed(let revision): return (Self.stored(merged, after, revision), .updated)
    case .conflict: return nil
    }
  }

  /// What a person wrote beyond what is understood, on top of what is stored: members that are not `known` win and come along, all others
  /// are as they are encoded. So neither side's unknown members are lost.
  static func overlay(_ document: JSONValue, on encoded: JSONValue, known: JSONValue?) -> JSONValue {
    switch (document, encoded) {
    case (.object(let new), .object(var old)):
      for member in new.members where !member.value.isNull {
        old[member.name] = old[member.name].map { overlay(member.value, on: $0, known: known?[member.name]) } ?? member.value
      }
      return .object(old)
    case (.array(let new), .array(let old)) where new.count == old.count:
      // Elements of lists that are understood stand in the order of the document.
      let knownElements = known?.array
      return .array(
        zip(new, old).enumerated().map { index, pair in
          overlay(pair.0, on: pair.1, known: knownElements.flatMap { $0.count == new.count ? $0[index] : nil })
        })
    default: return known == nil ? document : encoded
    }
  }

  /// Removes an object. `force` removes a pool although addresses of it are in use.
  public func delete(
    _ key: ResourceKey, revision: Revision? = nil, uid: String? = nil, force: Bool = false
  ) async throws(ResourceStoreError) {
    switch key.kind {
    case .profile where key == Self.builtInProfile.resource.key:
      throw .refused(key, reason: "this profile is built in and cannot be deleted")
    case .tier: try await remove(tier: key, revision: revision, uid: uid)
    case .ipPool: try await remove(pool: key, revision: revision, uid: uid, force: force)
    default:
      for _ in 0..<Self.attempts {
        if try await deletePlainly(key, try await present(key, revision, uid), []) { return }
      }
      throw .conflict(key, base: revision?.description, present: try await fetch(key.path)?.modRevision)
    }
  }

  /// False if the object is not as it was any more.
  func deletePlainly(_ key: ResourceKey, _ old: KeyValue, _ condition: [Comparison]) async throws(ResourceStoreError) -> Bool {
    let result = try await transact(if: [.modRevision(key.path, equals: old.modRevision)] + condition, then: [.delete(key.path)])
    if case .committed = result { return true }
    return false
  }

  private func remove(tier key: ResourceKey, revision: Revision?, uid: String?) async throws(ResourceStoreError) {
    if Self.fixedTiers[key.name] != nil { throw .refused(key, reason: "this tier is built in and cannot be deleted") }
    let guardKey = Self.tierGuard(key.name)
    for _ in 0..<Self.attempts {
      // Before the policies are looked at: one that comes in between writes it.
      let isGuardSame = try await comparison(guardKey)
      let old = try await present(key, revision, uid)
      let members = try await members(ofTier: key.name)
      if let first = members.policies.first {
        let others = members.policies.count == 1 ? "" : " (and \(members.policies.count - 1) more)"
        throw .refused(key, reason: "cannot delete a non-empty tier: \(first) is in it\(others)")
      }
      if let first = members.unreadable.first {
        throw .refused(key, reason: "\(first) cannot be read, so that nobody knows whether it is in this tier; repair or delete it first")
      }
      if try await deletePlainly(key, old, [isGuardSame]) {
        if case .modRevision = isGuardSame { _ = try await transact(if: [isGuardSame], then: [.delete(guardKey)]) }
        return
      }
    }
    throw .conflict(key, base: revision?.description, present: try await fetch(key.path)?.modRevision)
  }

  private static func unchangedBuiltIn(_ resource: Resource) throws(ResourceStoreError) -> StoredResource {
    guard resource.spec == builtInProfile.resource.spec else {
      throw .refused(resource.key, reason: "this profile is built in and cannot change")
    }
    return builtInProfile
  }

  static func newDocument(_ resource: Resource, _ document: JSONValue?) -> JSONValue {
    var resource = resource
    resource.metadata.uid = randomUUID()
    resource.metadata.creationTimestamp = UTCTime.now().text
    resource.metadata.resourceVersion = nil
    var stored = ResourceCodec.encode(resource, onto: document)
    stored["metadata"]?["resourceVersion"] = nil
    // Calico's programs read these without defaults of their own (a pool without block size would be one block to them).
    if [.ipPool, .networkPolicy, .globalNetworkPolicy].contains(resource.kind) {
      for member in ResourceCodec.encode(resource)["spec"]?.object?.members ?? [] where stored["spec"]?[member.name] == nil {
        stored["spec"]?[member.name] = member.value
      }
    }
    return stored
  }

  static func stored(_ resource: Resource, _ document: JSONValue, _ revision: Revision) -> StoredResource {
    var resource = resource
    var document = document
    resource.metadata.uid = document["metadata"]?["uid"]?.string
    resource.metadata.creationTimestamp = document["metadata"]?["creationTimestamp"]?.string
    resource.metadata.resourceVersion = "\(revision)"
    document["metadata"]?["resourceVersion"] = .string("\(revision)")
    return StoredResource(resource: resource, document: document, revision: revision)
  }

  // MARK: What every cluster has

  /// Creates the fixed tiers and the cluster information where they are missing. Many nodes may do this at once.
  public func ensureDefaults() async throws(ResourceStoreError) {
    for (name, tier) in Self.fixedTiers { try await createIfMissing(Resource(Metadata(name: name), .tier(tier))) }
    var information = ClusterInformationSpec()
    information.clusterGUID = randomUUID().filter { $0 != "-" }
    information.clusterType = "margay"
    information.datastoreReady = true
    try await createIfMissing(Resource(Metadata(name: "default"), .clusterInformation(information)))
  }

  private func createIfMissing(_ resource: Resource) async throws(ResourceStoreError) {
    guard try await fetch(resource.key.path) == nil else { return }
    do throws(ResourceStoreError) { try await create(resource) } catch .alreadyExists { return }
  }
}

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

public enum ResourceStoreError: Error, Sendable, CustomStringConvertible {
  case alreadyExists(ResourceKey)
  case doesNotExist(ResourceKey)
  /// Somebody else changed it since it was read.
  case conflict(ResourceKey)
  case refused(ResourceKey, reason: String)
  /// The stored value is no object of this kind at all.
  case unreadable(ResourceKey, reason: String)
  case datastore(DatastoreError)
  public var description: String {
    switch self {
    case .alreadyExists(let key): "\(key) exists already; use apply or replace to change it"
    case .doesNotExist(let key): "\(key) does not exist"
    case .conflict(let key): "\(key) was changed by somebody else meanwhile; get it again and repeat the change"
    case .refused(let key, let reason): "\(key): \(reason)"
    case .unreadable(let key, let reason): "\(key) is stored as something that cannot be read: \(reason)"
    case .datastore(let error): error.description
    }
  }
}

public struct ResourceStore: Sendable {
  public let datastore: any Datastore
  public init(_ datastore: any Datastore) { self.datastore = datastore }

  // MARK: Reading

  public func get(_ key: ResourceKey) async throws(ResourceStoreError) -> StoredResource? {
    guard let item = try await fetch(key.path) else { return nil }
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
    return (resources, unreadable, revision)
  }

  static func decode(_ item: KeyValue, _ key: ResourceKey) throws(ResourceStoreError) -> StoredResource {
    do {
      var document = try JSONValue(parsing: item.value)
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

  private func fetch(_ path: String) async throws(ResourceStoreError) -> KeyValue? {
    do throws(DatastoreError) { return try await datastore.get(path) } catch { throw .datastore(error) }
  }

  private func transact(
    if comparisons: [Comparison], then operations: [DatastoreOperation]
  ) async throws(ResourceStoreError) -> TransactionResult {
    do throws(DatastoreError) {
      return try await datastore.transact(if: comparisons, then: operations)
    } catch {
      throw .datastore(error)
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
  }

  /// `document` is the validated document as the user wrote it, nil to make one from the resource; its unknown fields are stored as well.
  /// A condition that does not hold is a conflict.
  @discardableResult
  public func create(
    _ resource: Resource, document: JSONValue? = nil, if condition: Condition? = nil
  ) async throws(ResourceStoreError) -> StoredResource {
    let key = resource.key
    let stored = Self.newDocument(resource, document)
    for _ in 0..<100 {
      let references = try await checkReferences(resource)
      let comparisons = [.absent(key.path)] + references + (condition?.comparisons ?? [])
      switch try await transact(if: comparisons, then: [.put(key.path, stored.bytes)] + (condition?.operations ?? [])) {
      case .committed(let revision): return Self.stored(resource, stored, revision)
      case .conflict(let present):
        if present[0] != nil { throw .alreadyExists(key) }
        if condition != nil { throw .conflict(key) }
      }
    }
    throw .conflict(key)
  }

  /// Replaces what is stored. With `metadata.resourceVersion` set, only if that is still the revision.
  @discardableResult
  public func update(_ resource: Resource, document: JSONValue? = nil) async throws(ResourceStoreError) -> StoredResource {
    let key = resource.key
    for _ in 0..<100 {
      guard let old = try await fetch(key.path) else { throw .doesNotExist(key) }
      if let wanted = resource.metadata.resourceVersion, !wanted.isEmpty, wanted != "\(old.modRevision)" { throw .conflict(key) }
      let (result, _) = try await replace(old, resource, document)
      if let result { return result }
    }
    throw .conflict(key)
  }

  /// Creates or updates. Nothing is written when nothing would change. A condition that does not hold is a conflict.
  @discardableResult
  public func apply(
    _ resource: Resource, document: JSONValue? = nil, if condition: Condition? = nil
  ) async throws(ResourceStoreError) -> (stored: StoredResource, outcome: WriteOutcome) {
    let key = resource.key
    for _ in 0..<100 {
      guard let old = try await fetch(key.path) else {
        do throws(ResourceStoreError) {
          return (try await create(resource, document: document, if: condition), .created)
        } catch .alreadyExists {
          continue
        }
      }
      if let wanted = resource.metadata.resourceVersion, !wanted.isEmpty, wanted != "\(old.modRevision)" { throw .conflict(key) }
      let (result, outcome) = try await replace(old, resource, document, condition)
      if let result { return (result, outcome) }
      if condition != nil { break }
    }
    throw .conflict(key)
  }

  /// Writes the document as it stands over what was read at `revision`, for whoever changed the object as a whole: what is not in the
  /// document any more goes, fields that are not known here included. Other than at `revision` it is a conflict.
  @discardableResult
  public func rewrite(
    _ resource: Resource, document: JSONValue, over revision: Revision
  ) async throws(ResourceStoreError) -> (stored: StoredResource, outcome: WriteOutcome) {
    let key = resource.key
    guard let old = try await fetch(key.path) else { throw .doesNotExist(key) }
    guard old.modRevision == revision else { throw .conflict(key) }
    let (result, outcome) = try await replace(old, resource, document, isWhole: true)
    guard let result else { throw .conflict(key) }
    return (result, outcome)
  }

  /// One attempt; nil when somebody was faster.
  private func replace(
    _ old: KeyValue, _ resource: Resource, _ document: JSONValue?, _ condition: Condition? = nil, isWhole: Bool = false
  ) async throws(ResourceStoreError) -> (StoredResource?, WriteOutcome) {
    let key = resource.key
    let references = try await checkReferences(resource)
    let before = (try? JSONValue(parsing: old.value)) ?? .object(JSONObject())
    try Self.checkImmutable(key, before, resource)
    var merged = resource
    merged.metadata.uid = before["metadata"]?["uid"]?.string ?? resource.metadata.uid ?? randomUUID()
    merged.metadata.creationTimestamp = before["metadata"]?["creationTimestamp"]?.string ?? resource.metadata.creationTimestamp
    merged.metadata.resourceVersion = nil
    // Where neither document spells a policy's types, they keep the meaning that they have in the store.
    if let document, document["spec"]?["types"] == nil, before["spec"]?["types"] == nil {
      merged.spec.changePolicy { $0.types = PolicySpec.typesUnspelled }
    }
    // Unknown fields: those of the stored document stay, in elements of lists where these still stand; those of the user's document come
    // on top. The first encoding brings the lists into the order of the new object, which is that of the user's document.
    var base = before
    if let document { base = isWhole ? document : Self.overlay(document, on: ResourceCodec.encode(merged, onto: before)) }
    var after = ResourceCodec.encode(merged, onto: base)
    after["metadata"]?["resourceVersion"] = nil
    if after == before { return (Self.stored(merged, before, old.modRevision), .unchanged) }
    let comparisons = [.modRevision(key.path, equals: old.modRevision)] + references + (condition?.comparisons ?? [])
    switch try await transact(if: comparisons, then: [.put(key.path, after.bytes)] + (condition?.operations ?? [])) {
    case .committed(let revision): return (Self.stored(merged, after, revision), .updated)
    case .conflict: return (nil, .updated)
    }
  }

  /// Members of `document` win; members that only `base` has stay. Known fields are set afterwards from the typed value.
  static func overlay(_ document: JSONValue, on base: JSONValue) -> JSONValue {
    if case .array(let new) = document, case .array(let old) = base, new.count == old.count {
      return .array(zip(new, old).map { overlay($0, on: $1) })
    }
    guard case .object(let new) = document, case .object(var old) = base else { return document }
    for member in new.members { old[member.name] = old[member.name].map { overlay(member.value, on: $0) } ?? member.value }
    return .object(old)
  }

  static func checkImmutable(_ key: ResourceKey, _ before: JSONValue, _ resource: Resource) throws(ResourceStoreError) {
    switch resource.spec {
    case .ipPool(let pool):
      if let cidr = before["spec"]?["cidr"]?.string, cidr != pool.cidr.description {
        throw .refused(key, reason: "spec.cidr cannot change (\(cidr) to \(pool.cidr)); create another pool")
      }
      if let size = before["spec"]?["blockSize"]?.integer, size != Int64(pool.blockSize) {
        throw .refused(key, reason: "spec.blockSize cannot change (\(size) to \(pool.blockSize)); create another pool")
      }
    case .tier(let tier):
      if let fixed = Self.fixedTiers[key.name], fixed != tier {
        throw .refused(key, reason: "order and default action of this tier are fixed")
      }
    case .profile where key.name == "projectcalico-default-allow": throw .refused(key, reason: "this profile is built in and cannot change")
    default: break
    }
  }

  public func delete(_ key: ResourceKey, revision: Revision? = nil) async throws(ResourceStoreError) {
    if key.kind == .tier {
      if Self.fixedTiers[key.name] != nil { throw .refused(key, reason: "this tier is built in and cannot be deleted") }
      for kind in [Kind.networkPolicy, .globalNetworkPolicy] {
        let members = try await list(kind).items.filter { $0.resource.policy?.tier == key.name }
        if let first = members.first {
          let others = members.count == 1 ? "" : " (and \(members.count - 1) more)"
          throw .refused(key, reason: "cannot delete a non-empty tier: \(first.resource.key) is in it\(others)")
        }
      }
    }
    if key.kind == .profile, key.name == "projectcalico-default-allow" {
      throw .refused(key, reason: "this profile is built in and cannot be deleted")
    }
    for _ in 0..<100 {
      guard let old = try await fetch(key.path) else { throw .doesNotExist(key) }
      if let revision, revision != old.modRevision { throw .conflict(key) }
      if case .committed = try await transact(if: [.modRevision(key.path, equals: old.modRevision)], then: [.delete(key.path)]) { return }
    }
    throw .conflict(key)
  }

  /// A policy needs its tier; a pool must not overlap another. Returns what must still hold when the object is written.
  private func checkReferences(_ resource: Resource) async throws(ResourceStoreError) -> [Comparison] {
    if let policy = resource.policy, Self.fixedTiers[policy.tier] == nil {
      let tier = ResourceKey(.tier, name: policy.tier)
      guard let stored = try await fetch(tier.path) else {
        throw .refused(resource.key, reason: "spec.tier: \(tier) does not exist; create it first")
      }
      return [.modRevision(tier.path, equals: stored.modRevision)]
    }
    if case .ipPool(let pool) = resource.spec {
      for other in try await list(.ipPool).items where other.resource.key != resource.key {
        if case .ipPool(let present) = other.resource.spec, present.cidr.overlaps(pool.cidr) {
          throw .refused(resource.key, reason: "spec.cidr: \(pool.cidr) overlaps \(present.cidr) of \(other.resource.key)")
        }
      }
    }
    return []
  }

  static func newDocument(_ resource: Resource, _ document: JSONValue?) -> JSONValue {
    var resource = resource
    resource.metadata.uid = randomUUID()
    resource.metadata.creationTimestamp = UTCTime.now().text
    resource.metadata.resourceVersion = nil
    var stored = ResourceCodec.encode(resource, onto: document)
    stored["metadata"]?["resourceVersion"] = nil
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

  public static let fixedTiers: [String: TierSpec] = [
    "default": TierSpec(order: 1_000_000, defaultAction: .deny),
    "kube-admin": TierSpec(order: 1_000, defaultAction: .pass),
    "kube-baseline": TierSpec(order: 10_000_000, defaultAction: .pass),
  ]

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

extension Resource {
  /// The policy inside, for both kinds of policy.
  public var policy: PolicySpec? {
    switch spec {
    case .networkPolicy(let policy), .globalNetworkPolicy(let policy): policy
    default: nil
    }
  }
}

/// Reads the objects that were asked for, in portions.
public import Datastore
public import OutputForms
public import Resources

public struct ObjectReader: Sendable {
  public let datastore: any Datastore
  /// Nil: all namespaces.
  public let namespace: String?
  public let labels: LabelFilter?
  public init(_ datastore: any Datastore, namespace: String?, labels: LabelFilter? = nil) {
    self.datastore = datastore
    self.namespace = namespace
    self.labels = labels
  }

  /// Hands over portions in order of keys, and returns what was asked for by name and does not exist.
  public func read(
    _ part: ObjectRequest.Part, _ take: ([ShownObject]) async throws -> Void
  ) async throws -> [ResourceKey] {
    if let names = part.names, namespace != nil || !part.kind.isNamespaced {
      var missing: [ResourceKey] = []
      for name in names {
        let key = ResourceKey(part.kind, namespace: namespace, name: name)
        guard let item = try await datastore.get(key.path) ?? ResourceStore.builtIn(key) else {
          missing.append(key)
          continue
        }
        let object = ShownObject(key, item)
        if isMeant(object) { try await take([object]) }
      }
      return missing
    }
    let prefix = ResourceKey.prefix(of: part.kind, namespace: part.kind.isNamespaced ? namespace : nil)
    let wanted = part.names.map { Set($0) }
    var found: Set<String> = []
    func handle(_ items: [KeyValue]) async throws {
      let objects = items.compactMap { ShownObject($0) }.filter { wanted?.contains($0.key.name) ?? true }
      if wanted != nil { found.formUnion(objects.map(\.key.name)) }
      try await take(objects.filter(isMeant))
    }
    // All portions show one revision, however long their reader takes; a store that no longer keeps it says so.
    var continuation: ListContinuation?
    // The profile that nobody stores stands among the others.
    var lacksBuiltIn = part.kind == .profile
    repeat {
      let page = try await datastore.page(prefix: prefix, limit: Self.portion, from: continuation)
      // A store may hand out more than was asked for.
      var items = page.items
      if lacksBuiltIn, page.next == nil || items.last.map({ $0.key > ResourceStore.builtInProfilePath }) ?? false {
        ResourceStore.addBuiltIn(to: &items)
        lacksBuiltIn = false
      }
      var rest = items[...]
      repeat {
        try await handle(Array(rest.prefix(Self.portion)))
        rest = rest.dropFirst(Self.portion)
      } while !rest.isEmpty
      continuation = page.next
    } while continuation != nil
    return (part.names ?? []).filter { !found.contains($0) }.map { ResourceKey(part.kind, namespace: "*", name: $0) }
  }
  public static let portion = 500

  private func isMeant(_ object: ShownObject) -> Bool { labels?.matches(object.labels) ?? true }
}

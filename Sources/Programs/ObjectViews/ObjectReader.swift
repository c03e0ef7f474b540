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
        guard let item = try await datastore.get(key.path) else {
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
    let items = try await datastore.list(prefix: prefix).items
    var start = items.startIndex
    repeat {
      let end = min(start + Self.portion, items.endIndex)
      try await handle(Array(items[start..<end]))
      start = end
    } while start < items.endIndex
    return (part.names ?? []).filter { !found.contains($0) }.map { ResourceKey(part.kind, namespace: "*", name: $0) }
  }
  public static let portion = 500

  private func isMeant(_ object: ShownObject) -> Bool { labels?.matches(object.labels) ?? true }
}

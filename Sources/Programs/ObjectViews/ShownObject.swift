/// An object as it is stored, readable or not: what cannot be read is shown as well.
public import Datastore
public import Documents
public import JSON
public import Resources

public struct ShownObject: Sendable {
  public let key: ResourceKey
  /// As stored, `metadata.resourceVersion` filled in; nil if the value is no JSON object.
  public let document: JSONValue?
  /// Nil: the value is no object of this kind.
  public let resource: Resource?
  /// Why there is no resource.
  public let problem: String?
  /// What of it could not be read, and so cannot be enforced.
  public let faults: [DocumentError]

  /// Nil for a key that is no object's.
  public init?(_ item: KeyValue) {
    guard let key = ResourceKey(path: item.key) else { return nil }
    self.init(key, item)
  }
  public init(_ key: ResourceKey, _ item: KeyValue) {
    do {
      var document = StoredForm.document(try JSONValue(parsing: item.value), key)
      guard document.object != nil else { throw DocumentError(path: JSONPath(), value: document, rule: "is not an object") }
      // The key and the revision are the truth, whatever the value says.
      if document["metadata"]?.object == nil { document["metadata"] = .object(JSONObject()) }
      document["metadata"]?["resourceVersion"] = .string("\(item.modRevision)")
      self.init(key, document: document)
    } catch let error as DocumentError {
      self.init(key: key, document: nil, resource: nil, problem: error.message, faults: [])
    } catch {
      self.init(key: key, document: nil, resource: nil, problem: "it is not JSON: \(error)", faults: [])
    }
  }
  init(_ key: ResourceKey, document: JSONValue) {
    do throws(DocumentError) {
      var (resource, faults) = try ResourceCodec.decodeReporting(kind: key.kind, value: document)
      resource.metadata.name = key.name
      resource.metadata.namespace = key.namespace
      self.init(key: key, document: document, resource: resource, problem: nil, faults: faults)
    } catch {
      self.init(key: key, document: document, resource: nil, problem: error.message, faults: [])
    }
  }
  init(key: ResourceKey, document: JSONValue?, resource: Resource?, problem: String?, faults: [DocumentError]) {
    self.key = key
    self.document = document
    self.resource = resource
    self.problem = problem
    self.faults = faults
  }

  public var labels: [String: String] {
    if let resource { return resource.metadata.labels }
    var labels: [String: String] = [:]
    for member in document?["metadata"]?["labels"]?.object?.members ?? [] { labels[member.name] = member.value.string }
    return labels
  }

  /// What may be carried to another cluster: without what only the datastore and its controllers give.
  public var exported: JSONValue? {
    guard var document else { return nil }
    for name in [
      "uid", "resourceVersion", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink",
      "managedFields", "ownerReferences",
    ] {
      document["metadata"]?[name] = nil
    }
    if document["status"] != nil { document["status"] = nil }
    return document
  }
}

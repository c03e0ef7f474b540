/// A file of documents as the content of a new datastore: `margay export`'s, `calicoctl datastore migrate export`'s, or documents alone.
///
/// Everything is validated before anything is written. Objects get a new identity (uid, time), as calicoctl's import gives them.
public import Datastore
public import Documents
import JSON
import Names
import Resources

public struct ImportFile: Sendable {
  public var documents: [(resource: Resource, document: JSONValue)] = []
  /// Keys and values of IPAM.
  public var addresses: [KeyValue] = []
  public var clusterInformation: (resource: Resource, document: JSONValue)?
  public var warnings: [DocumentError] = []
  let identity: String
  let file: String

  /// Throws all that is wrong, in the order of the file.
  public init(parsing octets: [UInt8], file: String) throws(DocumentErrors) {
    self.file = file
    identity = "file \(hexadecimalText(SHA256.digest(of: octets)))"
    let parts = Self.parts(octets)
    guard parts.count == 1 || parts.count == 3 else {
      throw DocumentErrors([
        DocumentError(
          file: file, path: JSONPath(), rule: "has \(parts.count) parts between lines of ===; it should have one, or three: objects, ClusterInformation, IPAM")
      ])
    }
    var errors: [DocumentError] = []
    // The first part is at the beginning, so its lines are those of the file.
    for document in try DocumentReader.read(bytes: parts[0], file: file) { take(document, &errors) }
    if parts.count == 3 {
      let lines = parts.prefix(2).map { $0.count { $0 == 0x0a } + 1 }
      if let document = Self.json(parts[1], file, firstLine: lines[0], &errors), document.object?.isEmpty == false {
        take(PositionedDocument(file: "\(file), ClusterInformation", value: document), &errors)
      }
      if let document = Self.json(parts[2], file, firstLine: lines[0] + lines[1], &errors) { takeAddresses(document, &errors) }
    }
    guard errors.isEmpty else { throw DocumentErrors(errors) }
  }

  /// The file's ClusterInformation says that the datastore is not ready.
  public var isLocked: Bool {
    guard case .clusterInformation(let spec)? = clusterInformation?.resource.spec else { return false }
    return spec.datastoreReady == false
  }

  private static func parts(_ octets: [UInt8]) -> [[UInt8]] {
    var parts: [[UInt8]] = [[]]
    var start = 0
    while start < octets.count {
      let end = octets[start...].firstIndex(of: 0x0a).map { $0 + 1 } ?? octets.count
      let line = octets[start..<end]
      if line.elementsEqual("===\n".utf8) || line.elementsEqual("===\r\n".utf8) { parts.append([]) } else { parts[parts.count - 1] += line }
      start = end
    }
    return parts
  }

  private static func json(_ octets: [UInt8], _ file: String, firstLine: Int, _ errors: inout [DocumentError]) -> JSONValue? {
    do throws(JSONError) {
      return try JSONValue(parsing: octets)
    } catch {
      let position = JSONPosition(line: error.position.line + firstLine - 1, column: error.position.column)
      errors.append(DocumentError(file: file, position: position, path: JSONPath(), rule: error.message))
      return nil
    }
  }

  private mutating func take(_ document: PositionedDocument, _ errors: inout [DocumentError]) {
    let review = ResourceCodec.review(document)
    warnings += review.warnings
    errors += review.errors
    guard let resource = review.resource else { return }
    if resource.kind == .clusterInformation { clusterInformation = (resource, document.value) } else { documents.append((resource, document.value)) }
  }

  private mutating func takeAddresses(_ document: JSONValue, _ errors: inout [DocumentError]) {
    var entries: [JSONValue] = []
    for (name, _) in ExportFile.addressParts { entries += document[name]?.array ?? [] }
    if let configuration = document["config"], !configuration.isNull { entries.append(configuration) }
    for entry in entries {
      guard let key = entry["Key"]?.string, KeyOrder.hasPrefix(key, "/calico/ipam/v2/"), let value = entry["Value"], value.object != nil else {
        errors.append(
          DocumentError(file: "\(file), IPAM", path: JSONPath(), value: entry["Key"], rule: "is not an entry with Key below /calico/ipam/v2/ and Value"))
        continue
      }
      addresses.append(KeyValue(key: key, value: value.bytes, createRevision: .zero, modRevision: .zero))
    }
  }

  /// Into an empty datastore; done again after an interruption, it goes on. Returns the number of objects and of keys of IPAM.
  public func write(to target: any Datastore, progress: TransferProgress = { _, _ in }) async throws -> (objects: Int, addresses: Int) {
    let transfer = Transfer(to: target, identity: identity, source: file)
    try await transfer.begin()
    let store = ResourceStore(target)
    let total = documents.count + addresses.count
    // In an order that has what is referred to before what refers to it, whatever the order of the file.
    let order = Dictionary(uniqueKeysWithValues: ExportFile.kinds.enumerated().map { ($1, $0) })
    let sorted = documents.enumerated().sorted {
      (order[$0.element.resource.kind] ?? 0, $0.offset) < (order[$1.element.resource.kind] ?? 0, $1.offset)
    }
    for (index, entry) in sorted.enumerated() {
      var resource = entry.element.resource
      resource.metadata.resourceVersion = nil
      try await store.apply(resource, document: entry.element.document)
      progress(index + 1, total)
    }
    try await transfer.write(addresses.map { .put($0.key, $0.value) }) { done, _ in progress(documents.count + done, total) }
    let found = Set(try await StoreContent.read(target).items.map(\.key))
    for (resource, _) in documents where !found.contains(resource.key.path) {
      throw TransferProblem("\(target.name): \(resource.key) is not there after it was written: somebody else writes to it; repeat the command")
    }
    var information: [UInt8]?
    if let clusterInformation {
      var document = clusterInformation.document
      for name in ["resourceVersion", "uid", "creationTimestamp"] { document["metadata"]?[name] = nil }
      document["metadata"]?["uid"] = .string(randomUUID())
      document["metadata"]?["creationTimestamp"] = .string(UTCTime.now().text)
      information = document.bytes
    }
    try await transfer.finish(clusterInformation: information)
    return (documents.count, addresses.count)
  }
}

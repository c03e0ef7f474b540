/// A datastore in a file: a line that says what it is, then a line for each key. People can read it, `diff` can compare two.
///
///     {"format":"margay-backup","version":1,"program":"0.1.0","datastore":"etcd://…","revision":4711,"time":"…","keys":2,"leased":1,"sha256":"…"}
///     {"key":"/calico/…","value":"{\"kind\":…"}
///     {"key":"/calico/…","octets":"base64 of what is no UTF-8"}
public import Datastore
import JSON
import Names

public struct BackupFile: Sendable {
  public struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
  }
  static let format = "margay-backup"
  /// Of the form of the file.
  static let version: Int64 = 1

  public var program: String
  public var datastore: String
  public var time: String
  public var revision: Revision
  public var leasedCount: Int
  public var items: [KeyValue]
  public var digest: ContentDigest

  public init(_ content: StoreContent, of datastore: String, program: String, time: String) {
    self.program = program
    self.datastore = datastore
    self.time = time
    revision = content.revision
    leasedCount = content.leased.count
    items = content.items
    digest = content.digest
  }

  public var content: StoreContent { StoreContent(items, revision: revision) }

  // MARK: Octets

  public var encoded: [UInt8] {
    let header: JSONValue = [
      "format": .string(Self.format), "version": .integer(Self.version), "program": .string(program), "datastore": .string(datastore),
      "revision": .integer(revision.rawValue), "time": .string(time), "keys": .integer(Int64(digest.count)),
      "leased": .integer(Int64(leasedCount)), "sha256": .string(digest.sha256),
    ]
    var octets = header.bytes + [0x0a]
    for item in items {
      let value: (String, JSONValue) =
        if let text = String(validating: item.value, as: UTF8.self) { ("value", .string(text)) }
        else { ("octets", .string(Base64.text(item.value))) }
      octets += JSONValue.object(JSONObject([.init("key", .string(item.key)), .init(value.0, value.1)])).bytes
      octets.append(0x0a)
    }
    return octets
  }

  /// Everything is checked: form, order of keys, count, hash.
  public init(decoding octets: [UInt8], file: String) throws(Problem) {
    let lines = octets.split(separator: 0x0a)
    guard let first = lines.first, let header = try? JSONValue(parsing: Array(first)), header["format"]?.string == Self.format else {
      throw Problem("\(file) is no backup of `margay datastore backup`: its first line does not say so")
    }
    guard let version = header["version"]?.integer, version <= Self.version else {
      throw Problem("\(file) has version \(header["version"]?.text() ?? "?") of the format, this program reads \(Self.version); use a newer program")
    }
    guard let revision = header["revision"]?.integer, let keys = header["keys"]?.integer, let sha256 = header["sha256"]?.string else {
      throw Problem("\(file):1: the line that says what the file is lacks revision, keys or sha256")
    }
    program = header["program"]?.string ?? ""
    datastore = header["datastore"]?.string ?? ""
    time = header["time"]?.string ?? ""
    self.revision = Revision(rawValue: revision)
    leasedCount = header["leased"]?.integer.map { Int(clamping: $0) } ?? 0
    digest = ContentDigest(count: Int(clamping: keys), sha256: sha256)
    items = []
    for (index, line) in lines.dropFirst().enumerated() {
      let document = try? JSONValue(parsing: Array(line))
      let value = document?["value"]?.string.map { Array($0.utf8) } ?? document?["octets"]?.string.flatMap { Base64.octets($0) }
      guard let key = document?["key"]?.string, let value else { throw Problem("\(file):\(index + 2): no key and value; the file is damaged") }
      guard items.last.map({ KeyOrder.precedes($0.key, key) }) ?? true else {
        throw Problem("\(file):\(index + 2): \(key) is out of order; the file is damaged")
      }
      items.append(KeyValue(key: key, value: value, createRevision: self.revision, modRevision: self.revision))
    }
    let found = ContentDigest(items)
    guard found == digest else {
      throw Problem(
        found.count == digest.count
          ? "\(file): the hash of its \(found.count) keys is not the one in its first line; the file was changed or damaged"
          : "\(file) holds \(found.count) keys, its first line says \(digest.count); the file is cut off or was changed")
    }
  }

  /// Into an empty datastore; done again after an interruption, it goes on.
  public func restore(to target: any Datastore, progress: TransferProgress = { _, _ in }) async throws -> ContentDigest {
    let transfer = Transfer(to: target, identity: "backup \(digest.sha256)", source: "a backup of \(datastore) at \(time)")
    try await transfer.begin()
    _ = try await transfer.bring(content, progress: progress)
    let (isEqual, wanted, found) = try await transfer.compare(content)
    guard isEqual else { throw TransferProblem("\(target.name) holds \(found) and should hold \(wanted): somebody else writes to it; repeat the command") }
    try await transfer.finish(clusterInformation: items.first { $0.key == Transfer.last }?.value)
    return digest
  }
}

/// Calico's key paths and small records of IPAM: affinities, handles, the configuration.
public import Addresses
import Datastore
import JSON
import Names

public enum AddressKeys {
  static func familyPart(_ family: IPFamily) -> String { family == .v4 ? "ipv4" : "ipv6" }
  static func dashed(_ cidr: IPPrefix) -> String { "\(cidr.address)-\(cidr.length)" }

  /// `/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26`
  public static func block(_ cidr: IPPrefix) -> String { blocks(cidr.family) + dashed(cidr) }
  public static func blocks(_ family: IPFamily) -> String { "/calico/ipam/v2/assignment/\(familyPart(family))/block/" }
  public static func handle(_ id: String) -> String { "/calico/ipam/v2/handle/\(KeyPart.escape(id))" }
  /// Everything that says which blocks are the node's.
  public static func affinities(node: String) -> String { "/calico/ipam/v2/host/\(KeyPart.escape(node))/" }
  public static func affinities(node: String, _ family: IPFamily) -> String {
    affinities(node: node) + "\(familyPart(family))/block/"
  }
  public static func affinity(node: String, _ cidr: IPPrefix) -> String { affinities(node: node, cidr.family) + dashed(cidr) }
  public static let configuration = "/calico/ipam/v2/config"
  static let reservations = "/calico/resources/v3/projectcalico.org/ipreservations/"

  /// `10.65.0.0-26` or `fd65::-122`, the last part of a block's or an affinity's key.
  public static func cidr(keyPart text: some StringProtocol) -> IPPrefix? {
    guard let dash = text.lastIndex(of: "-") else { return nil }
    return IPPrefix(text[..<dash] + "/" + text[text.index(after: dash)...])
  }
  static func cidr(ofKey key: String) -> IPPrefix? { key.split(separator: "/").last.flatMap { cidr(keyPart: $0) } }

  /// Older records have an empty value, which means confirmed.
  public static func isConfirmed(affinity value: [UInt8]) -> Bool {
    if value.isEmpty { return true }
    guard let document = try? JSONValue(parsing: value) else { return false }
    return document["state"]?.string == "confirmed" && document["deleted"]?.bool != true
  }
  static let confirmed = Array(#"{"state":"confirmed","deleted":false}"#.utf8)
}

/// `/calico/ipam/v2/config`
public struct AddressConfiguration: Hashable, Sendable {
  /// True: an address outside the node's own blocks is never given.
  public var strictAffinity = false
  public var autoAllocateBlocks = true
  /// Zero means the built-in limit.
  public var blocksPerHostMax = 0
  public init() {}
  init(parsing document: JSONValue) {
    strictAffinity = document["strict_affinity"]?.bool ?? false
    autoAllocateBlocks = document["auto_allocate_blocks"]?.bool ?? true
    blocksPerHostMax = Int(document["maxBlocksPerHost"]?.integer ?? 0)
  }
}

/// Who holds addresses in which blocks: `/calico/ipam/v2/handle/<id>`, as a step from what is stored to what shall be.
struct HandleRecord {
  let key: String
  /// What is stored; nil when nothing is, or as the guess for a handle nobody has seen.
  var stored: KeyValue?

  private var document: JSONValue { stored.flatMap { try? JSONValue(parsing: $0.value) } ?? ["block": [:], "deleted": false] }
  var comparison: Comparison { stored.map { .modRevision(key, equals: $0.modRevision) } ?? .absent(key) }
  var blocks: [IPPrefix] { document["block"]?.object?.members.compactMap { IPPrefix($0.name) } ?? [] }

  /// The write that sets the block's count to what `change` makes of it; a handle that holds nothing any more is deleted.
  func operation(_ cidr: IPPrefix, _ change: (Int64) -> Int64) -> DatastoreOperation? {
    var document = document
    if document["block"]?.object == nil { document["block"] = .object(JSONObject()) }
    // Whatever number stands there: a block has at most 65,536 addresses to count.
    let before = min(max(document["block"]?[cidr.description]?.integer ?? 0, 0), 65536)
    let count = max(change(before), 0)
    document["block"]?[cidr.description] = count == 0 ? nil : .integer(count)
    if document["block"]?.object?.isEmpty == true { return stored == nil ? nil : .delete(key) }
    return .put(key, document.bytes)
  }
}

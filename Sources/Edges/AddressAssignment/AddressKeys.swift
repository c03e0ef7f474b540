/// Calico's key paths and small records of IPAM: affinities, handles, the configuration.
public import AddressPlans
public import Addresses
import Datastore
public import JSON
import Names

public enum AddressKeys {
  static func familyPart(_ family: IPFamily) -> String { family == .v4 ? "ipv4" : "ipv6" }
  static func dashed(_ cidr: IPPrefix) -> String { "\(cidr.address)-\(cidr.length)" }

  /// `/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26`
  public static func block(_ cidr: IPPrefix) -> String { blocks(cidr.family) + dashed(cidr) }
  public static func blocks(_ family: IPFamily) -> String { "/calico/ipam/v2/assignment/\(familyPart(family))/block/" }
  public static let handles = "/calico/ipam/v2/handle/"
  public static func handle(_ id: String) -> String { handles + KeyPart.escape(id) }
  /// Everything that says which blocks are the node's.
  public static func affinities(node: String) -> String { affinities(of: .host(node)) }
  public static func affinities(node: String, _ family: IPFamily) -> String { affinities(of: .host(node), family) }
  public static func affinity(node: String, _ cidr: IPPrefix) -> String { affinity(of: .host(node), cidr) }
  /// `/calico/ipam/v2/host/<node>/`, `/calico/ipam/v2/virtual/<name>/`
  public static func affinities(of owner: BlockOwner) -> String { "/calico/ipam/v2/\(owner.keyPart)/\(KeyPart.escape(owner.name))/" }
  public static func affinities(of owner: BlockOwner, _ family: IPFamily) -> String {
    affinities(of: owner) + "\(familyPart(family))/block/"
  }
  public static func affinity(of owner: BlockOwner, _ cidr: IPPrefix) -> String { affinities(of: owner, cidr.family) + dashed(cidr) }
  public static let owners = ["/calico/ipam/v2/host/", "/calico/ipam/v2/virtual/"]
  /// Whose affinity for which block the key is; nil for a node's marker and for what is none.
  public static func affinity(ofKey key: String) -> (owner: BlockOwner, cidr: IPPrefix)? {
    let parts = key.split(separator: "/", omittingEmptySubsequences: true)
    guard parts.count == 8, parts[6] == "block", let cidr = cidr(keyPart: parts[7]) else { return nil }
    let name = KeyPart.unescape(parts[4])
    switch parts[3] {
    case "host": return (.host(name), cidr)
    case "virtual": return (.virtual(name), cidr)
    default: return nil
    }
  }
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
  /// How long a released address rests before somebody else gets it.
  public var cooldownSeconds = 0
  public static let cooldownSecondsMax = 1200
  /// What is stored: unknown members are written back.
  var document: JSONValue = .object(JSONObject())
  public init() {}
  public init(parsing document: JSONValue) {
    self.document = document
    strictAffinity = document["strict_affinity"]?.bool ?? false
    autoAllocateBlocks = document["auto_allocate_blocks"]?.bool ?? !strictAffinity
    blocksPerHostMax = Int(document["maxBlocksPerHost"]?.integer ?? 0)
    cooldownSeconds = max(0, min(Self.cooldownSecondsMax, Int(document["ipCooldownSeconds"]?.integer ?? 0)))
  }
  public func json() -> JSONValue {
    var value = document
    if value.object == nil { value = .object(JSONObject()) }
    value["strict_affinity"] = .bool(strictAffinity)
    value["auto_allocate_blocks"] = .bool(autoAllocateBlocks)
    value["maxBlocksPerHost"] = .integer(Int64(blocksPerHostMax))
    if cooldownSeconds != 0 || value["ipCooldownSeconds"] != nil { value["ipCooldownSeconds"] = .integer(Int64(cooldownSeconds)) }
    return value
  }
  /// Why this is no configuration to work with.
  public var fault: String? {
    if !strictAffinity, !autoAllocateBlocks {
      return "without strict affinity blocks must be allocated automatically: nodes without a block would borrow for good"
    }
    if blocksPerHostMax < 0 { return "the most blocks for each host is \(blocksPerHostMax); zero means the built-in limit" }
    if blocksPerHostMax > 0, !strictAffinity {
      return "a limit of blocks for each host needs strict affinity: without it a host at its limit borrows from others"
    }
    if !(0...Self.cooldownSecondsMax).contains(cooldownSeconds) {
      return "the cooldown is \(cooldownSeconds) s; it must be 0 to \(Self.cooldownSecondsMax) s"
    }
    return nil
  }
}

/// Who holds addresses in which blocks: `/calico/ipam/v2/handle/<id>`, as a step from what is stored to what shall be.
struct HandleRecord {
  let key: String
  /// What is stored; nil when nothing is, or as the guess for a handle nobody has seen.
  var stored: KeyValue?

  private var document: JSONValue { stored.flatMap { try? JSONValue(parsing: $0.value) } ?? ["block": [:], "deleted": false] }
  var comparison: Comparison { stored.map { .modRevision(key, equals: $0.modRevision) } ?? .absent(key) }
  var blocks: [IPPrefix] { counts.map(\.key).sorted() }
  /// Whatever number stands there: a block has at most 65,536 addresses to count.
  var counts: [IPPrefix: Int64] {
    var counts: [IPPrefix: Int64] = [:]
    for member in document["block"]?.object?.members ?? [] {
      if let cidr = IPPrefix(member.name) { counts[cidr] = Self.clamped(member.value.integer) }
    }
    return counts
  }
  private static func clamped(_ count: Int64?) -> Int64 { min(max(count ?? 0, 0), 65536) }

  /// The write that sets the block's count to what `change` makes of it; a handle that holds nothing any more is deleted.
  func operation(_ cidr: IPPrefix, _ change: (Int64) -> Int64) -> DatastoreOperation? {
    operation([cidr: change(Self.clamped(document["block"]?[cidr.description]?.integer))])
  }
  /// The write that sets these counts.
  func operation(_ counts: [IPPrefix: Int64]) -> DatastoreOperation? {
    var document = document
    if document["block"]?.object == nil { document["block"] = .object(JSONObject()) }
    for (cidr, count) in counts.sorted(by: { $0.key < $1.key }) {
      document["block"]?[cidr.description] = count <= 0 ? nil : .integer(count)
    }
    if document["block"]?.object?.isEmpty == true { return stored == nil ? nil : .delete(key) }
    return .put(key, document.bytes)
  }
}

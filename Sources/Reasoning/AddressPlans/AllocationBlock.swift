/// One block of addresses with who holds which, exactly as Calico stores it.
///
/// A block is a value: it is read, changed here, and written back only if nobody changed it meanwhile.
///
/// An address that moves has two holders for a while: the workload's attachment on the old host and the one on the new host come and go in
/// any order, and whoever leaves last frees the address. The second one stands in Calico's `alternateOwnerAttrs`, with its handle beside
/// the members that Calico writes there.
///
/// An address that was released may have to rest before somebody else gets it (cooldown): it stays allocated, to an attribute without a
/// handle that says when it was released, and returns to the free ones when its time is over.
public import Addresses
public import JSON
public import Names

public struct AllocationBlock: Hashable, Sendable {
  public struct Attribute: Hashable, Sendable {
    public var handleID: String?
    /// namespace, pod, node, …: for people and for the garbage collector.
    public var secondary: [String: String]
    /// Members that we do not know: they stay with the attribute they belong to.
    var others = JSONObject()
    public init(handleID: String?, secondary: [String: String]) {
      self.handleID = handleID
      self.secondary = secondary
    }

    static let alternateMember = "alternateOwnerAttrs"
    static let alternateHandle = "handle_id"
    /// Who holds the address as well; nil for nobody, or for one that somebody else's program manages.
    public var alternate: Attribute? {
      get { Self(alternate: others[Self.alternateMember]) }
      set {
        others[Self.alternateMember] = newValue.map { alternate in
          let members = alternate.secondary.merging([Self.alternateHandle: alternate.handleID ?? ""]) { $1 }
          return .object(JSONObject(members.sorted { $0.key < $1.key }.map { .init($0.key, .string($0.value)) }))
        }
      }
    }
    private init?(alternate value: JSONValue?) {
      guard let handle = value?[Self.alternateHandle]?.string else { return nil }
      handleID = handle
      secondary = [:]
      for member in value?.object?.members ?? [] where member.name != Self.alternateHandle { secondary[member.name] = member.value.string }
    }
    static let releasedAtMember = "releasedAt"
    /// Since when the address rests; nil while somebody holds it.
    public internal(set) var releasedAt: String? {
      get { others[Self.releasedAtMember]?.string }
      set { others[Self.releasedAtMember] = newValue.map { .string($0) } }
    }
    public var isCooling: Bool { releasedAt != nil }
    public func isHeld(by handle: String) -> Bool { handleID == handle || alternate?.handleID == handle }
    /// True if both are of one pod: its attachments on two hosts.
    func isSameWorkload(as other: Attribute) -> Bool {
      guard let pod = secondary["pod"], let namespace = secondary["namespace"] else { return false }
      return other.secondary["pod"] == pod && other.secondary["namespace"] == namespace
    }
  }
  public let cidr: IPPrefix
  /// `host:<node>`, `virtual:<name>` (see `BlockOwner`), nil for a block that nobody owns.
  public var affinity: String?
  public var affinityClaimTime: String?
  /// By ordinal: an index into `attributes`, nil when free.
  public private(set) var allocations: [Int?]
  /// Free ordinals; taken from the head, returned to the tail, so that an address rests as long as possible.
  public private(set) var unallocated: [Int]
  public private(set) var attributes: [Attribute]
  /// Grows with every write. It wraps: what stands in the datastore may be any number, and must not stop us.
  public private(set) var sequenceNumber: UInt64
  public private(set) var sequenceNumberForAllocation: [Int: UInt64]
  /// The document it was read from: unknown members are written back.
  var document: JSONValue

  public enum Fault: Error, Hashable, Sendable, CustomStringConvertible {
    case unreadable(String)
    case notInBlock(IPAddress)
    case taken(IPAddress, by: String?)
    case cooling(IPAddress, since: String)
    public var description: String {
      switch self {
      case .unreadable(let why): "the block cannot be read: \(why)"
      case .cooling(let address, let time): "\(address) was released at \(time) and rests for the cooldown"
      case .notInBlock(let address): "\(address) is not in the block"
      case .taken(let address, let holder): "\(address) is taken" + (holder.map { " by \($0)" } ?? "")
      }
    }
  }

  /// An empty block. `sequenceNumber` is UNIX nanoseconds by convention, so that a deleted and recreated block never repeats one.
  public init(cidr: IPPrefix, affinity: String?, claimTime: String?, sequenceNumber: UInt64) {
    precondition(cidr.family.bits - Int(cidr.length) <= 16, "a block has at most 65,536 addresses")
    self.cidr = cidr
    self.affinity = affinity
    affinityClaimTime = claimTime
    let count = 1 << (cidr.family.bits - Int(cidr.length))
    allocations = Array(repeating: nil, count: count)
    unallocated = Array(0..<count)
    attributes = []
    self.sequenceNumber = sequenceNumber
    sequenceNumberForAllocation = [:]
    document = .object(JSONObject())
  }

  public var capacity: Int { allocations.count }
  public var freeCount: Int { unallocated.count }
  public var isEmpty: Bool { allocations.allSatisfy { $0 == nil } }
  public func address(_ ordinal: Int) -> IPAddress { cidr.address.advanced(by: UInt64(ordinal))! }
  public func ordinal(of address: IPAddress) -> Int? {
    guard cidr.contains(address) else { return nil }
    switch (cidr.address, address) {
    case (.v4(let base), .v4(let address)): return Int(address.rawValue - base.rawValue)
    case (.v6(let base), .v6(let address)): return Int(address.low &- base.low)
    default: return nil
    }
  }
  public func holder(of address: IPAddress) -> Attribute? {
    ordinal(of: address).flatMap { allocations[$0] }.map { attributes[$0] }
  }
  public func addresses(heldBy handle: String) -> [IPAddress] { addresses { $0.isHeld(by: handle) } }
  public func addresses(where condition: (Attribute) -> Bool) -> [IPAddress] {
    allocations.enumerated().compactMap { ordinal, index in index.map { condition(attributes[$0]) } == true ? address(ordinal) : nil }
  }
  /// Those that `handle` holds together with another.
  public func addresses(sharedBy handle: String) -> [IPAddress] {
    addresses(heldBy: handle).filter { holder(of: $0)?.alternate != nil }
  }

  // MARK: Changing

  /// Takes up to `count` addresses from the head of the free list, leaving out reserved ones.
  public mutating func allocate(_ count: Int, for attribute: Attribute, isReserved: (IPAddress) -> Bool = { _ in false }) -> [IPAddress] {
    var taken: [Int] = []
    for ordinal in unallocated where taken.count < count && !isReserved(address(ordinal)) { taken.append(ordinal) }
    for ordinal in taken { take(ordinal, attribute) }
    if !taken.isEmpty { sequenceNumber &+= 1 }
    return taken.map(address)
  }

  /// Takes exactly this address.
  public mutating func assign(_ address: IPAddress, for attribute: Attribute) throws(Fault) {
    guard let ordinal = ordinal(of: address) else { throw .notInBlock(address) }
    if let index = allocations[ordinal] { throw Self.fault(address, attributes[index]) }
    take(ordinal, attribute)
    sequenceNumber &+= 1
  }

  private static func fault(_ address: IPAddress, _ holder: Attribute) -> Fault {
    holder.releasedAt.map { .cooling(address, since: $0) } ?? .taken(address, by: holder.handleID)
  }

  /// Takes this address if it is free, or joins its holder if that is another attachment of the same pod.
  public mutating func assignOrJoin(_ address: IPAddress, for attribute: Attribute) throws(Fault) {
    guard let ordinal = ordinal(of: address), let index = allocations[ordinal] else { return try assign(address, for: attribute) }
    var holder = attributes[index]
    guard !holder.isCooling, holder.isSameWorkload(as: attribute), holder.others[Attribute.alternateMember] == nil,
      holder.handleID != attribute.handleID
    else { throw Self.fault(address, holder) }
    holder.alternate = attribute
    hand(ordinal, to: holder)
    sequenceNumber &+= 1
  }

  private mutating func hand(_ ordinal: Int, to attribute: Attribute) {
    take(ordinal, attribute)
    dropUnusedAttributes()
  }

  private mutating func take(_ ordinal: Int, _ attribute: Attribute) {
    let index = attributes.firstIndex(of: attribute) ?? attributes.count
    if index == attributes.count { attributes.append(attribute) }
    allocations[ordinal] = index
    unallocated.removeAll { $0 == ordinal }
    sequenceNumberForAllocation[ordinal] = sequenceNumber
  }

  /// What is to be released: by whom, if one is named, and only as it was assigned under `sequence`, if one is given. What was released and
  /// assigned anew meanwhile has another number.
  public struct Release: Hashable, Sendable {
    public var address: IPAddress
    public var sequence: UInt64?
    public init(_ address: IPAddress, sequence: UInt64? = nil) {
      self.address = address
      self.sequence = sequence
    }
  }

  public mutating func release(_ addresses: [IPAddress], handle: String? = nil) -> [(address: IPAddress, holder: Attribute)] {
    release(addresses.map { Release($0) }, handle: handle)
  }

  /// Frees those of the addresses that are held, by `handle` if one is given: what that one shares stays with the other. Returns what was
  /// freed, with its former holder. With `restingFrom` they cool down first.
  public mutating func release(
    _ releases: [Release], handle: String? = nil, restingFrom now: UTCTime? = nil
  ) -> [(address: IPAddress, holder: Attribute)] {
    var freed: [(IPAddress, Attribute)] = []
    var isChanged = false
    for release in releases {
      guard let ordinal = ordinal(of: release.address), let index = allocations[ordinal], !attributes[index].isCooling else { continue }
      if let wanted = release.sequence, wanted != sequence(ofOrdinal: ordinal) { continue }
      var holder = attributes[index]
      if let handle {
        guard holder.isHeld(by: handle) else { continue }
        if let alternate = holder.alternate {
          if holder.handleID == handle { holder = alternate } else { holder.alternate = nil }
          hand(ordinal, to: holder)
          isChanged = true
          continue
        }
      }
      freed.append((release.address, holder))
      if let now {
        holder.handleID = nil
        holder.alternate = nil
        holder.releasedAt = now.description
        hand(ordinal, to: holder)
      } else {
        allocations[ordinal] = nil
        unallocated.append(ordinal)
      }
      sequenceNumberForAllocation[ordinal] = nil
    }
    guard isChanged || !freed.isEmpty else { return [] }
    dropUnusedAttributes()
    sequenceNumber &+= 1
    return freed
  }

  private func sequence(ofOrdinal ordinal: Int) -> UInt64 { sequenceNumberForAllocation[ordinal] ?? 0 }
  /// Under which number the address was assigned; zero in blocks of programs that kept none.
  public func sequence(of address: IPAddress) -> UInt64? {
    guard let ordinal = ordinal(of: address), allocations[ordinal] != nil else { return nil }
    return sequence(ofOrdinal: ordinal)
  }

  // MARK: Cooldown

  public var cooling: [IPAddress] { addresses(where: \.isCooling) }

  /// Frees what has rested for `seconds`, the longest first. Returns what is free now.
  @discardableResult
  public mutating func collectCold(at now: UTCTime, after seconds: Int64) -> [IPAddress] {
    var cold: [(since: UTCTime, ordinal: Int)] = []
    for (ordinal, index) in allocations.enumerated() {
      guard let text = index.flatMap({ attributes[$0].releasedAt }) else { continue }
      // A time that cannot be read, or that lies ahead, would keep the address for good.
      let since = UTCTime(text).flatMap { $0 > now ? nil : $0 } ?? UTCTime(unixSeconds: 0)
      if now.unixSeconds - since.unixSeconds >= seconds { cold.append((since, ordinal)) }
    }
    guard !cold.isEmpty else { return [] }
    cold.sort { ($0.since, $0.ordinal) < ($1.since, $1.ordinal) }
    for (_, ordinal) in cold {
      allocations[ordinal] = nil
      unallocated.append(ordinal)
    }
    dropUnusedAttributes()
    sequenceNumber &+= 1
    return cold.map { address($0.ordinal) }
  }

  // MARK: Owners of an address

  /// Sets what is known of the holders of an address: the owner's attributes and those of whoever else has it. Nil leaves as it is.
  public mutating func setOwners(of address: IPAddress, handle: String, active: [String: String]?, alternate: [String: String]?) throws(Fault) {
    guard let ordinal = ordinal(of: address) else { throw .notInBlock(address) }
    guard let index = allocations[ordinal], attributes[index].handleID == handle else {
      throw .taken(address, by: allocations[ordinal].flatMap { attributes[$0].handleID })
    }
    var holder = attributes[index]
    if let active { holder.secondary = active }
    if let alternate {
      let members = alternate.sorted { $0.key < $1.key }.map { JSONObject.Member($0.key, .string($0.value)) }
      holder.others[Attribute.alternateMember] = alternate.isEmpty ? nil : .object(JSONObject(members))
    }
    hand(ordinal, to: holder)
    sequenceNumber &+= 1
  }

  private mutating func dropUnusedAttributes() {
    let used = Set(allocations.compactMap { $0 })
    guard used.count < attributes.count else { return }
    var renumbered: [Int: Int] = [:]
    var kept: [Attribute] = []
    for (index, attribute) in attributes.enumerated() where used.contains(index) {
      renumbered[index] = kept.count
      kept.append(attribute)
    }
    attributes = kept
    allocations = allocations.map { $0.map { renumbered[$0]! } }
  }

  // MARK: Document

  public init(parsing document: JSONValue) throws(Fault) {
    guard let text = document["cidr"]?.string, let cidr = IPPrefix(text), cidr.family.bits - Int(cidr.length) <= 16 else {
      throw .unreadable("no usable cidr")
    }
    self.cidr = cidr
    self.document = document
    affinity = document["affinity"]?.string
    affinityClaimTime = document["affinity_claim_time"]?.string
    let count = 1 << (cidr.family.bits - Int(cidr.length))
    var attributes: [Attribute] = []
    for value in document["attributes"]?.array ?? [] {
      var secondary: [String: String] = [:]
      for member in value["secondary"]?.object?.members ?? [] { secondary[member.name] = member.value.string }
      var attribute = Attribute(handleID: value["handle_id"]?.string, secondary: secondary)
      attribute.others = JSONObject((value.object?.members ?? []).filter { $0.name != "handle_id" && $0.name != "secondary" })
      attributes.append(attribute)
    }
    self.attributes = attributes
    guard let held = document["allocations"]?.array, held.count == count else { throw .unreadable("allocations are not \(count)") }
    allocations = []
    for value in held {
      if value.isNull {
        allocations.append(nil)
      } else if let index = value.integer, attributes.indices.contains(Int(index)) {
        allocations.append(Int(index))
      } else {
        throw .unreadable("an allocation names no attribute")
      }
    }
    var free: [Int] = []
    var seen = Set<Int>()
    for value in document["unallocated"]?.array ?? [] {
      guard let ordinal = value.integer.map(Int.init), (0..<count).contains(ordinal), allocations[ordinal] == nil,
        seen.insert(ordinal).inserted
      else { continue }
      free.append(ordinal)
    }
    // A block that lost track of a free address gets it back at the tail.
    for ordinal in 0..<count where allocations[ordinal] == nil && !seen.contains(ordinal) { free.append(ordinal) }
    unallocated = free
    switch document["sequenceNumber"] {
    case .integer(let number): sequenceNumber = UInt64(max(number, 0))
    case .unsigned(let number): sequenceNumber = number
    default: sequenceNumber = 0
    }
    sequenceNumberForAllocation = [:]
    for member in document["sequenceNumberForAllocation"]?.object?.members ?? [] {
      guard let ordinal = Int(member.name), (0..<count).contains(ordinal) else { continue }
      switch member.value {
      case .integer(let number): sequenceNumberForAllocation[ordinal] = UInt64(max(number, 0))
      case .unsigned(let number): sequenceNumberForAllocation[ordinal] = number
      default: break
      }
    }
  }

  public func json() -> JSONValue {
    var value = document
    func number(_ number: UInt64) -> JSONValue { Int64(exactly: number).map { .integer($0) } ?? .unsigned(number) }
    value["cidr"] = .string(cidr.description)
    value["affinity"] = affinity.map { .string($0) }
    value["affinity_claim_time"] = affinityClaimTime.map { .string($0) }
    value["allocations"] = .array(allocations.map { $0.map { .integer(Int64($0)) } ?? .null })
    value["unallocated"] = .array(unallocated.map { .integer(Int64($0)) })
    value["attributes"] = .array(
      attributes.map { attribute in
        let secondary = attribute.secondary.sorted { $0.key < $1.key }.map { JSONObject.Member($0.key, .string($0.value)) }
        let known = [
          JSONObject.Member("handle_id", attribute.handleID.map { .string($0) } ?? .null),
          JSONObject.Member("secondary", .object(JSONObject(secondary))),
        ]
        return .object(JSONObject(known + attribute.others.members))
      })
    value["sequenceNumber"] = number(sequenceNumber)
    value["sequenceNumberForAllocation"] = .object(
      JSONObject(sequenceNumberForAllocation.sorted { $0.key < $1.key }.map { .init("\($0.key)", number($0.value)) }))
    value["deleted"] = value["deleted"] ?? false
    return value
  }
}

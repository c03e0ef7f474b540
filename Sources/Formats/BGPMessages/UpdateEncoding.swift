/// Writes UPDATE messages for many destinations with the same attributes: attributes are encoded once, messages are filled to the brim.
import Addresses

/// What an encoder must know about the receiving sessions. Peers with equal options can share octets.
public struct EncodeOptions: Hashable, Sendable {
  /// AS numbers have four octets (RFC 6793).
  public var fourOctetAS: Bool
  /// Families in which we send path identifiers (RFC 7911).
  public var addPath: Set<AddressFamily>
  /// Messages may have 65535 octets (RFC 8654).
  public var extendedMessages: Bool
  public init(fourOctetAS: Bool = true, addPath: Set<AddressFamily> = [], extendedMessages: Bool = false) {
    self.fourOctetAS = fourOctetAS
    self.addPath = addPath
    self.extendedMessages = extendedMessages
  }
  public var messageLengthMax: Int { extendedMessages ? MessageLength.extendedMax : MessageLength.standardMax }
}

/// The attributes of routes of one family as octets, ready for any number of UPDATE messages.
public struct EncodedAttributes: Hashable, Sendable {
  public let family: AddressFamily
  let options: EncodeOptions
  /// The value of MP_REACH_NLRI up to its destinations; empty where destinations stand at the end of the message.
  let reachHead: [UInt8]
  /// All attributes but MP_REACH_NLRI.
  let octets: [UInt8]
  /// False if an attribute has more octets than its header can tell: an AS_PATH of an extended message (RFC 8654) doubles where numbers of
  /// two octets become four. Such a route cannot be told to anybody in this form.
  let isTellable: Bool

  /// LOCAL_PREF and the reflector's attributes are written if they are set: what an external peer may not see is for the sender to clear.
  public init(_ attributes: PathAttributes, family: AddressFamily, options: EncodeOptions) {
    precondition(family.unicast != nil, "only unicast families have an encoding here")
    self.family = family
    self.options = options
    var octets: [UInt8] = []
    octets.reserveCapacity(96)
    var reachHead: [UInt8] = []
    // IPv4 with an IPv4 next hop uses the fields of RFC 4271; everything else is multiprotocol.
    if case .v4 = attributes.nextHop, family == .ipv4Unicast {} else { reachHead = Self.reachHead(family, attributes.nextHop) }
    isTellable = attributes.encode(into: &octets, fourOctetAS: options.fourOctetAS, includesNextHop: reachHead.isEmpty)
    self.octets = octets
    self.reachHead = reachHead
  }

  private static func reachHead(_ family: AddressFamily, _ nextHop: NextHop) -> [UInt8] {
    var head: [UInt8] = []
    head.append16(family.afi)
    head.append(family.safi)
    switch nextHop {
    case .v4(let address):
      // An IPv6 destination behind an IPv4 address has it in mapped form (RFC 4798, section 2).
      head.append(16)
      head.append64(0)
      head.append32(0xffff)
      head.append32(address.rawValue)
    case .v6(let global, let linkLocal):
      head.append(linkLocal == nil ? 16 : 32)
      head.append64(global.high)
      head.append64(global.low)
      if let linkLocal {
        head.append64(linkLocal.high)
        head.append64(linkLocal.low)
      }
    }
    head.append(0)
    return head
  }
}

extension PathAttributes {
  /// Attributes in ascending order of their codes (RFC 4271, appendix F.3). False if one is longer than its header can tell.
  func encode(into octets: inout [UInt8], fourOctetAS: Bool, includesNextHop: Bool) -> Bool {
    var isTellable = true
    typealias Flag = AttributeFlag
    let transitive = Flag.transitive
    let optional = Flag.optional
    func optionalTransitive(_ kind: PartialAttributes) -> UInt8 {
      Flag.optional | Flag.transitive | (partial.contains(kind) ? Flag.partial : 0)
    }
    func header(_ flags: UInt8, _ code: UInt8, _ count: Int) {
      if count > 0xffff { isTellable = false }
      if count > 255 {
        octets.append(flags | Flag.extendedLength)
        octets.append(code)
        octets.append16(UInt16(truncatingIfNeeded: count))
      } else {
        octets.append(flags)
        octets.append(code)
        octets.append(UInt8(count))
      }
    }
    var unknown = unknown[...]
    func passUnknown(before code: UInt8) {
      while let next = unknown.first, next.code < code {
        header(Flag.optional | Flag.transitive | Flag.partial, next.code, next.octets.count)
        octets += next.octets
        unknown.removeFirst()
      }
    }
    header(transitive, AttributeCode.origin, 1)
    octets.append(origin.rawValue)
    header(transitive, AttributeCode.asPath, asPath.encodedCount(fourOctet: fourOctetAS))
    asPath.encode(into: &octets, fourOctet: fourOctetAS)
    if includesNextHop, case .v4(let address) = nextHop {
      header(transitive, AttributeCode.nextHop, 4)
      octets.append32(address.rawValue)
    }
    if let multiExitDiscriminator {
      header(optional, AttributeCode.multiExitDiscriminator, 4)
      octets.append32(multiExitDiscriminator)
    }
    if let localPreference {
      header(transitive, AttributeCode.localPreference, 4)
      octets.append32(localPreference)
    }
    if isAtomicAggregate { header(transitive, AttributeCode.atomicAggregate, 0) }
    if let aggregator {
      header(optionalTransitive(.aggregator), AttributeCode.aggregator, fourOctetAS ? 8 : 6)
      if fourOctetAS { octets.append32(aggregator.asNumber.rawValue) } else { octets.append16(aggregator.asNumber.twoOctets) }
      octets.append32(aggregator.address.rawValue)
    }
    if !communities.isEmpty {
      header(optionalTransitive(.communities), AttributeCode.communities, communities.count * 4)
      for community in communities { octets.append32(community.rawValue) }
    }
    if let originatorID {
      header(optional, AttributeCode.originatorID, 4)
      octets.append32(originatorID.rawValue)
    }
    if !clusterList.isEmpty {
      header(optional, AttributeCode.clusterList, clusterList.count * 4)
      for cluster in clusterList { octets.append32(cluster.rawValue) }
    }
    passUnknown(before: AttributeCode.extendedCommunities)
    if !extendedCommunities.isEmpty {
      header(optionalTransitive(.extendedCommunities), AttributeCode.extendedCommunities, extendedCommunities.count * 8)
      for community in extendedCommunities { octets.append64(community.rawValue) }
    }
    if !fourOctetAS {
      // RFC 6793, section 4.2.2.
      if asPath.needsFourOctets {
        let path = asPath.withoutConfederation()
        header(optional | transitive, AttributeCode.as4Path, path.encodedCount(fourOctet: true))
        path.encode(into: &octets, fourOctet: true)
      }
      if let aggregator, !aggregator.asNumber.fitsTwoOctets {
        header(optional | transitive, AttributeCode.as4Aggregator, 8)
        octets.append32(aggregator.asNumber.rawValue)
        octets.append32(aggregator.address.rawValue)
      }
    }
    passUnknown(before: AttributeCode.largeCommunities)
    if !largeCommunities.isEmpty {
      header(optionalTransitive(.largeCommunities), AttributeCode.largeCommunities, largeCommunities.count * 12)
      for community in largeCommunities {
        octets.append32(community.global)
        octets.append32(community.local1)
        octets.append32(community.local2)
      }
    }
    passUnknown(before: AttributeCode.onlyToCustomer)
    if let onlyToCustomer {
      header(optionalTransitive(.onlyToCustomer), AttributeCode.onlyToCustomer, 4)
      octets.append32(onlyToCustomer.rawValue)
    }
    passUnknown(before: 255)
    for last in unknown {
      header(optional | transitive | Flag.partial, last.code, last.octets.count)
      octets += last.octets
    }
    return isTellable
  }
}

/// Appends whole UPDATE messages to octet arrays. What it appends can be sent to every peer with the same options.
public enum UpdateEncoder {
  /// Announces `destinations`, all of the family of `attributes`. False if the attributes are so many that no destination fits beside
  /// them: then nothing was appended, and the routes cannot be told to such a peer (RFC 4271, section 9.2).
  @discardableResult
  public static func announce(_ destinations: Span<NLRI>, with attributes: EncodedAttributes, into octets: inout [UInt8]) -> Bool {
    let limit = attributes.options.messageLengthMax
    let addPath = attributes.options.addPath.contains(attributes.family)
    let isClassic = attributes.reachHead.isEmpty
    // Header, two lengths, attributes; MP_REACH_NLRI with a header of four octets, since it may be long.
    let overhead = MessageLength.header + 4 + attributes.octets.count + (isClassic ? 0 : 4 + attributes.reachHead.count)
    let largest = 1 + (attributes.family.unicast == .v4 ? 4 : 16) + (addPath ? 4 : 0)
    guard attributes.isTellable, overhead + largest <= limit else { return false }
    var index = 0
    while index < destinations.count {
      let (end, size) = fitting(destinations, from: index, room: limit - overhead, addPath: addPath)
      octets.appendHeader(.update, bodyCount: overhead - MessageLength.header + size)
      octets.append16(0)
      if isClassic {
        octets.append16(UInt16(attributes.octets.count))
        octets += attributes.octets
        append(destinations, index..<end, size: size, addPath: addPath, to: &octets)
      } else {
        let reachCount = attributes.reachHead.count + size
        octets.append16(UInt16(4 + reachCount + attributes.octets.count))
        // RFC 7606, section 5.1: MP_REACH_NLRI comes first, so that a fault in another attribute cannot hide it.
        octets.append(AttributeFlag.optional | AttributeFlag.extendedLength)
        octets.append(AttributeCode.mpReach)
        octets.append16(UInt16(reachCount))
        octets += attributes.reachHead
        append(destinations, index..<end, size: size, addPath: addPath, to: &octets)
        octets += attributes.octets
      }
      index = end
    }
    return true
  }

  /// Withdraws `destinations` of `family`.
  public static func withdraw(_ destinations: Span<NLRI>, family: AddressFamily, options: EncodeOptions, into octets: inout [UInt8]) {
    let addPath = options.addPath.contains(family)
    let isClassic = family == .ipv4Unicast
    // Header, two lengths; MP_UNREACH_NLRI with a header of four octets and three of the family.
    let overhead = MessageLength.header + 4 + (isClassic ? 0 : 7)
    var index = 0
    while index < destinations.count {
      let (end, size) = fitting(destinations, from: index, room: options.messageLengthMax - overhead, addPath: addPath)
      octets.appendHeader(.update, bodyCount: overhead - MessageLength.header + size)
      if isClassic {
        octets.append16(UInt16(size))
        append(destinations, index..<end, size: size, addPath: addPath, to: &octets)
        octets.append16(0)
      } else {
        octets.append16(0)
        octets.append16(UInt16(7 + size))
        octets.append(AttributeFlag.optional | AttributeFlag.extendedLength)
        octets.append(AttributeCode.mpUnreach)
        octets.append16(UInt16(3 + size))
        octets.append16(family.afi)
        octets.append(family.safi)
        append(destinations, index..<end, size: size, addPath: addPath, to: &octets)
      }
      index = end
    }
  }

  @discardableResult
  public static func announce(_ destinations: [NLRI], with attributes: EncodedAttributes, into octets: inout [UInt8]) -> Bool {
    announce(destinations.span, with: attributes, into: &octets)
  }
  @discardableResult
  public static func announce(
    _ destinations: some Collection<NLRI>, with attributes: EncodedAttributes, into octets: inout [UInt8]
  ) -> Bool {
    announce(Array(destinations).span, with: attributes, into: &octets)
  }
  public static func withdraw(_ destinations: [NLRI], family: AddressFamily, options: EncodeOptions, into octets: inout [UInt8]) {
    withdraw(destinations.span, family: family, options: options, into: &octets)
  }
  public static func withdraw(
    _ destinations: some Collection<NLRI>, family: AddressFamily, options: EncodeOptions, into octets: inout [UInt8]
  ) {
    withdraw(Array(destinations).span, family: family, options: options, into: &octets)
  }

  /// How many destinations from `start` on take at most `room` octets: the end of their range, and the octets.
  private static func fitting(_ destinations: Span<NLRI>, from start: Int, room: Int, addPath: Bool) -> (end: Int, size: Int) {
    var size = 0
    var end = start
    while end < destinations.count {
      let next = size + destinations[end].encodedCount(addPath: addPath)
      if next > room { break }
      size = next
      end += 1
    }
    precondition(end > start, "the largest destination fits, as was checked before")
    return (end, size)
  }

  /// Writes destinations in place, into exactly the octets that they need: appending octet by octet costs several times as much.
  private static func append(_ destinations: Span<NLRI>, _ range: Range<Int>, size: Int, addPath: Bool, to octets: inout [UInt8]) {
    var at = octets.count
    octets.append(contentsOf: repeatElement(0, count: size))
    var target = octets.mutableSpan
    for index in range {
      let destination = destinations[index]
      if addPath {
        target[at] = UInt8(truncatingIfNeeded: destination.pathID >> 24)
        target[at + 1] = UInt8(truncatingIfNeeded: destination.pathID >> 16)
        target[at + 2] = UInt8(truncatingIfNeeded: destination.pathID >> 8)
        target[at + 3] = UInt8(truncatingIfNeeded: destination.pathID)
        at += 4
      }
      target[at] = destination.length
      at += 1
      let count = (Int(destination.length) + 7) >> 3
      var word = destination.high
      for offset in 0..<min(count, 8) {
        target[at + offset] = UInt8(truncatingIfNeeded: word >> 56)
        word <<= 8
      }
      if count > 8 {
        word = destination.low
        for offset in 8..<count {
          target[at + offset] = UInt8(truncatingIfNeeded: word >> 56)
          word <<= 8
        }
      }
      at += count
    }
  }

  /// The End-of-RIB marker (RFC 4724, section 2).
  public static func endOfRIB(_ family: AddressFamily, into octets: inout [UInt8]) {
    let isClassic = family == .ipv4Unicast
    octets.appendHeader(.update, bodyCount: isClassic ? 4 : 10)
    octets.append16(0)
    octets.append16(isClassic ? 0 : 6)
    if !isClassic {
      octets += [AttributeFlag.optional, AttributeCode.mpUnreach, 3]
      octets.append16(family.afi)
      octets.append(family.safi)
    }
  }
}

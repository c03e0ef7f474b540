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
    attributes.encode(into: &octets, fourOctetAS: options.fourOctetAS, includesNextHop: reachHead.isEmpty)
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
  /// Attributes in ascending order of their codes (RFC 4271, appendix F.3).
  func encode(into octets: inout [UInt8], fourOctetAS: Bool, includesNextHop: Bool) {
    typealias Flag = AttributeFlag
    let transitive = Flag.transitive
    let optional = Flag.optional
    func optionalTransitive(_ kind: PartialAttributes) -> UInt8 {
      Flag.optional | Flag.transitive | (partial.contains(kind) ? Flag.partial : 0)
    }
    func header(_ flags: UInt8, _ code: UInt8, _ count: Int) {
      precondition(count <= 0xffff, "an attribute has at most 65535 octets")
      if count > 255 {
        octets.append(flags | Flag.extendedLength)
        octets.append(code)
        octets.append16(UInt16(count))
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
  }
}

/// Appends whole UPDATE messages to octet arrays. What it appends can be sent to every peer with the same options.
public enum UpdateEncoder {
  /// Announces `destinations`, all of the family of `attributes`. False if the attributes are so many that no destination fits beside
  /// them: then nothing was appended, and the routes cannot be told to such a peer (RFC 4271, section 9.2).
  @discardableResult
  public static func announce(
    _ destinations: some Collection<NLRI>, with attributes: EncodedAttributes, into octets: inout [UInt8]
  ) -> Bool {
    let limit = attributes.options.messageLengthMax
    let addPath = attributes.options.addPath.contains(attributes.family)
    let isClassic = attributes.reachHead.isEmpty
    // Header, two lengths, attributes; MP_REACH_NLRI with a header of four octets, since it may be long.
    let overhead = MessageLength.header + 4 + attributes.octets.count + (isClassic ? 0 : 4 + attributes.reachHead.count)
    let largest = 1 + (attributes.family.unicast == .v4 ? 4 : 16) + (addPath ? 4 : 0)
    guard overhead + largest <= limit else { return false }
    var index = destinations.startIndex
    let end = destinations.endIndex
    while index != end {
      let start = octets.count
      octets.appendHeader(.update)
      octets.append16(0)
      let attributesLengthAt = octets.count
      octets.append16(0)
      var reachLengthAt = 0
      if !isClassic {
        // RFC 7606, section 5.1: MP_REACH_NLRI comes first, so that a fault in another attribute cannot hide it.
        octets.append(AttributeFlag.optional | AttributeFlag.extendedLength)
        octets.append(AttributeCode.mpReach)
        reachLengthAt = octets.count
        octets.append16(0)
        octets += attributes.reachHead
      }
      let destinationsStart: Int
      let room = start + limit
      if isClassic {
        octets += attributes.octets
        octets.patch16(at: attributesLengthAt, attributes.octets.count)
        destinationsStart = octets.count
        while index != end, octets.count + destinations[index].encodedCount(addPath: addPath) <= room {
          destinations[index].encode(into: &octets, addPath: addPath)
          destinations.formIndex(after: &index)
        }
      } else {
        destinationsStart = octets.count
        let reserved = attributes.octets.count
        while index != end, octets.count + reserved + destinations[index].encodedCount(addPath: addPath) <= room {
          destinations[index].encode(into: &octets, addPath: addPath)
          destinations.formIndex(after: &index)
        }
        octets.patch16(at: reachLengthAt, octets.count - reachLengthAt - 2)
        octets += attributes.octets
        octets.patch16(at: attributesLengthAt, octets.count - attributesLengthAt - 2)
      }
      precondition(octets.count > destinationsStart, "the largest destination fits, as was checked above")
      octets.patch16(at: start + 16, octets.count - start)
    }
    return true
  }

  /// Withdraws `destinations` of `family`.
  public static func withdraw(
    _ destinations: some Collection<NLRI>, family: AddressFamily, options: EncodeOptions, into octets: inout [UInt8]
  ) {
    let addPath = options.addPath.contains(family)
    var index = destinations.startIndex
    let end = destinations.endIndex
    while index != end {
      let start = octets.count
      octets.appendHeader(.update)
      // The last two octets of a classic withdrawal are the length of its attributes.
      let room = start + options.messageLengthMax - (family == .ipv4Unicast ? 2 : 0)
      let lengthAt: Int
      if family == .ipv4Unicast {
        lengthAt = octets.count
        octets.append16(0)
      } else {
        octets.append16(0)
        octets.append16(0)
        octets.append(AttributeFlag.optional | AttributeFlag.extendedLength)
        octets.append(AttributeCode.mpUnreach)
        lengthAt = octets.count
        octets.append16(0)
        octets.append16(family.afi)
        octets.append(family.safi)
      }
      while index != end, octets.count + destinations[index].encodedCount(addPath: addPath) <= room {
        destinations[index].encode(into: &octets, addPath: addPath)
        destinations.formIndex(after: &index)
      }
      octets.patch16(at: lengthAt, octets.count - lengthAt - 2)
      if family == .ipv4Unicast {
        octets.append16(0)
      } else {
        octets.patch16(at: start + 21, octets.count - start - 23)
      }
      octets.patch16(at: start + 16, octets.count - start)
    }
  }

  /// The End-of-RIB marker (RFC 4724, section 2).
  public static func endOfRIB(_ family: AddressFamily, into octets: inout [UInt8]) {
    let start = octets.count
    octets.appendHeader(.update)
    octets.append16(0)
    if family == .ipv4Unicast {
      octets.append16(0)
    } else {
      octets.append16(6)
      octets += [AttributeFlag.optional, AttributeCode.mpUnreach, 3]
      octets.append16(family.afi)
      octets.append(family.safi)
    }
    octets.patch16(at: start + 16, octets.count - start)
  }
}

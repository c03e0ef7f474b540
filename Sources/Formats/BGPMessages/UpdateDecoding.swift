/// Reads UPDATE messages with the error handling of RFC 7606: a fault costs as little as the RFC allows.
import Addresses

extension Update {
  /// Decodes the body of an UPDATE that stands at `range` of `octets`. Throws only what ends the session; lesser faults are remarks.
  static func decode(_ octets: Span<UInt8>, _ range: Range<Int>, options: DecodeOptions) throws(MessageFailure) -> Update {
    var decoder = UpdateDecoder(options: options)
    try decoder.decode(octets, range)
    return decoder.update
  }
}

/// The state of one UPDATE being read.
struct UpdateDecoder {
  let options: DecodeOptions
  var update = Update()
  /// Attributes seen, one bit for each code.
  private var seen: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
  var attributes = PathAttributes(nextHop: .v4(.unspecified))
  var classicNextHop: IPv4Address?
  var as4Path: ASPath?
  var as4Aggregator: Aggregator?
  var aggregatorIsTransition = false
  private var isWithdrawn = false
  /// Destinations of a family that we do not take: none of our business, but not missing either.
  private var offersForeign = false
  /// Repeated attributes; a message has room for thousands, and each remark becomes a line of a log.
  private var repetitions = 0
  private static let repetitionsTold = 8
  private var unreach: (family: AddressFamily, destinations: [NLRI])?
  private var reach: (family: AddressFamily, nextHop: NextHop?, destinations: [NLRI])?

  init(options: DecodeOptions) { self.options = options }

  mutating func treatAsWithdraw(_ reason: String) {
    isWithdrawn = true
    update.remarks.append(UpdateRemark(.treatAsWithdraw, reason))
  }
  mutating func discard(_ code: UInt8, _ reason: String) {
    update.remarks.append(UpdateRemark(.discardAttribute(code: code), reason))
  }

  mutating func decode(_ octets: Span<UInt8>, _ range: Range<Int>) throws(MessageFailure) {
    func length(at offset: Int) -> Int { Int(octets[offset]) << 8 | Int(octets[offset + 1]) }
    // RFC 4271, section 6.3: lengths that do not fit leave nothing to be trusted.
    guard range.count >= 4 else { throw MessageFailure(.malformedAttributeList, "the UPDATE has less than its two lengths") }
    let withdrawnStart = range.lowerBound + 2
    let withdrawnEnd = withdrawnStart + length(at: range.lowerBound)
    guard withdrawnEnd + 2 <= range.upperBound else {
      throw MessageFailure(.malformedAttributeList, "Withdrawn Routes Length exceeds the message")
    }
    let attributesStart = withdrawnEnd + 2
    let attributesEnd = attributesStart + length(at: withdrawnEnd)
    guard attributesEnd <= range.upperBound else {
      throw MessageFailure(.malformedAttributeList, "Total Path Attribute Length exceeds the message")
    }
    let addPath = options.addPath.contains(.ipv4Unicast)
    // RFC 7606, section 3 (j): destinations that cannot be parsed cannot be withdrawn either, so the session must go.
    guard let withdrawn = NLRI.decode(octets, withdrawnStart..<withdrawnEnd, family: .v4, addPath: addPath) else {
      throw MessageFailure(.invalidNetworkField, "a withdrawn prefix is malformed")
    }
    guard let reachable = NLRI.decode(octets, attributesEnd..<range.upperBound, family: .v4, addPath: addPath) else {
      throw MessageFailure(.invalidNetworkField, "a prefix is malformed")
    }
    try decodeAttributes(octets, attributesStart..<attributesEnd)
    let offersMultiprotocol = reach.map { !$0.destinations.isEmpty } ?? false
    if !reachable.isEmpty || offersMultiprotocol {
      checkMandatory(needsNextHop: !reachable.isEmpty)
    } else if isWithdrawn, !offersForeign {
      // RFC 7606, section 5.2: the fault may have swallowed the destinations, and then nothing can be withdrawn.
      throw MessageFailure(.malformedAttributeList, "an UPDATE without destinations: " + (update.remarks.last?.reason ?? ""))
    }
    finishAttributes()
    if range.count == 4, options.families.contains(.ipv4Unicast) { update.endOfRIB = .ipv4Unicast }
    if let unreach, unreach.destinations.isEmpty, withdrawn.isEmpty, reachable.isEmpty, reach == nil, seenOnlyUnreach {
      update.endOfRIB = unreach.family
    }
    assemble(withdrawn: withdrawn, reachable: reachable)
  }

  private mutating func checkMandatory(needsNextHop: Bool) {
    func isMissing(_ code: UInt8) -> Bool { seen.0 & 1 << UInt64(code) == 0 }
    // RFC 7606, section 3 (d). An attribute that came and was malformed has been reported already.
    if isMissing(AttributeCode.origin) { treatAsWithdraw("ORIGIN is missing") }
    if isMissing(AttributeCode.asPath) { treatAsWithdraw("AS_PATH is missing") }
    if needsNextHop, isMissing(AttributeCode.nextHop) { treatAsWithdraw("NEXT_HOP is missing") }
    if !options.isExternal, isMissing(AttributeCode.localPreference) { treatAsWithdraw("LOCAL_PREF is missing") }
    if needsNextHop, let classicNextHop, let reason = refusal(of: .v4(classicNextHop)) { treatAsWithdraw("NEXT_HOP " + reason) }
    if let reach, !reach.destinations.isEmpty, let nextHop = reach.nextHop, let reason = refusal(of: nextHop) {
      treatAsWithdraw("the next hop in MP_REACH_NLRI " + reason)
    }
    guard !isWithdrawn else { return }
    if let first = options.firstAS, attributes.asPath.neighborAS != first { treatAsWithdraw("AS_PATH does not begin with AS \(first)") }
  }

  /// Why an address cannot be a next hop (RFC 4271, section 6.3), or nil if it can.
  private func refusal(of nextHop: NextHop) -> String? {
    func judge(_ address: IPAddress) -> String? {
      if address.isUnspecified { return "is unspecified" }
      if address.isMulticast { return "\(address) is a multicast address" }
      if address.isLoopback { return "\(address) is a loopback address" }
      if case .v4(let address) = address, address.rawValue >> 28 == 0xf || address.rawValue >> 24 == 0 { return "\(address) is reserved" }
      return options.localAddresses.contains(address) ? "\(address) is our own address" : nil
    }
    switch nextHop {
    case .v4: return judge(nextHop.address)
    case .v6(let global, let linkLocal):
      if let linkLocal {
        guard linkLocal.isLinkLocal else { return "has \(linkLocal) where a link-local address belongs" }
        if let reason = judge(.v6(linkLocal)) { return reason }
        // A peer without a global address sends `::` or its link-local address twice (common practice beyond RFC 2545).
        if global.isUnspecified || global == linkLocal { return nil }
      }
      if let mapped = global.mappedIPv4 { return judge(.v4(mapped)) }
      return judge(.v6(global))
    }
  }

  private var seenOnlyUnreach: Bool { seen == (1 << UInt64(AttributeCode.mpUnreach), 0, 0, 0) }

  /// Notes that the attribute came; true if it had come before.
  private mutating func wasSeen(_ code: UInt8) -> Bool {
    let bit: UInt64 = 1 << UInt64(code & 63)
    let before: UInt64
    switch code >> 6 {
    case 0:
      before = seen.0 & bit
      seen.0 |= bit
    case 1:
      before = seen.1 & bit
      seen.1 |= bit
    case 2:
      before = seen.2 & bit
      seen.2 |= bit
    default:
      before = seen.3 & bit
      seen.3 |= bit
    }
    return before != 0
  }

  private mutating func decodeAttributes(_ octets: Span<UInt8>, _ range: Range<Int>) throws(MessageFailure) {
    var at = range.lowerBound
    while at < range.upperBound {
      // RFC 7606, section 4: an overrun ends the list; the NLRI field behind it is still where the lengths say.
      guard range.upperBound - at >= 3 else { return treatAsWithdraw("the attributes end inside the header of one") }
      let start = at
      let flags = octets[at]
      let code = octets[at + 1]
      var length = Int(octets[at + 2])
      at += 3
      if flags & AttributeFlag.extendedLength != 0 {
        guard at < range.upperBound else { return treatAsWithdraw("the attributes end inside the header of one") }
        length = length << 8 | Int(octets[at])
        at += 1
      }
      guard range.upperBound - at >= length else { return treatAsWithdraw("\(AttributeCode.name(code)) is longer than the attributes") }
      let value = at..<(at + length)
      at += length
      if wasSeen(code) {
        // RFC 7606, section 3 (g).
        if code == AttributeCode.mpReach || code == AttributeCode.mpUnreach {
          throw MessageFailure(.malformedAttributeList, "\(AttributeCode.name(code)) stands twice")
        }
        repetitions += 1
        if repetitions <= Self.repetitionsTold { discard(code, "it stands twice; the first counts") }
        continue
      }
      if !flagsAreRight(code, flags) {
        // RFC 7606, section 3 (c): the destinations of MP_REACH_NLRI and MP_UNREACH_NLRI are still needed, to be withdrawn.
        treatAsWithdraw("the flags of \(AttributeCode.name(code)) are \(flags)")
        if code != AttributeCode.mpReach, code != AttributeCode.mpUnreach { continue }
      }
      switch code {
      case AttributeCode.mpReach: try decodeReach(octets, value, start)
      case AttributeCode.mpUnreach: try decodeUnreach(octets, value, start)
      default: try decodeAttribute(code, flags: flags, octets, value, start)
      }
    }
  }

  /// Optional and Transitive must be what the attribute's specification says; other bits do not matter.
  private func flagsAreRight(_ code: UInt8, _ flags: UInt8) -> Bool {
    let kind = flags & (AttributeFlag.optional | AttributeFlag.transitive)
    switch code {
    case AttributeCode.origin, AttributeCode.asPath, AttributeCode.nextHop, AttributeCode.localPreference,
      AttributeCode.atomicAggregate:
      return kind == AttributeFlag.transitive
    case AttributeCode.multiExitDiscriminator, AttributeCode.originatorID, AttributeCode.clusterList, AttributeCode.mpReach,
      AttributeCode.mpUnreach:
      return kind == AttributeFlag.optional
    case AttributeCode.aggregator, AttributeCode.communities, AttributeCode.extendedCommunities, AttributeCode.as4Path,
      AttributeCode.as4Aggregator, AttributeCode.largeCommunities, AttributeCode.onlyToCustomer:
      return kind == AttributeFlag.optional | AttributeFlag.transitive
    default: return true
    }
  }

  /// The consequence of a broken multiprotocol attribute.
  private mutating func multiprotocolFault(_ family: AddressFamily?, _ attribute: [UInt8], _ reason: String) throws(MessageFailure) {
    if options.disablesFamilies, let family, family != .ipv4Unicast {
      update.remarks.append(UpdateRemark(.disableFamily(family), reason))
    } else {
      throw MessageFailure(.optionalAttributeError(attribute), reason)
    }
  }

  private mutating func decodeUnreach(_ octets: Span<UInt8>, _ value: Range<Int>, _ start: Int) throws(MessageFailure) {
    func attribute() -> [UInt8] { octets.copy(start..<value.upperBound) }
    guard value.count >= 3 else { return try multiprotocolFault(nil, attribute(), "MP_UNREACH_NLRI is too short") }
    let family = AddressFamily(afi: octets.u16(at: value.lowerBound), safi: octets[value.lowerBound + 2])
    guard options.families.contains(family), let unicast = family.unicast else { return }
    guard
      let destinations = NLRI.decode(
        octets, (value.lowerBound + 3)..<value.upperBound, family: unicast, addPath: options.addPath.contains(family))
    else { return try multiprotocolFault(family, attribute(), "a prefix in MP_UNREACH_NLRI is malformed") }
    unreach = (family, destinations)
  }

  private mutating func decodeReach(_ octets: Span<UInt8>, _ value: Range<Int>, _ start: Int) throws(MessageFailure) {
    func attribute() -> [UInt8] { octets.copy(start..<value.upperBound) }
    guard value.count >= 5 else { return try multiprotocolFault(nil, attribute(), "MP_REACH_NLRI is too short") }
    let family = AddressFamily(afi: octets.u16(at: value.lowerBound), safi: octets[value.lowerBound + 2])
    let hopStart = value.lowerBound + 4
    let hopCount = Int(octets[value.lowerBound + 3])
    guard options.families.contains(family), let unicast = family.unicast else {
      offersForeign = value.upperBound - hopStart > hopCount + 1
      return
    }
    guard value.upperBound - hopStart >= hopCount + 1 else {
      return try multiprotocolFault(family, attribute(), "the next hop in MP_REACH_NLRI is longer than the attribute")
    }
    let nextHop: NextHop
    switch (hopCount, unicast) {
    case (4, .v4): nextHop = .v4(octets.ipv4(at: hopStart))
    case (16, .v6): nextHop = .v6(octets.ipv6(at: hopStart), linkLocal: nil)
    case (32, .v6): nextHop = .v6(octets.ipv6(at: hopStart), linkLocal: octets.ipv6(at: hopStart + 16))
    case (16, .v4) where options.extendedNextHop.contains(family): nextHop = .v6(octets.ipv6(at: hopStart), linkLocal: nil)
    case (32, .v4) where options.extendedNextHop.contains(family):
      nextHop = .v6(octets.ipv6(at: hopStart), linkLocal: octets.ipv6(at: hopStart + 16))
    default: return try multiprotocolFault(family, attribute(), "a next hop of \(hopCount) octets for \(family)")
    }
    // The octet behind the next hop is reserved; it once counted SNPAs (RFC 4760, section 3).
    guard
      let destinations = NLRI.decode(
        octets, (hopStart + hopCount + 1)..<value.upperBound, family: unicast, addPath: options.addPath.contains(family))
    else { return try multiprotocolFault(family, attribute(), "a prefix in MP_REACH_NLRI is malformed") }
    reach = (family, nextHop, destinations)
  }

  private mutating func finishAttributes() {
    guard !options.fourOctetAS else { return }
    // RFC 6793, section 4.2.3: an AGGREGATOR with a real number says that the AS4 attributes are not about this route.
    if attributes.aggregator != nil, !aggregatorIsTransition, as4Aggregator != nil { return }
    if aggregatorIsTransition, let as4Aggregator { attributes.aggregator = as4Aggregator }
    if let as4Path { attributes.asPath = attributes.asPath.merged(withAS4Path: as4Path) }
  }

  private mutating func assemble(withdrawn: [NLRI], reachable: [NLRI]) {
    // A family that has just been turned off says nothing more.
    let takesIPv4 = options.families.contains(.ipv4Unicast)
    if takesIPv4, !withdrawn.isEmpty { update.withdrawals.append(Update.Withdrawal(.ipv4Unicast, withdrawn)) }
    if let unreach, !unreach.destinations.isEmpty {
      update.withdrawals.append(Update.Withdrawal(unreach.family, unreach.destinations))
    }
    if takesIPv4, !reachable.isEmpty {
      if isWithdrawn {
        update.withdrawals.append(Update.Withdrawal(.ipv4Unicast, reachable))
      } else if let classicNextHop {
        attributes.nextHop = .v4(classicNextHop)
        update.announcements.append(Update.Announcement(.ipv4Unicast, attributes, reachable))
      }
    }
    if let reach, !reach.destinations.isEmpty {
      if isWithdrawn {
        update.withdrawals.append(Update.Withdrawal(reach.family, reach.destinations))
      } else if let nextHop = reach.nextHop {
        attributes.nextHop = nextHop
        update.announcements.append(Update.Announcement(reach.family, attributes, reach.destinations))
      }
    }
  }
}

extension Span<UInt8> {
  func u16(at offset: Int) -> UInt16 { UInt16(self[offset]) << 8 | UInt16(self[offset + 1]) }
  func u32(at offset: Int) -> UInt32 { UInt32(u16(at: offset)) << 16 | UInt32(u16(at: offset + 2)) }
  func u64(at offset: Int) -> UInt64 { UInt64(u32(at: offset)) << 32 | UInt64(u32(at: offset + 4)) }
  func ipv4(at offset: Int) -> IPv4Address { IPv4Address(rawValue: u32(at: offset)) }
  func ipv6(at offset: Int) -> IPv6Address { IPv6Address(high: u64(at: offset), low: u64(at: offset + 8)) }
  func copy(_ range: Range<Int>) -> [UInt8] { range.map { self[$0] } }
}

/// Each path attribute but the two that carry destinations, with the reaction that its specification wants to a malformed one
/// (RFC 7606, section 7; RFC 6793; RFC 8092, section 5; RFC 9234, section 5).
import Addresses

extension UpdateDecoder {
  /// Reads the attribute that begins at `start` and whose value stands at `value`.
  mutating func decodeAttribute(
    _ code: UInt8, flags: UInt8, _ octets: Span<UInt8>, _ value: Range<Int>, _ start: Int
  ) throws(MessageFailure) {
    let at = value.lowerBound
    let isPartial = flags & AttributeFlag.partial != 0
    switch code {
    case AttributeCode.origin:
      // RFC 7606, section 7.1.
      guard value.count == 1, let origin = Origin(rawValue: octets[at]) else {
        return treatAsWithdraw(value.count == 1 ? "ORIGIN is \(octets[at])" : wrongLength(code, value))
      }
      attributes.origin = origin

    case AttributeCode.asPath:
      // RFC 7606, section 7.2.
      switch ASPath.decode(octets, value, fourOctet: options.fourOctetAS) {
      case .failure(let malformed): treatAsWithdraw("AS_PATH: " + malformed.reason)
      case .success(let path):
        if path.hasZero {
          treatAsWithdraw("AS 0 in AS_PATH (RFC 7607)")
        } else if path.hasConfederationSegments, !options.isConfederationMember {
          treatAsWithdraw("confederation segments in AS_PATH from a peer outside of a confederation of ours")
        } else {
          attributes.asPath = path
        }
      }

    case AttributeCode.nextHop:
      // RFC 7606, section 7.3. Whether the address is usable matters only to destinations that use it.
      guard value.count == 4 else { return treatAsWithdraw(wrongLength(code, value)) }
      classicNextHop = octets.ipv4(at: at)

    case AttributeCode.multiExitDiscriminator:
      // RFC 7606, section 7.4.
      guard value.count == 4 else { return treatAsWithdraw(wrongLength(code, value)) }
      attributes.multiExitDiscriminator = octets.u32(at: at)

    case AttributeCode.localPreference:
      // RFC 7606, section 7.5.
      if options.isExternal { return discard(code, "it comes from an external peer") }
      guard value.count == 4 else { return treatAsWithdraw(wrongLength(code, value)) }
      attributes.localPreference = octets.u32(at: at)

    case AttributeCode.atomicAggregate:
      // RFC 7606, section 7.6.
      guard value.isEmpty else { return discard(code, wrongLength(code, value)) }
      attributes.isAtomicAggregate = true

    case AttributeCode.aggregator:
      // RFC 7606, section 7.7.
      guard value.count == (options.fourOctetAS ? 8 : 6) else { return discard(code, wrongLength(code, value)) }
      let number = options.fourOctetAS ? ASNumber(octets.u32(at: at)) : ASNumber(UInt32(octets.u16(at: at)))
      guard !number.isZero else { return discard(code, "AS 0 (RFC 7607)") }
      attributes.aggregator = Aggregator(asNumber: number, address: octets.ipv4(at: value.upperBound - 4))
      aggregatorIsTransition = !options.fourOctetAS && number == .transition
      if isPartial { attributes.partial.insert(.aggregator) }

    case AttributeCode.communities:
      // RFC 7606, section 7.8.
      guard isMultiple(value, of: 4) else { return treatAsWithdraw(wrongLength(code, value)) }
      attributes.communities = stride(from: at, to: value.upperBound, by: 4).map { Community(rawValue: octets.u32(at: $0)) }
      if isPartial { attributes.partial.insert(.communities) }

    case AttributeCode.originatorID:
      // RFC 7606, section 7.9.
      if options.isExternal { return discard(code, "it comes from an external peer") }
      guard value.count == 4 else { return treatAsWithdraw(wrongLength(code, value)) }
      attributes.originatorID = RouterID(rawValue: octets.u32(at: at))

    case AttributeCode.clusterList:
      // RFC 7606, section 7.10.
      if options.isExternal { return discard(code, "it comes from an external peer") }
      guard isMultiple(value, of: 4) else { return treatAsWithdraw(wrongLength(code, value)) }
      attributes.clusterList = stride(from: at, to: value.upperBound, by: 4).map { RouterID(rawValue: octets.u32(at: $0)) }

    case AttributeCode.extendedCommunities:
      // RFC 7606, section 7.14.
      guard isMultiple(value, of: 8) else { return treatAsWithdraw(wrongLength(code, value)) }
      var communities = stride(from: at, to: value.upperBound, by: 8).map { ExtendedCommunity(rawValue: octets.u64(at: $0)) }
      // RFC 4360, section 6: those that may not cross the border of an AS are dropped at the border.
      if options.isExternal { communities.removeAll { !$0.isTransitive } }
      attributes.extendedCommunities = communities
      if isPartial { attributes.partial.insert(.extendedCommunities) }

    case AttributeCode.largeCommunities:
      // RFC 8092, section 5: like COMMUNITIES; section 3: duplicates are dropped silently.
      guard isMultiple(value, of: 12) else { return treatAsWithdraw(wrongLength(code, value)) }
      var known: Set<LargeCommunity> = []
      for offset in stride(from: at, to: value.upperBound, by: 12) {
        let community = LargeCommunity(octets.u32(at: offset), octets.u32(at: offset + 4), octets.u32(at: offset + 8))
        if known.insert(community).inserted { attributes.largeCommunities.append(community) }
      }
      if isPartial { attributes.partial.insert(.largeCommunities) }

    case AttributeCode.as4Path:
      // RFC 6793, sections 3 and 6: a speaker of four octets never sends it, and a malformed one is ignored.
      if options.fourOctetAS { return discard(code, "the peer speaks four-octet AS numbers") }
      switch ASPath.decode(octets, value, fourOctet: true) {
      case .failure(let malformed): discard(code, malformed.reason)
      case .success(let path):
        if path.hasZero { return discard(code, "AS 0 (RFC 7607)") }
        as4Path = path
      }

    case AttributeCode.as4Aggregator:
      // RFC 6793, section 6.
      if options.fourOctetAS { return discard(code, "the peer speaks four-octet AS numbers") }
      guard value.count == 8 else { return discard(code, wrongLength(code, value)) }
      let number = ASNumber(octets.u32(at: at))
      guard !number.isZero else { return discard(code, "AS 0 (RFC 7607)") }
      as4Aggregator = Aggregator(asNumber: number, address: octets.ipv4(at: at + 4))

    case AttributeCode.onlyToCustomer:
      // RFC 9234, section 5.
      guard value.count == 4 else { return treatAsWithdraw(wrongLength(code, value)) }
      attributes.onlyToCustomer = ASNumber(octets.u32(at: at))
      if isPartial { attributes.partial.insert(.onlyToCustomer) }

    default:
      if flags & AttributeFlag.optional == 0 {
        // RFC 4271, section 6.3; RFC 7606 leaves it as it was.
        throw MessageFailure(
          .unrecognizedWellKnown(octets.copy(start..<value.upperBound)), "attribute \(code) is called well-known, and is not")
      }
      // RFC 4271, section 5: an unknown non-transitive attribute is ignored quietly.
      guard flags & AttributeFlag.transitive != 0 else { return }
      let attribute = UnknownAttribute(code: code, octets: octets.copy(value))
      let index = attributes.unknown.firstIndex { $0.code > code } ?? attributes.unknown.count
      attributes.unknown.insert(attribute, at: index)
    }
  }

  private func wrongLength(_ code: UInt8, _ value: Range<Int>) -> String { "\(AttributeCode.name(code)) has \(value.count) octets" }
  private func isMultiple(_ value: Range<Int>, of unit: Int) -> Bool { !value.isEmpty && value.count % unit == 0 }
}

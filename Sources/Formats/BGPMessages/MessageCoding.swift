/// Messages between their octets and their values: the header of RFC 4271, section 4.1, and the dispatch on the type.
import Octets

extension [UInt8] {
  /// Marker, length, type. A length that is not yet known is patched later, at offset 16.
  mutating func appendHeader(_ type: MessageType, bodyCount: Int = 0) {
    append(contentsOf: repeatElement(0xff, count: 16))
    append16(UInt16(MessageLength.header + bodyCount))
    append(type.rawValue)
  }
}

extension Message {
  /// The message as octets, header included. `options` matters to UPDATE only, which may need several messages.
  public func encoded(options: EncodeOptions = EncodeOptions()) -> [UInt8] {
    var octets: [UInt8] = []
    encode(into: &octets, options: options)
    return octets
  }

  public func encode(into octets: inout [UInt8], options: EncodeOptions = EncodeOptions()) {
    if case .update(let update) = self { return update.encode(into: &octets, options: options) }
    let start = octets.count
    octets.appendHeader(type)
    switch self {
    case .open(let open): open.encode(into: &octets)
    case .update, .keepalive: break
    case .notification(let notification):
      octets.append(notification.code)
      octets.append(notification.subcode)
      octets += notification.data.prefix(MessageLength.standardMax - MessageLength.header - 2)
    case .routeRefresh(let refresh):
      octets.append16(refresh.family.afi)
      octets.append((refresh.kind ?? .request).rawValue)
      octets.append(refresh.family.safi)
    }
    octets.patch16(at: start + 16, octets.count - start)
  }

  /// Decodes the body of a message of `type` that stands at `range` of `octets`; the header was checked before.
  static func decode(_ type: MessageType, _ octets: Span<UInt8>, _ range: Range<Int>, options: DecodeOptions) throws(MessageFailure)
    -> Message
  {
    switch type {
    case .keepalive: return .keepalive
    case .update: return .update(try Update.decode(octets, range, options: options))
    case .open:
      var reader = OctetReader(octets.extracting(range), base: MessageLength.header)
      return .open(try Open(decoding: &reader))
    case .notification:
      let data = octets.copy((range.lowerBound + 2)..<range.upperBound)
      return .notification(Notification(code: octets[range.lowerBound], subcode: octets[range.lowerBound + 1], data: data))
    case .routeRefresh:
      let at = range.lowerBound
      let subtype = octets[at + 2]
      // RFC 7313, section 5. An ordinary request may carry the filters of RFC 5291, which we did not ask for.
      if range.count != 4, subtype == 1 || subtype == 2 {
        throw MessageFailure(
          .routeRefreshLength(octets.copy((at - MessageLength.header)..<range.upperBound)), "ROUTE-REFRESH of \(range.count) octets")
      }
      let family = AddressFamily(afi: octets.u16(at: at), safi: octets[at + 3])
      return .routeRefresh(RouteRefresh(family, RouteRefresh.Kind(rawValue: subtype)))
    }
  }

  /// Decodes one whole message that fills `octets`; for tests and recordings. Sessions use `MessageFramer`.
  public static func decode(_ octets: [UInt8], options: DecodeOptions = DecodeOptions()) throws(MessageFailure) -> Message {
    var framer = MessageFramer()
    framer.append(octets.span)
    guard let message = try framer.next(options: options), framer.isEmpty else {
      throw MessageFailure(.badMessageLength(UInt16(truncatingIfNeeded: octets.count)), "the octets are not one message")
    }
    return message
  }
}

extension Update {
  /// Writes withdrawals, then announcements, then the End-of-RIB marker.
  public func encode(into octets: inout [UInt8], options: EncodeOptions) {
    for withdrawal in withdrawals {
      UpdateEncoder.withdraw(withdrawal.destinations, family: withdrawal.family, options: options, into: &octets)
    }
    for announcement in announcements {
      let attributes = EncodedAttributes(announcement.attributes, family: announcement.family, options: options)
      UpdateEncoder.announce(announcement.destinations, with: attributes, into: &octets)
    }
    if let endOfRIB { UpdateEncoder.endOfRIB(endOfRIB, into: &octets) }
  }
}

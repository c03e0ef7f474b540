/// OPEN: who the other speaker is and what it can do (RFC 4271, section 4.2; RFC 5492; RFC 9072).
import Octets

public struct Open: Hashable, Sendable {
  /// The number in the fixed field: `AS_TRANS` where the real one needs four octets.
  public var twoOctetAS: UInt16
  /// 0, or 3...65535 seconds.
  public var holdTimeSeconds: UInt16
  public var routerID: RouterID
  public var capabilities: [Capability]

  public init(asNumber: ASNumber, holdTimeSeconds: UInt16, routerID: RouterID, capabilities: [Capability]) {
    twoOctetAS = asNumber.twoOctets
    self.holdTimeSeconds = holdTimeSeconds
    self.routerID = routerID
    self.capabilities = capabilities
  }

  /// The four-octet number if it is announced, otherwise that of the fixed field.
  public var asNumber: ASNumber {
    for case .fourOctetAS(let number) in capabilities { return number }
    return ASNumber(UInt32(twoOctetAS))
  }
}

extension Open {
  /// Decodes the body; what a speaker may never say is refused here, what depends on configuration is left to the session.
  init(decoding reader: inout OctetReader) throws(MessageFailure) {
    guard let version = try? reader.u8() else { throw MessageFailure(.openMalformed, "the OPEN is too short") }
    guard version == 4 else { throw MessageFailure(.unsupportedVersion, "BGP version \(version)") }
    do throws(WireError) {
      twoOctetAS = try reader.u16()
      holdTimeSeconds = try reader.u16()
      routerID = try RouterID(rawValue: reader.u32())
    } catch {
      throw MessageFailure(.openMalformed, "the OPEN is too short")
    }
    capabilities = []
    try decodeParameters(&reader)
    if asNumber.isZero || twoOctetAS == 0 { throw MessageFailure(.badPeerAS, "AS 0 (RFC 7607)") }
    // RFC 4271, section 6.2, as updated by RFC 6286, section 2.2.
    if routerID.rawValue == 0 { throw MessageFailure(.badIdentifier, "the BGP identifier is 0.0.0.0") }
    // RFC 4271, section 4.2: the hold time is either zero or at least three seconds.
    if holdTimeSeconds == 1 || holdTimeSeconds == 2 { throw MessageFailure(.unacceptableHoldTime, "hold time \(holdTimeSeconds) s") }
  }

  private mutating func decodeParameters(_ reader: inout OctetReader) throws(MessageFailure) {
    do throws(WireError) {
      var length = try Int(reader.u8())
      // RFC 9072, section 2: 255 in the type of the first parameter announces lengths of two octets.
      var isExtended = false
      if length != 0, !reader.isAtEnd { isExtended = try reader.peek() == 255 }
      if isExtended {
        try reader.skip(1)
        length = try Int(reader.u16())
      }
      guard reader.remaining == length else { throw WireError(.invalid("optional parameters length \(length)"), at: reader.offset) }
      while !reader.isAtEnd {
        let type = try reader.u8()
        let count = isExtended ? try Int(reader.u16()) : try Int(reader.u8())
        var parameter = try reader.nested(count)
        guard type == 2 else { throw WireError(.invalid(Self.unknownParameter), at: reader.offset) }
        while !parameter.isAtEnd { capabilities.append(try Capability(decoding: &parameter)) }
      }
    } catch {
      if error.kind == .invalid(Self.unknownParameter) { throw MessageFailure(.unsupportedOptionalParameter, Self.unknownParameter) }
      throw MessageFailure(.openMalformed, "OPEN: \(error)")
    }
  }
  private static let unknownParameter = "an optional parameter that is not capabilities"

  func encode(into octets: inout [UInt8]) {
    octets.append(4)
    octets.append16(twoOctetAS)
    octets.append16(holdTimeSeconds)
    octets.append32(routerID.rawValue)
    let encoded = capabilities.map(\.encoded)
    let total = encoded.reduce(0) { $0 + $1.count }
    if total == 0 {
      octets.append(0)
    } else if total + 2 <= 255 {
      // One parameter with all capabilities, the form that everybody reads.
      octets.append(UInt8(total + 2))
      octets.append(2)
      octets.append(UInt8(total))
      octets += encoded.joined()
    } else {
      octets += [255, 255]
      octets.append16(UInt16(total + 3))
      octets.append(2)
      octets.append16(UInt16(total))
      octets += encoded.joined()
    }
  }
}

/// The beginning of an IP packet, as far as a flow's record needs it.
import Addresses
public import HostPlans
public import Octets
import Resources

extension Flow {
  /// From the first octets of a packet, and the packet's whole length; nil for what is no IP packet or ends too early.
  ///
  /// RFC 791, section 3.1; RFC 8200, section 3. Extension headers that may stand before the transport's are skipped, as the kernel's rules do.
  public static func reading(_ octets: [UInt8]) -> (flow: Flow, length: Int)? {
    var reader = OctetReader(octets.span)
    return try? read(&reader)
  }

  private static func read(_ reader: inout OctetReader) throws(WireError) -> (flow: Flow, length: Int)? {
    let first = try reader.u8()
    switch first >> 4 {
    case 4:
      try reader.skip(1)
      let length = Int(try reader.u16())
      try reader.skip(2)
      let fragment = try reader.u16()
      try reader.skip(1)
      let number = try reader.u8()
      try reader.skip(2)
      guard let source = IPAddress(octets: try reader.array(4)), let destination = IPAddress(octets: try reader.array(4)),
        let ipProtocol = number == 0 ? nil : NetworkProtocol(number: number)
      else { return nil }
      try reader.skip(max(0, Int(first & 15) * 4 - 20))
      var flow = Flow(source, destination, ipProtocol)
      if fragment & 0x1fff == 0 { flow.readTransport(&reader) }
      return (flow, length)
    case 6:
      try reader.skip(3)
      let length = Int(try reader.u16()) + 40
      var next = try reader.u8()
      try reader.skip(1)
      guard let source = IPAddress(octets: try reader.array(16)), let destination = IPAddress(octets: try reader.array(16)) else { return nil }
      // Hop-by-hop, routing, destination options: length in units of eight octets without the first.
      while [0, 43, 60].contains(next), reader.remaining >= 8 {
        let following = try reader.u8()
        let units = Int(try reader.u8())
        try reader.skip(min(6 + units * 8, reader.remaining))
        next = following
      }
      guard next != 0 else { return nil }
      var flow = Flow(source, destination, NetworkProtocol(number: next))
      flow.readTransport(&reader)
      return (flow, length)
    default: return nil
    }
  }

  private mutating func readTransport(_ reader: inout OctetReader) {
    if ipProtocol.hasPorts {
      guard let source = try? reader.u16(), let destination = try? reader.u16() else { return }
      (sourcePort, destinationPort) = (source, destination)
    } else if ipProtocol == .icmp || ipProtocol == .icmpv6 {
      guard let type = try? reader.u8(), let code = try? reader.u8() else { return }
      (icmpType, icmpCode) = (type, code)
    }
  }
}

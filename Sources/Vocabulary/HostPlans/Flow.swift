/// The first packet of a connection, as policy sees it.
public import Addresses
public import Resources

public struct Flow: Hashable, Sendable {
  public var source: IPAddress
  public var destination: IPAddress
  public var ipProtocol: NetworkProtocol
  /// Nil for protocols without ports.
  public var sourcePort: UInt16?
  public var destinationPort: UInt16?
  /// Of ICMP and ICMPv6.
  public var icmpType: UInt8?
  public var icmpCode: UInt8?
  public init(
    _ source: IPAddress, _ destination: IPAddress, _ ipProtocol: NetworkProtocol, sourcePort: UInt16? = nil, destinationPort: UInt16? = nil,
    icmpType: UInt8? = nil, icmpCode: UInt8? = nil
  ) {
    (self.source, self.destination, self.ipProtocol) = (source, destination, ipProtocol)
    (self.sourcePort, self.destinationPort, self.icmpType, self.icmpCode) = (sourcePort, destinationPort, icmpType, icmpCode)
  }
  public var family: IPFamily { destination.family }
}

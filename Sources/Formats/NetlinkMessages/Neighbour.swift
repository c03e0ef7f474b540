/// Neighbours: who answers for an address on an interface, and for whom we answer there.

public import Addresses
public import Octets

public struct Neighbour: Hashable, Sendable, CustomStringConvertible {
  /// NUD_*.
  public struct State: OptionSet, Hashable, Sendable {
    public let rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    public static let incomplete = State(rawValue: 0x01)
    public static let reachable = State(rawValue: 0x02)
    public static let stale = State(rawValue: 0x04)
    public static let delay = State(rawValue: 0x08)
    public static let probe = State(rawValue: 0x10)
    public static let failed = State(rawValue: 0x20)
    public static let noARP = State(rawValue: 0x40)
    /// Entered by hand; never aged nor probed.
    public static let permanent = State(rawValue: 0x80)
  }
  public var interface: UInt32
  public var address: IPAddress
  /// Nil for a proxy entry and while it is being asked for.
  public var mac: MACAddress?
  public var state: State
  /// We answer for this address on this interface (NTF_PROXY).
  public var isProxy: Bool

  public init(interface: UInt32, address: IPAddress, mac: MACAddress?, state: State = .permanent, isProxy: Bool = false) {
    self.interface = interface
    self.address = address
    self.mac = mac
    self.state = state
    self.isProxy = isProxy
  }
  public static func permanent(_ address: IPAddress, _ mac: MACAddress, interface: UInt32) -> Neighbour {
    Neighbour(interface: interface, address: address, mac: mac)
  }
  public static func proxy(_ address: IPAddress, interface: UInt32) -> Neighbour {
    Neighbour(interface: interface, address: address, mac: nil, state: [], isProxy: true)
  }
  public var description: String {
    isProxy ? "proxy neighbour \(address) on interface \(interface)"
      : "neighbour \(address)\(mac.map { " at \($0)" } ?? "") on interface \(interface)"
  }

  private static let proxyFlag: UInt8 = 0x08

  /// The body of RTM_NEWNEIGH or RTM_DELNEIGH; nil for bridge forwarding entries and other families.
  public static func decode(_ reader: inout OctetReader) throws(WireError) -> Neighbour? {
    guard let family = IPFamily(number: try reader.u8()) else { return nil }
    try reader.skip(3)
    let interface = try reader.hostU32()
    let state = State(rawValue: try reader.hostU16())
    let flags = try reader.u8()
    try reader.skip(1)
    var address: IPAddress?
    var mac: MACAddress?
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case NeighbourAttribute.destination: address = IPAddress(octets: value.rest())
      case NeighbourAttribute.linkLayer: mac = MACAddress(octets: value.rest())
      default: break
      }
    }
    guard let address, address.family == family else { return nil }
    return Neighbour(interface: interface, address: address, mac: mac, state: state, isProxy: flags & proxyFlag != 0)
  }

  func encode(into writer: inout OctetWriter) {
    writer.u8(address.family.number)
    writer.zeros(3)
    writer.hostU32(interface)
    writer.hostU16(state.rawValue)
    writer.u8(isProxy ? Self.proxyFlag : 0)
    writer.u8(0)
    writer.attribute(NeighbourAttribute.destination, address.octets)
    if let mac { writer.attribute(NeighbourAttribute.linkLayer, mac.octets) }
  }

  /// The body of RTM_GETNEIGH for a dump. Proxy entries are a list of their own.
  public static func query(family: IPFamily?, proxies: Bool, interface: UInt32?, _ writer: inout OctetWriter) {
    writer.u8(family?.number ?? AddressFamilyNumber.unspecified)
    writer.zeros(7)
    writer.hostU16(0)
    writer.u8(proxies ? proxyFlag : 0)
    writer.u8(0)
    if let interface { writer.attribute(NeighbourAttribute.interface, hostU32: interface) }
  }
}

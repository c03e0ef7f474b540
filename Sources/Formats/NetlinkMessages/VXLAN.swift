/// VXLAN interfaces, and which host is behind which link address on them.

public import Addresses
public import Octets

public struct VXLANOptions: Hashable, Sendable, CustomStringConvertible {
  static let kind = "vxlan"
  /// The network's number, 24 bits.
  public var id: UInt32
  public var port: UInt16
  /// The outer source of what is sent; nil is the kernel's choice.
  public var local: IPAddress?
  /// Whether the kernel takes from packets who is behind which link address.
  public var learns: Bool

  public init(id: UInt32, port: UInt16, local: IPAddress?, learns: Bool = false) {
    self.id = id
    self.port = port
    self.local = local
    self.learns = learns
  }
  public var description: String { "vxlan id \(id) dstport \(port)\(local.map { " local \($0)" } ?? "")" }

  /// The payload of IFLA_INFO_DATA.
  init(decoding reader: inout OctetReader) throws(WireError) {
    (id, port, local, learns) = (0, 0, nil, false)
    var (id, port, local, learns) = (id, port, local, learns)
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case LinkAttribute.vxlanID: id = try value.hostU32()
      case LinkAttribute.vxlanPort: port = try value.u16()
      case LinkAttribute.vxlanLocal, LinkAttribute.vxlanLocal6: local = IPAddress(octets: value.rest())
      case LinkAttribute.vxlanLearning: learns = try value.u8() != 0
      default: break
      }
    }
    (self.id, self.port, self.local, self.learns) = (id, port, local, learns)
  }

  func encode(into writer: inout OctetWriter) {
    writer.nest(LinkAttribute.linkInfo) { info in
      info.attribute(LinkAttribute.infoKind, text: Self.kind)
      info.nest(LinkAttribute.infoData) { data in
        data.attribute(LinkAttribute.vxlanID, hostU32: id)
        data.attribute(LinkAttribute.vxlanPort, u16: port)
        data.attribute(LinkAttribute.vxlanLearning, u8: learns ? 1 : 0)
        encodeLocal(into: &data)
      }
    }
  }
  /// The kernel refuses a message that names port or number, even if they stay.
  func encodeChange(into writer: inout OctetWriter) {
    writer.nest(LinkAttribute.linkInfo) { info in
      info.attribute(LinkAttribute.infoKind, text: Self.kind)
      info.nest(LinkAttribute.infoData) { data in encodeLocal(into: &data) }
    }
  }
  private func encodeLocal(into writer: inout OctetWriter) {
    guard let local else { return }
    writer.attribute(local.family == .v4 ? LinkAttribute.vxlanLocal : LinkAttribute.vxlanLocal6, local.octets)
  }
}

/// An entry of a VXLAN interface's forwarding database: frames for `mac` go to the host `destination`.
public struct ForwardingEntry: Hashable, Sendable, CustomStringConvertible {
  public var interface: UInt32
  public var mac: MACAddress
  public var destination: IPAddress
  public init(interface: UInt32, mac: MACAddress, destination: IPAddress) {
    self.interface = interface
    self.mac = mac
    self.destination = destination
  }
  public var description: String { "forwarding of \(mac) to \(destination) on interface \(interface)" }

  private static let selfFlag: UInt8 = 0x02

  /// The body of RTM_NEWNEIGH or RTM_DELNEIGH of the bridge family; nil for others, and for entries without a destination.
  public static func decode(_ reader: inout OctetReader) throws(WireError) -> ForwardingEntry? {
    guard try reader.u8() == AddressFamilyNumber.bridge else { return nil }
    try reader.skip(3)
    let interface = try reader.hostU32()
    try reader.skip(4)
    var mac: MACAddress?
    var destination: IPAddress?
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case NeighbourAttribute.destination: destination = IPAddress(octets: value.rest())
      case NeighbourAttribute.linkLayer: mac = MACAddress(octets: value.rest())
      default: break
      }
    }
    guard let mac, let destination else { return nil }
    return ForwardingEntry(interface: interface, mac: mac, destination: destination)
  }

  func encode(into writer: inout OctetWriter) {
    writer.u8(AddressFamilyNumber.bridge)
    writer.zeros(3)
    writer.hostU32(interface)
    writer.hostU16(Neighbour.State([.permanent, .noARP]).rawValue)
    writer.u8(Self.selfFlag)
    writer.u8(0)
    writer.attribute(NeighbourAttribute.linkLayer, mac.octets)
    writer.attribute(NeighbourAttribute.destination, destination.octets)
  }

  /// The body of RTM_GETNEIGH for a dump of one interface.
  public static func query(interface: UInt32, _ writer: inout OctetWriter) {
    writer.u8(AddressFamilyNumber.bridge)
    writer.zeros(3)
    writer.hostU32(interface)
    writer.zeros(4)
  }
}

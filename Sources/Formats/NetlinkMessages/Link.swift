/// Interfaces: what the kernel tells of them, how they are made and changed.

public import Addresses
public import Octets

/// IFF_*.
public struct LinkFlags: OptionSet, Hashable, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  /// Switched on by an administrator.
  public static let up = LinkFlags(rawValue: 0x1)
  public static let broadcast = LinkFlags(rawValue: 0x2)
  public static let loopback = LinkFlags(rawValue: 0x8)
  public static let pointToPoint = LinkFlags(rawValue: 0x10)
  /// Operational.
  public static let running = LinkFlags(rawValue: 0x40)
  public static let noARP = LinkFlags(rawValue: 0x80)
  public static let promiscuous = LinkFlags(rawValue: 0x100)
  public static let multicast = LinkFlags(rawValue: 0x1000)
  /// The carrier is there.
  public static let lowerUp = LinkFlags(rawValue: 0x10000)
}

/// RFC 2863, ifOperStatus.
public enum OperationalState: UInt8, Hashable, Sendable {
  case unknown = 0, notPresent, down, lowerLayerDown, testing, dormant, up
}

public struct Link: Hashable, Sendable, CustomStringConvertible {
  public var index: UInt32
  public var name: String
  /// "veth", "bridge", ...; nil for hardware and loopback.
  public var kind: String?
  public var flags: LinkFlags
  public var mtu: UInt32
  public var mac: MACAddress?
  /// The bridge or VRF it belongs to.
  public var master: UInt32?
  /// The lower device, or the other end of a veth, by index in *its* namespace.
  public var linkIndex: UInt32?
  /// The kernel's number for the namespace that `linkIndex` counts in; nil when it is this one.
  public var linkNamespace: Int32?
  public var operationalState: OperationalState
  public var alias: String?
  /// Of links of kind "vxlan".
  public var vxlan: VXLANOptions?

  public init(
    index: UInt32, name: String, kind: String? = nil, flags: LinkFlags = [], mtu: UInt32 = 1500, mac: MACAddress? = nil,
    master: UInt32? = nil, linkIndex: UInt32? = nil, linkNamespace: Int32? = nil, operationalState: OperationalState = .unknown,
    alias: String? = nil
  ) {
    self.index = index
    self.name = name
    self.kind = kind
    self.flags = flags
    self.mtu = mtu
    self.mac = mac
    self.master = master
    self.linkIndex = linkIndex
    self.linkNamespace = linkNamespace
    self.operationalState = operationalState
    self.alias = alias
  }
  /// Switched on; says nothing of the carrier.
  public var isUp: Bool { flags.contains(.up) }
  /// Switched on and with a carrier: packets can leave.
  public var isOperational: Bool { flags.contains([.up, .lowerUp]) }
  public var description: String { "\(index): \(name)\(isUp ? isOperational ? " up" : " no carrier" : " down")" }

  /// The body of RTM_NEWLINK or RTM_DELLINK. Nil for messages of other families: leaving a bridge is told as RTM_DELLINK of
  /// AF_BRIDGE, and is not the end of the link.
  public static func decode(_ reader: inout OctetReader) throws(WireError) -> Link? {
    guard try reader.u8() == AddressFamilyNumber.unspecified else { return nil }
    try reader.skip(3)
    var link = Link(index: try reader.hostU32(), name: "", flags: LinkFlags(rawValue: try reader.hostU32()), mtu: 0)
    try reader.skip(4)
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case LinkAttribute.name: link.name = try value.text()
      case LinkAttribute.address: if value.remaining == 6 { link.mac = MACAddress(octets: try value.array(6)) }
      case LinkAttribute.mtu: link.mtu = try value.hostU32()
      case LinkAttribute.link: link.linkIndex = try value.hostU32()
      case LinkAttribute.master: link.master = try value.hostU32()
      case LinkAttribute.operationalState: link.operationalState = OperationalState(rawValue: try value.u8()) ?? .unknown
      case LinkAttribute.alias: link.alias = try value.text()
      case LinkAttribute.linkNamespace: link.linkNamespace = Int32(bitPattern: try value.hostU32())
      case LinkAttribute.linkInfo:
        try value.attributes { type, value throws(WireError) in
          // The kernel tells the kind first.
          if type == LinkAttribute.infoKind { link.kind = try value.text() }
          if type == LinkAttribute.infoData, link.kind == VXLANOptions.kind { link.vxlan = try VXLANOptions(decoding: &value) }
        }
      default: break
      }
    }
    return link
  }
}

/// A link to make.
public struct NewLink: Sendable {
  public indirect enum Kind: Sendable {
    /// `peer` is made along with it, in the namespace of `peer.namespace` (else in the same). The peer cannot be up from the start.
    case veth(peer: NewLink)
    case bridge
    case vxlan(VXLANOptions)
    /// Any kind that needs no data: "dummy", "ipip", "wireguard" ...
    case other(String)
    /// Only as the peer of a veth.
    case peer
  }
  public var name: String
  public var kind: Kind
  public var mac: MACAddress?
  public var mtu: UInt32?
  public var isUp: Bool
  public var master: UInt32?
  /// A descriptor of the network namespace to make it in; nil is the socket's.
  public var namespace: Int32?

  public init(
    name: String, kind: Kind, mac: MACAddress? = nil, mtu: UInt32? = nil, isUp: Bool = false, master: UInt32? = nil,
    namespace: Int32? = nil
  ) {
    self.name = name
    self.kind = kind
    self.mac = mac
    self.mtu = mtu
    self.isUp = isUp
    self.master = master
    self.namespace = namespace
  }

  func encode(into writer: inout OctetWriter) {
    writer.zeros(8)
    let flags: LinkFlags = isUp ? .up : []
    writer.hostU32(flags.rawValue)
    writer.hostU32(flags.rawValue)
    writer.attribute(LinkAttribute.name, text: name)
    if let mac { writer.attribute(LinkAttribute.address, mac.octets) }
    if let mtu { writer.attribute(LinkAttribute.mtu, hostU32: mtu) }
    if let master { writer.attribute(LinkAttribute.master, hostU32: master) }
    if let namespace { writer.attribute(LinkAttribute.namespaceDescriptor, hostU32: UInt32(bitPattern: namespace)) }
    switch kind {
    case .peer: break
    case .bridge: writer.nest(LinkAttribute.linkInfo) { $0.attribute(LinkAttribute.infoKind, text: "bridge") }
    case .other(let kind): writer.nest(LinkAttribute.linkInfo) { $0.attribute(LinkAttribute.infoKind, text: kind) }
    case .vxlan(let options): options.encode(into: &writer)
    case .veth(let peer):
      writer.nest(LinkAttribute.linkInfo) { info in
        info.attribute(LinkAttribute.infoKind, text: "veth")
        info.nest(LinkAttribute.infoData) { data in
          data.nest(LinkAttribute.vethPeer) { nested in
            var peer = peer
            peer.kind = .peer
            peer.isUp = false  // ENOTCONN otherwise: the other end is not there yet
            peer.encode(into: &nested)
          }
        }
      }
    }
  }
}

/// What to change of a link; nil stays.
public struct LinkChange: Hashable, Sendable {
  public var isUp: Bool?
  public var name: String?
  public var mac: MACAddress?
  public var mtu: UInt32?
  /// 0 takes it out of its bridge.
  public var master: UInt32?
  /// A descriptor of the network namespace to move it to.
  public var namespace: Int32?
  /// A note for people; the kernel takes it only once the link is there.
  public var alias: String?
  /// The kernel changes the local address, and nothing else of these.
  public var vxlan: VXLANOptions?

  public init(
    isUp: Bool? = nil, name: String? = nil, mac: MACAddress? = nil, mtu: UInt32? = nil, master: UInt32? = nil, namespace: Int32? = nil,
    alias: String? = nil, vxlan: VXLANOptions? = nil
  ) {
    self.isUp = isUp
    self.name = name
    self.mac = mac
    self.mtu = mtu
    self.master = master
    self.namespace = namespace
    self.alias = alias
    self.vxlan = vxlan
  }

  func encode(index: UInt32, into writer: inout OctetWriter) {
    writer.zeros(4)
    writer.hostU32(index)
    writer.hostU32(isUp == true ? LinkFlags.up.rawValue : 0)
    writer.hostU32(isUp == nil ? 0 : LinkFlags.up.rawValue)
    if let name { writer.attribute(LinkAttribute.name, text: name) }
    if let mac { writer.attribute(LinkAttribute.address, mac.octets) }
    if let mtu { writer.attribute(LinkAttribute.mtu, hostU32: mtu) }
    if let master { writer.attribute(LinkAttribute.master, hostU32: master) }
    if let namespace { writer.attribute(LinkAttribute.namespaceDescriptor, hostU32: UInt32(bitPattern: namespace)) }
    if let alias { writer.attribute(LinkAttribute.alias, text: alias) }
    vxlan?.encodeChange(into: &writer)
  }
}

/// Bodies of RTM_GETLINK.
public enum LinkQuery {
  public static func all(_ writer: inout OctetWriter) {
    writer.zeros(16)
    writer.attribute(LinkAttribute.extensionMask, hostU32: LinkAttribute.skipStatistics)
  }
  public static func named(_ name: String, _ writer: inout OctetWriter) {
    all(&writer)
    writer.attribute(LinkAttribute.name, text: name)
  }
  public static func index(_ index: UInt32, _ writer: inout OctetWriter) {
    writer.zeros(4)
    writer.hostU32(index)
    writer.zeros(8)
    writer.attribute(LinkAttribute.extensionMask, hostU32: LinkAttribute.skipStatistics)
  }
}

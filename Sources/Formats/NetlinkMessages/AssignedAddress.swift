/// Addresses on interfaces.

public import Addresses
public import Octets

/// RT_SCOPE_*.
public struct RouteScope: Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }
  public static let universe = RouteScope(rawValue: 0)
  public static let site = RouteScope(rawValue: 200)
  public static let link = RouteScope(rawValue: 253)
  public static let host = RouteScope(rawValue: 254)
  public static let nowhere = RouteScope(rawValue: 255)
  public var description: String {
    switch self {
    case .universe: "global"
    case .site: "site"
    case .link: "link"
    case .host: "host"
    case .nowhere: "nowhere"
    default: "\(rawValue)"
    }
  }
}

/// An address as it stands on an interface.
public struct AssignedAddress: Hashable, Sendable, CustomStringConvertible {
  /// IFA_F_*.
  public struct Flags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let secondary = Flags(rawValue: 0x01)
    /// Usable at once, without duplicate address detection (IPv6).
    public static let noDuplicateDetection = Flags(rawValue: 0x02)
    public static let duplicateDetectionFailed = Flags(rawValue: 0x08)
    public static let tentative = Flags(rawValue: 0x40)
    public static let permanent = Flags(rawValue: 0x80)
    /// No route to the prefix comes with it.
    public static let noPrefixRoute = Flags(rawValue: 0x200)
  }
  public var interface: UInt32
  public var address: InterfaceAddress
  public var scope: RouteScope
  public var flags: Flags

  public init(interface: UInt32, address: InterfaceAddress, scope: RouteScope? = nil, flags: Flags = []) {
    self.interface = interface
    self.address = address
    self.scope = scope ?? (address.address.isLoopback ? .host : address.address.isLinkLocal ? .link : .universe)
    self.flags = flags
  }
  public var description: String { "address \(address) on interface \(interface)" }

  /// The body of RTM_NEWADDR or RTM_DELADDR; nil for families that are not the Internet's.
  public static func decode(_ reader: inout OctetReader) throws(WireError) -> AssignedAddress? {
    guard let family = IPFamily(number: try reader.u8()) else { return nil }
    let length = try reader.u8()
    var flags = Flags(rawValue: UInt32(try reader.u8()))
    let scope = RouteScope(rawValue: try reader.u8())
    let interface = try reader.hostU32()
    var remote: IPAddress?
    var local: IPAddress?
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case AddressAttribute.address: remote = IPAddress(octets: value.rest())
      case AddressAttribute.local: local = IPAddress(octets: value.rest())
      case AddressAttribute.flags: flags = Flags(rawValue: try value.hostU32())
      default: break
      }
    }
    // On a point-to-point interface IFA_ADDRESS is the other side; ours is IFA_LOCAL, which IPv6 leaves out when they are the same.
    guard let address = local ?? remote, address.family == family, Int(length) <= family.bits else { return nil }
    return AssignedAddress(interface: interface, address: InterfaceAddress(address, length: length), scope: scope, flags: flags)
  }

  func encode(into writer: inout OctetWriter) {
    writer.u8(address.address.family.number)
    writer.u8(address.length)
    writer.u8(UInt8(truncatingIfNeeded: flags.rawValue))
    writer.u8(scope.rawValue)
    writer.hostU32(interface)
    let octets = address.address.octets
    writer.attribute(AddressAttribute.local, octets)
    writer.attribute(AddressAttribute.address, octets)
    if flags.rawValue > 0xff { writer.attribute(AddressAttribute.flags, hostU32: flags.rawValue) }
  }

  /// The body of RTM_GETADDR for a dump; nil or 0 are all.
  public static func query(family: IPFamily?, interface: UInt32?, _ writer: inout OctetWriter) {
    writer.u8(family?.number ?? AddressFamilyNumber.unspecified)
    writer.zeros(3)
    writer.hostU32(interface ?? 0)
  }
}

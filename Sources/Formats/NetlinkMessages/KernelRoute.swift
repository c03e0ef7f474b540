/// Routes of the kernel's tables (FIB).
///
/// Two routes that mean the same are equal: what the kernel fills in by itself (IPv6 metric 1024, the scope, loopback as the device
/// of an IPv6 blackhole) is filled in here too, and the order of next hops is fixed. So "what stands" compares with "what we want".

public import Addresses
public import Octets

/// RTPROT_*: who made a route, and thus who may remove it.
public struct RouteProtocol: Hashable, Sendable, CustomStringConvertible {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }
  public static let unspecified = RouteProtocol(rawValue: 0)
  public static let redirect = RouteProtocol(rawValue: 1)
  public static let kernel = RouteProtocol(rawValue: 2)
  public static let boot = RouteProtocol(rawValue: 3)
  public static let `static` = RouteProtocol(rawValue: 4)
  public static let bird = RouteProtocol(rawValue: 12)
  /// Felix: workload and block routes.
  public static let felix = RouteProtocol(rawValue: 80)
  /// Our BGP speaker: what it learned.
  public static let bgp = RouteProtocol(rawValue: 81)
  public var description: String {
    switch self {
    case .unspecified: "unspec"
    case .redirect: "redirect"
    case .kernel: "kernel"
    case .boot: "boot"
    case .static: "static"
    case .bird: "bird"
    default: "\(rawValue)"
    }
  }
}

/// RTN_*.
public enum RouteType: UInt8, Hashable, Sendable {
  case unicast = 1, local, broadcast, anycast, multicast, blackhole, unreachable, prohibit, `throw`, nat
  /// Has a next hop.
  public var isForwarding: Bool { rawValue <= RouteType.multicast.rawValue }
}

/// One way on: an interface, a gateway, or both.
public struct NextHop: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// May be of the other family: an IPv4 route via an IPv6 gateway (RFC 8950).
  public var gateway: IPAddress?
  /// Nil lets the kernel find it from the gateway.
  public var interface: UInt32?
  /// 1...256, relative to the other next hops.
  public var weight: UInt16
  /// The gateway is taken to be on the interface's link although no route says so.
  public var isOnLink: Bool

  public init(gateway: IPAddress? = nil, interface: UInt32? = nil, weight: UInt16 = 1, isOnLink: Bool = false) {
    self.gateway = gateway
    self.interface = interface
    self.weight = min(max(weight, 1), 256)
    self.isOnLink = isOnLink
  }
  public static func < (a: Self, b: Self) -> Bool {
    if a.gateway != b.gateway {
      guard let left = a.gateway else { return true }
      guard let right = b.gateway else { return false }
      return left < right
    }
    return (a.interface ?? 0, a.weight) < (b.interface ?? 0, b.weight)
  }
  public var description: String {
    var parts: [String] = []
    if let gateway { parts.append("via \(gateway)") }
    if let interface { parts.append("dev #\(interface)") }
    if weight != 1 { parts.append("weight \(weight)") }
    if isOnLink { parts.append("onlink") }
    return parts.joined(separator: " ")
  }
  /// True if what stands (`observed`) is what this asks for; the interface counts only if it was asked for.
  func isSatisfied(by observed: NextHop) -> Bool {
    gateway == observed.gateway && weight == observed.weight && isOnLink == observed.isOnLink
      && (interface == nil || interface == observed.interface)
  }
}

public struct KernelRoute: Hashable, Sendable, CustomStringConvertible {
  /// What makes a route of a table unique to the kernel.
  @frozen
  public struct Key: Hashable, Sendable {
    public let destination: IPPrefix
    public let metric: UInt32
    @inlinable public init(destination: IPPrefix, metric: UInt32) {
      self.destination = destination
      self.metric = metric
    }
    @inlinable public static func == (a: Self, b: Self) -> Bool { a.metric == b.metric && a.destination == b.destination }
    @inlinable public func hash(into hasher: inout Hasher) {
      destination.hash(into: &hasher)
      hasher.combine(metric)
    }
  }
  public static let mainTable: UInt32 = 254
  /// The kernel's, when none is given.
  public static let ipv6MetricDefault: UInt32 = 1024

  public let destination: IPPrefix
  public let table: UInt32
  public let `protocol`: RouteProtocol
  public let scope: RouteScope
  public let type: RouteType
  /// Lower is preferred. IPv6 has no 0: it becomes 1024.
  public let metric: UInt32
  public let preferredSource: IPAddress?
  /// Sorted; empty unless `type` forwards.
  public let nextHops: [NextHop]

  public init(
    _ destination: IPPrefix, nextHops: [NextHop] = [], type: RouteType = .unicast, protocol: RouteProtocol, table: UInt32 = mainTable,
    metric: UInt32 = 0, scope: RouteScope? = nil, preferredSource: IPAddress? = nil
  ) {
    self.destination = destination
    self.table = table
    self.protocol = `protocol`
    self.type = type
    self.metric = metric == 0 && destination.family == .v6 ? Self.ipv6MetricDefault : metric
    self.preferredSource = preferredSource
    var hops = type.isForwarding ? nextHops : []
    // Weights compare next hops, so the weight of an only one says nothing. Many routes share one list: it is written only if need be.
    if hops.count > 1 { hops.sort() } else if hops.count == 1, hops[0].weight != 1 { hops[0].weight = 1 }
    self.nextHops = hops
    if destination.family == .v6 {
      self.scope = .universe
    } else {
      self.scope = scope ?? (type == .unicast && !nextHops.contains { $0.gateway != nil } ? .link : .universe)
    }
  }
  /// A workload's address: the interface it lives behind.
  public static func device(_ destination: IPPrefix, interface: UInt32, protocol: RouteProtocol) -> KernelRoute {
    KernelRoute(destination, nextHops: [NextHop(interface: interface)], protocol: `protocol`)
  }
  /// Stops what nothing more specific takes.
  public static func blackhole(_ destination: IPPrefix, protocol: RouteProtocol) -> KernelRoute {
    KernelRoute(destination, type: .blackhole, protocol: `protocol`)
  }

  /// The same route of another owner.
  public func with(protocol other: RouteProtocol) -> KernelRoute {
    KernelRoute(
      destination, nextHops: nextHops, type: type, protocol: other, table: table, metric: metric, scope: scope, preferredSource: preferredSource)
  }

  public var key: Key { Key(destination: destination, metric: metric) }

  /// True if `observed` is what this route asks for, leaving open what it leaves open (a next hop without interface, no source).
  public func isSatisfied(by observed: KernelRoute) -> Bool {
    destination == observed.destination && table == observed.table && `protocol` == observed.protocol && type == observed.type
      && scope == observed.scope && metric == observed.metric
      && (preferredSource == nil ? true : preferredSource == observed.preferredSource)
      && nextHops.count == observed.nextHops.count
      && zip(nextHops, observed.nextHops).allSatisfy { $0.isSatisfied(by: $1) }
  }

  public var description: String {
    var text = type == .unicast ? "\(destination)" : "\(type) \(destination)"
    if nextHops.count == 1 {
      text += " \(nextHops[0])"
    } else {
      for hop in nextHops { text += " nexthop \(hop)" }
    }
    text += " proto \(`protocol`)"
    if metric != 0, !(destination.family == .v6 && metric == Self.ipv6MetricDefault) { text += " metric \(metric)" }
    if table != Self.mainTable { text += " table \(table)" }
    if let preferredSource { text += " src \(preferredSource)" }
    return text
  }

  // MARK: Wire

  private static let onLinkFlag: UInt8 = 4
  private static let clonedFlag: UInt32 = 0x200

  /// The body of RTM_NEWROUTE or RTM_DELROUTE. Nil for other families, for cached entries and for types we do not know.
  public static func decode(_ reader: inout OctetReader) throws(WireError) -> KernelRoute? {
    guard let family = IPFamily(number: try reader.u8()) else { return nil }
    let length = try reader.u8()
    try reader.skip(2)
    var table = UInt32(try reader.u8())
    let number = RouteProtocol(rawValue: try reader.u8())
    let scope = RouteScope(rawValue: try reader.u8())
    let type = RouteType(rawValue: try reader.u8())
    let flags = try reader.hostU32()
    guard let type, flags & clonedFlag == 0, Int(length) <= family.bits else { return nil }

    var destination: IPAddress = family == .v4 ? .v4(.unspecified) : .v6(.unspecified)
    var metric: UInt32 = 0
    var source: IPAddress?
    var single = NextHop(isOnLink: UInt8(truncatingIfNeeded: flags) & onLinkFlag != 0)
    var hops: [NextHop] = []
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case RouteAttribute.destination: destination = try address(&value, family)
      case RouteAttribute.interface: single.interface = try value.hostU32()
      case RouteAttribute.gateway: single.gateway = try address(&value, family)
      case RouteAttribute.via: single.gateway = try via(&value)
      case RouteAttribute.priority: metric = try value.hostU32()
      case RouteAttribute.preferredSource: source = try address(&value, family)
      case RouteAttribute.table: table = try value.hostU32()
      case RouteAttribute.multipath: hops = try multipath(&value, family)
      default: break
      }
    }
    if hops.isEmpty, single.interface != nil || single.gateway != nil { hops = [single] }
    return KernelRoute(
      IPPrefix(destination, length: length), nextHops: hops, type: type, protocol: number, table: table, metric: metric, scope: scope,
      preferredSource: source)
  }

  private static func address(_ reader: inout OctetReader, _ family: IPFamily) throws(WireError) -> IPAddress {
    let offset = reader.offset
    switch family {
    case .v4: return .v4(IPv4Address(rawValue: try reader.u32()))
    case .v6:
      let high = try reader.u64()
      guard reader.remaining == 8 else { throw WireError(.invalid("address of \(reader.remaining + 8) octets"), at: offset) }
      return .v6(IPv6Address(high: high, low: try reader.u64()))
    }
  }

  private static func via(_ reader: inout OctetReader) throws(WireError) -> IPAddress? {
    guard let family = IPFamily(number: UInt8(truncatingIfNeeded: try reader.hostU16())) else { return nil }
    return try address(&reader, family)
  }

  /// A list of `rtnexthop`: length, flags, hops, interface, attributes.
  private static func multipath(_ reader: inout OctetReader, _ family: IPFamily) throws(WireError) -> [NextHop] {
    var hops: [NextHop] = []
    while reader.remaining >= 8 {
      let length = Int(try reader.hostU16())
      guard length >= 8 else { throw WireError(.invalid("next hop of \(length) octets"), at: reader.offset - 2) }
      var body = try reader.nested(length - 2)
      let flags = try body.u8()
      let weight = UInt16(try body.u8()) + 1
      var hop = NextHop(interface: try body.hostU32(), weight: weight, isOnLink: flags & onLinkFlag != 0)
      try body.attributes { type, value throws(WireError) in
        if type == RouteAttribute.gateway { hop.gateway = try address(&value, family) }
        if type == RouteAttribute.via { hop.gateway = try via(&value) }
      }
      hops.append(hop)
      try reader.skip(min(-length & 3, reader.remaining))
    }
    return hops
  }

  /// For RTM_NEWROUTE, and with `deleting` for RTM_DELROUTE: then only what identifies the route, so that it is found whatever its
  /// next hops have become, and never another protocol's.
  func encode(deleting: Bool, into writer: inout OctetWriter) {
    writer.u8(destination.family.number)
    writer.u8(destination.length)
    writer.zeros(2)
    writer.u8(table < 256 ? UInt8(table) : 0)
    writer.u8(`protocol`.rawValue)
    // As a key, "nowhere" is any scope.
    writer.u8(deleting ? RouteScope.nowhere.rawValue : scope.rawValue)
    writer.u8(deleting ? 0 : type.rawValue)
    writer.hostU32(!deleting && nextHops.count == 1 && nextHops[0].isOnLink ? UInt32(Self.onLinkFlag) : 0)
    if destination.length > 0 { writer.attribute(RouteAttribute.destination, destination.address.octets) }
    writer.attribute(RouteAttribute.table, hostU32: table)
    if metric != 0 { writer.attribute(RouteAttribute.priority, hostU32: metric) }
    if deleting { return }
    if let preferredSource { writer.attribute(RouteAttribute.preferredSource, preferredSource.octets) }
    if nextHops.count == 1 {
      if let gateway = nextHops[0].gateway { encode(gateway: gateway, into: &writer) }
      if let interface = nextHops[0].interface { writer.attribute(RouteAttribute.interface, hostU32: interface) }
    } else if nextHops.count > 1 {
      writer.attribute(RouteAttribute.multipath) { list in
        for hop in nextHops {
          let start = list.reserve16()
          list.u8(hop.isOnLink ? Self.onLinkFlag : 0)
          list.u8(UInt8(hop.weight - 1))
          list.hostU32(hop.interface ?? 0)
          if let gateway = hop.gateway { encode(gateway: gateway, into: &list) }
          list.patchHost16(at: start, UInt16(list.count - start))
        }
      }
    }
  }

  private func encode(gateway: IPAddress, into writer: inout OctetWriter) {
    if gateway.family == destination.family {
      writer.attribute(RouteAttribute.gateway, gateway.octets)
    } else {
      writer.attribute(RouteAttribute.via) {
        $0.hostU16(UInt16(gateway.family.number))
        $0.append(gateway.octets)
      }
    }
  }

  /// The body of RTM_GETROUTE for a dump; the kernel filters (strict checking must be on).
  public static func query(family: IPFamily, table: UInt32?, protocol: RouteProtocol?, _ writer: inout OctetWriter) {
    writer.u8(family.number)
    writer.zeros(4)
    writer.u8(`protocol`?.rawValue ?? 0)
    writer.zeros(6)
    if let table { writer.attribute(RouteAttribute.table, hostU32: table) }
  }
}


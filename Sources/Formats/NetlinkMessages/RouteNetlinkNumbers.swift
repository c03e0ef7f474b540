/// Numbers of rtnetlink, as `linux/rtnetlink.h`, `if_link.h`, `if_addr.h` and `neighbour.h` have them. Names follow those headers.

public import Addresses
import Octets

/// RTM_*: each kind of object has NEW, DELETE, GET and SET, in this order.
public enum RouteMessageType {
  public static let newLink: UInt16 = 16, deleteLink: UInt16 = 17, getLink: UInt16 = 18, setLink: UInt16 = 19
  public static let newAddress: UInt16 = 20, deleteAddress: UInt16 = 21, getAddress: UInt16 = 22
  public static let newRoute: UInt16 = 24, deleteRoute: UInt16 = 25, getRoute: UInt16 = 26
  public static let newNeighbour: UInt16 = 28, deleteNeighbour: UInt16 = 29, getNeighbour: UInt16 = 30
  public static let newSettings: UInt16 = 80
}

/// RTNLGRP_*: what a monitor listens to.
public enum RouteGroup {
  public static let link: UInt32 = 1, neighbour: UInt32 = 3, ipv4Address: UInt32 = 5, ipv4Route: UInt32 = 7
  public static let ipv6Address: UInt32 = 9, ipv6Route: UInt32 = 11
  /// RTNLGRP_IPV4_NETCONF and its like.
  public static let ipv4Settings: UInt32 = 24, ipv6Settings: UInt32 = 25
}

/// AF_*.
public enum AddressFamilyNumber {
  public static let unspecified: UInt8 = 0, inet: UInt8 = 2, bridge: UInt8 = 7, inet6: UInt8 = 10
}

extension IPFamily {
  /// AF_INET or AF_INET6.
  public var number: UInt8 { self == .v4 ? AddressFamilyNumber.inet : AddressFamilyNumber.inet6 }
  /// Nil for any other address family.
  public init?(number: UInt8) {
    switch number {
    case AddressFamilyNumber.inet: self = .v4
    case AddressFamilyNumber.inet6: self = .v6
    default: return nil
    }
  }
}

enum LinkAttribute {
  static let address: UInt16 = 1, name: UInt16 = 3, mtu: UInt16 = 4, link: UInt16 = 5, master: UInt16 = 10
  static let operationalState: UInt16 = 16, linkInfo: UInt16 = 18, alias: UInt16 = 20, namespaceDescriptor: UInt16 = 28
  static let extensionMask: UInt16 = 29, linkNamespace: UInt16 = 37
  static let infoKind: UInt16 = 1, infoData: UInt16 = 2
  static let vethPeer: UInt16 = 1
  static let vxlanID: UInt16 = 1, vxlanLocal: UInt16 = 4, vxlanLearning: UInt16 = 7, vxlanPort: UInt16 = 15, vxlanLocal6: UInt16 = 17
  /// RTEXT_FILTER_SKIP_STATS: counters are most of a link's octets.
  static let skipStatistics: UInt32 = 8
}

enum AddressAttribute {
  static let address: UInt16 = 1, local: UInt16 = 2, flags: UInt16 = 8
}

enum NeighbourAttribute {
  static let destination: UInt16 = 1, linkLayer: UInt16 = 2, interface: UInt16 = 8
}

enum RouteAttribute {
  static let destination: UInt16 = 1, interface: UInt16 = 4, gateway: UInt16 = 5, priority: UInt16 = 6, preferredSource: UInt16 = 7
  static let multipath: UInt16 = 9, table: UInt16 = 15, via: UInt16 = 18
}

/// Some of an interface's switches under /proc/sys/net, as the kernel tells of them when somebody turns one (RTM_NEWNETCONF,
/// `linux/netconf.h`). Only forwarding, answering for others, rp_filter and a few more are told; the rest change in silence.

public import Addresses
public import Octets

public struct ForwardingSettings: Hashable, Sendable {
  public enum Scope: Hashable, Sendable {
    /// `conf/all`: of IPv4 it is `ip_forward`.
    case all
    /// `conf/default`, which interfaces to come begin with.
    case preset
    case interface(UInt32)
  }
  public var family: IPFamily
  public var scope: Scope
  /// Nil: not told, since it did not change.
  public var isForwarding: Bool?
  /// proxy_arp or proxy_ndp.
  public var answersForOthers: Bool?

  public init(_ family: IPFamily, _ scope: Scope, isForwarding: Bool? = nil, answersForOthers: Bool? = nil) {
    self.family = family
    self.scope = scope
    self.isForwarding = isForwarding
    self.answersForOthers = answersForOthers
  }

  /// Nil for other families, and when the kernel does not say which interface it is about.
  public static func decode(_ reader: inout OctetReader) throws(WireError) -> ForwardingSettings? {
    guard let family = IPFamily(number: try reader.u8()) else { return nil }
    try reader.skip(3)
    var scope: Scope?
    var settings = ForwardingSettings(family, .all)
    try reader.attributes { type, value throws(WireError) in
      switch type {
      case 1:  // NETCONFA_IFINDEX
        switch Int32(bitPattern: try value.hostU32()) {
        case -1: scope = .all
        case -2: scope = .preset
        case let index: scope = .interface(UInt32(bitPattern: index))
        }
      case 2: settings.isForwarding = try value.hostU32() != 0  // NETCONFA_FORWARDING
      case 5: settings.answersForOthers = try value.hostU32() != 0  // NETCONFA_PROXY_NEIGH
      default: break
      }
    }
    guard let scope else { return nil }
    settings.scope = scope
    return settings
  }
}

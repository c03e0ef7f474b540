/// An address with its port, between our values and the kernel's sockaddr.

public import Addresses
import CLinux

public struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
  public var address: IPAddress
  public var port: UInt16
  /// The interface index of a link-local IPv6 address; otherwise 0.
  public var scope: UInt32

  public init(_ address: IPAddress, port: UInt16, scope: UInt32 = 0) {
    self.address = address
    self.port = port
    self.scope = scope
  }
  /// `[2001:db8::1]:179`, `10.0.0.1:179`, `[fe80::1%3]:179`.
  public var description: String {
    switch address {
    case .v4: "\(address):\(port)"
    case .v6: scope == 0 ? "[\(address)]:\(port)" : "[\(address)%\(scope)]:\(port)"
    }
  }

  var raw: cl_address {
    switch address {
    case .v4(let v4): cl_address(family: 4, port: port, scope: scope, v4: v4.rawValue, high: 0, low: 0)
    case .v6(let v6): cl_address(family: 6, port: port, scope: scope, v4: 0, high: v6.high, low: v6.low)
    }
  }
  /// Nil for a peer without an Internet address (a unix socket).
  init?(raw: cl_address) {
    switch raw.family {
    case 4: self.init(.v4(IPv4Address(rawValue: raw.v4)), port: raw.port)
    case 6: self.init(.v6(IPv6Address(high: raw.high, low: raw.low)), port: raw.port, scope: raw.scope)
    default: return nil
    }
  }
}

extension IPFamily {
  var number: CInt { self == .v4 ? 4 : 6 }
}

/// A route as its owner thinks of it: interfaces by name, since they may come, go and come again under another index.

public import Addresses
public import NetlinkMessages

public struct RouteSpec: Hashable, Sendable, CustomStringConvertible {
  public struct Hop: Hashable, Sendable, CustomStringConvertible {
    public var gateway: IPAddress?
    /// The interface's name; nil lets the kernel find it from the gateway.
    public var device: String?
    /// 1...256
    public var weight: UInt16
    public var isOnLink: Bool
    public init(gateway: IPAddress? = nil, device: String? = nil, weight: UInt16 = 1, isOnLink: Bool = false) {
      self.gateway = gateway
      self.device = device
      self.weight = weight
      self.isOnLink = isOnLink
    }
    public var description: String {
      [gateway.map { "via \($0)" }, device.map { "dev \($0)" }, weight == 1 ? nil : "weight \(weight)", isOnLink ? "onlink" : nil]
        .compactMap { $0 }.joined(separator: " ")
    }
  }
  public var type: RouteType
  public var hops: [Hop]
  /// 0 is the kernel's default: 0 for IPv4, 1024 for IPv6.
  public var metric: UInt32
  public var preferredSource: IPAddress?
  /// Nil is the driver's own.
  public var `protocol`: RouteProtocol?

  public init(
    type: RouteType = .unicast, hops: [Hop] = [], metric: UInt32 = 0, preferredSource: IPAddress? = nil, protocol: RouteProtocol? = nil
  ) {
    self.type = type
    self.hops = hops
    self.metric = metric
    self.preferredSource = preferredSource
    self.protocol = `protocol`
  }
  /// To a workload behind its interface.
  public static func device(_ name: String, metric: UInt32 = 0) -> RouteSpec { RouteSpec(hops: [Hop(device: name)], metric: metric) }
  public static let blackhole = RouteSpec(type: .blackhole)
  /// Through one or several gateways.
  public static func via(_ gateways: [IPAddress], metric: UInt32 = 0) -> RouteSpec {
    RouteSpec(hops: gateways.map { Hop(gateway: $0) }, metric: metric)
  }
  public var description: String {
    type == .unicast ? hops.map(\.description).joined(separator: ", ") : "\(type)"
  }
}

/// A route that does not stand yet, and why: for people.
public struct RouteProblem: Equatable, Sendable, CustomStringConvertible {
  public let prefix: IPPrefix
  /// Cause and next step: `cali1 is down; retrying when it is up`.
  public let reason: String
  public init(prefix: IPPrefix, reason: String) {
    self.prefix = prefix
    self.reason = reason
  }
  public var description: String { "route \(prefix): \(reason)" }
}

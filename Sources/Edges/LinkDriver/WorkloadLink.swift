/// What the host's end of a workload's interface must be, and what is told of such interfaces.

public import Addresses
public import NetlinkMessages

/// The host's end of one workload's interface, known by name; it may not exist yet.
public struct WorkloadLink: Hashable, Sendable {
  public var name: String
  /// The workload's own address; nil: neighbours are left to ARP and ND.
  public var mac: MACAddress?
  public var addresses: [IPAddress]
  /// Packets to 127.0.0.0/8 are routed from here: what is translated to a service on the host's loopback address arrives (see
  /// `LinkSettings.routeLocalnet`).
  public var reachesLoopback: Bool
  public init(name: String, mac: MACAddress? = nil, addresses: [IPAddress] = [], reachesLoopback: Bool = false) {
    self.name = name
    self.mac = mac
    self.addresses = addresses
    self.reachesLoopback = reachesLoopback
  }
}

/// What happened to an interface whose name has one of the workload prefixes.
public enum LinkTransition: Equatable, Sendable {
  case appeared(Link)
  case renamed(from: String, Link)
  case disappeared(name: String, index: UInt32)
  /// Switched on or off.
  case switched(Link)
}

/// Host-wide choices of the link driver.
public struct LinkSettings: Hashable, Sendable {
  public var interfacePrefixes: [String]
  public var ipv6: Bool
  /// Lets packets between workloads and 127.0.0.0/8 be routed at all. Calico switches it on; here it is off unless asked for, because
  /// it opens the host's loopback services to workloads as far as the policy towards the host lets them (CVE-2020-8558), and because
  /// the kernel then takes the gateway's address as a source: routes to workloads need a preferred source with it.
  public var routeLocalnet: Bool
  /// The host is made to forward; else that is left as it is.
  public var forwards: Bool
  public init(interfacePrefixes: [String] = ["cali"], ipv6: Bool = true, routeLocalnet: Bool = false, forwards: Bool = true) {
    self.interfacePrefixes = interfacePrefixes
    self.ipv6 = ipv6
    self.routeLocalnet = routeLocalnet
    self.forwards = forwards
  }
  public func isWorkload(_ name: String) -> Bool { interfacePrefixes.contains { name.hasPrefix($0) } }
}

/// An interface that is not as wanted, and why: for people.
public struct LinkProblem: Equatable, Sendable, CustomStringConvertible {
  public let name: String
  public let reason: String
  public init(name: String, reason: String) {
    self.name = name
    self.reason = reason
  }
  public var description: String { "interface \(name): \(reason)" }
}

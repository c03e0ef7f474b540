/// What a lab consists of: a rack router, hosts on routed subnets of their own, workloads on the hosts, policies, and what BGP looks like.
import Addresses

public struct Topology: Sendable {
  /// How routes travel.
  public enum Arrangement: String, Sendable, CaseIterable {
    /// All hosts in one AS with a full iBGP mesh between them; each also tells the rack router, a member of the same AS.
    case mesh
    /// No mesh: every host is an AS of its own and speaks only to the rack router.
    case asPerHost = "as-per-host"
  }

  public struct Host: Sendable {
    public let name: String
    /// 1...254: the third octet of its IPv4 subnet and the fourth group of its IPv6 one.
    public let number: UInt8
    /// The router's side of the host's subnet, and the host's.
    public var routerAddress4: InterfaceAddress { InterfaceAddress(.v4(IPv4Address(172, 30, number, 1)), length: 24) }
    public var address4: InterfaceAddress { InterfaceAddress(.v4(IPv4Address(172, 30, number, 2)), length: 24) }
    public var routerAddress6: InterfaceAddress {
      InterfaceAddress(.v6(IPv6Address(high: 0xfd30_0000_0000_0000 | UInt64(number), low: 1)), length: 64)
    }
    public var address6: InterfaceAddress {
      InterfaceAddress(.v6(IPv6Address(high: 0xfd30_0000_0000_0000 | UInt64(number), low: 2)), length: 64)
    }
  }

  public struct Workload: Sendable {
    public let name: String
    public let namespace: String
    public let host: String
    public let labels: [String: String]
  }

  public var hosts: [Host]
  public var workloads: [Workload]
  /// The rack router's AS. In the mesh it is one more iBGP speaker, so that no host passes on to it what another host said.
  public func routerAS(_ arrangement: Arrangement) -> UInt32 { arrangement == .mesh ? 64512 : 65000 }
  /// A host's AS: 64512 for all, or 65001, 65002, …
  public func hostAS(_ host: Host, _ arrangement: Arrangement) -> UInt32 { arrangement == .mesh ? 64512 : 65000 + UInt32(host.number) }

  /// All hosts' subnets lie in these; the hosts route them to the router, and have no default route.
  public static let underlay4 = IPPrefix("172.30.0.0/16")!
  public static let underlay6 = IPPrefix("fd30::/48")!
  public static let pool4 = IPPrefix("10.65.0.0/16")!
  public static let pool6 = IPPrefix("fd65::/64")!

  public static let datacenter = Topology(
    hosts: (1...3).map { Host(name: "host\($0)", number: UInt8($0)) },
    workloads: [
      Workload(name: "web-1", namespace: "shop", host: "host1", labels: ["app": "web"]),
      Workload(name: "web-2", namespace: "shop", host: "host2", labels: ["app": "web"]),
      Workload(name: "db-1", namespace: "shop", host: "host3", labels: ["app": "db"]),
      Workload(name: "client-1", namespace: "shop", host: "host2", labels: ["app": "client", "team": "blue"]),
      Workload(name: "client-2", namespace: "office", host: "host1", labels: ["app": "client", "team": "red"]),
      Workload(name: "intruder", namespace: "outside", host: "host3", labels: ["app": "intruder"]),
    ])
}

/// Where a lab keeps its things, and what its namespaces are called. Two labs differ in their name and share nothing.
public struct LabPaths: Sendable {
  public let lab: String
  public static let root = "/run/margay-lab"
  public init(lab: String) { self.lab = lab }
  public var directory: String { "\(Self.root)/\(lab)" }
  public var record: String { "\(directory)/lab.json" }
  public var datastore: String { "\(directory)/datastore.sqlite" }
  public func host(_ name: String) -> String { "\(directory)/\(name)" }
  public func log(_ name: String) -> String { "\(directory)/\(name).log" }
  /// Every namespace of this lab begins with this.
  public var namespacePrefix: String { "margay-\(lab)-" }
  public func namespace(_ name: String) -> String { namespacePrefix + name }
  public func namespacePath(_ name: String) -> String { "/run/netns/\(namespace(name))" }
}

/// A lab's name becomes part of paths and of namespace names.
public func isUsableLabName(_ name: String) -> Bool {
  (1...20).contains(name.utf8.count)
    && name.utf8.allSatisfy {
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
    }
}

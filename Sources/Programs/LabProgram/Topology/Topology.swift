/// What a lab consists of: hosts in racks, routers, cables, workloads, how routes travel, and where the objects are stored.
///
/// Everything is spelled out here; what a topology file may leave out, `TopologyReader` has filled in.
import Addresses
import JSON

public struct Topology: Sendable, Hashable {
  /// How routes travel.
  public enum Arrangement: String, Sendable, CaseIterable {
    /// One AS, and a session between any two: hosts and routers.
    case mesh
    /// One AS without a mesh: everyone speaks to the route reflectors.
    case reflectors
    /// Every rack is an AS: its router reflects between its hosts, and speaks to other routers as to other ASes.
    case asPerRack = "as-per-rack"
    /// Every host and every router is an AS of its own; sessions go along the cables.
    case asPerHost = "as-per-host"
    var hasOneAS: Bool { self == .mesh || self == .reflectors }
  }

  /// Who speaks BGP on a router.
  public enum RouterProgram: String, Sendable, CaseIterable { case bird, margay }

  public enum DatastoreProgram: String, Sendable, CaseIterable { case sqlite, etcd }

  public struct Host: Sendable, Hashable {
    public var name: String
    public var rack: String
    /// Nil: follows from the arrangement.
    public var asNumber: UInt32?
    public var labels: [String: String] = [:]
  }

  public struct Router: Sendable, Hashable {
    public enum Role: String, Sendable, CaseIterable { case rack, spine }
    public var name: String
    public var role: Role
    public var program: RouterProgram
    public var asNumber: UInt32?
    public var labels: [String: String] = [:]
  }

  /// A cable between a host and its rack, or between two routers; called `a-b`.
  public struct Cable: Sendable, Hashable {
    public var a: String
    public var b: String
    public var mtu: UInt32?
    public var name: String { "\(a)-\(b)" }
    func joins(_ x: String, _ y: String) -> Bool { (a, b) == (x, y) || (a, b) == (y, x) }
  }

  public struct Reflector: Sendable, Hashable {
    /// A host or a router.
    public var node: String
    public var clusterID: IPv4Address
    /// A selector over the labels of hosts and routers.
    public var clients: String
  }

  public struct Workload: Sendable, Hashable {
    public var name: String
    public var namespace: String
    public var host: String
    public var labels: [String: String] = [:]
    /// At most one of each family; a family without one gets an address from the pools.
    public var addresses: [IPAddress] = []
  }

  public struct Namespace: Sendable, Hashable {
    public var name: String
    public var labels: [String: String] = [:]
  }

  public var arrangement = Arrangement.mesh
  public var datastore = DatastoreProgram.sqlite
  /// The AS of all, in arrangements that have one.
  public var asNumber: UInt32 = 64512
  public var hosts: [Host] = []
  public var routers: [Router] = []
  public var cables: [Cable] = []
  public var reflectors: [Reflector] = []
  public var namespaces: [Namespace] = []
  public var workloads: [Workload] = []
  public var pools: [IPPrefix] = [pool4, pool6]
  /// What workloads offer, and others ask them for.
  public var services: [Service] = [.icmp, .tcp(80), .tcp(5432), .udp(53)]
  /// Files with objects to apply, as absolute paths.
  public var documents: [String] = []
  /// Objects that stand in the topology's own file.
  public var objects: [JSONValue] = []

  public var racks: [Router] { routers.filter { $0.role == .rack } }
  public var hasMargayRouter: Bool { routers.contains { $0.program == .margay } }
  /// Every place with a network namespace of its own, workloads last.
  var places: [String] {
    routers.map(\.name) + hosts.map(\.name) + (datastore == .etcd ? [Self.etcd] : []) + workloads.map(\.name)
  }

  /// The place of the datastore server.
  static let etcd = "etcd"
  /// The underlay: every cable has a subnet in these, and every router an address of its own. Hosts have no default route.
  public static let underlay4 = IPPrefix("172.30.0.0/16")!
  public static let underlay6 = IPPrefix("fd30::/48")!
  public static let pool4 = IPPrefix("10.65.0.0/16")!
  public static let pool6 = IPPrefix("fd65::/64")!
}

/// What the wide tables add to the objects: how nodes and endpoints are, how full pools are, how many policies a tier has.
import Addresses
import AddressAssignment
public import Datastore
import JSON
import NodeProgram
public import Resources
public import Names

public struct ClusterFacts: Sendable {
  public struct Use: Hashable, Sendable {
    public var cidr: IPPrefix
    public var used: Int
  }
  var nodes: [String: ClusterStatus.Node] = [:]
  /// `shop/web-1`'s `eth0` on a node: how it is.
  var endpoints: [EndpointName: ClusterStatus.Endpoint] = [:]
  var blocks: [Use] = []
  var policies: [String: Int] = [:]
  /// For how long a host has been silent.
  public var now = UTCTime.now()
  struct EndpointName: Hashable {
    var node: String
    var orchestrator: String
    var workload: String
    var endpoint: String
  }

  /// Nothing known: the plain table.
  public init() {}

  /// What the wide tables of these kinds need; nothing is read for the others.
  public static func read(_ datastore: any Datastore, for kinds: Set<Kind>) async throws(DatastoreError) -> ClusterFacts {
    var facts = ClusterFacts()
    if !kinds.isDisjoint(with: [.node, .workloadEndpoint, .bgpPeer]) {
      for node in try await ClusterStatus.read(datastore).nodes {
        facts.nodes[node.name] = node
        for endpoint in node.endpoints {
          let name = EndpointName(
            node: node.name, orchestrator: endpoint.orchestrator, workload: endpoint.workload, endpoint: endpoint.endpoint)
          facts.endpoints[name] = endpoint
        }
      }
    }
    if kinds.contains(.ipPool) {
      for family in [IPFamily.v4, .v6] {
        for item in try await datastore.list(prefix: AddressKeys.blocks(family)).items {
          guard let block = try? JSONValue(parsing: item.value), let cidr = block["cidr"]?.string.flatMap({ IPPrefix($0) }) else {
            continue
          }
          facts.blocks.append(Use(cidr: cidr, used: block["allocations"]?.array?.count { !$0.isNull } ?? 0))
        }
      }
    }
    if kinds.contains(.tier) {
      for kind in [Kind.networkPolicy, .globalNetworkPolicy] {
        for item in try await datastore.list(prefix: ResourceKey.prefix(of: kind)).items {
          let tier = (try? JSONValue(parsing: item.value))?["spec"]?["tier"]?.string ?? "default"
          facts.policies[tier, default: 0] += 1
        }
      }
    }
    return facts
  }

  func status(of key: ResourceKey) -> ClusterStatus.Endpoint? {
    guard let name = try? WorkloadEndpointName(parsing: key.name) else { return nil }
    let workload = name.orchestrator == "libnetwork" ? name.workload : "\(key.namespace ?? "default")/\(name.workload)"
    return endpoints[EndpointName(node: name.node, orchestrator: name.orchestrator, workload: workload, endpoint: name.endpoint)]
  }
  /// Addresses of the pool that somebody has.
  func used(in pool: IPPrefix) -> Int { blocks.reduce(0) { $0 + (pool.contains($1.cidr) ? $1.used : 0) } }
}

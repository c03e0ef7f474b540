/// What a node does once before its daemons start: the cluster's fixed objects, and the Node object that tells the others where it is.
public import Addresses
public import Datastore
import JSON
import NetlinkEdge
import NetlinkMessages
public import Resources

public struct NodeStartup: Sendable {
  public var name: String
  /// Nil: the first usable address of the machine, loopback, workload and container interfaces left out.
  public var ipv4: InterfaceAddress?
  public var ipv6: InterfaceAddress?
  /// Nil keeps what the Node object says.
  public var asNumber: UInt32?

  /// Where an address comes from that neither caller nor Node object gives.
  var detection: @Sendable (IPFamily) throws -> InterfaceAddress? = { try Self.detect($0) }

  public init(name: String, ipv4: InterfaceAddress? = nil, ipv6: InterfaceAddress? = nil, asNumber: UInt32? = nil) {
    self.name = name
    self.ipv4 = ipv4
    self.ipv6 = ipv6
    self.asNumber = asNumber
  }

  public struct Problem: Error, CustomStringConvertible { public let description: String }

  /// Interfaces that never carry the node's own address, by the beginning of their names; loopback besides.
  static let excluded = [
    "docker", "cbr", "dummy", "podman", "virbr", "lxcbr", "veth", "br-", "cali", "tunl", "flannel", "kube-ipvs", "cni",
    "vxlan.calico", "vxlan-v6.calico", "wireguard.cali", "wg-v6.cali", "nodelocaldns",
  ]

  static func detect(_ family: IPFamily) throws -> InterfaceAddress? {
    let netlink = try RouteNetlink()
    for link in try netlink.links().sorted(by: { $0.index < $1.index })
    where link.isUp && link.name != "lo" && !excluded.contains(where: link.name.hasPrefix) {
      for assigned in try netlink.addresses(family: family, interface: link.index) {
        let address = assigned.address.address
        if !address.isLinkLocal, !address.isLoopback, !address.isMulticast { return assigned.address }
      }
    }
    return nil
  }

  /// Written with every Node whose addresses were compared with those of the others: two nodes that start at the same moment with one
  /// address would otherwise both find it free.
  static let guardKey = "/calico/margay/v1/node-addresses"

  /// Creates or updates the objects. Refuses an address that another node has.
  ///
  /// Many writers share a Node object (labels by an administrator, addresses by an orchestrator), so it is only replaced as it was read.
  public func run(_ datastore: any Datastore) async throws -> Resource {
    if let marker = try await datastore.get(TransferMarker.path) {
      let source = (try? JSONValue(parsing: marker.value))?["source"]?.string ?? "somewhere"
      throw Problem(
        description: "\(datastore.name) is not complete: a transfer from \(source) into it is not finished (margay datastore migrate or restore, "
          + "margay import); repeat that command to its end")
    }
    let store = ResourceStore(datastore)
    try await store.ensureDefaults()
    let key = ResourceKey(.node, name: name)
    // A thousand nodes may start at once, and each attempt that fails means that another node is through.
    for _ in 0..<1_000 {
      // Before the others are looked at.
      let seen = try await datastore.get(Self.guardKey)
      let condition = ResourceStore.Condition(
        [seen.map { .modRevision(Self.guardKey, equals: $0.modRevision) } ?? .absent(Self.guardKey)],
        also: [.put(Self.guardKey, Array(name.utf8))])
      let present = try await store.get(key)
      let resource = try await wanted(present?.resource ?? Resource(Metadata(name: name), .node(NodeSpec())), store)
      if let stored = try await write(resource, isNew: present == nil, condition, store) { return stored }
    }
    throw Problem(description: "\(key) keeps being changed by others; try again")
  }

  /// Nil when somebody else was faster.
  private func write(
    _ resource: Resource, isNew: Bool, _ condition: ResourceStore.Condition, _ store: ResourceStore
  ) async throws(ResourceStoreError) -> Resource? {
    do throws(ResourceStoreError) {
      let stored = isNew ? try await store.create(resource, if: condition) : try await store.apply(resource, if: condition).stored
      return stored.resource
    } catch {
      switch error {
      case .conflict, .alreadyExists: return nil
      default: throw error
      }
    }
  }

  /// The present object with what this host knows better. Its resource version stays: what is written must replace just that.
  private func wanted(_ present: Resource, _ store: ResourceStore) async throws -> Resource {
    var resource = present
    guard case .node(var node) = resource.spec else { throw Problem(description: "\(present.key) is stored as something else") }
    var bgp = node.bgp ?? NodeSpec.BGP()
    bgp.ipv4Address = try ipv4 ?? bgp.ipv4Address ?? detection(.v4)
    bgp.ipv6Address = try ipv6 ?? bgp.ipv6Address ?? detection(.v6)
    // An administrator may have given the node another AS since it was first started: what is stored wins.
    bgp.asNumber = bgp.asNumber ?? asNumber
    guard bgp.ipv4Address != nil || bgp.ipv6Address != nil else {
      throw Problem(
        description: "node \(name) has no address that others can reach; give one with --ipv4 ADDRESS/LENGTH or --ipv6 ADDRESS/LENGTH")
    }
    for other in try await store.list(.node).items where other.resource.key != present.key {
      guard case .node(let spec) = other.resource.spec else { continue }
      for address in [bgp.ipv4Address, bgp.ipv6Address].compactMap({ $0?.address })
      where address == spec.bgp?.ipv4Address?.address || address == spec.bgp?.ipv6Address?.address {
        throw Problem(
          description: "\(address), the address of node \(name), belongs to \(other.resource.key) already; one of them is wrong")
      }
    }
    node.bgp = bgp
    resource.spec = .node(node)
    return resource
  }
}

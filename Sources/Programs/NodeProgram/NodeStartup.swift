/// What a node does once before its daemons start: the cluster's fixed objects, and the Node object that tells the others where it is.
public import Addresses
public import Datastore
import JSON
public import NetlinkEdge
public import Resources

/// Where one of the node's addresses comes from.
public enum AddressChoice: Hashable, Sendable {
  case given(InterfaceAddress)
  /// Found at every start and whenever the host's addresses change; the stored one gives way.
  case detected(AddressDetection)
  /// What the Node object says; found once, if it says nothing.
  case stored(orElse: AddressDetection)
  /// The node has no address of this family, whatever its object says.
  case none
}

public struct NodeStartup: Sendable {
  public var name: String
  public var choices: [IPFamily: AddressChoice]
  /// Nil keeps what the Node object says.
  public var asNumber: UInt32?
  /// Another node may have the same address, says whoever starts this one.
  public var toleratesConflicts = false
  /// The name of the node in Kubernetes, kept with the object.
  public var kubernetesName: String?
  /// Words that `clusterType` of the cluster information is to hold.
  public var clusterTypes: [String] = []
  /// Made where the cluster has no pool of the family.
  public var defaultPools: DefaultPools?
  /// What an orchestrator says of the node's addresses, besides what its Node object has.
  public var internalAddresses: [IPAddress] = []
  /// Where the host's interfaces are; nil is the calling thread's network namespace.
  public var namespace: NetworkNamespace?
  var interfaces: @Sendable (NetworkNamespace?) throws -> [HostInterface] = { try HostView.interfaces(in: $0) }

  /// Without an address the Node object's counts, and if it has none, the first usable one of the machine.
  public init(name: String, ipv4: InterfaceAddress? = nil, ipv6: InterfaceAddress? = nil, asNumber: UInt32? = nil) {
    self.name = name
    self.asNumber = asNumber
    choices = [
      .v4: ipv4.map { .given($0) } ?? .stored(orElse: .firstFound), .v6: ipv6.map { .given($0) } ?? .stored(orElse: .firstFound),
    ]
  }

  public struct Problem: Error, CustomStringConvertible { public let description: String }

  /// The node's address of one family; nil: it has none.
  func address(_ family: IPFamily, stored: InterfaceAddress?, internalAddresses: [IPAddress]) throws -> InterfaceAddress? {
    func found(by method: AddressDetection) throws -> InterfaceAddress? {
      try method.address(
        family, of: interfaces(namespace), internalAddresses: internalAddresses + self.internalAddresses,
        source: { try HostView.source(towards: $0, family, in: namespace) })
    }
    switch choices[family] ?? .stored(orElse: .firstFound) {
    case .none: return nil
    case .given(let address): return address
    case .stored(let method): return try stored ?? found(by: method)
    case .detected(let method):
      if let address = try found(by: method) { return address }
      throw Problem(description: "node \(name): no \(family) address of this host is found by \(method)")
    }
  }
  /// Whether an address follows the host's.
  public var follows: Bool { choices.values.contains { if case .detected = $0 { true } else { false } } }

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
    try await addClusterTypes(store)
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
      if let stored = try await write(resource, isNew: present == nil, condition, store) {
        try await defaultPools?.create(store, interfaces: interfaces(namespace))
        return stored
      }
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
    let internalAddresses = node.addresses.filter { $0.type == "InternalIP" }.compactMap { IPAddress($0.address) }
    bgp.ipv4Address = try address(.v4, stored: bgp.ipv4Address, internalAddresses: internalAddresses)
    bgp.ipv6Address = try address(.v6, stored: bgp.ipv6Address, internalAddresses: internalAddresses)
    // An administrator may have given the node another AS since it was first started: what is stored wins.
    bgp.asNumber = bgp.asNumber ?? asNumber
    guard bgp.ipv4Address != nil || bgp.ipv6Address != nil else {
      throw Problem(
        description: "node \(name) has no address that others can reach; give one with --ipv4 ADDRESS/LENGTH or --ipv6 ADDRESS/LENGTH")
    }
    for other in toleratesConflicts ? [] : try await store.list(.node).items where other.resource.key != present.key {
      guard case .node(let spec) = other.resource.spec else { continue }
      for address in [bgp.ipv4Address, bgp.ipv6Address].compactMap({ $0?.address })
      where address == spec.bgp?.ipv4Address?.address || address == spec.bgp?.ipv6Address?.address {
        throw Problem(
          description: "\(address), the address of node \(name), belongs to \(other.resource.key) already; one of them is wrong")
      }
    }
    node.bgp = bgp
    if let kubernetesName, !node.orchRefs.contains(where: { $0.orchestrator == "k8s" && $0.nodeName == kubernetesName }) {
      node.orchRefs.append(.init(orchestrator: "k8s", nodeName: kubernetesName))
    }
    resource.spec = .node(node)
    return resource
  }

  private func addClusterTypes(_ store: ResourceStore) async throws {
    let key = ResourceKey(.clusterInformation, name: "default")
    for _ in 0..<1_000 where !clusterTypes.isEmpty {
      guard var resource = try await store.get(key)?.resource, case .clusterInformation(var information) = resource.spec else { return }
      let present = (information.clusterType ?? "").split(separator: ",").map { String($0) }
      let missing = clusterTypes.filter { !present.contains($0) }
      if missing.isEmpty { return }
      information.clusterType = (present + missing).joined(separator: ",")
      resource.spec = .clusterInformation(information)
      if try await isWritten(resource, store) { return }
    }
  }

  /// False when somebody else was faster.
  private func isWritten(_ resource: Resource, _ store: ResourceStore) async throws(ResourceStoreError) -> Bool {
    do throws(ResourceStoreError) {
      _ = try await store.update(resource)
      return true
    } catch {
      if case .conflict = error { return false }
      throw error
    }
  }
}

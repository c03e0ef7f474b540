/// A node is taken out of the cluster: `margay delete node NAME`, for a host that is lost or not needed any more.
///
/// In this order, each step of use without the next, and the whole repeatable after a stop anywhere:
///  1. the Node object: the others end their sessions with it at once and take its routes out, so that no address is given anew while
///     packets to it still go to the old place;
///  2. its endpoints: policies forget their addresses, and every host their flows;
///  3. addresses and blocks;
///  4. the objects that speak of this node alone;
///  5. its status: what stands under a lease would go by itself, its last word would not.
import AddressAssignment
import Addresses
public import Datastore
import JSON
import Names
import Resources

public struct NodeRemoval: Sendable {
  public let name: String
  public init(name: String) { self.name = name }

  public struct Problem: Error, CustomStringConvertible { public let description: String }

  /// Felix writes it under a lease: it is there while Felix lives, and for 90 s after a host was lost.
  static func statusKey(_ node: String) -> String { "/calico/felix/v2/no-region/host/\(KeyPart.escape(node))/status" }

  /// When the node last said that it is alive, as it said it; nil if it is not known to be alive.
  public func signOfLife(_ datastore: any Datastore) async throws(DatastoreError) -> String? {
    guard let item = try await datastore.get(Self.statusKey(name)) else { return nil }
    return (try? JSONValue(parsing: item.value))?["time"]?.string ?? "an unknown time"
  }

  /// Removes the node and all that is only its. `tell` hears each thing when it is done. Throws if there is nothing of this name.
  public func run(_ datastore: any Datastore, tell: (String) -> Void) async throws {
    let store = ResourceStore(datastore)
    let key = ResourceKey(.node, name: name)
    let node = try await store.get(key)
    var count = 0
    func done(_ what: String) {
      count += 1
      tell(what)
    }
    if node != nil, try await remove(key, store) { done("\(key) deleted") }
    for endpoint in try await store.list(.workloadEndpoint).items where endpoint.resource.workloadNode == name {
      if try await remove(endpoint.resource.key, store) { done("\(endpoint.resource.key) deleted\(endpoint.resource.addressText)") }
    }
    let departure = try await AddressBook(datastore: datastore, node: name).leave()
    if !departure.released.isEmpty { done("addresses \(departure.released.map(\.description).joined(separator: ", ")) released") }
    for block in departure.deletedBlocks { done("block \(block) deleted") }
    for block in departure.orphanedBlocks { done("block \(block) given up; workloads of other nodes keep their addresses in it") }
    for peer in try await store.list(.bgpPeer).items {
      if case .bgpPeer(let spec) = peer.resource.spec, spec.node == name, try await remove(peer.resource.key, store) {
        done("\(peer.resource.key) deleted")
      }
    }
    for kind in [Kind.bgpConfiguration, .felixConfiguration] {
      let own = ResourceKey(kind, name: "node.\(name)")
      if try await store.get(own) != nil, try await remove(own, store) { done("\(own) deleted") }
    }
    for item in try await datastore.list(prefix: Self.hostEndpoints).items {
      guard (try? JSONValue(parsing: item.value))?["spec"]?["node"]?.string == name else { continue }
      let result = try await datastore.transact(if: [.modRevision(item.key, equals: item.modRevision)], then: [.delete(item.key)])
      if case .committed = result { done("HostEndpoint \(KeyPart.unescape(item.key.dropFirst(Self.hostEndpoints.count))) deleted") }
    }
    let status = try await datastore.list(prefix: StatusKeys.felixRoot).items.filter { StatusKeys.Subject(path: $0.key)?.host == name }
    for key in status.map(\.key) + [StatusKeys.bgp(host: name)] { _ = try await datastore.transact(if: [], then: [.delete(key)]) }
    if !status.isEmpty { done("status deleted") }
    guard count > 0 else { throw Problem(description: "\(key) does not exist, and nothing else is of that node") }
    try await tellOfOthers(node?.resource, store, tell)
  }

  static let hostEndpoints = "/calico/resources/v3/projectcalico.org/hostendpoints/"

  /// A missing object is success: somebody else may be at work as well. False then.
  private func remove(_ key: ResourceKey, _ store: ResourceStore) async throws(ResourceStoreError) -> Bool {
    do throws(ResourceStoreError) {
      try await store.delete(key)
      return true
    } catch {
      if case .doesNotExist = error { return false }
      throw error
    }
  }

  /// Peers that others still have with the node's addresses stay: an administrator wrote them.
  private func tellOfOthers(_ node: Resource?, _ store: ResourceStore, _ tell: (String) -> Void) async throws {
    guard case .node(let spec)? = node?.spec else { return }
    let addresses = [spec.bgp?.ipv4Address?.address, spec.bgp?.ipv6Address?.address].compactMap { $0 }
    for peer in try await store.list(.bgpPeer).items {
      if case .bgpPeer(let spec) = peer.resource.spec, let address = spec.peerIP, addresses.contains(address) {
        tell("\(peer.resource.key) stays: its peerIP \(address) was this node's; delete it if nothing else has that address")
      }
    }
  }
}

extension Resource {
  fileprivate var workloadNode: String? { if case .workloadEndpoint(let spec) = spec { spec.node } else { nil } }
  fileprivate var addressText: String {
    guard case .workloadEndpoint(let spec) = spec, !spec.ipNetworks.isEmpty else { return "" }
    return " (\(spec.ipNetworks.map(\.address.description).joined(separator: ", ")))"
  }
}

/// The census of addresses, read from a datastore.
public import AddressPlans
import Addresses
public import Datastore
import JSON
import Names
import Resources

extension AddressCensus {
  /// In this order: see `AddressCensus`.
  public static func read(_ datastore: any Datastore) async throws(AddressBookError) -> AddressCensus {
    var census = AddressCensus()
    do throws(DatastoreError) {
      try await census.readRecords(datastore)
      try await census.readUsers(datastore)
    } catch {
      throw .datastore(error)
    }
    return census
  }

  private mutating func readRecords(_ datastore: any Datastore) async throws(DatastoreError) {
    for family in IPFamily.allCases {
      for item in try await datastore.list(prefix: AddressKeys.blocks(family)).items {
        do {
          let block = try AllocationBlock(parsing: try JSONValue(parsing: item.value))
          blocks[block.cidr] = Block(block, revision: item.modRevision.rawValue)
        } catch {
          unreadable[item.key] = "\(error)"
        }
      }
    }
    for item in try await datastore.list(prefix: AddressKeys.handles).items {
      let record = HandleRecord(key: item.key, stored: item)
      let name = KeyPart.unescape(item.key.dropFirst(AddressKeys.handles.count))
      handles[name] = Handle(counts: record.counts, revision: item.modRevision.rawValue)
    }
    for prefix in AddressKeys.owners {
      for item in try await datastore.list(prefix: prefix).items {
        guard let (owner, cidr) = AddressKeys.affinity(ofKey: item.key) else { continue }
        affinities[AffinityName(owner, cidr)] = Affinity(
          isConfirmed: AddressKeys.isConfirmed(affinity: item.value), revision: item.modRevision.rawValue)
      }
    }
  }

  private mutating func readUsers(_ datastore: any Datastore) async throws(DatastoreError) {
    // Documents rather than resources: of an endpoint that cannot be read otherwise, the addresses still count.
    func documents(_ kind: Kind) async throws(DatastoreError) -> [(key: ResourceKey, document: JSONValue)] {
      try await datastore.list(prefix: ResourceKey.prefix(of: kind)).items.compactMap { item in
        guard let key = ResourceKey(path: item.key) else { return nil }
        return (key, (try? JSONValue(parsing: item.value)) ?? .null)
      }
    }
    for (key, document) in try await documents(.workloadEndpoint) {
      let spec = document["spec"]
      let parts = try? WorkloadEndpointName(parsing: key.name)
      let workload = parts.flatMap { $0.orchestrator == "k8s" ? "\(key.namespace ?? "")/\($0.workload)" : nil } ?? key.qualifiedName
      for value in spec?["ipNetworks"]?.array ?? [] {
        note(value, .endpoint(workload: workload, object: key.description))
      }
    }
    for (key, document) in try await documents(.hostEndpoint) {
      for value in document["spec"]?["expectedIPs"]?.array ?? [] { note(value, .hostEndpoint(key.name)) }
    }
    for (key, document) in try await documents(.node) {
      nodes.insert(key.name)
      let spec = document["spec"]
      for value in [
        spec?["bgp"]?["ipv4IPIPTunnelAddr"], spec?["ipv4VXLANTunnelAddr"], spec?["ipv6VXLANTunnelAddr"],
        spec?["wireguard"]?["interfaceIPv4Address"], spec?["wireguard"]?["interfaceIPv6Address"],
      ] { note(value, .tunnel(node: key.name)) }
    }
    for (key, document) in try await documents(.ipPool) {
      guard let cidr = document["spec"]?["cidr"]?.string.flatMap({ IPPrefix($0) }) else { continue }
      let size = document["spec"]?["blockSize"]?.integer.flatMap { UInt8(exactly: $0) }
      var spec = IPPoolSpec(cidr: cidr, blockSize: size)
      spec.disabled = document["spec"]?["disabled"]?.bool ?? false
      pools.append(PoolChoice.Pool(name: key.name, spec: spec))
    }
  }

  private mutating func note(_ value: JSONValue?, _ user: User) {
    guard let text = value?.string, let address = IPPrefix(text)?.address ?? IPAddress(text) else { return }
    users[address, default: []].append(user)
  }
}

/// The workload endpoints of this host: which of them hold their interface, and which addresses lead where.
import Addresses
import HostPlans
import Resources

struct LocalEndpoints: Sendable {
  struct Endpoint: Sendable {
    var spec: WorkloadEndpointSpec
    var shape: LabelIndex.Shape
    var claim: LocalClaim
    /// Each once, in order of number, so that the order in the record does not show.
    var addresses: [IPAddress] { Set(spec.ipNetworks.filter(\.isHost).map(\.address)).sorted() }
  }
  /// All records of this host.
  private(set) var records: [ResourceKey: Endpoint] = [:]
  private var interfaces = ClaimTable<String>()
  private var addressClaims = ClaimTable<IPPrefix>()
  private var ownBlocks: Set<IPPrefix> = []
  /// Endpoints that hold their interface; only these exist for policy and routes.
  private(set) var holders: [String: ResourceKey] = [:]
  /// The addresses that each holder has claimed, to give up the same ones later.
  private var claimed: [ResourceKey: (claim: LocalClaim, addresses: [IPAddress])] = [:]
  private var dirtyInterfaces: Set<String> = []
  private var dirtyPrefixes: Set<IPPrefix> = []

  init() {}

  mutating func set(_ key: ResourceKey, _ endpoint: Endpoint?) {
    if let old = records[key] {
      interfaces.remove(old.claim, from: old.spec.interfaceName)
      dirtyInterfaces.insert(old.spec.interfaceName)
    }
    records[key] = endpoint
    if let endpoint {
      interfaces.add(endpoint.claim, to: endpoint.spec.interfaceName)
      dirtyInterfaces.insert(endpoint.spec.interfaceName)
    }
  }

  /// A block without host addresses to share out (a /32 of its own) gets no blackhole: it would hide the workload's own route.
  mutating func setBlock(_ prefix: IPPrefix, isOurs: Bool) {
    guard !prefix.isHost, ownBlocks.contains(prefix) != isOurs else { return }
    if isOurs { ownBlocks.insert(prefix) } else { ownBlocks.remove(prefix) }
    dirtyPrefixes.insert(prefix)
  }

  /// Decides who holds each interface in question. Returns who no longer does, and who does, newly or with a changed record.
  mutating func settle() -> (gone: [ResourceKey], present: [ResourceKey]) {
    var gone: Set<ResourceKey> = []
    var present: Set<ResourceKey> = []
    for interface in dirtyInterfaces where !interface.isEmpty {
      let holder = interfaces.holder(of: interface)
      if let previous = holders[interface], previous != holder { gone.insert(previous) }
      holders[interface] = holder
      if let holder { present.insert(holder) }
    }
    dirtyInterfaces.removeAll()
    // An endpoint may have left one interface and taken another.
    gone.subtract(present)
    for key in gone.union(present) {
      if let old = claimed.removeValue(forKey: key) {
        for address in old.addresses {
          addressClaims.remove(old.claim, from: address.hostPrefix)
          dirtyPrefixes.insert(address.hostPrefix)
        }
      }
    }
    for key in present {
      let record = records[key]!
      let addresses = record.addresses
      for address in addresses {
        addressClaims.add(record.claim, to: address.hostPrefix)
        dirtyPrefixes.insert(address.hostPrefix)
      }
      claimed[key] = (record.claim, addresses)
    }
    return (Array(gone), Array(present))
  }

  /// The routes of the prefixes in question; nil for a prefix without a route. Follows `settle`.
  mutating func drainRoutes() -> [(IPPrefix, RoutePlan?)] {
    // A changed record may have moved to another interface while its addresses stayed, so every address of a settled endpoint is in
    // question.
    let routes = dirtyPrefixes.map { ($0, route(to: $0)) }
    dirtyPrefixes.removeAll()
    return routes
  }

  private func route(to prefix: IPPrefix) -> RoutePlan? {
    if let holder = addressClaims.holder(of: prefix) { return .workload(interfaceName: records[holder]!.spec.interfaceName) }
    return ownBlocks.contains(prefix) ? .blackhole : nil
  }

  /// Why a record of this host is not, or not fully, in effect.
  var findings: [ResourceKey: String] {
    var findings: [ResourceKey: String] = [:]
    for (key, record) in records {
      let interface = record.spec.interfaceName
      if interface.isEmpty {
        findings[key] = "interfaceName: missing; the endpoint is not programmed"
      } else if let holder = holders[interface], holder != key {
        findings[key] = "interface \(interface) belongs to the younger \(holder); this endpoint is not programmed"
      } else {
        let lost = record.addresses.filter { addressClaims.holder(of: $0.hostPrefix) != key }
        if let address = lost.first, let holder = addressClaims.holder(of: address.hostPrefix) {
          findings[key] = "address \(address) is routed to the younger \(holder)"
        }
      }
    }
    return findings
  }
}

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
    /// External to internal address. Of an external address that is named twice, the lower internal one.
    var floating: [IPAddress: IPAddress] {
      Dictionary(spec.ipNATs.filter { $0.internalIP.family == $0.externalIP.family }.map { ($0.externalIP, $0.internalIP) }, uniquingKeysWith: min)
    }
    var isOpenStack: Bool { spec.orchestrator == "openstack" }
  }
  /// Floating addresses of every endpoint are translated; else of OpenStack's, which always are.
  var translatesAll = false {
    didSet {
      guard translatesAll != oldValue else { return }
      for record in records.values where !record.spec.ipNATs.isEmpty { dirtyInterfaces.insert(record.spec.interfaceName) }
    }
  }
  /// All records of this host.
  private(set) var records: [ResourceKey: Endpoint] = [:]
  private var interfaces = ClaimTable<String>()
  private var addressClaims = ClaimTable<IPPrefix>()
  private var floatingClaims = ClaimTable<IPAddress>()
  private var ownBlocks: Set<IPPrefix> = []
  /// Endpoints that hold their interface; only these exist for policy and routes.
  private(set) var holders: [String: ResourceKey] = [:]
  /// The addresses that each holder has claimed, to give up the same ones later.
  private var claimed: [ResourceKey: (claim: LocalClaim, addresses: [IPAddress], floating: [IPAddress])] = [:]
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
        for address in old.floating {
          floatingClaims.remove(old.claim, from: address)
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
      let floating = translatesAll || record.isOpenStack ? Array(record.floating.keys) : []
      for address in floating {
        floatingClaims.add(record.claim, to: address)
        dirtyPrefixes.insert(address.hostPrefix)
      }
      claimed[key] = (record.claim, addresses, floating)
    }
    return (Array(gone), Array(present))
  }

  /// Holders whose floating addresses may be others since the last `settle`: an address, theirs or external, has changed hands. Between
  /// `settle` and `drain`.
  mutating func takeShifted() -> Set<ResourceKey> {
    let addresses = dirtyPrefixes.lazy.filter(\.isHost)
    var shifted = Set(addresses.flatMap { [self] in floatingClaims.claimants(of: $0.address) + addressClaims.claimants(of: $0) })
    shifted = shifted.filter { claimed[$0].map { !$0.floating.isEmpty } ?? false }
    for key in shifted { for address in claimed[key]!.floating { dirtyPrefixes.insert(address.hostPrefix) } }
    return shifted
  }

  /// The floating addresses in effect: nobody younger claims them, nobody has them for its own, and what they lead to is routed there.
  func floating(of key: ResourceKey) -> [IPAddress: IPAddress] {
    guard let claim = claimed[key], !claim.floating.isEmpty, let record = records[key] else { return [:] }
    return record.floating.filter { external, inner in
      floatingClaims.holder(of: external) == key && addressClaims.holder(of: external.hostPrefix) == nil
        && addressClaims.holder(of: inner.hostPrefix) == key
    }
  }

  /// The prefixes whose routes are in question. Follows `settle`.
  ///
  /// A changed record may have moved to another interface while its addresses stayed, so every address of a settled endpoint is in question.
  mutating func drain() -> Set<IPPrefix> {
    defer { dirtyPrefixes = [] }
    return dirtyPrefixes
  }

  func workloadRoute(to prefix: IPPrefix) -> RoutePlan? {
    if let holder = addressClaims.holder(of: prefix) { return .workload(interfaceName: records[holder]!.spec.interfaceName) }
    if prefix.isHost, let holder = floatingClaims.holder(of: prefix.address), floating(of: holder)[prefix.address] != nil {
      return .workload(interfaceName: records[holder]!.spec.interfaceName)
    }
    return nil
  }
  func blackhole(of prefix: IPPrefix) -> RoutePlan? { ownBlocks.contains(prefix) ? .blackhole : nil }

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
        } else if !record.spec.ipNATs.isEmpty {
          findings[key] = floatingFinding(key, record)
        }
      }
    }
    return findings
  }
  private func floatingFinding(_ key: ResourceKey, _ record: Endpoint) -> String? {
    guard translatesAll || record.isOpenStack else { return "ipNATs: not in effect; set floatingIPs to Enabled in FelixConfiguration" }
    let inEffect = floating(of: key)
    guard let lost = record.floating.keys.filter({ inEffect[$0] == nil }).min() else { return nil }
    if let owner = addressClaims.holder(of: lost.hostPrefix) { return "floating address \(lost) is an address of \(owner)" }
    if let holder = floatingClaims.holder(of: lost), holder != key { return "floating address \(lost) leads to the younger \(holder)" }
    return "floating address \(lost) leads to \(record.floating[lost]!), which is no address of this endpoint"
  }
}

/// Stand-ins that obey: records with revisions, an address source that never gives one address twice, and a Felix that programs the host.

import Addresses
import CNIServer
import Glibc
import NetlinkEdge
import NetlinkMessages
import Resources
import Synchronization

struct Injected: Error, CustomStringConvertible {
  let description: String
}

/// Steps that shall fail, by name.
final class Faults: Sendable {
  private let names = Mutex<Set<String>>([])
  func set(_ all: Set<String>) { names.withLock { $0 = all } }
  func check(_ name: String) throws {
    if names.withLock({ $0.contains(name) }) { throw Injected(description: "injected: \(name)") }
  }
}

final class FakeRecords: EndpointRecords {
  private struct State {
    var objects: [ResourceKey: Resource] = [:]
    var revision = 0
    var ready = true
  }
  private let state = Mutex(State())
  let faults: Faults
  init(_ faults: Faults) { self.faults = faults }

  var keys: [ResourceKey] { state.withLock { $0.objects.keys.sorted() } }
  func object(_ key: ResourceKey) -> Resource? { state.withLock { $0.objects[key] } }
  func setReady(_ ready: Bool) { state.withLock { $0.ready = ready } }

  func isReady() async throws -> Bool {
    try faults.check("isReady")
    return state.withLock { $0.ready }
  }
  func endpoint(_ key: ResourceKey) async throws -> Resource? {
    try faults.check("endpoint")
    return object(key)
  }
  func put(_ endpoint: Resource) async throws -> Resource {
    try faults.check("put")
    return state.withLock { state in
      state.revision += 1
      var stored = endpoint
      stored.metadata.resourceVersion = "\(state.revision)"
      state.objects[endpoint.key] = stored
      return stored
    }
  }
  func delete(_ key: ResourceKey, if condition: @Sendable (Resource) -> Bool) async throws {
    try faults.check("delete")
    state.withLock { state in
      if let object = state.objects[key], condition(object) { state.objects[key] = nil }
    }
  }
  func ensureProfile(_ profile: Resource) async throws {
    try faults.check("ensureProfile")
    state.withLock { state in
      if state.objects[profile.key] == nil { state.objects[profile.key] = profile }
    }
  }
}

final class FakeAddresses: AddressSource {
  private let held = Mutex<[String: [IPAddress]]>([:])
  let faults: Faults
  init(_ faults: Faults) { self.faults = faults }
  var all: [String: [IPAddress]] { held.withLock { $0 } }

  func assign(_ request: AddressRequest) async throws -> [IPAddress] {
    try faults.check("assign")
    let result = held.withLock { held -> [IPAddress]? in
      let taken = Set(held.values.joined())
      var given: [IPAddress] = []
      if !request.exact.isEmpty {
        guard taken.isDisjoint(with: request.exact) else { return nil }
        given = request.exact
      } else {
        for family in request.families {
          let base = IPAddress(family == .v4 ? "10.65.0.1" : "fd00:65::1")!
          guard let free = (0..<200).lazy.compactMap({ base.advanced(by: $0) }).first(where: { !taken.contains($0) }) else { return nil }
          given.append(free)
        }
      }
      held[request.handle, default: []] += given
      return given
    }
    guard let result else { throw Injected(description: "no address left") }
    try faults.check("assign halfway")
    return result
  }
  func blockLength(of address: IPAddress) async throws -> UInt8 { address.family == .v4 ? 26 : 122 }
  func addresses(heldBy handle: String) async throws -> [IPAddress] {
    try faults.check("heldBy")
    return held.withLock { $0[handle] ?? [] }
  }
  func addresses(sharedBy handle: String) async throws -> [IPAddress] { [] }
  func release(handle: String) async throws {
    try faults.check("release")
    held.withLock { $0[handle] = nil }
  }
}

/// Does what Felix does for an endpoint, with the `ip` words' meaning: routes to the addresses and the neighbours behind them.
final class FakeFelix: EndpointReadiness {
  let host: NetworkNamespace
  let records: FakeRecords
  let faults: Faults
  /// Interfaces that were already switched on when their rules arrived.
  let openedEarly = Mutex<[String]>([])
  /// Never answers: a Felix that hangs.
  let hangs = Mutex(false)
  /// Says that all is done, and does nothing.
  let idles = Mutex(false)

  init(host: NetworkNamespace, records: FakeRecords, faults: Faults) {
    self.host = host
    self.records = records
    self.faults = faults
  }
  func waitUntilProtected(_ endpoint: AttachedEndpoint, deadline: ContinuousClock.Instant) async throws {
    if hangs.withLock({ $0 }) { try await Task.sleep(until: deadline + .seconds(60), clock: .continuous) }
    try faults.check("protected")
    let link = try RouteNetlink(namespace: host).link(named: endpoint.interfaceName)
    if link?.isUp != false { openedEarly.withLock { $0.append(endpoint.interfaceName) } }
  }
  func waitUntilProgrammed(_ endpoint: AttachedEndpoint, deadline: ContinuousClock.Instant) async throws {
    try faults.check("programmed")
    if idles.withLock({ $0 }) { return }
    guard case .workloadEndpoint(let spec)? = records.object(endpoint.key)?.spec, let mac = spec.mac else {
      throw Injected(description: "no record of \(endpoint.key)")
    }
    let netlink = try RouteNetlink(namespace: host)
    guard let link = try netlink.link(named: endpoint.interfaceName) else { throw Injected(description: "no \(endpoint.interfaceName)") }
    let changes = endpoint.addresses.flatMap { address in
      [
        RouteNetlinkChange.replaceRoute(.device(address.hostPrefix, interface: link.index, protocol: .felix)),
        .setNeighbour(.permanent(address, mac, interface: link.index)),
      ]
    }
    for case let error? in try netlink.apply(changes) { throw error }
  }
}

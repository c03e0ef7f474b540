/// Which workload, on whatever host, holds which address: to notice when one gives an address up, and when one arrives with it from
/// another host.
///
/// A workload that moves has a record on each of its two hosts for a while. The address is given up when the last of them is gone: its
/// flows with third parties are the workload's own, and forgetting them would cut connections that go on at its new place.
import Addresses
import Names
import Resources

struct AddressHolders {
  /// A workload whatever its host; endpoints whose names say nothing are each one's own.
  private struct Workload: Hashable {
    var namespace: String?
    var name: [String]
    init(_ key: ResourceKey) {
      namespace = key.namespace
      let parts = try? WorkloadEndpointName(parsing: key.name)
      // Without a pod two attachments of one name are not known to be of one workload.
      name = parts.flatMap { $0.orchestrator == "k8s" ? [$0.orchestrator, $0.workload, $0.endpoint] : nil } ?? [key.name]
    }
  }
  private struct Holding {
    var addresses: Set<IPAddress>
    /// The record that was written last is that of the host where the workload goes.
    var revision: Int64
  }
  private var holdings: [ResourceKey: Holding] = [:]
  private var attachments: [Workload: Set<ResourceKey>] = [:]
  private var gone: Set<IPAddress> = []
  private var shifted: Set<IPAddress> = []
  /// Workload endpoints of the whole cluster.
  var count: Int { holdings.count }

  /// Takes note of one object as it is now; kinds other than workload endpoints are passed over.
  mutating func note(_ key: ResourceKey, _ resource: Resource?) {
    guard key.kind == .workloadEndpoint else { return }
    let before = holdings[key]?.addresses ?? []
    var now: Set<IPAddress>?
    if case .workloadEndpoint(let endpoint) = resource?.spec { now = Set(endpoint.ipNetworks.map(\.address)) }
    holdings[key] = now.map { Holding(addresses: $0, revision: resource?.metadata.resourceVersion.flatMap { Int64($0) } ?? 0) }
    let workload = Workload(key)
    if attachments[workload]?.contains(where: { $0 != key }) == true { shifted.formUnion(before.union(now ?? [])) }
    if now != nil {
      attachments[workload, default: []].insert(key)
    } else {
      attachments[workload]?.remove(key)
      if attachments[workload]?.isEmpty == true { attachments[workload] = nil }
    }
    for address in before.subtracting(now ?? []) { giveUp(address, by: key) }
  }

  /// An address that no longer leads to the endpoint `key`, although its record may still name it. Nil: to one that is not known any more.
  /// False if the workload has the address on another host.
  @discardableResult
  mutating func giveUp(_ address: IPAddress, by key: ResourceKey?) -> Bool {
    let others = key.flatMap { attachments[Workload($0)] } ?? []
    if others.contains(where: { $0 != key && holdings[$0]?.addresses.contains(address) == true }) { return false }
    gone.insert(address)
    return true
  }

  /// True while an older record of the same workload, on another host, has the address as well.
  func isArriving(_ address: IPAddress, at key: ResourceKey) -> Bool {
    guard let own = holdings[key] else { return false }
    return attachments[Workload(key)]?.contains { other in
      guard other != key, let holding = holdings[other] else { return false }
      return holding.addresses.contains(address) && holding.revision < own.revision
    } ?? false
  }

  /// Addresses of which `isArriving` may have changed since the last call.
  mutating func takeShifted() -> Set<IPAddress> {
    defer { shifted = [] }
    return shifted
  }

  /// The addresses given up since the last call, sorted. One that another workload has got meanwhile is among them: the flows that are
  /// there are not that one's to inherit, and what it has begun itself is asked of policy again.
  mutating func takeGone() -> [IPAddress] {
    defer { gone = [] }
    return gone.sorted()
  }
}

/// Which workload, on whatever host, holds which address: to notice when one gives an address up.
import Addresses
import Resources

struct AddressHolders {
  private var holdings: [ResourceKey: Set<IPAddress>] = [:]
  private var gone: Set<IPAddress> = []

  /// Takes note of one object as it is now; kinds other than workload endpoints are passed over.
  mutating func note(_ key: ResourceKey, _ resource: Resource?) {
    guard key.kind == .workloadEndpoint else { return }
    let before = holdings[key]
    if case .workloadEndpoint(let endpoint) = resource?.spec {
      let now = Set(endpoint.ipNetworks.map(\.address))
      gone.formUnion((before ?? []).subtracting(now))
      holdings[key] = now
    } else {
      gone.formUnion(before ?? [])
      holdings[key] = nil
    }
  }

  /// An address that leads to another workload now, although the record of its old holder still names it.
  mutating func giveUp(_ address: IPAddress) { gone.insert(address) }

  /// The addresses given up since the last call, sorted. One that another workload has got meanwhile is among them: the flows that are
  /// there are not that one's to inherit, and what it has begun itself is asked of policy again.
  mutating func takeGone() -> [IPAddress] {
    defer { gone = [] }
    return gone.sorted()
  }
}

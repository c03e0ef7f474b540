/// Who holds what on this host when records contradict each other: one interface, or one address, in two endpoint records.
///
/// Such records appear when a workload was replaced and the old record outlived it. The younger record is the true one
/// more often than not, so the later creation time wins; equal times fall to the smaller key. The winner is a function of the records.
import Resources

struct LocalClaim: Hashable, Comparable, Sendable {
  let key: ResourceKey
  /// RFC 3339, UTC: compares as text. A record without a time counts as the oldest.
  let created: String
  init(_ key: ResourceKey, created: String?) {
    self.key = key
    self.created = created ?? ""
  }
  /// The better claim is the smaller one.
  static func < (a: Self, b: Self) -> Bool { a.created == b.created ? a.key < b.key : a.created > b.created }
}

/// Claims by the thing claimed.
struct ClaimTable<Thing: Hashable & Sendable>: Sendable {
  private var claims: [Thing: Set<LocalClaim>] = [:]
  mutating func add(_ claim: LocalClaim, to thing: Thing) { claims[thing, default: []].insert(claim) }
  mutating func remove(_ claim: LocalClaim, from thing: Thing) {
    claims[thing]?.remove(claim)
    if claims[thing]?.isEmpty == true { claims[thing] = nil }
  }
  func holder(of thing: Thing) -> ResourceKey? { claims[thing]?.min()?.key }
  func claimants(of thing: Thing) -> [ResourceKey] { claims[thing].map { $0.map(\.key) } ?? [] }
  func losers(of thing: Thing) -> [ResourceKey] { claims[thing].map { $0.sorted().dropFirst().map(\.key) } ?? [] }
}

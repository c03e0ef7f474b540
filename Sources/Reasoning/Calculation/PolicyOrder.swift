/// The order in which tiers and policies are consulted.
import Resources

/// A tier's place: the known before the unknown, by order (none is last), then by name.
struct TierPlace: Comparable, Sendable {
  var isUnknown: Bool
  var order: Double
  var name: String
  static func < (a: Self, b: Self) -> Bool {
    if a.isUnknown != b.isUnknown { return b.isUnknown }
    return a.order == b.order ? a.name < b.name : a.order < b.order
  }
}

/// A policy's place in its tier: by order (none is last), then by `name/namespace/kind`; a staged one directly before its counterpart.
struct PolicyPlace: Comparable, Sendable {
  var order: Double
  var identity: String
  /// Nil for an enforced policy.
  var staged: Kind?
  init(_ key: ResourceKey, order: Double?) {
    self.order = order ?? .infinity
    let enforced = key.enforcedCounterpart ?? key
    identity = "\(enforced.name)/\(enforced.namespace ?? "")/\(enforced.kind.rawValue)"
    staged = enforced == key ? nil : key.kind
  }
  static func < (a: Self, b: Self) -> Bool {
    if a.order != b.order { return a.order < b.order }
    if a.identity != b.identity { return a.identity < b.identity }
    guard let first = a.staged else { return false }
    return b.staged.map { first < $0 } ?? true
  }
}

extension TierSpec {
  /// The tiers that every cluster has. Their record may be missing (before the first start of a controller); their meaning is fixed.
  static let builtIn: [String: TierSpec] = [
    "default": TierSpec(order: 1_000_000, defaultAction: .deny),
    "kube-admin": TierSpec(order: 1_000, defaultAction: .pass),
    "kube-baseline": TierSpec(order: 10_000_000, defaultAction: .pass),
  ]
}

extension ProfileSpec {
  /// The profile that exists everywhere and cannot be changed.
  static let defaultAllowName = "projectcalico-default-allow"
  static let defaultAllow = ProfileSpec(ingress: [Rule(.allow)], egress: [Rule(.allow)])
}

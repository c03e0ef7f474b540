/// The rules that need a look at other objects, or at the object that was there before.
///
/// A rule about several objects holds only if no two writers can pass it at the same time. Where the object that a rule looks at is
/// another's (a policy's tier), the write compares its revision. Where the rule looks at what does not exist yet (another pool, a tier's
/// next policy), both writers write one small key beside it, the guard, and whoever comes second has to look again.
import Addresses
import Names
public import Resources

extension ResourceStore {
  public static let fixedTiers: [String: TierSpec] = [
    "default": TierSpec(order: 1_000_000, defaultAction: .deny),
    "kube-admin": TierSpec(order: 1_000, defaultAction: .pass),
    "kube-baseline": TierSpec(order: 10_000_000, defaultAction: .pass),
  ]

  /// Written with every pool that comes into being.
  static let poolGuard = "/calico/margay/v1/pools"
  /// Written with every policy that enters the tier.
  static func tierGuard(_ tier: String) -> String { "/calico/margay/v1/tiers/" + KeyPart.escape(tier) }

  func comparison(_ key: String) async throws(ResourceStoreError) -> Comparison {
    try await fetch(key).map { .modRevision(key, equals: $0.modRevision) } ?? .absent(key)
  }

  /// What must hold besides when the object is written, and what is written along with it. `before` is what the object replaces.
  func checkRules(_ resource: Resource, replacing before: Resource?) async throws(ResourceStoreError) -> Condition {
    try Self.checkAlone(resource)
    if let before { try Self.checkChange(of: before, to: resource) }
    if let tier = resource.tierName, Self.fixedTiers[tier] == nil {
      let key = ResourceKey(.tier, name: tier)
      guard let stored = try await fetch(key.path) else {
        throw .refused(resource.key, reason: "spec.tier: \(key) does not exist; create it first")
      }
      let enters = before?.tierName != tier
      return Condition(
        [.modRevision(key.path, equals: stored.modRevision)], also: enters ? [.put(Self.tierGuard(tier), Array(resource.key.path.utf8))] : [])
    }
    if case .ipPool(let pool) = resource.spec, before == nil {
      // Before the others are looked at.
      let guardIsSame = try await comparison(Self.poolGuard)
      try await checkPool(pool, resource.key)
      return Condition([guardIsSame], also: [.put(Self.poolGuard, Array(resource.key.path.utf8))])
    }
    return Condition([], also: [])
  }

  /// What a name alone forbids.
  static func checkAlone(_ resource: Resource) throws(ResourceStoreError) {
    let key = resource.key
    switch resource.spec {
    case .tier(let tier):
      if let fixed = fixedTiers[key.name], fixed != tier {
        throw .refused(
          key, reason: "order and default action of this tier are fixed: \(Int(fixed.order ?? 0)) and \(fixed.defaultAction.rawValue)")
      }
    case .profile where key.name == builtInProfileName: throw .refused(key, reason: "this profile is built in and cannot change")
    case .clusterInformation, .ipamConfiguration, .kubeControllersConfiguration:
      if key.name != "default" { throw .refused(key, reason: "there is only one object of this kind, and its name is default") }
    default: break
    }
  }

  static func checkChange(of before: Resource, to after: Resource) throws(ResourceStoreError) {
    switch (before.spec, after.spec) {
    case (.ipPool(let old), .ipPool(let new)):
      if old.cidr != new.cidr {
        throw .refused(after.key, reason: "spec.cidr cannot change (\(old.cidr) to \(new.cidr)); create another pool")
      }
      if old.blockSize != new.blockSize {
        throw .refused(after.key, reason: "spec.blockSize cannot change (\(old.blockSize) to \(new.blockSize)); create another pool")
      }
      if old.allowedUses.contains(.loadBalancer) != new.allowedUses.contains(.loadBalancer) {
        throw .refused(after.key, reason: "spec.allowedUses: LoadBalancer can neither be added nor taken away; create another pool")
      }
    default: break
    }
  }

  /// A new pool must not overlap another, nor disagree with blocks that exist already about their size.
  private func checkPool(_ pool: IPPoolSpec, _ key: ResourceKey) async throws(ResourceStoreError) {
    let (items, unreadable, _) = try await list(.ipPool)
    for other in items where other.resource.key != key {
      if case .ipPool(let present) = other.resource.spec, present.cidr.overlaps(pool.cidr) {
        throw .refused(key, reason: "spec.cidr: \(pool.cidr) overlaps \(present.cidr) of \(other.resource.key)")
      }
    }
    if let other = unreadable.first {
      throw .refused(key, reason: "\(other.key) cannot be read, so that nobody knows whether the two overlap; repair or delete it first")
    }
    for block in try await blocks(within: pool.cidr) where block.cidr.length != pool.blockSize {
      throw .refused(
        key,
        reason: "spec.blockSize: addresses are assigned from block \(block.cidr) already; give blockSize \(block.cidr.length), or release them")
    }
  }

  /// All policies of the tier, staged ones as well, and those of which nobody can say.
  func members(ofTier tier: String) async throws(ResourceStoreError) -> (policies: [ResourceKey], unreadable: [ResourceKey]) {
    var policies: [ResourceKey] = []
    var unreadable: [ResourceKey] = []
    for kind in [Kind.networkPolicy, .globalNetworkPolicy, .stagedNetworkPolicy, .stagedGlobalNetworkPolicy] {
      let found = try await list(kind)
      policies += found.items.filter { $0.resource.tierName == tier }.map(\.resource.key)
      unreadable += found.unreadable.map(\.key)
    }
    return (policies, unreadable)
  }

  /// What is no error, and yet not what whoever wrote the object may think: names that lead nowhere so far.
  public func warnings(for resource: Resource) async throws(ResourceStoreError) -> [String] {
    var warnings: [String] = []
    switch resource.spec {
    case .bgpPeer(let peer):
      for name in peer.filters where try await fetch(ResourceKey(.bgpFilter, name: name).path) == nil {
        warnings.append("spec.filters: BGPFilter \(name) does not exist; nothing is filtered by it until it does")
      }
      if let node = peer.node, try await fetch(ResourceKey(.node, name: node).path) == nil {
        warnings.append("spec.node: Node \(node) does not exist; nobody has this peer until it does")
      }
    case .hostEndpoint(let endpoint):
      for name in endpoint.profiles where try await missingProfile(name) {
        warnings.append("spec.profiles: Profile \(name) does not exist; it allows nothing until it does")
      }
    case .workloadEndpoint(let endpoint):
      for name in endpoint.profiles where try await missingProfile(name) {
        warnings.append("spec.profiles: Profile \(name) does not exist; it allows nothing until it does")
      }
    default: break
    }
    return warnings
  }
  private func missingProfile(_ name: String) async throws(ResourceStoreError) -> Bool {
    if name == Self.builtInProfileName { return false }
    return try await fetch(ResourceKey(.profile, name: name).path) == nil
  }
}

extension Resource {
  /// The policy inside, for both kinds of policy.
  public var policy: PolicySpec? {
    switch spec {
    case .networkPolicy(let policy), .globalNetworkPolicy(let policy): policy
    default: nil
    }
  }
  /// The tier of a policy, staged or not.
  var tierName: String? {
    switch spec {
    case .networkPolicy(let policy), .globalNetworkPolicy(let policy): policy.tier
    case .stagedNetworkPolicy(let staged), .stagedGlobalNetworkPolicy(let staged): staged.policy.tier
    default: nil
    }
  }
}

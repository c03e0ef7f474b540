/// One endpoint's policy at one place of a packet's way: tiers in order, policies in order, rules in order, then profiles.
import Addresses
import Resources

/// Where on a packet's way an endpoint's policy is asked.
public enum Stage: String, Hashable, Sendable {
  case workload
  /// Of a host endpoint, before connections are tracked: `doNotTrack`.
  case untracked
  /// Of a host endpoint, before destinations are translated: `preDNAT`.
  case preDNAT
  /// Of a host endpoint, for what the host forwards: `applyOnForward`.
  case forward
  /// Of a host endpoint, for the host's own traffic.
  case host
}

extension PolicyOracle {
  /// What one side alone says, whether or not the packet would come so far. Where it leaves the packet undecided, that is no objection.
  public func judgement(_ packet: Packet, _ direction: Direction, at endpoint: Entity, _ stage: Stage = .workload) -> Verdict {
    var trail: [Verdict.Step] = []
    let isAllowed = judge(packet, direction, at: endpoint, stage, &trail)
    return Verdict(isAllowed: isAllowed ?? true, trail: trail)
  }

  /// Walks tiers, then profiles. True: the packet may go on; false: it is dropped; nil: nothing decides, which only untracked and pre-DNAT
  /// policy leave it at.
  func judge(_ packet: Packet, _ direction: Direction, at endpoint: Entity, _ stage: Stage, _ trail: inout [Verdict.Step]) -> Bool? {
    var step = Verdict.Step(
      direction: direction, stage: stage, endpoint: endpoint.resource.key, endpointName: endpoint.name, finding: .endOfProfiles(isEmpty: true))
    func note(_ finding: Verdict.Finding) {
      step.finding = finding
      trail.append(step)
    }

    enum Decision { case allow, deny, pass }
    /// The first rule that matches and decides; nil if none does. A rule that cannot be enforced denies, a Log rule decides nothing.
    func decision(of rules: [Rule], namespace: String?) -> Decision? {
      for (index, rule) in rules.enumerated() {
        switch read(rule, packet, direction, namespace: namespace) {
        case .doesNotMatch(let why): note(.doesNotMatch(rule: index, why: why))
        case .unenforceable(let fault):
          note(.cannotBeEnforced(rule: index, rule.action, fault: fault))
          if rule.action != .log { return .deny }
        case .matches:
          note(.matches(rule: index, rule.action))
          switch rule.action {
          case .log: break
          case .allow: return .allow
          case .deny: return .deny
          case .pass: return .pass
          }
        }
      }
      note(.decidesNothing(rules: rules.count))
      return nil
    }

    let tiers = policies(for: endpoint, direction, stage)
    // Failsafes are about the host's own traffic; in front of everything they only spare it what stands there.
    if stage == .host || stage == .untracked || stage == .preDNAT, let why = failsafe(packet, direction, of: endpoint.node, stage) {
      if stage == .host || !tiers.isEmpty { note(.failsafe(why, isLast: stage == .host)) }
      return stage == .host ? true : nil
    }
    if stage == .forward, tiers.isEmpty { return true }

    tiers: for (tier, policies) in tiers {
      step.tier = tier.name
      for policy in policies {
        step.policy = policy.key
        if let fault = selectorFault(policy) {
          note(.cannotBeRead(fault: fault))
          return false
        }
        let rules = direction == .ingress ? policy.spec.policy.ingress : policy.spec.policy.egress
        switch decision(of: rules, namespace: policy.key.namespace) {
        case .allow: return true
        case .deny: return false
        case .pass:
          step.policy = nil
          continue tiers
        case nil: break
        }
      }
      // What stands before connection tracking or translation has no end of a tier: the next one is asked.
      if stage == .untracked || stage == .preDNAT { continue tiers }
      step.policy = policies.last?.key
      note(.endOfTier(tier.defaultAction))
      if tier.defaultAction == .deny { return false }
      step.policy = nil
    }
    step.tier = nil
    step.policy = nil
    switch stage {
    case .untracked, .preDNAT: return nil
    // Every tier has passed it, and there are no profiles for what a host forwards.
    case .forward: return true
    case .workload, .host: break
    }

    for name in endpoint.profiles {
      step.policy = ResourceKey(.profile, name: name)
      if name == "projectcalico-default-allow" {
        note(.builtInProfile)
        return true
      }
      guard let profile = Self.profiles(resources)[name] else {
        note(.missingProfile)
        return false
      }
      switch decision(of: direction == .ingress ? profile.ingress : profile.egress, namespace: nil) {
      case .allow: return true
      case .deny: return false
      // There is no next tier: the next profile is asked.
      case .pass, nil: continue
      }
    }
    step.policy = nil
    note(.endOfProfiles(isEmpty: endpoint.profiles.isEmpty))
    return false
  }

  // MARK: Tiers and policies

  public struct Tier: Sendable {
    public var name: String
    /// Infinite if it has none.
    public var order: Double
    public var defaultAction: TierSpec.DefaultAction
    /// False if policies name it and nobody made it.
    public var exists: Bool
  }

  /// The tiers that have a policy for this endpoint and direction, and those policies, all in the order in which they are asked.
  public func policies(for endpoint: Entity, _ direction: Direction, _ stage: Stage = .workload) -> [(tier: Tier, policies: [Resource])] {
    tiersInOrder().compactMap { tier in
      let policies = policiesInOrder(ofTier: tier.name).filter { isFor(stage, $0.spec.policy) && applies($0, to: endpoint, direction) }
      // A tier without a policy for this endpoint and direction is as if it were not there.
      return policies.isEmpty ? nil : (tier, policies)
    }
  }

  /// Those that exist, by order (none is last) and name; then those that policies name but nobody made, by name.
  public func tiersInOrder() -> [Tier] {
    var tiers = [
      "default": Tier(name: "default", order: 1_000_000, defaultAction: .deny, exists: true),
      "kube-admin": Tier(name: "kube-admin", order: 1_000, defaultAction: .pass, exists: true),
      "kube-baseline": Tier(name: "kube-baseline", order: 10_000_000, defaultAction: .pass, exists: true),
    ]
    for resource in resources {
      if case .tier(let spec) = resource.spec {
        let name = resource.metadata.name
        tiers[name] = Tier(name: name, order: spec.order ?? .infinity, defaultAction: spec.defaultAction, exists: true)
      }
    }
    for resource in resources {
      if let name = resource.spec.policyIfAny?.tier, tiers[name] == nil {
        tiers[name] = Tier(name: name, order: .infinity, defaultAction: .deny, exists: false)
      }
    }
    return tiers.values.sorted { a, b in
      if a.exists != b.exists { return a.exists }
      if a.order != b.order { return a.order < b.order }
      return a.name < b.name
    }
  }

  private func policiesInOrder(ofTier tier: String) -> [Resource] {
    resources.filter { $0.spec.policyIfAny?.tier == tier }.sorted { a, b in
      let (orderA, orderB) = (a.spec.policy.order ?? .infinity, b.spec.policy.order ?? .infinity)
      if orderA != orderB { return orderA < orderB }
      return "\(a.key.name)/\(a.key.namespace ?? "")/\(a.kind.rawValue)" < "\(b.key.name)/\(b.key.namespace ?? "")/\(b.kind.rawValue)"
    }
  }

  /// At which places a policy has a say; at workloads it has one whatever it says of forwarded traffic.
  private func isFor(_ stage: Stage, _ policy: PolicySpec) -> Bool {
    switch stage {
    case .untracked: policy.doNotTrack
    case .preDNAT: policy.preDNAT && !policy.doNotTrack
    case .forward: policy.applyOnForward && !policy.doNotTrack && !policy.preDNAT
    case .workload, .host: !policy.doNotTrack && !policy.preDNAT
    }
  }

  private func applies(_ policy: Resource, to endpoint: Entity, _ direction: Direction) -> Bool {
    let spec = policy.spec.policy
    guard spec.effectiveTypes.contains(direction) else { return false }
    if let namespace = policy.key.namespace {
      guard endpoint.namespace == namespace else { return false }
      // A namespaced policy whose selector is unreadable denies in its whole namespace; `judge` says so.
      if selectorFault(policy) != nil { return true }
    } else if selectorFault(policy) != nil {
      // A global one is reported elsewhere and denies nothing.
      return false
    }
    if policy.key.namespace == nil, let text = spec.namespaceSelector, !text.isEmpty {
      guard endpoint.isSelected(byNamespaceSelector: text) else { return false }
    }
    if let text = spec.serviceAccountSelector, !text.isEmpty {
      guard endpoint.isSelected(byServiceAccountSelector: text) else { return false }
    }
    return endpoint.isSelected(by: spec.selector)
  }

  private func selectorFault(_ policy: Resource) -> String? {
    if let fault = unreadable[policy.key] { return fault }
    let spec = policy.spec.policy
    return Entity.fault(spec.selector, "selector") ?? Entity.fault(spec.serviceAccountSelector, "serviceAccountSelector")
      ?? (policy.key.namespace == nil ? Entity.fault(spec.namespaceSelector, "namespaceSelector") : nil)
  }

  /// The name of a policy begins with that of its tier, if that is not `default`.
  static func standIn(for key: ResourceKey, _ fault: String, _ tiers: Set<String>) -> Resource {
    var spec = PolicySpec()
    let parts = key.name.split(separator: ".", maxSplits: 1)
    if parts.count == 2, tiers.contains(String(parts[0])) { spec.tier = String(parts[0]) }
    spec.order = -.greatestFiniteMagnitude
    spec.types = [.ingress, .egress]
    var rule = Rule(.deny)
    rule.fault = fault
    (spec.ingress, spec.egress) = ([rule], [rule])
    return Resource(Metadata(name: key.name, namespace: key.namespace), .networkPolicy(spec))
  }

  static func profiles(_ resources: [Resource]) -> [String: ProfileSpec] {
    var profiles: [String: ProfileSpec] = [:]
    for resource in resources {
      if case .profile(let spec) = resource.spec { profiles[resource.metadata.name] = spec }
    }
    profiles["projectcalico-default-allow"] = ProfileSpec()
    return profiles
  }
}

extension Resource.Spec {
  /// The policy in this spec, if it is one.
  fileprivate var policyIfAny: PolicySpec? {
    switch self {
    case .networkPolicy(let spec), .globalNetworkPolicy(let spec): spec
    default: nil
    }
  }
  fileprivate var policy: PolicySpec { policyIfAny! }
}

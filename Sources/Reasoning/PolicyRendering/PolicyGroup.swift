/// What endpoints have in common: the same tiers, policies and profiles in the same order share one chain.
///
/// A tier that can be left by Pass goes on in a chain of its own, `…-2`, `…-profiles`, so that leaving it is a `goto`. Pass sets a bit of the
/// mark and returns; the group takes the bit back and leaves the tier. Allow accepts at once: that ends the walk of this hook's priority,
/// and whatever else must be asked (a second workload's policy, a host endpoint's) is asked by a base chain of its own.

import HostPlans
import Resources
import Rulesets

struct PolicyGroup: Hashable {
  let list: PolicyList
  let direction: Direction
  let tiers: [TierPlan]
  let profiles: [String]
  /// From the content alone, so that a restart finds its own chains.
  let name: String

  init(_ endpoint: EndpointPlan, _ direction: Direction) {
    self.init(.normal, direction, direction == .ingress ? endpoint.ingress : endpoint.egress, profiles: endpoint.profiles)
  }
  /// `profiles` only in lists that ask them.
  init(_ list: PolicyList, _ direction: Direction, _ tiers: [TierPlan], profiles: [String] = []) {
    (self.list, self.direction, self.tiers, self.profiles) = (list, direction, tiers, profiles)
    name = (list == .normal ? "" : "\(list.rawValue)-") + Self.name(direction, tiers, profiles)
  }
  static func == (a: Self, b: Self) -> Bool { a.name == b.name }
  func hash(into hasher: inout Hasher) { hasher.combine(name) }

  private static func name(_ direction: Direction, _ tiers: [TierPlan], _ profiles: [String]) -> String {
    var text = "\(direction.word)\n"
    for tier in tiers {
      text += "tier \(tier.name) \(tier.defaultAction.rawValue)\n"
      for policy in tier.policies { text += "\(policy)\n" }
      for staged in tier.staged { text += "staged \(staged.index) \(staged.policy)\n" }
      if tier.wouldDeny { text += "would deny\n" }
    }
    for profile in profiles { text += "profile \(profile)\n" }
    return "\(direction.word)-\(KernelNames.digest(text))"
  }

  var policies: Set<ResourceKey> { Set(tiers.flatMap { $0.policies + $0.staged.map(\.policy) } + profiles.map { ResourceKey(.profile, name: $0) }) }

  var explanation: String {
    var parts = tiers.map { "tier \($0.name): \($0.policies.map(\.qualifiedName).joined(separator: " "))" }
    if list.asksProfiles { parts.append("profiles: \(profiles.joined(separator: " "))") }
    return parts.joined(separator: "; ")
  }

  /// What a group must know of a policy's rules.
  struct Traits: Equatable {
    var passes: Bool
  }

  /// The chains by name; the first is `name`. `traits` answers nil for a policy that does not exist.
  func chains(_ settings: HostSettings, _ traits: (ResourceKey) -> Traits?) -> [String: Chain] {
    let verdicts = Verdicts(settings, list.form)
    var result: [String: Chain] = [:]
    var chainName = name
    for (index, tier) in tiers.enumerated() {
      let passes = tier.policies.contains { traits($0)?.passes ?? false }
      let next = index + 1 < tiers.count ? "\(name)-\(index + 2)" : "\(name)-profiles"
      var rules: [ChainRule] = []
      if passes || tier.wouldDeny { rules.append(ChainRule(.clearMarkBits(verdicts.marks.pass))) }
      for (index, policy) in tier.policies.enumerated() {
        rules += tier.staged.filter { $0.index == index }.flatMap { ask($0.policy, verdicts, traits, of: tier) }
        rules += consult(policy, verdicts, traits, passTo: next)
      }
      rules += tier.staged.filter { $0.index == tier.policies.count }.flatMap { ask($0.policy, verdicts, traits, of: tier) }
      // Each staged policy is asked by itself, so this counts what none of them would decide.
      if tier.wouldDeny {
        rules += [
          ChainRule(.markBitsSet(verdicts.marks.pass), .clearMarkBits(verdicts.marks.pass), .goto(next)),
          ChainRule(.counter, comment: KernelNames.stagedEndOfTier(tier.name)),
        ]
      }
      switch list.isEarly ? .pass : tier.defaultAction {
      case .deny:
        let end = verdicts.denying(FlowPrefix(direction, .endOfTier(tier.name)))
        rules.append(ChainRule(end, comment: KernelNames.endOfTier(tier.name, .deny)))
      case .pass: rules.append(ChainRule(.counter, .goto(next), comment: KernelNames.endOfTier(tier.name, .pass)))
      }
      result[chainName] = Chain(comment: explanation, isPolicy: true, rules)
      guard passes || list.isEarly || tier.defaultAction == .pass else { return result }
      chainName = next
    }
    guard list.asksProfiles else {
      result[chainName] = Chain(comment: explanation, isPolicy: true, [ChainRule(.counter, .accept, comment: KernelNames.undecided)])
      return result
    }
    var rules = profiles.flatMap { consult(ResourceKey(.profile, name: $0), verdicts, traits, passTo: nil) }
    rules.append(ChainRule(verdicts.denying(FlowPrefix(direction, .endOfProfiles)), comment: KernelNames.endOfProfiles))
    result[chainName] = Chain(comment: explanation, isPolicy: true, rules)
    return result
  }

  /// Counts what a staged policy would decide. It marks what it decides as passed, which nobody else may take for a Pass.
  private func ask(
    _ policy: ResourceKey, _ verdicts: Verdicts, _ traits: (ResourceKey) -> Traits?, of tier: TierPlan
  ) -> [ChainRule] {
    guard traits(policy) != nil else { return [] }
    let clear = ChainRule(.clearMarkBits(verdicts.marks.pass))
    return [ChainRule(.jump(KernelNames.policy(policy, direction, list.form)))] + (tier.wouldDeny ? [] : [clear])
  }

  private func consult(
    _ policy: ResourceKey, _ verdicts: Verdicts, _ traits: (ResourceKey) -> Traits?, passTo next: String?
  ) -> [ChainRule] {
    guard let found = traits(policy) else {
      return [ChainRule(verdicts.denying(FlowPrefix(direction, .missing(FlowPrefix.id(policy)))), comment: KernelNames.missing(policy))]
    }
    var rules = [ChainRule(.jump(KernelNames.policy(policy, direction, list.form)))]
    if let next, found.passes {
      rules.append(ChainRule(.markBitsSet(verdicts.marks.pass), .clearMarkBits(verdicts.marks.pass), .goto(next)))
    }
    return rules
  }
}

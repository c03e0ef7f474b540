/// What stands in for policies that cannot be read: their last good version, or a deny.
///
/// Writing is strict, but other programs write too, and earlier versions wrote what a later one refuses. A policy that is stored and
/// cannot be enforced must not vanish: if it denied, its absence would open traffic. The memory is of this process; after a restart a
/// policy that is still unreadable has no last good version.
import Calculation
import Resources
import Selectors

struct PolicyMemory {
  /// What to tell the calculation (nil: leave what it knows), and what to tell people.
  struct Answer {
    var input: CalculationInput?
    var finding: String?
  }
  /// Policies whose readable version the calculation has.
  private var good: Set<ResourceKey> = []
  private var tiers: Set<String> = ["default", "kube-admin", "kube-baseline"]

  init() {}

  /// A policy in the name of an unknown tier is denied in the default one, so tiers are noted before the policies of the same batch.
  mutating func note(tier name: String, exists: Bool) {
    if exists { tiers.insert(name) } else { tiers.remove(name) }
  }

  /// An object as it is stored now; nil where there is none.
  mutating func readable(_ key: ResourceKey, _ resource: Resource?) -> Answer {
    let input = CalculationInput.resource(key, resource)
    guard key.kind == .networkPolicy || key.kind == .globalNetworkPolicy else { return Answer(input: input) }
    switch resource?.spec {
    case .networkPolicy(let spec)?, .globalNetworkPolicy(let spec)?:
      guard let fault = spec.selectorFault(isGlobal: key.kind == .globalNetworkPolicy) else {
        good.insert(key)
        return Answer(input: input)
      }
      // Without a good version the calculation decides: it denies in the namespace, or reports.
      return good.contains(key) ? Answer(finding: "\(fault); the last readable version stays in force") : Answer(input: input)
    default:
      good.remove(key)
      return Answer(input: input)
    }
  }

  /// A stored value that is no object of its kind.
  mutating func unreadable(_ key: ResourceKey, reason: String) -> Answer {
    switch key.kind {
    case .networkPolicy, .globalNetworkPolicy:
      if good.contains(key) { return Answer(finding: "\(reason); the last readable version stays in force") }
      guard key.kind == .networkPolicy else { return Answer(finding: "\(reason); the policy is without effect") }
      return Answer(
        input: .resource(key, denial(for: key, reason)),
        finding: "\(reason); until it can be read, it denies every endpoint of namespace \(key.namespace ?? "")")
    default: return Answer(finding: "\(reason); what was known of it before stays")
    }
  }

  /// Its place is unknown, so it comes first in its tier: behind other policies it might deny too little.
  private func denial(for key: ResourceKey, _ reason: String) -> Resource {
    var spec = PolicySpec()
    if let tier = key.name.split(separator: ".").first.map(String.init), tier != key.name, tiers.contains(tier) { spec.tier = tier }
    spec.order = -.greatestFiniteMagnitude
    spec.selector = "all()"
    spec.types = [.ingress, .egress]
    var rule = Rule(.deny)
    rule.fault = reason
    spec.ingress = [rule]
    spec.egress = [rule]
    return Resource(Metadata(name: key.name, namespace: key.namespace), .networkPolicy(spec))
  }
}

extension PolicySpec {
  /// Why it cannot be said to which endpoints the policy applies; nil if it can.
  func selectorFault(isGlobal: Bool) -> String? {
    var texts = [("selector", selector), ("serviceAccountSelector", serviceAccountSelector ?? "")]
    if isGlobal { texts.append(("namespaceSelector", namespaceSelector ?? "")) }
    for (name, text) in texts where !text.isEmpty {
      do throws(SelectorError) { _ = try Selector(parsing: text) } catch { return "\(name) `\(text)`: \(error)" }
    }
    return nil
  }
}

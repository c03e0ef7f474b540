/// All policies of the cluster and which of them local endpoints use.
import HostPlans
import Resources
import Selectors

struct PolicyTable: Sendable {
  /// How the policy's own selector reads.
  enum Reading: Sendable {
    case applies(Selector)
    /// A namespaced policy with an unreadable selector: it denies wherever it might have applied.
    case denies(Selector, fault: String)
    /// A global policy with an unreadable selector: denying everywhere would take the cluster down for one slip, so it only reports.
    case reported(fault: String)
    /// Untracked and pre-DNAT policies concern host endpoints only.
    case notForWorkloads
  }
  struct Policy: Sendable {
    let key: ResourceKey
    var spec: PolicySpec
    var reading: Reading
    var place: PolicyPlace
  }

  private var policies = Arena<Policy>()
  private var slotByKey: [ResourceKey: Int] = [:]
  /// Local endpoints against policy selectors.
  private(set) var index = LabelIndex()
  private(set) var faults: [ResourceKey: String] = [:]

  init() {}

  subscript(slot: Int) -> Policy { policies[slot] }
  /// The policy if some local endpoint uses it.
  func inUse(_ key: ResourceKey) -> Policy? { slotByKey[key].flatMap { index.hasMatches($0) ? policies[$0] : nil } }

  /// Returns the local endpoints (items) that the old or the new policy applies to.
  mutating func set(_ key: ResourceKey, _ spec: PolicySpec?) -> Set<Int> {
    var affected: Set<Int> = []
    if let slot = slotByKey[key] {
      if let spec, let kept = selectorText(policies[slot].spec) == selectorText(spec) ? policies[slot].reading : nil {
        // Only rules, order, tier or types changed: the matches stand.
        policies[slot].spec = spec
        policies[slot].reading = kept
        policies[slot].place = PolicyPlace(key, order: spec.order)
        return Set(index.items(matching: slot))
      }
      affected.formUnion(index.items(matching: slot))
      index.removeSelector(slot)
      policies.remove(slot)
      slotByKey[key] = nil
      faults[key] = nil
    }
    guard let spec else { return affected }
    let policy = Policy(key: key, spec: spec, reading: Self.read(key, spec), place: PolicyPlace(key, order: spec.order))
    let slot = policies.add(policy)
    slotByKey[key] = slot
    switch policy.reading {
    case .applies(let selector): affected.formUnion(index.add(selector, as: slot))
    case .denies(let selector, let fault):
      affected.formUnion(index.add(selector, as: slot))
      faults[key] = "\(fault); denies every endpoint of namespace \(key.namespace ?? "")"
    case .reported(let fault): faults[key] = "\(fault); the policy is without effect"
    case .notForWorkloads: break
    }
    return affected
  }

  mutating func place(_ item: Int, _ shape: LabelIndex.Shape) -> LabelIndex.Move { index.place(item, shape) }
  mutating func remove(_ item: Int) -> Set<Int> { index.remove(item) }
  mutating func setParent(_ name: String, labels: [String: String]?) -> [LabelIndex.Shift] { index.setParent(name, labels: labels) }

  /// The parts that decide where the policy applies.
  private func selectorText(_ spec: PolicySpec) -> [String?] {
    [spec.selector, spec.serviceAccountSelector, spec.namespaceSelector, spec.doNotTrack || spec.preDNAT ? "" : nil]
  }

  private static func read(_ key: ResourceKey, _ spec: PolicySpec) -> Reading {
    if spec.doNotTrack || spec.preDNAT { return .notForWorkloads }
    do {
      return .applies(try spec.foldedSelector(inNamespace: key.namespace))
    } catch {
      guard let namespace = key.namespace else { return .reported(fault: error.reason) }
      return .denies(FoldedSelector.inNamespace(namespace), fault: error.reason)
    }
  }
}

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
  }
  struct Policy: Sendable {
    let key: ResourceKey
    var spec: PolicySpec
    var reading: Reading
    var place: PolicyPlace
    var isNeededEverywhere: Bool {
      if case .reported = reading { return false }
      return spec.performanceHints.contains(.assumeNeededOnEveryNode)
    }
  }

  private var policies = Arena<Policy>()
  private var slotByKey: [ResourceKey: Int] = [:]
  /// Local workload endpoints against the selectors of policies that may concern workloads.
  private(set) var index = LabelIndex()
  /// Local host endpoints against the selectors of all policies. An unreadable policy is in neither, or denies workloads only: a host is not
  /// cut off for a slip of the pen.
  private(set) var hosts = LabelIndex()
  private(set) var faults: [ResourceKey: String] = [:]

  init() {}

  subscript(slot: Int) -> Policy { policies[slot] }
  /// The policy if some local endpoint uses it, or if it is to be ready before the first one that does.
  func inUse(_ key: ResourceKey) -> Policy? {
    guard let slot = slotByKey[key] else { return nil }
    let policy = policies[slot]
    return index.hasMatches(slot) || hosts.hasMatches(slot) || policy.isNeededEverywhere ? policy : nil
  }

  func spec(_ key: ResourceKey) -> PolicySpec? { slotByKey[key].map { policies[$0].spec } }

  /// Returns the local endpoints (items) that the old or the new policy applies to.
  mutating func set(_ key: ResourceKey, _ spec: PolicySpec?) -> Set<Int> {
    var affected: Set<Int> = []
    if let slot = slotByKey[key] {
      if let spec, let kept = selectorText(policies[slot].spec) == selectorText(spec) ? policies[slot].reading : nil {
        // Only rules, order, tier or types changed: the matches stand.
        policies[slot].spec = spec
        policies[slot].reading = kept
        policies[slot].place = PolicyPlace(key, order: spec.order)
        return Set(index.items(matching: slot) + hosts.items(matching: slot))
      }
      affected.formUnion(index.items(matching: slot) + hosts.items(matching: slot))
      index.removeSelector(slot)
      hosts.removeSelector(slot)
      policies.remove(slot)
      slotByKey[key] = nil
      faults[key] = nil
    }
    guard let spec else { return affected }
    let policy = Policy(key: key, spec: spec, reading: Self.read(key, spec), place: PolicyPlace(key, order: spec.order))
    let slot = policies.add(policy)
    slotByKey[key] = slot
    switch policy.reading {
    case .applies(let selector):
      if !spec.isForHostsOnly { affected.formUnion(index.add(selector, as: slot)) }
      affected.formUnion(hosts.add(selector, as: slot))
    case .denies(let selector, let fault):
      affected.formUnion(index.add(selector, as: slot))
      faults[key] = "\(fault); denies every endpoint of namespace \(key.namespace ?? "")"
    case .reported(let fault): faults[key] = "\(fault); the policy is without effect"
    }
    return affected
  }

  mutating func place(_ item: Int, _ shape: LabelIndex.Shape) -> LabelIndex.Move { index.place(item, shape) }
  mutating func remove(_ item: Int) -> Set<Int> { index.remove(item) }
  mutating func place(host item: Int, _ shape: LabelIndex.Shape) -> LabelIndex.Move { hosts.place(item, shape) }
  mutating func remove(host item: Int) -> Set<Int> { hosts.remove(item) }
  mutating func setParent(_ name: String, labels: [String: String]?) -> [LabelIndex.Shift] {
    index.setParent(name, labels: labels) + hosts.setParent(name, labels: labels)
  }

  /// The parts that decide where the policy applies.
  private func selectorText(_ spec: PolicySpec) -> [String?] {
    [spec.selector, spec.serviceAccountSelector, spec.namespaceSelector, spec.isForHostsOnly ? "" : nil]
  }

  private static func read(_ key: ResourceKey, _ spec: PolicySpec) -> Reading {
    do {
      return .applies(try spec.foldedSelector(inNamespace: key.namespace))
    } catch {
      guard let namespace = key.namespace, !key.isStagedPolicy else { return .reported(fault: error.reason) }
      return .denies(FoldedSelector.inNamespace(namespace), fault: error.reason)
    }
  }
}

extension PolicySpec {
  /// Untracked and pre-DNAT policies mean nothing to workloads.
  var isForHostsOnly: Bool { doNotTrack || preDNAT }
}

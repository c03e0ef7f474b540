/// What this host's kernel has counted at the rules that an explanation names.
///
/// The rules are rendered anew from the stored objects, as Felix of that host would, and looked up in the kernel: so the text of each rule
/// is known, and a kernel that holds something else is noticed rather than misread.
public import Addresses
import Calculation
import HostPlans
import NetlinkEdge
public import PolicyOracle
import PolicyRendering
import Resources
import RulesetDriver
public import Rulesets

public struct LiveRule: Hashable, Sendable {
  public var chain: String
  public var text: String
  public var packets: UInt64
  public var octets: UInt64
}

public struct LiveCounters: Sendable {
  private struct SideKey: Hashable {
    var endpoint: ResourceKey
    var direction: Direction
  }
  /// The chains of one host, as they should be.
  private struct Host {
    var chains: [String: Chain] = [:]
    /// By interface and direction, the first chain of the endpoint's policies.
    var groups: [SideKey: String] = [:]
  }

  /// Of the network namespace of the calling thread; nil if the kernel has no table of ours.
  public static func kernel() throws -> KernelRuleset? { try NetlinkRuleset().read() }

  /// Why some counters are missing.
  public private(set) var problems: [String] = []
  private var hosts: [String: Host] = [:]
  private let kernel: KernelRuleset
  private var absent: Set<SideKey> = []

  public init(_ explanation: Explanation, in cluster: Cluster, kernel: KernelRuleset?) {
    self.kernel = kernel ?? KernelRuleset()
    for side in explanation.answers.flatMap(\.sides) where side.stage == .workload {
      let (key, node) = (SideKey(endpoint: side.endpoint.key, direction: side.direction), side.endpoint.node)
      if absent.contains(key) { continue }
      if hosts[node] == nil { hosts[node] = Self.host(node, cluster) }
      guard let group = hosts[node]?.groups[key], Self.dispatch(self.kernel, side)?.data == .verdict(.jump(group)) else {
        absent.insert(key)
        let known = Self.dispatch(self.kernel, side) != nil
        problems.append(
          known
            ? "\(side.endpoint.name), \(side.direction.rawValue.lowercased()): this kernel holds other policies than are stored now"
            : "the rules of \(side.endpoint.name) are in the kernel of \(node); ask there to see them")
        continue
      }
    }
  }

  private static func dispatch(_ kernel: KernelRuleset, _ side: Explanation.Side) -> SetElement? {
    guard let name = KeyOctets.interfaceName(side.endpoint.interfaceName) else { return nil }
    return kernel.sets[KernelNames.dispatch(side.direction)]?.elements.first { $0.key == name }
  }

  private static func host(_ node: String, _ cluster: Cluster) -> Host {
    var calculation = HostCalculation(node: node)
    for resource in cluster.resources { calculation.receive(.resource(resource.key, resource)) }
    calculation.receive(.inSync)
    var renderer = PolicyRenderer()
    let delta = renderer.apply(calculation.flush())
    var host = Host(chains: delta.chains.compactMapValues { $0 })
    for (key, endpoint) in calculation.plan.endpoints {
      guard let name = KeyOctets.interfaceName(endpoint.interfaceName) else { continue }
      for direction in Direction.allCases {
        let element = delta.elements[KernelNames.dispatch(direction)]?.added.first { $0.key == name }
        if case .verdict(.jump(let chain))? = element?.data { host.groups[SideKey(endpoint: key, direction: direction)] = chain }
      }
    }
    return host
  }

  /// The kernel's rules that stand for this step in this family: one for each alternative of the rule.
  public func rules(for step: Explanation.Step, _ side: Explanation.Side, _ family: IPFamily) -> [LiveRule] {
    let key = SideKey(endpoint: side.endpoint.key, direction: side.direction)
    guard side.stage == .workload, !absent.contains(key), let host = hosts[side.endpoint.node], let group = host.groups[key] else { return [] }
    /// A policy with many rules has chains for its ports as well.
    func inPolicy(_ policy: ResourceKey, rule number: Int) -> [LiveRule] {
      let (name, comment) = (KernelNames.policy(policy, side.direction), KernelNames.comment(policy, side.direction, rule: number))
      return host.chains.keys.filter { KernelNames.isPart($0, of: name) }.sorted().flatMap { find($0, comment) }
    }
    func find(_ chainName: String, _ comment: String) -> [LiveRule] {
      guard let chain = host.chains[chainName], let held = kernel.chains[chainName], held.holds(chain) else { return [] }
      return zip(chain.rules, held.rules).filter { rule, _ in
        let isOtherFamily = rule.statements.contains(.family(family == .v4 ? .v6 : .v4))
        return !isOtherFamily && Self.isOf(comment, rule.comment)
      }.map { LiveRule(chain: chainName, text: "\($0)", packets: $1.packets, octets: $1.octets) }
    }
    func inGroup(_ comment: String) -> [LiveRule] {
      host.chains.keys.filter { $0 == group || $0.hasPrefix("\(group)-") }.sorted().flatMap { find($0, comment) }
    }
    switch step.finding {
    case .matches(let rule, _), .doesNotMatch(let rule, _), .cannotBeEnforced(let rule, _, _):
      guard let policy = step.policy else { return [] }
      return inPolicy(policy, rule: rule + 1)
    case .cannotBeRead, .builtInProfile:
      guard let policy = step.policy else { return [] }
      return inPolicy(policy, rule: 1)
    case .endOfTier(let action): return inGroup(KernelNames.endOfTier(step.tier ?? "", action))
    case .endOfProfiles: return inGroup(KernelNames.endOfProfiles)
    case .missingProfile: return step.policy.map { inGroup(KernelNames.missing($0)) } ?? []
    case .decidesNothing, .failsafe, .beyondPolicy: return []
    }
  }

  /// `… rule 1` is not `… rule 12`; annotations or a fault may follow.
  private static func isOf(_ wanted: String, _ comment: String?) -> Bool {
    guard let comment, comment.hasPrefix(wanted) else { return false }
    let rest = comment.dropFirst(wanted.count)
    return rest.isEmpty || rest.first == " " || rest.first == ":"
  }
}

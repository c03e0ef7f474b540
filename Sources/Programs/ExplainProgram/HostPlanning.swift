/// What Felix of one host would program, worked out from what is stored, on any machine and without a look at a kernel.
///
/// The same calculation and the same rendering as the agent's, fed once with everything; the agent's memory of versions that could once be
/// read is the one thing that is not known here.
public import Addresses
public import Calculation
import Documents
public import HostPlans
public import PolicyOracle
import PolicyRendering
public import Resources
public import Rulesets

public struct HostPlanning: Sendable {
  public let node: String
  public let plan: HostPlan
  public let ruleset: Ruleset
  /// What is wrong with objects that have a part in this.
  public let findings: [(object: ResourceKey, text: String)]
  let workloads: [ResourceKey: WorkloadEndpointSpec]
  /// Of all tiers, existing or only named by policies.
  let tierOrder: [String: Int]

  /// `blocks`: what IPAM has stored of its blocks, as the agent reads it.
  public init(host node: String, blocks: [(cidr: IPPrefix, fact: BlockFact?)] = [], in cluster: Cluster) throws(QuestionProblem) {
    self.node = node
    let known = Self.hosts(cluster.resources)
    guard known.contains(node) else {
      let hint = nearest(node, among: known).map { "did you mean \($0)?" }
      throw QuestionProblem(
        "there is no host \"\(node)\"; \(hint ?? (known.isEmpty ? "no node and no endpoint is stored" : "there are \(known.joined(separator: ", "))"))")
    }
    // With what stands in for policies that cannot be read.
    let oracle = PolicyOracle(resources: cluster.resources, unreadable: cluster.unreadable)
    var calculation = HostCalculation(node: node)
    for resource in oracle.resources { calculation.receive(.resource(resource.key, resource)) }
    for block in blocks { calculation.receive(.block(block.cidr, block.fact)) }
    calculation.receive(.inSync)
    var renderer = PolicyRenderer()
    var ruleset = Ruleset()
    ruleset.apply(renderer.apply(calculation.flush()))
    self.ruleset = ruleset
    plan = calculation.plan
    tierOrder = Dictionary(uniqueKeysWithValues: oracle.tiersInOrder().enumerated().map { ($1.name, $0) })
    var workloads: [ResourceKey: WorkloadEndpointSpec] = [:]
    for resource in cluster.resources { if case .workloadEndpoint(let spec) = resource.spec { workloads[resource.key] = spec } }
    self.workloads = workloads
    var findings = calculation.findings.map { (object: $0.key, text: $0.value) }
    for (key, reason) in cluster.unreadable where !findings.contains(where: { $0.object == key }) { findings.append((key, reason)) }
    self.findings = findings.sorted { $0.object < $1.object }
  }

  /// Every name that a node, a workload endpoint or a host endpoint gives to a host.
  static func hosts(_ resources: [Resource]) -> [String] {
    Set(
      resources.compactMap { resource -> String? in
        switch resource.spec {
        case .node: resource.metadata.name
        case .workloadEndpoint(let spec): spec.node
        case .hostEndpoint(let spec): spec.node
        default: nil
        }
      }.filter { !$0.isEmpty }
    ).sorted()
  }

  /// The policies of one tier for one endpoint, by direction.
  struct TierLine {
    var name: String
    var defaultAction: TierSpec.DefaultAction
    var ingress: [ResourceKey] = []
    var egress: [ResourceKey] = []
    var stagedIngress: [ResourceKey] = []
    var stagedEgress: [ResourceKey] = []
  }

  /// Both directions' tiers as one list, in order.
  func lines(_ ingress: [TierPlan], _ egress: [TierPlan]) -> [TierLine] {
    var lines: [String: TierLine] = [:]
    for tier in ingress {
      lines[tier.name, default: TierLine(name: tier.name, defaultAction: tier.defaultAction)].ingress = tier.policies
      lines[tier.name]!.stagedIngress = tier.staged.map(\.policy)
    }
    for tier in egress {
      lines[tier.name, default: TierLine(name: tier.name, defaultAction: tier.defaultAction)].egress = tier.policies
      lines[tier.name]!.stagedEgress = tier.staged.map(\.policy)
    }
    return lines.values.sorted { (tierOrder[$0.name] ?? .max, $0.name) < (tierOrder[$1.name] ?? .max, $1.name) }
  }

  /// The orchestrator's own name of the workload: `namespace/pod`, or what the record says.
  static func workload(_ key: ResourceKey, _ spec: WorkloadEndpointSpec) -> String {
    spec.pod.isEmpty ? spec.workload : "\(key.namespace ?? "")/\(spec.pod)"
  }
}

/// Staged policies: asked at the place that they would have, and without a say.
///
/// A staged policy stands before the enforced one of its name where both have one place, or the enforced one would decide before it is asked.
/// One that deletes has the rules of the policy that would go, in its place: what they match would no longer be decided there.
import Addresses
import HostPlans
import Resources
import Selectors

extension ResourceKey {
  /// The enforced policy that a staged one speaks of; nil for other objects.
  public var enforcedCounterpart: ResourceKey? {
    switch kind {
    case .stagedNetworkPolicy: ResourceKey(.networkPolicy, namespace: namespace, name: name)
    case .stagedGlobalNetworkPolicy: ResourceKey(.globalNetworkPolicy, name: name)
    case .stagedKubernetesNetworkPolicy: ResourceKey(.networkPolicy, namespace: namespace, name: "knp.default.\(name)")
    default: nil
    }
  }
  /// The staged policies that may speak of an enforced one.
  var stagedCounterparts: [ResourceKey] {
    switch kind {
    case .globalNetworkPolicy: return [ResourceKey(.stagedGlobalNetworkPolicy, name: name)]
    case .networkPolicy:
      let own = ResourceKey(.stagedNetworkPolicy, namespace: namespace, name: name)
      let prefix = "knp.default."
      guard name.hasPrefix(prefix) else { return [own] }
      return [own, ResourceKey(.stagedKubernetesNetworkPolicy, namespace: namespace, name: String(name.dropFirst(prefix.count)))]
    default: return []
    }
  }
  public var isStagedPolicy: Bool { enforcedCounterpart != nil }
}

extension Resource {
  /// What a staged policy is about: the policy that would be there, or nil if it would go or the proposal is to be ignored.
  public var stagedProposal: (action: StagedAction, policy: PolicySpec)? {
    switch spec {
    case .stagedNetworkPolicy(let staged), .stagedGlobalNetworkPolicy(let staged): (staged.stagedAction, staged.policy)
    case .stagedKubernetesNetworkPolicy(let staged): (staged.stagedAction, staged.policy)
    default: nil
    }
  }

  /// The objects as they would be if these staged policies were enforced.
  public static func enforcing(_ staged: [Resource], in resources: [Resource]) -> [Resource] {
    var gone: Set<ResourceKey> = []
    var added: [Resource] = []
    for proposal in staged {
      guard let target = proposal.key.enforcedCounterpart, let (action, policy) = proposal.stagedProposal, action != .ignore else { continue }
      gone.insert(target)
      guard action != .delete else { continue }
      var metadata = proposal.metadata
      metadata.name = target.name
      added.append(Resource(metadata, target.kind == .globalNetworkPolicy ? .globalNetworkPolicy(policy) : .networkPolicy(policy)))
    }
    return resources.filter { !gone.contains($0.key) } + added
  }
}

extension TierPlan {
  /// Of the policies in their order, staged ones among them; nil without any.
  init?(name: String, enforcedAndStaged keys: [ResourceKey], defaultAction: TierSpec.DefaultAction) {
    guard !keys.isEmpty else { return nil }
    self.init(name: name, policies: [], defaultAction: defaultAction)
    for key in keys {
      if key.isStagedPolicy { staged.append(StagedPlace(key, index: policies.count)) } else { policies.append(key) }
    }
    guard policies.isEmpty else { return }
    wouldDeny = defaultAction == .deny
    self.defaultAction = .pass
  }
}

// MARK: Kubernetes' policies

extension StagedKubernetesPolicySpec {
  /// The same as a policy of ours: in the default tier, with Calico's order for what comes from Kubernetes.
  public var policy: PolicySpec {
    var policy = PolicySpec()
    policy.order = 1000
    policy.selector = "projectcalico.org/orchestrator == 'k8s'" + Self.and(podSelector)
    policy.types = policyTypes.isEmpty ? (egress.isEmpty ? [.ingress] : [.ingress, .egress]) : policyTypes
    policy.ingress = ingress.flatMap { Self.rules($0) { rule, peer in rule.source = peer } }
    policy.egress = egress.flatMap { Self.rules($0) { rule, peer in Self.add(peer, to: &rule.destination) } }
    return policy
  }

  private static func rules(_ rule: Rule, _ place: (inout Resources.Rule, EntityRule) -> Void) -> [Resources.Rule] {
    let peers = rule.peers.isEmpty ? [EntityRule()] : rule.peers.map(entity)
    let ports: [(ipProtocol: NetworkProtocol?, ports: [PortMatch])] = rule.ports.isEmpty ? [(nil, [])] : rule.ports.map(match)
    return ports.flatMap { port in
      peers.map { peer in
        var result = Resources.Rule(.allow, protocol: port.ipProtocol)
        result.destination.ports = port.ports
        place(&result, peer)
        return result
      }
    }
  }

  private static func add(_ peer: EntityRule, to side: inout EntityRule) {
    let ports = side.ports
    side = peer
    side.ports = ports
  }

  private static func match(_ port: Port) -> (NetworkProtocol?, [PortMatch]) {
    let ipProtocol = port.ipProtocol ?? .tcp
    guard let match = port.port else { return (ipProtocol, []) }
    if let end = port.endPort, case .range(let range) = match, end >= range.lowerBound { return (ipProtocol, [.range(range.lowerBound...end)]) }
    return (ipProtocol, [match])
  }

  private static func entity(_ peer: Peer) -> EntityRule {
    var entity = EntityRule()
    if let block = peer.ipBlock {
      entity.nets = [block.cidr]
      entity.notNets = block.except
      return entity
    }
    // Pods of the policy's own namespace, unless namespaces are selected.
    entity.selector = "projectcalico.org/orchestrator == 'k8s'" + and(peer.podSelector)
    if let namespaces = peer.namespaceSelector { entity.namespaceSelector = text(namespaces) ?? "all()" }
    return entity
  }

  private static func and(_ selector: LabelSelector?) -> String { selector.flatMap(text).map { " && \($0)" } ?? "" }

  /// Nil for one that selects everything.
  private static func text(_ selector: LabelSelector) -> String? {
    var parts = selector.matchLabels.sorted { $0.key < $1.key }.map { "\($0.key) == '\($0.value)'" }
    for requirement in selector.matchExpressions {
      let values = requirement.values.map { "'\($0)'" }.joined(separator: ", ")
      let part =
        switch requirement.operator {
        case .isIn: "\(requirement.key) in {\(values)}"
        case .notIn: "\(requirement.key) not in {\(values)}"
        case .exists: "has(\(requirement.key))"
        case .doesNotExist: "!has(\(requirement.key))"
        }
      parts.append(part)
    }
    return parts.isEmpty ? nil : parts.joined(separator: " && ")
  }
}

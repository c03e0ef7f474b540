/// What policy says about one packet, read straight from the objects as people write them.
///
/// This is the second reading of the policy semantics: slow, and plain enough to be checked against the manual line by line. It shares no
/// code with the calculation, whose output and whose effect in the kernel are compared with it. Each question walks all objects.
///
/// A packet from a workload is first judged by the egress policy of its source, then by the ingress policy of its destination, each on
/// the host of that workload. Replies and further packets of an allowed connection are not judged again.
import Addresses
import Resources
import Selectors

public struct PolicyOracle: Sendable {
  public let resources: [Resource]
  let endpoints: [Entity]
  let entities: [Entity]
  private let unreadable: [ResourceKey: String]

  /// With the whole content of the datastore; at most one object per key. `unreadable`: what is stored and is no object of its kind, and
  /// why. Such a NetworkPolicy denies its namespace, before the other policies of its tier; anything else is without effect.
  public init(resources: [Resource], unreadable: [ResourceKey: String] = [:]) {
    self.unreadable = unreadable.filter { $0.key.kind == .networkPolicy }
    let tiers = Set(resources.filter { $0.kind == .tier }.map(\.metadata.name) + ["default", "kube-admin", "kube-baseline"])
    let resources = resources + self.unreadable.keys.map { Self.standIn(for: $0, tiers) }
    self.resources = resources
    let profiles = Self.profiles(resources)
    endpoints = resources.compactMap { Entity(endpoint: $0, profiles) }
    entities = endpoints + resources.compactMap { Entity(networkSet: $0, profiles) }
  }

  public func verdict(_ packet: Packet) -> Verdict {
    let source = workload(at: packet.from)
    let destination = workload(at: packet.to)
    var trail: [Verdict.Step] = []
    func decided(_ isAllowed: Bool, _ reason: String? = nil) -> Verdict {
      if let reason { trail.append(Verdict.Step(finding: .beyondPolicy(isAllowed: isAllowed, why: reason))) }
      return Verdict(isAllowed: isAllowed, trail: trail)
    }
    if let source, source.resource.key == destination?.resource.key {
      return decided(true, "\(source.name) to itself: the packet never leaves the workload")
    }
    if source == nil, destination == nil { return decided(true, "no workload at either end: workload policy has no say") }
    if source == nil, let destination, isAddress(packet.from, ofNode: destination.node) {
      return decided(true, "a host may always speak to its own workloads")
    }
    if let why = whyNoConnection(packet, fromWorkload: source != nil) { return decided(false, why) }
    if let source {
      guard judge(packet, .egress, at: source, &trail) else { return decided(false) }
      if isAddress(packet.to, ofNode: source.node) {
        let toHost = endpointToHost(packet, of: source)
        return decided(toHost.isAllowed, toHost.reason)
      }
    }
    guard let destination else { return decided(true) }
    return decided(judge(packet, .ingress, at: destination, &trail))
  }

  /// Connection tracking lets only some ICMP messages begin a conversation. The others are answers or errors: within a live one they
  /// pass without a question, and without one they are of no connection, whatever policy says.
  private func whyNoConnection(_ packet: Packet, fromWorkload: Bool) -> String? {
    for (other, family) in [(NetworkProtocol.icmp, IPFamily.v6), (.icmpv6, .v4)] where packet.ipProtocol == other && packet.to.family == family {
      return "\(other) within \(family) is of no connection"
    }
    guard let type = packet.icmpType else { return nil }
    if packet.ipProtocol == .icmpv6, fromWorkload, type == 134 || type == 137 {
      return "a workload may not send ICMPv6 type \(type) (\(type == 134 ? "router advertisement" : "redirect"))"
    }
    let beginners: Set<UInt8> =
      packet.ipProtocol == .icmp
      // Echo, timestamp, information and address mask requests.
      ? [8, 13, 15, 17]
      // Echo and node information requests; what multicast listening, multicast router discovery (RFC 4286) and neighbour discovery
      // send is not tracked.
      : [128, 139, 130, 131, 132, 133, 134, 135, 136, 143, 151, 152]
    if beginners.contains(type) { return nil }
    return "\(packet.ipProtocol) type \(type) begins no connection: it passes within a live one, and is dropped without one"
  }

  // MARK: Who is where

  /// Network sets that hold an address.
  public func networkSets(with address: IPAddress) -> [Entity] { entities.filter { $0.key.kind != .workloadEndpoint && $0.holds(address) } }

  /// The endpoint that answers to an address. Of contradicting records the youngest counts (creation time, then the smaller key),
  /// and an endpoint without an interface, or whose interface a younger record on the same node has, is not in effect.
  public func workload(at address: IPAddress) -> Entity? {
    endpoints.filter { $0.nets.contains(address.hostPrefix) && isInEffect($0) }.min(by: Self.isYounger)
  }

  private func isInEffect(_ endpoint: Entity) -> Bool {
    !endpoint.interfaceName.isEmpty
      && !endpoints.contains {
        $0.node == endpoint.node && $0.interfaceName == endpoint.interfaceName && Self.isYounger($0, endpoint)
      }
  }

  static func isYounger(_ a: Entity, _ b: Entity) -> Bool {
    let (timeA, timeB) = (a.resource.metadata.creationTimestamp ?? "", b.resource.metadata.creationTimestamp ?? "")
    return timeA == timeB ? a.resource.key < b.resource.key : timeA > timeB
  }

  private func isAddress(_ address: IPAddress, ofNode name: String) -> Bool { nodes(at: address).contains(name) }

  /// The host that has this address for itself.
  public func node(at address: IPAddress) -> String? { nodes(at: address).min() }

  private func nodes(at address: IPAddress) -> [String] {
    resources.filter {
      guard case .node(let spec) = $0.spec else { return false }
      return spec.bgp?.ipv4Address?.address == address || spec.bgp?.ipv6Address?.address == address
        || spec.addresses.contains { IPAddress($0.address) == address || InterfaceAddress($0.address)?.address == address }
    }.map(\.metadata.name)
  }

  /// What happens to a packet for the workload's own host, after egress policy has allowed it.
  private func endpointToHost(_ packet: Packet, of source: Entity) -> (isAllowed: Bool, reason: String) {
    // Without neighbour and router discovery and multicast listening, IPv6 would not work at all.
    if packet.ipProtocol == .icmpv6, let type = packet.icmpType, [130, 131, 132, 133, 135, 136].contains(type) {
      return (true, "to the host itself: ICMPv6 type \(type) is always allowed")
    }
    var action = FelixConfigurationSpec.EndpointToHostAction.drop
    for name in ["default", "node.\(source.node)"] {
      for resource in resources {
        if case .felixConfiguration(let spec) = resource.spec, resource.metadata.name == name {
          action = spec.defaultEndpointToHostAction ?? action
        }
      }
    }
    return (action != .drop, "to the host itself: defaultEndpointToHostAction is \(action.rawValue)")
  }

  // MARK: One workload's policy in one direction

  /// What one side alone says, whether or not the packet would come so far.
  public func judgement(_ packet: Packet, _ direction: Direction, at endpoint: Entity) -> Verdict {
    var trail: [Verdict.Step] = []
    let isAllowed = judge(packet, direction, at: endpoint, &trail)
    return Verdict(isAllowed: isAllowed, trail: trail)
  }

  /// Walks tiers, then profiles. True if the packet may go on.
  private func judge(_ packet: Packet, _ direction: Direction, at endpoint: Entity, _ trail: inout [Verdict.Step]) -> Bool {
    var step = Verdict.Step(
      direction: direction, endpoint: endpoint.resource.key, endpointName: endpoint.name, finding: .endOfProfiles(isEmpty: true))
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

    tiers: for (tier, policies) in policies(for: endpoint, direction) {
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
      step.policy = policies.last?.key
      note(.endOfTier(tier.defaultAction))
      if tier.defaultAction == .deny { return false }
      step.policy = nil
    }
    step.tier = nil
    step.policy = nil

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
  public func policies(for endpoint: Entity, _ direction: Direction) -> [(tier: Tier, policies: [Resource])] {
    tiersInOrder().compactMap { tier in
      let policies = policiesInOrder(ofTier: tier.name).filter { applies($0, to: endpoint, direction) }
      // A tier without a policy for this endpoint and direction is as if it were not there.
      return policies.isEmpty ? nil : (tier, policies)
    }
  }

  /// Those that exist, by order (none is last) and name; then those that policies name but nobody made, by name.
  private func tiersInOrder() -> [Tier] {
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

  private func applies(_ policy: Resource, to endpoint: Entity, _ direction: Direction) -> Bool {
    let spec = policy.spec.policy
    guard spec.effectiveTypes.contains(direction), !spec.doNotTrack, !spec.preDNAT else { return false }
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
  private static func standIn(for key: ResourceKey, _ tiers: Set<String>) -> Resource {
    var spec = PolicySpec()
    let parts = key.name.split(separator: ".", maxSplits: 1)
    if parts.count == 2, tiers.contains(String(parts[0])) { spec.tier = String(parts[0]) }
    spec.order = -.greatestFiniteMagnitude
    spec.types = [.ingress, .egress]
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

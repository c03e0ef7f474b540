/// What policy says about one packet, read straight from the objects as people write them.
///
/// This is the second reading of the policy semantics: slow, and plain enough to be checked against the manual line by line. It shares no
/// code with the calculation, whose output and whose effect in the kernel are compared with it. Each question walks all objects.
///
/// A packet on its way meets, in this order, and only the first packet of a connection does:
///
///     the source's host       egress policy of a workload, then what its host says of traffic that it forwards;
///                             or, of the host's own packets, untracked policy and then the host's egress policy
///     the destination's host  untracked policy, pre-DNAT policy, then the host's ingress policy if the packet is for the host itself;
///                             or what it says of traffic that it forwards, and then the ingress policy of the workload
///
/// A host speaks by its host endpoint; one without has nothing to say.
import Addresses
import Resources

public struct PolicyOracle: Sendable {
  public let resources: [Resource]
  /// All workload endpoints that are stored.
  public let endpoints: [Entity]
  let hostEndpoints: [Entity]
  let entities: [Entity]
  let unreadable: [ResourceKey: String]
  let uplinks: [String: Uplink]

  /// Of a host, what no object says: the interface that leads to the other hosts and to the world, and its addresses.
  public struct Uplink: Sendable {
    public var interfaceName: String
    public var addresses: Set<IPAddress>
    public init(interfaceName: String, addresses: Set<IPAddress>) {
      self.interfaceName = interfaceName
      self.addresses = addresses
    }
  }

  /// With the whole content of the datastore; at most one object per key. `unreadable`: what is stored and is no object of its kind, and
  /// why. Such a NetworkPolicy denies its namespace, before the other policies of its tier; anything else is without effect.
  public init(resources: [Resource], unreadable: [ResourceKey: String] = [:], uplinks: [String: Uplink] = [:]) {
    self.unreadable = unreadable.filter { $0.key.kind == .networkPolicy }
    self.uplinks = uplinks
    let tiers = Set(resources.filter { $0.kind == .tier }.map(\.metadata.name) + ["default", "kube-admin", "kube-baseline"])
    let resources = resources + self.unreadable.map { Self.standIn(for: $0.key, $0.value, tiers) }
    self.resources = resources
    let profiles = Self.profiles(resources)
    endpoints = resources.compactMap { Entity(endpoint: $0, profiles) }
    hostEndpoints = resources.compactMap { Entity(hostEndpoint: $0, profiles) }
    entities = endpoints + hostEndpoints + resources.compactMap { Entity(networkSet: $0, profiles) }
  }

  /// `host`: as far as that host alone decides; nil: on the whole way.
  public func verdict(_ packet: Packet, on host: String? = nil) -> Verdict {
    func isAsked(_ node: String) -> Bool { host == nil || host == node }
    let source = workload(at: packet.from)
    let destination = workload(at: packet.to)
    let sourceNode = source?.node ?? node(at: packet.from)
    let destinationNode = destination?.node ?? node(at: packet.to)
    var trail: [Verdict.Step] = []
    func decided(_ isAllowed: Bool, _ reason: String? = nil) -> Verdict {
      if let reason { trail.append(Verdict.Step(finding: .beyondPolicy(isAllowed: isAllowed, why: reason))) }
      return Verdict(isAllowed: isAllowed, trail: trail)
    }
    if let source, source.resource.key == destination?.resource.key {
      return decided(true, "\(source.name) to itself: the packet never leaves the workload")
    }
    if source == nil, let destination, isAddress(packet.from, ofNode: destination.node) {
      return decided(true, "a host may always speak to its own workloads")
    }
    if source == nil, destination == nil, let destinationNode, isAddress(packet.from, ofNode: destinationNode) {
      return decided(true, "a host to itself: the packet never leaves the host")
    }
    if source == nil, destination == nil, hostEndpoint(of: sourceNode) == nil, hostEndpoint(of: destinationNode) == nil {
      return decided(true, "no workload at either end: workload policy has no say")
    }

    // On the source's host.
    if let source, isAsked(source.node) {
      if let why = whyNoConnection(packet) ?? whyForbidden(packet, from: source) { return decided(false, why) }
      guard judge(packet, .egress, at: source, .workload, &trail) == true else { return decided(false) }
      if isAddress(packet.to, ofNode: source.node) {
        let toHost = endpointToHost(packet, of: source)
        return decided(toHost.isAllowed, toHost.reason)
      }
      if let destination, destination.node == source.node {
        return decided(judge(packet, .ingress, at: destination, .workload, &trail) == true)
      }
      if let host = hostEndpoint(of: source.node), judge(packet, .egress, at: host, .forward, &trail) == false { return decided(false) }
    } else if source == nil, let sourceNode, isAsked(sourceNode), let host = hostEndpoint(of: sourceNode) {
      switch judge(packet, .egress, at: host, .untracked, &trail) {
      case true?: break
      case false?: return decided(false)
      case nil:
        if let why = whyNoConnection(packet) { return decided(false, why) }
        guard judge(packet, .egress, at: host, .host, &trail) == true else { return decided(false) }
      }
    }

    // On the destination's host. What untracked policy lets in is not asked about again by the host, but by the workload.
    guard let destinationNode, isAsked(destinationNode) else { return decided(true) }
    var isUntracked = false
    if let host = hostEndpoint(of: destinationNode) {
      switch judge(packet, .ingress, at: host, .untracked, &trail) {
      case true?: isUntracked = true
      case false?: return decided(false)
      case nil:
        if let why = whyNoConnection(packet) { return decided(false, why) }
        switch judge(packet, .ingress, at: host, .preDNAT, &trail) {
        case true?: break
        case false?: return decided(false)
        case nil:
          guard judge(packet, .ingress, at: host, destination == nil ? .host : .forward, &trail) == true else { return decided(false) }
        }
      }
    }
    guard let destination else { return decided(true) }
    if !isUntracked, let why = whyNoConnection(packet) { return decided(false, why) }
    return decided(judge(packet, .ingress, at: destination, .workload, &trail) == true)
  }
}

/// The oracle's verdict, arranged for people: the ends, the two sides, tier by tier, and what of the stored objects is wrong.
public import Addresses
import Documents
public import JSON
public import PolicyOracle
public import Resources

public struct Explanation: Sendable {
  public typealias Step = Verdict.Step

  /// One end of the connection in one family.
  public struct End: Sendable {
    public var place: Place
    public var address: IPAddress
    /// The endpoint in effect at this address.
    public var endpoint: Entity?
    public var networkSets: [ResourceKey]
    /// The host that has this address for itself.
    public var node: String?
  }

  /// One family's answer.
  public struct Answer: Sendable {
    public var packet: Packet
    public var from: End
    public var to: End
    public var verdict: Verdict
    public var sides: [Side]
    /// What would be different with staged policies.
    public var proposals: [Proposal]
    public var family: IPFamily { packet.to.family }
  }

  /// The policy of one endpoint at one place of the way, on that endpoint's host.
  public struct Side: Sendable {
    public var direction: Direction
    public var stage: Stage
    public var endpoint: Entity
    /// False if the packet is decided before it comes here; the verdict is then what this side would say.
    public var isAsked: Bool
    public var verdict: Verdict
    public var tiers: [Tier]
    public var profiles: [Consulted]
    /// The step that ends the profiles, if none of them decided; or the failsafe port that came before everything.
    public var end: Verdict.Step?
    /// Untracked and pre-DNAT policy may leave a packet to what comes behind.
    public var isDecided: Bool { verdict.trail.last.map { $0.outcome == .allowed || $0.outcome == .denied } ?? false }
  }

  public struct Tier: Sendable {
    public var tier: PolicyOracle.Tier
    public var policies: [Consulted]
    /// Nil unless the packet came to the end of the tier.
    public var end: Verdict.Step?
  }

  /// A policy or profile that applies.
  public struct Consulted: Sendable {
    public var key: ResourceKey
    /// Empty if something before it decided.
    public var steps: [Verdict.Step]
    /// By index, as the document has them.
    public var rules: [Int: JSONValue]
    public var outcome: Verdict.Outcome? { steps.last { $0.outcome != .logged }?.outcome }
    /// The steps that matched: what was logged on the way, and what decided.
    public var telling: [Verdict.Step] { steps.filter { $0.outcome != .notMatched } }
  }

  public let question: Question
  public let from: Place
  public let to: Place
  public let answers: [Answer]
  /// What is wrong with stored objects that have a part in this: object and words.
  public let findings: [(object: ResourceKey, text: String)]

  public var isAllowed: Bool { answers.allSatisfy(\.verdict.isAllowed) }
  public var isMixed: Bool { !isAllowed && answers.contains { $0.verdict.isAllowed } }

  public init(_ question: Question, in cluster: Cluster) throws(QuestionProblem) {
    self.question = question
    let places = Places(cluster.resources)
    from = try places.place(question.from)
    to = try places.place(question.to)
    let oracle = PolicyOracle(resources: cluster.resources, unreadable: cluster.unreadable)
    var answers: [Answer] = []
    for packet in try question.packets(from, to) { answers.append(Self.answer(packet, from, to, oracle, cluster)) }
    self.answers = answers
    findings = Self.findings(answers, from, to, cluster)
  }

  private static func answer(_ packet: Packet, _ from: Place, _ to: Place, _ oracle: PolicyOracle, _ cluster: Cluster) -> Answer {
    func end(_ place: Place, _ address: IPAddress) -> End {
      End(
        place: place, address: address, endpoint: oracle.workload(at: address),
        networkSets: oracle.networkSets(with: address).map(\.key).sorted(), node: oracle.node(at: address))
    }
    let verdict = oracle.verdict(packet)
    let (from, to) = (end(from, packet.from), end(to, packet.to))
    var sides: [Side] = []
    let (fromHost, toHost) = (oracle.hostEndpoint(of: from.endpoint?.node ?? from.node), oracle.hostEndpoint(of: to.endpoint?.node ?? to.node))
    // In the order of the way.
    let places: [(Direction, Stage, Entity?)] = [
      (.egress, .workload, from.endpoint), (.egress, .untracked, fromHost), (.egress, .forward, fromHost), (.egress, .host, fromHost),
      (.ingress, .untracked, toHost), (.ingress, .preDNAT, toHost), (.ingress, .forward, toHost), (.ingress, .host, toHost),
      (.ingress, .workload, to.endpoint),
    ]
    for (direction, stage, endpoint) in places {
      guard let endpoint else { continue }
      let isAsked = verdict.trail.contains { $0.direction == direction && $0.stage == stage && $0.endpoint == endpoint.key }
      // What has no say at all (a host to its own workload, a packet of no connection) is told by the verdict alone, and a host without
      // a policy at a place is not worth a word.
      guard isAsked || stage == .workload && verdict.decisions.last?.direction != nil else { continue }
      sides.append(side(packet, direction, stage, endpoint, isAsked: isAsked, oracle, cluster))
    }
    return Answer(packet: packet, from: from, to: to, verdict: verdict, sides: sides, proposals: proposals(packet, verdict, cluster))
  }

  private static func side(
    _ packet: Packet, _ direction: Direction, _ stage: Stage, _ endpoint: Entity, isAsked: Bool, _ oracle: PolicyOracle, _ cluster: Cluster
  ) -> Side {
    let verdict = oracle.judgement(packet, direction, at: endpoint, stage)
    func consulted(_ key: ResourceKey, _ steps: [Verdict.Step]) -> Consulted {
      var rules: [Int: JSONValue] = [:]
      for step in steps { if let index = step.ruleIndex { rules[index] = cluster.rule(key, direction, index) } }
      return Consulted(key: key, steps: steps, rules: rules)
    }
    func isEnd(_ step: Verdict.Step) -> Bool {
      switch step.finding {
      case .endOfTier, .endOfProfiles, .failsafe: true
      default: false
      }
    }
    var tiers: [Tier] = []
    for (tier, policies) in oracle.policies(for: endpoint, direction, stage) {
      let steps = verdict.trail.filter { $0.tier == tier.name }
      tiers.append(
        Tier(
          tier: tier, policies: policies.map { policy in consulted(policy.key, steps.filter { $0.policy == policy.key && !isEnd($0) }) },
          end: steps.first(where: isEnd)))
    }
    let rest = verdict.trail.filter { $0.tier == nil }
    let profiles = (stage == .workload || stage == .host ? endpoint.profiles : []).map { name in
      let key = ResourceKey(.profile, name: name)
      return consulted(key, rest.filter { $0.policy == key })
    }
    return Side(
      direction: direction, stage: stage, endpoint: endpoint, isAsked: isAsked, verdict: verdict, tiers: tiers, profiles: profiles,
      end: rest.first(where: isEnd))
  }

  // MARK: What is wrong

  private static func findings(
    _ answers: [Answer], _ from: Place, _ to: Place, _ cluster: Cluster
  ) -> [(object: ResourceKey, text: String)] {
    var found: [(object: ResourceKey, text: String)] = []
    func add(_ key: ResourceKey, _ text: String) { if !found.contains(where: { $0 == (key, text) }) { found.append((key, text)) } }
    for answer in answers {
      for end in [answer.from, answer.to] {
        if case .workload(let key) = end.place.kind, end.endpoint?.key != key {
          let instead = end.endpoint.map { "\(end.address) belongs to \($0.name), whose record is younger" }
          add(key, instead ?? "it has no interface, or a younger record has its interface: no policy of it is in effect")
        }
      }
      for side in answer.sides {
        for tier in side.tiers {
          if !tier.tier.exists {
            for policy in tier.policies { add(policy.key, "tier \(tier.tier.name) does not exist; it counts as the last, and denies") }
          }
          for policy in tier.policies { for step in policy.steps { note(step) } }
          if case .endOfTier(.deny)? = tier.end?.finding { logsOnly(tier, side.direction) }
        }
        for profile in side.profiles { for step in profile.steps { note(step) } }
      }
    }
    func note(_ step: Verdict.Step) {
      guard let key = step.policy else { return }
      switch step.finding {
      case .cannotBeEnforced: add(key, step.reason)
      case .cannotBeRead: add(key, "\(step.reason) (a host that knew a readable version keeps to that one)")
      default: break
      }
    }
    func logsOnly(_ tier: Tier, _ direction: Direction) {
      for policy in tier.policies {
        guard let rules = rules(policy.key, direction), !rules.isEmpty, rules.allSatisfy({ $0.action == .log }) else { continue }
        add(policy.key, "all its \(direction.rawValue.lowercased()) rules only log: what it applies to meets the end of tier \(tier.tier.name), which denies")
      }
    }
    func rules(_ key: ResourceKey, _ direction: Direction) -> [Rule]? {
      switch cluster.resources.first(where: { $0.key == key })?.spec {
      case .networkPolicy(let spec)?, .globalNetworkPolicy(let spec)?: direction == .ingress ? spec.ingress : spec.egress
      default: nil
      }
    }
    for (key, reason) in cluster.unreadable.sorted(by: { $0.key < $1.key }) {
      switch key.kind {
      case .globalNetworkPolicy: add(key, "\(reason); it is without effect")
      case .workloadEndpoint, .networkSet, .globalNetworkSet, .profile, .tier, .felixConfiguration, .node: add(key, reason)
      default: break
      }
    }
    return found
  }
}

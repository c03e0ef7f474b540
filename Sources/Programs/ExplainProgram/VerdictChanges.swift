/// Which pairs of endpoints may speak to each other after a change and could not before, or the other way about.
///
/// Endpoints of one class stand for each other, and only classes whose policy differs are asked; of what is left, at most so many questions
/// as people wait for, spread over all pairs. What is asked about are the protocols and ports that rules mention, a port that none mentions,
/// and a ping.
import Addresses
public import JSON
import PolicyOracle
public import Resources
public import Tables

public struct VerdictChanges: Sendable {
  /// One kind of connection between the endpoints of two classes.
  public struct Change: Sendable {
    public var from: String
    public var to: String
    public var fromCount: Int
    public var toCount: Int
    /// Pairs of endpoints that this stands for.
    public var pairs: Int
    public var packet: Packet
    public var isAllowed: Bool
    /// What decided before and what decides after.
    public var before: String
    public var after: String
  }
  public private(set) var changes: [Change] = []
  public private(set) var endpoints = 0
  public private(set) var classes = 0
  /// Questions asked, of so many that there were.
  public private(set) var asked = 0
  public private(set) var questions = 0
  /// Pairs of endpoints of which some connection changes its verdict.
  public private(set) var pairs = 0
  public var isSampled: Bool { asked < questions }

  static let kinds: Set<Kind> = [
    .networkPolicy, .globalNetworkPolicy, .profile, .tier, .networkSet, .globalNetworkSet, .workloadEndpoint, .hostEndpoint, .felixConfiguration,
    .kubernetesEndpointSlice, .node,
  ]
  /// Whether objects of this kind have a say about packets.
  public static func concerns(_ kind: Kind) -> Bool { kinds.contains(kind) }

  private struct Group {
    var members: [Entity]
    /// The first two: one of them speaks to the other where the class speaks to itself.
    var first: Entity { members[0] }
    var second: Entity? { members.count > 1 ? members[1] : nil }
  }

  public init(from old: Cluster, to new: Cluster, questionsMax: Int = 4_000) {
    let (before, after) = (PolicyOracle(resources: old.resources, unreadable: old.unreadable), PolicyOracle(resources: new.resources, unreadable: new.unreadable))
    let stay = Set(after.endpoints.map(\.key))
    var vocabulary = PolicyVocabulary()
    vocabulary.add(old.resources)
    vocabulary.add(new.resources)
    let later = Dictionary(after.endpoints.map { ($0.key, $0) }) { first, _ in first }
    var members: [[EndpointClass]: [Entity]] = [:]
    for endpoint in before.endpoints where stay.contains(endpoint.key) && !endpoint.nets.isEmpty {
      members[[vocabulary.classify(endpoint), vocabulary.classify(later[endpoint.key]!)], default: []].append(endpoint)
    }
    let groups = members.values.map { Group(members: $0.sorted { $0.key < $1.key }) }.sorted { $0.first.key < $1.first.key }
    (endpoints, classes) = (groups.reduce(0) { $0 + $1.members.count }, groups.count)

    let isOfPolicyAlone = Self.difference(old.resources, new.resources)
    func isAffected(_ group: Group, _ direction: Direction) -> Bool {
      guard isOfPolicyAlone else { return true }
      return Self.policy(of: group.first, direction, before) != Self.policy(of: later[group.first.key]!, direction, after)
    }
    let (sending, receiving) = (groups.map { isAffected($0, .egress) }, groups.map { isAffected($0, .ingress) })
    let flows = Self.flows(old.resources + new.resources)
    let oldWorld = ReducedOracle(old, before, vocabulary), newWorld = ReducedOracle(new, after, vocabulary)

    var asking: [(from: Int, to: Int)] = []
    for from in groups.indices {
      for to in groups.indices where sending[from] || receiving[to] {
        if from != to || groups[from].second != nil { asking.append((from, to)) }
      }
    }
    questions = asking.count * flows.count
    // Every n-th pair, so that all classes are among them.
    let step = max(1, (questions + questionsMax - 1) / max(questionsMax, 1))
    for (index, pair) in asking.enumerated() where index % step == 0 {
      let (from, to) = (groups[pair.from], groups[pair.to])
      let destination = pair.from == pair.to ? from.second! : to.first
      let count = pair.from == pair.to ? from.members.count * (from.members.count - 1) : from.members.count * to.members.count
      let oracles = (oldWorld.oracle([from.first, destination]), newWorld.oracle([later[from.first.key]!, later[destination.key]!]))
      var differs = false
      for flow in flows {
        asked += 1
        for family in IPFamily.allCases {
          guard let packet = flow.packet(from.first, destination, family) else { continue }
          let (first, then) = (oracles.0.verdict(packet), oracles.1.verdict(packet))
          guard first.isAllowed != then.isAllowed else { continue }
          differs = true
          changes.append(
            Change(
              from: from.first.name, to: destination.name, fromCount: from.members.count, toCount: to.members.count, pairs: count, packet: packet,
              isAllowed: then.isAllowed, before: first.decidedBy, after: then.decidedBy))
          // The other family is told only where it differs.
          break
        }
      }
      if differs { pairs += count }
    }
  }

  // MARK: What is asked

  private struct Flow: Hashable {
    var ipProtocol: NetworkProtocol?
    var port: UInt16?
    func packet(_ from: Entity, _ to: Entity, _ family: IPFamily) -> Packet? {
      guard let source = from.nets.first(where: { $0.family == family })?.address, let destination = to.nets.first(where: { $0.family == family })?.address
      else { return nil }
      guard let ipProtocol else {
        return Packet(
          from: source, to: destination, protocol: family == .v4 ? .icmp : .icmpv6, icmpType: family == .v4 ? 8 : 128, icmpCode: 0)
      }
      return Packet(from: source, to: destination, protocol: ipProtocol, sourcePort: port.map { _ in Question.ephemeralPort }, destinationPort: port)
    }
  }

  /// A ping, then what rules mention, most often mentioned first.
  private static func flows(_ resources: [Resource]) -> [Flow] {
    var mentions: [Flow: Int] = [:]
    var ports: [String: [WorkloadEndpointSpec.NamedPort]] = [:]
    for resource in resources { if case .workloadEndpoint(let spec) = resource.spec { for port in spec.ports { ports[port.name, default: []].append(port) } } }
    for resource in resources {
      let rules: [Rule] =
        switch resource.spec {
        case .networkPolicy(let spec), .globalNetworkPolicy(let spec): spec.ingress + spec.egress
        case .profile(let spec): spec.ingress + spec.egress
        case .kubernetesEndpointSlice(let slice):
          slice.ports.map { port in
            var rule = Rule(.allow, protocol: port.ipProtocol)
            rule.destination.ports = [.port(port.port)]
            return rule
          }
        default: []
        }
      for rule in rules {
        for match in rule.destination.ports + rule.destination.notPorts {
          switch match {
          case .range(let range): mentions[Flow(ipProtocol: rule.ipProtocol ?? .tcp, port: range.lowerBound), default: 0] += 1
          case .named(let name): for port in Set(ports[name] ?? []) { mentions[Flow(ipProtocol: port.ipProtocol, port: port.port), default: 0] += 1 }
          }
        }
        if let ipProtocol = rule.ipProtocol, !ipProtocol.hasPorts, ipProtocol != .icmp, ipProtocol != .icmpv6 {
          mentions[Flow(ipProtocol: ipProtocol), default: 0] += 1
        }
      }
    }
    let most = mentions.sorted { ($1.value, $0.key.ipProtocol!.number, $0.key.port ?? 0) < ($0.value, $1.key.ipProtocol!.number, $1.key.port ?? 0) }
    let unmentioned: UInt16 = 33_333
    return [Flow(), Flow(ipProtocol: .tcp, port: unmentioned), Flow(ipProtocol: .udp, port: unmentioned)] + most.prefix(21).map(\.key)
  }

  /// True if only policies, profiles' rules and tiers differ: then an endpoint whose own are the same decides as before.
  private static func difference(_ old: [Resource], _ new: [Resource]) -> Bool {
    func surroundings(_ resources: [Resource]) -> [ResourceKey: Resource] {
      var result: [ResourceKey: Resource] = [:]
      for var resource in resources where kinds.contains(resource.kind) && resource.kind != .tier {
        switch resource.spec {
        case .networkPolicy, .globalNetworkPolicy: continue
        case .profile(var spec):
          (spec.ingress, spec.egress) = ([], [])
          resource.spec = .profile(spec)
        default: break
        }
        resource.metadata = Metadata(name: resource.metadata.name, namespace: resource.metadata.namespace, labels: resource.metadata.labels)
        resource.status = nil
        result[resource.key] = resource
      }
      return result
    }
    return surroundings(old) == surroundings(new)
  }

  private struct Policy: Equatable {
    var tiers: [String]
    var specs: [Resource.Spec]
  }
  private static func policy(of endpoint: Entity, _ direction: Direction, _ oracle: PolicyOracle) -> Policy {
    let tiers = oracle.policies(for: endpoint, direction)
    let profiles = endpoint.profiles.compactMap { name in oracle.resources.first { $0.key == ResourceKey(.profile, name: name) }?.spec }
    return Policy(tiers: tiers.map { "\($0.tier.name) \($0.tier.defaultAction)" }, specs: tiers.flatMap(\.policies).map(\.spec) + profiles)
  }

  /// The oracle walks all that it is given; a question about two endpoints needs the policies of these, and the sets that hold them.
  private struct ReducedOracle {
    let cluster: Cluster
    let whole: PolicyOracle
    let vocabulary: PolicyVocabulary
    private let common: [Resource]
    private let sets: [(resource: Resource, nets: Set<IPPrefix>)]
    private let hasHosts: Bool

    init(_ cluster: Cluster, _ whole: PolicyOracle, _ vocabulary: PolicyVocabulary) {
      (self.cluster, self.whole, self.vocabulary) = (cluster, whole, vocabulary)
      var common: [Resource] = []
      var sets: [(Resource, Set<IPPrefix>)] = []
      hasHosts = vocabulary.hasHostEndpoints
      for resource in whole.resources {
        switch resource.spec {
        case .networkSet(let spec), .globalNetworkSet(let spec): sets.append((resource, Set(spec.nets)))
        case .tier, .profile, .kubernetesEndpointSlice, .felixConfiguration, .hostEndpoint: common.append(resource)
        // Who has which address matters where hosts have a say.
        case .node where vocabulary.hasHostEndpoints: common.append(resource)
        default: break
        }
      }
      (self.common, self.sets) = (common, sets)
    }

    func oracle(_ ends: [Entity]) -> PolicyOracle {
      var resources = common + ends.map(\.object)
      var keys: Set<ResourceKey> = []
      let hosts = hasHosts ? Set(ends.map(\.node)).compactMap { whole.hostEndpoint(of: $0) } : []
      let asked = ends.map { ($0, [Stage.workload]) } + hosts.map { ($0, [.untracked, .preDNAT, .forward, .host]) }
      for (entity, stages) in asked {
        for stage in stages {
          for direction in Direction.allCases {
            for policy in whole.policies(for: entity, direction, stage).flatMap(\.policies) where keys.insert(policy.key).inserted {
              // What stands in for one that cannot be read is made anew.
              if cluster.unreadable[policy.key] == nil { resources.append(policy) }
            }
          }
        }
      }
      let holding = Set(ends.flatMap(\.nets).flatMap { vocabulary.networks(holding: $0.address) })
      resources += sets.filter { !$0.nets.isDisjoint(with: holding) }.map(\.resource)
      return PolicyOracle(resources: resources, unreadable: cluster.unreadable.filter { keys.contains($0.key) })
    }
  }

  // MARK: Words

  public var json: JSONValue {
    [
      "endpoints": .integer(Int64(endpoints)), "classes": .integer(Int64(classes)), "pairsChanged": .integer(Int64(pairs)),
      "isSampled": .bool(isSampled), "questions": .integer(Int64(questions)), "asked": .integer(Int64(asked)),
      "changes": .array(
        changes.map { change in
          var document: JSONValue = [
            "from": .string(change.from), "to": .string(change.to), "pairs": .integer(Int64(change.pairs)),
            "fromCount": .integer(Int64(change.fromCount)), "toCount": .integer(Int64(change.toCount)),
            "family": .string("\(change.packet.to.family)"), "protocol": .string("\(change.packet.ipProtocol)"),
          ]
          document["port"] = change.packet.destinationPort.map { .integer(Int64($0)) }
          document["before"] = change.isAllowed ? "deny" : "allow"
          document["after"] = change.isAllowed ? "allow" : "deny"
          document["decidedBefore"] = .string(change.before)
          document["decidesAfter"] = .string(change.after)
          return document
        }),
    ]
  }

  /// Empty where nothing is to be said.
  public func text(_ palette: Palette, examplesMax: Int = 20) -> String {
    guard endpoints > 0 else { return "" }
    func number(_ count: Int, _ word: String) -> String { "\(count) \(word)\(count == 1 ? "" : "s")" }
    let of = "\(number(endpoints, "endpoint")) in \(classes) class\(classes == 1 ? "" : "es")"
    let sample = isSampled ? "; \(asked) of \(questions) questions asked, so there may be more" : ""
    if changes.isEmpty { return "verdicts: none changes, of \(of)\(sample)\n" }
    var text = palette("verdicts: \(number(pairs, "pair")) of endpoints may say something else to each other", .bold) + ", of \(of)\(sample)\n"
    var table = TextTable(["", "from", "to", "what", "pairs>", "because"])
    func name(_ one: String, _ count: Int) -> String { count > 1 ? "\(one) and \(count - 1) like it" : one }
    for change in changes.prefix(examplesMax) {
      let port = change.packet.destinationPort.map { " \($0)" } ?? (change.packet.icmpType == nil ? "" : " ping")
      table.append([
        change.isAllowed ? TextTable.Cell("opens", .green) : TextTable.Cell("closes", .red), TextTable.Cell(name(change.from, change.fromCount)),
        TextTable.Cell(name(change.to, change.toCount)), TextTable.Cell("\(change.packet.ipProtocol)\(port)"), TextTable.Cell("\(change.pairs)"),
        TextTable.Cell(change.after),
      ])
    }
    text += table.text(palette, indent: 2)
    if changes.count > examplesMax { text += "  … \(changes.count - examplesMax) more; -o json has all\n" }
    return text
  }
}

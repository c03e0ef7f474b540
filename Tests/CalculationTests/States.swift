/// Immutable states of the datastore with the plan that each must lead to on host `n1`. States are derived from each other, and so are the
/// plans.
import Addresses
import HostPlans
import Resources
import Selectors

@testable import Calculation

struct State: Sendable {
  var name: String
  var facts = Facts()
  var expected = HostPlan()

  /// Another state: some objects set or removed, and what that means for the plan.
  func with(
    _ name: String, _ resources: [Resource] = [], without: [ResourceKey] = [], blocks: [IPPrefix: BlockFact] = [:],
    expect: (inout HostPlan) -> Void = { _ in }
  ) -> State {
    var state = self
    state.name = name
    for key in without { state.facts.resources[key] = nil }
    for resource in resources { state.facts.resources[resource.key] = resource }
    for (prefix, fact) in blocks { state.facts.blocks[prefix] = fact }
    expect(&state.expected)
    return state
  }
}

// MARK: Objects

func setID(_ selector: String) -> IPSetID { IPSetID(try! Selector(parsing: selector).uniqueID) }
func set(_ selector: String, _ nets: [String]) -> IPSetPlan {
  IPSetPlan(
    content: .nets, members: Set(nets.map { .net(IPPrefix($0)!) }), explanation: try! Selector(parsing: selector).canonical)
}
func key(_ kind: Kind, _ name: String, _ namespace: String? = nil) -> ResourceKey { ResourceKey(kind, namespace: namespace, name: name) }

func endpoint(
  _ name: String, node: String = "n1", interface: String? = nil, addresses: [String], labels: [String: String] = [:],
  profiles: [String] = ["kns.default"], ports: [WorkloadEndpointSpec.NamedPort] = [], created: String? = nil
) -> Resource {
  var spec = WorkloadEndpointSpec()
  spec.orchestrator = "k8s"
  spec.node = node
  spec.pod = name
  spec.endpoint = "eth0"
  spec.interfaceName = interface ?? "cali\(name)"
  spec.ipNetworks = addresses.map { IPPrefix($0)! }
  spec.profiles = profiles
  spec.ports = ports
  return Resource(Metadata(name: name, namespace: "default", creationTimestamp: created, labels: labels), .workloadEndpoint(spec))
}

func policy(
  _ name: String, namespace: String? = "default", tier: String = "default", order: Double? = nil, selector: String = "",
  types: [Direction] = [], ingress: [Rule] = [], egress: [Rule] = []
) -> Resource {
  var spec = PolicySpec()
  spec.tier = tier
  spec.order = order
  spec.selector = selector
  spec.types = types
  spec.ingress = ingress
  spec.egress = egress
  return Resource(Metadata(name: name, namespace: namespace), namespace == nil ? .globalNetworkPolicy(spec) : .networkPolicy(spec))
}

func allow(from selector: String? = nil, nets: [String] = [], protocol ipProtocol: NetworkProtocol? = nil, ports: [PortMatch] = []) -> Rule
{
  var rule = Rule(.allow, protocol: ipProtocol)
  rule.source.selector = selector
  rule.source.nets = nets.map { IPPrefix($0)! }
  rule.destination.ports = ports
  return rule
}

func planned(_ action: RuleAction, from set: IPSetID? = nil) -> RulePlan {
  var plan = RulePlan(action)
  if let set { plan.source.sets = [set] }
  return plan
}

// MARK: States

let empty = State(name: "empty")

let namespaceProfile = Resource(
  Metadata(name: "kns.default"),
  .profile(ProfileSpec(ingress: [Rule(.allow)], egress: [Rule(.allow)], labelsToApply: ["pcns.env": "prod"])))
let kns = key(.profile, "kns.default")
let web = key(.workloadEndpoint, "web", "default")
let db = key(.workloadEndpoint, "db", "default")

let lonely = empty.with(
  "one endpoint, its profile missing", [endpoint("web", addresses: ["10.1.0.1", "fd00:1::1"], labels: ["role": "web"])]
) {
  $0.endpoints[web] = EndpointPlan(
    interfaceName: "caliweb", addresses: [IPAddress("10.1.0.1")!, IPAddress("fd00:1::1")!], profiles: ["kns.default"])
  $0.routes = [
    IPPrefix("10.1.0.1/32")!: .workload(interfaceName: "caliweb"), IPPrefix("fd00:1::1/128")!: .workload(interfaceName: "caliweb"),
  ]
}

let initialised = lonely.with("one endpoint with its profile", [namespaceProfile]) {
  $0.policies[kns] = PolicyPlan(ingress: [RulePlan(.allow)], egress: [RulePlan(.allow)])
}

let twoEndpoints = initialised.with(
  "a local and a remote endpoint",
  [endpoint("db", node: "n2", addresses: ["10.2.0.1"], labels: ["role": "db"], ports: [.init(name: "sql", protocol: .tcp, port: 5432)])])

let webFromDB = "(projectcalico.org/namespace == 'default') && (role == 'db')"
let allowDB = key(.networkPolicy, "allow-db", "default")
let withPolicy = twoEndpoints.with(
  "a policy that selects by label", [policy("allow-db", selector: "role == 'web'", ingress: [allow(from: "role == 'db'")])]
) {
  $0.ipSets[setID(webFromDB)] = set(webFromDB, ["10.2.0.1/32"])
  $0.policies[allowDB] = PolicyPlan(ingress: [planned(.allow, from: setID(webFromDB))])
  $0.endpoints[web]!.ingress = [TierPlan(name: "default", policies: [allowDB])]
}

let remoteRelabelled = withPolicy.with(
  "the remote endpoint loses its label", [endpoint("db", node: "n2", addresses: ["10.2.0.1"], labels: ["role": "cache"])]
) {
  $0.ipSets[setID(webFromDB)]!.members = []
}

let sharedAddress = withPolicy.with(
  "two remote endpoints share an address",
  [endpoint("db2", node: "n2", addresses: ["10.2.0.1", "10.2.0.2"], labels: ["role": "db"])]
) {
  $0.ipSets[setID(webFromDB)]!.members = [.net(IPPrefix("10.2.0.1/32")!), .net(IPPrefix("10.2.0.2/32")!)]
}

let policyElsewhere = twoEndpoints.with(
  "a policy for a remote endpoint only", [policy("allow-db", selector: "role == 'db'", ingress: [allow(from: "role == 'web'")])])

let moved = withPolicy.with(
  "the endpoint moves to this host",
  [endpoint("db", addresses: ["10.2.0.1"], labels: ["role": "db"])]
) {
  $0.endpoints[db] = EndpointPlan(interfaceName: "calidb", addresses: [IPAddress("10.2.0.1")!], profiles: ["kns.default"])
  $0.routes[IPPrefix("10.2.0.1/32")!] = .workload(interfaceName: "calidb")
}

let overlapping = withPolicy.with(
  "network sets that overlap",
  [
    Resource(
      Metadata(name: "nets", namespace: "default", labels: ["role": "db"]),
      .networkSet(NetworkSetSpec(nets: ["10.2.0.0/16", "10.2.0.0/24", "10.3.0.0/24", "fd00:2::/64"].map { IPPrefix($0)! }))),
    Resource(
      Metadata(name: "others", labels: ["role": "db"]), .globalNetworkSet(NetworkSetSpec(nets: [IPPrefix("192.0.2.0/24")!]))),
  ]
) {
  $0.ipSets[setID(webFromDB)]!.members = Set(["10.2.0.0/16", "10.3.0.0/24", "fd00:2::/64"].map { .net(IPPrefix($0)!) })
}

let overlappingLess = overlapping.with(
  "the widest network goes",
  [
    Resource(
      Metadata(name: "nets", namespace: "default", labels: ["role": "db"]),
      .networkSet(NetworkSetSpec(nets: ["10.2.0.0/24", "10.2.0.0/31", "10.3.0.0/24"].map { IPPrefix($0)! })))
  ]
) {
  $0.ipSets[setID(webFromDB)]!.members = Set(["10.2.0.0/24", "10.3.0.0/24"].map { .net(IPPrefix($0)!) })
}

let denyAll = key(.globalNetworkPolicy, "deny-all")
let tiered = withPolicy.with(
  "tiers, known and unknown",
  [
    Resource(Metadata(name: "first"), .tier(TierSpec(order: 10, defaultAction: .pass))),
    policy("deny-all", namespace: nil, tier: "first", types: [.ingress, .egress]),
    policy("stray", namespace: nil, tier: "nowhere", types: [.ingress]),
    policy("early", order: 1, selector: "has(role)", types: [.ingress]),
    policy("early", namespace: nil, order: 1, selector: "has(role)", types: [.ingress]),
  ]
) {
  $0.policies[denyAll] = PolicyPlan(tier: "first")
  $0.policies[key(.globalNetworkPolicy, "stray")] = PolicyPlan(tier: "nowhere")
  $0.policies[key(.globalNetworkPolicy, "early")] = PolicyPlan()
  $0.policies[key(.networkPolicy, "early", "default")] = PolicyPlan()
  $0.endpoints[web]!.ingress = [
    TierPlan(name: "first", policies: [denyAll], defaultAction: .pass),
    // `early//GlobalNetworkPolicy` sorts before `early/default/NetworkPolicy`; without an order, `allow-db` comes last.
    TierPlan(name: "default", policies: [key(.globalNetworkPolicy, "early"), key(.networkPolicy, "early", "default"), allowDB]),
    TierPlan(name: "nowhere", policies: [key(.globalNetworkPolicy, "stray")]),
  ]
  $0.endpoints[web]!.egress = [TierPlan(name: "first", policies: [denyAll], defaultAction: .pass)]
}

let tierKnown = tiered.with(
  "the unknown tier is made, in front", [Resource(Metadata(name: "nowhere"), .tier(TierSpec(order: 1)))]
) {
  let tiers = $0.endpoints[web]!.ingress
  $0.endpoints[web]!.ingress = [tiers[2], tiers[0], tiers[1]]
}

let namedPortID = IPSetID(
  AddressSetDemand(port: "sql", .tcp, of: try! Selector(parsing: "(projectcalico.org/namespace == 'default') && (role == 'db')")).id.text)
let namedPort = twoEndpoints.with(
  "a named port",
  [
    policy(
      "to-sql", selector: "role == 'web'",
      egress: [
        {
          var rule = Rule(.allow, protocol: .tcp)
          rule.destination.selector = "role == 'db'"
          rule.destination.ports = [.named("sql")]
          return rule
        }()
      ])
  ]
) {
  var rule = RulePlan(.allow)
  rule.ipProtocol = .tcp
  rule.destination.namedPorts = [namedPortID]
  $0.ipSets[namedPortID] = IPSetPlan(
    content: .addressPorts, members: [.addressPort(IPAddress("10.2.0.1")!, .tcp, 5432)],
    explanation: "port sql/tcp of \(try! Selector(parsing: webFromDB).canonical)")
  $0.policies[key(.networkPolicy, "to-sql", "default")] = PolicyPlan(egress: [rule])
  $0.endpoints[web]!.egress = [TierPlan(name: "default", policies: [key(.networkPolicy, "to-sql", "default")])]
}

let byNamespaceLabel = "pcns.env == 'prod'"
let inherited = twoEndpoints.with(
  "a rule that selects by namespace label",
  [
    policy(
      "from-prod", namespace: nil, selector: "role == 'web'",
      ingress: [
        {
          var rule = Rule(.allow)
          rule.source.namespaceSelector = "env == 'prod'"
          return rule
        }()
      ])
  ]
) {
  let policy = key(.globalNetworkPolicy, "from-prod")
  $0.ipSets[setID(byNamespaceLabel)] = set(byNamespaceLabel, ["10.1.0.1/32", "fd00:1::1/128", "10.2.0.1/32"])
  $0.policies[policy] = PolicyPlan(ingress: [planned(.allow, from: setID(byNamespaceLabel))])
  $0.endpoints[web]!.ingress = [TierPlan(name: "default", policies: [policy])]
}

let namespaceRelabelled = inherited.with(
  "the namespace loses its label", [Resource(Metadata(name: "kns.default"), .profile(ProfileSpec(ingress: [], egress: [])))]
) {
  $0.policies[kns] = PolicyPlan()
  $0.ipSets[setID(byNamespaceLabel)]!.members = []
}

let faulty = withPolicy.with(
  "rules that cannot be enforced",
  [
    policy(
      "allow-db", selector: "role == 'web'",
      ingress: [
        Rule(.log), allow(from: "role =="),
        {
          var rule = Rule(.log)
          rule.fault = "unreadable"
          return rule
        }(), allow(from: "role == 'db'"),
      ])
  ]
) {
  var deny = RulePlan(.deny)
  deny.fault = RuleFault.text("selector", "role ==")
  // A rule was left out before it; people still count it as their fourth.
  var last = planned(.allow, from: setID(webFromDB))
  last.place = 3
  $0.policies[allowDB] = PolicyPlan(ingress: [RulePlan(.log), deny, last])
}

enum RuleFault {
  static func text(_ field: String, _ selector: String) -> String {
    do throws(SelectorError) {
      _ = try Selector(parsing: selector)
      return ""
    } catch {
      return "\(field) `\(selector)`: \(error)"
    }
  }
}

let unreadable = initialised.with(
  "policies whose selectors cannot be read",
  [
    policy("broken", selector: "role ==", ingress: [Rule(.allow)]),
    policy("broken", namespace: nil, selector: "role ==", ingress: [Rule(.allow)]),
  ]
) {
  var deny = RulePlan(.deny)
  deny.fault = RuleFault.text("selector", "role ==")
  $0.policies[key(.networkPolicy, "broken", "default")] = PolicyPlan(ingress: [deny])
  $0.endpoints[web]!.ingress = [TierPlan(name: "default", policies: [key(.networkPolicy, "broken", "default")])]
}

let blocks = initialised.with(
  "blocks of this host and others",
  blocks: [
    IPPrefix("10.1.0.0/26")!: BlockFact(affinity: "n1"), IPPrefix("10.2.0.0/26")!: BlockFact(affinity: "n2"),
    IPPrefix("10.4.0.0/26")!: BlockFact(affinity: nil), IPPrefix("10.5.0.1/32")!: BlockFact(affinity: "n1"),
    IPPrefix("fd00:1::/122")!: BlockFact(affinity: "n1"),
  ]
) {
  $0.routes[IPPrefix("10.1.0.0/26")!] = .blackhole
  $0.routes[IPPrefix("fd00:1::/122")!] = .blackhole
}

let contested = moved.with(
  "records that claim one interface and one address",
  [
    endpoint("web2", interface: "caliweb", addresses: ["10.1.0.7"], labels: ["role": "db"], created: "2026-01-01T00:00:00Z"),
    endpoint("db2", interface: "calidb2", addresses: ["10.2.0.1"], labels: ["role": "db"], created: "2026-01-01T00:00:00Z"),
  ]
) {
  // The younger web2 takes the interface; web is no longer programmed, and with it goes the only user of the policy and its set.
  let addresses = $0.endpoints.removeValue(forKey: web)!.addresses
  for address in addresses { $0.routes[address.hostPrefix] = nil }
  $0.policies[allowDB] = nil
  $0.ipSets = [:]
  $0.endpoints[key(.workloadEndpoint, "web2", "default")] = EndpointPlan(
    interfaceName: "caliweb", addresses: [IPAddress("10.1.0.7")!], profiles: ["kns.default"])
  $0.endpoints[key(.workloadEndpoint, "db2", "default")] = EndpointPlan(
    interfaceName: "calidb2", addresses: [IPAddress("10.2.0.1")!], profiles: ["kns.default"])
  $0.routes[IPPrefix("10.1.0.7/32")!] = .workload(interfaceName: "caliweb")
  $0.routes[IPPrefix("10.2.0.1/32")!] = .workload(interfaceName: "calidb2")
}

let configured = initialised.with(
  "configuration of all hosts and of this one",
  [
    Resource(
      Metadata(name: "default"),
      .felixConfiguration(
        {
          var spec = FelixConfigurationSpec()
          spec.defaultEndpointToHostAction = .accept
          spec.interfacePrefixes = ["tap"]
          spec.logPrefix = "all %t"
          spec.logLimit = LogLimit("10/minute")
          return spec
        }())),
    Resource(
      Metadata(name: "node.n1"),
      .felixConfiguration(
        {
          var spec = FelixConfigurationSpec()
          spec.interfacePrefixes = ["cali", "tap"]
          spec.logPrefix = "%p"
          return spec
        }())),
  ]
) {
  $0.settings.endpointToHostAction = .accept
  $0.settings.interfacePrefixes = ["cali", "tap"]
  $0.settings.logPrefix = "%p"
  $0.settings.logLimit = LogLimit("10/minute")
}

let defaultAllow = lonely.with(
  "the built-in profile", [endpoint("web", addresses: ["10.1.0.1", "fd00:1::1"], profiles: ["projectcalico-default-allow"])]
) {
  $0.endpoints[web]!.profiles = ["projectcalico-default-allow"]
  $0.policies[key(.profile, "projectcalico-default-allow")] = PolicyPlan(ingress: [RulePlan(.allow)], egress: [RulePlan(.allow)])
}

// MARK: Services

func slice(
  _ name: String, of service: String?, _ addresses: [String], notReady: [String] = [], ports: [EndpointSliceSpec.Port] = []
) -> Resource {
  var spec = EndpointSliceSpec(addressType: addresses.first?.contains(":") ?? false ? "IPv6" : "IPv4", ports: ports)
  spec.endpoints = addresses.map { .init(addresses: [IPAddress($0)!]) } + notReady.map { .init(addresses: [IPAddress($0)!], isReady: false) }
  return Resource(
    Metadata(name: name, namespace: "shop", labels: service.map { [EndpointSliceSpec.serviceLabel: $0] } ?? [:]), .kubernetesEndpointSlice(spec))
}

let fromBilling = IPSetID(AddressSetDemand(service: ServiceName(namespace: "shop", name: "billing"), withPorts: false).id.text)
let toBilling = IPSetID(AddressSetDemand(service: ServiceName(namespace: "shop", name: "billing"), withPorts: true).id.text)
let useBilling = key(.networkPolicy, "use-billing", "default")
let serviceAwaited = twoEndpoints.with(
  "rules that name a service nobody has made",
  [
    policy(
      "use-billing", selector: "role == 'web'",
      ingress: [
        {
          var rule = Rule(.allow)
          rule.source.services = ServiceMatch(name: "billing", namespace: "shop")
          return rule
        }()
      ],
      egress: [
        {
          var rule = Rule(.allow)
          rule.destination.services = ServiceMatch(name: "billing", namespace: "shop")
          return rule
        }()
      ])
  ]
) {
  var out = RulePlan(.allow)
  out.destination.namedPorts = [toBilling]
  $0.policies[useBilling] = PolicyPlan(ingress: [planned(.allow, from: fromBilling)], egress: [out])
  $0.ipSets[fromBilling] = IPSetPlan(content: .nets, members: [], explanation: "service shop/billing")
  $0.ipSets[toBilling] = IPSetPlan(content: .addressPorts, members: [], explanation: "service shop/billing")
  $0.endpoints[web]!.ingress = [TierPlan(name: "default", policies: [useBilling])]
  $0.endpoints[web]!.egress = [TierPlan(name: "default", policies: [useBilling])]
}

let serviceServed = serviceAwaited.with(
  "the service has slices in both families that share an address, another service has its own",
  [
    slice("billing-1", of: "billing", ["10.2.0.1", "10.2.0.2"], notReady: ["10.2.0.3"], ports: [.init(port: 443), .init(protocol: .udp, port: 53)]),
    slice("billing-2", of: "billing", ["10.2.0.2"], ports: [.init(name: "tls", port: 443)]),
    slice("billing-3", of: "billing", ["fd00:2::1"], ports: [.init(port: 443)]),
    slice("other-1", of: "other", ["10.2.0.9"], ports: [.init(port: 443)]), slice("stray", of: nil, ["10.2.0.8"], ports: [.init(port: 443)]),
  ]
) {
  $0.ipSets[fromBilling]!.members = Set(["10.2.0.1/32", "10.2.0.2/32", "fd00:2::1/128"].map { .net(IPPrefix($0)!) })
  $0.ipSets[toBilling]!.members = Set(
    ["10.2.0.1", "10.2.0.2", "fd00:2::1"].map { .addressPort(IPAddress($0)!, .tcp, 443) }
      + ["10.2.0.1", "10.2.0.2"].map { .addressPort(IPAddress($0)!, .udp, 53) })
}

let serviceShrunk = serviceServed.with(
  "an endpoint is no longer ready, a slice changes its service, another goes",
  [
    slice("billing-1", of: "billing", ["10.2.0.2"], notReady: ["10.2.0.1"], ports: [.init(port: 443)]),
    slice("billing-3", of: "other", ["fd00:2::1"], ports: [.init(port: 443)]),
  ],
  without: [key(.kubernetesEndpointSlice, "billing-2", "shop")]
) {
  $0.ipSets[fromBilling]!.members = [.net(IPPrefix("10.2.0.2/32")!)]
  $0.ipSets[toBilling]!.members = [.addressPort(IPAddress("10.2.0.2")!, .tcp, 443)]
}

let serviceMisplaced = serviceServed.with(
  "rules that name services where none can stand",
  [
    policy(
      "use-billing", selector: "role == 'web'",
      ingress: [
        {
          var rule = Rule(.allow)
          rule.destination.services = ServiceMatch(name: "billing", namespace: "shop")
          return rule
        }()
      ])
  ]
) {
  var deny = RulePlan(.deny)
  deny.fault = "destination.services: a service is the source of ingress or the destination of egress"
  $0.policies[useBilling] = PolicyPlan(ingress: [deny])
  $0.ipSets = [:]
  $0.endpoints[web]!.egress = []
}

// MARK: Staged policies

func staged(_ name: String, _ action: StagedAction = .set, order: Double? = nil, selector: String = "role == 'web'", ingress: [Rule] = []) -> Resource {
  var spec = PolicySpec()
  if action != .delete {
    spec.order = order
    spec.selector = selector
    spec.ingress = ingress
    spec.types = [.ingress]
  }
  return Resource(
    Metadata(name: name, namespace: "default"), .stagedNetworkPolicy(StagedPolicySpec(spec, stagedAction: action)))
}
func stagedKey(_ name: String) -> ResourceKey { key(.stagedNetworkPolicy, name, "default") }

let stagedBeside = withPolicy.with(
  "staged policies before, in the place of and behind an enforced one; one is to be ignored",
  [
    staged("early", order: 1, ingress: [Rule(.deny, protocol: .udp)]), staged("allow-db", ingress: [Rule(.deny)]), staged("late", .learn),
    staged("no", .ignore, ingress: [Rule(.deny)]), staged("broken", selector: "role ==", ingress: [Rule(.deny)]),
  ]
) {
  var udp = RulePlan(.deny)
  udp.ipProtocol = .udp
  $0.policies[stagedKey("early")] = PolicyPlan(ingress: [udp])
  $0.policies[stagedKey("allow-db")] = PolicyPlan(ingress: [RulePlan(.deny)])
  $0.policies[stagedKey("late")] = PolicyPlan()
  $0.endpoints[web]!.ingress[0].staged = [
    StagedPlace(stagedKey("early"), index: 0), StagedPlace(stagedKey("allow-db"), index: 0), StagedPlace(stagedKey("late"), index: 1),
  ]
}

let stagedDeletion = withPolicy.with("a policy would be deleted", [staged("allow-db", .delete), staged("nobody", .delete)]) {
  $0.policies[stagedKey("allow-db")] = $0.policies[allowDB]
  $0.endpoints[web]!.ingress[0].staged = [StagedPlace(stagedKey("allow-db"), index: 0)]
}

let stagedAlone = twoEndpoints.with(
  "a Kubernetes policy is staged where no policy is enforced",
  [
    Resource(
      Metadata(name: "db-only", namespace: "default"),
      .stagedKubernetesNetworkPolicy(
        {
          var spec = StagedKubernetesPolicySpec()
          spec.podSelector = LabelSelector()
          spec.podSelector!.matchLabels = ["role": "web"]
          spec.policyTypes = [.ingress]
          var rule = StagedKubernetesPolicySpec.Rule()
          var peer = StagedKubernetesPolicySpec.Peer()
          peer.ipBlock = .init(cidr: IPPrefix("10.2.0.0/16")!, except: [IPPrefix("10.2.9.0/24")!])
          rule.peers = [peer]
          var port = StagedKubernetesPolicySpec.Port()
          port.port = .port(80)
          port.endPort = 90
          rule.ports = [port]
          spec.ingress = [rule]
          return spec
        }()))
  ]
) {
  let staged = key(.stagedKubernetesNetworkPolicy, "db-only", "default")
  var allow = RulePlan(.allow)
  allow.ipProtocol = .tcp
  allow.family = .v4
  allow.source.nets = [IPPrefix("10.2.0.0/16")!]
  allow.source.notNets = [IPPrefix("10.2.9.0/24")!]
  allow.destination.ports = [80...90]
  $0.policies[staged] = PolicyPlan(ingress: [allow])
  // No end of tier: packets go on to the profiles as if it were not there.
  var tier = TierPlan(name: "default", policies: [], defaultAction: .pass)
  tier.staged = [StagedPlace(staged, index: 0)]
  tier.wouldDeny = true
  $0.endpoints[web]!.ingress = [tier]
}

let allStates = [
  empty, lonely, initialised, twoEndpoints, withPolicy, remoteRelabelled, sharedAddress, policyElsewhere, moved, overlapping,
  overlappingLess,
  tiered, tierKnown, namedPort, inherited, namespaceRelabelled, faulty, unreadable, blocks, contested, configured, defaultAllow,
  serviceAwaited, serviceServed, serviceShrunk, serviceMisplaced,
  bareHost, fourLists, hostsOnly, hostMembers, readyEverywhere,
  stagedBeside, stagedDeletion, stagedAlone,
] + statesAroundPolicy

/// Walks worth naming; every state is in one of them.
let baseWalks: [[State]] =
  allStates.map { [$0] } + [
    [empty, lonely, initialised, twoEndpoints, withPolicy, remoteRelabelled],
    [withPolicy, sharedAddress, withPolicy, moved, withPolicy],
    [overlapping, overlappingLess, overlapping, withPolicy],
    [tiered, tierKnown, withPolicy, tiered],
    [namedPort, withPolicy, policyElsewhere, namedPort],
    [inherited, namespaceRelabelled, inherited, initialised],
    [withPolicy, faulty, withPolicy, unreadable, withPolicy],
    [blocks, initialised, blocks, empty],
    [moved, contested, moved, contested, withPolicy],
    [configured, defaultAllow, configured],
    [withPolicy, stagedBeside, stagedDeletion, withPolicy, stagedAlone, stagedDeletion, twoEndpoints],
    [serviceAwaited, serviceServed, serviceShrunk, serviceServed, twoEndpoints, serviceShrunk, serviceMisplaced, serviceServed],
    [bareHost, fourLists, hostsOnly, fourLists, readyEverywhere, hostMembers, bareHost],
    allStates,
  ] + walksAroundPolicy

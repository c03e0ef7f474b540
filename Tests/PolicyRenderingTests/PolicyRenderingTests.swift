/// What each kind of rule, tier and change becomes.

import Addresses
import Glibc
import HostPlans
@testable import PolicyRendering
import Resources
import RulesetDriver
import Rulesets
import Testing

func prefix(_ text: String) -> IPPrefix { IPPrefix(text)! }
func address(_ text: String) -> IPAddress { IPAddress(text)! }
func rule(_ action: RuleAction, _ edit: (inout RulePlan) -> Void = { _ in }) -> RulePlan {
  var rule = RulePlan(action)
  edit(&rule)
  return rule
}
func policyKey(_ name: String) -> ResourceKey { ResourceKey(.networkPolicy, namespace: "default", name: name) }
func profileKey(_ name: String) -> ResourceKey { ResourceKey(.profile, name: name) }
func endpointKey(_ name: String) -> ResourceKey { ResourceKey(.workloadEndpoint, namespace: "default", name: name) }
func nets(_ members: String...) -> IPSetPlan {
  IPSetPlan(content: .nets, members: Set(members.map { .net(prefix($0)) }), explanation: "app == 'web'")
}

/// The renderer and the fake kernel in one: every delta must be one that a kernel takes.
struct Rig {
  // Without what every drop tells, rules are easier to read.
  var renderer = PolicyRenderer(tellsDrops: false)
  let fake = FakeRuleset()
  let driver: RulesetDriver
  var last = RulesetDelta()

  init() { driver = RulesetDriver(kernel: fake) }

  @discardableResult
  mutating func apply(_ changes: HostPlanChange...) throws -> ApplyReport { try apply(changes) }
  @discardableResult
  mutating func apply(_ changes: [HostPlanChange]) throws -> ApplyReport {
    last = renderer.apply(changes)
    let report = try driver.apply(last)
    #expect(report.failures == [])
    return report
  }
  func rules(_ chain: String) -> [String] { (driver.ruleset.chains[chain]?.rules ?? []).map(\.description) }
}

/// The rules of one policy in one direction, without the noise of its surroundings.
func render(_ direction: Direction, _ rules: [RulePlan], sets: [String: IPSetPlan] = [:], ipv6: Bool = true) throws -> [String] {
  var rig = Rig()
  var settings = HostSettings()
  settings.ipv6 = ipv6
  var endpoint = EndpointPlan(interfaceName: "cali1")
  let tier = [TierPlan(name: "default", policies: [policyKey("p")])]
  if direction == .ingress { endpoint.ingress = tier } else { endpoint.egress = tier }
  let plan = direction == .ingress ? PolicyPlan(ingress: rules) : PolicyPlan(egress: rules)
  try rig.apply(
    [.settings(settings)] + sets.map { .ipSet(IPSetID($0.key), $0.value) } + [.policy(policyKey("p"), plan),
      .endpoint(endpointKey("e"), endpoint)])
  return rig.rules(direction == .ingress ? "policy-in-np/default/p" : "policy-out-np/default/p").map {
    $0.replacing(" comment \"NetworkPolicy default/p \(direction == .ingress ? "ingress" : "egress") rule 1\"", with: "")
  }
}

extension String {
  func replacing(_ part: String, with other: String) -> String {
    var result = ""
    var rest = self[...]
    while let range = rest.firstRange(of: part) {
      result += rest[..<range.lowerBound] + other
      rest = rest[range.upperBound...]
    }
    return result + rest
  }
}

@Suite("One rule")
struct RuleTests {
  @Test("A rule without matches is one rule of both families")
  func bare() throws {
    #expect(try render(.ingress, [rule(.allow)]) == ["counter accept"])
    #expect(try render(.egress, [rule(.allow)]) == ["counter accept"])
    #expect(try render(.ingress, [rule(.deny)]) == ["counter drop"])
    #expect(try render(.ingress, [rule(.pass)]) == ["counter meta mark set meta mark | 0x00020000 return"])
    #expect(try render(.ingress, [rule(.log)]) == ["counter log prefix \"calico-packet: \" level notice"])
  }

  @Test("Protocol and ports need no family")
  func ports() throws {
    #expect(try render(.ingress, [rule(.allow) { $0.ipProtocol = .tcp; $0.destination.ports = [80...80] }]) == [
      "meta l4proto tcp th dport 80 counter accept"
    ])
    #expect(try render(.ingress, [rule(.allow) { $0.ipProtocol = .udp; $0.source.notPorts = [53...60] }]) == [
      "meta l4proto udp th sport != 53-60 counter accept"
    ])
    let many = try render(.ingress, [
      rule(.allow) { $0.ipProtocol = .tcp; $0.destination.ports = [80...80, 443...443] },
    ])
    #expect(many.count == 1 && many[0].hasPrefix("meta l4proto tcp th dport @ports-"))
    #expect(try render(.ingress, [rule(.allow) { $0.notProtocol = .tcp }]) == ["meta l4proto != tcp counter accept"])
    // Ranges that touch become one.
    #expect(try render(.ingress, [rule(.deny) { $0.ipProtocol = .tcp; $0.destination.notPorts = [80...90, 91...99, 85...95] }]) == [
      "meta l4proto tcp th dport != 80-99 counter drop"
    ])
  }

  @Test("A selector becomes a hash set of its addresses and an interval set of its prefixes, in each family that has some")
  func selectors() throws {
    let plan = rule(.allow) { $0.source.sets = [IPSetID("s:web")] }
    #expect(try render(.ingress, [plan], sets: ["s:web": nets("10.0.0.1/32", "fd00::1/128")]) == [
      "meta nfproto ipv4 ip saddr @hosts4-s.web counter accept",
      "meta nfproto ipv6 ip6 saddr @hosts6-s.web counter accept",
    ])
    #expect(try render(.ingress, [plan], sets: ["s:web": nets("10.0.0.1/32", "10.1.0.0/16")]) == [
      "meta nfproto ipv4 ip saddr @hosts4-s.web counter accept",
      "meta nfproto ipv4 ip saddr @nets4-s.web counter accept",
    ])
    #expect(
      try render(.ingress, [rule(.deny) { $0.destination.notSets = [IPSetID("s:web")] }],
        sets: ["s:web": nets("10.0.0.1/32", "10.1.0.0/16")], ipv6: false)
        == ["meta nfproto ipv4 ip daddr != @hosts4-s.web ip daddr != @nets4-s.web counter drop"])
  }

  @Test("Who asks for a member of an empty set matches nothing; who forbids its members matches everything")
  func emptySets() throws {
    let sets = ["s:none": nets(), "s:web": nets("10.0.0.1/32"), "n:none": IPSetPlan(content: .addressPorts, members: [], explanation: "")]
    let both = rule(.allow) { $0.source.sets = [IPSetID("s:none")]; $0.destination.sets = [IPSetID("s:web")] }
    #expect(try render(.ingress, [both], sets: sets) == [])
    #expect(try render(.ingress, [rule(.deny) { $0.source.notSets = [IPSetID("s:none")] }], sets: sets) == [
      "meta nfproto ipv4 counter drop", "meta nfproto ipv6 counter drop",
    ])
    // An address of a family that the set has nothing in is outside of it.
    #expect(try render(.ingress, [rule(.deny) { $0.source.notSets = [IPSetID("s:web")] }], sets: sets) == [
      "meta nfproto ipv4 ip saddr != @hosts4-s.web counter drop", "meta nfproto ipv6 counter drop",
    ])
    #expect(try render(.ingress, [rule(.allow) { $0.ipProtocol = .tcp; $0.destination.namedPorts = [IPSetID("n:none")] }], sets: sets) == [])
    #expect(
      try render(.ingress, [rule(.deny) { $0.ipProtocol = .tcp; $0.source.notNamedPorts = [IPSetID("n:none")] }], sets: sets, ipv6: false)
        == ["meta nfproto ipv4 meta l4proto tcp counter drop"])
  }

  @Test("A set that fills and empties brings its rule and takes it along, in the same transaction")
  func fillingSets() throws {
    var rig = Rig()
    let id = IPSetID("s:web")
    let tier = [TierPlan(name: "default", policies: [policyKey("p")])]
    try rig.apply(
      .ipSet(id, nets()), .policy(policyKey("p"), PolicyPlan(ingress: [rule(.allow) { $0.source.sets = [id] }])),
      .endpoint(endpointKey("a"), GroupTests.endpoint("cali1", ingress: tier)))
    #expect(rig.rules("policy-in-np/default/p") == [] && rig.driver.ruleset.sets["hosts4-s.web"] == nil)
    let first = try rig.apply(.ipSetMembers(id, added: [.net(prefix("10.0.0.1/32"))], removed: []))
    #expect(first.setsAdded == 1 && first.elementsAdded == 1 && first.rulesAdded == 1 && first.failures.isEmpty)
    let last = try rig.apply(.ipSetMembers(id, added: [], removed: [.net(prefix("10.0.0.1/32"))]))
    #expect(last.setsRemoved == 1 && rig.rules("policy-in-np/default/p") == [] && last.failures.isEmpty)
  }

  @Test("Several sets are all to match; CIDRs and sets as well")
  func conjunction() throws {
    let plan = rule(.allow) {
      $0.source.sets = [IPSetID("s:a"), IPSetID("s:b")]
      $0.source.nets = [prefix("10.0.0.0/8")]
      $0.destination.notNets = [prefix("10.9.0.0/16")]
    }
    #expect(try render(.ingress, [plan], sets: ["s:a": nets("10.0.0.1/32"), "s:b": nets("10.0.0.1/32", "10.2.0.0/16")]) == [
      "meta nfproto ipv4 ip saddr @hosts4-s.a ip saddr @hosts4-s.b ip saddr 10.0.0.0/8 ip daddr != 10.9.0.0/16 counter accept",
      "meta nfproto ipv4 ip saddr @hosts4-s.a ip saddr @nets4-s.b ip saddr 10.0.0.0/8 ip daddr != 10.9.0.0/16 counter accept",
    ])
  }

  @Test("CIDRs of both families: each half in its family; of one family: the rule is for that family only")
  func mixedFamilies() throws {
    #expect(try render(.ingress, [rule(.allow) { $0.source.nets = [prefix("10.0.0.0/8"), prefix("fd00::/8")] }]) == [
      "meta nfproto ipv4 ip saddr 10.0.0.0/8 counter accept", "meta nfproto ipv6 ip6 saddr fd00::/8 counter accept",
    ])
    #expect(try render(.ingress, [rule(.allow) { $0.source.nets = [prefix("10.0.0.0/8")] }]) == [
      "meta nfproto ipv4 ip saddr 10.0.0.0/8 counter accept"
    ])
    #expect(try render(.ingress, [rule(.allow) { $0.family = .v6 }]) == ["meta nfproto ipv6 counter accept"])
    // Everything of a family needs no match beyond the family; nothing lies outside of everything.
    #expect(try render(.ingress, [rule(.allow) { $0.source.nets = [prefix("0.0.0.0/0")] }]) == ["meta nfproto ipv4 counter accept"])
    #expect(try render(.ingress, [rule(.deny) { $0.source.notNets = [prefix("0.0.0.0/0")] }]) == [])
  }

  @Test("ICMP types are of a family; the complement of type and code is of the conjunction")
  func icmp() throws {
    #expect(try render(.ingress, [rule(.allow) { $0.ipProtocol = .icmp; $0.icmp = ICMPMatch(type: 8, code: 0) }]) == [
      "meta nfproto ipv4 meta l4proto icmp icmp type 8 icmp code 0 counter accept"
    ])
    #expect(try render(.ingress, [rule(.allow) { $0.ipProtocol = .icmpv6; $0.icmp = ICMPMatch(type: 128) }]) == [
      "meta nfproto ipv6 meta l4proto ipv6-icmp icmp type 128 counter accept"
    ])
    #expect(try render(.ingress, [rule(.deny) { $0.ipProtocol = .icmp; $0.notICMP = ICMPMatch(type: 3, code: 4) }]) == [
      "meta nfproto ipv4 meta l4proto icmp icmp type != 3 counter drop",
      "meta nfproto ipv4 meta l4proto icmp icmp type 3 icmp code != 4 counter drop",
    ])
    #expect(try render(.ingress, [rule(.allow) { $0.ipProtocol = .icmp }]) == ["meta l4proto icmp counter accept"])
  }

  @Test("Named ports are looked up together with their address; numbers beside them are an alternative")
  func namedPorts() throws {
    let served = IPSetPlan(content: .addressPorts, members: [.addressPort(address("10.0.0.1"), .tcp, 8080)], explanation: "http")
    let plan = rule(.allow) {
      $0.ipProtocol = .tcp
      $0.destination.ports = [80...80]
      $0.destination.namedPorts = [IPSetID("n:http")]
    }
    #expect(try render(.ingress, [plan], sets: ["n:http": served], ipv6: false) == [
      "meta nfproto ipv4 meta l4proto tcp th dport 80 counter accept",
      "meta nfproto ipv4 meta l4proto tcp ip daddr . meta l4proto . th dport @served4-n.http counter accept",
    ])
    #expect(
      try render(.egress, [rule(.deny) { $0.ipProtocol = .tcp; $0.source.notNamedPorts = [IPSetID("n:http")] }],
        sets: ["n:http": served], ipv6: false)
        == ["meta nfproto ipv4 meta l4proto tcp ip saddr . meta l4proto . th sport != @served4-n.http counter drop"])
  }

  @Test("Elements that lead to policies jump, and a drop stands behind each lookup: a chain that is still empty to a packet lets nothing by")
  func nothingFallsThrough() throws {
    var rig = Rig()
    var endpoint = EndpointPlan(interfaceName: "cali1")
    endpoint.addresses = [address("10.65.0.1")]
    try rig.apply(
      .settings(HostSettings()), .endpoint(endpointKey("one"), endpoint),
      .hostEndpoint(ResourceKey(.hostEndpoint, name: "eth0"), HostEndpointPlan(interfaceName: "eth0")))
    let ruleset = rig.driver.ruleset
    var lookups = 0
    for (name, chain) in ruleset.chains {
      for (position, rule) in chain.rules.enumerated() {
        guard case .verdictMap(_, let map)? = rule.statements.last else { continue }
        lookups += 1
        for element in ruleset.elements[map] ?? [] {
          if case .verdict(.goto(let target))? = element.data { Issue.record("\(map) goes to \(target)") }
        }
        let next = try #require(chain.rules.dropFirst(position + 1).first, "something behind the lookup in \(name)")
        #expect(next.statements.contains(.drop), "\(name): \(next)")
      }
    }
    #expect(lookups >= 5)
  }

  @Test("Tunnelled packets are heard from the hosts that this one has tunnels to, and from nobody else")
  func tunnelsOfStrangers() throws {
    var rig = Rig()
    func tunnel(_ underlay: String, _ own: String) -> TunnelPlan { TunnelPlan(underlay: address(underlay), address: address(own)) }
    func far(_ kind: TunnelKind, _ node: String, _ underlay: String?) -> HostPlanChange {
      .tunnelPeer(TunnelPeer(kind, node), underlay.map { TunnelPeerPlan(underlay: address($0)) })
    }
    try rig.apply(.settings(HostSettings()))
    #expect(rig.rules("sent-input").allSatisfy { !$0.contains("4789") })
    // Nobody is there yet: nobody is heard.
    try rig.apply(.tunnel(.vxlan, tunnel("172.30.0.1", "10.65.0.1")))
    #expect(rig.rules("sent-input").first == #"meta nfproto ipv4 meta l4proto udp th dport 4789 counter drop comment "VXLAN from no host of the cluster""#)
    try rig.apply(
      .tunnel(.vxlanV6, tunnel("fd30::1", "fd65::1")), .tunnel(.ipip, tunnel("172.30.0.1", "10.65.0.2")), far(.vxlan, "h2", "172.30.0.2"),
      far(.ipip, "h2", "172.30.0.2"), far(.vxlan, "h3", "172.30.0.3"), far(.vxlanV6, "h2", "fd30::2"))
    #expect(
      rig.rules("sent-input").prefix(3) == [
        #"meta nfproto ipv4 meta l4proto udp th dport 4789 ip saddr != @tunnel-hosts4 counter drop comment "VXLAN from no host of the cluster""#,
        #"meta nfproto ipv6 meta l4proto udp th dport 4789 ip6 saddr != @tunnel-hosts6 counter drop comment "VXLAN from no host of the cluster""#,
        #"meta nfproto ipv4 meta l4proto 4 ip saddr != @tunnel-hosts4 counter drop comment "IPIP from no host of the cluster""#,
      ])
    func hosts(_ family: IPFamily) -> Set<[UInt8]> { Set((rig.driver.ruleset.elements["tunnel-hosts\(family.rawValue)"] ?? []).map(\.key)) }
    #expect(hosts(.v4) == [[172, 30, 0, 2], [172, 30, 0, 3]] && hosts(.v6).count == 1)
    // A host endpoint's policies are about what is inside, not about the tunnel.
    try rig.apply(.hostEndpoint(ResourceKey(.hostEndpoint, name: "eth0"), HostEndpointPlan(interfaceName: "eth0")))
    for (chain, end) in [("host-input", "saddr"), ("host-output", "daddr")] {
      let allowed = rig.rules(chain).filter { $0.contains("among the cluster's hosts") }
      #expect(allowed.count == 3 && allowed[0].contains("th dport 4789 ip \(end) @tunnel-hosts4 counter accept"), "\(allowed)")
    }
    try rig.apply(.hostEndpointRemoved(ResourceKey(.hostEndpoint, name: "eth0")))
    // An address that another tunnel still leads to stays.
    try rig.apply(far(.vxlan, "h2", nil), far(.vxlan, "h3", "172.30.0.4"))
    #expect(hosts(.v4) == [[172, 30, 0, 2], [172, 30, 0, 4]])
    try rig.apply(far(.ipip, "h2", nil), far(.vxlan, "h3", nil), .tunnel(.vxlan, nil), .tunnel(.ipip, nil))
    #expect(hosts(.v4).isEmpty && rig.driver.ruleset.sets["tunnel-hosts4"] == nil)
    #expect(rig.rules("sent-input").filter { $0.contains("no host of the cluster") }.count == 1)
  }

  @Test("What cannot be enforced denies everything at its place, and says why")
  func faults() throws {
    #expect(try render(.ingress, [rule(.allow) { $0.fault = "unknown field \"foo\"" }]) == [
      "counter drop comment \"NetworkPolicy default/p ingress rule 1: cannot be enforced, denies all: unknown field \"foo\"\""
    ])
    #expect(try render(.egress, [rule(.allow) { $0.source.sets = [IPSetID("s:gone")] }]) == [
      "counter drop comment \"NetworkPolicy default/p egress rule 1: cannot be enforced, denies all: address set s:gone is missing\""
    ])
    #expect(try render(.ingress,
      [rule(.allow) { $0.ipProtocol = .icmp; $0.destination.ports = [80...80] }])[0].contains("ICMP has no ports"))
  }

  @Test("Annotations stand in the comment")
  func annotations() throws {
    #expect(try render(.ingress, [rule(.allow) { $0.annotations = ["team": "web", "id": "7"] }]) == [
      "counter accept comment \"NetworkPolicy default/p ingress rule 1 id=7 team=web\""
    ])
  }
}

@Suite("Tiers and groups")
struct GroupTests {
  static func endpoint(_ interface: String, ingress: [TierPlan] = [], egress: [TierPlan] = [],
    profiles: [String] = ["kns.default"]) -> EndpointPlan {
    EndpointPlan(
      interfaceName: interface, addresses: [address("10.65.0.\(interface.last!)")], ingress: ingress, egress: egress, profiles: profiles)
  }
  static let allowAll = PolicyPlan(ingress: [rule(.allow)], egress: [rule(.allow)])

  @Test("Endpoints with the same policies share one chain for each direction")
  func sharing() throws {
    var rig = Rig()
    try rig.apply(.policy(profileKey("kns.default"), Self.allowAll))
    try rig.apply(.endpoint(endpointKey("a"), Self.endpoint("cali1")), .endpoint(endpointKey("b"), Self.endpoint("cali2")))
    let groups = rig.driver.ruleset.chains.keys.filter { $0.hasPrefix("ingress-") || $0.hasPrefix("egress-") }
    #expect(groups.count == 2)
    let verdicts = rig.driver.ruleset.elements["ingress"]!
    #expect(verdicts.count == 2 && Set(verdicts.map(\.data)).count == 1)
    let more = try rig.apply(.endpoint(endpointKey("c"), Self.endpoint("cali3")))
    #expect(more.chainsAdded + more.chainsChanged == 0 && more.elementsAdded == 4)
    let less = try rig.apply(.endpointRemoved(endpointKey("c")))
    #expect(less.chainsRemoved == 0 && less.elementsRemoved == 4)
    try rig.apply(.endpointRemoved(endpointKey("a")), .endpointRemoved(endpointKey("b")))
    #expect(rig.driver.ruleset.chains.keys.allSatisfy { !$0.contains("gress-") && !$0.hasPrefix("profile-") })
  }

  @Test("One member of a set is one element; one policy's rules are one chain")
  func costs() throws {
    var rig = Rig()
    let id = IPSetID("s:web")
    let tier = [TierPlan(name: "default", policies: [policyKey("p"), policyKey("q")])]
    try rig.apply(
      .ipSet(id, nets("10.0.0.1/32")), .policy(policyKey("p"), PolicyPlan(ingress: [rule(.allow) { $0.source.sets = [id] }])),
      .policy(policyKey("q"), PolicyPlan(ingress: [rule(.deny)])), .endpoint(endpointKey("a"), Self.endpoint("cali1", ingress: tier)))
    let member = try rig.apply(.ipSetMembers(id, added: [.net(prefix("10.0.0.2/32"))], removed: []))
    #expect(member.mutations == 1 && member.elementsAdded == 1)
    let edit = try rig.apply(.policy(policyKey("q"), PolicyPlan(ingress: [rule(.allow) { $0.ipProtocol = .tcp }])))
    #expect(edit.chainsChanged == 1 && edit.rulesAdded == 1 && edit.mutations == 2)
    #expect(try rig.apply(.policy(policyKey("q"), PolicyPlan(ingress: [rule(.allow) { $0.ipProtocol = .tcp }]))).mutations == 0)
    // The first prefix brings the interval set and its rule.
    let net = try rig.apply(.ipSetMembers(id, added: [.net(prefix("10.1.0.0/16"))], removed: []))
    #expect(net.setsAdded == 1 && net.elementsAdded == 1 && net.chainsChanged == 1)
    let gone = try rig.apply(.ipSetMembers(id, added: [], removed: [.net(prefix("10.1.0.0/16"))]))
    #expect(gone.setsRemoved == 1 && gone.chainsChanged == 1)
  }

  @Test("A tier ends in deny; Pass goes on in the next tier's chain; after all tiers the profiles decide")
  func tiers() throws {
    var rig = Rig()
    let tiers = [
      TierPlan(name: "security", policies: [policyKey("guard")]),
      TierPlan(name: "platform", policies: [policyKey("base")], defaultAction: .pass),
    ]
    try rig.apply(
      .policy(policyKey("guard"), PolicyPlan(ingress: [rule(.pass) { $0.ipProtocol = .tcp }], egress: [rule(.allow)])),
      .policy(policyKey("base"), PolicyPlan(ingress: [rule(.deny) { $0.ipProtocol = .udp }])),
      .policy(profileKey("kns.default"), Self.allowAll),
      .endpoint(endpointKey("a"), Self.endpoint("cali1", ingress: tiers, egress: [tiers[0]])))
    let group = PolicyGroup(Self.endpoint("cali1", ingress: tiers, egress: [tiers[0]]), .ingress).name
    #expect(rig.rules(group) == [
      "meta mark set meta mark & 0xfffdffff", "jump policy-in-np/default/guard",
      "meta mark & 0x00020000 == 0x00020000 meta mark set meta mark & 0xfffdffff goto \(group)-2", "counter drop comment \"tier security: no policy decides, deny\"",
    ])
    #expect(rig.rules("\(group)-2") == [
      "jump policy-in-np/default/base", "counter goto \(group)-profiles comment \"tier platform: no policy decides, pass\"",
    ])
    #expect(rig.rules("\(group)-profiles") == ["jump profile-in-kns.default", "counter drop comment \"no profile allows, deny\""])
    let out = PolicyGroup(Self.endpoint("cali1", ingress: tiers, egress: [tiers[0]]), .egress).name
    #expect(rig.rules(out) == [
      "jump policy-out-np/default/guard", "counter drop comment \"tier security: no policy decides, deny\"",
    ])
    // Without Pass the later chains are out of reach, and go.
    let report = try rig.apply(.policy(policyKey("guard"), PolicyPlan(ingress: [rule(.allow) { $0.ipProtocol = .tcp }],
      egress: [rule(.allow)])))
    #expect(report.chainsRemoved >= 2)
    #expect(rig.driver.ruleset.chains["\(group)-2"] == nil && rig.driver.ruleset.chains["\(group)-profiles"] == nil)
  }

  @Test("A missing profile or policy denies at its place")
  func missing() throws {
    var rig = Rig()
    try rig.apply(.endpoint(endpointKey("a"), Self.endpoint("cali1", ingress: [TierPlan(name: "default", policies: [policyKey("p")])])))
    let ingress = PolicyGroup(rig.endpointPlan("cali1"), .ingress).name
    #expect(rig.rules(ingress)[0] == "counter drop comment \"NetworkPolicy default/p is missing, deny\"")
    let egress = PolicyGroup(rig.endpointPlan("cali1"), .egress).name
    #expect(rig.rules(egress)[0] == "counter drop comment \"Profile kns.default is missing, deny\"")
    try rig.apply(.policy(profileKey("kns.default"), Self.allowAll))
    #expect(rig.rules(egress)[0] == "jump profile-out-kns.default")
  }

  @Test("An interface named by two endpoints belongs to the first by key, until that one goes")
  func sameInterface() throws {
    var rig = Rig()
    try rig.apply(
      .endpoint(endpointKey("a"), Self.endpoint("cali1")),
      .endpoint(endpointKey("b"), EndpointPlan(interfaceName: "cali1", addresses: [address("10.65.0.9")])))
    #expect(rig.driver.ruleset.elements["source4"]!.map { $0.key.suffix(4) } == [[10, 65, 0, 1]])
    try rig.apply(.endpointRemoved(endpointKey("a")))
    #expect(rig.driver.ruleset.elements["source4"]!.map { $0.key.suffix(4) } == [[10, 65, 0, 9]])
  }

  @Test("Where the MAC address is known it must be right; extra sources are prefixes of the interface, without overlap")
  func sources() throws {
    var rig = Rig()
    var endpoint = EndpointPlan(
      interfaceName: "cali1", mac: MACAddress("02:00:00:00:00:01"), addresses: [address("10.65.0.1"), address("fd00::1")])
    endpoint.allowedSources = [prefix("10.2.0.0/16"), prefix("10.2.3.0/24")]
    try rig.apply(.endpoint(endpointKey("a"), endpoint))
    let ruleset = rig.driver.ruleset
    func texts(_ set: String) -> [String] { (ruleset.elements[set] ?? []).map { RulesetText.element($0, ruleset.sets[set]!) } }
    #expect(texts("source-mac4") == ["\"cali1\" . 02:00:00:00:00:01 . 10.65.0.1"])
    #expect(texts("source-mac6") == ["\"cali1\" . 02:00:00:00:00:01 . fd00::1"])
    #expect(texts("source4").isEmpty && texts("source-nets4") == ["\"cali1\" . 10.2.0.0/16"])
  }
}

extension Rig {
  func endpointPlan(_ interface: String) -> EndpointPlan {
    GroupTests.endpoint(interface, ingress: [TierPlan(name: "default", policies: [policyKey("p")])])
  }
}

@Suite("Names")
struct NameTests {
  @Test("A rule's comment keeps its number, however long the policy's name")
  func comments() {
    #expect(KernelNames.comment(policyKey("web"), .ingress, rule: 1) == "NetworkPolicy default/web ingress rule 1")
    let long = KernelNames.comment(policyKey(String(repeating: "x", count: 200) + "end"), .egress, rule: 12)
    #expect(long.utf8.count <= 127 && long.hasSuffix("xend egress rule 12") && long.hasPrefix("NetworkPolicy default/xxx"))
  }

  @Test("Long names are cut and end in a digest of the whole")
  func long() {
    let a = KernelNames.policy(policyKey(String(repeating: "x", count: 253)), .ingress)
    let b = KernelNames.policy(policyKey(String(repeating: "x", count: 252) + "y"), .ingress)
    #expect(a != b && a.utf8.count < 256 && a.hasPrefix("policy-in-np/default/xxx"))
  }
}

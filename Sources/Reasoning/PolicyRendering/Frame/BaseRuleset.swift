/// The frame that every packet walks, whatever the number of endpoints; see `PolicyRenderer` for the picture. One file for each stage.

import Addresses
import HostPlans
import Resources
import Rulesets

struct BaseRuleset {
  var chains: [String: Chain] = [:]
  var sets: [String: SetSpec] = [:]
  var elements: [String: Set<SetElement>] = [:]
  let settings: HostSettings
  let needs: FrameNeeds
  /// Parts of the plan's sets that the frame looks into, by name.
  private(set) var uses: [String: SetSource] = [:]

  init(_ settings: HostSettings, _ needs: FrameNeeds = FrameNeeds()) {
    self.settings = settings
    self.needs = needs
    addEndpointSets()
    addSourceStage()
    addForwardStage()
    addHostStage()
    addHostEndpointStage()
    addLimitStage()
    addMarkingStage()
    addOpenStackStage()
    addTranslationStage()
    addTunnelStage()
    if settings.filter.deny == .reject {
      chains[KernelNames.reject] = Chain([
        ChainRule(.transport(6), .counter, .reject(.tcpReset)), ChainRule(.counter, .reject(.prohibited)),
      ])
    }
  }

  // MARK: What the stages have in common

  /// The end of a packet before any policy is asked.
  func drop(_ direction: Direction, _ words: String) -> [Statement] {
    [.counter] + (settings.filter.tellsDrops ? FlowPrefix(direction, .frame(words)).telling : []) + [.drop]
  }

  var hosts: HostFrame { needs.hosts }

  var families: [IPFamily] { settings.ipv6 ? [.v4, .v6] : [.v4] }

  func addressType(_ family: IPFamily) -> KeyType { family == .v4 ? .ipv4 : .ipv6 }

  /// The kernel's sets that hold the addresses of one family of a set of the plan; empty where it has none.
  mutating func parts(of id: IPSetID, _ family: IPFamily) -> [String] {
    [SetSource.hosts(id, family), .nets(id, family)].filter(needs.parts.contains).map {
      let name = $0.name!
      uses[name] = $0
      return name
    }
  }

  /// One rule for each prefix of workload interfaces.
  func each(_ field: Field, _ statements: Statement..., comment: String? = nil) -> [ChainRule] {
    settings.interfacePrefixes.map { ChainRule([.name(field, startsWith: $0)] + statements, comment: comment) }
  }

  /// Established traffic is decided first.
  var stateRules: [ChainRule] {
    var rules = [
      ChainRule(.connectionState(.established), .counter, .accept),
      ChainRule(.connectionState(.related), .jump(KernelNames.related)),
    ]
    if settings.filter.dropsInvalid {
      rules.append(ChainRule(.connectionState(.invalid), .counter, settings.denial, comment: "packet of no connection"))
    }
    return rules
  }

  /// A match of the messages in `neighbour-discovery`.
  var discovery: [Statement] { [.family(.v6), .transport(58), .lookup([.icmpType], set: KernelNames.neighbourDiscovery, negated: false)] }

  /// Before established traffic is let through: the flows to an unknown interface end as well.
  var unknownOutput: [ChainRule] {
    settings.interfacePrefixes.map {
      ChainRule(
        .name(.outputName, startsWith: $0), .lookup([.outputName], set: KernelNames.workloads, negated: true), .counter, settings.denial,
        comment: "to an interface of no known workload")
    }
  }

  private mutating func addEndpointSets() {
    typealias N = KernelNames
    sets[N.workloads] = SetSpec(.interfaceName, comment: "interfaces of known workloads: others of ours get no traffic")
    sets[N.dispatch(.ingress)] = SetSpec(.interfaceName, data: .verdict, comment: "policies for packets to each workload")
    sets[N.dispatch(.egress)] = SetSpec(.interfaceName, data: .verdict, comment: "policies for packets from each workload")
    for family in families {
      let type = addressType(family)
      sets[N.source(family)] = SetSpec(.interfaceName, type, comment: "addresses that a workload may send from")
      sets[N.sourceWithMAC(family)] = SetSpec(.interfaceName, .ether, type, comment: "the same, where the MAC address is known")
      sets[N.sourceNets(family)] = SetSpec(.interfaceName, type, isInterval: true, comment: "further prefixes that a workload may send from")
    }
    if settings.ipv6 {
      // Query, report and done of MLD; router solicitation; neighbour solicitation and advertisement. Not: router advertisement, redirect.
      sets[N.neighbourDiscovery] = SetSpec(.icmpv6Type)
      elements[N.neighbourDiscovery] = Set([130, 131, 132, 133, 135, 136].map { SetElement([$0]) })
    }
  }
}

/// The frame that every packet walks, whatever the number of endpoints; see `PolicyRenderer` for the picture.

import Addresses
import HostPlans
import Resources
import Rulesets

struct BaseRuleset {
  var chains: [String: Chain]
  var sets: [String: SetSpec]
  var elements: [String: Set<SetElement>]

  init(_ settings: HostSettings) {
    typealias N = KernelNames
    let prefixes = settings.interfacePrefixes
    let families: [IPFamily] = settings.ipv6 ? [.v4, .v6] : [.v4]
    func type(_ family: IPFamily) -> KeyType { family == .v4 ? .ipv4 : .ipv6 }

    sets = [
      N.workloads: SetSpec(.interfaceName, comment: "interfaces of known workloads: others of ours get no traffic"),
      N.dispatch(.ingress): SetSpec(.interfaceName, data: .verdict, comment: "policies for packets to each workload"),
      N.dispatch(.egress): SetSpec(.interfaceName, data: .verdict, comment: "policies for packets from each workload"),
    ]
    elements = [:]
    for family in families {
      sets[N.source(family)] = SetSpec(.interfaceName, type(family), comment: "addresses that a workload may send from")
      sets[N.sourceWithMAC(family)] = SetSpec(.interfaceName, .ether, type(family), comment: "the same, where the MAC address is known")
      sets[N.sourceNets(family)] = SetSpec(
        .interfaceName, type(family), isInterval: true, comment: "further prefixes that a workload may send from")
    }
    if settings.ipv6 {
      // Query, report and done of MLD; router solicitation; neighbour solicitation and advertisement. Not: router advertisement, redirect.
      sets[N.neighbourDiscovery] = SetSpec(.icmpv6Type)
      elements[N.neighbourDiscovery] = Set([130, 131, 132, 133, 135, 136].map { SetElement([$0]) })
    }

    func each(_ field: Field, _ statements: Statement..., comment: String? = nil) -> [ChainRule] {
      prefixes.map { ChainRule([.name(field, startsWith: $0)] + statements, comment: comment) }
    }
    let stateRules = [
      ChainRule(.connectionState(.established), .counter, .accept),
      ChainRule(.connectionState(.related), .jump(N.related)),
      ChainRule(.connectionState(.invalid), .counter, .drop, comment: "packet of no connection"),
    ]
    let discovery: [Statement] = [.family(.v6), .transport(58), .lookup([.icmpType], set: N.neighbourDiscovery, negated: false)]

    // Priority -300: behind defragmentation (-400), before connection tracking (-200). Every packet is seen, also of established
    // flows, before an entry is made for it; and what is seen is whole, so no fragment passes without its ports.
    var source: [ChainRule] = []
    if settings.ipv6 {
      for (kind, word) in [(134, "router advertisement"), (137, "redirect")] as [(UInt8, String)] {
        source.append(
          ChainRule(.family(.v6), .transport(58), .match(.icmpType, .equal, [kind]), .counter, .drop, comment: "\(word) from a workload"))
      }
    }
    for family in families {
      let address = Field.source(family)
      source += [
        ChainRule(
          .family(family), .match(.inputType, .equal, ArpHardware.ether),
          .lookup([.inputName, .etherSource, address], set: N.sourceWithMAC(family), negated: false), .counter, .accept),
        ChainRule(.family(family), .lookup([.inputName, address], set: N.source(family), negated: false), .counter, .accept),
        ChainRule(.family(family), .lookup([.inputName, address], set: N.sourceNets(family), negated: false), .counter, .accept),
      ]
    }
    if settings.ipv6 {
      for prefix in ["fe80::/10", "::/128"].compactMap({ IPPrefix($0) }) {
        source.append(
          ChainRule(
            [.family(.v6), .address(.source(.v6), in: prefix)] + discovery.dropFirst()
              + [.lookup([.inputName], set: N.workloads, negated: false), .counter, .accept],
            comment: "neighbour discovery"))
      }
    }
    source.append(ChainRule(.counter, .drop, comment: "source address is not of this workload"))

    // Named twice on purpose: the established flows of an unknown interface end as well.
    let unknownOutput = prefixes.map {
      ChainRule(
        .name(.outputName, startsWith: $0), .lookup([.outputName], set: N.workloads, negated: true), .counter, .drop,
        comment: "to an interface of no known workload")
    }
    let hostAction: ChainRule =
      switch settings.endpointToHostAction {
      case .drop: ChainRule(.counter, .drop, comment: "workload to host (DefaultEndpointToHostAction)")
      case .accept: ChainRule(.counter, .accept, comment: "workload to host (DefaultEndpointToHostAction)")
      case .return: ChainRule(.counter, .return, comment: "workload to host (DefaultEndpointToHostAction)")
      }

    // An error about a live connection passes, if its sender may know: a workload that is no end of the connection is asked for its
    // policy like anybody. A related connection, as helpers expect them, has its own source.
    var own: [ChainRule] = []
    for family in families {
      for end in [false, true].map({ Field.connectionEnd(isReply: $0, family) }) {
        own += [
          ChainRule(.family(family), .lookup([.inputName, end], set: N.source(family), negated: false), .counter, .accept),
          ChainRule(
            .family(family), .match(.inputType, .equal, ArpHardware.ether),
            .lookup([.inputName, .etherSource, end], set: N.sourceWithMAC(family), negated: false), .counter, .accept),
          ChainRule(.family(family), .lookup([.inputName, end], set: N.sourceNets(family), negated: false), .counter, .accept),
        ]
      }
    }

    let clear = ChainRule(.clearMarkBits(N.acceptMark | N.passMark))
    chains = [:]
    chains[N.sourceCheck] = Chain(hook: ChainHook(.prerouting, priority: -300), each(.inputName, .goto(N.workloadSource)))
    chains[N.workloadSource] = Chain(source)

    // To each workload's policies leads one path of each kind and no more: the kernel checks a new rule by walking all of them. So a packet
    // between two workloads of this host meets the cheap checks twice, and every policy stands once behind this hook.
    let policed = each(.inputName, .jump(N.forwardFrom)) + each(.outputName, .goto(N.forwardTo))
    chains[N.forward] = Chain(hook: ChainHook(.forward, priority: 0), policed)
    // Out of the egress policies a packet comes with their bit in its mark, which is theirs alone.
    chains[N.forwardFrom] = Chain(unknownOutput + stateRules + [ChainRule(.jump(N.fromWorkload)), clear])
    chains[N.forwardTo] = Chain(unknownOutput + stateRules + [ChainRule(.goto(N.toWorkload))])
    // Returns if policy shall decide.
    chains[N.related] = Chain(each(.inputName, .goto(N.relatedToOwn)) + [ChainRule(.counter, .accept)])
    chains[N.relatedToOwn] = Chain(own)
    // Returns if the workload's egress policy allows the packet; else the packet ends here.
    chains[N.fromWorkload] = Chain([
      clear,
      ChainRule(.verdictMap([.inputName], map: N.dispatch(.egress))),
      ChainRule(.counter, .drop, comment: "from an interface of no known workload"),
    ])
    chains[N.toWorkload] = Chain([
      ChainRule(.verdictMap([.outputName], map: N.dispatch(.ingress))),
      ChainRule(.counter, .drop, comment: "to an interface of no known workload"),
    ])

    chains[N.input] = Chain(hook: ChainHook(.input, priority: 0), each(.inputName, .goto(N.workloadToHost)))
    var toHost = stateRules
    if settings.ipv6 { toHost.append(ChainRule(discovery + [.counter, .accept], comment: "neighbour discovery")) }
    toHost += [ChainRule(.jump(N.fromWorkload)), clear, hostAction]
    chains[N.workloadToHost] = Chain(toHost)
    // The host's own packets to a known workload are never policed.
    chains[N.output] = Chain(hook: ChainHook(.output, priority: 0), unknownOutput)
  }
}

/// What the host forwards: from workloads, to workloads, both.

import Addresses
import HostPlans
import Resources
import Rulesets

extension BaseRuleset {
  mutating func addForwardStage() {
    typealias N = KernelNames
    // Two questions, two base chains: may it leave, may it enter. To each workload's policies leads one path of each kind and no more: the
    // kernel checks a new rule by walking all of them. What leads nowhere of ours meets the second chain with one comparison.
    chains[N.sentForward] = Chain(hook: ChainHook(.forward, priority: -1), each(.inputName, .goto(N.forwardFrom)))
    chains[N.forward] = Chain(hook: ChainHook(.forward, priority: 0), each(.outputName, .goto(N.forwardTo)) + serviceLoops())
    chains[N.forwardFrom] = Chain(packetRates(.egress) + stateRules + [ChainRule(.goto(N.fromWorkload))])
    chains[N.forwardTo] = Chain(packetRates(.ingress) + unknownOutput + stateRules + [ChainRule(.goto(N.toWorkload))])
    // Returns if policy shall decide.
    chains[N.related] = Chain(each(.inputName, .goto(N.relatedToOwn)) + [ChainRule(.counter, .accept)])
    chains[N.relatedToOwn] = Chain(relatedToOwn)
    // A packet that is on its way while a transaction is committed reads chains as they were and elements as they are: it may be led to a
    // chain that is new, and to it still empty. So elements jump, and behind them stands a drop: nothing passes by falling off an end.
    chains[N.fromWorkload] = Chain(
      connectionLimits(.egress) + tunnelsOfWorkloads + [
        ChainRule(.verdictMap([.inputName], map: N.dispatch(.egress))),
        ChainRule(.counter, settings.denial, comment: "from an interface of no known workload"),
      ])
    chains[N.toWorkload] = Chain(
      connectionLimits(.ingress) + [
        ChainRule(.verdictMap([.outputName], map: N.dispatch(.ingress))),
        ChainRule(.counter, settings.denial, comment: "to an interface of no known workload"),
      ])
  }

  /// An error about a live connection passes, if its sender may know: a workload that is no end of the connection is asked for its
  /// policy like anybody. A related connection, as helpers expect them, has its own source.
  private var relatedToOwn: [ChainRule] {
    typealias N = KernelNames
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
    return own
  }
}

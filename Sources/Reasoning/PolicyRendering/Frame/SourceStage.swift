/// What a workload may send from: before connection tracking, every packet.

import Addresses
import HostPlans
import Resources
import Rulesets

extension BaseRuleset {
  /// Priority -300: behind defragmentation (-400), before connection tracking (-200). Every packet is seen, also of established
  /// flows, before an entry is made for it; and what is seen is whole, so no fragment passes without its ports.
  mutating func addSourceStage() {
    typealias N = KernelNames
    var source = loopbackGuard
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
    source += sourcesOfInstances
    source.append(ChainRule(drop(.egress, "source address is not of this workload"), comment: "source address is not of this workload"))
    chains[N.sourceCheck] = Chain(hook: ChainHook(.prerouting, priority: -300), each(.inputName, .goto(N.workloadSource)) + hostSourceLast)
    chains[N.workloadSource] = Chain(source)
  }
}

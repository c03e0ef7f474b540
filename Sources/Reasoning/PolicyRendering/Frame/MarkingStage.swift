/// Packets that leave the cluster bear the code point that their workload asks for (DSCP, RFC 2474). Behind routing, before addresses are
/// translated: the source is still the workload's.

import Addresses
import HostPlans
import Rulesets

extension BaseRuleset {
  mutating func addMarkingStage() {
    guard needs.inhabited.contains(KernelNames.codePoints) else { return }
    sets[KernelNames.codePoints] = SetSpec(.interfaceName, data: .verdict, comment: "workloads that mark their packets")
    // A forwarded packet still knows the interface that it came from.
    chains[KernelNames.marking] = Chain(
      hook: ChainHook(.postrouting, priority: -150), [ChainRule(.verdictMap([.inputName], map: KernelNames.codePoints))])
    // What stays in the cluster goes on unmarked.
    chains[KernelNames.stayingInside] = Chain(
      families.flatMap { family in
        (parts(of: .networkPools, family) + parts(of: .hosts, family)).map {
          ChainRule(.family(family), .lookup([.destination(family)], set: $0, negated: false), .accept)
        }
      })
  }
}

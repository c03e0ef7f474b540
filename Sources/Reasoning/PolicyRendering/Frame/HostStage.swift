/// What is for the host itself, and what it sends.

import Addresses
import HostPlans
import Resources
import Rulesets

extension BaseRuleset {
  mutating func addHostStage() {
    typealias N = KernelNames
    chains[N.input] = Chain(hook: ChainHook(.input, priority: 0), each(.inputName, .goto(N.workloadToHost)))
    var toHost = packetRates(.egress) + stateRules
    if settings.ipv6 { toHost.append(ChainRule(discovery + [.counter, .accept], comment: "neighbour discovery")) }
    toHost += instancesToHost
    toHost += [ChainRule(.jump(N.fromWorkload)), clearMark, hostAction]
    chains[N.workloadToHost] = Chain(toHost)
    // The host's own packets to a known workload are never policed.
    chains[N.output] = Chain(hook: ChainHook(.output, priority: 0), unknownOutput)
  }

  private var hostAction: ChainRule {
    let verdict: Statement =
      switch settings.endpointToHostAction {
      case .drop: .drop
      case .accept: .accept
      case .return: .return
      }
    return ChainRule(.counter, verdict, comment: "workload to host (DefaultEndpointToHostAction)")
  }
}

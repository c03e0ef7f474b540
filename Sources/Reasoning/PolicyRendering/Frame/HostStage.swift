/// What is for the host itself, and what it sends.

import Addresses
import HostPlans
import Resources
import Rulesets

extension BaseRuleset {
  mutating func addHostStage() {
    typealias N = KernelNames
    var first = stateRules
    if settings.ipv6 { first.append(ChainRule(discovery + [.counter, .accept], comment: "neighbour discovery")) }
    first += instancesToHost
    chains[N.sentInput] = Chain(hook: ChainHook(.input, priority: -1), tunnelsOfStrangers + each(.inputName, .goto(N.inputFrom)))
    chains[N.inputFrom] = Chain(packetRates(.egress) + first + [ChainRule(.goto(N.fromWorkload))])
    chains[N.input] = Chain(hook: ChainHook(.input, priority: 0), each(.inputName, .goto(N.workloadToHost)) + hostInputLast)
    chains[N.workloadToHost] = Chain(first + [hostAction])
    // The host's own packets to a known workload are never policed.
    chains[N.output] = Chain(hook: ChainHook(.output, priority: 0), unknownOutput + hostOutputLast)
  }

  private var hostAction: ChainRule {
    let words = "workload to host (DefaultEndpointToHostAction)"
    let end: [Statement] =
      switch settings.endpointToHostAction {
      case .drop: drop(.egress, words)
      case .accept: [.counter, .accept]
      case .return: [.counter, .return]
      }
    return ChainRule(end, comment: words)
  }
}

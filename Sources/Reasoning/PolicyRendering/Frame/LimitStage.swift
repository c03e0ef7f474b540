/// Limits of single endpoints: packets per second, which every packet must pass, and connections, which a connection's first packet must.
/// The chains of an endpoint are made with its other parts (`EndpointLimits`); here is who leads there. Without limits there are no maps.

import HostPlans
import Resources
import Rulesets

extension BaseRuleset {
  mutating func addLimitStage() {
    for direction in Direction.allCases {
      let word = direction == .ingress ? "to" : "from"
      for (map, what) in [(KernelNames.packetRate(direction), "packet rates"), (KernelNames.connections(direction), "connection limits")]
      where needs.inhabited.contains(map) {
        sets[map] = SetSpec(.interfaceName, data: .verdict, comment: "\(what) of packets \(word) workloads")
      }
    }
  }

  /// Before established connections are accepted.
  func packetRates(_ direction: Direction) -> [ChainRule] { lead(direction, KernelNames.packetRate(direction)) }
  /// Before policy is asked.
  func connectionLimits(_ direction: Direction) -> [ChainRule] { lead(direction, KernelNames.connections(direction)) }

  private func lead(_ direction: Direction, _ map: String) -> [ChainRule] {
    guard needs.inhabited.contains(map) else { return [] }
    return [ChainRule(.verdictMap([direction == .ingress ? .outputName : .inputName], map: map))]
  }
}

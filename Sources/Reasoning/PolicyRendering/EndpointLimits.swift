/// What an endpoint's quality of service needs in the ruleset: chains of its own with limits and mark, and the elements that lead there.
///
/// A limit that changes gets its chain anew, and with it begins to count anew: packets within a second, connections until they end.

import Addresses
import HostPlans
import Resources
import Rulesets

struct EndpointLimits {
  var chains: [String: Chain] = [:]
  /// Map, and the verdict for the endpoint's interface.
  var leads: [(map: String, verdict: Verdict)] = []

  /// nft's own, where none is given.
  static let packetBurst: UInt32 = 5

  init(_ controls: QoSControls, interface: String) {
    for direction in Direction.allCases {
      let isIngress = direction == .ingress
      if let rate = controls.limits[isIngress ? .ingressPacketRate : .egressPacketRate] {
        let burst = controls.limits[isIngress ? .ingressPacketBurst : .egressPacketBurst].map { UInt32(clamping: $0) } ?? Self.packetBurst
        let limit = RateLimit(packets: UInt64(rate), perSeconds: 1, burst: burst, isOver: true)
        add(KernelNames.packetRate(direction), interface, [ChainRule(.limit(limit), .counter, .drop, comment: "\(direction.word)PacketRate")])
      }
      if let count = controls.limits[isIngress ? .ingressMaxConnections : .egressMaxConnections] {
        add(
          KernelNames.connections(direction), interface,
          [
            ChainRule(
              .transport(6), .connectionsAbove(UInt32(clamping: count)), .counter, .reject(.tcpReset),
              comment: "\(direction.word)MaxConnections")
          ])
      }
    }
    if let dscp = controls.dscp {
      let marks = IPFamily.allCases.map { ChainRule(.family($0), .counter, .setDSCP($0, dscp.value)) }
      add(KernelNames.codePoints, interface, [ChainRule(.jump(KernelNames.stayingInside))] + marks)
    }
  }

  private mutating func add(_ map: String, _ interface: String, _ rules: [ChainRule]) {
    let chain = "\(map)-\(interface)"
    chains[chain] = Chain(rules)
    leads.append((map, .jump(chain)))
  }
}

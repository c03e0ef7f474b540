/// Addresses of connections are translated: floating addresses and OpenStack's metadata on the way in, natOutgoing on the way out.
///
/// The kernel shows a connection's first packet to these chains and translates the rest by itself: an established packet pays nothing here,
/// and a change of pools concerns the connections that come after it. Policy stands behind the first translation and before the second,
/// so it sees the workload's own address in both directions.

import Addresses
import HostPlans
import Rulesets

extension BaseRuleset {
  mutating func addTranslationStage() {
    typealias N = KernelNames
    let floating = families.filter { needs.inhabited.contains(N.floating($0)) }
    for family in floating {
      let type = addressType(family)
      sets[N.floating(family)] = SetSpec(type, data: .value(type), comment: "floating addresses and what they lead to")
      sets[N.hairpin(family)] = SetSpec(type, type, data: .value(type), comment: "who reaches itself by its floating address")
    }
    let arriving = floating.map {
      ChainRule(.family($0), .translate(.destinationByMap([.destination($0)], map: N.floating($0), $0)))
    }
    let leaving = floating.map {
      // The workload would answer itself directly, without the translation back.
      ChainRule(.family($0), .translate(.sourceByMap([.source($0), .destination($0)], map: N.hairpin($0), $0)))
    }
    let outgoing = natOutgoing()
    // Before and behind kube-proxy's chains at -100 and 100, as with Calico.
    add(N.translateIn, ChainHook(.prerouting, priority: -100, .nat), arriving + metadataTranslation)
    add(N.translateLocal, ChainHook(.output, priority: -100, .nat), arriving)
    add(N.translateOut, ChainHook(.postrouting, priority: 110, .nat), leaving + outgoing)
    if !outgoing.isEmpty { chains[N.natOutgoing] = Chain(families.flatMap(sourceTranslation)) }
  }

  private mutating func add(_ name: String, _ hook: ChainHook, _ rules: [ChainRule]) {
    if !rules.isEmpty { chains[name] = Chain(hook: hook, rules) }
  }

  /// From a pool with natOutgoing to outside of all pools.
  private mutating func natOutgoing() -> [ChainRule] {
    families.flatMap { family -> [ChainRule] in
      let sources = parts(of: .masqueradedPools, family)
      guard !sources.isEmpty else { return [] }
      let spared = parts(of: .networkPools, family) + (settings.nat.sparesHosts ? parts(of: .hosts, family) : [])
      let outside = spared.map { Statement.lookup([.destination(family)], set: $0, negated: true) }
      return sources.map {
        ChainRule([.family(family), .lookup([.source(family)], set: $0, negated: false)] + outside + [.goto(KernelNames.natOutgoing)])
      }
    }
  }

  /// To the given address of the family, or else to that of the interface on the way out.
  private func sourceTranslation(_ family: IPFamily) -> [ChainRule] {
    let address = settings.nat.outgoingAddress.flatMap { $0.family == family ? $0 : nil }
    func translate(_ ports: ClosedRange<UInt16>?) -> Statement {
      .translate(address.map { .source($0, ports: ports) } ?? .masquerade(ports: ports))
    }
    let withPorts = settings.nat.ports.map { ports in
      ([6, 17, 132] as [UInt8]).map { ChainRule(.family(family), .transport($0), .counter, translate(ports), comment: "NATPortRange") }
    }
    return (withPorts ?? []) + [ChainRule(.family(family), .counter, translate(nil), comment: "natOutgoing")]
  }
}

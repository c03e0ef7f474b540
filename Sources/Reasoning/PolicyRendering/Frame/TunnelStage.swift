/// Tunnels belong to hosts. What a stranger on the underlay sends into one would come out as if a host of the cluster had sent it, with the
/// address of any workload; so only the hosts that this one has tunnels to are heard.
///
/// A workload that sends what looks like a host's tunnelled packet could put packets past every policy, inside: tunnels belong to hosts.

import Addresses
import HostPlans
import Resources
import Rulesets

extension BaseRuleset {
  mutating func addTunnelStage() {
    for family in families where needs.inhabited.contains(KernelNames.tunnelHosts(family)) {
      sets[KernelNames.tunnelHosts(family)] = SetSpec(addressType(family), comment: "hosts that may send by tunnel")
    }
  }

  /// On the way into the host, before anything is accepted.
  var tunnelsOfStrangers: [ChainRule] {
    func drop(_ family: IPFamily, _ matches: [Statement], _ word: String) -> ChainRule {
      let set = KernelNames.tunnelHosts(family)
      let stranger: [Statement] = needs.inhabited.contains(set) ? [.lookup([.source(family)], set: set, negated: true)] : []
      return ChainRule([.family(family)] + matches + stranger + [.counter, .drop], comment: "\(word) from no host of the cluster")
    }
    let port = settings.tunnels.vxlanPort
    var rules = families.filter { needs.tunnels.contains(.vxlan($0)) }.map {
      drop($0, [.transport(17), .port(.destinationPort, in: port...port)], "VXLAN")
    }
    if needs.tunnels.contains(.ipip) { rules.append(drop(.v4, [.transport(4)], "IPIP")) }
    return rules
  }

  /// The cluster's own tunnels are not what policies of a host's interfaces are about: what is inside meets policy on its own.
  func tunnelsAmongHosts(_ direction: Direction) -> [ChainRule] {
    families.flatMap { family -> [ChainRule] in
      let set = KernelNames.tunnelHosts(family)
      guard needs.inhabited.contains(set) else { return [] }
      let far = Statement.lookup([direction == .ingress ? .source(family) : .destination(family)], set: set, negated: false)
      func allow(_ matches: [Statement], _ word: String) -> ChainRule {
        ChainRule([.family(family)] + matches + [far, .counter, .accept], comment: "\(word) among the cluster's hosts")
      }
      func udp(_ port: UInt16, _ word: String) -> ChainRule { allow([.transport(17), .port(.destinationPort, in: port...port)], word) }
      var rules: [ChainRule] = []
      if needs.tunnels.contains(.vxlan(family)) { rules.append(udp(settings.tunnels.vxlanPort, "VXLAN")) }
      if needs.tunnels.contains(.wireguard(family)) { rules.append(udp(family == .v4 ? settings.tunnels.wireguardPort : settings.tunnels.wireguardPortV6, "WireGuard")) }
      if family == .v4, needs.tunnels.contains(.ipip) { rules.append(allow([.transport(4)], "IPIP")) }
      return rules
    }
  }

  /// Before policy is asked, for what workloads send.
  var tunnelsOfWorkloads: [ChainRule] {
    var rules: [ChainRule] = []
    if !settings.filter.allowsVXLANFromWorkloads {
      let port = settings.tunnels.vxlanPort
      rules.append(
        ChainRule(.transport(17), .port(.destinationPort, in: port...port), .counter, settings.denial, comment: "VXLAN from a workload"))
    }
    if !settings.filter.allowsIPIPFromWorkloads {
      rules.append(ChainRule(.transport(4), .counter, settings.denial, comment: "IPIP from a workload"))
    }
    return rules
  }
}

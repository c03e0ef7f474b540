/// A workload that sends what looks like a host's tunnelled packet could put packets past every policy, inside: tunnels belong to hosts.

import HostPlans
import Rulesets

extension BaseRuleset {
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

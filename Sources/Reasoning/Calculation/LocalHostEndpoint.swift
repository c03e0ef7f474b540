/// The host's own interfaces: what a host endpoint adds to the address sets, and which policies decide about it in which of its four lists.
///
/// Host endpoints of other hosts are only addresses and named ports. Which interface a host endpoint means is not decided here: interfaces
/// and their addresses are known beside the kernel only.
import Addresses
import HostPlans
import Resources

struct LocalHostEndpoint: Sendable {
  var spec: HostEndpointSpec
  var shape: LabelIndex.Shape
  init?(_ resource: Resource?) {
    guard let resource, case .hostEndpoint(let spec) = resource.spec else { return nil }
    self.spec = spec
    shape = LabelIndex.Shape(labels: resource.metadata.labels, parents: spec.profiles)
  }
  var holding: AddressSets.Holding {
    AddressSets.Holding(
      nets: spec.expectedIPs.map(\.hostPrefix),
      ports: spec.ports.map { WorkloadEndpointSpec.NamedPort(name: $0.name, protocol: $0.ipProtocol, port: $0.port) })
  }
}

extension HostCalculation {
  /// A policy is in one list: untracked, pre-DNAT, or normal; a normal one with `applyOnForward` is in the list for forwarded packets as
  /// well.
  func hostEndpointPlan(_ spec: HostEndpointSpec, matches: Set<Int>) -> HostEndpointPlan {
    func lists(_ belongs: (PolicySpec) -> Bool) -> TierLists {
      // Staged policies are asked for workloads' packets only.
      let tiers = tierPlans(matches.filter { !policies[$0].key.isStagedPolicy && belongs(policies[$0].spec) })
      return TierLists(ingress: tiers.ingress, egress: tiers.egress)
    }
    var plan = HostEndpointPlan(interfaceName: spec.interfaceName, expectedAddresses: Set(spec.expectedIPs).sorted())
    plan.normal = lists { !$0.isForHostsOnly }
    plan.forward = lists { !$0.isForHostsOnly && $0.applyOnForward }
    plan.untracked = lists(\.doNotTrack)
    // What leaves has its destination already: there is no egress before translation.
    plan.preDNAT = TierLists(ingress: lists { $0.preDNAT && !$0.doNotTrack }.ingress)
    plan.profiles = spec.profiles
    return plan
  }
}

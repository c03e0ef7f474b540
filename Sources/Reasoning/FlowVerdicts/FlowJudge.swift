/// Which connections through this host the plan in force denies.
public import Addresses
public import HostPlans
import Resources

public struct FlowJudge: Sendable {
  private let plan: HostPlan
  private let hostAddresses: Set<IPAddress>
  private let endpoints: [IPAddress: EndpointPlan]

  /// `hostAddresses`: the host's own; what it sends to its workloads is not asked of policy.
  public init(_ plan: HostPlan, hostAddresses: Set<IPAddress>) {
    self.plan = plan
    self.hostAddresses = hostAddresses
    var endpoints: [IPAddress: EndpointPlan] = [:]
    for endpoint in plan.endpoints.values {
      for address in endpoint.addresses where plan.routes[address.hostPrefix] == .workload(interfaceName: endpoint.interfaceName) {
        endpoints[address] = endpoint
      }
    }
    self.endpoints = endpoints
  }

  /// The verdicts of the workloads of this host at its ends, in the order in which they are asked. Empty: policy of workloads has no say.
  public func verdicts(_ flow: Flow) -> [PlanVerdict] {
    if flow.family == .v6, !plan.settings.ipv6 { return [] }
    let (source, destination) = (endpoints[flow.source], endpoints[flow.destination])
    if let source, source.interfaceName == destination?.interfaceName { return [] }
    var verdicts: [PlanVerdict] = []
    if let source {
      verdicts.append(plan.verdict(flow, .egress, at: source))
      if !verdicts[0].isAllowed { return verdicts }
    }
    if let destination, !hostAddresses.contains(flow.source) { verdicts.append(plan.verdict(flow, .ingress, at: destination)) }
    return verdicts
  }

  public func denies(_ flow: Flow) -> Bool { verdicts(flow).contains { !$0.isAllowed } }
}

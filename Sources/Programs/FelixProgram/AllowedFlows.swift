/// Allowed connections of this host's workloads, told when they begin and when they end, while somebody listens.
///
/// No rule is the slower for it: connection tracking knows the connections, and the plan in force says which policy allowed each. It is
/// read once a second, or less often where reading takes long; one that begins and ends between two readings is not told of. Packets
/// and octets are there where the kernel counts them, which is switched on with the first listener (nf_conntrack_acct).
import FlowReader
import FlowVerdicts
import HostPlans
import Logging
import NetlinkEdge
import Resources
import Sockets

/// What a reading found, beside the one before.
struct FlowChanges: Sendable {
  var begun: [(flow: TrackedFlow, verdict: PlanVerdict)] = []
  var ended: [(flow: TrackedFlow, verdict: PlanVerdict)] = []
}

/// The connections that are known, from reading to reading.
struct AllowedFlows: Sendable {
  /// More are not followed.
  static let flowsMax = 20_000
  private var known: [[UInt8]: (flow: TrackedFlow, verdict: PlanVerdict)] = [:]
  private var isFirst = true

  init() {}

  /// What there is at the first reading has begun before anybody listened, and is told at its end only.
  mutating func read(_ plan: HostPlan, namespace: NetworkNamespace?) throws(NetlinkError) -> FlowChanges {
    let own = Set(try RouteNetlink(namespace: namespace).addresses().map(\.address.address))
    let judge = FlowJudge(plan, hostAddresses: own)
    var changes = FlowChanges()
    var seen: [[UInt8]: (flow: TrackedFlow, verdict: PlanVerdict)] = [:]
    _ = try ConntrackTable(namespace: namespace?.descriptor.borrowed).flows { flow in
      let identity = flow.identity
      if let old = known[identity] {
        seen[identity] = (flow, old.verdict)
      } else if seen.count < Self.flowsMax, let verdict = judge.verdicts(flow.flow).last, verdict.isAllowed {
        seen[identity] = (flow, verdict)
        if !isFirst { changes.begun.append((flow, verdict)) }
      }
      return false
    }
    for (identity, last) in known where seen[identity] == nil { changes.ended.append(last) }
    known = seen
    isFirst = false
    return changes
  }
}

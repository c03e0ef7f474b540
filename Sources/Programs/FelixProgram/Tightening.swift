/// Established connections end when the rules no longer allow them (FelixConfiguration `margayFlowFlush: Enabled`).
///
/// Established traffic is accepted before policy is asked, so a tightened rule stops new connections only. With this setting each change of
/// policies, sets or endpoints is followed, once the kernel has it, by a walk through connection tracking: what a workload of this host began
/// or was sent is judged anew by the plan in force, and what is denied is forgotten.
///
/// Hazards and the answers:
/// - Never an allowed connection: what policy was not asked about (the host's own connections, helpers' children) is left alone, as is
///   everything between ends that are no workloads of this host; the entry is named with its id.
/// - The next packet of a forgotten TCP connection would be picked up as the beginning of one, perhaps from its other end, which policy may
///   allow: while the setting is on, only a SYN begins a connection (nf_conntrack_tcp_loose is 0).
/// - Many connections take a while: the walk is not on the agent's thread, and of the plans that come meanwhile only the last one counts.
import Addresses
import FlowReader
import FlowVerdicts
import HostPlans
import Logging
import NetlinkEdge
import Resources
import Sockets
import Synchronization

final class Tightening: Sendable {
  private struct State {
    var next: HostPlan?
    var isWalking = false
    var ended = 0
    /// The plan has changed, and the kernel has not heard of it yet.
    var isDue = false
    var onlySYNBegins = false
  }
  private let state = Mutex(State())
  private let namespace: NetworkNamespace?
  private let log: Logger

  init(namespace: NetworkNamespace?, log: Logger) {
    self.namespace = namespace
    self.log = log
  }

  /// Connections ended so far.
  var ended: Int { state.withLock(\.ended) }

  /// Whether these changes may deny what was allowed.
  static func concerns(_ changes: [HostPlanChange]) -> Bool {
    changes.contains { change in
      switch change {
      case .policy, .policyRemoved, .ipSet, .ipSetMembers, .ipSetRemoved, .endpoint, .settings: true
      default: false
      }
    }
  }

  /// After each round: `plan` is what the kernel shall have, and has if `isCommitted`.
  func follow(_ changes: [HostPlanChange], _ plan: HostPlan, isCommitted: Bool) {
    let isWanted = plan.settings.filter.flushesFlows
    if state.withLock({ $0.onlySYNBegins }) != isWanted {
      do {
        let (value, key) = (isWanted ? "0" : "1", "netfilter/nf_conntrack_tcp_loose")
        _ = try (namespace.map { try $0.ensureSysctl(value, key) } ?? Sysctls.ensure(value, key))
        state.withLock { $0.onlySYNBegins = isWanted }
      } catch { log.error("margayFlowFlush: \(error); connections that end may be taken up again from their other end") }
    }
    let isDue = state.withLock { state in
      state.isDue = state.isDue || Self.concerns(changes)
      defer { if isCommitted { state.isDue = false } }
      return isCommitted && state.isDue
    }
    if isDue, isWanted { begin(plan) }
  }

  private func begin(_ plan: HostPlan) {
    let begins = state.withLock { state in
      state.next = plan
      defer { state.isWalking = true }
      return !state.isWalking
    }
    if begins { Task.detached { self.walk() } }
  }

  private func walk() {
    while true {
      let plan = state.withLock { state in
        let next = state.next.take()
        if next == nil { state.isWalking = false }
        return next
      }
      guard let plan else { return }
      do throws(NetlinkError) {
        // What is the host's own is asked each time: its addresses may have changed.
        let own = Set(try RouteNetlink(namespace: namespace).addresses().map(\.address.address))
        let judge = FlowJudge(plan, hostAddresses: own)
        let table = try ConntrackTable(namespace: namespace?.descriptor.borrowed)
        let denied = try table.flows { !$0.isExpected && judge.denies($0.flow) }
        guard !denied.isEmpty else { continue }
        let ended = try table.end(denied)
        state.withLock { $0.ended += ended }
        log.notice("\(ended) established connections that the rules no longer allow have ended")
      } catch {
        log.error("ending connections that the rules no longer allow: \(error)")
      }
    }
  }
}

/// What Felix counts, and how it says so: Calico's names where Calico counts the same, `margay_…` for the rest.
///
/// Calico's timings are summaries; ours have a sum and a count, which is what a rate needs.
import Datastore
import HealthServer
import HostPlans
import MetricsText
import Resources
import Sockets

/// Counted on the loop's thread.
struct AgentCounts {
  private(set) var events = 0
  private(set) var resyncs = 0
  private(set) var planChanges = 0
  private(set) var failures = 0
  private(set) var calculation = Summary()
  private(set) var application = Summary()
  private(set) var latency = Histogram.latency
  /// The arrival of the first event that is not in the kernel yet.
  private var waitingSince: MonotonicInstant?

  mutating func receive(_ batch: [FeedEvent]) {
    for event in batch {
      switch event {
      case .resource, .unreadable, .raw:
        events += 1
        if waitingSince == nil { waitingSince = .now }
      case .inSync, .connection(nil): resyncs += 1
      case .revision, .connection: break
      }
    }
  }
  mutating func calculated(_ changes: Int, since began: MonotonicInstant) {
    planChanges += changes
    calculation.observe(Self.seconds(.now - began))
  }
  mutating func roundEnded(_ began: MonotonicInstant, areRulesRight: Bool) {
    application.observe(Self.seconds(.now - began))
    guard areRulesRight else {
      failures += 1
      return
    }
    if let since = waitingSince { latency.observe(Self.seconds(.now - since)) }
    waitingSince = nil
  }
  private static func seconds(_ duration: Duration) -> Double { Double(duration.wholeNanoseconds) / 1e9 }
}

extension FelixAgent {
  func metrics() -> String {
    var page = MetricsPage()
    page.gauge("felix_active_local_endpoints", "Endpoints of this host.", plan.endpoints.count)
    page.gauge("felix_active_local_policies", "Policies and profiles in use on this host.", plan.policies.count)
    page.gauge("felix_active_local_selectors", "Selectors whose addresses are in use on this host.", plan.ipSets.count)
    page.gauge("felix_cluster_num_workload_endpoints", "Workload endpoints of the whole cluster.", holders.count)
    page.gauge("felix_ipsets_calico", "Sets of addresses in the kernel.", plan.ipSets.count)
    page.counter("felix_calc_graph_updates_processed", "Changes of the datastore that were taken in.", counts.events)
    page.counter("felix_calc_graph_output_events", "Changes of the host's plan.", counts.planChanges)
    page.summary("felix_calc_graph_update_time_seconds", "Time to compute the host's plan anew, per round.", counts.calculation)
    page.summary("felix_int_dataplane_apply_time_seconds", "Time of a whole round: plan, rules, interfaces and routes.", counts.application)
    page.counter("felix_int_dataplane_failures", "Rounds whose rules the kernel refused; they are tried again.", counts.failures)
    page.counter("felix_resyncs_started", "Times the datastore was read as a whole.", counts.resyncs)
    page.gauge(
      "felix_resync_state", "The datastore: 0 is not reached, 1 is being read, 2 is followed.",
      datastoreProblem != nil ? 0 : isInSync ? 2 : 1)
    page.gauge("margay_felix_datastore_connected", "1 when the datastore answers.", datastoreProblem == nil ? 1 : 0)
    page.gauge("margay_felix_rules_committed", "1 when the kernel holds the rules that are wanted.", areRulesRight ? 1 : 0)
    page.counter("margay_felix_rounds_total", "Rounds from the datastore to the kernel.", rounds)
    page.counter("margay_felix_kernel_changes_total", "Rules, set elements, interfaces and routes changed in the kernel.", kernelChanges)
    page.histogram(
      "margay_felix_datastore_to_kernel_seconds", "From a change's arrival in Felix to its being in the kernel.", counts.latency)
    let states = reporter?.counts ?? [:]
    for state in [EndpointStatus.State.up, .down, .error] {
      page.gauge("margay_felix_endpoints", "Endpoints of this host by status.", states[state] ?? 0, ["state": state.rawValue])
    }
    let status = hostStatus()
    page.gauge("margay_felix_problems", "Errors met while configuring the host that stand now.", status.problems.count)
    page.gauge("margay_felix_findings", "Objects that cannot be enforced as they are written.", status.findings.count)
    page.counter("margay_felix_status_writes_total", "Status keys written to the datastore.", reporter?.leased.writes ?? 0)
    addDatastoreMetrics(&page)
    if settings.flag("prometheusProcessMetricsEnabled") ?? true { ProcessMetrics.add(to: &page) }
    return page.text
  }
}

/// What Felix counts, and how it says so: Calico's names where Calico counts the same, `margay_…` for the rest.
///
/// Calico's timings are summaries; ours have a sum and a count, which is what a rate needs.
import Datastore
import FlowReader
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
  /// The same by what changed.
  private(set) var latencies: [String: Histogram] = [:]
  /// The arrival of the first event that is not in the kernel yet, of all and by what it is about.
  private var waitingSince: MonotonicInstant?
  private var waiting: [String: MonotonicInstant] = [:]

  mutating func receive(_ batch: [FeedEvent]) {
    for event in batch {
      switch event {
      case .resource, .unreadable, .raw:
        events += 1
        let now = MonotonicInstant.now
        if waitingSince == nil { waitingSince = now }
        let subject = Self.subject(event)
        if waiting[subject] == nil { waiting[subject] = now }
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
    for (subject, since) in waiting { latencies[subject, default: .latency].observe(Self.seconds(.now - since)) }
    waiting = [:]
  }

  private static func subject(_ event: FeedEvent) -> String {
    let key: ResourceKey? =
      switch event {
      case .resource(let key, _), .unreadable(let key, _): key
      default: nil
      }
    guard let key else { return "block" }
    return switch key.kind {
    case .workloadEndpoint, .hostEndpoint, .liveMigration: "endpoint"
    case .networkPolicy, .globalNetworkPolicy: "policy"
    case .stagedNetworkPolicy, .stagedGlobalNetworkPolicy, .stagedKubernetesNetworkPolicy: "staged policy"
    case .networkSet, .globalNetworkSet, .kubernetesEndpointSlice: "set"
    case .profile: "profile"
    case .tier: "tier"
    case .felixConfiguration: "configuration"
    default: "other"
    }
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
    for (subject, histogram) in counts.latencies.sorted(by: { $0.key < $1.key }) {
      page.histogram(
        "margay_felix_programming_seconds", "The same, by what changed in the datastore.", histogram, ["kind": subject])
    }
    addSizes(to: &page)
    ruleMetrics.add(to: &page)
    page.counter("margay_felix_drops_told_total", "Dropped packets of which the kernel told.", flowLog.counts.packets)
    page.counter("margay_felix_drops_lost_total", "Dropped packets of which the kernel told and nobody heard.", flowLog.counts.lost + flowLog.unrecorded)
    page.counter("margay_felix_drop_floods_total", "Times so many packets were dropped that the kernel told of a part only.", flowLog.counts.overruns)
    page.counter("margay_felix_flows_ended_total", "Established connections ended because the rules no longer allow them.", tightening.ended)
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

extension FelixAgent {
  private func addSizes(to page: inout MetricsPage) {
    let ipSets = plan.ipSets.values
    page.gauge("margay_felix_set_members", "Addresses, networks and ports in the sets of this host.", ipSets.reduce(0) { $0 + $1.members.count })
    page.gauge("margay_felix_rules", "Rules of policies and profiles of this host.", plan.policies.values.reduce(0) { $0 + $1.ingress.count + $1.egress.count })
    page.gauge("margay_felix_routes", "Routes that this host shall have.", plan.routes.count)
  }
}

/// Felix's health. Alive: the loop's thread answers. Ready: the datastore has been read once and the kernel holds the rules.
import Datastore
import HealthServer
import Names
import Resources
import Sockets
import Synchronization

extension FelixAgent {
  func readinessReport() -> HealthReport {
    var datastore = HealthReport.Reporter("datastore")
    if !isInSync {
      datastore.fault = "not read completely since the start: \(datastoreProblem ?? "reading")"
    } else if let datastoreProblem {
      // The kernel keeps what it has; a host that stops taking traffic because the datastore is away would make an outage of it.
      datastore.note = "\(datastoreProblem); the kernel keeps its last good state"
    }
    var rules = HealthReport.Reporter("rules")
    if !areRulesRight {
      rules.fault = isInSync ? problems.first { $0.hasPrefix("nftables") } ?? "not in the kernel" : "waiting for the datastore"
    }
    let status = reporter?.leased.problem
    return HealthReport([.init("loop"), datastore, rules, .init("status", note: status)] + (hostFiles?.mtu.fault.map { [.init("mtu", fault: $0)] } ?? []))
  }

  /// The pages of the agent that lives behind `mailbox`; `agent` is called on its thread only.
  static func pages(_ mailbox: EventLoop.Mailbox, _ patience: ProbePatience, _ agent: @escaping @Sendable () -> FelixAgent) -> HealthServer.Pages {
    @Sendable func hung() -> HealthReport { HealthReport([.init("loop", fault: "felix has not answered within \(patience.limit)")]) }
    return HealthServer.Pages(
      liveness: { await mailbox.ask(within: patience.limit) { HealthReport([.init("loop")]) } ?? hung() },
      readiness: { await mailbox.ask(within: patience.limit) { agent().readinessReport() } ?? hung() },
      metrics: { await mailbox.ask(within: patience.limit) { agent().metrics() } })
  }
}

/// How long a probe waits for the loop, changed in place by healthTimeoutOverrides.
final class ProbePatience: Sendable {
  /// Below the ten seconds that kubelets give, above what a full reading-back of a large host takes.
  static let usual: Duration = .seconds(5)
  private let current = Mutex(ProbePatience.usual)
  var limit: Duration { current.withLock { $0 } }

  /// The one part of Felix that can hang is its loop; Calico's names of parts mean nothing here.
  func adopt(_ settings: FelixConfigurationSpec) {
    var limit = Self.usual
    if case .timeouts(let timeouts)? = settings.values["healthTimeoutOverrides"], let own = timeouts.last(where: { $0.name == "loop" }),
      let duration = GoDuration.parse(own.timeout), duration > .zero
    {
      limit = duration
    }
    current.withLock { $0 = limit }
  }
}

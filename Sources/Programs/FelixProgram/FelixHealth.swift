/// Felix's health. Alive: the loop's thread answers. Ready: the datastore has been read once and the kernel holds the rules.
import Datastore
import HealthServer
import Sockets

extension FelixAgent {
  /// The one deadline of a probe. Below the ten seconds that kubelets give, above what a full reading-back of a large host takes.
  static let answerWithin: Duration = .seconds(5)

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
    return HealthReport([.init("loop"), datastore, rules, .init("status", note: status)])
  }

  /// The pages of the agent that lives behind `mailbox`; `agent` is called on its thread only.
  static func pages(_ mailbox: EventLoop.Mailbox, _ agent: @escaping @Sendable () -> FelixAgent) -> HealthServer.Pages {
    let hung = HealthReport([.init("loop", fault: "felix has not answered within \(answerWithin)")])
    return HealthServer.Pages(
      liveness: { await mailbox.ask(within: answerWithin) { HealthReport([.init("loop")]) } ?? hung },
      readiness: { await mailbox.ask(within: answerWithin) { agent().readinessReport() } ?? hung },
      metrics: { await mailbox.ask(within: answerWithin) { agent().metrics() } })
  }
}

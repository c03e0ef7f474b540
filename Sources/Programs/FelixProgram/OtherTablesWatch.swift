/// Tells of others' tables that drop what policy allows, soon after they change.
import Logging
import NetlinkEdge
import RulesetDriver
import Sockets

/// On the loop's thread. Others (kube-proxy) may write their tables many times a second: one look follows a change after `delay`.
final class OtherTablesWatch {
  private let loop: EventLoop
  private let namespace: NetworkNamespace?
  private let delay: Duration
  private let log: Logger
  private var due: EventLoop.TimerHandle?
  private(set) var problems: [String] = []
  /// Called when `problems` became others.
  var onChange: () -> Void = {}

  init(_ loop: EventLoop, _ namespace: NetworkNamespace?, delay: Duration = .milliseconds(500), log: Logger) {
    self.loop = loop
    self.namespace = namespace
    self.delay = delay
    self.log = log
  }

  func look(prefixes: [String]) {
    let before = problems
    do {
      problems = try OtherTables.dropping(namespace: namespace?.descriptor.borrowed, prefixes: prefixes).map { chain in
        let rule = chain.chain == "FORWARD" ? "iptables -I FORWARD" : "nft insert rule \(chain.family) \(chain.table) \(chain.chain)"
        let (from, to) = chain.chain == "FORWARD" ? ("-i \(prefixes[0])+ -j ACCEPT", "-o \(prefixes[0])+ -j ACCEPT")
          : ("iifname \"\(prefixes[0])*\" accept", "oifname \"\(prefixes[0])*\" accept")
        return "\(chain); let workloads through there: `\(rule) \(from)` and `\(rule) \(to)`"
      }
    } catch {
      // A kernel that tells nothing of others' tables: nothing is known, and nothing is claimed.
      problems = []
    }
    guard problems != before else { return }
    for problem in problems { log.warning("\(problem)") }
    onChange()
  }
  func lookSoon(prefixes: [String]) {
    guard due?.isPending != true else { return }
    due = loop.schedule(after: delay) { [unowned self] in look(prefixes: prefixes) }
  }
}

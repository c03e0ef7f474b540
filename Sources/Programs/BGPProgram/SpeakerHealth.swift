/// The speaker's health. Alive: the loop's thread answers. Ready: Calico's rule, and who is missing is named.
///
/// Right after a start, peers are waited for: until all are up, or the time for it is over. From then on one session is enough. A host
/// that stays ready with one peer of many is what Calico's users expect, since a peer's fault is not this host's; the answer says all the
/// same who is missing.
import BGPSessions
import HealthServer
import Sockets

struct BGPReadiness {
  struct PeerState {
    var name: String
    var peer: String
    var isEstablished: Bool
    /// Why the last session ended, or none came up.
    var lastError: String?
  }
  /// How long after the start all peers are waited for.
  static let patience: Duration = .seconds(30)

  /// Nil: there is no Node object with a BGP address.
  var peers: [PeerState]?
  var datastoreProblem: String?
  var isInSync: Bool
  /// Routes of the last run wait for peers (RFC 4724).
  var isRestarting: Bool
  var sinceStart: Duration

  func report() -> HealthReport {
    var reporters: [HealthReport.Reporter] = [.init("loop")]
    guard isInSync else {
      let why = datastoreProblem ?? "reading"
      return HealthReport(reporters + [.init("datastore", fault: "not read completely since the start: \(why)")])
    }
    reporters.append(.init("datastore", note: datastoreProblem.map { "\($0); sessions and routes stay" }))
    guard let peers else {
      return HealthReport(reporters + [.init("peers", note: "this node has no BGP address, so no sessions")])
    }
    let missing = peers.filter { !$0.isEstablished }
    let names = missing.map { "\($0.name) (\($0.peer)\($0.lastError.map { ": \($0)" } ?? ""))" }.joined(separator: ", ")
    let count = "\(peers.count - missing.count) of \(peers.count) sessions are established"
    var sessions = HealthReport.Reporter("peers", note: missing.isEmpty ? count : "\(count); missing: \(names)")
    if sinceStart < Self.patience, !missing.isEmpty || isRestarting {
      sessions = .init(
        "peers", fault: missing.isEmpty ? "peers have not told all their routes since the restart" : "just started; missing: \(names)")
    } else if !peers.isEmpty, missing.count == peers.count {
      sessions = .init("peers", fault: "no session is established; missing: \(names)")
    }
    return HealthReport(reporters + [sessions])
  }
}

extension Speaker {
  func readiness(isInSync: Bool, datastoreProblem: String?, sinceStart: Duration) -> HealthReport {
    let states = peers.values.sorted { $0.plan.name < $1.plan.name }.map {
      BGPReadiness.PeerState(
        name: $0.plan.name, peer: "\($0.plan.peer)", isEstablished: $0.session.state == .established,
        lastError: $0.session.lastError?.text)
    }
    return BGPReadiness(
      peers: plan == nil ? nil : states, datastoreProblem: datastoreProblem, isInSync: isInSync, isRestarting: isDeferring,
      sinceStart: sinceStart
    ).report()
  }
}

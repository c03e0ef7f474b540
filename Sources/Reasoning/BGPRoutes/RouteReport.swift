/// What the tables hold, for people: every path with its standing and the reason.

import Addresses
import BGPMessages

/// One path to one prefix.
public struct RouteReport: Hashable, Sendable {
  public var prefix: IPPrefix
  /// `.local` for a route of this host.
  public var from: PeerID
  /// Nil for a route of this host.
  public var nextHop: IPAddress?
  public var asPath: String
  public var localPreference: UInt32
  public var isBest: Bool
  public var isStale: Bool
  /// Its next hop is among those in the forwarding table.
  public var isForwarding: Bool
  /// Why it is the best, or why it is not.
  public var reason: String
}

/// Numbers of one peer.
public struct RouteCounts: Hashable, Sendable {
  public var received = 0
  public var accepted = 0
  public var stale = 0
  public var advertised = 0
  public init(received: Int = 0, accepted: Int = 0, stale: Int = 0, advertised: Int = 0) {
    self.received = received
    self.accepted = accepted
    self.stale = stale
    self.advertised = advertised
  }
}

extension RoutingTable {
  public func counts(of id: PeerID) -> RouteCounts {
    guard let state = peers[id] else { return RouteCounts() }
    var counts = RouteCounts(received: state.received, accepted: state.accepted, stale: state.stale)
    if state.isUp, !groups[state.group].joining.contains(id) {
      counts.advertised = groups[state.group].announced.count { $0.attributes >= 0 && $0.source != id }
    }
    return counts
  }

  /// Prefixes with at least one path.
  public var prefixCount: Int { entries.count { !$0.isFree && $0.paths >= 0 } }
  public var attributeSetCount: Int { arena.count }

  /// Every path, in order of prefixes, the best first.
  public func report() -> [RouteReport] {
    var result: [RouteReport] = []
    for entry in entries where !entry.isFree {
      let installed = Set(addresses(ofSet: entry.installed))
      var path = entry.paths
      while path >= 0 {
        let item = paths[Int(path)]
        let attributes = arena[item.attributes]
        let isLocal = item.peer == .local
        result.append(
          RouteReport(
            prefix: entry.prefix.prefix, from: item.peer, nextHop: isLocal ? nil : attributes.nextHop.address,
            asPath: attributes.asPath.description, localPreference: attributes.localPreference ?? 100, isBest: path == entry.best,
            isStale: item.isStale, isForwarding: !isLocal && item.rejection == .none && installed.contains(attributes.nextHop.address),
            reason: reason(path, entry)))
        path = item.next
      }
    }
    return result.sorted { ($0.prefix, $0.isBest ? 0 : 1, $0.from) < ($1.prefix, $1.isBest ? 0 : 1, $1.from) }
  }

  private func reason(_ path: Int32, _ entry: Entry) -> String {
    if path == entry.best { return entry.because.description }
    let item = paths[Int(path)]
    if item.rejection != .none { return item.rejection.description }
    guard let candidate = candidate(path) else { return "next hop not reachable" }
    guard entry.best >= 0, let best = self.candidate(entry.best) else { return "not decided yet" }
    var decision = Decision()
    decision.candidates = [best, candidate]
    let outcome = decision.decide()
    // A pair may disagree with the whole set where MED is concerned.
    guard let outcome, outcome.path == entry.best else { return "another path lost to it by MED" }
    return "the best has \(outcome.because)"
  }
}

/// What the speaker says of itself: one JSON document, for `margay node status`, the lab, and people with `socat`.

import Addresses
import BGPMessages
import BGPRoutes
import BGPSessions
import JSON

extension Speaker {
  /// - Parameter limit: at most so many routes are listed; `routeCount` tells how many there are.
  public func status(routeLimit limit: Int = 10_000) -> JSONValue {
    let report = table.report()
    let names = Dictionary(peers.values.map { ($0.id, $0.plan.name) }, uniquingKeysWith: { first, _ in first })
    return JSONValue.object(
      JSONObject([
        .init("routerID", plan.map { .string($0.routerID.description) } ?? .null),
        .init("clusterID", plan?.clusterID.map { .string($0.description) } ?? .null),
        .init("isReady", .bool(plan != nil)),
        .init("isRestart", .bool(isRestart)),
        .init("isDeferring", .bool(isDeferring)),
        .init("kernelChanges", .integer(Int64(kernelChanges))),
        .init("sessions", .array(peers.values.sorted { $0.plan.name < $1.plan.name }.map { $0.status(table.counts(of: $0.id)) })),
        .init("routeCount", .integer(Int64(report.count))),
        .init("routes", .array(report.prefix(limit).map { route in
          .object(
            JSONObject([
              .init("prefix", .string(route.prefix.description)),
              .init("nextHop", route.nextHop.map { .string($0.description) } ?? .null),
              .init("from", .string(route.from == .local ? "local" : names[route.from] ?? "\(route.from)")),
              .init("asPath", .string(route.asPath)),
              .init("localPreference", .integer(Int64(route.localPreference))),
              .init("best", .bool(route.isBest)),
              .init("stale", .bool(route.isStale)),
              .init("installed", .bool(route.isForwarding)),
              .init("reason", .string(route.reason)),
            ]))
        })),
        .init("problems", .array((storedProblems + (plan?.problems ?? []) + problems).map { .string($0) })),
      ]))
  }
}

extension Peer {
  func status(_ counts: RouteCounts) -> JSONValue {
    let now = Instant.monotonic
    return .object(
      JSONObject([
        .init("name", .string(plan.name)),
        .init("kind", .string(plan.kind.rawValue)),
        .init("peer", .string(plan.peer.description)),
        .init("port", .integer(Int64(plan.port))),
        .init("peerAS", .integer(Int64(plan.peerAS.rawValue))),
        .init("localAS", .integer(Int64(plan.localAS.rawValue))),
        .init("localAddress", (session.negotiated?.localAddress ?? plan.localAddress).map { .string($0.description) } ?? .null),
        .init("isPassive", .bool(plan.isPassive)),
        .init("isReflectorClient", .bool(plan.isReflectorClient)),
        .init("state", .string(session.state.description)),
        .init("sinceSeconds", .integer(session.stateSince.duration(to: now).components.seconds)),
        .init("peerRouterID", session.negotiated.map { .string($0.peerRouterID.description) } ?? .null),
        .init("holdTimeSeconds", session.negotiated.map { .integer($0.holdTime.components.seconds) } ?? .null),
        .init("gracefulRestart", .bool(session.negotiated?.gracefulRestart != nil)),
        .init("received", .integer(Int64(counts.received))),
        .init("accepted", .integer(Int64(counts.accepted))),
        .init("stale", .integer(Int64(counts.stale))),
        .init("advertised", .integer(Int64(counts.advertised))),
        .init("updatesReceived", .integer(Int64(session.counters.updatesIn))),
        .init("octetsReceived", .integer(Int64(session.counters.octetsIn))),
        .init("octetsSent", .integer(Int64(session.counters.octetsOut))),
        .init("timesEstablished", .integer(Int64(session.counters.established))),
        .init("lastError", session.lastError.map { .string($0.text) } ?? .null),
        .init(
          "lastErrorSecondsAgo", session.lastError.map { .integer($0.at.duration(to: now).components.seconds) } ?? .null),
      ]))
  }
}

/// What the speaker counts. Calico's BIRD tells no metrics; the names are ours.
import BGPMessages
import BGPRoutes
import BGPSessions
import HealthServer
import MetricsText
import Sockets

extension PeerSession.State {
  /// The numbers of BGP4-MIB (RFC 4273, bgpPeerState).
  fileprivate var number: Int { rawValue + 1 }
}

extension Speaker {
  /// To count what each peer was told is a walk through its group's table. Above so many steps in all, it is left out.
  static let advertisedStepsMax = 2_000_000

  func metrics(
    isDatastoreConnected: Bool, statusWrites: Int, _ addMore: (inout MetricsPage) -> Void = { _ in }
  ) -> String {
    var page = MetricsPage()
    let sorted = peers.values.sorted { $0.plan.name < $1.plan.name }
    let now = Instant.monotonic
    page.gauge("margay_bgp_peers", "Sessions that are configured.", sorted.count)
    page.gauge("margay_bgp_peers_established", "Sessions that are established.", sorted.count { $0.session.state == .established })
    page.gauge("margay_bgp_forwarding_prefixes", "Prefixes that BGP wants in the kernel.", forwarding.count)
    page.counter("margay_bgp_kernel_changes_total", "Routes changed in the kernel.", kernelChanges)
    page.gauge("margay_bgp_restarting", "1 while routes of an earlier run wait for the peers.", isDeferring ? 1 : 0)
    page.gauge("margay_bgp_datastore_connected", "1 when the datastore answers.", isDatastoreConnected ? 1 : 0)
    page.gauge("margay_bgp_problems", "What goes wrong now.", storedProblems.count + (plan?.problems.count ?? 0) + problems.count)
    page.counter("margay_bgp_status_writes_total", "Status keys written to the datastore.", statusWrites)
    let isCounted = sorted.count * (forwarding.count + view.ownRoutes.count) <= Self.advertisedStepsMax
    for peer in sorted {
      let labels: MetricsPage.Labels = ["name": peer.plan.name, "peer": "\(peer.plan.peer)", "as": "\(peer.plan.peerAS)"]
      let session = peer.session
      let isUp = session.state == .established
      page.gauge(
        "margay_bgp_peer_state", "RFC 4273: 1 idle, 2 connect, 3 active, 4 open sent, 5 open confirm, 6 established.", session.state.number,
        labels)
      page.gauge(
        "margay_bgp_peer_uptime_seconds", "How long the session has been established; 0 when it is not.",
        isUp ? Double(session.stateSince.duration(to: now).wholeNanoseconds) / 1e9 : 0, labels)
      page.counter("margay_bgp_peer_established_total", "Times the session came up.", Int(session.counters.established), labels)
      page.counter("margay_bgp_peer_updates_received_total", "UPDATE messages received.", Int(session.counters.updatesIn), labels)
      page.counter("margay_bgp_peer_octets_received_total", "Octets received.", Int(session.counters.octetsIn), labels)
      page.counter("margay_bgp_peer_octets_sent_total", "Octets sent.", Int(session.counters.octetsOut), labels)
      guard isCounted else { continue }
      let counts = table.counts(of: peer.id)
      page.gauge("margay_bgp_peer_prefixes_received", "Prefixes received.", counts.received, labels)
      page.gauge("margay_bgp_peer_prefixes_accepted", "Prefixes that policy accepted.", counts.accepted, labels)
      page.gauge("margay_bgp_peer_prefixes_stale", "Prefixes kept while the peer restarts.", counts.stale, labels)
      page.gauge("margay_bgp_peer_prefixes_advertised", "Prefixes that the peer was told.", counts.advertised, labels)
    }
    addMore(&page)
    ProcessMetrics.add(to: &page)
    return page.text
  }
}

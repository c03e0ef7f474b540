/// Two connections with one peer: which stays (RFC 4271, section 6.8; RFC 6286, section 2.3).
import BGPMessages

extension PeerSession {
  /// Judges the connection at `index`, whose OPEN has just been accepted, against the others. False if it had to go.
  mutating func survivesCollision(_ index: Int, _ terms: Negotiated, _ now: Instant, _ actions: inout [Action]) -> Bool {
    let id = connections[index].id
    let direction = connections[index].direction
    for other in connections where other.id != id {
      switch other.stage {
      case .openSent, .openConfirm:
        // Section 6.8 lets OpenSent be judged as well where the identifier is known, and it is: both connections are of one peer. Judging
        // early keeps one side from being Established on the connection that the other side drops.
        // Two of one direction: the peer has given up the older one.
        let keepsNew = other.direction == direction || keeps(direction, terms)
        if keepsNew {
          drop(other.id, sending: .cease(.connectionCollision), &actions)
        } else {
          drop(id, sending: .cease(.connectionCollision), &actions)
          return false
        }
      case .established:
        // RFC 4724, section 5: a peer that connects anew has restarted, and the old connection is dead without our knowing. We wait for a
        // valid OPEN before we believe it.
        guard let index = self.index(of: other.id) else { continue }
        lose(index, now, &actions, reason: "the peer has restarted and connected anew", notification: nil, isFromPeer: true)
      }
    }
    return true
  }

  /// True if a connection of `direction` is the one to keep: the side with the greater identifier has opened it.
  private func keeps(_ direction: Direction, _ terms: Negotiated) -> Bool {
    let ours = (configuration.routerID, configuration.localAS)
    let theirs = (terms.peerRouterID, terms.peerAS)
    return direction == .outgoing ? ours > theirs : ours < theirs
  }

  /// True if a connection that comes now, beside an established one, can be that of a peer which has restarted. Without graceful restart
  /// the established one stays; and one that has just been established may meet a last attempt of the peer that was under way before.
  func mayHaveRestarted(at now: Instant) -> Bool {
    connections.contains { $0.stage == .established && $0.terms?.gracefulRestart != nil } && now - stateSince >= Self.settlingTime
  }
}

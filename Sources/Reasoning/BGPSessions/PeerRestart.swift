/// The helper's half of graceful restart: routes of a peer that has gone stay for a while (RFC 4724, section 4.2; RFC 8538).
import BGPMessages

extension PeerSession {
  /// The families whose routes survive the loss of the session; arms the timer that ends the waiting.
  mutating func retain(_ terms: Negotiated, _ notification: Notification?, _ now: Instant, _ actions: inout [Action]) -> [AddressFamily] {
    let isGraceful: Bool
    if let notification {
      // RFC 4724, section 4.2: a NOTIFICATION ends everything, unless both sides agreed otherwise and it is not a hard reset
      // (RFC 8538, section 3).
      let isHard = notification.code == NotificationCode.cease && notification.subcode == CeaseReason.hardReset.rawValue
      isGraceful = terms.bothCoverNotification && !isHard
    } else {
      isGraceful = true
    }
    // A further loss while routes are still stale: what was not refreshed is older than one restart allows.
    let old = staleFamilies
    staleFamilies = []
    if !old.isEmpty { actions.append(.sweep(old.sorted())) }
    actions.append(.disarm(.stale))
    guard isGraceful, isEnabled, let restart = terms.gracefulRestart else { return [] }
    let kept = restart.families.map(\.family).filter { terms.families.contains($0) && !disabledFamilies.contains($0) }
    guard !kept.isEmpty, restart.restartTimeSeconds > 0 else { return [] }
    staleFamilies = Set(kept)
    actions.append(.arm(.restart, at: now + .seconds(Int(restart.restartTimeSeconds))))
    return staleFamilies.sorted()
  }

  /// The peer is back: what it has not preserved goes now, the rest waits for its End-of-RIB.
  mutating func returned(_ terms: Negotiated, _ now: Instant, _ actions: inout [Action]) {
    guard !staleFamilies.isEmpty else { return }
    actions.append(.disarm(.restart))
    let preserved = Set((terms.gracefulRestart?.families ?? []).filter(\.isForwarding).map(\.family)).intersection(terms.families)
    let lost = staleFamilies.subtracting(preserved)
    staleFamilies.formIntersection(preserved)
    if !lost.isEmpty { actions.append(.sweep(lost.sorted())) }
    if !staleFamilies.isEmpty {
      actions.append(.arm(.stale, at: now + (configuration.gracefulRestart?.staleTimeMax ?? .seconds(180))))
    }
  }

  /// The End-of-RIB of a family came.
  mutating func heardAll(of family: AddressFamily, _ actions: inout [Action]) {
    guard staleFamilies.remove(family) != nil else { return }
    actions.append(.sweep([family]))
    if staleFamilies.isEmpty { actions.append(.disarm(.stale)) }
  }

  mutating func sweepAll(_ actions: inout [Action]) {
    guard !staleFamilies.isEmpty else { return }
    actions.append(.disarm(.restart))
    actions.append(.disarm(.stale))
    actions.append(.sweep(staleFamilies.sorted()))
    staleFamilies = []
  }

  /// Our own end for good must reach a peer that would otherwise keep our routes: a hard reset wraps it (RFC 8538, section 3.1).
  func hardened(_ notification: Notification, _ connection: Connection) -> Notification {
    guard connection.terms?.bothCoverNotification ?? false, notification.code == NotificationCode.cease else { return notification }
    return Notification(
      code: NotificationCode.cease, subcode: CeaseReason.hardReset.rawValue,
      data: [notification.code, notification.subcode] + notification.data)
  }
}

/// What an operator decides about a session.
import Addresses
import BGPMessages

public struct SessionConfiguration: Hashable, Sendable {
  public var localAS: ASNumber
  /// Nil takes any AS, for neighbours that are not known by number.
  public var peerAS: ASNumber?
  public var routerID: RouterID
  /// Families that we offer; those that the peer offers too are used.
  public var families: Set<AddressFamily> = [.ipv4Unicast]

  /// What we propose: 0 for none, or at least 3 s; the smaller of both sides is used (RFC 4271, section 4.2).
  public var holdTime: Duration = .seconds(90)
  /// At most a third of the negotiated hold time is used; nil for exactly that.
  public var keepaliveInterval: Duration?
  /// How long one attempt to connect may take, and the longest pause between attempts; the first pauses are shorter, from 100 ms on.
  public var connectRetry: Duration = .seconds(5)
  /// The first pause after an attempt that failed; it doubles up to `connectRetry`.
  public var connectRetryMin: Duration = .milliseconds(100)
  /// The pause after an error, doubled with each repetition up to `idleHoldMax`.
  public var idleHoldMin: Duration = .milliseconds(500)
  public var idleHoldMax: Duration = .seconds(30)
  /// Leaves connecting to the peer, but for one attempt after a start or a loss when the peer has not come by itself.
  public var isPassive = false

  /// Nil turns graceful restart off on our side (RFC 4724); routes of the peer are then not retained either.
  public var gracefulRestart: GracefulRestart? = GracefulRestart()
  public struct GracefulRestart: Hashable, Sendable {
    /// How long peers should wait for us; up to 4095 s.
    public var restartTime: Duration = .seconds(120)
    /// We have just restarted: the R bit. The caller clears it when our own convergence is over.
    public var isRestarting = false
    /// Our forwarding goes on while we are away: the F bit.
    public var isForwarding = true
    /// Routes are also kept when a NOTIFICATION ends the session (RFC 8538).
    public var coversNotification = false
    /// Stale routes of a peer are dropped this long after it has returned, End-of-RIB or not.
    public var staleTimeMax: Duration = .seconds(180)
    public init() {}
  }

  /// Families in which we take several paths per prefix, and in which we send them (RFC 7911).
  public var addPathReceive: Set<AddressFamily> = []
  public var addPathSend: Set<AddressFamily> = []
  /// RFC 8654.
  public var extendedMessages = true
  /// IPv4 destinations may have IPv6 next hops (RFC 8950).
  public var extendedNextHop = false
  /// Our place towards an external peer (RFC 9234), and whether the peer must tell its own.
  public var role: Capability.Role?
  public var isRoleStrict = false
  /// Further addresses of ours that no next hop of the peer may be; that of the connection is known anyway.
  public var localAddresses: [IPAddress] = []
  /// The AS path of an external peer must begin with its AS; off for route servers (RFC 7947, section 2.2.2.1).
  public var enforcesFirstAS = false
  public var disablesFamilies = false
  public var isConfederationMember = false
  /// The pause after the prefix limit was hit; nil stays down until `start`.
  public var prefixLimitPause: Duration?
  /// Different seeds keep many sessions from acting in step (RFC 4271, section 10).
  public var jitterSeed: UInt64 = 1

  public init(localAS: ASNumber, peerAS: ASNumber?, routerID: RouterID) {
    self.localAS = localAS
    self.peerAS = peerAS
    self.routerID = routerID
  }

  /// What makes a difference on the wire before routes flow: a change of it needs a new session.
  var agreement: [AnyHashable] {
    [
      localAS, peerAS, routerID, families, addPathReceive, addPathSend, extendedMessages, extendedNextHop, role, isRoleStrict,
      gracefulRestart != nil, enforcesFirstAS, isConfederationMember,
    ]
  }

  /// Whole seconds of the hold time as the OPEN carries it.
  var holdTimeSeconds: UInt16 {
    let seconds = holdTime.components.seconds
    return seconds <= 0 ? 0 : UInt16(clamping: max(3, seconds))
  }

  /// Our OPEN.
  public var open: Open {
    let ordered = families.sorted()
    var capabilities: [Capability] = ordered.map { .multiprotocol($0) }
    capabilities.append(.routeRefresh)
    if extendedNextHop, families.contains(.ipv4Unicast) {
      capabilities.append(.extendedNextHop([Capability.ExtendedNextHop(family: .ipv4Unicast, nextHopAFI: 2)]))
    }
    if extendedMessages { capabilities.append(.extendedMessage) }
    // RFC 9234, section 4.1: roles are for external sessions.
    if let role, peerAS != localAS { capabilities.append(.role(role)) }
    if let gracefulRestart {
      capabilities.append(
        .gracefulRestart(
          Capability.GracefulRestart(
            isRestarting: gracefulRestart.isRestarting, coversNotification: gracefulRestart.coversNotification,
            restartTimeSeconds: UInt16(clamping: gracefulRestart.restartTime.components.seconds),
            families: ordered.map { Capability.GracefulRestart.Family($0, isForwarding: gracefulRestart.isForwarding) })))
    }
    capabilities.append(.fourOctetAS(localAS))
    let addPath = addPathReceive.union(addPathSend).intersection(families).sorted()
    if !addPath.isEmpty {
      capabilities.append(
        .addPath(addPath.map { Capability.AddPath($0, receives: addPathReceive.contains($0), sends: addPathSend.contains($0)) }))
    }
    // Not among them: enhanced route refresh (RFC 7313), since our answers to a refresh carry no markers of its begin and end.
    return Open(asNumber: localAS, holdTimeSeconds: holdTimeSeconds, routerID: routerID, capabilities: capabilities)
  }
}

/// What sessions agree on, collide over, and keep for a peer that restarts.
import Addresses
import BGPMessages
import BGPSessions
import Testing

@Suite("Capabilities and the terms of a session")
struct NegotiationTests {
  @Test("Only what both offer is used")
  func both() throws {
    var bench = Bench(
      configuration(as: 65001, peer: 65002) {
        $0.families = [.ipv4Unicast, .ipv6Unicast]
        $0.addPathReceive = [.ipv4Unicast, .ipv6Unicast]
        $0.addPathSend = [.ipv4Unicast]
        $0.extendedNextHop = true
        $0.enforcesFirstAS = true
      })
    bench.bring(
      to: .established,
      open: peerOpen(
        as: 65002,
        capabilities: [
          .multiprotocol(.ipv4Unicast), .multiprotocol(AddressFamily(afi: 1, safi: 128)), .fourOctetAS(65002), .enhancedRouteRefresh,
          .extendedMessage, .addPath([.init(.ipv4Unicast, receives: false, sends: true), .init(.ipv6Unicast, receives: true, sends: true)]),
          .extendedNextHop([.init(family: .ipv4Unicast, nextHopAFI: 2)]), .unknown(code: 73, value: [1]),
        ]))
    let terms = try #require(bench.session.negotiated)
    #expect(terms.families == [.ipv4Unicast] && terms.isExternal && terms.peerAS == 65002)
    #expect(terms.addPathReceive == [.ipv4Unicast] && terms.addPathSend.isEmpty)
    #expect(terms.extendedMessages && terms.extendedNextHop == [.ipv4Unicast] && !terms.routeRefresh && terms.enhancedRouteRefresh)
    #expect(terms.gracefulRestart == nil && terms.peerRouterID == RouterID("10.0.0.2"))
    let options = bench.session.decodeOptions(for: bench.outgoing)
    #expect(options.isExternal && options.extendedMessages && options.localAddresses == [here] && options.firstAS == 65002)
    #expect(bench.session.decodeOptions(for: ConnectionID(77)) == DecodeOptions())
  }

  @Test("A peer without capabilities speaks IPv4 unicast with two-octet AS numbers")
  func old() throws {
    var bench = Bench(configuration(as: 4_200_000_001, peer: 65002))
    bench.bring(to: .established, open: peerOpen(as: 65002, capabilities: []))
    let terms = try #require(bench.session.negotiated)
    #expect(terms.families == [.ipv4Unicast] && !terms.fourOctetAS && !terms.decodeOptions.fourOctetAS && !terms.encodeOptions.fourOctetAS)
  }

  @Test("Any AS is taken where none is configured; the same router id is fine in another AS (RFC 6286)")
  func anyAS() {
    var bench = Bench(configuration(peer: nil))
    bench.bring(to: .established, open: peerOpen(as: 65099, id: "10.0.0.1"))
    #expect(bench.session.negotiated?.peerAS == 65099 && bench.session.negotiated?.isExternal == true)
  }

  @Test("An OPEN with two different AS numbers is refused (RFC 6793)")
  func twoNumbers() {
    var bench = Bench(configuration(peer: nil))
    bench.bring(to: .openSent)
    var open = peerOpen(as: 65099)
    open.twoOctetAS = 65098
    #expect(bench.hear(.open(open)).notifications == [.badPeerAS])
  }

  @Test("Roles must be a pair (RFC 9234, section 4.2)", arguments: [
    (.provider, .customer, false, true), (.peer, .peer, false, true), (.routeServer, .routeServerClient, false, true),
    (.provider, .provider, false, false), (.customer, .peer, false, false), (.customer, nil, false, true), (.customer, nil, true, false),
  ] as [(Capability.Role, Capability.Role?, Bool, Bool)])
  func roles(ours: Capability.Role, theirs: Capability.Role?, strict: Bool, comesUp: Bool) {
    var bench = Bench(
      configuration(as: 65001, peer: 65002) {
        $0.role = ours
        $0.isRoleStrict = strict
      })
    bench.bring(to: .openSent)
    let actions = bench.hear(
      .open(peerOpen(as: 65002, capabilities: [.multiprotocol(.ipv4Unicast)] + (theirs.map { [.role($0)] } ?? []))))
    #expect(actions.notifications == (comesUp ? [] : [.roleMismatch]))
  }

  @Test("A family that a fault turned off is ignored until the session ends (RFC 7606)")
  func disabledFamily() {
    var bench = Bench(configuration { $0.families = [.ipv4Unicast, .ipv6Unicast] })
    bench.bring(to: .established, open: peerOpen(capabilities: [.multiprotocol(.ipv4Unicast), .multiprotocol(.ipv6Unicast)]))
    let actions = bench.hear(.update(Update(remarks: [UpdateRemark(.disableFamily(.ipv6Unicast), "test")])))
    #expect(actions.contains(.disable(.ipv6Unicast)))
    #expect(bench.session.decodeOptions(for: bench.outgoing).families == [.ipv4Unicast])
    #expect(bench.session.counters.toleratedFaults == 1 && bench.session.counters.updatesIn == 1)
  }

  @Test("Refreshes of agreed families are passed on, others ignored (RFC 2918; RFC 7313)")
  func refresh() {
    var bench = Bench()
    bench.bring(to: .established)
    #expect(bench.hear(.routeRefresh(RouteRefresh(.ipv4Unicast))) == [.refresh(RouteRefresh(.ipv4Unicast))])
    #expect(bench.hear(.routeRefresh(RouteRefresh(.ipv6Unicast))).isEmpty)
    #expect(bench.hear(.routeRefresh(RouteRefresh(.ipv4Unicast, nil))).isEmpty)
  }
}

@Suite("RFC 4271, section 6.8: connection collision")
struct CollisionTests {
  /// Both connections in OpenSent, our router id against 10.0.0.5.
  func collided(id: String) -> Bench {
    var bench = Bench(configuration(id: id))
    bench.bring(to: .openSent)
    _ = bench.connect(.incoming)
    return bench
  }

  @Test("The connection of the greater router id stays, whichever OPEN comes first", arguments: [
    ("10.0.0.9", true), ("10.0.0.9", false), ("10.0.0.1", true), ("10.0.0.1", false),
  ])
  func greater(id: String, outgoingFirst: Bool) {
    var bench = collided(id: id)
    let order = outgoingFirst ? [bench.outgoing, bench.incoming] : [bench.incoming, bench.outgoing]
    var actions = bench.hear(.open(peerOpen(id: "10.0.0.5")), on: order[0])
    actions += bench.hear(.open(peerOpen(id: "10.0.0.5")), on: order[1])
    let (kept, gone) = id == "10.0.0.9" ? (bench.outgoing, bench.incoming) : (bench.incoming, bench.outgoing)
    #expect(actions.notifications == [.cease(.connectionCollision)] && actions.closes(gone) && !actions.closes(kept))
    bench.hear(.keepalive, on: kept)
    #expect(bench.session.state == .established && bench.session.negotiated?.connection == kept)
    #expect(bench.session.lastError == nil)
  }

  @Test("With equal ids the greater AS decides (RFC 6286, section 2.3)")
  func equalIDs() {
    var bench = Bench(configuration(as: 65001, peer: 65002, id: "10.0.0.5"))
    bench.bring(to: .openSent)
    _ = bench.connect(.incoming)
    #expect(bench.hear(.open(peerOpen(as: 65002, id: "10.0.0.5"))).closes(bench.outgoing))
  }

  @Test("The first OPEN decides, so that nobody is established on the connection that the other side drops", arguments: [true, false])
  func firstOpen(outgoingFirst: Bool) {
    var bench = collided(id: "10.0.0.1")
    let actions = bench.hear(.open(peerOpen(id: "10.0.0.5")), on: outgoingFirst ? bench.outgoing : bench.incoming)
    #expect(actions.closes(bench.outgoing) && bench.session.state == (outgoingFirst ? .openSent : .openConfirm))
  }

  @Test("An attempt that is under way is given up once both sides have said OPEN")
  func cancelled() {
    var bench = Bench()
    bench.bring(to: .connect)
    _ = bench.connect(.incoming)
    #expect(bench.hear(.open(peerOpen()), on: bench.incoming).contains(.cancelConnect))
    #expect(bench.connect() == [.close(bench.outgoing)])
  }

  @Test("A new connection beside an established one is refused without graceful restart")
  func refused() {
    var bench = Bench()
    bench.bring(to: .established)
    bench.now = bench.now + .seconds(3600)
    let actions = bench.connect(.incoming)
    #expect(actions.notifications == [.cease(.connectionCollision)] && actions.closes(bench.incoming))
    #expect(bench.session.state == .established)
  }

  @Test("A second connection of the peer replaces its first before the OPEN")
  func replaced() {
    var bench = Bench(configuration { $0.isPassive = true })
    bench.send(.start)
    _ = bench.connect(.incoming)
    #expect(bench.connect(.incoming, ConnectionID(3)).closes(bench.incoming))
  }
}

@Suite("RFC 4724, section 4.2: a peer that restarts")
struct PeerRestartTests {
  let keeps = Capability.GracefulRestart(restartTimeSeconds: 60, families: [.init(.ipv4Unicast, isForwarding: true)])
  func up(_ restart: Capability.GracefulRestart) -> Bench {
    var bench = Bench()
    bench.bring(to: .established, open: peerOpen(restart: restart))
    return bench
  }
  /// The peer comes back on a new connection with this OPEN.
  func comeBack(_ bench: inout Bench, _ restart: Capability.GracefulRestart?) -> [PeerSession.Action] {
    let id = ConnectionID(8)
    _ = bench.connect(.incoming, id)
    bench.hear(.open(peerOpen(restart: restart)), on: id)
    return bench.hear(.keepalive, on: id)
  }

  @Test("A lost connection retains the routes until the restart time is over")
  func retained() {
    var bench = up(keeps)
    let actions = bench.send(.closed(bench.outgoing, "reset"))
    #expect(actions.downs.map(\.retained) == [[.ipv4Unicast]] && actions.due(.restart) == epoch + .seconds(60))
    #expect(bench.send(.expired(.restart), after: .seconds(60)).contains(.sweep([.ipv4Unicast])))
    #expect(bench.session.staleFamilies.isEmpty)
  }
  @Test("A peer in time keeps its routes until its End-of-RIB")
  func returned() {
    var bench = up(keeps)
    bench.send(.closed(bench.outgoing, "reset"))
    let actions = comeBack(&bench, keeps)
    #expect(actions.contains(.disarm(.restart)) && actions.due(.stale) != nil && !actions.contains(.sweep([.ipv4Unicast])))
    let end = bench.hear(.update(Update(endOfRIB: .ipv4Unicast)), on: ConnectionID(8))
    #expect(end.contains(.sweep([.ipv4Unicast])) && end.contains(.disarm(.stale)))
  }
  @Test("A peer that has lost its forwarding state, or the capability, loses its routes on return", arguments: [true, false])
  func notForwarding(hasCapability: Bool) {
    var bench = up(keeps)
    bench.send(.closed(bench.outgoing, "reset"))
    let without = Capability.GracefulRestart(restartTimeSeconds: 60, families: [.init(.ipv4Unicast, isForwarding: false)])
    #expect(comeBack(&bench, hasCapability ? without : nil).contains(.sweep([.ipv4Unicast])))
  }
  @Test("A new connection with a valid OPEN is a restart, although the old one looks alive (section 5)")
  func silentRestart() {
    var bench = up(keeps)
    let id = ConnectionID(8)
    // In the first seconds it is taken for an attempt that crossed ours.
    #expect(bench.connect(.incoming, id).notifications == [.cease(.connectionCollision)])
    bench.now = bench.now + .seconds(30)
    // Nothing is said on it until the peer has.
    #expect(bench.connect(.incoming, id).sent.isEmpty && bench.session.state == .established)
    let actions = bench.hear(.open(peerOpen(restart: keeps)), on: id)
    #expect(actions.downs.map(\.retained) == [[.ipv4Unicast]] && actions.closes(bench.outgoing))
    #expect(actions.sent == [.open(bench.session.configuration.open), .keepalive])
    bench.hear(.keepalive, on: id)
    #expect(bench.session.state == .established && bench.session.negotiated?.connection == id)
  }
  @Test("A NOTIFICATION in either direction ends everything")
  func notification() {
    var bench = up(keeps)
    #expect(bench.hear(.notification(.cease(.administrativeShutdown))).downs.map(\.retained) == [[]])
    var other = up(keeps)
    #expect(other.send(.expired(.hold(other.outgoing)), after: .seconds(90)).downs.map(\.retained) == [[]])
  }
  @Test("With the N bit on both sides a NOTIFICATION retains, a hard reset does not (RFC 8538)")
  func coversNotification() {
    var restart = keeps
    restart.coversNotification = true
    func fresh() -> Bench {
      var bench = Bench(configuration { $0.gracefulRestart?.coversNotification = true })
      bench.bring(to: .established, open: peerOpen(restart: restart))
      return bench
    }
    var soft = fresh()
    #expect(soft.hear(.notification(.holdTimerExpired)).downs.map(\.retained) == [[.ipv4Unicast]])
    var hard = fresh()
    #expect(hard.hear(.notification(.cease(.hardReset))).downs.map(\.retained) == [[]])
    var stopping = fresh()
    #expect(stopping.send(.stop(.cease(.administrativeShutdown))).notifications == [Notification(code: 6, subcode: 9, data: [6, 2])])
    #expect(stopping.session.staleFamilies.isEmpty)
  }
  @Test("Nothing is retained where graceful restart is off on our side")
  func off() {
    var bench = Bench(configuration { $0.gracefulRestart = nil })
    bench.bring(to: .established, open: peerOpen(restart: keeps))
    #expect(bench.send(.closed(bench.outgoing, "reset")).downs.map(\.retained) == [[]])
  }
  @Test("The stale timer ends the waiting for an End-of-RIB that never comes")
  func staleTimer() {
    var bench = up(keeps)
    bench.send(.closed(bench.outgoing, "reset"))
    _ = comeBack(&bench, keeps)
    #expect(bench.send(.expired(.stale), after: .seconds(180)).contains(.sweep([.ipv4Unicast])))
  }
}

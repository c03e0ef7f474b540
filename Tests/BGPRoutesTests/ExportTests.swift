import Addresses
import BGPMessages
import BGPRoutes
import Testing

@Suite("RFC 4271, section 5.1: attributes on the way out")
struct ExportTests {
  let block = "10.65.0.0/26"

  @Test("An external peer sees our AS and our address, and nothing internal")
  func external() {
    var bench = Bench()
    bench(.peerUp(PeerID(1), peer(1)), .peerUp(PeerID(2), peer(2, as: 65001)), .originate(prefix("10.9.0.0/26")))
    bench(.update(PeerID(1), announce([block], via: "192.0.2.1", path: [7]) {
      $0.localPreference = 300
      $0.multiExitDiscriminator = 4
      $0.originatorID = routerID("1.1.1.1")
      $0.clusterList = [routerID("2.2.2.2")]
    }))
    let heard = bench.heard[PeerID(2)]![prefix(block)]!
    #expect(heard.asPath == ASPath([64512, 7]))
    #expect(heard.nextHop.address == address("192.0.2.254"))
    #expect(heard.localPreference == nil && heard.multiExitDiscriminator == nil && heard.originatorID == nil && heard.clusterList.isEmpty)
    #expect(bench.heard[PeerID(2)]![prefix("10.9.0.0/26")]?.asPath == ASPath([64512]))
    // The internal peer hears our own route with our address, and not its own back.
    #expect(bench.heard[PeerID(1)]![prefix("10.9.0.0/26")]?.nextHop.address == address("192.0.2.254"))
    // As Calico: 2147483647 less the metric of the route.
    #expect(bench.heard[PeerID(1)]![prefix("10.9.0.0/26")]?.localPreference == 2_147_482_623)
    bench(.originate(prefix("10.9.0.0/26"), metric: 512))
    #expect(bench.heard[PeerID(1)]![prefix("10.9.0.0/26")]?.localPreference == 2_147_483_135)
    #expect(bench.heard[PeerID(1)]![prefix(block)] == nil)
  }

  @Test("Between internal peers the next hop of an external route stays, unless ours is asked for")
  func internalNextHop() {
    var bench = Bench()
    bench(.peerUp(PeerID(1), peer(1, as: 65001)), .peerUp(PeerID(2), peer(2)))
    bench(.peerUp(PeerID(3), peer(3) { $0.nextHopMode = .ownAddress }))
    bench(.update(PeerID(1), announce([block], via: "192.0.2.1", path: [65001])))
    #expect(bench.heard[PeerID(2)]![prefix(block)]?.nextHop.address == address("192.0.2.1"))
    #expect(bench.heard[PeerID(3)]![prefix(block)]?.nextHop.address == address("192.0.2.254"))
  }

  @Test("IPv6 routes of ours carry our IPv6 address")
  func v6() {
    var bench = Bench()
    bench(.peerUp(PeerID(1), peer(1, as: 65001, families: [.v4, .v6])), .originate(prefix("fd00:65::/122")), .originate(prefix(block)))
    #expect(bench.heard[PeerID(1)]![prefix("fd00:65::/122")]?.nextHop.address == address("2001:db8::254"))
    #expect(bench.heard[PeerID(1)]![prefix(block)]?.nextHop.address == address("192.0.2.254"))
    #expect(bench.ended[PeerID(1)] == [.v4, .v6])
  }

  @Test("What passes between internal peers", arguments: [(false, false, false), (false, true, true), (true, false, true), (true, true, true)])
  func reflection(from: Bool, to: Bool, passes: Bool) {
    var bench = Bench(clusterID: routerID("0.0.0.9"))
    bench(.peerUp(PeerID(1), peer(1, client: from)), .peerUp(PeerID(2), peer(2, client: to)))
    bench(.update(PeerID(1), announce([block], via: "192.0.2.1")))
    let heard = bench.heard[PeerID(2)]![prefix(block)]
    #expect((heard != nil) == passes)
    if let heard {
      #expect(heard.originatorID == routerID("10.0.0.1"))
      #expect(heard.clusterList == [routerID("0.0.0.9")])
      #expect(heard.nextHop.address == address("192.0.2.1"))
    }
    #expect(bench.heard[PeerID(1)]!.isEmpty)
  }

  @Test("A reflector refuses what it originated, what passed its cluster, and its own AS from outside; people can see why")
  func loops() {
    var bench = Bench(clusterID: routerID("0.0.0.9"))
    bench(.peerUp(PeerID(1), peer(1, client: true)), .peerUp(PeerID(2), peer(2, as: 65001)))
    bench(
      .update(PeerID(1), announce(["10.1.0.0/16"], via: "192.0.2.1") { $0.originatorID = routerID("10.0.0.254") }),
      .update(PeerID(1), announce(["10.2.0.0/16"], via: "192.0.2.1") { $0.clusterList = [routerID("0.0.0.8"), routerID("0.0.0.9")] }),
      .update(PeerID(2), announce(["10.3.0.0/16"], via: "192.0.2.2", path: [65001, 64512])),
      .update(PeerID(2), announce(["10.4.0.0/16"], via: "192.0.2.2", path: [65001])))
    #expect(bench.forwarding.keys.map(\.description) == ["10.4.0.0/16"])
    #expect(bench.table.report().map(\.reason).prefix(3) == [
      "loop: this router originated it", "loop: passed this cluster before", "loop: own AS in the path",
    ])
    #expect(bench.table.counts(of: PeerID(2)) == RouteCounts(received: 2, accepted: 1))
    // The same path is welcome where the operator allows it.
    var lenient = peer(2, as: 65001)
    lenient.ownASAllowed = 1
    bench(.peerUp(PeerID(2), lenient), .update(PeerID(2), announce(["10.3.0.0/16"], via: "192.0.2.2", path: [65001, 64512])))
    #expect(bench.via("10.3.0.0/16") == ["192.0.2.2"])
    // Without a cluster of ours the second one is no loop either.
    bench(.identity(routerID: routerID("10.0.0.254"), clusterID: nil))
    #expect(bench.via("10.2.0.0/16") == ["192.0.2.1"])
  }
  @Test("Well-known communities keep a route in", arguments: [
    (Community.noExport, true, false), (Community.noAdvertise, false, false), (Community.noExportSubconfed, true, false),
  ])
  func communities(community: Community, inside: Bool, outside: Bool) {
    var bench = Bench()
    bench(.peerUp(PeerID(1), peer(1, as: 65001)), .peerUp(PeerID(2), peer(2)), .peerUp(PeerID(3), peer(3, as: 65003)))
    bench(.update(PeerID(1), announce([block], via: "192.0.2.1", path: [65001]) { $0.communities = [community] }))
    #expect((bench.heard[PeerID(2)]![prefix(block)] != nil) == inside)
    #expect((bench.heard[PeerID(3)]![prefix(block)] != nil) == outside)
  }

  @Test("When the source of a route changes, the new source is told to forget the old one")
  func sourceChanges() {
    var bench = Bench(clusterID: routerID("0.0.0.9"))
    for number in 1...3 { bench.receive(.peerUp(PeerID(number), peer(number, client: true))) }
    bench(.update(PeerID(2), announce([block], via: "192.0.2.2")))
    #expect(bench.heard[PeerID(1)]![prefix(block)]?.nextHop.address == address("192.0.2.2"))
    bench(.update(PeerID(1), announce([block], via: "192.0.2.1")))
    #expect(bench.heard[PeerID(1)]![prefix(block)] == nil)
    #expect(bench.heard[PeerID(2)]![prefix(block)]?.nextHop.address == address("192.0.2.1"))
    #expect(bench.heard[PeerID(3)]![prefix(block)]?.nextHop.address == address("192.0.2.1"))
    #expect(bench.needlessWithdrawals == 0)
    #expect(bench.table.counts(of: PeerID(1)).advertised == 0 && bench.table.counts(of: PeerID(3)).advertised == 1)
  }

  @Test("Calico's filter: blocks yes, what is inside them no, borrowed addresses in pools yes, the rest no")
  func calicoFilter() {
    let policy = ExportPolicy(
      pools: [prefix("10.65.0.0/16"), prefix("10.66.0.0/16")], poolsNotExported: [prefix("10.66.0.0/16")],
      ownBlocks: [prefix("10.65.1.0/26")])
    let verdicts = [
      ("10.65.1.0/26", true), ("10.65.1.7/32", false), ("10.65.2.7/32", true), ("10.66.1.0/26", false), ("192.168.0.0/24", false),
    ]
    for (text, isAccepted) in verdicts { #expect(policy.verdict(on: prefix(text)).isAccepted == isAccepted, "\(text)") }
    var bench = Bench()
    bench(.exportPolicy(0, policy), .peerUp(PeerID(1), peer(1, as: 65001)))
    for (text, _) in verdicts { bench.receive(.originate(prefix(text))) }
    bench.flush()
    #expect(Set(bench.heard[PeerID(1)]!.keys) == [prefix("10.65.1.0/26"), prefix("10.65.2.7/32")])
    // The block goes: the address that it covered is announced by itself.
    var smaller = policy
    smaller.ownBlocks = []
    bench(.exportPolicy(0, smaller), .withdraw(prefix("10.65.1.0/26")))
    #expect(Set(bench.heard[PeerID(1)]!.keys) == [prefix("10.65.1.7/32"), prefix("10.65.2.7/32")])
    #expect(bench.needlessWithdrawals == 0)
  }

  @Test("Inside an own block: a workload that arrives is announced until it is the only one, and a reflector passes on that one has moved away")
  func moves() {
    let policy = ExportPolicy(pools: [prefix("10.65.0.0/16")], ownBlocks: [prefix("10.65.1.0/26")])
    var bench = Bench(clusterID: routerID("0.0.0.9"))
    bench(.exportPolicy(0, policy), .originate(prefix("10.65.1.0/26")), .nextHop(address("192.0.2.2"), .resolvable(interiorCost: 0)))
    for number in 1...2 { bench.receive(.peerUp(PeerID(number), peer(number, client: true))) }
    // Moves away: the other host announces it, the reflector holds the block.
    bench(.update(PeerID(2), announce(["10.65.1.7/32"], via: "192.0.2.2")))
    #expect(bench.heard[PeerID(1)]![prefix("10.65.1.7/32")]?.nextHop.address == address("192.0.2.2"))
    // Comes home, where its metric is the elevated one for as long as the other host has it as well.
    bench(.originate(prefix("10.65.1.7/32"), metric: 512))
    let arriving = bench.heard[PeerID(1)]![prefix("10.65.1.7/32")]
    #expect(arriving?.localPreference == 0x7fff_ffff - 512 && bench.heard[PeerID(2)]![prefix("10.65.1.7/32")] == arriving)
    bench(.update(PeerID(2), withdraw(["10.65.1.7/32"])))
    bench(.originate(prefix("10.65.1.7/32"), metric: 0))
    #expect(Set(bench.heard[PeerID(1)]!.keys) == [prefix("10.65.1.0/26")])
    #expect(Set(bench.heard[PeerID(2)]!.keys) == [prefix("10.65.1.0/26")])
  }

  @Test("Prefixes with the same attributes travel together, for all peers of a group in one stream")
  func packing() {
    var bench = Bench(clusterID: routerID("0.0.0.9"))
    for number in 1...5 { bench.receive(.peerUp(PeerID(number), peer(number, client: true))) }
    bench.flush()
    let before = bench.messages
    let prefixes = (0..<800).map { "10.\($0 / 256).\($0 % 256).0/24" }
    bench.receive(.update(PeerID(1), announce(prefixes, via: "192.0.2.1")))
    let outputs = bench.table.flush()
    let streams = outputs.compactMap { if case .updates(let stream) = $0 { stream } else { nil } }
    #expect(streams.count == 1)
    #expect(streams[0].deliveries.count == 4)
    #expect(streams[0].octets.count < 800 * 4 + 150)
    #expect(bench.messages == before)
  }

  @Test("A peer that joins gets the whole table and End-of-RIB, at once")
  func join() {
    var bench = Bench(clusterID: routerID("0.0.0.9"))
    bench(.peerUp(PeerID(1), peer(1, client: true)))
    let prefixes = (0..<3000).map { "10.\($0 / 256).\($0 % 256).0/24" }
    bench(.update(PeerID(1), announce(prefixes, via: "192.0.2.1")), .originate(prefix("10.99.0.0/16")))
    bench(.peerUp(PeerID(2), peer(2, client: true)))
    #expect(bench.heard[PeerID(2)]!.count == 3001)
    #expect(bench.ended[PeerID(2)] == [.v4])
    bench(.refresh(PeerID(2), .v4), .update(PeerID(1), withdraw(["10.0.0.0/24"])))
    #expect(bench.heard[PeerID(2)]!.count == 3000)
    #expect(bench.needlessWithdrawals == 0)
  }
}

@Suite("RFC 4724: graceful restart")
struct GracefulRestartTests {
  @Test("Stale paths stay until the peer said them again or ended its table")
  func helper() {
    var bench = Bench()
    bench(.peerUp(PeerID(1), peer(1)), .peerUp(PeerID(2), peer(2, as: 65001)))
    bench(.update(PeerID(1), announce(["10.1.0.0/16", "10.2.0.0/16"], via: "192.0.2.1")))
    let changes = bench.forwardingChanges
    bench(.peerDown(PeerID(1), keepStale: true))
    #expect(bench.table.counts(of: PeerID(1)).stale == 2)
    bench(.peerUp(PeerID(1), peer(1)), .update(PeerID(1), announce(["10.1.0.0/16"], via: "192.0.2.1")))
    #expect(bench.forwardingChanges == changes)
    #expect(bench.heard[PeerID(2)]!.count == 2)
    bench(.endOfRIB(PeerID(1), .v4))
    #expect(bench.forwarding.keys.map(\.description) == ["10.1.0.0/16"])
    #expect(bench.heard[PeerID(2)]!.count == 1)
  }

  @Test("What was stale when the session fails again is dropped")
  func twice() {
    var bench = Bench()
    bench(.peerUp(PeerID(1), peer(1)), .update(PeerID(1), announce(["10.1.0.0/16", "10.2.0.0/16"], via: "192.0.2.1")))
    bench(.peerDown(PeerID(1), keepStale: true))
    bench(.peerUp(PeerID(1), peer(1)), .update(PeerID(1), announce(["10.1.0.0/16"], via: "192.0.2.1")))
    bench(.peerDown(PeerID(1), keepStale: true))
    #expect(bench.forwarding.keys.map(\.description) == ["10.1.0.0/16"])
    bench(.staleExpired(PeerID(1)))
    #expect(bench.forwarding.isEmpty)
  }

  @Test("While our own table may be incomplete, routes are told but not their end")
  func restarting() {
    var bench = Bench()
    bench(.holdEndOfRIB(true), .originate(prefix("10.1.0.0/16")), .peerUp(PeerID(1), peer(1)))
    #expect(bench.heard[PeerID(1)]!.count == 1)
    #expect(bench.ended[PeerID(1)] == [])
    bench(.holdEndOfRIB(false))
    #expect(bench.ended[PeerID(1)] == [.v4])
  }
}

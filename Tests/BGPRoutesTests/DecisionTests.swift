import Addresses
import BGPMessages
import BGPRoutes
import Testing

@Suite("RFC 4271, section 9.1.2.2: the ladder")
struct DecisionTests {
  struct Rung: Sendable, CustomTestStringConvertible {
    var name: String
    var reason: String
    /// What the winner (peer 2) has over the default, and what the loser (peer 1) has. Peer 1 wins where nothing differs.
    var winner: @Sendable (inout PathAttributes) -> Void = { _ in }
    var loser: @Sendable (inout PathAttributes) -> Void = { _ in }
    var winnerAS: UInt32 = 64512
    var loserAS: UInt32 = 64512
    var loserCost: UInt32 = 0
    var winnerID = "10.0.0.2"
    var loserID = "10.0.0.1"
    var testDescription: String { name }
  }

  static let rungs: [Rung] = [
    Rung(name: "higher local preference, in spite of a longer path", reason: "higher local preference", winner: {
      $0.localPreference = 200
      $0.asPath = [1, 2, 3].path
    }),
    Rung(name: "shorter path, in spite of a worse origin", reason: "shorter AS path", winner: {
      $0.origin = .incomplete
    }, loser: { $0.asPath = [1].path }),
    Rung(name: "a set counts one", reason: "lower origin", winner: { $0.asPath = [7].path }, loser: {
      $0.asPath = ASPath(segments: [.init(.set, [1, 2, 3])])
      $0.origin = .egp
    }),
    Rung(name: "lower origin, in spite of a higher MED", reason: "lower origin", winner: {
      $0.multiExitDiscriminator = 9
    }, loser: { $0.origin = .egp }),
    Rung(name: "lower MED of the same neighbour", reason: "lower MED from the same neighbour AS", winner: {
      $0.asPath = [7].path
      $0.multiExitDiscriminator = 1
    }, loser: {
      $0.asPath = [7].path
      $0.multiExitDiscriminator = 2
    }),
    Rung(name: "external over internal, in spite of MEDs of other neighbours", reason: "external over internal", winner: {
      $0.asPath = [65001].path
      $0.multiExitDiscriminator = 9
    }, loser: { $0.asPath = [65002].path }, winnerAS: 65001),
    Rung(name: "lower interior cost", reason: "lower interior cost", loserCost: 10),
    Rung(name: "lower router identifier", reason: "lower router or originator identifier", winnerID: "9.9.9.9"),
    Rung(name: "the originator stands for the router", reason: "lower router or originator identifier", winner: {
      $0.originatorID = routerID("1.1.1.1")
    }),
    Rung(name: "shorter cluster list", reason: "shorter cluster list", winner: { $0.originatorID = routerID("1.1.1.1") }, loser: {
      $0.originatorID = routerID("1.1.1.1")
      $0.clusterList = [routerID("3.3.3.3")]
    }),
  ]

  @Test("Each rung decides what the rungs above left open", arguments: rungs)
  func rung(_ rung: Rung) {
    var first = PathAttributes(nextHop: NextHop(address("192.0.2.1")))
    var second = PathAttributes(nextHop: NextHop(address("192.0.2.2")))
    rung.loser(&first)
    rung.winner(&second)
    let destination = NLRI(prefix("10.65.0.0/26"))
    let updates: [RoutingTable.Input] = [
      .update(PeerID(1), Update(announcements: [.init(.ipv4Unicast, first, [destination])])),
      .update(PeerID(2), Update(announcements: [.init(.ipv4Unicast, second, [destination])])),
    ]
    for updates in [updates, updates.reversed()] {
      var bench = Bench(multipathMax: 1)
      bench.receive(.peerUp(PeerID(1), peer(1, as: rung.loserAS, id: rung.loserID)))
      bench.receive(.peerUp(PeerID(2), peer(2, as: rung.winnerAS, id: rung.winnerID)))
      bench.receive(.nextHop(address("192.0.2.1"), .resolvable(interiorCost: rung.loserCost)))
      for update in updates { bench.receive(update) }
      bench.flush()
      #expect(bench.via("10.65.0.0/26") == ["192.0.2.2"])
      #expect(bench.reason("10.65.0.0/26") == rung.reason)
    }
  }

  @Test("The peer address is the last rung")
  func peerAddress() {
    var bench = Bench(multipathMax: 1)
    bench(.peerUp(PeerID(2), peer(2, id: "1.1.1.1")), .peerUp(PeerID(1), peer(1, id: "1.1.1.1")))
    bench(.update(PeerID(2), announce(["10.0.0.0/8"], via: "192.0.2.2")), .update(PeerID(1), announce(["10.0.0.0/8"], via: "192.0.2.1")))
    #expect(bench.via("10.0.0.0/8") == ["192.0.2.1"])
    #expect(bench.reason("10.0.0.0/8") == "lower peer address")
  }

  @Test("MED narrows the set before later rungs see it, so no pairwise order exists and no arrival order matters")
  func medIsNoOrder() {
    // A and B share a neighbour; A loses to B by MED; B loses to C by cost; A would win against C by identifier.
    let inputs: [RoutingTable.Input] = [
      .update(PeerID(1), announce(["10.0.0.0/8"], via: "192.0.2.1", path: [7]) { $0.multiExitDiscriminator = 20 }),
      .update(PeerID(2), announce(["10.0.0.0/8"], via: "192.0.2.2", path: [7]) { $0.multiExitDiscriminator = 10 }),
      .update(PeerID(3), announce(["10.0.0.0/8"], via: "192.0.2.3", path: [8])),
    ]
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
      var bench = Bench(multipathMax: 1)
      for number in 1...3 { bench.receive(.peerUp(PeerID(number), peer(number))) }
      bench.receive(.nextHop(address("192.0.2.2"), .resolvable(interiorCost: 5)))
      for index in order {
        bench.receive(inputs[index])
        bench.flush()
      }
      #expect(bench.via("10.0.0.0/8") == ["192.0.2.3"])
    }
  }

  @Test("A route of this host wins over every learned one and takes it out of the forwarding table")
  func local() {
    var bench = Bench()
    bench(.peerUp(PeerID(1), peer(1)), .update(PeerID(1), announce(["10.0.0.0/26"], via: "192.0.2.1") { $0.localPreference = 5000 }))
    #expect(bench.via("10.0.0.0/26") == ["192.0.2.1"])
    bench(.originate(prefix("10.0.0.0/26")))
    #expect(bench.via("10.0.0.0/26") == [])
    #expect(bench.reason("10.0.0.0/26") == "local route")
    bench(.withdraw(prefix("10.0.0.0/26")))
    #expect(bench.via("10.0.0.0/26") == ["192.0.2.1"])
  }

  @Test("A withdrawn best path promotes the runner-up")
  func runnerUp() {
    var bench = Bench(multipathMax: 1)
    bench(.peerUp(PeerID(1), peer(1)), .peerUp(PeerID(2), peer(2)))
    bench(.update(PeerID(1), announce(["10.0.0.0/8"], via: "192.0.2.1")), .update(PeerID(2), announce(["10.0.0.0/8"], via: "192.0.2.2")))
    #expect(bench.via("10.0.0.0/8") == ["192.0.2.1"])
    bench(.update(PeerID(1), withdraw(["10.0.0.0/8"])))
    #expect(bench.via("10.0.0.0/8") == ["192.0.2.2"])
    bench(.peerDown(PeerID(2), keepStale: false))
    #expect(bench.forwarding.isEmpty)
    #expect(bench.table.prefixCount == 0)
    #expect(bench.table.attributeSetCount == 0)
  }

  @Test("Paths that tie up to the interior cost share the traffic; a longer path does not")
  func multipath() {
    var bench = Bench()
    for number in 1...3 { bench.receive(.peerUp(PeerID(number), peer(number))) }
    bench(
      .update(PeerID(2), announce(["10.0.0.0/8"], via: "192.0.2.2", path: [7])),
      .update(PeerID(1), announce(["10.0.0.0/8"], via: "192.0.2.1", path: [8])),
      .update(PeerID(3), announce(["10.0.0.0/8"], via: "192.0.2.3", path: [8, 9])))
    #expect(bench.via("10.0.0.0/8") == ["192.0.2.1", "192.0.2.2"])
    bench(.nextHop(address("192.0.2.1"), .unresolvable))
    #expect(bench.via("10.0.0.0/8") == ["192.0.2.2"])
    bench(.nextHop(address("192.0.2.2"), .unresolvable))
    #expect(bench.via("10.0.0.0/8") == ["192.0.2.3"])
    bench(.nextHop(address("192.0.2.3"), .unresolvable))
    #expect(bench.via("10.0.0.0/8") == [])
    bench(.nextHop(address("192.0.2.1"), .resolvable(interiorCost: 0)), .nextHop(address("192.0.2.2"), .resolvable(interiorCost: 0)))
    #expect(bench.via("10.0.0.0/8") == ["192.0.2.1", "192.0.2.2"])
  }

  @Test("A path is no candidate before its next hop is known to be reachable")
  func unknownNextHop() {
    var bench = Bench(unknown: .unresolvable)
    bench(.peerUp(PeerID(1), peer(1)), .update(PeerID(1), announce(["10.0.0.0/8"], via: "192.0.2.1")))
    #expect(bench.forwarding.isEmpty)
    #expect(bench.table.takeNextHopChanges().used == [address("192.0.2.1")])
    bench(.nextHop(address("192.0.2.1"), .resolvable(interiorCost: 0)))
    #expect(bench.via("10.0.0.0/8") == ["192.0.2.1"])
    bench(.update(PeerID(1), withdraw(["10.0.0.0/8"])))
    #expect(bench.table.takeNextHopChanges().unused == [address("192.0.2.1")])
  }
}

extension [UInt32] {
  var path: ASPath { ASPath(map { ASNumber($0) }) }
}

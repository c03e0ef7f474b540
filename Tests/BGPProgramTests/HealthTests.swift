import HealthServer
import Testing

@testable import BGPProgram

@Suite("BGP readiness")
struct BGPReadinessTests {
  /// Peers as `up` and `down` in order; nil for a node without a BGP address.
  private func report(
    _ peers: [Bool]?, after seconds: Int, isInSync: Bool = true, isRestarting: Bool = false, datastore: String? = nil
  ) -> HealthReport {
    let states = peers?.enumerated().map {
      BGPReadiness.PeerState(name: "p\($0)", peer: "10.0.0.\($0)", isEstablished: $1, lastError: $1 ? nil : "hold timer expired")
    }
    return BGPReadiness(
      peers: states, datastoreProblem: datastore, isInSync: isInSync, isRestarting: isRestarting, sinceStart: .seconds(seconds)
    ).report()
  }

  @Test(
    "Right after a start all peers are waited for, later one is enough, and no peers are no fault",
    arguments: [
      (nil, 1, true), ([], 1, true), ([true, true], 1, true), ([true, false], 1, false), ([true, false], 31, true),
      ([false, false], 31, false), ([false], 1, false), ([false], 31, false),
    ] as [([Bool]?, Int, Bool)])
  func rule(peers: [Bool]?, seconds: Int, isGood: Bool) {
    #expect(report(peers, after: seconds).isGood == isGood)
  }

  @Test("Whoever is missing is named with the reason, ready or not")
  func names() {
    for seconds in [1, 31] {
      let peers = report([true, false], after: seconds).reporters.last!
      let words = peers.fault ?? peers.note ?? ""
      #expect(words.contains("p1 (10.0.0.1: hold timer expired)"), "\(words)")
      #expect(!words.contains("p0"))
    }
  }

  @Test("Before the datastore has been read nothing is ready; an outage later is a note; a restart is waited for")
  func phases() {
    #expect(!report([true], after: 31, isInSync: false, datastore: "cut").isGood)
    #expect(report([true], after: 31, isInSync: false, datastore: "cut").reporters.last?.fault?.contains("cut") == true)
    #expect(report([true], after: 31, datastore: "cut").isGood)
    #expect(!report([true], after: 1, isRestarting: true).isGood)
    #expect(report([true], after: 31, isRestarting: true).isGood)
  }
}

/// What needs no server: which endpoint is next, and how responses become batches.
import Datastore
import EtcdMessages
import Octets
import Testing

@testable import DatastoreEtcd

@Suite("etcd: endpoints and batches")
struct PureTests {
  private let members = (0..<3).map { EtcdEndpoint(host: "m\($0)") }

  @Test("A round begins with the member that worked last, and behind one that was lost")
  func rounds() {
    var choice = EndpointChoice(members, startingAt: 1)
    #expect(choice.round.map(\.host) == ["m1", "m2", "m0"])
    choice.connected(to: members[2])
    #expect(choice.round.map(\.host) == ["m2", "m0", "m1"])
    choice.lost(members[2])
    #expect(choice.round.map(\.host) == ["m0", "m1", "m2"])
  }

  @Test("Pauses follow failed rounds only, double and are bounded; a success ends them")
  func pauses() {
    var choice = EndpointChoice(members, startingAt: 0, chance: { 1 })
    #expect(choice.pause == .zero)
    var pauses: [Duration] = []
    for _ in 0..<40 {
      choice.roundFailed()
      pauses.append(choice.pause)
    }
    #expect(pauses.prefix(3) == [.milliseconds(100), .milliseconds(200), .milliseconds(400)] && pauses.last == .seconds(2))
    choice.connected(to: members[0])
    #expect(choice.pause == .zero)
  }

  @Test("A pause is between half of what it may be and all of it, by chance")
  func jitter() {
    var (low, high) = (Backoff(first: .seconds(1), max: .seconds(4), chance: { 0 }), Backoff(first: .seconds(1), max: .seconds(4), chance: { 1 }))
    #expect((0..<4).map { _ in low.next() } == [.milliseconds(500), .seconds(1), .seconds(2), .seconds(2)])
    #expect((0..<4).map { _ in high.next() } == [.seconds(1), .seconds(2), .seconds(4), .seconds(4)])
    high.reset()
    #expect(high.next() == .seconds(1))
  }

  private func event(_ key: String, _ revision: Int64, isDelete: Bool = false) -> EtcdEvent {
    var event = EtcdEvent()
    event.isDelete = isDelete
    event.item.key = Array(key.utf8)
    event.item.modRevision = revision
    event.item.createRevision = isDelete ? 0 : revision
    return event
  }
  private func response(_ events: [EtcdEvent], isFragment: Bool = false) throws -> EtcdWatchResponse {
    let nothing: [UInt8] = []
    var reader = OctetReader(nothing.span)
    var response = try EtcdWatchResponse(decoding: &reader)
    (response.events, response.isFragment) = (events, isFragment)
    return response
  }
  private func texts(_ batch: WatchBatch?) -> [String]? { batch?.events.map(\.key) }

  @Test("Of the one range only the wanted prefixes come through, by octets and whatever their order")
  func prefixes() throws {
    var assembly = WatchAssembly(prefixes: ["/x/", "/a", "/x/2", "/n/"])
    #expect(assembly.range == EtcdKeyRange(from: Array("/a".utf8), to: Array("/x0".utf8)))
    let keys = ["/", "/a", "/ab", "/b", "/n", "/n/", "/n/z", "/n0", "/x", "/x/", "/x/2/3", "/x0"]
    #expect(try texts(assembly.take(response(keys.map { event($0, 5) }))) == ["/a", "/ab", "/n/", "/n/z", "/x/", "/x/2/3"])
    // What is not wanted only tells how far everything has been told, as does a response without events.
    #expect(try assembly.take(response([event("/b", 6)])) == WatchBatch(events: [], revision: Revision(rawValue: 6)))
    var progress = try response([])
    progress.header.revision = 9
    #expect(assembly.take(progress) == WatchBatch(events: [], revision: Revision(rawValue: 9)))
    // The answer to the request comes before events of the past.
    progress.isCreated = true
    #expect(assembly.take(progress) == nil)
    #expect(WatchAssembly(prefixes: [""]).range == EtcdKeyRange(from: [], to: nil) && WatchAssembly(prefixes: [""]).isWanted([0xff]))
  }

  @Test("A response in pieces: a revision waits until it is whole, however it is cut")
  func fragments() throws {
    // Revisions 5, 6, 6, 6, 7, cut at every pair of places.
    let events = [event("/5", 5), event("/6a", 6), event("/6b", 6, isDelete: true), event("/6c", 6), event("/7", 7)]
    for first in 1..<events.count {
      for second in first..<events.count {
        let pieces = [events[..<first], events[first..<second], events[second...]].filter { !$0.isEmpty }
        var assembly = WatchAssembly(prefixes: ["/"])
        var batches: [WatchBatch] = []
        for (index, piece) in pieces.enumerated() {
          if let batch = assembly.take(try response(Array(piece), isFragment: index < pieces.count - 1)) { batches.append(batch) }
        }
        #expect(batches.flatMap { $0.events.map(\.key) } == ["/5", "/6a", "/6b", "/6c", "/7"], "cut at \(first) and \(second)")
        #expect(batches.filter { $0.events.contains { $0.key.hasPrefix("/6") } }.count == 1, "cut at \(first) and \(second)")
        #expect(batches.last?.revision == Revision(rawValue: 7))
      }
    }
  }
}

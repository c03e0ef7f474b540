/// Which endpoint is tried next, and when: a value that is told what happened.
///
/// A round tries every endpoint once. A round without success is followed by a pause, up to 100 ms doubling to 2 s, so that a cluster that is
/// down is not stormed by its clients when it returns; a success ends the pauses.
import Datastore

struct EndpointChoice: Sendable {
  private(set) var endpoints: [EtcdEndpoint]
  private var first: Int
  private var backoff: Backoff
  /// How long after the last round the next one may begin.
  private(set) var pause = Duration.zero

  /// `start` spreads many clients over the members.
  init(_ endpoints: [EtcdEndpoint], startingAt start: Int, chance: @escaping @Sendable () -> Double = { .random(in: 0...1) }) {
    self.endpoints = endpoints
    first = start % endpoints.count
    backoff = Backoff(first: .milliseconds(100), max: .seconds(2), chance: chance)
  }

  /// The order of the next round.
  var round: [EtcdEndpoint] { endpoints.indices.map { endpoints[(first + $0) % endpoints.count] } }

  mutating func connected(to endpoint: EtcdEndpoint) {
    backoff.reset()
    pause = .zero
    if let index = endpoints.firstIndex(of: endpoint) { first = index }
  }
  mutating func roundFailed() { pause = backoff.next() }
  /// A connection that worked is of no use any more: the next round begins with another endpoint.
  mutating func lost(_ endpoint: EtcdEndpoint) {
    if let index = endpoints.firstIndex(of: endpoint) { first = (index + 1) % endpoints.count }
  }
}

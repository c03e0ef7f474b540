/// Which endpoint is tried next, and when: a value that is told what happened.
///
/// A round tries every endpoint once. A round without success is followed by a pause, 100 ms doubling to 2 s, so that a cluster that is
/// down is not stormed by its clients when it returns; a success ends the pauses.
struct EndpointChoice: Sendable {
  private(set) var endpoints: [EtcdEndpoint]
  private var first: Int
  private var failedRounds = 0

  /// `start` spreads many clients over the members.
  init(_ endpoints: [EtcdEndpoint], startingAt start: Int) {
    self.endpoints = endpoints
    first = start % endpoints.count
  }

  /// The order of the next round.
  var round: [EtcdEndpoint] { endpoints.indices.map { endpoints[(first + $0) % endpoints.count] } }

  /// How long after the last round the next one may begin.
  var pause: Duration {
    failedRounds == 0 ? .zero : min(.milliseconds(100) * (1 << min(failedRounds - 1, 10)), .seconds(2))
  }

  mutating func connected(to endpoint: EtcdEndpoint) {
    failedRounds = 0
    if let index = endpoints.firstIndex(of: endpoint) { first = index }
  }
  mutating func roundFailed() { failedRounds += 1 }
  /// A connection that worked is of no use any more: the next round begins with another endpoint.
  mutating func lost(_ endpoint: EtcdEndpoint) {
    if let index = endpoints.firstIndex(of: endpoint) { first = (index + 1) % endpoints.count }
  }
}

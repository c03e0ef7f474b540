/// Calico's design load on one host: 100,000 endpoints elsewhere, 2,000 policies, 1,000 changes each second.

import Addresses
import Calculation
import HostPlans
import Resources

enum BusyClusterBench {
  /// Changes of one second, and how many of them one round of Felix takes in at a time.
  private static let changes = 1000
  private static let batch = 10

  /// The policies in use here name the first 55 selectors.
  ///
  /// CPU seconds for the changes of one second: the share of a core. The mix: of 100 changes 90 concern endpoints elsewhere (60 come or go in
  /// a selector in use, 30 in none), 5 endpoints here, 4 policies not in use here, 1 policy in use.
  static func run(_ report: Report, _ options: Options) async throws {
    let scale = PolicyScale(endpoints: 100, policies: 2000, selectors: 500, members: 200)
    let cluster = BenchCluster(scale: scale)
    var calculation = HostCalculation(node: BenchCluster.node)
    calculation.receive(BenchCluster.input(Resource(Metadata(name: "default"), .tier(TierSpec(order: 1_000_000)))))
    for number in 0..<scale.endpoints { calculation.receive(BenchCluster.input(BenchCluster.localEndpoint(number, group: number % 50))) }
    for number in 0..<100_000 { calculation.receive(BenchCluster.input(BenchCluster.remoteEndpoint(number, selector: number % 500))) }
    // A host with workloads of 50 groups out of 1,000 sees one policy in twenty.
    for number in 0..<scale.policies { calculation.receive(BenchCluster.input(cluster.policy(number, group: number % 1000))) }
    calculation.receive(.inSync)
    let first = cost { _ = calculation.flush() }
    report.add("the first plan", "s CPU", Samples(first.cpu))

    var seconds = Samples()
    var longest = Samples()
    for second in 0..<10 {
      var total = 0.0
      for start in stride(from: 0, to: changes, by: batch) {
        var answer: [HostPlanChange] = []
        let round = cost {
          for number in start..<start + batch { calculation.receive(Self.change(number, in: second, cluster)) }
          answer = calculation.flush()
        }
        total += round.cpu
        longest.add(round.cpu * 1e6)
        guard !answer.isEmpty else { throw BenchProblem("a round of ten changes, some of which concern this host, changes nothing") }
      }
      seconds.add(total)
    }
    report.add(
      "\(changes) changes of a second, 100,000 endpoints, 2,000 policies", "s CPU", seconds,
      bar: .atMost(0.5))
    report.add("one round of \(batch) changes", "µs CPU", longest)
  }

  /// Odd seconds take back what even ones did, so that the cluster keeps its size.
  private static func change(_ number: Int, in second: Int, _ cluster: BenchCluster) -> CalculationInput {
    let isForth = second % 2 == 0
    // Scattered, so that every round has some of each.
    switch number * 37 % 100 {
    case 0..<60:
      let endpoint = BenchCluster.remoteEndpoint(200_000 + number, selector: number % 55)
      return isForth ? BenchCluster.input(endpoint) : .resource(endpoint.key, nil)
    case 60..<90:
      let endpoint = BenchCluster.remoteEndpoint(200_000 + number, selector: 9999)
      return isForth ? BenchCluster.input(endpoint) : .resource(endpoint.key, nil)
    case 90..<95: return BenchCluster.input(BenchCluster.localEndpoint(number / 10, group: (number / 10 + (isForth ? 25 : 0)) % 50))
    case 95..<99:
      let policy = 1000 + number % 900
      return BenchCluster.input(cluster.policy(policy, group: 50 + policy % 900, firstPort: isForth ? 9000 : 8000))
    default: return BenchCluster.input(cluster.policy(number / 100, group: number / 100, firstPort: isForth ? 9000 : 8000))
    }
  }
}

/// The pure part alone, in a cluster far larger than one host: what a host pays for others' workloads and policies.

import Addresses
import Calculation
import HostPlans
import Resources
import Sockets

enum CalculationBench {
  /// Resident memory of this process in MiB.
  private static func resident(_ field: String = "VmRSS:") -> Double {
    let lines = ((try? Files.readText("/proc/self/status")) ?? "").split(separator: "\n")
    let words = lines.first { $0.hasPrefix(field) }?.split(whereSeparator: { $0 == " " || $0 == "\t" }) ?? []
    return words.count > 1 ? (Double(words[1]) ?? 0) / 1024 : 0
  }

  static func run(_ report: Report, _ options: Options) async throws {
    // 500 selectors of 500 workloads each elsewhere, 10,000 policies of which 100 apply here, 200 workloads here.
    let scale = PolicyScale(endpoints: 200, policies: 10_000, selectors: 500, members: 500)
    let cluster = BenchCluster(scale: scale)
    let before = resident()
    var calculation = HostCalculation(node: BenchCluster.node)
    let received = cost {
      calculation.receive(BenchCluster.input(Resource(Metadata(name: "default"), .tier(TierSpec(order: 1_000_000)))))
      for number in 0..<scale.endpoints { calculation.receive(BenchCluster.input(BenchCluster.localEndpoint(number, group: number % 100))) }
      for number in 0..<250_000 { calculation.receive(BenchCluster.input(BenchCluster.remoteEndpoint(number, selector: number % 500))) }
      // Two thousand groups: a host with 200 workloads of 100 groups sees one policy in twenty.
      for number in 0..<scale.policies { calculation.receive(BenchCluster.input(cluster.policy(number, group: number % 2000))) }
      calculation.receive(.inSync)
    }
    var changes: [HostPlanChange] = []
    let flushed = cost { changes = calculation.flush() }
    report.add("facts handed in (making them included)", "s CPU", Samples(received.cpu))
    report.add("the first plan (\(changes.count) changes)", "s CPU", Samples(flushed.cpu))
    changes = []
    report.add("memory held", "MiB", Samples(resident() - before))
    report.add("memory at its peak, facts and plan", "MiB", Samples(resident("VmHWM:") - before))

    func measure(_ what: String, _ there: CalculationInput, _ back: CalculationInput, isSeen: Bool = true) throws {
      var samples = Samples()
      for _ in 0..<200 {
        for input in [there, back] {
          var answer: [HostPlanChange] = []
          samples.add(
            cost {
              calculation.receive(input)
              answer = calculation.flush()
            }.cpu * 1e6)
          guard answer.isEmpty != isSeen else { throw BenchProblem("\(what): \(answer.count) changes of the plan") }
        }
      }
      report.add("\(what)", "µs CPU", samples)
    }
    let remote = BenchCluster.remoteEndpoint(300_000, selector: 0)
    try measure("a remote endpoint comes or goes, in a selector in use", BenchCluster.input(remote), .resource(remote.key, nil))
    let unseen = BenchCluster.remoteEndpoint(300_001, selector: 9999)
    try measure("a remote endpoint comes or goes, in none", BenchCluster.input(unseen), .resource(unseen.key, nil), isSeen: false)
    try measure(
      "a local endpoint moves to another group", BenchCluster.input(BenchCluster.localEndpoint(7, group: 50)),
      BenchCluster.input(BenchCluster.localEndpoint(7, group: 7)))
    try measure(
      "a policy in use changes a rule", BenchCluster.input(cluster.policy(7, group: 7, firstPort: 9000)),
      BenchCluster.input(cluster.policy(7, group: 7)))
    try measure(
      "a policy not in use changes a rule", BenchCluster.input(cluster.policy(1007, group: 1007, firstPort: 9000)),
      BenchCluster.input(cluster.policy(1007, group: 1007)), isSeen: false)
  }
}

/// Changes of policy at a given size: ours from the calculation's input to the commit, beside `nft -f` with the same change on the same
/// ruleset in a namespace of its own.

import Addresses
import Calculation
import HostPlans
import KernelSandbox
import NetlinkEdge
import PolicyRendering
import Resources
import RulesetDriver
import Rulesets
import Sockets

/// One host's policy, from facts to the kernel.
final class PolicyPath {
  var calculation = HostCalculation(node: BenchCluster.node)
  var renderer = PolicyRenderer()
  let driver: RulesetDriver
  /// Of the last `commit`.
  private(set) var delta = RulesetDelta()

  /// Without the owner flag, so that nft can change the same table in the peer's namespace.
  init(_ namespace: NetworkNamespace) throws {
    driver = RulesetDriver(kernel: try NetlinkRuleset(namespace: namespace.descriptor.borrowed), flags: [])
  }
  func commit(_ inputs: [CalculationInput]) throws {
    for input in inputs { calculation.receive(input) }
    delta = renderer.apply(calculation.flush())
    try driver.apply(delta)
  }
}

enum RulesetBench {
  // Why a row may be behind its bar; seen with perf.
  private static let validation = """
    the kernel checks every rule of the table, on each way from a hook, when one rule or verdict element is added (nft_chain_validate)
    """
  private static let lookups = """
    the kernel finds each rule's set by walking the list of all sets (nft_set_lookup_global), and the bar comes from a ruleset of single \
    addresses, where here every other set holds prefixes
    """

  struct Change {
    var what: String
    /// To the changed state and back: both are measured.
    var there: CalculationInput
    var back: CalculationInput
    var barThere: Bar?
    var barBack: Bar?
    var whatBack: String
    var note: String?
  }

  static func run(_ report: Report, _ options: Options) async throws {
    let scale = PolicyScale.all[options.endpoints]!
    let cluster = BenchCluster(scale: scale)
    let sandbox = KernelSandbox()
    let size = "\(scale.endpoints) endpoints"
    // The bars were measured at 1,000 endpoints.
    func bar(_ value: Double) -> Bar? { scale.endpoints == 1000 ? .atMost(value) : nil }

    let host = try sandbox.namespace("host")
    let path = try PolicyPath(host)
    let calculated = cost {
      cluster.forEachInput { path.calculation.receive($0) }
    }
    var plan: [HostPlanChange] = []
    let flushed = cost { plan = path.calculation.flush() }
    report.add(
      "calculation of the whole plan, \(size)", "ms CPU", Samples((calculated.cpu + flushed.cpu) * 1000))
    let before = Machine.residentOctets
    var whole = RulesetDelta()
    let rendered = cost { whole = path.renderer.apply(plan) }
    report.add("rendering the whole plan, \(size)", "ms CPU", Samples(rendered.cpu * 1000))
    try path.driver.apply(whole)
    let grown = Double(Machine.residentOctets - before) / 1_048_576
    report.add(
      "memory of renderer and driver, \(size)", "MiB", Samples(grown), bar: .atMost(40 * Double(max(scale.endpoints, 1000)) / 1000))

    let peer = try sandbox.namespace("peer")
    try await load(report, whole, size, sandbox, host: host, peer: peer, options, bar)

    let script = NftScript(sandbox: sandbox, after: host)
    for change in changes(cluster, size, bar) {
      var scripts: [String] = []
      // The first round warms both up and writes the scripts, out of measure.
      for (index, input) in [change.there, change.back].enumerated() {
        let before = path.driver.ruleset
        try path.commit([input])
        let file = "\(options.scratch)/change\(index).nft"
        try Files.writeAtomically(Array(try script.text(path.delta, before: before, now: path.driver.ruleset).utf8), to: file)
        try sandbox.run(peer, "nft", ["-f", file])
        scripts.append(file)
      }
      var ours = [Costs(), Costs()]
      var cold = [Costs(), Costs()]
      var theirs = [Costs(), Costs()]
      let rounds = scale.endpoints > 1000 ? 10 : 25
      for _ in 0..<rounds {
        // The first pair of a round comes after nft has had the processor's caches for itself, as after any other work of the host.
        for pair in 0..<4 {
          for (index, input) in [change.there, change.back].enumerated() {
            let one = try cost { try path.commit([input]) }
            if pair == 0 { cold[index].add(one) } else { ours[index].add(one) }
          }
        }
        for index in 0...1 { theirs[index].add(try costOfChildren { try Spawning.run(["nft", "-f", scripts[index]], in: peer) }) }
      }
      for (index, what) in [change.what, change.whatBack].enumerated() {
        report.add(
          "\(what), \(size)", "ms CPU", ours[index].cpu.scaled(1000), peer: ("nft -f", theirs[index].cpu.scaled(1000)),
          bar: index == 0 ? change.barThere : change.barBack, note: change.note)
        report.add("  the first after other work", "ms CPU", cold[index].cpu.scaled(1000))
      }
    }
    try checkSame(sandbox, host, peer)
  }

  /// The whole table into an empty kernel.
  private static func load(
    _ report: Report, _ whole: RulesetDelta, _ size: String, _ sandbox: KernelSandbox, host: NetworkNamespace, peer: NetworkNamespace,
    _ options: Options, _ bar: (Double) -> Bar?
  ) async throws {
    let file = "\(options.scratch)/whole.nft"
    try Files.writeAtomically(Array(try sandbox.run(host, "nft", ["list", "table", "inet", "margay"]).utf8), to: file)
    var ours = Costs()
    var theirs = Costs()
    for _ in 0..<5 {
      let mine = try sandbox.namespace("load")
      ours.add(
        try cost {
          let driver = RulesetDriver(kernel: try NetlinkRuleset(namespace: mine.descriptor.borrowed), flags: [])
          try driver.apply(whole)
        })
      let other = try sandbox.namespace("load")
      theirs.add(try costOfChildren { try Spawning.run(["nft", "-f", file], in: other) })
      for namespace in [mine, other] { try sandbox.run(namespace, "nft", ["flush", "ruleset"]) }
    }
    try sandbox.run(peer, "nft", ["-f", file])
    report.add("full load, \(size)", "s CPU", ours.cpu, peer: ("nft -f", theirs.cpu), bar: bar(0.15), note: lookups)
    report.add("full load, \(size)", "s wall", ours.wall, peer: ("nft -f", theirs.wall))
  }

  private static func changes(_ cluster: BenchCluster, _ size: String, _ bar: (Double) -> Bar?) -> [Change] {
    let scale = cluster.scale
    func gone(_ resource: Resource) -> CalculationInput { .resource(resource.key, nil) }
    let remote = BenchCluster.remoteEndpoint(scale.selectors * scale.members + 1, selector: 0)
    let local = BenchCluster.localEndpoint(scale.endpoints + 1, group: 0)
    let added = cluster.policy(scale.policies + 1, group: 0)
    return [
      Change(
        what: "set element added", there: BenchCluster.input(remote), back: gone(remote), barThere: bar(0.05), barBack: bar(0.05),
        whatBack: "set element removed"),
      Change(
        what: "endpoint added", there: BenchCluster.input(local), back: gone(local), barThere: bar(1), barBack: bar(1),
        whatBack: "endpoint removed", note: validation),
      Change(
        what: "policy replaced (10 rules)", there: BenchCluster.input(cluster.policy(0, shift: 10)),
        back: BenchCluster.input(cluster.policy(0)), barThere: bar(1), barBack: bar(1), whatBack: "policy replaced back",
        note: validation),
      Change(
        what: "one rule of a policy changed", there: BenchCluster.input(cluster.policy(0, firstPort: 9000)),
        back: BenchCluster.input(cluster.policy(0)), barThere: bar(1), barBack: bar(1), whatBack: "one rule changed back",
        note: validation),
      Change(
        what: "policy added (to 10 endpoints)", there: BenchCluster.input(added), back: gone(added), whatBack: "policy removed"),
    ]
  }

  /// After all rounds both kernels must hold the same, or something else was measured than what the table says.
  private static func checkSame(_ sandbox: KernelSandbox, _ host: NetworkNamespace, _ peer: NetworkNamespace) throws {
    func count(_ namespace: NetworkNamespace) throws -> [Int] {
      let ruleset = try NetlinkRuleset(namespace: namespace.descriptor.borrowed).read()
      return [
        ruleset?.chains.count ?? 0, ruleset?.chains.values.reduce(0) { $0 + $1.rules.count } ?? 0, ruleset?.sets.count ?? 0,
        ruleset?.sets.values.reduce(0) { $0 + $1.elements.count } ?? 0,
      ]
    }
    let (ours, theirs) = (try count(host), try count(peer))
    guard ours == theirs, ours[0] > 0 else {
      throw BenchProblem("after the rounds the kernels differ: chains, rules, sets, elements \(ours) here and \(theirs) with nft")
    }
    tell("  both kernels hold \(ours[0]) chains, \(ours[1]) rules, \(ours[2]) sets, \(ours[3]) elements")
  }
}

/// ADD and DEL as a container runtime makes them: `margay-cni` against a warm node with a datastore, beside `ptp` with `host-local`, which
/// keep their addresses in files and know no policy. CPU is the plugin's and the node's together.

import Dispatch
import Glibc
import KernelSandbox
import NetlinkEdge
import Sockets
import Synchronization

enum CNIBench {
  private static let serial = 60
  private static let parallel = 64
  private static let lanes = 8

  static func run(_ report: Report, _ options: Options) async throws {
    for kind in StoreKind.allCases {
      do {
        try await run(kind, report, options)
      } catch {
        report.add(Row(what: "CNI, \(kind.rawValue)", unit: "", note: "\(error)"))
      }
    }
  }

  private struct Subject {
    var plugin: String
    var configuration: String
    var host: NetworkNamespace
    /// CPU of the daemons that work for the plugin.
    var daemons: () -> Double
    func call(_ verb: String, _ container: Container) throws -> Cost {
      let before = daemons()
      var cost = try costOfChildren {
        try BenchNode.call(plugin, verb, container, configuration: configuration, host: host)
      }
      cost.cpu += daemons() - before
      return cost
    }
  }

  private static func run(_ kind: StoreKind, _ report: Report, _ options: Options) async throws {
    let node = try await BenchNode(kind, options)
    let (felix, server) = (node.felixPID, node.store.serverPID)
    let ours = Subject(plugin: node.plugin, configuration: try node.configuration(), host: node.host) {
      CPUClock.process(felix) + (server.map { CPUClock.process($0) } ?? 0)
    }
    let conf = "\(options.scratch)/ptp-\(kind.rawValue).json"
    let text = """
      {"cniVersion":"1.0.0","name":"net","type":"ptp","ipMasq":false,
      "ipam":{"type":"host-local","dataDir":"\(options.scratch)/host-local-\(kind.rawValue)",
      "ranges":[[{"subnet":"10.67.0.0/16"}]],"routes":[{"dst":"0.0.0.0/0"}]}}
      """
    try Files.writeAtomically(Array(text.utf8), to: conf)
    let peer = Subject(plugin: "/usr/lib/cni/ptp", configuration: conf, host: try node.sandbox.namespace("peer")) { 0 }
    let subjects = [ours, peer]

    var adds = [Costs(), Costs()]
    var deletes = [Costs(), Costs()]
    let containers = try subjects.indices.map { _ in try (0..<serial).map { _ in try node.container("c") } }
    for number in 0..<serial {
      for (index, subject) in subjects.enumerated() {
        let cost = try subject.call("ADD", containers[index][number])
        if number > 2 { adds[index].add(cost) }
      }
    }
    for number in 0..<serial {
      for (index, subject) in subjects.enumerated() {
        let cost = try subject.call("DEL", containers[index][number])
        if number > 2 { deletes[index].add(cost) }
      }
    }
    let name = "ptp + host-local"
    for (verb, costs, cpuBar) in [("ADD", adds, Bar.atMost(5)), ("DEL", deletes, nil)] as [(String, [Costs], Bar?)] {
      report.add(
        "\(verb), one at a time, \(kind.rawValue)", "ms wall", costs[0].wall.scaled(1000), peer: (name, costs[1].wall.scaled(1000)),
        bar: verb == "ADD" ? .ratio(0.5) : nil)
      report.add(
        "\(verb), one at a time, \(kind.rawValue)", "ms CPU", costs[0].cpu.scaled(1000), peer: (name, costs[1].cpu.scaled(1000)),
        bar: cpuBar)
    }

    // Eight at once: what a node does when it is drained or filled.
    var rates: [String: [Samples]] = ["ADD": [Samples(), Samples()], "DEL": [Samples(), Samples()]]
    var waits: [String: [Samples]] = rates
    let crowd = try subjects.indices.map { _ in try (0..<parallel).map { _ in try node.container("p") } }
    for verb in ["ADD", "DEL"] {
      for (index, subject) in subjects.enumerated() {
        let started = MonotonicInstant.now
        let times = try concurrently(subject, verb, crowd[index])
        rates[verb]![index].add(Double(parallel) / MonotonicInstant.now.seconds(since: started))
        waits[verb]![index].values += times
      }
    }
    for verb in ["ADD", "DEL"] {
      report.add(
        "\(verb), 8 at once, \(kind.rawValue)", "ms wall", waits[verb]![0].scaled(1000), peer: (name, waits[verb]![1].scaled(1000)),
        bar: verb == "ADD" ? .ratio(0.5) : nil)
      report.add(Row(
        what: "\(verb), 8 at once, time for each, \(kind.rawValue)", unit: "ms wall", ours: 1000 / rates[verb]![0].median, peerName: name,
        peer: 1000 / rates[verb]![1].median))
    }
    await node.end()
  }

  /// The wall times of all calls.
  private static func concurrently(_ subject: Subject, _ verb: String, _ containers: [Container]) throws -> [Double] {
    let (plugin, configuration, host) = (subject.plugin, subject.configuration, subject.host)
    let times = Mutex<[Double]>([])
    let failure = Mutex<(any Error)?>(nil)
    let group = DispatchGroup()
    for lane in 0..<lanes {
      group.enter()
      try DedicatedThread.start {
        defer { group.leave() }
        for (number, container) in containers.enumerated() where number % lanes == lane {
          let started = MonotonicInstant.now
          do {
            try BenchNode.call(plugin, verb, container, configuration: configuration, host: host)
          } catch {
            failure.withLock { $0 = error }
          }
          let seconds = MonotonicInstant.now.seconds(since: started)
          times.withLock { $0.append(seconds) }
        }
      }
    }
    group.wait()
    if let error = failure.withLock({ $0 }) { throw error }
    return times.withLock { $0 }
  }
}

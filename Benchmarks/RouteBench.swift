/// Routes: through RouteDriver as Felix and BGP use it, as bare batches, and by `ip -batch`.

import Addresses
import KernelSandbox
import NetlinkEdge
import NetlinkMessages
import RouteDriver
import Sockets

enum RouteBench {
  static func run(_ report: Report, _ options: Options) async throws {
    let sandbox = KernelSandbox()
    for count in [10_000, 100_000] {
      let far = try sandbox.namespace("far")
      let namespaces = try (0..<3).map { _ in try sandbox.namespace("routes") }
      for (index, namespace) in namespaces.enumerated() {
        for device in ["v0", "v1"] { try sandbox.connect(namespace, device, [], far, "\(device)-\(index)") }
      }
      let prefixes = (0..<count).map { BenchCluster.address(0x0b00_0000, $0).hostPrefix }
      let netlink = try namespaces.map { try RouteNetlink(namespace: $0) }
      let driver = RouteDriver(netlink: netlink[0], protocol: .felix)
      try driver.resync()
      let indexes = try ["v0", "v1"].map { try netlink[1].link(named: $0)!.index }
      for (verb, device) in [("add", "v0"), ("replace", "v1"), ("del", "v1")] {
        let lines = prefixes.map { "route \(verb) \($0) dev \(device) proto 80\n" }.joined()
        try Files.writeAtomically(Array(lines.utf8), to: "\(options.scratch)/\(verb).batch")
      }

      var ours: [String: Costs] = [:]
      var raw: [String: Costs] = [:]
      var theirs: [String: Costs] = [:]
      for round in 0..<(count > 10_000 ? 3 : 8) {
        for verb in ["add", "replace", "del"] {
          let driven = try cost {
            let spec: RouteSpec? = verb == "del" ? nil : .device(verb == "add" ? "v0" : "v1")
            for prefix in prefixes { driver.want(spec, for: prefix) }
            let report = try driver.apply()
            guard report.changed == count, report.problems.isEmpty else {
              let why = report.problems.first.map { "\($0)" } ?? ""
              throw BenchProblem("\(report.changed) of \(count) routes changed; \(why)")
            }
          }
          let bare = try cost {
            let changes = prefixes.map { prefix -> RouteNetlinkChange in
              let route = KernelRoute.device(prefix, interface: indexes[verb == "add" ? 0 : 1], protocol: .felix)
              return verb == "add" ? .addRoute(route) : verb == "replace" ? .replaceRoute(route) : .deleteRoute(route)
            }
            for case let error? in try netlink[1].apply(changes) { throw error }
          }
          let batch = try costOfChildren {
            try Spawning.run(["ip", "-batch", "\(options.scratch)/\(verb).batch"], in: namespaces[2])
          }
          // The first round warms up.
          guard round > 0 else { continue }
          ours[verb, default: Costs()].add(driven)
          raw[verb, default: Costs()].add(bare)
          theirs[verb, default: Costs()].add(batch)
          guard verb == "replace" else { continue }
          ours["dump", default: Costs()].add(try cost { try driver.resync() })
          raw["dump", default: Costs()].add(try cost { _ = try netlink[1].routes(protocol: .felix, family: .v4) })
          theirs["dump", default: Costs()].add(
            try costOfChildren { try Spawning.run(["ip", "route", "show"], in: namespaces[2]) })
        }
      }
      let perRoute = 1e6 / Double(count)
      let size = count == 10_000 ? "10k" : "100k"
      for (verb, what) in [("add", "added"), ("replace", "replaced"), ("del", "removed")] {
        report.add(
          "\(size) routes \(what), RouteDriver", "µs CPU/route", ours[verb]!.cpu.scaled(perRoute),
          peer: ("ip -batch", theirs[verb]!.cpu.scaled(perRoute)), bar: .atMost(4))
        report.add(
          "\(size) routes \(what), bare batches", "µs CPU/route", raw[verb]!.cpu.scaled(perRoute),
          peer: ("ip -batch", theirs[verb]!.cpu.scaled(perRoute)))
      }
      report.add(
        "\(size) routes read back and compared", "µs CPU/route", ours["dump"]!.cpu.scaled(perRoute),
        peer: ("ip route show", theirs["dump"]!.cpu.scaled(perRoute)))
      report.add(
        "\(size) routes read as values", "µs CPU/route", raw["dump"]!.cpu.scaled(perRoute),
        peer: ("ip route show", theirs["dump"]!.cpu.scaled(perRoute)))
    }
  }
}

extension Files {
  static func null() throws(SystemError) -> OwnedDescriptor { try opened("/dev/null") }
}

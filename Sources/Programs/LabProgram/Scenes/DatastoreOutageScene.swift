/// The datastore dies and comes back under traffic.
import Addresses
import Glibc
import JSON
import PolicyOracle
import Sockets
import Tables

extension Demo {
  func loseDatastore(_ traffic: Traffic, _ result: inout Result) throws {
    guard lab.topology.datastore == .etcd else { return }
    narrator.heading("etcd is killed and started again while traffic flows")
    let expected = try expectations()
    let allowed = expected.filter(\.value.isAllowed).keys.sorted { "\($0)" < "\($1)" }
    try startStreams(allowed, traffic, interval: .milliseconds(10))
    let killed = try narrator.step("kill -9 etcd") { try lab.killProcesses(of: Topology.etcd) }
    if killed != 1 { result.problems.append("\(killed) etcd processes were there to kill, not 1") }

    try narrator.step("felix and bgp of every host notice") {
      try lab.waitUntil("every host misses its datastore", seconds: 30) { lab.topology.hosts.allSatisfy { lab.datastoreFault($0) != nil } }
    }
    if let host = lab.topology.hosts.first { narrator.say("  \(host.name): \(lab.datastoreFault(host) ?? "")") }

    // What was allowed and refused stays so, for new connections as well.
    let matrix = try narrator.step("all cells again, without a datastore") {
      try check.matrix(traffic, expected: expected, settle: .zero).matrix
    }
    narrator.say(
      "  \(matrix.cells.count) cells: "
        + (matrix.wrong.isEmpty ? narrator.palette("all as before", .green) : narrator.palette("\(matrix.wrong.count) wrong", .red)))
    result.cells += matrix.cells.count
    result.wrong += matrix.wrong.count
    for cell in matrix.wrong.prefix(5) { result.problems.append("without a datastore: \(cell.probe): \(cell.outcome)") }

    let refused = try narrator.step("margay apply, which must fail and say why") {
      try lab.tryToApply(DemoDocuments.policies, as: "refused.yaml")
    }
    narrator.say("  exit code \(refused.code): " + (refused.output.split(separator: "\n").first.map(String.init) ?? "nothing said"))
    if refused.code == 0 { result.problems.append("margay apply succeeded without a datastore") }
    if !refused.output.contains("172.30.250.2") { result.problems.append("margay apply did not say which datastore is away") }

    try narrator.step("etcd again") { try lab.startDatastore() }
    let after = try narrator.step("felix and bgp of every host follow it again") { () throws -> Duration in
      let started = MonotonicInstant.now
      try lab.waitUntil("no daemon misses the datastore", seconds: 30) { lab.topology.hosts.allSatisfy { lab.datastoreFault($0) == nil } }
      return .now - started
    }
    narrator.say("  \(seconds(after)) after etcd answered")
    showLosses(traffic.stopStreams(), &result)
    try narrator.step("margay apply: policies as they were at first") { try lab.apply(DemoDocuments.policies, as: "policies.yaml") }
    try showMatrix("Who reaches whom, by a change made after the outage", traffic, &result)
  }
}

extension Lab {
  /// `apply` whose outcome is the point.
  func tryToApply(_ text: String, as file: String) throws -> (code: CInt, output: String) {
    let path = "\(paths.directory)/\(file)"
    try Files.writeAtomically(Array(text.utf8), to: path)
    return try margay(["apply", "-f", path])
  }

  /// What the host's daemons say of their datastore: nil while both have it.
  func datastoreFault(_ host: Topology.Host) -> String? {
    guard let felix = status(of: host, "felix"), let bgp = status(of: host, "bgp") else {
      return "a daemon of \(host.name) does not answer"
    }
    if let fault = felix["datastore"]?.string, fault != "connected" { return fault }
    return bgp["problems"]?.array?.compactMap(\.string).first { $0.contains("datastore") }
  }
}

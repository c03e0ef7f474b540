/// A workload moves to another host and back, with its address and its connections.
import Addresses
import PolicyOracle
import Sockets

extension Demo {
  func moveWorkload(_ traffic: Traffic, _ result: inout Result) throws {
    guard let workload = lab.topology.workloads.first(where: { $0.name == "web-2" }), let home = lab.attached["web-2"]?.host,
      let other = lab.topology.hosts.first(where: { $0.name != home })
    else { return }
    narrator.heading("\(workload.name) moves to \(other.name), and back, with its addresses and its connections")
    // TCP alone: what is on its way while nobody holds the address is sent again, and nothing may be missing in the end. Datagrams of that
    // time are gone, as the longest gap tells.
    let probes = try expectations().filter { probe, verdict in
      guard case .tcp = probe.service else { return false }
      return verdict.isAllowed && [probe.from, probe.to].contains(workload.name)
    }.keys.sorted { "\($0)" < "\($1)" }
    try startStreams(probes, traffic)
    for host in [other.name, home] {
      let before = Dictionary(uniqueKeysWithValues: probes.map { ($0, traffic.answersSoFar($0)) })
      try narrator.step("margay-cni DEL, then ADD on \(host)") { try lab.move(workload.name, to: host) }
      try narrator.step("every connection goes on") {
        try lab.waitUntil("every connection of \(workload.name) goes on", seconds: 15) {
          probes.allSatisfy { traffic.answersSoFar($0) > before[$0]! + 20 }
        }
      }
    }
    showLosses(traffic.stopStreams(), &result)
  }
}

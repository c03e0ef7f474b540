/// Every process of a host dies under traffic.
import Glibc
import JSON
import Sockets

extension Demo {
  func restart(_ traffic: Traffic, _ result: inout Result) throws {
    guard let host = lab.topology.hosts.first(where: { $0.name == "host2" }) ?? lab.topology.hosts.first else { return }
    narrator.heading("Every Margay process of \(host.name) is killed and started again while traffic flows")
    try startStreams(allowedProbes(touching: [host.name]), traffic)
    let killed = try narrator.step("kill -9 \(host.name): node, felix, bgp") { try lab.killNode(host) }
    if killed < 3 { result.problems.append("only \(killed) processes of \(host.name) were there to kill") }
    usleep(1_500_000)
    try narrator.step("margay node on \(host.name) again; in sync, sessions established") {
      try lab.startNode(host)
      try lab.waitForSessions()
    }
    try narrator.step("routes settled") {
      try lab.waitUntil("bgp on \(host.name) has finished its restart", seconds: 30) {
        lab.status(of: host, "bgp")?["isDeferring"]?.bool == false
      }
    }
    usleep(500_000)
    showLosses(traffic.stopStreams(), &result)
    let felix = lab.status(of: host, "felix")?["kernelChanges"]?.integer
    let bgp = lab.status(of: host, "bgp")?["kernelChanges"]?.integer
    narrator.say("  changes the new processes made to the kernel: felix \(felix.map { "\($0)" } ?? "?"), bgp \(bgp.map { "\($0)" } ?? "?")")
    if felix != 0 || bgp != 0 {
      result.problems.append("the restart on \(host.name) changed a kernel that was right: felix \(felix ?? -1), bgp \(bgp ?? -1)")
    }
  }
}

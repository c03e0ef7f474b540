/// A policy changes under traffic.
import Addresses
import Sockets
import Tables

extension Demo {
  func changePolicy(_ traffic: Traffic, _ result: inout Result) throws {
    narrator.heading("A policy changes while traffic flows")
    narrator.say("  policy `web` takes TCP port 80 away from the clients and gives them UDP port 53")
    let gained = IPFamily.allCases.map { Probe(from: "client-1", to: "web-1", family: $0, service: .udp(53)) }
    // A new UDP probe for each datagram would measure the socket; one flow that was denied so far has no conntrack entry and serves as well.
    try traffic.startStreams(gained, interval: .milliseconds(1))
    let applied = try narrator.step("margay apply: policy web") {
      let started = MonotonicInstant.now
      try lab.apply(DemoDocuments.changedWeb, as: "web.yaml")
      return (started, MonotonicInstant.now)
    }
    try lab.waitUntil("the first datagram passes", seconds: 5) { gained.allSatisfy { traffic.answersSoFar($0) > 0 } }
    for report in traffic.stopStreams() {
      guard let first = report.firstSent(after: applied.0, answered: true) else {
        result.problems.append("\(report.probe.family): no datagram passed after the policy allowed it")
        continue
      }
      let early = report.answeredAt.enumerated().count { $0.element != nil && report.sentAt[$0.offset] < applied.0 }
      if early > 0 { result.problems.append("\(report.probe.family): \(early) datagrams passed before the policy allowed them") }
      narrator.say(
        "  \(report.probe.family): first datagram through \(seconds(first - applied.0)) after the command started"
          + (first > applied.1 ? ", \(seconds(first - applied.1)) after it ended" : ", before it ended"))
    }
    try showMatrix("Who reaches whom now", traffic, &result)
  }
}

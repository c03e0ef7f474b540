/// What streams lost while something was done to the lab.
import PolicyOracle
import Sockets
import Tables

extension Demo {
  /// Every allowed pair with an end on one of `hosts`, in the order of their names.
  func allowedProbes(touching hosts: Set<String>) throws -> [Probe] {
    try expectations().filter { probe, verdict in
      verdict.isAllowed && [probe.from, probe.to].contains { lab.attached[$0].map { hosts.contains($0.host) } ?? false }
    }.keys.sorted { "\($0)" < "\($1)" }
  }

  /// Starts a stream for each probe and waits until each has had an answer.
  func startStreams(_ probes: [Probe], _ traffic: Traffic, interval: Duration = .milliseconds(5)) throws {
    try traffic.startStreams(probes, interval: interval)
    try lab.waitUntil("traffic flows", seconds: 5) { probes.allSatisfy { traffic.answersSoFar($0) > 0 } }
  }

  /// A table by service, a line for each stream that lost something, and the count in `result`.
  func showLosses(_ reports: [StreamReport], _ result: inout Result) {
    let sent = reports.reduce(0) { $0 + $1.sent }
    let lost = reports.reduce(0) { $0 + $1.lost }
    var byService = TextTable(["service", "streams>", "requests>", "lost>", "longest gap>"])
    for (service, group) in Dictionary(grouping: reports, by: \.probe.service).sorted(by: { "\($0.key)" < "\($1.key)" }) {
      byService.append([
        TextTable.Cell(service.description), TextTable.Cell("\(group.count)"), TextTable.Cell("\(group.reduce(0) { $0 + $1.sent })"),
        TextTable.Cell("\(group.reduce(0) { $0 + $1.lost })"), TextTable.Cell(seconds(group.map(\.gapMax).max() ?? .zero)),
      ])
    }
    narrator.say(byService.text(narrator.palette, indent: 2))
    narrator.say("  \(sent) requests, \(lost == 0 ? narrator.palette("none lost", .green) : narrator.palette("\(lost) lost", .red))")
    for report in reports where report.lost > 0 || report.failure != nil {
      let problem = report.failure.map { " (\($0))" } ?? ""
      narrator.say("  \(narrator.palette("lost", .red)): \(report.probe): \(report.lost) of \(report.sent)\(problem)")
      if let failure = report.failure { result.problems.append("\(report.probe): \(failure)") }
    }
    result.lost += lost
  }
}

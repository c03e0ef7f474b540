/// Traffic that goes on: a stream for every pair that policy allows, and a line each second on what was lost, until somebody says stop.
import Addresses
import Glibc
import JSON
import PolicyOracle
import Sockets
import Synchronization
import Tables

public final class TrafficWatch: Sendable {
  private let traffic: Traffic
  private let palette: Palette
  private let asJSON: Bool
  private let isOver = Atomic<Bool>(false)
  private let write: @Sendable (String) -> Void

  /// Streams of the pairs that are allowed now. `write` is called on a thread of its own.
  public init(
    _ check: TrafficCheck, interval: Duration, palette: Palette, asJSON: Bool, write: @escaping @Sendable (String) -> Void
  ) throws {
    traffic = try check.open()
    self.palette = palette
    self.asJSON = asJSON
    self.write = write
    let allowed = try check.expectations().filter(\.value.isAllowed).keys.sorted { "\($0)" < "\($1)" }
    guard !allowed.isEmpty else { throw LabProblem("policy allows none of these pairs anything: there is no traffic to watch") }
    try traffic.startStreams(allowed, interval: interval)
    if !asJSON { write("\(allowed.count) streams, a request every \(seconds(interval)) on each; Ctrl-C ends\n") }
  }

  /// Tells once a second; returns when `stop` has been called, with the number of requests lost.
  public func run() -> Int {
    var before: [Probe: StreamProgress] = [:]
    while true {
      for _ in 0..<20 where !isOver.load(ordering: .sequentiallyConsistent) { usleep(50_000) }
      if isOver.load(ordering: .sequentiallyConsistent) { break }
      let now = traffic.progress()
      tell(now, before)
      before = Dictionary(uniqueKeysWithValues: now.map { ($0.probe, $0) })
    }
    let reports = traffic.stopStreams()
    traffic.close()
    let sent = reports.reduce(0) { $0 + $1.sent }
    let lost = reports.reduce(0) { $0 + $1.lost }
    if asJSON {
      write(JSONValue.object(JSONObject([.init("sent", .integer(Int64(sent))), .init("lost", .integer(Int64(lost)))])).text() + "\n")
    } else {
      write("\n\(sent) requests, \(lost == 0 ? palette("none lost", .green) : palette("\(lost) lost", .red))\n")
      for report in reports where report.lost > 0 {
        write("  \(report.probe): \(report.lost) of \(report.sent), longest gap \(seconds(report.gapMax))\n")
      }
    }
    return lost
  }

  public func stop() { isOver.store(true, ordering: .sequentiallyConsistent) }

  private func tell(_ now: [StreamProgress], _ before: [Probe: StreamProgress]) {
    let sent = now.reduce(0) { $0 + $1.sent }
    let lost = now.reduce(0) { $0 + $1.lost }
    let losing = now.filter { $0.lost > before[$0.probe]?.lost ?? 0 }
    if asJSON {
      let streams = losing.map { stream -> JSONValue in
        [
          "from": .string(stream.probe.from), "to": .string(stream.probe.to), "service": .string(stream.probe.service.description),
          "family": .string(stream.probe.family.description), "sent": .integer(Int64(stream.sent)), "late": .integer(Int64(stream.lost)),
          "failure": stream.failure.map { .string($0) } ?? .null,
        ]
      }
      write(
        JSONValue.object(
          JSONObject([.init("sent", .integer(Int64(sent))), .init("late", .integer(Int64(lost))), .init("losing", .array(streams))])
        ).text() + "\n")
      return
    }
    var line = "\(sent) sent  \(lost == 0 ? palette("all answered", .green) : palette("\(lost) without answer for a second", .red))"
    if !losing.isEmpty {
      let names = losing.prefix(3).map { "\($0.probe)" + ($0.failure.map { " (\($0))" } ?? "") }
      line += "  now: \(names.joined(separator: "; "))" + (losing.count > 3 ? " and \(losing.count - 3) more" : "")
    }
    write(line + "\n")
  }
}

/// margay node status: this host's daemons by their sockets, or every node by the datastore.
import ArgumentParser
import Datastore
import JSON
import LabProgram
import Names
import NodeProgram
import Sockets
import Tables

struct NodeStatus: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status", abstract: "How this host's daemons are, or with --all every node's.",
    discussion: """
      Without --all it asks the daemons of this host: felix, endpoints, BGP sessions and routes. With --all it reads what the daemons of \
      every node keep in the datastore: no root and no node needed. Exit code 0: all is well. 1: a daemon does not answer, or a node's \
      agent has not been heard of. 2: all answer, and something is wrong (a problem, a finding, an endpoint in error, not ready; with \
      --all also a session that is not established).
      """)
  @Option(name: .long, help: "Where the daemons' sockets live.") var runDir = "/run/margay"
  @Flag(name: [.customShort("a"), .long], help: "All nodes, as they report themselves in the datastore.") var all = false
  @Flag(name: .long, help: "The same as -o json.") var json = false
  @Option(name: .shortAndLong, help: "table or json.") var output: Output = .table
  @OptionGroup var store: DatastoreOptions
  enum Output: String, ExpressibleByArgument, CaseIterable { case table, json }

  func run() async throws {
    let code = all ? try await showCluster() : showHost()
    if code != 0 { throw ExitCode(code) }
  }

  private var isJSON: Bool { json || output == .json }

  // MARK: This host

  private func showHost() -> Int32 {
    let felix = StatusReader.read("\(runDir)/felix.sock")
    let bgp = StatusReader.read("\(runDir)/bgp.sock")
    // A node may leave the housekeeping to others: then there is not even a socket.
    let runsControllers = Files.exists("\(runDir)/controllers.sock")
    let controllers = runsControllers ? StatusReader.read("\(runDir)/controllers.sock") : nil
    if isJSON {
      write((["felix": felix ?? nil, "bgp": bgp ?? nil, "controllers": controllers ?? nil] as JSONValue).text(pretty: true) + "\n")
    } else {
      let palette = palette()
      let node = felix?["node"]?.string ?? "this host"
      write(Self.head("felix", felix, palette) + Self.head("bgp", bgp, palette))
      if runsControllers { write(Self.head("controllers", controllers, palette) + Self.tasks(controllers, palette)) }
      write("\n" + LabReport.endpoints([(node, felix)]).text(palette) + "\n")
      for endpoint in felix?["endpoints"]?.array ?? [] {
        guard let problem = endpoint["problem"]?.string else { continue }
        write("  \(palette(endpoint["name"]?.string ?? "?", .yellow)): \(problem)\(Self.since(endpoint["since"]?.string))\n")
      }
      for endpoint in felix?["hostEndpoints"]?.array ?? [] {
        let interfaces = (endpoint["interfaces"]?.array ?? []).compactMap(\.string).joined(separator: ", ")
        let words = [interfaces.isEmpty ? nil : "polices \(interfaces == "*" ? "all other interfaces" : interfaces)", endpoint["problem"]?.string]
        write("  host endpoint \(palette(endpoint["name"]?.string ?? "?", .bold)): \(words.compactMap { $0 }.joined(separator: "; "))\n")
      }
      write(LabReport.sessions([(node, bgp)]).text(palette) + "\n")
      write(LabReport.routes([(node, bgp)]).text(palette))
    }
    guard let felix, let bgp, runsControllers == (controllers != nil) else { return 1 }
    func isEmpty(_ document: JSONValue, _ member: String) -> Bool { document[member]?.array?.isEmpty ?? true }
    let isGood = ([felix, bgp] + (controllers.map { [$0] } ?? [])).allSatisfy { isEmpty($0, "problems") && isEmpty($0, "findings") && $0["health"]?["ok"]?.bool != false }
    return isGood ? 0 : 2
  }

  /// A daemon's line, and below it what is wrong.
  private static func head(_ name: String, _ document: JSONValue?, _ palette: Palette) -> String {
    guard let document else { return "\(palette(name, .bold)): \(palette("does not answer", .red))\n" }
    let uptime = document["uptimeSeconds"]?.integer.map { " for \(duration($0))" } ?? ""
    let isReady = document["health"]?["ok"]?.bool != false
    let readiness = isReady ? palette("ready", .green) : palette("not ready", .red)
    var text = "\(palette(name, .bold)): \(palette("running", .green))\(uptime), \(readiness)\n"
    if let store = document["store"], let name = store["name"]?.string {
      let at = store["endpoint"]?.string.map { "connected to \($0)" } ?? store["problem"]?.string ?? (store["tls"] == nil ? "open" : "not connected")
      let revision = store["revision"]?.integer.map { ", revision \($0)" } ?? ""
      text += "  \(palette("datastore", .dim)): \(name), \(at)\(revision)\n"
    }
    for reporter in document["health"]?["reporters"]?.array ?? [] {
      guard let words = reporter["reason"]?.string ?? reporter["note"]?.string else { continue }
      text += "  \(palette(reporter["name"]?.string ?? "?", reporter["ok"]?.bool == false ? .red : .dim)): \(words)\n"
    }
    let times = document["problemsSince"]?.array ?? []
    for (index, problem) in (document["problems"]?.array ?? []).enumerated() {
      let time = index < times.count ? times[index].string : nil
      text += "  \(palette("problem", .yellow)): \(problem.string ?? "")\(since(time))\n"
    }
    for finding in document["findings"]?.array ?? [] {
      let object = finding["object"]?.string ?? ""
      text += "  \(palette("finding", .yellow)): \(object): \(finding["finding"]?.string ?? "")\(since(finding["since"]?.string))\n"
    }
    return text
  }

  /// What the leader has done.
  private static func tasks(_ document: JSONValue?, _ palette: Palette) -> String {
    guard document?["leads"]?.bool == true else { return "" }
    return (document?["tasks"]?.array ?? []).map { task in
      let name = palette(task["name"]?.string ?? "?", .dim)
      guard let period = task["periodSeconds"]?.integer else { return "  \(name): switched off\n" }
      let run = task["lastRun"]?.string.map { "last \(ago($0))" } ?? "not run yet"
      let deed = task["lastDeed"]?.string.map { "; \($0)" } ?? ""
      return "  \(name): every \(duration(period)), \(run)\(deed)\n"
    }.joined()
  }

  // MARK: The cluster

  private func showCluster() async throws -> Int32 {
    let datastore = try store.open()
    let cluster: ClusterStatus
    do throws(DatastoreError) {
      cluster = try await ClusterStatus.read(datastore)
    } catch {
      throw CommandProblem("\(datastore.name): \(error)")
    }
    await datastore.close()
    if isJSON { write(cluster.json.text(pretty: true) + "\n") } else { write(Self.text(cluster, palette())) }
    if cluster.nodes.contains(where: { !$0.isAlive }) { return 1 }
    return cluster.nodes.allSatisfy(\.isGood) ? 0 : 2
  }

  private static func text(_ cluster: ClusterStatus, _ palette: Palette) -> String {
    if cluster.nodes.isEmpty { return "no node has registered or reported itself\n" }
    var table = TextTable(["node", "agent", "up>", "down>", "error>", "sessions", "problems>", "findings>"])
    for node in cluster.nodes {
      let agent: TextTable.Cell
      if node.isAlive {
        // As of the last report; since then it has lived on.
        let since = node.lastReported.flatMap { UTCTime($0) }.map { max(0, UTCTime.now().unixSeconds - $0.unixSeconds) } ?? 0
        agent = TextTable.Cell("alive" + (node.uptimeSeconds.map { " for \(duration(Int64($0) + since))" } ?? ""), .green)
      } else {
        agent = TextTable.Cell(node.lastReported.map { "silent; last heard \(ago($0))" } ?? "never heard of", .red)
      }
      let up = node.sessions?.count { $0.isEstablished } ?? 0
      let sessions = node.sessions.map { TextTable.Cell("\(up)/\($0.count)", up == $0.count ? .green : .red) } ?? TextTable.Cell("–")
      func count(_ number: Int, _ style: Style) -> TextTable.Cell { number > 0 ? TextTable.Cell("\(number)", style) : "0" }
      table.append([
        TextTable.Cell(node.name), agent, count(node.count("up"), .green), count(node.count("down"), .yellow), count(node.count("error"), .red),
        sessions, count(node.problems.count, .yellow), count(node.findings.count, .yellow),
      ])
    }
    var text = table.text(palette)
    for node in cluster.nodes {
      func line(_ words: String, _ reason: String?, _ time: String?) {
        text += "\(palette(node.name, .bold)): \(words)\(reason.map { ": \($0)" } ?? "")\(since(time))\n"
      }
      for endpoint in node.endpoints where endpoint.status != "up" {
        line("\(endpoint.workload) \(endpoint.endpoint) is \(endpoint.status)", endpoint.reason, endpoint.since)
      }
      for session in node.sessions ?? [] where !session.isEstablished {
        line("session \(session.name) is not established", session.reason, session.since)
      }
      for problem in node.problems { line(palette("problem", .yellow), problem.text, problem.since) }
      for finding in node.findings { line(palette("finding", .yellow), finding.text, finding.since) }
    }
    return text
  }

  // MARK: Times

  private static func duration(_ seconds: Int64) -> String {
    switch seconds {
    case ..<120: "\(max(0, seconds)) s"
    case ..<7200: "\(seconds / 60) min"
    case ..<172_800: "\(seconds / 3600) h"
    default: "\(seconds / 86400) days"
    }
  }
  private static func ago(_ time: String) -> String {
    guard let then = UTCTime(time) else { return time }
    return "\(duration(UTCTime.now().unixSeconds - then.unixSeconds)) ago (\(time))"
  }
  private static func since(_ time: String?) -> String {
    guard let time, let then = UTCTime(time) else { return "" }
    return " (for \(duration(UTCTime.now().unixSeconds - then.unixSeconds)))"
  }
}

/// node checksystem, node diags: this host under examination.
import ArgumentParser
import Datastore
import Datastores
import Glibc
import HostChecks
import JSON
import Tables

struct NodeCheckSystem: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "checksystem", abstract: "Whether this host can be a node, found out by trying.",
    discussion: """
      What changes the kernel is tried in a network namespace that ends with the command. Without root some things cannot be tried and are \
      told as unknown. Exit code 1: something that a node needs is missing.
      """)
  @Option(name: .shortAndLong, help: "text, json or yaml.") var output: DocumentOutput = .text
  @Option(name: .long, help: "Where the daemons' sockets will live.") var runDir = "/run/margay"
  @Option(name: .long, help: "What must survive a restart.") var stateDir = "/var/lib/margay"
  @OptionGroup var colour: ColourOptions

  func run() throws {
    let findings = SystemCheck.run(stateDirectory: stateDir, runDirectory: runDir)
    let isBad = findings.contains(where: \.isBad)
    show(["ok": .bool(!isBad), "checks": .array(findings.map(\.json))], as: output) { text(findings) }
    if isBad { throw ExitCode(1) }
  }

  private func text(_ findings: [SystemCheck.Finding]) -> String {
    let palette = colour.palette
    var table = TextTable(["check", "", "seen"])
    for finding in findings {
      switch finding.result {
      case .ok(let seen): table.append([TextTable.Cell(finding.name), TextTable.Cell("ok", .green), TextTable.Cell(seen)])
      case .missing(let reason, let remedy):
        let consequence = finding.consequence.isEmpty ? "" : "; without it: \(finding.consequence)"
        table.append([
          TextTable.Cell(finding.name), TextTable.Cell("missing", finding.isNeeded ? .red : .yellow),
          TextTable.Cell("\(reason)\(consequence); \(remedy)"),
        ])
      case .unknown(let why): table.append([TextTable.Cell(finding.name), TextTable.Cell("unknown", .yellow), TextTable.Cell(why)])
      }
    }
    let missing = findings.filter(\.isBad).map(\.name)
    let untried = findings.count { if case .unknown = $0.result { true } else { false } }
    let verdict: String
    if !missing.isEmpty {
      verdict = palette("this host cannot be a node: \(missing.joined(separator: ", "))", .red)
    } else if untried > 0 {
      verdict = palette("nothing is missing of what could be tried; \(untried) could not", .yellow)
    } else {
      verdict = palette("this host can be a node", .green)
    }
    return table.text(palette) + "\n\(verdict)\n"
  }
}

struct NodeDiags: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diags", abstract: "Collect what somebody else needs to understand this host, in one archive.",
    discussion: """
      Versions, links, routes, rules, neighbours, our nftables table, sysctls, the daemons' answers, logs where they are known to be, and the \
      objects of the datastore. Secrets are left out, and the summary names each; it also says what could not be read and why. Works without \
      root, for what it may read then.
      """)
  @Option(name: .long, help: ArgumentHelp("The folder for the archive.", valueName: "folder"), completion: .directory) var directory = "."
  @Option(name: .long, help: "Where the daemons' sockets live.") var runDir = "/run/margay"
  @Option(name: .long, help: "What must survive a restart.") var stateDir = "/var/lib/margay"
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    var datastore: (any Datastore)?
    var problem: String?
    do { datastore = try store.open() } catch { problem = "\(error)" }
    let options = Diagnostics.Options(
      version: Margay.version, runDirectory: runDir, stateDirectory: stateDir, datastore: datastore, datastoreProblem: problem,
      environment: environmentLines())
    let (path, summary) = try await Diagnostics.collect(options, into: directory)
    await datastore?.close()
    emit(summary.text + "\n\(path)\n")
  }
}

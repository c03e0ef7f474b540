/// `margay lab`: a small datacenter in network namespaces. Here: making one and removing it.
import ArgumentParser
import Documents
import Glibc
import JSON
import LabProgram
import Sockets
import Tables

struct Lab: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "A small datacenter in network namespaces: racks, routers, hosts, workloads.",
    subcommands: [
      DemoCommand.self, Up.self, ValidateTopology.self, Status.self, Traffic.self, Cut.self, Mend.self, Move.self, Kill.self, Start.self,
      Exec.self, Shell.self, Down.self, Objects.self,
    ])

  struct NameOption: ParsableArguments {
    @Option(name: .long, help: "The lab's name; labs of different names stand side by side. MARGAY_LAB says it, too.")
    var name = Lab.defaultName
  }

  static var defaultName: String { environment("MARGAY_LAB") ?? "demo" }

  static func open(_ name: String, quiet: Bool = true) throws -> LabProgram.Lab {
    let lab = try LabProgram.Lab(name: name, executable: executablePath(), narrator: Narrator(quiet: quiet))
    try lab.openRecord()
    return lab
  }

  static func arrangement(_ word: String) throws -> Topology.Arrangement {
    if let arrangement = Topology.Arrangement(rawValue: word) { return arrangement }
    throw CommandProblem(
      "\"\(word)\" is no arrangement; one of \(Topology.Arrangement.allCases.map(\.rawValue).joined(separator: ", "))")
  }

  static func datastore(_ word: String) throws -> Topology.DatastoreProgram {
    if let datastore = Topology.DatastoreProgram(rawValue: word) { return datastore }
    throw CommandProblem(
      "\"\(word)\" is no datastore of a lab; one of \(Topology.DatastoreProgram.allCases.map(\.rawValue).joined(separator: ", "))")
  }

  /// Everything wrong with a topology file, one line each, as for any document.
  static func read(_ file: String) throws -> Topology {
    do throws(DocumentErrors) {
      return try TopologyReader.read(path: file)
    } catch {
      writeError("\(error)\n\(error.errors.count) error\(error.errors.count == 1 ? "" : "s")\n")
      throw ExitCode(1)
    }
  }

  struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "demo", abstract: "Bring up a datacenter, send real traffic, change and restart things under it, and remove it again.")
    @OptionGroup var lab: NameOption
    @Flag(name: .long, help: "Leave the lab standing.") var keep = false
    @Option(name: .long, help: "mesh, as-per-host, or both one after the other.") var arrangement = "both"
    @Option(name: .long, help: "sqlite or etcd.") var datastore = "sqlite"

    func run() throws {
      let arrangements: [Topology.Arrangement] = arrangement == "both" ? [.mesh, .asPerHost] : [try Lab.arrangement(arrangement)]
      guard arrangements.allSatisfy({ [.mesh, .asPerHost].contains($0) }) else {
        throw CommandProblem("the demo shows mesh, as-per-host or both; `margay lab up -f` brings up any other")
      }
      var topology = Topology.datacenter
      topology.arrangement = arrangements[0]
      topology.datastore = try Lab.datastore(datastore)
      let narrator = Narrator()
      let lab = try LabProgram.Lab(name: lab.name, topology: topology, executable: executablePath(), narrator: narrator)
      try Preflight.check(topology)
      try lab.refuseIfStanding()
      try Interruption.removesLab(lab.paths)
      let started = MonotonicInstant.now
      var outcome: Result<Demo.Result, any Error>
      do { outcome = .success(try Demo(lab: lab).run(arrangements)) } catch { outcome = .failure(error) }
      if keep, case .success = outcome {
        narrator.heading("The lab stands")
        narrator.say(Lab.hints(lab))
      } else {
        if case .failure = outcome { lab.saveLogs() }
        try narrator.step("everything removed") { try LabProgram.Lab.down(lab.paths) }
      }
      switch outcome {
      case .failure(let error):
        writeError("\(narrator.palette("demo failed", .red)): \(error)\n")
        throw ExitCode(1)
      case .success(let result):
        narrator.heading("Times")
        var table = TextTable(["step", "time>"])
        for (step, time) in narrator.times { table.append([step, seconds(time)]) }
        narrator.say(table.text(narrator.palette, indent: 2))
        for problem in result.problems { narrator.say("  \(narrator.palette("problem", .red)): \(problem)") }
        narrator.say(
          (result.isGood ? narrator.palette("good", .green) : narrator.palette("NOT good", .red))
            + ": \(result.cells) cells, \(result.wrong) wrong; \(result.lost) requests lost; \(result.problems.count) problems; \(seconds(.now - started))"
        )
        if !result.isGood { throw ExitCode(1) }
      }
    }
  }

  static func hints(_ lab: LabProgram.Lab) -> String {
    let name = lab.paths.lab == defaultName ? "" : " --name \(lab.paths.lab)"
    let host = lab.topology.hosts.first?.name ?? "host1"
    let link = lab.linkNames.first ?? "\(host)-rack"
    let commands = [
      ("status\(name)", "what is there, and how it is"),
      ("traffic\(name) --why", "who reaches whom, and which policy says so"),
      ("exec\(name) \(host) -- nft list ruleset", "any command on a host, a router or in a workload"),
      ("cut\(name) \(link)", "pull out a cable; `mend` puts it back"),
      ("down\(name)", "remove it"),
    ]
    let width = commands.map(\.0.count).max() ?? 0
    return commands.map { "  margay lab \($0)" + String(repeating: " ", count: width - $0.count + 2) + $1 }.joined(separator: "\n")
  }

  struct Up: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Bring up a lab and leave it standing: that of a topology file, or the demo's datacenter without its policies.")
    @OptionGroup var lab: NameOption
    @Option(name: [.customShort("f"), .customLong("filename")], help: "A topology file; Examples/README.md describes the format.")
    var file: String?
    @Option(name: .long, help: "mesh, reflectors, as-per-rack or as-per-host, in place of what the topology says.") var arrangement: String?
    @Option(name: .long, help: "sqlite or etcd, in place of what the topology says.") var datastore: String?
    @Flag(name: .long, help: "Check the topology and show what it means; make nothing.") var dryRun = false

    func run() throws {
      var topology = try file.map(Lab.read) ?? .datacenter
      if let arrangement { topology.arrangement = try Lab.arrangement(arrangement) }
      if let datastore { topology.datastore = try Lab.datastore(datastore) }
      // What fits together in one arrangement need not in another.
      if arrangement != nil { topology = try Lab.recheck(topology, file ?? "the demo's datacenter") }
      if dryRun { return write(topology.summary() + "\n") }
      let narrator = Narrator()
      let lab = try LabProgram.Lab(name: lab.name, topology: topology, executable: executablePath(), narrator: narrator)
      try Preflight.check(topology)
      try lab.refuseIfStanding()
      try Interruption.removesLab(lab.paths)
      do {
        try lab.up()
      } catch {
        lab.saveLogs()
        _ = try? LabProgram.Lab.down(lab.paths)
        throw error
      }
      narrator.say("\n" + Lab.hints(lab))
    }
  }

  static func recheck(_ topology: Topology, _ file: String) throws -> Topology {
    do throws(DocumentErrors) {
      var checked = try TopologyReader.read(Array(topology.document().text(pretty: true).utf8), file: file)
      checked.documents = topology.documents
      checked.objects = topology.objects
      return checked
    } catch {
      // Without places: what was read is not what stands in the file.
      throw CommandProblem("\(file) with these options: " + error.errors.map(\.message).joined(separator: "\n"))
    }
  }

  struct ValidateTopology: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "validate", abstract: "Check a topology file; nothing is made. Exit 0 valid, 1 invalid.")
    enum Output: String, ExpressibleByArgument, CaseIterable { case summary, yaml, json }
    @Option(name: [.customShort("f"), .customLong("filename")], help: "A topology file.") var file: String
    @Option(name: .shortAndLong, help: "summary, yaml or json: the latter two spell out every default.") var output: Output = .summary

    func run() throws {
      let topology = try Lab.read(file)
      switch output {
      case .summary: write(topology.summary() + "\n")
      case .yaml: write(topology.document().yamlText)
      case .json: write(topology.document().text(pretty: true) + "\n")
      }
    }
  }

  struct Down: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Remove a lab and whatever is left of one.")
    @OptionGroup var lab: NameOption
    @Flag(name: .long, help: "Every lab on this machine.") var all = false
    func run() throws {
      guard geteuid() == 0 else { throw CommandProblem("removing a lab needs root") }
      for name in all ? LabProgram.Lab.standing() : [lab.name] {
        guard isUsableLabName(name) else { throw CommandProblem("\"\(name)\" cannot name a lab") }
        let found = try LabProgram.Lab.down(LabPaths(lab: name))
        write(found.isEmpty ? "lab \(name): nothing was left\n" : "lab \(name): removed \(found.joined(separator: ", "))\n")
      }
    }
  }
}

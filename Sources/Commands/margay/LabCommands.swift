/// `margay lab`: a small datacenter in network namespaces.
import ArgumentParser
import Datastore
import DatastoreSQLite
import Glibc
import JSON
import LabProgram
import NetlinkEdge
import Resources
import Sockets
import Synchronization
import Tables

struct Lab: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "A small datacenter in network namespaces: a rack router, hosts, workloads.",
    subcommands: [DemoCommand.self, Up.self, Status.self, Traffic.self, Exec.self, Shell.self, Kill.self, Start.self, Down.self])

  struct NameOption: ParsableArguments {
    @Option(name: .long, help: "The lab's name; labs of different names stand side by side.") var name = "demo"
  }

  static func open(_ name: String) throws -> LabProgram.Lab {
    let lab = try LabProgram.Lab(name: name, arrangement: .mesh, executable: executablePath(), narrator: Narrator())
    try lab.openRecord()
    return lab
  }

  /// The whole of a lab's objects, read as any client would.
  static func reader(_ lab: LabProgram.Lab) -> ResourceReader {
    let path = lab.paths.datastore
    return {
      let result = Mutex<Result<[Resource], any Error>?>(nil)
      let done = Gate()
      Task {
        do {
          let store = ResourceStore(try SQLiteDatastore(path: path))
          var resources: [Resource] = []
          for kind in Kind.allCases { resources += try await store.list(kind).items.map(\.resource) }
          await store.datastore.close()
          let found = resources
          result.withLock { $0 = .success(found) }
        } catch {
          result.withLock { $0 = .failure(error) }
        }
        done.open()
      }
      done.wait()
      return try result.withLock { try $0!.get() }
    }
  }

  struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "demo", abstract: "Bring up a datacenter, send real traffic, change and restart things under it, and remove it again.")
    @OptionGroup var lab: NameOption
    @Flag(name: .long, help: "Leave the lab standing.") var keep = false
    @Option(name: .long, help: "mesh, as-per-host, or both one after the other.") var arrangement = "both"

    func run() throws {
      let arrangements: [Topology.Arrangement]
      switch arrangement {
      case "both": arrangements = [.mesh, .asPerHost]
      default:
        guard let one = Topology.Arrangement(rawValue: arrangement) else {
          throw CommandProblem("\"\(arrangement)\" is no arrangement; one of mesh, as-per-host, both")
        }
        arrangements = [one]
      }
      let narrator = Narrator()
      let lab = try LabProgram.Lab(name: lab.name, arrangement: arrangements[0], executable: executablePath(), narrator: narrator)
      try Preflight.check()
      try lab.refuseIfStanding()
      try Interruption.removesLab(lab.paths)
      let started = MonotonicInstant.now
      var outcome: Result<Demo.Result, any Error>
      do { outcome = .success(try Demo(lab: lab, readResources: Lab.reader(lab)).run(arrangements)) } catch { outcome = .failure(error) }
      if keep, case .success = outcome {
        narrator.heading("The lab stands")
        narrator.say(
          """
            margay lab status --name \(lab.paths.lab)                       what is there
            margay lab exec --name \(lab.paths.lab) host1 -- nft list ruleset    any command on a host, the rack or a workload
            margay lab shell --name \(lab.paths.lab) web-1                  a shell inside a workload
            margay lab down --name \(lab.paths.lab)                         remove it
          """)
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

  struct Up: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Bring up the demo's datacenter and leave it standing.")
    @OptionGroup var lab: NameOption
    @Option(name: .long, help: "mesh or as-per-host.") var arrangement = "mesh"
    func run() throws {
      guard let arrangement = Topology.Arrangement(rawValue: arrangement) else {
        throw CommandProblem("\"\(self.arrangement)\" is no arrangement; one of mesh, as-per-host")
      }
      let lab = try LabProgram.Lab(name: lab.name, arrangement: arrangement, executable: executablePath(), narrator: Narrator())
      try Preflight.check()
      try lab.refuseIfStanding()
      try Interruption.removesLab(lab.paths)
      do {
        try lab.up()
      } catch {
        lab.saveLogs()
        _ = try? LabProgram.Lab.down(lab.paths)
        throw error
      }
    }
  }

  struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "What stands in a lab: workloads, sessions, routes.")
    @OptionGroup var lab: NameOption
    func run() throws {
      let lab = try Lab.open(lab.name)
      let palette = palette()
      write("lab \(lab.paths.lab), \(lab.arrangement.rawValue), datastore \(lab.datastoreName)\n\n")
      write(LabReport.endpoints(LabReport.documents(lab, "felix")).text(palette) + "\n")
      write(LabReport.sessions(LabReport.documents(lab, "bgp")).text(palette) + "\n")
      write(LabReport.routes(LabReport.documents(lab, "bgp")).text(palette))
    }
  }

  struct Traffic: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Who reaches whom: expected by the policy oracle, seen by real packets. Exit 1 if they differ.")
    @OptionGroup var lab: NameOption
    @Flag(name: .long, help: "Every cell as JSON.") var json = false
    func run() throws {
      let lab = try Lab.open(lab.name)
      let matrix = try Demo(lab: lab, readResources: Lab.reader(lab)).matrixNow()
      let names = lab.topology.workloads.map(\.name)
      write(json ? matrix.json().text(pretty: true) + "\n" : matrix.text(palette(), names: names, services: Demo.services))
      if !matrix.wrong.isEmpty { throw ExitCode(1) }
    }
  }

  struct Kill: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Kill every Margay process of a host at once, as a crash would.")
    @OptionGroup var lab: NameOption
    @Argument(help: "host1 …") var host: String
    func run() throws {
      let lab = try Lab.open(lab.name)
      write("killed \(try lab.killNode(try lab.host(host))) processes of \(host)\n")
    }
  }

  struct Start: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Start `margay node` on a host whose processes were killed, and wait until it is ready.")
    @OptionGroup var lab: NameOption
    @Argument(help: "host1 …") var host: String
    func run() throws {
      let lab = try Lab.open(lab.name)
      try lab.startNode(try lab.host(host))
      try lab.waitForSessions()
    }
  }

  struct Exec: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Run a command on a host, on the rack router or in a workload.")
    @OptionGroup var lab: NameOption
    @Argument(help: "host1, rack, web-1 …") var place: String
    @Argument(parsing: .captureForPassthrough, help: "The command and its arguments, after --.") var command: [String]
    func run() throws {
      let words = command.first == "--" ? Array(command.dropFirst()) : command
      guard !words.isEmpty else { throw CommandProblem("say which command to run: margay lab exec \(place) -- ip route") }
      try Lab.enter(lab.name, place, words)
    }
  }

  struct Shell: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "A shell on a host, on the rack router or in a workload.")
    @OptionGroup var lab: NameOption
    @Argument(help: "host1, rack, web-1 …") var place: String
    func run() throws { try Lab.enter(lab.name, place, [environment("SHELL") ?? "/bin/bash"]) }
  }

  /// Runs `words` in the namespace of `place`, on this terminal, and ends with its exit code.
  static func enter(_ name: String, _ place: String, _ words: [String]) throws -> Never {
    let paths = LabPaths(lab: name)
    let namespace: NetworkNamespace
    do {
      namespace = try NetworkNamespace.open(named: paths.namespace(place))
    } catch {
      let places = NetworkNamespace.names().filter { $0.hasPrefix(paths.namespacePrefix) }.map {
        String($0.dropFirst(paths.namespacePrefix.count))
      }
      throw CommandProblem(
        "lab \(name) has no \(place)" + (places.isEmpty ? "; it does not stand" : "; there are \(places.sorted().joined(separator: ", "))"))
    }
    var variables: [String] = ["MARGAY_LAB=\(name)", "MARGAY_DATASTORE=sqlite:\(paths.datastore)", "PS1=\(place).\(name)# "]
    variables += currentEnvironment().filter { !$0.hasPrefix("MARGAY_DATASTORE=") && !$0.hasPrefix("PS1=") }
    let child = try ChildCommand(
      "/usr/bin/env", words, environment: variables, input: 0, networkNamespace: namespace.descriptor.borrowed
    ).start()
    let code = try child.wait()
    Glibc.exit(code)
  }

  static func currentEnvironment() -> [String] {
    guard let bytes = try? Files.read("/proc/self/environ") else { return [] }
    return bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
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

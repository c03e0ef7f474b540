/// Looking at a lab: its tree, its traffic, a command or a shell inside.
import ArgumentParser
import Datastore
import Glibc
import JSON
import LabProgram
import NetlinkEdge
import Resources
import Sockets
import Tables

extension Lab {
  enum Output: String, ExpressibleByArgument, CaseIterable { case text, json }

  struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "What stands in a lab, and how it is, as a tree.")
    @OptionGroup var lab: NameOption
    @Option(name: .shortAndLong, help: "text or json.") var output: Output = .text
    @Flag(name: .long, help: "Sessions and learned routes of each host as tables, besides.") var routes = false

    func run() throws {
      let lab = try Lab.open(lab.name)
      let status = LabStatus(lab)
      if output == .json { return write(status.json().text(pretty: true) + "\n") }
      let palette = palette()
      write(status.tree(palette))
      guard routes else { return }
      write("\n" + LabReport.sessions(LabReport.documents(lab, "bgp")).text(palette) + "\n")
      write(LabReport.routes(LabReport.documents(lab, "bgp")).text(palette))
    }
  }

  struct Traffic: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Who reaches whom: expected by the policy oracle, seen by real packets. Exit 1 if they differ.")
    @OptionGroup var lab: NameOption
    @Option(name: .long, help: "Only these workloads ask; may be given several times.") var from: [String] = []
    @Option(name: .long, help: "Only these workloads are asked.") var to: [String] = []
    @Option(name: .long, help: "Only these services: icmp, tcp/80, udp/53; any port will do.") var service: [String] = []
    @Flag(name: .long, help: "Which policy decided each cell.") var why = false
    @Flag(name: .long, help: "Keep sending on every allowed pair and count losses, until Ctrl-C. Exit 1 if anything was lost.")
    var watch = false
    @Option(name: .long, help: "Milliseconds between two requests of one stream of --watch.") var interval = 100
    @Option(name: .shortAndLong, help: "text or json.") var output: Output = .text
    @Flag(name: .long, help: .hidden) var json = false

    func run() throws {
      let lab = try Lab.open(lab.name)
      let services = try service.map { word in
        guard let service = Service(word) else { throw CommandProblem("\"\(word)\" is no service; write icmp, tcp/80 or udp/53") }
        return service
      }
      let check = try TrafficCheck(lab: lab, from: from, to: to, services: services)
      let asJSON = json || output == .json
      if watch { return try follow(check, asJSON) }
      let traffic = try check.open()
      defer { traffic.close() }
      let matrix = try check.matrix(traffic, settle: .zero).matrix
      write(asJSON ? matrix.json().text(pretty: true) + "\n" : matrix.text(palette()))
      if why, !asJSON { write(matrix.cells.count <= 2 ? matrix.trails() : matrix.reasons(palette())) }
      if !matrix.wrong.isEmpty { throw ExitCode(1) }
    }

    private func follow(_ check: TrafficCheck, _ asJSON: Bool) throws {
      guard (1...60_000).contains(interval) else { throw CommandProblem("--interval \(interval): write 1 to 60000 milliseconds") }
      let signals = try SignalWait([SIGINT, SIGTERM, SIGHUP])
      let watch = try TrafficWatch(check, interval: .milliseconds(interval), palette: palette(), asJSON: asJSON) { margayWrite($0) }
      try DedicatedThread.start {
        _ = signals.next()
        watch.stop()
      }
      if watch.run() > 0 { throw ExitCode(1) }
    }
  }

  /// For the lab itself: all objects of the datastore in one document.
  struct Objects: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "objects", shouldDisplay: false)
    @OptionGroup var store: DatastoreOptions
    func run() async throws {
      let client = ResourceStore(try store.open())
      var documents: [JSONValue] = []
      var unreadable: [(ResourceKey, String)] = []
      for kind in Kind.allCases {
        let (items, broken, _) = try await client.list(kind)
        documents += items.map(\.document)
        unreadable += broken.map { ($0.key, $0.reason) }
      }
      await client.datastore.close()
      margayWrite(LabObjects.document(documents, unreadable).text() + "\n")
    }
  }

  struct Exec: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Run a command on a host, on a router, beside the datastore or in a workload.")
    @OptionGroup var lab: NameOption
    @Argument(help: "host1, rack, etcd, web-1 …") var place: String
    @Argument(parsing: .captureForPassthrough, help: "The command and its arguments, after --.") var command: [String]
    func run() throws {
      let words = command.first == "--" ? Array(command.dropFirst()) : command
      guard !words.isEmpty else { throw CommandProblem("say which command to run: margay lab exec \(place) -- ip route") }
      try Lab.enter(lab.name, place, words)
    }
  }

  struct Shell: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "A shell on a host, on a router, beside the datastore or in a workload.")
    @OptionGroup var lab: NameOption
    @Argument(help: "host1, rack, etcd, web-1 …") var place: String
    func run() throws { try Lab.enter(lab.name, place, [environment("SHELL") ?? "/bin/bash"]) }
  }

  /// Runs `words` in the namespace of `place`, on this terminal, and ends with its exit code.
  static func enter(_ name: String, _ place: String, _ words: [String]) throws -> Never {
    let lab: LabProgram.Lab
    do { lab = try open(name) } catch { throw CommandProblem("\(error)") }
    let namespace: NetworkNamespace
    do {
      namespace = try NetworkNamespace.open(named: lab.paths.namespace(place))
    } catch {
      throw CommandProblem("lab \(name) has no \(place); there are \(lab.places().joined(separator: ", "))")
    }
    let variables = lab.environment() + ["PS1=\(place).\(name)# "]
    let names = variables.map { $0.prefix { $0 != "=" } }
    let child = try ChildCommand(
      "/usr/bin/env", words,
      environment: variables + currentEnvironment().filter { variable in !names.contains { variable.hasPrefix("\($0)=") } }, input: 0,
      networkNamespace: namespace.descriptor.borrowed
    ).start()
    let code = try child.wait()
    Glibc.exit(code)
  }

  static func currentEnvironment() -> [String] {
    guard let bytes = try? Files.read("/proc/self/environ") else { return [] }
    return bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
  }
}

/// `write` by a name that no type's own method hides.
func margayWrite(_ text: String) { write(text) }

/// `margay-bench`: ours beside its peers, in one run, with bars.
///
/// Each bench is a process of its own in a network namespace of its own, so that its memory, its children and its network end with it,
/// and one that fails or hangs spoils no other.

import Glibc
import JSON
import KernelSandbox
import NetlinkEdge
import Sockets
import Tables

struct Bench: Sendable {
  let name: String
  let abstract: String
  /// After so many seconds it is ended and told as failed.
  var secondsMax: Double = 150
  let run: @Sendable (Report, Options) async throws -> Void

  static let all: [Bench] = [
    Bench(name: "startup", abstract: "From execve to exit of the executables", run: StartupBench.run),
    Bench(name: "ruleset", abstract: "Policy changes, from the calculation's input to the kernel's commit", run: RulesetBench.run),
    Bench(name: "routes", abstract: "Routes of the kernel's main table", run: RouteBench.run),
    Bench(name: "packets", abstract: "What a forwarded packet costs the sender's core beyond a host without rules", run: PacketBench.run),
    Bench(
      name: "calculation", abstract: "One host's plan in a cluster of 250k endpoints and 10k policies, 200 endpoints on the host",
      run: CalculationBench.run),
    Bench(
      name: "busy", abstract: "One host's plan in a cluster of 100k endpoints and 2k policies where 1,000 things change each second",
      run: BusyClusterBench.run),
    Bench(name: "datastore", abstract: "The datastores as a client sees them", run: DatastoreBench.run),
    Bench(
      name: "endpoints", abstract: "A daemon's reading of 100k workload endpoints from etcd", secondsMax: 300, run: EndpointBench.run),
    Bench(name: "addresses", abstract: "An address for a workload, alone and among twenty nodes", run: AddressBench.run),
    Bench(name: "verdict", abstract: "From a policy written to the datastore to the first packet treated so", run: VerdictBench.run),
    Bench(name: "cni", abstract: "A container's network: ADD and DEL on a warm node", run: CNIBench.run),
  ]
}

struct Options: Sendable {
  var only: [String] = []
  var endpoints = 1000
  var json = false
  var results: String?
  /// Where `margay` and `margay-cni` are; beside this executable.
  var binaries = ""
  /// A folder for everything the run writes, removed with it.
  var scratch = ""
}

struct BenchProblem: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

func say(_ text: String) { try? Files.write(Array("\(text)\n".utf8), descriptor: 1, name: "standard output") }
func tell(_ text: String) { try? Files.write(Array("\(text)\n".utf8), descriptor: 2, name: "standard error") }

/// Set by Ctrl-C: the bench that runs ends, what it made is removed, and no other begins.
nonisolated(unsafe) var isInterrupted = false

@main
struct Main {
  static func main() async {
    var words = Array(CommandLine.arguments.dropFirst())
    do {
      switch words.first {
      case "child": try await child(words[1], options(&words, from: 2))
      case "write": try await DatastoreBench.writer(words[1], count: Int(words[2])!)
      case "feed": try await EndpointBench.feed(words[1])
      case "list": try await EndpointBench.list(words[1], words[2])
      case "cost": try EndpointBench.cost(Array(words[1...]))
      case "steady": try await EndpointBench.steady(words[1], words[2], Int(words[3])!)
      default: try parent(options(&words, from: 0))
      }
    } catch {
      tell("margay-bench: \(error)")
      exit(1)
    }
  }

  static func options(_ words: inout [String], from start: Int) throws -> Options {
    var options = Options()
    options.binaries = Files.parent(of: executablePath())
    var index = start
    func value() throws -> String {
      index += 1
      guard index < words.count else { throw BenchProblem("\(words[index - 1]) needs a value") }
      return words[index]
    }
    while index < words.count {
      switch words[index] {
      case "--only": options.only = try value().split { $0 == "," || $0 == " " }.map(String.init)
      case "--endpoints":
        guard let number = Int(try value()), PolicyScale.all[number] != nil else {
          throw BenchProblem("--endpoints is one of \(PolicyScale.all.keys.sorted())")
        }
        options.endpoints = number
      case "--results": options.results = try value()
      case "--scratch": options.scratch = try value()
      case "-o":
        guard try value() == "json" else { throw BenchProblem("-o knows json") }
        options.json = true
      default:
        throw BenchProblem(
          "usage: margay-bench [--only NAME,…] [--endpoints N] [--results FILE] [-o json]; names: "
            + Bench.all.map(\.name).joined(separator: ", "))
      }
      index += 1
    }
    for name in options.only where !Bench.all.contains(where: { $0.name == name }) {
      throw BenchProblem("no bench \(name); there are \(Bench.all.map(\.name).joined(separator: ", "))")
    }
    return options
  }

  static func executablePath() -> String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = buffer.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!.assumingMemoryBound(to: CChar.self), 4095) }
    return String(decoding: buffer[..<max(count, 0)], as: UTF8.self)
  }

  // MARK: One bench

  static func child(_ name: String, _ options: Options) async throws {
    let bench = Bench.all.first { $0.name == name }!
    let report = Report(say: tell)
    do {
      try await bench.run(report, options)
    } catch {
      report.add(Row(what: name, unit: "", note: "\(error)"))
    }
    say(JSONValue.array(report.rows.map(\.json)).text())
  }

  static func runBench(_ bench: Bench, _ options: Options, _ namespace: NetworkNamespace) throws -> Section {
    let started = MonotonicInstant.now
    let before = Machine.load()
    let scratch = try Files.makeTemporaryDirectory(prefix: "margay-bench-")
    defer { try? Files.removeTree(scratch) }
    let output = "\(scratch)/rows.json"
    let raw = open(output, O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
    let file = OwnedDescriptor(owning: raw)
    let child = try ChildCommand(
      executablePath(), ["child", bench.name, "--endpoints", "\(options.endpoints)", "--scratch", scratch], output: file.borrowed,
      networkNamespace: namespace.descriptor.borrowed, deathSignal: SIGKILL, newProcessGroup: true
    ).start()
    var code: CInt?
    var isLate = false
    while code == nil {
      var waited = pollfd(fd: child.pidDescriptor.borrowed, events: Int16(POLLIN), revents: 0)
      _ = poll(&waited, 1, 200)
      code = try child.reap()
      guard code == nil, isInterrupted || MonotonicInstant.now.seconds(since: started) > bench.secondsMax else { continue }
      isLate = !isInterrupted
      // The group: whatever it started goes with it.
      kill(-child.pid, SIGKILL)
      code = try child.wait()
    }
    kill(-child.pid, SIGKILL)
    for name in NetworkNamespace.names() where name.hasPrefix("mt\(child.pid)-") { try? NetworkNamespace.delete(named: name) }
    var rows: [Row] = []
    if let text = try? Files.readText(output), let json = try? JSONValue(parsing: Array(text.utf8)) {
      rows = json.array?.map { Row(json: $0) } ?? []
    }
    if rows.isEmpty {
      let why = isInterrupted ? "interrupted" : isLate ? "not done after \(Int(bench.secondsMax)) s" : "ended with code \(code ?? -1)"
      rows = [Row(what: bench.name, unit: "", note: why)]
    }
    let seconds = MonotonicInstant.now.seconds(since: started)
    return Section(name: bench.name, abstract: bench.abstract, rows: rows, seconds: seconds, load: "\(before) → \(Machine.load())")
  }

  // MARK: All of them

  static func parent(_ options: Options) throws {
    guard geteuid() == 0 else { throw BenchProblem("the benches make network namespaces, which needs root") }
    signal(SIGINT) { _ in isInterrupted = true }
    signal(SIGTERM) { _ in isInterrupted = true }
    let sandbox = KernelSandbox()
    let machine = Machine()
    let palette = Palette(coloured: !options.json && isatty(1) == 1 && getenv("NO_COLOR") == nil)
    var sections: [Section] = []
    for bench in Bench.all where options.only.isEmpty || options.only.contains(bench.name) {
      guard !isInterrupted else { break }
      tell("\(bench.name): \(bench.abstract)")
      let section = try runBench(bench, options, try sandbox.namespace("b"))
      sections.append(section)
      if !options.json { say("\n\(section.heading)\n\n\(section.table(palette))") }
    }
    if options.json { say(document(machine, sections).text(pretty: true)) }
    if isInterrupted { throw BenchProblem("interrupted; nothing is left behind and \(options.results ?? "no file") is unchanged") }
    if let results = options.results {
      let kept = (try? Files.read(results)).map { longTests(in: String(decoding: $0, as: UTF8.self)) } ?? ""
      try Files.writeAtomically(Array((text(machine, sections) + kept).utf8), to: results)
      tell("kept in \(results)")
    }
    let failed = sections.flatMap(\.rows).count { $0.verdict == .failed }
    if failed > 0 { throw BenchProblem("\(failed) could not be measured") }
  }

  static func document(_ machine: Machine, _ sections: [Section]) -> JSONValue {
    var facts = JSONObject()
    for fact in machine.facts { facts[fact.name] = .string(fact.value) }
    let benches = sections.map { section -> JSONValue in
      [
        "name": .string(section.name), "seconds": .double(section.seconds), "load": .string(section.load),
        "rows": .array(section.rows.map(\.json)),
      ]
    }
    return ["machine": .object(facts), "benches": .array(benches)]
  }

  /// What scripts/test-long wrote at the end of the file stays there.
  static func longTests(in text: String) -> Substring {
    text.firstRange(of: "\n## Long tests\n").map { text[$0.lowerBound...] } ?? ""
  }

  static func text(_ machine: Machine, _ sections: [Section]) -> String {
    let rows = sections.flatMap(\.rows)
    var text = """
      # Figures

      Written by `make bench`; [design/benchmarks.md](../design/benchmarks.md) says what is compared with what. Ours and the peer are
      measured in turns within one run. Medians; p99 where there are at least 20 values. Ratios below 1 mean that ours costs less.

      \(rows.count { $0.verdict == .ok }) within their bar, \(rows.count { $0.verdict == .behind }) BEHIND, \
      \(rows.count { $0.verdict == .failed }) not measured, \(rows.count { $0.verdict == .open }) without a bar.


      """
    for fact in machine.facts { text += "* \(fact.name): \(fact.value)\n" }
    for section in sections { text += "\n## \(section.heading)\n\n```\n\(section.table(Palette(coloured: false)))```\n" }
    return text
  }
}

extension Section {
  var heading: String { "\(name): \(abstract) (\(Int(seconds)) s, load \(load))" }
}

/// The command: every daemon's role and every question an operator may ask.
import ArgumentParser
import Datastore
import Datastores
import Documents
import Glibc
import HealthServer
import Logging
import Sockets
import Tables

@main
struct Margay: AsyncParsableCommand {
  static let version = "0.1.0"
  static let configuration = CommandConfiguration(
    commandName: "margay",
    abstract: "A pure layer-3 network for Kubernetes, OpenStack and bare hosts, compatible with Calico.",
    version: version,
    subcommands: [
      // What is stored.
      Create.self, Apply.self, Replace.self, Patch.self, Label.self, Edit.self, Delete.self, Get.self, Diff.self, Validate.self,
      // Questions.
      Explain.self, Flows.self, PlanCommand.self, SelectorCommand.self, APIResources.self, Version.self, ConfigCommand.self,
      // Addresses.
      IPAM.self,
      // For shells and packages.
      Completion.self, Manual.self,
      // Programs.
      NodeCommand.self, Felix.self, BGP.self, Controllers.self, Lab.self,
      // Whole datastores.
      DatastoreCommand.self, Export.self, Import.self,
    ])

  /// A mistyped command is told as such: the parser alone would complain of the first option behind it.
  static func main() async {
    let names = configuration.subcommands.map { $0._commandName }
    if let word = CommandLine.arguments.dropFirst().first, !word.hasPrefix("-"), word != "help", !names.contains(word) {
      let hint = nearest(word, among: names).map { "did you mean \($0)?" } ?? "one of \(names.joined(separator: ", "))"
      writeError("margay: there is no command \"\(word)\"; \(hint)\n")
      Glibc.exit(64)
    }
    await main(nil)
  }
}

/// Which datastore; the same words everywhere.
struct DatastoreOptions: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "The datastore: sqlite:PATH, etcd://HOST:PORT[,HOST:PORT…], or etcds:// for TLS. Without it, MARGAY_DATASTORE says, or Calico's ETCD_ENDPOINTS.",
      valueName: "datastore"))
  var datastore: String?
  @Option(
    name: .shortAndLong,
    help: ArgumentHelp("calicoctl's configuration file; without it, commands look for /etc/calico/calicoctl.cfg.", valueName: "file"),
    completion: .file())
  var config: String?

  func choice(asDaemon isDaemon: Bool = false) throws -> DatastoreChoice { try decision(asDaemon: isDaemon).choice }

  /// The choice and whose it was.
  func decision(asDaemon isDaemon: Bool = false) throws -> DatastoreChoice.Decision {
    do throws(DatastoreChoice.Problem) {
      return try DatastoreChoice.ofProcess(option: datastore, config: config, isDaemon: isDaemon)
    } catch {
      throw CommandProblem(error.description)
    }
  }

  /// How a daemon tells its children. A name holds no secret; what is secret stays in the file, or comes by the environment.
  func wordsForChildren() throws -> [String] {
    if let config { return ["--config", config] }
    return ["--datastore", try choice(asDaemon: true).name]
  }

  /// With `creating`, a missing SQLite store is made, and a line says so; for daemons and for verbs that bring objects with them.
  func open(creating: Bool = false, asDaemon isDaemon: Bool = false) throws -> any Datastore {
    let choice = try choice(asDaemon: isDaemon)
    do throws(DatastoreError) {
      return try choice.open(creating: creating) { writeError("margay: made a new, empty datastore: \($0)\n") }
    } catch {
      throw CommandProblem("\(choice.name): \(error)")
    }
  }
}

/// What a person reads when a command cannot do its work.
struct CommandProblem: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

func environment(_ name: String) -> String? { unsafe getenv(name).map { unsafe String(cString: $0) } }

/// `NAME=value` each.
func environmentLines() -> [String] {
  var variables: [String] = []
  // The C library's list ends with a null pointer; nobody changes the environment of this process.
  var place = unsafe environ
  while let variable = unsafe place.pointee {
    unsafe variables.append(String(cString: variable))
    unsafe place += 1
  }
  return variables
}
func wholeEnvironment() -> [String: String] {
  let pairs = environmentLines().compactMap { line in line.firstIndex(of: "=").map { (String(line[..<$0]), String(line[line.index(after: $0)...])) } }
  return Dictionary(pairs, uniquingKeysWith: { first, _ in first })
}

func palette() -> Palette {
  Palette(coloured: isatty(1) == 1 && (environment("NO_COLOR") ?? "").isEmpty)
}

func write(_ text: String) { try? Files.write(Array(text.utf8), descriptor: 1, name: "standard output") }
func writeError(_ text: String) { try? Files.write(Array(text.utf8), descriptor: 2, name: "standard error") }

/// The path of this program, for starting itself in another role.
func executablePath() -> String {
  var buffer = [CChar](repeating: 0, count: 4097)
  let count = unsafe readlink("/proc/self/exe", &buffer, 4096)
  return count > 0 ? String(decoding: buffer.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self) : "margay"
}

func unknownLogLevel(_ word: String) -> CommandProblem {
  CommandProblem("\"\(word)\" is no log level; one of \(Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))")
}

func bootstrapLogging(_ role: String, level: String) throws {
  guard let level = Logger.Level(rawValue: level) else { throw unknownLogLevel(level) }
  LoggingSystem.bootstrap { label in
    var handler = StreamLogHandler.standardError(label: label)
    handler.logLevel = level
    return handler
  }
}

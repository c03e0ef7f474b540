/// `margay datastore migrate`, `margay export`, `margay import`: everything from one place to another.
import ArgumentParser
import Datastore
import DatastoreProgram
import Datastores
import Dispatch
import Documents
import Glibc
import Sockets

struct DatastoreMigrate: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "migrate", abstract: "Move everything to another datastore while the cluster goes on.",
    subcommands: [Run.self, DatastoreLocking.Lock.self, DatastoreLocking.Unlock.self, Export.self, Import.self], defaultSubcommand: Run.self)

  struct Run: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "run", abstract: "Copy at one revision, follow every change, then switch.",
      discussion: """
        Without --switch or --once, it follows until Ctrl-C; repeated, it goes on where the target is. With --switch, once the copy is complete, \
        the source is locked (CNI refuses), the rest is brought over, both are compared by count and hash, and the target comes into force. Then \
        start the daemons with the target as their datastore. The source stays locked.

        Keys under a lease (signs of life) are left out; their owners write them anew. Until the switch, `margay node` does not start on the target.
        """)
    @Option(name: .long, help: ArgumentHelp("Where from, as in --datastore.", valueName: "datastore")) var from: String
    @Option(name: .long, help: ArgumentHelp("Where to: an empty datastore.", valueName: "datastore")) var to: String
    @Flag(name: [.customLong("switch")], help: "Put the target into force once it is complete.") var isSwitch = false
    @Flag(name: .long, help: "End after the copy.") var once = false

    func run() async throws {
      func open(_ option: String, creating: Bool) throws -> any Datastore {
        try DatastoreOptions.parse(["--datastore", option]).open(creating: creating)
      }
      let source = try open(from, creating: false)
      let target = try open(to, creating: true)
      let bar = ProgressBar("keys written")
      // In order, and never in the middle of the bar's line.
      let migration = try await Migration(from: source, to: target) { event in
        bar.end()
        Self.tell(event, source.name, target.name)
      }
      do {
        let revision = try await migration.copy { bar.show($0, of: $1) }
        bar.end()
        if isSwitch {
          // What came meanwhile is brought over before the lock, so that the lock is short.
          _ = try await migration.finish()
        } else if !once {
          let signals = try SignalWait([SIGINT, SIGTERM])
          let following = Task { try await migration.follow(after: revision) }
          // Not on a thread of the tasks: there may be only one.
          DispatchQueue.global().async {
            _ = signals.next()
            following.cancel()
          }
          let position = try await following.value
          write("stopped at revision \(position) of \(source.name); the same command goes on, and with --switch it ends the migration\n")
        } else {
          write("copied; the same command goes on, and with --switch it ends the migration\n")
        }
      } catch {
        bar.end()
        throw CommandProblem("\(error)\nThe same command, repeated, goes on where this one ended.")
      }
      await source.close()
      await target.close()
    }

    private static func tell(_ event: Migration.Event, _ source: String, _ target: String) {
      switch event {
      case .begun(let isResumed, let keys, let leased):
        write("\(isResumed ? "going on with" : "from") \(source) to \(target): \(keys) keys\(leased == 0 ? "" : "; \(leased) under a lease are left out")\n")
      case .copied(let digest, let revision): write("copied and compared: \(digest), as of revision \(revision)\n")
      case .followed(let changes, let revision): write("\(changes) change\(changes == 1 ? "" : "s") up to revision \(revision)\n")
      case .comparedAnew(let changes): write("history was compacted; compared anew, \(changes) changes\n")
      case .waiting(let why): writeError("waiting: \(why)\n")
      case .locked: write("\(source) is locked: CNI refuses until the daemons use the new datastore\n")
      case .inForce(let digest):
        write(
          "both hold \(digest)\n\(target) is in force. Start `margay node` with --datastore \(target) on every host; "
            + "to go back instead: margay datastore unlock --datastore \(source)\n")
      }
    }
  }
}

struct Export: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "A whole datastore as documents.",
    discussion: """
      In the form of `calicoctl datastore migrate export`: the objects as YAML, ClusterInformation, IPAM; and with workload endpoints and profiles, \
      which calicoctl leaves out. Keys that are neither objects nor IPAM (status, subnets of OpenStack) are not in it; `margay datastore backup` \
      keeps everything. Exit code 1 if an object cannot be read.
      """)
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    let datastore = try store.open()
    let content = try await withDatastore(datastore) { try await StoreContent.read(datastore) }
    let (text, unreadable, others) = ExportFile.text(content)
    write(text)
    if others > 0 { writeError("left out: \(others) keys that are neither objects nor IPAM; `margay datastore backup` keeps them\n") }
    for object in unreadable { writeError("left out: \(object) cannot be read\n") }
    if !unreadable.isEmpty { throw ExitCode(1) }
  }
}

struct Import: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Fill an empty datastore from documents.",
    discussion: """
      Takes what `margay export` and `calicoctl datastore migrate export` write, and files of documents. All is validated before anything is \
      written. Interrupted, it is repeated and goes on. A file of calicoctl's comes from a locked datastore, and so the new one is locked until \
      `margay datastore unlock`.
      """)
  @Option(name: [.customShort("f"), .customLong("filename")], help: ArgumentHelp("The file; - is standard input.", valueName: "file")) var file: String
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    let name = file == "-" ? "standard input" : file
    let content: ImportFile
    do {
      content = try ImportFile(parsing: file == "-" ? try Files.read(descriptor: 0, name: name) : try Files.read(file), file: name)
    } catch let errors as DocumentErrors {
      for error in errors.errors { writeError("\(error)\n") }
      writeError("\(errors.errors.count) error\(errors.errors.count == 1 ? "" : "s"); nothing was changed\n")
      throw ExitCode(1)
    }
    for warning in content.warnings { writeError("warning: \(warning)\n") }
    let datastore = try store.open(creating: true)
    let bar = ProgressBar("written")
    let (objects, addresses) = try await withDatastore(datastore) { try await content.write(to: datastore) { bar.show($0, of: $1) } }
    bar.end()
    write("\(datastore.name): \(objects) objects and \(addresses) keys of IPAM imported\n")
    if content.isLocked { write("it is locked, as in the file; when the hosts use it: margay datastore unlock --datastore \(datastore.name)\n") }
  }
}

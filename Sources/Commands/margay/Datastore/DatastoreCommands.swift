/// `margay datastore`: whole datastores looked at, kept, moved, locked.
import AddressAssignment
import AddressPlans
import ArgumentParser
import Datastore
import DatastoreProgram
import Datastores
import Glibc
import JSON
import Names
import Resources
import Sockets
import Tables

struct DatastoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "datastore", abstract: "Look at a whole datastore, keep a copy of it, move it, lock it.",
    subcommands: [DatastoreCheck.self, DatastoreBackup.self, DatastoreRestore.self, DatastoreMigrate.self, DatastoreLocking.Lock.self, DatastoreLocking.Unlock.self])
}

/// Runs `body` on the datastore and closes it, whatever comes of it.
func withDatastore<Result>(_ datastore: any Datastore, _ body: () async throws -> Result) async throws -> Result {
  do {
    let result = try await body()
    await datastore.close()
    return result
  } catch {
    await datastore.close()
    throw error
  }
}

struct DatastoreCheck: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check", abstract: "What is wrong in a datastore, and what that does to traffic.",
    discussion: """
      Changes nothing; meant for before the first start on an existing datastore of Calico's, and for any time after. Told are: objects that \
      cannot be enforced as written, with what Margay does instead; references to what does not exist; objects that are in force and that \
      Calico's rules do not allow; keys that nobody reads; for SQLite, damage of the file.

      Exit code: 0 nothing to tell, 1 findings, 2 the datastore cannot be read.
      """)
  enum Output: String, ExpressibleByArgument, CaseIterable { case text, json }
  @Option(name: .shortAndLong, help: "text or json.") var output: Output = .text
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    var damages: [String] = []
    var review: StoreReview
    do {
      let choice = try store.choice()
      damages = try await choice.damages()
      let datastore = try store.open()
      review = try await withDatastore(datastore) {
        let (items, revision) = try await datastore.list(prefix: StoreContent.root)
        var review = StoreReview(items, revision: revision)
        review.add(AddressFindings(try await AddressCensus.read(datastore)))
        return review
      }
    } catch {
      for damage in damages { writeError("damaged: \(damage)\n") }
      writeError("margay datastore check: \(error)\n")
      throw ExitCode(2)
    }
    switch output {
    case .json:
      var document = review.json
      document["damages"] = .array(damages.map(JSONValue.string))
      write(document.text(pretty: true) + "\n")
    case .text: write(ReviewText.text(review, damages: damages, palette()))
    }
    if !damages.isEmpty || !review.findings.isEmpty || review.unfinishedTransfer != nil { throw ExitCode(1) }
  }
}

enum ReviewText {
  static func text(_ review: StoreReview, damages: [String], _ palette: Palette) -> String {
    var text = ""
    if !damages.isEmpty {
      text += palette("The file is damaged", .red, .bold) + "; stop what uses it, and restore a backup into a new file\n"
      for damage in damages { text += "  \(damage)\n" }
    }
    if let source = review.unfinishedTransfer {
      text += palette("Half filled", .red, .bold) + ": a transfer from \(source) is not finished; `margay node` does not start on it\n"
    }
    let headings: [(StoreReview.Class, String, Style)] = [
      (.unenforceable, "Not enforced as written", .red), (.addresses, "Addresses", .yellow), (.dangling, "References to what does not exist", .yellow),
      (.invalid, "In force, and against the rules of the API", .yellow), (.stray, "Keys that nobody reads", .dim),
    ]
    for (kind, heading, style) in headings {
      let findings = review.findings.filter { $0.class == kind }
      if findings.isEmpty { continue }
      text += "\(palette(heading, style, .bold)) (\(findings.count))\n"
      for finding in findings {
        text += "  \(palette(finding.object, .bold))\n"
        for fault in finding.faults { text += "    \(fault)\n" }
        text += "    effect: \(finding.effect)\n"
      }
    }
    text += "\(review.keyCount) keys at revision \(review.revision): "
    text += review.counts.map { "\($0.count) \($0.name)" }.joined(separator: ", ") + "\n"
    let unenforceable = review.findings.count { $0.class == .unenforceable }
    text +=
      review.findings.isEmpty
      ? palette("nothing to tell", .green) + "\n"
      : "\(review.findings.count) finding\(review.findings.count == 1 ? "" : "s"), \(unenforceable) of them with an effect on what is enforced\n"
    return text
  }
}

struct DatastoreBackup: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "backup", abstract: "Write everything of Calico and Margay into a file, as it was at one revision.",
    discussion: """
      The file says what it is in its first line: count, hash, revision, time, version. It is read back and compared before the command \
      succeeds. Keys under a lease (signs of life) are left out. It holds all that the datastore holds, and only its owner may read it. \
      To compress: margay datastore backup - | gzip > FILE.gz, and gunzip < FILE.gz | margay datastore restore -
      """)
  @Argument(help: "The file; - is standard output.") var file: String
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    let datastore = try store.open()
    let content = try await withDatastore(datastore) { try await StoreContent.read(datastore) }
    let backup = BackupFile(content, of: datastore.name, program: Margay.version, time: UTCTime.now().text)
    let octets = backup.encoded
    if file == "-" {
      try Files.write(octets, descriptor: 1, name: "standard output")
    } else {
      try Files.writeAtomically(octets, to: file, mode: 0o600, durable: true)
    }
    // What cannot be restored is no backup.
    let again = try BackupFile(decoding: file == "-" ? octets : try Files.read(file), file: file)
    guard again.digest == content.digest else { throw CommandProblem("\(file): what was written is not what was read") }
    let leased = content.leased.isEmpty ? "" : "; \(content.leased.count) under a lease left out"
    writeError("\(datastore.name) at revision \(content.revision): \(content.digest)\(leased)\n")
  }
}

struct DatastoreRestore: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "restore", abstract: "Fill an empty datastore from a backup.",
    discussion: "Interrupted, it is repeated and goes on. Until it is complete, `margay node` does not start on the datastore.")
  @Argument(help: "The file; - is standard input.") var file: String
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    let name = file == "-" ? "standard input" : file
    let backup = try BackupFile(decoding: file == "-" ? try Files.read(descriptor: 0, name: name) : try Files.read(file), file: name)
    let datastore = try store.open(creating: true)
    let bar = ProgressBar("restored")
    let digest = try await withDatastore(datastore) { try await backup.restore(to: datastore) { bar.show($0, of: $1) } }
    bar.end()
    write("\(datastore.name): restored \(digest), as of \(backup.time) (revision \(backup.revision) of \(backup.datastore))\n")
  }
}

enum DatastoreLocking {
  static let discussion = """
    While the datastore is locked (`datastoreReady: false` in ClusterInformation), CNI neither attaches nor detaches workloads. It keeps nobody \
    from changing objects, and nothing changes for workloads that run.
    """
  struct Lock: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      commandName: "lock", abstract: "Let CNI refuse, for the time of a migration.", discussion: discussion)
    @OptionGroup var store: DatastoreOptions
    func run() async throws { try await set(store, isReady: false) }
  }
  struct Unlock: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "unlock", abstract: "Let CNI work again.", discussion: discussion)
    @OptionGroup var store: DatastoreOptions
    func run() async throws { try await set(store, isReady: true) }
  }
  private static func set(_ options: DatastoreOptions, isReady: Bool) async throws {
    let datastore = try options.open()
    let isChanged = try await withDatastore(datastore) { try await DatastoreLock(datastore).set(isReady: isReady) }
    write("\(datastore.name) \(isChanged ? "is" : "was already") \(isReady ? "unlocked" : "locked")\n")
  }
}

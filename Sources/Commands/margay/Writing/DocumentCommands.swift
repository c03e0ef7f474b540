/// create, apply, replace, validate, diff: documents from files.
import ArgumentParser
import Datastore
import Documents
import ExplainProgram
import JSON
import Patches
import ResourceVerbs
import Resources
import Tables

/// The order and the exit codes are the same in every verb; `design/command-line.md` says more.
private let together = """
  All documents of all files are validated before the first is written. They are written in the order in which they need each other: tiers \
  before policies, pools before nodes, nodes before endpoints. Exit code 0: all done; 1: something is invalid, or an object could not be \
  written; 2: the datastore cannot be reached; 64: wrong usage.
  """

struct Create: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Create objects that are not there yet.", discussion: together)
  @OptionGroup var input: FileOptions
  @OptionGroup var namespace: NamespaceOption
  @Flag(name: .long, help: "An object that exists already is left alone, and that is success.") var skipExists = false
  @OptionGroup var writing: WritingOptions

  func run() async throws {
    let skip = skipExists
    try await writing.run("create", input, namespace) { try await $0.create($1, skipExists: skip) }
  }
}

struct Apply: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Create or change objects as the documents say.", discussion: together)
  @OptionGroup var input: FileOptions
  @OptionGroup var namespace: NamespaceOption
  @OptionGroup var writing: WritingOptions

  func run() async throws { try await writing.run("apply", input, namespace) { try await $0.apply($1) } }
}

struct Replace: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Change objects that are there already; a resourceVersion in the document must be that of the stored object.",
    discussion: together)
  @OptionGroup var input: FileOptions
  @OptionGroup var namespace: NamespaceOption
  @Flag(name: .long, help: "An object that does not exist is left out, and that is success.") var skipNotExists = false
  @OptionGroup var writing: WritingOptions

  func run() async throws {
    let skip = skipNotExists
    try await writing.run("replace", input, namespace) { try await $0.replace($1, skipNotExists: skip) }
  }
}

/// What create, apply and replace have in common.
struct WritingOptions: ParsableArguments {
  @Flag(name: .long, help: "Check all of it against the datastore, and write nothing.") var dryRun = false
  @OptionGroup var answer: AnswerOptions
  @OptionGroup var store: DatastoreOptions
  @OptionGroup var calicoctl: CalicoctlOptions

  func run(
    _ verb: String, _ input: FileOptions, _ namespace: NamespaceOption, _ work: (ResourceWriter, Submission) async throws -> ObjectReport
  ) async throws {
    try calicoctl.check()
    if input.files.isEmpty { throw misuse("say what to \(verb): -f FILE, a directory, or - for standard input") }
    let submissions = input.read(namespace: namespace.namespace)
    var answer = Answer(verb, answer.output, rehearsal: dryRun)
    try answer.refuse(submissions, verb == "create" ? submissions.allErrors : submissions.refusals)
    let writer = try openWriter(store, rehearsal: dryRun, creating: verb != "replace")
    try await checkUnknown(submissions, writer, &answer)
    await answer.run(WriteOrder.writing(submissions.items, \.resource.kind), key: \.resource.key) { try await work(writer, $0) }
    try answer.end()
  }

  /// Before the first is written: documents that are copies of stored objects may have the unknown fields of these, others may not.
  private func checkUnknown(_ submissions: Submissions, _ writer: ResourceWriter, _ answer: inout Answer) async throws {
    var strange: [DocumentError] = []
    for item in submissions.items where !item.unknown.isEmpty {
      do {
        try await writer.checkUnknown(item)
      } catch {
        let failure = WriteFailure(error, of: item.resource.key)
        if failure.isUnreachable {
          writeError("\(failure)\n")
          throw ExitCode(ExitStatus.unreachable.rawValue)
        }
        strange += failure.findings
      }
    }
    var silent = submissions
    silent.warnings = []
    if !strange.isEmpty { try answer.refuse(silent, strange) }
  }
}

struct Validate: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check documents without a datastore: exit 0 valid, 1 invalid.",
    discussion: "Everything that is wrong is said at once, with file, line, column and path, the rule and what to write instead.")
  @OptionGroup var input: FileOptions
  @OptionGroup var namespace: NamespaceOption
  enum Output: String, ExpressibleByArgument, CaseIterable { case text, json }
  @Option(name: .shortAndLong, help: "text or json.") var output: Output = .text
  @OptionGroup var calicoctl: CalicoctlOptions

  // Asynchronous only for the sake of completing namespaces.
  func run() async throws {
    try calicoctl.check()
    if input.files.isEmpty { throw misuse("say what to validate: -f FILE, a directory, or - for standard input") }
    let submissions = input.read(namespace: namespace.namespace)
    var answer = Answer("validate", output == .json ? .json : .text)
    let valid = submissions.items.filter(\.unknown.isEmpty)
    answer.report.objects = valid.map { ObjectReport($0.resource.key, .valid) }
    try answer.refuse(submissions, submissions.allErrors)
    if output == .text { write("\(valid.count) document\(valid.count == 1 ? "" : "s") valid\n") }
    try answer.end()
  }
}

struct Diff: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what apply would change, and which endpoints may then speak to each other or no longer; nothing is written.",
    discussion: "Exit code 0: no difference; 1: differences; 2: something is invalid or the datastore cannot be reached; 64: wrong usage.")
  @OptionGroup var input: FileOptions
  @OptionGroup var namespace: NamespaceOption
  enum Output: String, ExpressibleByArgument, CaseIterable { case text, json }
  @Option(name: .shortAndLong, help: "text or json.") var output: Output = .text
  @Flag(inversion: .prefixedNo, help: "Ask policy about the endpoints before and after.") var verdicts = true
  @OptionGroup var colour: ColourOptions
  @OptionGroup var store: DatastoreOptions
  @OptionGroup var calicoctl: CalicoctlOptions

  func run() async throws {
    try calicoctl.check()
    if input.files.isEmpty { throw misuse("say what to compare: -f FILE, a directory, or - for standard input") }
    let submissions = input.read(namespace: namespace.namespace)
    var report = DiffReport()
    (report.errors, report.warnings) = (submissions.refusals, submissions.warnings)
    if output == .text {
      for warning in report.warnings { writeError("warning: \(warning)\n") }
      for error in report.errors { writeError("\(error)\n") }
    }
    var changes: VerdictChanges?
    if report.errors.isEmpty {
      let writer = try openWriter(store, rehearsal: true)
      let isPolicy = verdicts && submissions.items.contains { VerdictChanges.concerns($0.resource.kind) }
      let before = isPolicy ? try? await Cluster.read(writer.store) : nil
      for item in WriteOrder.writing(submissions.items, \.resource.kind) {
        do {
          report.objects.append(try await writer.difference(applying: item))
          if output == .text { show(report.objects[report.objects.count - 1]) }
        } catch {
          let failure = WriteFailure(error, of: item.resource.key)
          report.failures.append((item.resource.key, failure))
          if output == .text { writeError("\(failure)\n") }
          if failure.isUnreachable { break }
        }
      }
      if let before, report.failures.isEmpty, report.objects.contains(where: { $0.state != .unchanged }), let after = try? await Cluster.read(writer.store) {
        changes = VerdictChanges(from: before, to: after)
      }
    }
    switch output {
    case .json:
      var document = report.json
      document["verdicts"] = changes?.json ?? .null
      write(document.text(pretty: true) + "\n")
    case .text: if let text = changes?.text(colour.palette), !text.isEmpty { emit("\n" + text) }
    }
    if report.exitCode != 0 { throw ExitCode(report.exitCode) }
  }

  private func show(_ object: ObjectDifference) {
    let palette = colour.palette
    var text = palette("\(object.key) \(object.state.rawValue)", .bold) + "\n"
    for line in object.lines {
      switch line.mark {
      case .header: text += palette(line.text, .bold)
      case .place: text += palette(line.text, .blue)
      case .removed: text += palette(line.text, .red)
      case .added: text += palette(line.text, .green)
      case .same: text += line.text
      }
      text += "\n"
    }
    emit(text)
  }
}

/// What all writing verbs share: where documents come from, what the answer looks like, and how it ends.
import ArgumentParser
import Datastore
import Datastores
import Documents
import Glibc
import JSON
import ResourceVerbs
import Resources
import Tables

/// Where documents come from.
struct FileOptions: ParsableArguments {
  @Option(
    name: [.customShort("f"), .customLong("filename")],
    help: ArgumentHelp(
      "A file with one or more documents (YAML or JSON, lists too), a directory of such files, or - for standard input. May be repeated.",
      valueName: "file"), completion: .file(extensions: ["yaml", "yml", "json"]))
  var files: [String] = []
  @Flag(name: [.customShort("R"), .long], help: "Take directories with all that is below them.") var recursive = false
  @Flag(name: .long, help: "A file or directory without a document is no mistake.") var skipEmpty = false

  func read(namespace: String) -> Submissions {
    Submissions.read(SourceFiles(files, isRecursive: recursive), namespace: namespace, skipEmpty: skipEmpty)
  }
}

struct NamespaceOption: ParsableArguments {
  @Option(
    name: [.customShort("n"), .long], help: "The namespace, for kinds that have one and documents that name none.",
    completion: .custom(Completions.namespaces))
  var namespace = "default"
}

/// Words of calicoctl's command line that mean nothing here, so that its users' scripts go on or are told why not.
struct CalicoctlOptions: ParsableArguments {
  @Option(name: .long, help: .hidden) var context: String?
  @Flag(name: .long, help: .hidden) var allowVersionMismatch = false

  func check() throws {
    guard context == nil else {
      writeError(
        "--context names a context of a kubeconfig, and margay reads no Kubernetes datastore yet; name the datastore with --datastore\n")
      throw ExitCode(ExitStatus.usage.rawValue)
    }
  }
}

struct AnswerOptions: ParsableArguments {
  enum Output: String, ExpressibleByArgument, CaseIterable { case text, name, yaml, json }
  @Option(name: .shortAndLong, help: "text, name, yaml (the objects as written) or json (one document: results and errors).")
  var output: Output = .text
}

/// The datastore for a verb that writes; on a rehearsal of it if nothing shall be written. With `creating`, a missing SQLite store is made.
func openWriter(_ options: DatastoreOptions, rehearsal: Bool, creating: Bool = false) throws -> ResourceWriter {
  let choice: DatastoreChoice
  do {
    choice = try options.choice()
  } catch {
    throw misuse("\(error)")
  }
  do throws(DatastoreError) {
    let datastore = try choice.open(creating: creating && !rehearsal) { writeError("margay: made a new, empty datastore: \($0)\n") }
    return ResourceWriter(rehearsal ? Rehearsal(of: datastore) : datastore)
  } catch {
    writeError("\(choice.name): \(error)\n")
    throw ExitCode(ExitStatus.unreachable.rawValue)
  }
}

/// Tells what is done while it is done, and ends the command with its exit code.
struct Answer {
  let output: AnswerOptions.Output
  var report: WriteReport

  init(_ verb: String, _ output: AnswerOptions.Output, rehearsal: Bool = false) {
    self.output = output
    report = WriteReport(verb: verb, isRehearsal: rehearsal)
  }

  /// Warnings always, errors to end with: nothing was changed.
  mutating func refuse(_ submissions: Submissions, _ errors: [DocumentError]) throws {
    warn(submissions)
    guard !errors.isEmpty else { return }
    report.errors = errors
    if output != .json {
      for error in errors { writeError("\(error)\n") }
      let valid = report.objects.count
      let rest = report.verb == "validate" ? ", \(valid) document\(valid == 1 ? "" : "s") valid" : "; nothing was changed"
      writeError("\(errors.count) error\(errors.count == 1 ? "" : "s")\(rest)\n")
    }
    try end()
  }
  mutating func warn(_ submissions: Submissions) {
    report.warnings = submissions.warnings
    if output != .json { for warning in submissions.warnings { writeError("warning: \(warning)\n") } }
  }

  /// One verb over many objects.
  mutating func run<Element>(
    _ elements: [Element], key: (Element) -> ResourceKey, _ work: (Element) async throws -> ObjectReport
  ) async {
    let (output, isRehearsal) = (output, report.isRehearsal)
    let bar = ProgressBar("objects")
    report.objects += await WriteBatch.run(
      elements, key: key,
      tell: { object, remaining in
        bar.end()
        Self.tell(object, output, isRehearsal)
        if remaining > 0 { bar.show(elements.count - remaining, of: elements.count) }
      }, work)
    bar.end()
  }

  mutating func tell(_ object: ObjectReport) {
    report.objects.append(object)
    Self.tell(object, output, report.isRehearsal)
  }

  private static func tell(_ object: ObjectReport, _ output: AnswerOptions.Output, _ isRehearsal: Bool) {
    if let failure = object.failure {
      if output != .json { writeError("\(failure)\n") }
      return
    }
    if output != .json { for warning in object.warnings { writeError("warning: \(object.key): \(warning)\n") } }
    switch output {
    case .text:
      let mode = isRehearsal ? " (dry run)" : ""
      let text = "\(object.key) \(object.outcome.rawValue)\(mode)\n" + object.details.map { "  \($0)\n" }.joined()
      if object.outcome == .notTried { writeError(text) } else { write(text) }
    case .name: if object.outcome != .notTried { write(object.key.word + "\n") }
    case .yaml: if let document = object.object { write("---\n" + document.yamlText) }
    case .json: break
    }
  }

  /// The JSON document, and the exit code if it is not 0.
  func end() throws {
    if output == .json { write(report.json.text(pretty: true) + "\n") }
    let status = report.exitStatus
    if status != .done { throw ExitCode(status.rawValue) }
  }
}

/// `networkpolicy`, `np`, `networkpolicies`: one kind by any of its words; another word is wrong usage.
func kindOfUsage(_ word: String) throws -> Kind {
  if let kind = Kind(word: word) { return kind }
  throw misuse("\"\(word)\" is no kind of object; one of \(Kind.allCases.map { $0.rawValue.lowercased() }.joined(separator: ", "))")
}

/// patch, label, delete: objects that are stored already, by kind and name or by a selection.
import ArgumentParser
import Documents
import JSON
import OutputForms
import Patches
import ResourceVerbs
import Resources
import Sockets

/// Which objects of a kind.
struct SelectionOptions: ParsableArguments {
  @Option(
    name: [.customShort("l"), .long],
    help: ArgumentHelp("Objects whose labels match, such as \"app == 'web'\" or app=web,tier!=db.", valueName: "selector"))
  var selector: String?
  @Flag(name: .long, help: "All objects of the kind, in the namespace.") var all = false
  @Flag(name: [.customShort("A"), .long], help: "With -l or --all: of all namespaces.") var allNamespaces = false

  var isGiven: Bool { selector != nil || all }

  func check(names: [String]) throws {
    if selector != nil, all { throw misuse("-l and --all exclude each other") }
    if isGiven, !names.isEmpty { throw misuse("names and \(all ? "--all" : "-l") exclude each other") }
    if allNamespaces, !isGiven { throw misuse("-A goes with -l or --all") }
  }
  func parsed() throws -> LabelFilter? {
    guard let selector else { return nil }
    do throws(LabelFilter.Problem) { return try LabelFilter(selector) } catch { throw misuse("-l \"\(selector)\": \(error)") }
  }
  func keys(_ kind: Kind, _ names: [String], _ namespace: String, _ writer: ResourceWriter) async throws -> [ResourceKey] {
    guard isGiven else { return names.map { ResourceKey(kind, namespace: namespace, name: $0) } }
    let labels = try parsed()
    do {
      let keys = try await writer.keys(kind, namespace: allNamespaces ? nil : namespace, labels: labels)
      if keys.isEmpty { writeError("no \(kind.rawValue) is selected; nothing is changed\n") }
      return keys
    } catch {
      let failure = WriteFailure(error, of: ResourceKey(kind, namespace: namespace, name: ""))
      writeError("\(failure)\n")
      throw ExitCode((failure.isUnreachable ? ExitStatus.unreachable : .failed).rawValue)
    }
  }
}

extension PatchKind: ExpressibleByArgument {}

struct Patch: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Change fields of stored objects.",
    discussion: """
      The result is validated like any document, and written only if nobody changed the object meanwhile; else the patch is applied again to \
      what is stored then. Types: merge (RFC 7396), json (RFC 6902), strategic (Kubernetes': like merge, but finalizers, owner references \
      and conditions are merged by their keys; other lists are replaced).
      """)
  @Argument(help: ArgumentHelp("The kind, in any of its words.", valueName: "kind"), completion: .custom(Completions.objects)) var kindWord:
    String
  @Argument(help: "Names.", completion: .custom(Completions.objects)) var names: [String]
  @Option(name: .shortAndLong, help: ArgumentHelp("The patch, as JSON or YAML.", valueName: "patch")) var patch: String?
  @Option(name: .long, help: ArgumentHelp("A file with the patch, or - for standard input.", valueName: "file")) var patchFile: String?
  @Option(name: .shortAndLong, help: "strategic, merge or json.") var type: PatchKind = .strategic
  @OptionGroup var namespace: NamespaceOption
  @OptionGroup var writing: WritingOptions

  func run() async throws {
    try writing.calicoctl.check()
    let kind = try kindOfUsage(kindWord)
    if names.isEmpty { throw misuse("say which \(kind.rawValue) to patch") }
    let patch = try read()
    let writer = try openWriter(writing.store, rehearsal: writing.dryRun)
    var answer = Answer("patch", writing.answer.output, rehearsal: writing.dryRun)
    let namespace = namespace.namespace
    await answer.run(names, key: { ResourceKey(kind, namespace: namespace, name: $0) }) {
      try await writer.patch(ResourceKey(kind, namespace: namespace, name: $0), patch)
    }
    try answer.end()
  }

  private func read() throws -> DocumentPatch {
    let (bytes, source): ([UInt8], String)
    switch (patch, patchFile) {
    case (let text?, nil): (bytes, source) = (Array(text.utf8), "the patch")
    case (nil, "-"?): (bytes, source) = (try Files.read(descriptor: 0, name: "standard input"), "standard input")
    case (nil, let file?):
      do { (bytes, source) = (try Files.read(file), file) } catch { throw misuse("\(error)") }
    default: throw misuse("say the patch: -p PATCH or --patch-file FILE, one of them")
    }
    do {
      return try DocumentPatch(type, try DocumentReader.readValue(bytes: bytes, file: source))
    } catch {
      throw misuse("\(error)")
    }
  }
}

struct Label: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Set and remove labels of stored objects.",
    usage: """
      margay label <kind> <name> … <key>=<value> … [--overwrite]
      margay label <kind> <name> <key> … --remove
      margay label <kind> -l <selector> | --all <key>=<value> | <key>- …
      """,
    discussion: "<key>- removes a label as well; a label that is not there is no mistake.")
  @Argument(help: ArgumentHelp("The kind, in any of its words.", valueName: "kind"), completion: .custom(Completions.objects)) var kindWord:
    String
  @Argument(help: "Names, then labels: key=value to set, key- to remove.") var words: [String]
  @Flag(name: .long, help: "Change labels that have another value.") var overwrite = false
  @Flag(name: .long, help: "Remove the labels of these keys.") var remove = false
  @OptionGroup var selection: SelectionOptions
  @OptionGroup var namespace: NamespaceOption
  @OptionGroup var writing: WritingOptions

  func run() async throws {
    try writing.calicoctl.check()
    let kind = try kindOfUsage(kindWord)
    let names: [String]
    if selection.isGiven {
      names = []
    } else if remove {
      // One name: whatever follows it is a key.
      names = Array(words.prefix(1))
    } else {
      names = Array(words.prefix { !$0.contains("=") && !$0.hasSuffix("-") })
    }
    try selection.check(names: names)
    if names.isEmpty, !selection.isGiven { throw misuse("say which \(kind.rawValue) to label: names, -l or --all") }
    let change: LabelChange
    do throws(WriteFailure) {
      change = try LabelChange(words: Array(words.dropFirst(names.count)), removing: remove, overwrite: overwrite)
    } catch {
      throw misuse("\(error)")
    }
    if change.set.isEmpty, change.remove.isEmpty { throw misuse("say which labels: key=value, or key- to remove one") }
    let writer = try openWriter(writing.store, rehearsal: writing.dryRun)
    let keys = try await selection.keys(kind, names, namespace.namespace, writer)
    var answer = Answer("label", writing.answer.output, rehearsal: writing.dryRun)
    await answer.run(keys, key: { $0 }) { try await writer.label($0, change) }
    try answer.end()
  }
}

struct Delete: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Delete objects: by kind and name, by their labels, or as listed in documents.",
    discussion: """
      With -f, objects go in the reverse of the order in which apply writes them; what else is wrong with the documents does not matter. A Node goes with \
      all that is only its: endpoints, addresses, blocks, BGP peers and settings of that node. The other hosts take its routes out at once. \
      Exit codes are those of apply.
      """)
  @Argument(
    help: ArgumentHelp("The kind, in any of its words; leave it out with -f.", valueName: "kind"), completion: .custom(Completions.objects))
  var kindWord: String?
  @Argument(help: "Names.", completion: .custom(Completions.objects)) var names: [String] = []
  @OptionGroup var input: FileOptions
  @OptionGroup var selection: SelectionOptions
  @OptionGroup var namespace: NamespaceOption
  @Flag(name: [.customShort("s"), .long], help: "A missing object is success.") var skipNotExists = false
  @Flag(name: .long, help: "Delete a Node although it says that it is alive, or an IPPool although its addresses are in use.") var force = false
  @OptionGroup var writing: WritingOptions

  func run() async throws {
    try writing.calicoctl.check()
    try selection.check(names: names)
    var answer = Answer("delete", writing.answer.output, rehearsal: writing.dryRun)
    let writer: ResourceWriter
    let keys: [ResourceKey]
    if !input.files.isEmpty {
      if kindWord != nil || selection.isGiven { throw misuse("-f and a kind, -l or --all exclude each other") }
      var submissions = input.read(namespace: namespace.namespace)
      submissions.warnings = []
      try answer.refuse(submissions, submissions.nameless)
      keys = WriteOrder.deleting(submissions.keys, \.kind)
      writer = try openWriter(writing.store, rehearsal: writing.dryRun)
    } else {
      guard let kindWord, !names.isEmpty || selection.isGiven else {
        throw misuse("say what to delete: a kind and names, a kind and -l or --all, or -f FILE")
      }
      let kind = try kindOfUsage(kindWord)
      _ = try selection.parsed()
      writer = try openWriter(writing.store, rehearsal: writing.dryRun)
      keys = try await selection.keys(kind, names, namespace.namespace, writer)
    }
    let (skip, force) = (skipNotExists, force)
    await answer.run(keys, key: { $0 }) { try await writer.delete($0, skipNotExists: skip, force: force) }
    try answer.end()
  }
}

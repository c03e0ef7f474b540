/// apply, delete, validate: documents and objects.
import Addresses
import ArgumentParser
import Datastore
import Documents
import Glibc
import JSON
import Names
import NodeProgram
import Resources
import Sockets
import Tables

/// Where documents come from.
struct FileOptions: ParsableArguments {
  @Option(
    name: [.customShort("f"), .customLong("filename")],
    help: ArgumentHelp("A YAML or JSON file with one or more documents; - is standard input.", valueName: "file"))
  var files: [String]

  /// Every document of every file, validated. All errors of all files are reported before anything is done.
  func read() throws -> [(resource: Resource, document: JSONValue)] {
    var valid: [(Resource, JSONValue)] = []
    var errors: [String] = []
    for file in files {
      let name = file == "-" ? "standard input" : file
      do {
        let bytes = file == "-" ? try Files.read(descriptor: 0, name: name) : try Files.read(file)
        for document in try DocumentReader.read(bytes: bytes, file: name) {
          let review = ResourceCodec.review(document)
          for warning in review.warnings { writeError("warning: \(warning)\n") }
          if let resource = review.resource { valid.append((resource, document.value)) }
          errors += review.errors.map { "\($0)" }
        }
      } catch {
        errors.append("\(error)")
      }
    }
    guard errors.isEmpty else {
      for error in errors { writeError(error + "\n") }
      writeError("\(errors.count) error\(errors.count == 1 ? "" : "s"); nothing was changed\n")
      throw ExitCode(1)
    }
    return valid
  }
}

struct Validate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Check documents without a datastore: exit 0 valid, 1 invalid.")
  @OptionGroup var input: FileOptions

  func run() throws {
    let documents = try input.read()
    write("\(documents.count) document\(documents.count == 1 ? "" : "s") valid\n")
  }
}

struct Apply: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Create or change objects as the documents say.",
    discussion: "All documents are validated before the first is written.")
  @OptionGroup var input: FileOptions
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    let documents = try input.read()
    let client = ResourceStore(try store.open(creating: true))
    try await perform(documents.map(\.resource.key)) { index in
      let (resource, document) = documents[index]
      return try await client.apply(resource, document: document).outcome.rawValue
    }
  }
}

/// Does one thing for each key, tells each outcome, and ends with exit code 1 if any failed.
func perform(_ keys: [ResourceKey], _ work: (Int) async throws -> String) async throws {
  var failed = 0
  for (index, key) in keys.enumerated() {
    do {
      let outcome = try await work(index)
      write("\(key) \(outcome)\n")
    } catch {
      failed += 1
      writeError("\(error)\n")
    }
  }
  if failed > 0 { throw ExitCode(1) }
}

/// `networkpolicy`, `np`, `networkpolicies`: one kind by any of its words.
func kind(_ word: String) throws -> Kind {
  if let kind = Kind(word: word) { return kind }
  throw CommandProblem("\"\(word)\" is no kind of object; one of \(Kind.allCases.map { $0.rawValue.lowercased() }.joined(separator: ", "))")
}

struct Delete: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Delete objects, by kind and name or as listed in documents.",
    discussion: """
      A Node goes with all that is only its: endpoints, addresses, blocks, BGP peers and settings of that node. The other hosts take its \
      routes out at once.
      """)
  @Argument(help: "The kind, in any of its words; leave it out with -f.") var kindWord: String?
  @Argument(help: "Names.") var names: [String] = []
  @Option(name: [.customShort("f"), .customLong("filename")], help: ArgumentHelp("Delete what these documents name.", valueName: "file"))
  var files: [String] = []
  @Option(name: [.customShort("n"), .long], help: "The namespace, for kinds that have one.") var namespace = "default"
  @Flag(name: .long, help: "A missing object is success.") var skipNotExists = false
  @Flag(name: .long, help: "Delete a Node although it says that it is alive.") var force = false
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    var keys: [ResourceKey] = []
    if !files.isEmpty {
      var input = FileOptions()
      input.files = files
      keys = try input.read().map(\.resource.key).reversed()
    } else {
      guard let kindWord, !names.isEmpty else { throw CommandProblem("say what to delete: a kind and names, or -f FILE") }
      let kind = try kind(kindWord)
      keys = names.map { ResourceKey(kind, namespace: namespace, name: $0) }
    }
    let datastore = try store.open()
    let client = ResourceStore(datastore)
    let (skip, force) = (skipNotExists, force)
    try await perform(keys) { index in
      if keys[index].kind == .node { return try await remove(node: keys[index], datastore, skip: skip, force: force) }
      do throws(ResourceStoreError) {
        try await client.delete(keys[index])
        return "deleted"
      } catch {
        if case .doesNotExist = error, skip { return "does not exist" }
        throw error
      }
    }
  }
}

/// Tells what went along with the node, below the line that says that it went.
private func remove(node key: ResourceKey, _ datastore: any Datastore, skip: Bool, force: Bool) async throws -> String {
  let removal = NodeRemoval(name: key.name)
  if !force, let time = try await removal.signOfLife(datastore) {
    throw CommandProblem(
      """
      \(key): its felix is alive or was so less than 90 s ago (its last word: \(time)). Stop `margay node` there first, or repeat with --force \
      if the host is lost
      """)
  }
  var lines: [String] = []
  do {
    try await removal.run(datastore) { lines.append($0) }
  } catch let problem as NodeRemoval.Problem {
    if skip { return "does not exist" }
    throw problem
  } catch {
    for line in lines { writeError("  \(line)\n") }
    throw CommandProblem("\(key): not everything of it is deleted, repeat the command: \(error)")
  }
  return (["deleted"] + lines.filter { $0 != "\(key) deleted" }.map { "  \($0)" }).joined(separator: "\n")
}

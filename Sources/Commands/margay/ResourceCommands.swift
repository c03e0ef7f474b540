/// apply, get, delete, validate: documents and objects.
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
    let client = ResourceStore(try store.open())
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

struct Get: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Show objects: a table, or the documents.")
  enum Output: String, ExpressibleByArgument, CaseIterable { case table, wide, yaml, json, name }

  @Argument(help: "The kind, in any of its words.") var kindWord: String
  @Argument(help: "Names; none means all.") var names: [String] = []
  @Option(name: [.customShort("n"), .long], help: "The namespace, for kinds that have one.") var namespace = "default"
  @Flag(name: [.customShort("A"), .long], help: "All namespaces.") var allNamespaces = false
  @Option(name: .shortAndLong, help: "table, wide, yaml, json or name.") var output: Output = .table
  @OptionGroup var store: DatastoreOptions

  func run() async throws {
    let kind = try kind(kindWord)
    let client = ResourceStore(try store.open())
    var items: [StoredResource] = []
    if names.isEmpty {
      let (found, unreadable, _) = try await client.list(kind, namespace: kind.isNamespaced && !allNamespaces ? namespace : nil)
      items = found
      for item in unreadable { writeError("\(item.reason)\n") }
    } else {
      for name in names {
        let key = ResourceKey(kind, namespace: namespace, name: name)
        guard let item = try await client.get(key) else { throw CommandProblem("\(key) does not exist") }
        items.append(item)
      }
    }
    switch output {
    case .table, .wide: write(ResourceTable.table(kind, items, isWide: output == .wide).text(palette()))
    case .name: for item in items { write("\(kind.rawValue.lowercased())/\(item.resource.key.name)\n") }
    case .json: write(document(items).text(pretty: true) + "\n")
    case .yaml: write(document(items).yamlText)
    }
  }

  private func document(_ items: [StoredResource]) -> JSONValue {
    if items.count == 1, names.count == 1 { return items[0].document }
    return [
      "kind": .string("\(items.first?.resource.kind.rawValue ?? "")List"), "apiVersion": "projectcalico.org/v3",
      "items": .array(items.map(\.document)),
    ]
  }
}

/// What of each kind a person wants to see in a row.
enum ResourceTable {
  static func table(_ kind: Kind, _ items: [StoredResource], isWide: Bool) -> TextTable {
    var headings = kind.isNamespaced ? ["NAMESPACE", "NAME"] : ["NAME"]
    headings += columns(kind, isWide)
    var table = TextTable(headings)
    for item in items {
      let names = kind.isNamespaced ? [item.resource.metadata.namespace ?? "", item.resource.metadata.name] : [item.resource.metadata.name]
      table.append(names + values(item.resource, isWide))
    }
    return table
  }

  static func columns(_ kind: Kind, _ isWide: Bool) -> [String] {
    switch kind {
    case .bgpConfiguration: ["MESH", "AS"]
    case .bgpPeer: ["PEER", "NODE", "AS"]
    case .clusterInformation: ["READY", "GUID"]
    case .felixConfiguration: ["PREFIXES", "TO-HOST"]
    case .globalNetworkPolicy, .networkPolicy: ["TIER", "ORDER", "SELECTOR"] + (isWide ? ["INGRESS", "EGRESS"] : [])
    case .globalNetworkSet, .networkSet: ["NETS"]
    case .ipPool: ["CIDR", "BLOCK", "SELECTOR", "STATE"]
    case .node: ["AS", "IPV4", "IPV6"]
    case .profile: ["LABELS"]
    case .tier: ["ORDER", "DEFAULT"]
    case .workloadEndpoint: ["NODE", "WORKLOAD", "INTERFACE", "NETWORKS"] + (isWide ? ["PROFILES"] : [])
    }
  }

  static func values(_ resource: Resource, _ isWide: Bool) -> [String] {
    func text(_ order: Double?) -> String { order.map { $0 == $0.rounded() ? "\(Int64($0))" : "\($0)" } ?? "" }
    switch resource.spec {
    case .bgpConfiguration(let spec): return [spec.nodeToNodeMeshEnabled == false ? "off" : "on", spec.asNumber.map { "\($0)" } ?? "64512"]
    case .bgpPeer(let spec):
      return [
        spec.peerIP?.description ?? spec.peerSelector ?? "", spec.node ?? spec.nodeSelector ?? "(all)", spec.asNumber.map { "\($0)" } ?? "",
      ]
    case .clusterInformation(let spec): return [spec.datastoreReady.map { "\($0)" } ?? "", spec.clusterGUID ?? ""]
    case .felixConfiguration(let spec):
      return [spec.interfacePrefixes?.joined(separator: ",") ?? "", spec.defaultEndpointToHostAction?.rawValue ?? ""]
    case .globalNetworkPolicy(let spec), .networkPolicy(let spec):
      return [spec.tier, text(spec.order), spec.selector] + (isWide ? ["\(spec.ingress.count)", "\(spec.egress.count)"] : [])
    case .globalNetworkSet(let spec), .networkSet(let spec):
      let shown = spec.nets.prefix(4).map(\.description).joined(separator: ",")
      return [shown + (spec.nets.count > 4 ? ",… (\(spec.nets.count))" : "")]
    case .ipPool(let spec): return [spec.cidr.description, "/\(spec.blockSize)", spec.nodeSelector, spec.disabled ? "disabled" : "enabled"]
    case .node(let spec):
      return [
        spec.bgp?.asNumber.map { "\($0)" } ?? "(64512)", spec.bgp?.ipv4Address?.description ?? "", spec.bgp?.ipv6Address?.description ?? "",
      ]
    case .profile(let spec): return [spec.labelsToApply.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: ",")]
    case .tier(let spec): return [text(spec.order), spec.defaultAction.rawValue]
    case .workloadEndpoint(let spec):
      return [
        spec.node, spec.pod.isEmpty ? spec.workload : spec.pod, spec.interfaceName,
        spec.ipNetworks.map(\.description).joined(separator: ","),
      ]
        + (isWide ? [spec.profiles.joined(separator: ",")] : [])
    }
  }
}

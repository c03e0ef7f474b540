/// get: objects as tables, documents and whatever else their reader wants to see of them.
import ArgumentParser
import Datastore
import Datastores
import Glibc
import JSON
import ObjectViews
import OutputForms
import ResourceVerbs
import Resources
import Sockets
import Synchronization
import Tables

struct Get: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show objects: as a table, as documents, or in a form of your own.",
    discussion: """
      KIND is any word for a kind (`margay api-resources` lists them), several with commas, or `all`. KIND/NAME names single objects.

      Forms (-o): table (or ps), wide, yaml, json, name, custom-columns=NAME:.metadata.name,… (or =NAME,SELECTOR,… for columns of the \
      kind's own), custom-columns-file=FILE, jsonpath=TEMPLATE, jsonpath-file=FILE, go-template=TEMPLATE, go-template-file=FILE.

      What is stored and cannot be read is shown too. Exit code 0: done. 1: something asked for by name does not exist. 2: the datastore \
      cannot be reached. 64: the command line cannot be understood.
      """)

  @Argument(
    help: ArgumentHelp("A kind and names, KIND/NAME, or all.", valueName: "kind[,kind…] [name…]"), completion: .custom(Completions.objects))
  var words: [String] = []
  @Option(
    name: [.customShort("f"), .customLong("filename")],
    help: ArgumentHelp("Show what the documents of this file or directory name; - is standard input.", valueName: "file"),
    completion: .file(extensions: ["yaml", "yml", "json"]))
  var files: [String] = []
  @Flag(name: [.customShort("R"), .long], help: "With -f: directories with all that is below them.") var recursive = false
  @Flag(name: .long, help: "With -f: a file or directory without a document is no mistake.") var skipEmpty = false
  @Option(name: [.customShort("n"), .long], help: "The namespace, for kinds that have one.", completion: .custom(Completions.namespaces))
  var namespace = "default"
  @Flag(name: [.customShort("A"), .long], help: "All namespaces.") var allNamespaces = false
  @Option(
    name: .shortAndLong, help: ArgumentHelp("The form; see above.", valueName: "form"),
    completion: .list(["table", "wide", "yaml", "json", "name", "custom-columns=", "jsonpath=", "go-template="]))
  var output = "table"
  @Option(
    name: [.customShort("l"), .customLong("selector")],
    help: ArgumentHelp("Only objects with these labels: app=web,tier!=db, or a selector such as \"app == 'web'\".", valueName: "labels"))
  var selector: String?
  @Flag(name: .long, help: "No line of headings.") var noHeaders = false
  @Option(name: .long, help: ArgumentHelp("Sort by a field, such as .metadata.creationTimestamp.", valueName: "path")) var sortBy: String?
  @Flag(name: .long, help: "All labels in a column.") var showLabels = false
  @Option(name: [.customShort("L"), .long], help: ArgumentHelp("A column for each of these labels.", valueName: "label,…"))
  var labelColumns: [String] = []
  @Flag(name: .long, help: "Without what belongs to this cluster alone: uid, resourceVersion, creationTimestamp, owners, status.")
  var export = false
  @Flag(name: .shortAndLong, help: "Then go on with every change, until interrupted.") var watch = false
  @Flag(name: .long, help: "Only the changes, not what there is now.") var watchOnly = false
  @Flag(name: .long, help: "Only what is stored and would not be accepted, with each fault and what it costs; without KIND, of all kinds.")
  var invalid = false
  @Flag(name: .long, help: .hidden) var allowVersionMismatch = false
  @OptionGroup var colour: ColourOptions
  @OptionGroup var store: DatastoreOptions

  /// Everything that can be wrong with the command line, before the datastore is opened.
  private struct Plan {
    var request: ObjectRequest
    /// Where each object's namespace is its own: those of documents.
    var keys: [ResourceKey]?
    var form: ObjectPrinter.Form
    var labels: LabelFilter?
    var sorting: FieldPath?
  }

  func run() async throws {
    let plan = try plan()
    if invalid { return try await showInvalid(plan) }
    if watch || watchOnly { return try await follow(plan) }
    try await show(plan)
  }

  private var chosenNamespace: String? { allNamespaces ? nil : namespace }

  private func plan() throws -> Plan {
    func usage<Value>(_ body: () throws -> Value) throws -> Value {
      do { return try body() } catch let error where !(error is ExitCode) { throw misuse("\(error)") }
    }
    let labels = try usage { () throws -> LabelFilter? in try selector.map { text throws in try LabelFilter(text) } }
    let sorting = try usage { () throws -> FieldPath? in try sortBy.map { text throws in try FieldPath(relaxed: text) } }
    let form = try usage { () throws -> ObjectPrinter.Form in try self.form() }
    if !files.isEmpty {
      if !words.isEmpty { throw misuse("say kinds and names, or -f FILE, but not both") }
      let keys = try keysOfFiles()
      return Plan(
        request: ObjectRequest(documents: keys.map { ($0.kind, $0.name) }), keys: keys, form: form, labels: labels, sorting: sorting)
    }
    let request =
      words.isEmpty && invalid
      ? ObjectRequest(parts: Kind.allCases.map { ObjectRequest.Part($0) }) : try usage { try ObjectRequest(words: words) }
    if case .table(let shape) = form {
      try usage { () throws -> Void in for part in request.parts { _ = try ObjectTable(part.kind, shape) } }
    }
    return Plan(request: request, form: form, labels: labels, sorting: sorting)
  }

  private func form() throws -> ObjectPrinter.Form {
    let (word, argument): (Substring, String?)
    if let equals = output.firstIndex(of: "=") {
      (word, argument) = (output[..<equals], String(output[output.index(after: equals)...]))
    } else {
      (word, argument) = (output[...], nil)
    }
    func given() throws -> String {
      guard let argument, !argument.isEmpty else { throw misuse("-o \(word) needs something behind it: -o \(word)=…") }
      return argument
    }
    func content() throws -> String { try Files.readText(try given()) }
    var shape = ObjectTable.Shape()
    shape.showsNamespace = allNamespaces
    shape.showsLabels = showLabels
    shape.labelColumns = labelColumns.flatMap { $0.split(separator: ",").map(String.init) }
    switch word {
    case "table", "ps", "": return .table(shape)
    case "wide":
      shape.isWide = true
      return .table(shape)
    case "custom-columns":
      shape.custom = try CustomColumns(try given())
      return .table(shape)
    case "custom-columns-file":
      shape.custom = try CustomColumns(file: try content())
      return .table(shape)
    case "yaml": return .yaml
    case "json": return .json
    case "name": return .name
    case "jsonpath": return .jsonPath(try PathTemplate(try given()))
    case "jsonpath-file": return .jsonPath(try PathTemplate(try content()))
    case "go-template": return .goTemplate(try GoTemplate(try given()))
    case "go-template-file": return .goTemplate(try GoTemplate(try content()))
    default:
      throw misuse(
        """
        -o \(output): no such form; there are table, ps, wide, yaml, json, name, custom-columns=, custom-columns-file=, jsonpath=, \
        jsonpath-file=, go-template= and go-template-file=
        """
      )
    }
  }

  /// Kind, namespace and name are enough: the rest of the documents need not be valid.
  private func keysOfFiles() throws -> [ResourceKey] {
    let submissions = Submissions.read(SourceFiles(files, isRecursive: recursive), namespace: namespace, skipEmpty: skipEmpty)
    for fault in submissions.nameless { writeError("\(fault)\n") }
    if !submissions.nameless.isEmpty { throw ExitCode(1) }
    return submissions.keys
  }

  // MARK: Once

  private func show(_ plan: Plan) async throws {
    var printer = printer(plan)
    let isWide = if case .table(let shape) = plan.form { shape.isWide || shape.custom != nil } else { false }
    let missing = try await reading(store) { datastore in
      if isWide { printer.facts = try await ClusterFacts.read(datastore, for: Set(plan.request.parts.map(\.kind))) }
      var missing: [ResourceKey] = []
      var foundAny = false
      for part in plan.request.parts {
        var held: [ShownObject] = []
        let mustHold = plan.sorting != nil
        var hasAny = false
        func take(_ objects: [ShownObject]) throws {
          for object in objects {
            if let problem = object.problem { writeError("\(object.key) is stored and cannot be read: \(problem)\n") }
          }
          if objects.isEmpty { return }
          hasAny = true
          if mustHold { held += objects } else { emit(try printer.text(part.kind, objects)) }
        }
        for (namespace, names) in pieces(of: part, plan) {
          let reader = ObjectReader(datastore, namespace: namespace, labels: plan.labels)
          missing += try await reader.read(ObjectRequest.Part(part.kind, names: names)) { try take($0) }
        }
        if let path = plan.sorting {
          let keyed = held.map { ($0, $0.document.flatMap { path.values(in: $0).first }) }
          held = keyed.sorted { ValueOrder.precedes($0.1, $1.1) }.map(\.0)
          if !held.isEmpty { emit(try printer.text(part.kind, held)) }
        }
        // The headings of an empty table tell that there is such a kind; among many kinds they would only be noise.
        if !hasAny, part.names == nil, plan.request.parts.count == 1 { emit(try printer.text(part.kind, [])) }
        foundAny = foundAny || hasAny
      }
      // A template over a part of what was asked for would mislead.
      if missing.isEmpty || (foundAny && !plan.form.needsAll) { emit(try printer.finish()) }
      return missing
    }
    for key in missing { writeError("\(key.namespace == "*" ? "\(key.kind.rawValue) \(key.name)" : "\(key)") does not exist\n") }
    if !missing.isEmpty { throw ReadingExit.missing }
  }

  /// The names of one kind by namespace: documents say their own.
  private func pieces(of part: ObjectRequest.Part, _ plan: Plan) -> [(namespace: String?, names: [String]?)] {
    guard let keys = plan.keys else { return [(chosenNamespace, part.names)] }
    return keys.filter { $0.kind == part.kind }.map { ($0.namespace, [$0.name]) }
  }

  private func printer(_ plan: Plan) -> ObjectPrinter {
    var printer = ObjectPrinter(plan.form)
    printer.isSingle =
      plan.request.parts.count == 1 && plan.request.parts[0].names?.count == 1
      && !(allNamespaces && plan.request.parts[0].kind.isNamespaced)
    printer.hasSeveralKinds = plan.request.parts.count > 1
    printer.isExport = export
    printer.palette = colour.palette
    printer.widthMax = terminalWidth()
    printer.hasHeadings = !noHeaders
    return printer
  }

  // MARK: With every change

  private func follow(_ plan: Plan) async throws {
    let choice = try store.choice()
    let datastore: any Datastore
    do throws(DatastoreError) { datastore = try choice.open() } catch {
      writeError("\(choice.name): \(error)\n")
      throw ReadingExit.unreachable
    }
    let printer = ChangePrinter(
      form: plan.form, several: plan.request.parts.count > 1, export: export, palette: colour.palette, widthMax: terminalWidth(),
      headings: !noHeaders)
    let state = Mutex(
      (ObjectWatch(plan.request, namespace: plan.keys == nil ? chosenNamespace : nil, labels: plan.labels, changesOnly: watchOnly), printer)
    )
    Task { await endWithReader() }
    let feed = ResourceFeed(datastore, kinds: plan.request.parts.map(\.kind))
    await feed.run { events in
      state.withLock { state in
        let step = state.0.take(events)
        if let connection = step.connection {
          writeError(connection.map { "\(choice.name): \($0); the watch goes on when it answers\n" } ?? "\(choice.name) answers again\n")
        }
        do { emit(try state.1.text(step.changes)) } catch {
          writeError("\(error)\n")
          Glibc.exit(64)
        }
      }
    }
  }

  // MARK: What would not be accepted

  private func showInvalid(_ plan: Plan) async throws {
    let isDocument: Bool
    switch plan.form {
    case .json, .yaml: isDocument = true
    case .table: isDocument = false
    default: throw misuse("--invalid goes with -o table, json or yaml")
    }
    let palette = colour.palette
    // Without a kind the question is about all that is stored.
    let namespace = words.isEmpty ? nil : chosenNamespace
    let found = try await reading(store) { datastore in
      var found: [ObjectFaults] = []
      for part in plan.request.parts {
        _ = try await ObjectReader(datastore, namespace: namespace, labels: plan.labels).read(part) { objects in
          for object in objects {
            guard let faults = ObjectFaults(object) else { continue }
            found.append(faults)
            if !isDocument { emit(faults.text(palette)) }
          }
        }
      }
      return found
    }
    if isDocument {
      let list: JSONValue = ["items": .array(found.map(\.json))]
      emit(ObjectPrinter.text(list, isJSON: plan.form.isJSON))
    } else if found.isEmpty {
      emit("nothing is stored that would not be accepted\n")
    }
  }
}

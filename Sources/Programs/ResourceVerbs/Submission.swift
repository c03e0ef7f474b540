/// Documents that somebody wants to store: every one of every file is read and judged before the first is written.
public import Documents
public import JSON
public import Resources
import Sockets

/// One object to be written.
public struct Submission: Sendable {
  public var resource: Resource
  /// As it was written, with all its fields.
  public var document: JSONValue
  /// Where the document begins in its file: empty, or `items[3]`. Paths of findings begin with it.
  public var root: JSONPath
  /// Nil for one that comes from no file.
  public var file: String?
  public var position: JSONPosition?
  /// Fields that nobody here knows. They are mistakes, unless the stored object has just these.
  public var unknown: [DocumentError]

  public init(
    resource: Resource, document: JSONValue, root: JSONPath = JSONPath(), file: String? = nil, position: JSONPosition? = nil,
    unknown: [DocumentError] = []
  ) {
    self.resource = resource
    self.document = document
    self.root = root
    self.file = file
    self.position = position
    self.unknown = unknown
  }
}

/// All that was read.
public struct Submissions: Sendable {
  public var items: [Submission] = []
  public var errors: [DocumentError] = []
  public var warnings: [DocumentError] = []
  /// What the documents name, whatever else is wrong with them: enough for deleting. `nameless` tells of those that name nothing.
  public var keys: [ResourceKey] = []
  public var nameless: [DocumentError] = []
  public init() {}

  /// Everything wrong with the documents by themselves, unknown fields included, in the order of reading.
  public private(set) var allErrors: [DocumentError] = []
  /// What refuses the documents before a datastore is asked: if it is only unknown fields, stored objects may have them too.
  public var refusals: [DocumentError] { errors.isEmpty ? [] : allErrors }

  /// - Parameters:
  ///   - namespace: of documents that give none.
  ///   - skipEmpty: a file or directory without a document is no mistake.
  public static func read(_ files: SourceFiles, namespace: String = "default", skipEmpty: Bool = false) -> Submissions {
    var result = Submissions()
    let sources: [SourceFiles.Source]
    do throws(SystemError) {
      sources = try files.expand()
    } catch {
      result.fail([DocumentError(path: JSONPath(), rule: "\(error)")])
      return result
    }
    for source in sources {
      let before = result.count
      for file in source.files { result.read(file, namespace) }
      guard result.count == before, !skipEmpty else { continue }
      let what =
        source.isDirectory ? "holds no document in a file ending in \(SourceFiles.endings.joined(separator: ", "))" : "holds no document"
      let fix =
        source.isDirectory && !files.isRecursive ? "use -R for the directories below it, or --skip-empty" : "use --skip-empty if it may"
      result.fail([DocumentError(file: Self.name(source.word), path: JSONPath(), rule: what, fix: fix)])
    }
    result.warnOfRepetitions()
    return result
  }

  private var count: Int { items.count + errors.count }

  private mutating func fail(_ faults: [DocumentError]) {
    errors += faults
    allErrors += faults
    nameless += faults
  }

  static func name(_ file: String) -> String { file == "-" ? "standard input" : file }

  private mutating func read(_ file: String, _ namespace: String) {
    let name = Self.name(file)
    do {
      let bytes = file == "-" ? try Files.read(descriptor: 0, name: name) : try Files.read(file)
      let (documents, faults) = DocumentReader.survey(bytes: bytes, file: name)
      for document in documents { add(document, namespace) }
      fail(faults)
    } catch {
      fail([DocumentError(path: JSONPath(), rule: "\(error)")])
    }
  }

  public mutating func add(_ document: PositionedDocument, _ namespace: String) {
    let review = Review(of: document, namespace: namespace)
    warnings += review.warnings
    allErrors += review.resource == nil ? review.errors : review.unknown
    if let key = review.resource?.key ?? ResourceKey(naming: document.value, namespace) {
      keys.append(key)
    } else {
      nameless += review.errors
    }
    if let resource = review.resource {
      items.append(
        Submission(
          resource: resource, document: document.value, root: document.root, file: document.file,
          position: document.position(of: document.root), unknown: review.unknown))
    } else {
      errors += review.errors
    }
  }

  /// The last one wins, as it would if the files were applied one after the other; that is seldom what was meant.
  private mutating func warnOfRepetitions() {
    var first: [ResourceKey: Submission] = [:]
    for item in items {
      if let earlier = first[item.resource.key] {
        let place = "\(earlier.file ?? "")\(earlier.position.map { ":\($0)" } ?? "")"
        warnings.append(
          DocumentError(
            file: item.file, position: item.position, path: JSONPath(),
            rule: "\(item.resource.key) is here for the second time, after \(place)",
            fix: "the later one wins"))
      } else {
        first[item.resource.key] = item
      }
    }
  }
}

/// A document judged with its unknown fields set aside.
struct Review {
  /// Nil if something is wrong besides unknown fields.
  let resource: Resource?
  /// All of it, if so.
  let errors: [DocumentError]
  let unknown: [DocumentError]
  let warnings: [DocumentError]

  init(of document: PositionedDocument, namespace: String = "default") {
    let whole = ResourceCodec.review(document, defaultNamespace: namespace)
    unknown = whole.errors.filter(\.isUnknownField)
    guard !unknown.isEmpty, unknown.count == whole.errors.count else {
      (resource, errors, warnings) = (whole.resource, whole.errors, whole.warnings)
      return
    }
    let rest = unknown.reduce(document.value) { value, error in value.removingMember(at: error.steps(below: document.root)) }
    let known = ResourceCodec.review(
      PositionedDocument(file: document.file, value: rest, root: document.root, positions: document.positions), defaultNamespace: namespace)
    (resource, errors, warnings) = (known.resource, whole.errors, known.warnings)
  }
}

extension ResourceKey {
  /// Nil if the document does not say what it is about.
  fileprivate init?(naming document: JSONValue, _ namespace: String) {
    guard let kind = document["kind"]?.string.flatMap(Kind.init(rawValue:)), let name = document["metadata"]?["name"]?.string, !name.isEmpty
    else { return nil }
    self.init(kind, namespace: document["metadata"]?["namespace"]?.string ?? namespace, name: name)
  }
}

extension DocumentError {
  /// The way to the value inside its own document, which begins at `root`.
  func steps(below root: JSONPath = JSONPath()) -> [JSONPath.Step] {
    let all = path.steps ?? []
    return Array(all.dropFirst(root.steps?.count ?? 0))
  }
}

/// What a shell offers behind `margay get`: kinds, and the names of objects where the datastore answers at once.
import ArgumentParser
import Datastore
import Datastores
import Resources
import Sockets

enum Completions {
  /// A person waits for the answer to Tab; half a second is what they take without wondering.
  static let patience = Duration.milliseconds(500)

  static let kinds: @Sendable ([String], Int, String) -> [String] = { _, _, _ in Kind.allCases.map(\.plural) }

  /// `KIND`, `KIND,KIND`, `KIND/NAME` or, behind a kind, names.
  static let objects: @Sendable ([String], Int, String) async -> [String] = { words, index, prefix in
    let line = Line(words, index)
    if let slash = prefix.firstIndex(of: "/") {
      let word = String(prefix[..<slash])
      guard let kind = Kind(word: word) else { return [] }
      return await names(of: kind, line).map { "\(word)/\($0)" }
    }
    if let first = line.positionals.first {
      guard let kind = Kind(word: first) else { return [] }
      return await names(of: kind, line)
    }
    if let comma = prefix.lastIndex(of: ",") { return Kind.allCases.map { prefix[...comma] + $0.plural } }
    return Kind.allCases.flatMap { [$0.plural] + $0.shortNames } + ["all"]
  }
  static let nodes: @Sendable ([String], Int, String) async -> [String] = { words, index, _ in await names(of: .node, Line(words, index)) }
  static let namespaces: @Sendable ([String], Int, String) async -> [String] = { words, index, _ in
    let line = Line(words, index)
    let kind = line.positionals.first.flatMap { Kind(word: $0) } ?? .networkPolicy
    let keys = await keys(of: kind.isNamespaced ? kind : .networkPolicy, namespace: nil, line)
    return Array(Set(keys.compactMap(\.namespace))).sorted()
  }

  /// The words before the one that is being completed.
  struct Line {
    var positionals: [String] = []
    var options: [String: String] = [:]
    var isAllNamespaces = false

    init(_ words: [String], _ index: Int) {
      var rest = Self.joined(words.prefix(max(0, index))).dropFirst()[...]
      if let verb = rest.first, !verb.hasPrefix("-") { rest = rest.dropFirst() }
      while let word = rest.popFirst() {
        if word == "-A" || word == "--all-namespaces" { isAllNamespaces = true }
        guard word.hasPrefix("-") else {
          positionals.append(word)
          continue
        }
        if let equals = word.firstIndex(of: "=") {
          options[String(word[..<equals])] = String(word[word.index(after: equals)...])
        } else if Self.takesValue.contains(word), let value = rest.popFirst() {
          options[word] = value
        }
      }
    }
    /// bash takes words apart at colons and equals signs: `sqlite`, `:`, `/path` are one.
    private static func joined(_ words: some Sequence<String>) -> [String] {
      var whole: [String] = []
      var isOpen = false
      for word in words {
        let isJoint = word == ":" || word == "="
        if let last = whole.last, isJoint || isOpen {
          whole[whole.count - 1] = last + word
        } else {
          whole.append(word)
        }
        isOpen = isJoint
      }
      return whole
    }
    private static let takesValue: Set<String> = [
      "-n", "--namespace", "-o", "--output", "-l", "--selector", "-L", "--label-columns", "-f", "--filename", "--sort-by", "--datastore",
      "-c", "--config",
      "--color",
    ]
  }

  private static func names(of kind: Kind, _ line: Line) async -> [String] {
    let namespace = line.isAllNamespaces || !kind.isNamespaced ? nil : line.options["-n"] ?? line.options["--namespace"] ?? "default"
    return await keys(of: kind, namespace: namespace, line).map(\.name)
  }

  private static func keys(of kind: Kind, namespace: String?, _ line: Line) async -> [ResourceKey] {
    guard
      let choice = try? DatastoreChoice.ofProcess(
        option: line.options["--datastore"], config: line.options["-c"] ?? line.options["--config"]
      ).choice
    else { return [] }
    // Asking must not make a file that is not there.
    if case .sqlite(let path) = choice, !Files.exists(path) { return [] }
    let prefix = ResourceKey.prefix(of: kind, namespace: namespace)
    let answers = AsyncStream<[ResourceKey]> { answers in
      Task {
        if let datastore = try? choice.open(), let items = try? await datastore.list(prefix: prefix).items {
          answers.yield(items.compactMap { ResourceKey(path: $0.key) })
        }
        answers.finish()
      }
      Task {
        try? await Task.sleep(for: patience)
        answers.finish()
      }
    }
    // The first of the two; what is still under way ends with the process.
    for await keys in answers { return keys }
    return []
  }
}

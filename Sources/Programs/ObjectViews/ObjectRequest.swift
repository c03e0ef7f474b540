/// Which objects somebody asks for, in words: `KIND[,KIND…] [NAME…]`, `KIND/NAME…`, or `all`.
public import Resources

public struct ObjectRequest: Hashable, Sendable {
  /// Objects of one kind.
  public struct Part: Hashable, Sendable {
    public var kind: Kind
    /// Nil: all of them.
    public var names: [String]?
    public init(_ kind: Kind, names: [String]? = nil) {
      self.kind = kind
      self.names = names
    }
  }
  public struct Problem: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
  }
  public var parts: [Part]
  public init(parts: [Part]) { self.parts = parts }

  public init(words: [String]) throws(Problem) {
    guard let first = words.first else {
      throw Problem(description: "say what to show: a kind, as in `margay get pools`, KIND/NAME, all, or -f FILE")
    }
    parts = []
    if words.contains(where: { $0.contains("/") }) {
      for word in words {
        let halves = word.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard halves.count == 2, !halves[0].isEmpty, !halves[1].isEmpty else {
          throw Problem(description: "\"\(word)\" is not KIND/NAME, as the others are")
        }
        append(try Self.kind(String(halves[0])), name: String(halves[1]))
      }
      return
    }
    let kinds = first.lowercased() == "all" ? Kind.allCases : try Self.kinds(first)
    let names = words.count > 1 ? Array(words.dropFirst()) : nil
    for kind in kinds where !parts.contains(where: { $0.kind == kind }) { parts.append(Part(kind, names: names)) }
  }

  /// `networkpolicy`, `np`, `networkpolicies`; the message for anything else lists what there is.
  public static func kind(_ word: String) throws(Problem) -> Kind {
    if let kind = Kind(word: word) { return kind }
    let known = Kind.allCases.map { $0.rawValue.lowercased() }
    throw Problem(
      description: "\"\(word)\" is no kind of object; one of \(known.joined(separator: ", ")); `margay api-resources` has the short names")
  }
  private static func kinds(_ word: String) throws(Problem) -> [Kind] {
    var kinds: [Kind] = []
    for part in word.split(separator: ",", omittingEmptySubsequences: false) { kinds.append(try kind(String(part))) }
    return kinds
  }

  private mutating func append(_ kind: Kind, name: String) {
    if let index = parts.firstIndex(where: { $0.kind == kind }) {
      if parts[index].names?.contains(name) == false { parts[index].names?.append(name) }
    } else {
      parts.append(Part(kind, names: [name]))
    }
  }

  /// What documents name; the namespace of each is its own.
  public init(documents: [(kind: Kind, name: String)]) {
    parts = []
    for document in documents { append(document.kind, name: document.name) }
  }
}

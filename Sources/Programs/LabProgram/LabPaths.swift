/// Where a lab keeps its things, and what its namespaces are called. Two labs differ in their name and share nothing.
public struct LabPaths: Sendable {
  public let lab: String
  public static let root = "/run/margay-lab"
  public init(lab: String) { self.lab = lab }
  public var directory: String { "\(Self.root)/\(lab)" }
  public var record: String { "\(directory)/lab.json" }
  public var datastore: String { "\(directory)/datastore.sqlite" }
  public func host(_ name: String) -> String { "\(directory)/\(name)" }
  public func log(_ name: String) -> String { "\(directory)/\(name).log" }
  /// Every namespace of this lab begins with this.
  public var namespacePrefix: String { "margay-\(lab)-" }
  public func namespace(_ name: String) -> String { namespacePrefix + name }
  public func namespacePath(_ name: String) -> String { "/run/netns/\(namespace(name))" }
}

/// A lab's name becomes part of paths and of namespace names.
public func isUsableLabName(_ name: String) -> Bool {
  (1...20).contains(name.utf8.count)
    && name.utf8.allSatisfy {
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
    }
}

/// Versions of the tables' layout.
///
/// `PRAGMA user_version` of the file names the version that it has. A program refuses a file of a later version than it knows: it cannot
/// know what its columns mean. A file of an earlier version is brought up step by step in one transaction, while nobody else has it open.

package struct StoreSchema: Sendable {
  package var version: Int
  /// The SQL that makes a store of each version from one of the version before; the first makes it from nothing.
  package var steps: [Int: String]
  package init(version: Int, steps: [Int: String]) {
    self.version = version
    self.steps = steps
  }
  package static let current = StoreSchema(version: 1, steps: [1: StoreTables.schema])

  func step(to version: Int) -> String {
    guard let step = steps[version] else { preconditionFailure("each version of the schema has its step; \(version) has none") }
    return step
  }
}

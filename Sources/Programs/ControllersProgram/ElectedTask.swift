/// A piece of housekeeping that one process of the whole cluster does, again and again: a name, a period, and what to do.
///
/// What it must be: repeatable after a stop anywhere, since a term may end at any moment; and fenced, each write with the term's comparison,
/// since it may be late to notice that.
public import Datastore
public import Logging

public struct ElectedTask: Sendable {
  public struct Context: Sendable {
    public var datastore: any Datastore
    /// `term.fence` belongs among the comparisons of every write.
    public var term: LeaderTerm
    public var settings: ControllersSettings
    /// This process, for people.
    public var candidate: String
    public var log: Logger
  }
  /// `history-compaction`: for people and metrics.
  public var name: String
  /// What it does, in half a sentence.
  public var purpose: String
  /// Nil: the settings switch it off.
  public var period: @Sendable (ControllersSettings) -> Duration?
  /// Returns what it did, in words; nil if there was nothing to do. An error is told, and it is tried again sooner than after the period.
  public var run: @Sendable (Context) async throws -> String?

  public init(
    name: String, purpose: String, period: @escaping @Sendable (ControllersSettings) -> Duration?,
    run: @escaping @Sendable (Context) async throws -> String?
  ) {
    (self.name, self.purpose, self.period, self.run) = (name, purpose, period, run)
  }

  /// Everything that is elected for.
  public static let all: [ElectedTask] = [.historyCompaction, .addressRepair]
}

/// A task's own reason to fail, in words.
public struct ElectedTaskProblem: Error, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

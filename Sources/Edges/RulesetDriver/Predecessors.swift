/// Tables of a program whose work ours takes over: they go when our whole ruleset is in the kernel, in three steps.
///
/// - Ours is committed beside theirs. For a moment a packet has to pass both: what both allow goes on, what either denies does not.
/// - When every packet is past the hooks that had nothing of ours yet (`RulesetKernel.waitForPackets`), their rules go.
/// - Then their tables.
///
/// Hazard: a transaction that deletes a table whole takes the elements of its maps away at once, and its base chains, with their rules,
/// only when the kernel comes to them in its list (`nf_tables_commit`). Meanwhile their dispatch finds no workload and drops everything.

import Logging
import Rulesets

struct Predecessors {
  private let tables: [ForeignTable]
  private var isOver = false
  private(set) var problems: [String] = []

  init(tables: [ForeignTable]) { self.tables = tables }

  /// Our whole ruleset was committed. Nothing here can fail it: tables that stay deny more, never less.
  mutating func takeOver(_ kernel: any RulesetKernel, _ log: Logger, _ report: inout ApplyReport) {
    guard !isOver else { return }
    do throws(RulesetError) {
      let old = try kernel.present(tables)
      guard !old.isEmpty else {
        isOver = true
        return
      }
      kernel.waitForPackets()
      try kernel.commit(old.map { .flushPredecessor($0) })
      try kernel.commit(old.map { .deletePredecessor($0) })
      (isOver, problems) = (true, [])
      report.takenOver = old
      log.notice("took over from Calico's Felix", metadata: ["tables": "\(old.map(\.description).joined(separator: ", "))"])
    } catch {
      report.failures.append(error)
      log.error("the tables of another Felix cannot be taken over", metadata: ["error": "\(error)"])
      problems = ["the tables of another Felix cannot be taken over: \(error); stop that Felix; tried again at each resync"]
    }
  }

  /// A table that comes again is told, not fought.
  mutating func check(_ kernel: any RulesetKernel) throws(RulesetError) {
    guard isOver else { return }
    problems = try kernel.present(tables).map {
      "table \($0) is there again: another Felix runs on this host and decides about the same packets; stop it, then restart this one"
    }
  }
}

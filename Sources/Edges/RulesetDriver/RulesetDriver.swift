/// Keeps one nftables table as wanted: one transaction of the smallest delta per change, repair when another hand was there.
///
/// Hazards and the answers:
/// - A restart finds the table of the last run. It is read, compared instruction by instruction, and only what differs is changed;
///   with an equal kernel the only message is the one that takes ownership.
/// - Someone edits the table behind our back. With the owner flag (Linux 5.12; persist since 6.9) the kernel refuses that. Without it
///   the notification wakes us, and the window is one turn of the event loop plus one dump.
/// - A transaction fails, so that what we believe of the kernel is wrong: the table is read, the difference tried once, and then the
///   whole table is replaced within one transaction. There is no moment without policy in any of these.
/// - The kernel refuses one object (`HeldBack`): the place of the error in the transaction tells which, or halving does. Something that
///   fails closed stands in its place, everything else goes on, and it is tried again at each resync.
/// - The kernel refuses to let something go that nobody uses any more: it stays, that is told, and is tried again at each resync. What was
///   committed before stands.
/// - Calico's own Felix was here (its nftables mode): `Predecessors`.

public import Logging
public import NetlinkEdge
public import Rulesets
import Glibc

/// What one call did to the kernel.
public struct ApplyReport: Equatable, Sendable {
  public var setsAdded = 0
  public var setsRemoved = 0
  public var chainsAdded = 0
  public var chainsChanged = 0
  public var chainsRemoved = 0
  public var rulesAdded = 0
  public var elementsAdded = 0
  public var elementsRemoved = 0
  /// The whole table was replaced, or made for the first time.
  public var rebuilt = false
  /// Ownership of the last run's table was taken.
  public var adopted = false
  /// The kernel was read before.
  public var resynced = false
  /// Tables of a predecessor that went in the same transaction.
  public var takenOver: [ForeignTable] = []
  /// Transactions that the kernel refused on the way.
  public var failures: [RulesetError] = []
  public init() {}

  /// Objects changed in the kernel; taking ownership of a table changes none.
  public var mutations: Int {
    setsAdded + setsRemoved + chainsAdded + chainsChanged + chainsRemoved + rulesAdded + elementsAdded + elementsRemoved
  }

  mutating func count(_ difference: RulesetDifference, hasLeft: Bool) {
    setsAdded += difference.newSets.count
    if hasLeft {
      setsRemoved += difference.removedSets.count
      chainsRemoved += difference.removedChains.count
    }
    chainsAdded += difference.newChains.count
    chainsChanged += difference.changedChains.count
    rulesAdded += difference.newChains.values.reduce(0) { $0 + $1.rules.count }
    rulesAdded += difference.changedChains.values.reduce(0) { $0 + $1.rules.count }
    elementsAdded += difference.addedElements.values.reduce(0) { $0 + $1.count }
    elementsRemoved += difference.removedElements.values.reduce(0) { $0 + $1.count }
  }
}

extension ApplyReport: CustomStringConvertible {
  public var description: String {
    var words = [
      (setsAdded, "sets added"), (setsRemoved, "sets removed"), (chainsAdded, "chains added"), (chainsChanged, "chains changed"),
      (chainsRemoved, "chains removed"), (rulesAdded, "rules added"), (elementsAdded, "elements added"),
      (elementsRemoved, "elements removed"),
    ].filter { $0.0 > 0 }.map { "\($0.0) \($0.1)" }
    if rebuilt { words.append("table replaced") }
    if adopted { words.append("table adopted") }
    words += takenOver.map { "table \($0) taken over" }
    words += failures.map { "refused: \($0)" }
    return words.isEmpty ? "nothing to change" : words.joined(separator: ", ")
  }
}

public final class RulesetDriver {
  private let kernel: any RulesetKernel
  private let log: Logger
  private var desired = Ruleset()
  /// The kernel holds `desired`, as far as we know.
  private var isKnown = false
  /// What this kernel can do, until it refuses.
  private var flags: TableFlags
  private var isOwner = false
  private var heldBack = HeldBack()
  /// What should have gone, and why it is still there.
  private var remaining: [String] = []
  private var predecessors: Predecessors

  /// `flags` empty makes a table that others may edit, as a kernel before 6.9 does. `predecessors` go when the first ruleset is committed.
  public init(
    kernel: any RulesetKernel, flags: TableFlags = [.owner, .persist], predecessors: [ForeignTable] = ForeignTable.calico,
    log: Logger = Logger(label: "ruleset")
  ) {
    self.kernel = kernel
    self.predecessors = Predecessors(tables: predecessors)
    self.flags = flags
    self.log = log
  }
  /// `namespace` is a descriptor of a network namespace; nil is that of the calling thread.
  public convenience init(
    table: String = "margay", namespace: CInt? = nil, flags: TableFlags = [.owner, .persist], log: Logger = Logger(label: "ruleset")
  ) throws(NetlinkError) {
    self.init(kernel: try NetlinkRuleset(table: table, namespace: namespace), flags: flags, log: log)
  }

  /// Readable when the kernel's ruleset changed: call `receive`.
  public var descriptor: CInt { kernel.descriptor }
  public var changesElsewhere: Int { kernel.changesElsewhere }
  /// What the kernel shall hold.
  public var ruleset: Ruleset { desired }
  /// What people should know: objects that the kernel refuses, others who decide about the same packets.
  public var problems: [String] { heldBack.problems + remaining + predecessors.problems }

  /// Makes the change, in one transaction. The first call reads what the last run left and changes only what differs from the delta,
  /// which is then the whole ruleset.
  ///
  /// Throws when the kernel refuses even the whole table; the wish is kept, and the next call or `resync` tries again.
  @discardableResult
  public func apply(_ delta: RulesetDelta) throws(RulesetError) -> ApplyReport {
    var report = ApplyReport()
    try apply(delta, &report)
    try checkMissed(&report)
    return report
  }

  private func apply(_ delta: RulesetDelta, _ report: inout ApplyReport) throws(RulesetError) {
    guard isKnown else {
      desired.apply(heldBack.merge(delta, in: desired))
      return try reconcile(&report)
    }
    let delta = heldBack.merge(delta, in: desired)
    let difference = RulesetDifference(delta, in: desired)
    let mutations = difference.mutations(specs: desired.sets, single: heldBack.single)
    desired.apply(delta)
    if let reason = difference.needsRebuild {
      log.notice("replacing the table", metadata: ["reason": "\(reason)"])
      return try rebuild(&report, exists: true)
    }
    guard !mutations.isEmpty || !difference.leavings.isEmpty else { return }
    do throws(RulesetError) {
      try kernel.commit(mutations)
    } catch {
      failed(error, &report)
      return try reconcile(&report)
    }
    let hasLeft = leave(difference.leavings, &report)
    report.count(difference, hasLeft: hasLeft)
  }

  /// Nobody else can have changed a table that is ours alone.
  private func checkMissed(_ report: inout ApplyReport) throws(RulesetError) {
    if kernel.hasMissedNotifications, !isOwner { try reconcile(&report) }
  }

  /// Reads the kernel and repairs what differs.
  @discardableResult
  public func resync() throws(RulesetError) -> ApplyReport {
    var report = ApplyReport()
    heldBack.release(into: &desired)
    try reconcile(&report)
    try checkMissed(&report)
    try predecessors.check(kernel)
    return report
  }

  /// Takes what waits at `descriptor`. When another process changed our table, it is repaired: the report says how; else nil.
  public func receive() throws(RulesetError) -> ApplyReport? {
    guard kernel.takeNotifications() else { return nil }
    log.warning("another process changed our table; comparing", metadata: ["table": "inet \(kernel.table)"])
    isKnown = false
    return try resync()
  }

  private func failed(_ error: RulesetError, _ report: inout ApplyReport) {
    isKnown = false
    report.failures.append(error)
    log.error("the kernel refused a transaction", metadata: ["error": "\(error)"])
  }

  private func reconcile(_ report: inout ApplyReport) throws(RulesetError) {
    isKnown = false
    report.resynced = true
    do throws(RulesetError) {
      if try repair(&report) { return }
      try rebuild(&report, exists: true)
    } catch {
      // The kernel takes the objects one by one, but not what they make together, and does not say which is too much.
      guard error.refused.isEmpty, Self.isAboutContent(error.code) else { throw error }
      try halve(error, &report)
    }
  }

  private static func isAboutContent(_ code: CInt) -> Bool {
    [EMLINK, ELOOP, EINVAL, ENOENT, EEXIST, EMFILE, ENFILE, E2BIG, ENOSPC, ENOMEM, EOVERFLOW].contains(code)
  }

  /// Tries what differs, without what the kernel refuses. False if only a new table helps.
  private func repair(_ report: inout ApplyReport) throws(RulesetError) -> Bool {
    while true {
      guard let found = try kernel.read() else {
        isOwner = false
        try rebuild(&report, exists: false)
        return true
      }
      if found.flags.contains(.owner), !isOwner {
        throw RulesetError(
          code: EPERM, what: "table inet \(kernel.table)",
          message: "\(RulesetError.ownedElsewhere) (netlink port \(found.owner ?? 0)); stop that one")
      }
      let difference = RulesetDifference(from: found, to: desired)
      if let reason = difference.needsRebuild {
        log.notice("replacing the table", metadata: ["reason": "\(reason)"])
        return false
      }
      // A table made without ownership cannot be given any: a new one in its place can, within one transaction.
      if !flags.isEmpty, !found.flags.contains(.persist) { return false }
      var mutations = difference.mutations(specs: desired.sets, single: heldBack.single)
      let adopts = found.flags.contains(.persist) && !found.flags.contains(.owner)
      if adopts { mutations.insert(.addTable(flags), at: 0) }
      do throws(RulesetError) {
        try kernel.commit(mutations)
      } catch {
        failed(error, &report)
        guard heldBack.take(error, mutations, outOf: &desired) else { return false }
        continue
      }
      if adopts {
        report.adopted = true
        isOwner = true
      }
      finish(difference, &report)
      return true
    }
  }

  /// The whole table anew, in one transaction.
  private func rebuild(_ report: inout ApplyReport, exists: Bool) throws(RulesetError) {
    while true {
      let difference = RulesetDifference(all: desired)
      var mutations: [RulesetMutation] = exists ? [.deleteTable, .addTable(flags)] : [.addTable(flags)]
      mutations += difference.mutations(specs: [:], single: heldBack.single)
      do throws(RulesetError) {
        try kernel.commit(mutations)
        report.rebuilt = true
        isOwner = flags.contains(.owner)
        return finish(difference, &report)
      } catch {
        // EOPNOTSUPP or EINVAL: a kernel before 6.9. Owner without persist would take the table along when we stop: worse than none.
        guard !flags.isEmpty, error.code == EOPNOTSUPP || error.code == EINVAL, error.what.hasSuffix("add table") else {
          failed(error, &report)
          if heldBack.take(error, mutations, outOf: &desired) { continue }
          throw error
        }
        log.notice("this kernel has no persistent owned tables; foreign edits are repaired instead of prevented")
        flags = []
        if exists {
          // The table there may already be right: compare before replacing.
          return try reconcile(&report)
        }
      }
    }
  }

  /// The kernel holds what is wished. What the difference leaves, and our predecessors, may go.
  private func finish(_ difference: RulesetDifference, _ report: inout ApplyReport) {
    isKnown = true
    // The difference was all there is: what remained before is in it again.
    remaining = []
    let hasLeft = leave(difference.leavings, &report)
    report.count(difference, hasLeft: hasLeft)
    predecessors.takeOver(kernel, log, &report)
  }

  /// A transaction of its own: a refusal is about nothing that is wished, so it neither holds anything back nor takes anything back.
  private func leave(_ leavings: [RulesetMutation], _ report: inout ApplyReport) -> Bool {
    do throws(RulesetError) {
      try kernel.commit(leavings)
      return true
    } catch {
      report.failures.append(error)
      log.error("the kernel keeps what should go", metadata: ["error": "\(error)"])
      let problem = "what no policy uses any more stays in the kernel, for it refuses to let it go: \(error); tried again at each resync"
      if !remaining.contains(problem) { remaining.append(problem) }
      return false
    }
  }

  // MARK: What the kernel refuses

  /// All of the policies' chains that differ are held back, then let in again by halves until those are left that the kernel does not
  /// take.
  private func halve(_ error: RulesetError, _ report: inout ApplyReport) throws(RulesetError) {
    let found = try kernel.read() ?? KernelRuleset()
    let difference = RulesetDifference(from: found, to: desired)
    let suspects = (Array(difference.newChains.keys) + difference.changedChains.keys)
      .filter { desired.chains[$0]?.isPolicy ?? false }.sorted()
    guard !suspects.isEmpty else { throw error }
    let wished = desired.chains
    for name in suspects { heldBack.take(chain: name, error, outOf: &desired) }
    guard try repair(&report) else { return try rebuild(&report, exists: true) }
    var parts = [suspects[...]]
    while let part = parts.popLast() {
      var delta = RulesetDelta()
      for name in part { delta.chains[name] = wished[name] }
      let (held, before) = (heldBack, desired)
      delta = heldBack.merge(delta, in: desired)
      // Chains come or change; nothing is removed, so nothing leaves afterwards.
      let mutations = RulesetDifference(delta, in: desired).mutations(specs: desired.sets, single: heldBack.single)
      desired.apply(delta)
      do throws(RulesetError) {
        try kernel.commit(mutations)
      } catch {
        (heldBack, desired) = (held, before)
        guard part.count > 1 else { continue }
        let middle = part.startIndex + part.count / 2
        parts += [part[middle...], part[..<middle]]
      }
    }
  }
}

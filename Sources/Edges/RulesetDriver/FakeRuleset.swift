/// A kernel of values that refuses what the real one refuses. The contract suite runs on both; simulations run on this one.

import Glibc
import Rulesets

public final class FakeRuleset: RulesetKernel {
  public let table: String
  public var descriptor: CInt { -1 }
  /// The state; nil is "no such table". Tests may edit it as a foreign hand would, and then set `isForeign`.
  public var state: KernelRuleset?
  public var isForeign = false
  /// Tables of others.
  public var foreignTables: Set<ForeignTable> = []
  /// Refuses every mutation that this answers with an errno.
  public var refusesMutation: (RulesetMutation) -> CInt? = { _ in nil }
  /// Transactions committed.
  public private(set) var commits: [[RulesetMutation]] = []
  /// Errors to give to the next transactions, first to last.
  public var refusals: [RulesetError] = []
  /// False behaves like a kernel before 6.9.
  public var hasPersistentOwners = true
  private let port: UInt32

  public init(table: String = "margay", port: UInt32 = 4711, state: KernelRuleset? = nil) {
    self.table = table
    self.port = port
    self.state = state
  }

  /// The same kernel after the process that used it has ended, as its successor sees it.
  public func successor() -> FakeRuleset {
    var left = state
    if let owner = left?.owner, owner == port {
      if left!.flags.contains(.persist) {
        left!.flags.remove(.owner)
        left!.owner = nil
      } else {
        left = nil
      }
    }
    let next = FakeRuleset(table: table, port: port + 1, state: left)
    next.hasPersistentOwners = hasPersistentOwners
    return next
  }

  public func read() throws(RulesetError) -> KernelRuleset? { state }
  public func present(_ tables: [ForeignTable]) -> [ForeignTable] { tables.filter(foreignTables.contains) }
  public func takeNotifications() -> Bool {
    defer { isForeign = false }
    return isForeign
  }

  public func commit(_ mutations: [RulesetMutation]) throws(RulesetError) {
    guard !mutations.isEmpty else { return }
    if !refusals.isEmpty { throw refusals.removeFirst() }
    var next = state
    for (index, mutation) in mutations.enumerated() {
      do throws(Refusal) {
        if let code = refusesMutation(mutation) { throw Refusal(code) }
        try apply(mutation, to: &next)
      } catch {
        throw RulesetError(code: error.code, what: "table inet \(table): \(mutation)", message: error.message, refused: [index])
      }
    }
    for case .deletePredecessor(let other) in mutations { foreignTables.remove(other) }
    if let next, let loop = Self.loop(in: next) {
      throw RulesetError(code: EMLINK, what: "table inet \(table): ruleset transaction", message: "chain \(loop) leads to itself")
    }
    if let next, let place = Self.misplaced(in: next) {
      throw RulesetError(code: EOPNOTSUPP, what: "table inet \(table): ruleset transaction", message: place)
    }
    state = next
    commits.append(mutations)
  }

  private struct Refusal: Error {
    var code: CInt
    var message: String?
    init(_ code: CInt, _ message: String? = nil) {
      self.code = code
      self.message = message
    }
  }

  private func apply(_ mutation: RulesetMutation, to state: inout KernelRuleset?) throws(Refusal) {
    if let owner = state?.owner, owner != port { throw Refusal(EPERM) }
    switch mutation {
    case .addTable(let flags):
      guard flags.isEmpty || hasPersistentOwners else { throw Refusal(EOPNOTSUPP) }
      if var old = state {
        guard flags != old.flags else { return }
        guard !flags.contains(.owner) || old.flags.contains(.persist) else { throw Refusal(EOPNOTSUPP) }
        old.flags = flags
        old.owner = flags.contains(.owner) ? port : nil
        state = old
      } else {
        state = KernelRuleset(flags: flags, owner: flags.contains(.owner) ? port : nil)
      }
      return
    case .deleteTable:
      guard state != nil else { throw Refusal(ENOENT) }
      state = nil
      return
    case .flushPredecessor(let other), .deletePredecessor(let other):
      guard foreignTables.contains(other) else { throw Refusal(ENOENT) }
      return
    default: break
    }
    guard var table = state else { throw Refusal(ENOENT) }
    // One reference each, or every step would copy the table.
    state = nil
    defer { state = table }
    try Self.change(&table, mutation)
  }

  private static func change(_ table: inout KernelRuleset, _ mutation: RulesetMutation) throws(Refusal) {
    switch mutation {
    case .addTable, .deleteTable, .flushPredecessor, .deletePredecessor: break
    case .addChain(let name, let hook, let comment):
      guard table.chains[name] == nil else { throw Refusal(EEXIST) }
      guard name.utf8.count < 256 else { throw Refusal(EINVAL) }
      table.chains[name] = KernelRuleset.KernelChain(Chain(hook: hook, comment: comment))
    case .deleteChain(let name):
      guard table.chains[name] != nil else { throw Refusal(ENOENT) }
      let isUsed =
        table.chains.contains { $0.key != name && $0.value.rules.contains { $0.targets.contains(name) } }
        || table.sets.values.contains { $0.dataType == 0xffff_ff00 && $0.elements.contains { $0.target == name } }
      guard !isUsed else { throw Refusal(EBUSY) }
      table.chains[name] = nil
    case .addRule(let chain, let rule):
      guard table.chains[chain] != nil else { throw Refusal(ENOENT) }
      let kernelRule = KernelRuleset.KernelRule(rule)
      for set in rule.sets where table.sets[set] == nil { throw Refusal(ENOENT, "no set \(set)") }
      for target in kernelRule.targets {
        guard let found = table.chains[target] else { throw Refusal(ENOENT, "no chain \(target)") }
        if found.hook != nil { throw Refusal(EOPNOTSUPP, "\(target) is a base chain") }
      }
      table.chains[chain]!.rules.append(kernelRule)
    case .flushChain(let name):
      guard table.chains[name] != nil else { throw Refusal(ENOENT) }
      table.chains[name]!.rules = []
    case .addSet(let name, let spec):
      guard table.sets[name] == nil else { throw Refusal(EEXIST) }
      guard name.utf8.count < 256, spec.keyLength <= 64 else { throw Refusal(EINVAL) }
      table.sets[name] = KernelRuleset.KernelSet(spec)
    case .deleteSet(let name):
      guard table.sets[name] != nil else { throw Refusal(ENOENT) }
      let isUsed = table.chains.values.contains { $0.rules.contains { $0.lookups.contains(name) } }
      guard !isUsed else { throw Refusal(EBUSY) }
      table.sets[name] = nil
    case .addElements(let set, let spec, let elements):
      guard var found = table.sets[set] else { throw Refusal(ENOENT) }
      table.sets[set]!.elements = []
      defer { table.sets[set]!.elements = found.elements }
      var keys = Set(found.elements.map(\.key))
      for element in elements {
        guard element.key.count == spec.keyLength, element.last.map({ $0.count == spec.keyLength }) ?? true,
          (element.data != nil) == (found.dataType != nil), (element.last != nil) == spec.isInterval
        else { throw Refusal(EINVAL) }
        if let last = element.last {
          if last.lexicographicallyPrecedes(element.key) { throw Refusal(EINVAL) }
          for other in found.elements where overlaps(element, other, spec) {
            throw Refusal(EEXIST, "it overlaps \(RulesetText.element(other, spec))")
          }
        } else if !keys.insert(element.key).inserted {
          throw Refusal(EEXIST)
        }
        if let target = element.target, table.chains[target] == nil { throw Refusal(ENOENT, "no chain \(target)") }
        found.elements.insert(element)
      }
    case .deleteElements(let set, _, let elements):
      guard table.sets[set] != nil else { throw Refusal(ENOENT) }
      for element in elements where table.sets[set]!.elements.remove(element) == nil { throw Refusal(ENOENT) }
    }
  }

  /// Ranges of a concatenation are boxes: they overlap if they do in every field.
  private static func overlaps(_ a: SetElement, _ b: SetElement, _ spec: SetSpec) -> Bool {
    var offset = 0
    for type in spec.key {
      let length = spec.isConcatenation ? type.paddedLength : type.length
      let range = offset..<(offset + length)
      let (aFirst, aLast) = (a.key[range], (a.last ?? a.key)[range])
      let (bFirst, bLast) = (b.key[range], (b.last ?? b.key)[range])
      if aLast.lexicographicallyPrecedes(bFirst) || bLast.lexicographicallyPrecedes(aFirst) { return false }
      offset += length
    }
    return true
  }

  /// Translation belongs into chains of the kind nat, each end of a connection behind its own hooks.
  private static func misplaced(in table: KernelRuleset) -> String? {
    for (base, chain) in table.chains {
      guard let hook = chain.hook else { continue }
      var seen: Set<String> = [base]
      var waiting = [base]
      while let name = waiting.popLast() {
        for rule in table.chains[name]?.rules ?? [] {
          for expression in rule.expressions {
            let points: Set<ChainHook.Point>
            switch expression {
            case .masquerade: points = [.postrouting]
            case .translate(let isSource, _, _, _): points = isSource ? [.postrouting, .input] : [.prerouting, .output]
            default: continue
            }
            if hook.kind != .nat || !points.contains(hook.point) { return "\(name) translates behind \(base), where nothing is translated" }
          }
          let reached = rule.targets + rule.lookups.flatMap { table.sets[$0]?.elements.compactMap(\.target) ?? [] }
          waiting += reached.filter { seen.insert($0).inserted }
        }
      }
    }
    return nil
  }

  /// A chain that leads to itself through jumps and verdict maps, if there is one.
  private static func loop(in table: KernelRuleset) -> String? {
    var done: Set<String> = []
    var path: Set<String> = []
    func visit(_ name: String) -> String? {
      if path.contains(name) { return name }
      if !done.insert(name).inserted { return nil }
      path.insert(name)
      defer { path.remove(name) }
      for rule in table.chains[name]?.rules ?? [] {
        let reached = rule.targets + rule.lookups.flatMap { table.sets[$0]?.elements.compactMap(\.target) ?? [] }
        for target in reached { if let loop = visit(target) { return loop } }
      }
      return nil
    }
    for name in table.chains.keys { if let loop = visit(name) { return loop } }
    return nil
  }
}

extension SetElement {
  /// The chain that its verdict leads to.
  var target: String? {
    if case .verdict(let verdict)? = data { verdict.target } else { nil }
  }
}

extension KernelRuleset.KernelRule {
  var targets: [String] {
    expressions.compactMap { if case .verdict(let verdict) = $0 { verdict.target } else { nil } }
  }
  var lookups: [String] {
    expressions.compactMap {
      switch $0 {
      case .lookup(let set, _, _, _), .verdictLookup(let set, _): set
      default: nil
      }
    }
  }
}

/// From what is to what shall be: the objects that differ, and the order in which one transaction may change them.

import Rulesets

struct RulesetDifference {
  var newSets: [String: SetSpec] = [:]
  var removedSets: Set<String> = []
  var newChains: [String: Chain] = [:]
  var changedChains: [String: Chain] = [:]
  var removedChains: Set<String> = []
  var addedElements: [String: Set<SetElement>] = [:]
  var removedElements: [String: Set<SetElement>] = [:]
  /// A map goes. A packet that walks the chains as they were before the transaction would find nothing in it, as if no rule led on: so it
  /// goes in a transaction of its own, when nobody is on such a way any more.
  private var removesMaps = false
  /// Something that cannot be changed in place, such as the type of a set: only a new table helps.
  var needsRebuild: String?

  /// What `delta` changes in `ruleset`.
  init(_ delta: RulesetDelta, in ruleset: Ruleset) {
    for (name, wanted) in delta.sets {
      switch (ruleset.sets[name], wanted) {
      case (nil, let spec?): newSets[name] = spec
      case (let old?, nil):
        removedSets.insert(name)
        if old.data != nil { removesMaps = true }
      case (let old?, let new?) where !KernelRuleset.KernelSet(old).holds(new): needsRebuild = "set \(name) changes its type"
      default: break
      }
    }
    for (name, change) in delta.elements {
      guard ruleset.sets[name] != nil && !removedSets.contains(name) || newSets[name] != nil else { continue }
      let current = ruleset.elements[name] ?? []
      let removed = change.removed.filter { current.contains($0) && !change.added.contains($0) }
      let added = change.added.filter { !current.contains($0) }
      if !removed.isEmpty { removedElements[name] = removed }
      if !added.isEmpty { addedElements[name] = added }
    }
    for (name, wanted) in delta.chains {
      switch (ruleset.chains[name], wanted) {
      case (nil, let chain?): newChains[name] = chain
      case (_?, nil): removedChains.insert(name)
      case (let old?, let new?) where old != new:
        if old.hook != new.hook || old.comment != new.comment { needsRebuild = "chain \(name) changes its hook or comment" }
        changedChains[name] = new
      default: break
      }
    }
  }

  /// What stands between the kernel's content and the wanted one.
  init(from kernel: KernelRuleset, to wanted: Ruleset) {
    for (name, spec) in wanted.sets {
      let elements = wanted.elements[name] ?? []
      guard let set = kernel.sets[name] else {
        newSets[name] = spec
        if !elements.isEmpty { addedElements[name] = elements }
        continue
      }
      if !set.holds(spec) { needsRebuild = "set \(name) is of another type" }
      guard set.elements != elements else { continue }
      let removed = set.elements.subtracting(elements)
      let added = elements.subtracting(set.elements)
      if !removed.isEmpty { removedElements[name] = removed }
      if !added.isEmpty { addedElements[name] = added }
    }
    for (name, set) in kernel.sets where wanted.sets[name] == nil {
      removedSets.insert(name)
      if set.dataType != nil { removesMaps = true }
    }
    for (name, chain) in wanted.chains {
      guard let found = kernel.chains[name] else {
        newChains[name] = chain
        continue
      }
      if found.holds(chain) { continue }
      if !found.holds(Chain(hook: chain.hook, comment: chain.comment)), !Self.sameFrame(found, chain) {
        needsRebuild = "chain \(name) has another hook or comment"
      }
      changedChains[name] = chain
    }
    for name in kernel.chains.keys where wanted.chains[name] == nil { removedChains.insert(name) }
  }
  private static func sameFrame(_ found: KernelRuleset.KernelChain, _ chain: Chain) -> Bool {
    var bare = found
    bare.rules = []
    return bare.holds(Chain(hook: chain.hook, comment: chain.comment))
  }

  /// Everything of `wanted`, into an empty table.
  init(all wanted: Ruleset) {
    newSets = wanted.sets
    newChains = wanted.chains
    addedElements = wanted.elements
  }

  /// Additions in the order of dependency, removals in reverse. `specs` are those of the sets that stay.
  func mutations(specs: [String: SetSpec], single: Set<String> = []) -> [RulesetMutation] {
    func sorted<Value>(_ values: [String: Value]) -> [(key: String, value: Value)] { values.sorted { $0.key < $1.key } }
    func spec(_ name: String) -> SetSpec? { newSets[name] ?? specs[name] }
    var result: [RulesetMutation] = []
    // Sets and chains first: rules and elements name them.
    for (name, spec) in sorted(newSets) { result.append(.addSet(name, spec)) }
    for (name, chain) in sorted(newChains) { result.append(.addChain(name, chain.hook, comment: chain.comment)) }
    // Elements go before others come: a key may keep its place and change its data.
    for (name, elements) in sorted(removedElements) {
      if let spec = spec(name) { result.append(.deleteElements(set: name, spec, Self.ordered(elements, spec))) }
    }
    for (name, elements) in sorted(addedElements) {
      guard let spec = spec(name) else { continue }
      let all = Self.ordered(elements, spec)
      if single.contains(name) {
        result += all.map { .addElements(set: name, spec, [$0]) }
      } else {
        result.append(.addElements(set: name, spec, all))
      }
    }
    for (name, chain) in sorted(changedChains) {
      result.append(.flushChain(name))
      for rule in chain.rules { result.append(.addRule(chain: name, rule)) }
    }
    for (name, chain) in sorted(newChains) {
      for rule in chain.rules { result.append(.addRule(chain: name, rule)) }
    }
    return removesMaps ? result : result + removals
  }
  /// What is to be committed afterwards.
  var leavings: [RulesetMutation] { removesMaps ? removals : [] }

  private var removals: [RulesetMutation] {
    var result: [RulesetMutation] = []
    // Chains that go may name one another: empty all of them before the first is deleted.
    for name in removedChains.sorted() { result.append(.flushChain(name)) }
    // A map's elements hold its chains: maps go before chains.
    for name in removedSets.sorted() { result.append(.deleteSet(name)) }
    for name in removedChains.sorted() { result.append(.deleteChain(name)) }
    return result
  }

  /// Ranges ascending: the kernel checks each against those before it.
  private static func ordered(_ elements: Set<SetElement>, _ spec: SetSpec) -> [SetElement] {
    spec.isInterval ? elements.sorted { $0.key.lexicographicallyPrecedes($1.key) } : Array(elements)
  }
}

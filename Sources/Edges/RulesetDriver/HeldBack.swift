/// What the kernel refuses, and what stands in its place so that everything else goes on: fail closed, and say so.
///
/// - A rule of a policy becomes a drop at its own place, for all packets that reach it: what it would have decided is not known.
/// - A set that only policies look into: each rule that looks there becomes such a drop.
/// - An element of a set of the frame (an interface, an address that a workload may send from) is left out: the frame drops what it does
///   not find.
///
/// What was wished is kept here and tried again. The frame's own chains have no substitute: without them nothing is right.

import Glibc
import Rulesets

struct HeldBack {
  /// The wished content of chains in which something is substituted.
  private(set) var chains: [String: Chain] = [:]
  private(set) var sets: [String: (spec: SetSpec, elements: Set<SetElement>)] = [:]
  private(set) var elements: [String: Set<SetElement>] = [:]
  private var rules: [String: Set<ChainRule>] = [:]
  private var reasons: [String: RulesetError] = [:]
  /// Sets whose elements go one by one, to find the one at fault.
  private(set) var single: Set<String> = []

  var isEmpty: Bool { chains.isEmpty && sets.isEmpty && elements.isEmpty }

  // MARK: Finding the object at fault

  /// Takes out of `desired` what the error is about. False if that cannot be substituted.
  mutating func take(_ error: RulesetError, _ mutations: [RulesetMutation], outOf desired: inout Ruleset) -> Bool {
    var isTaken = false
    for index in error.refused where mutations.indices.contains(index) {
      switch mutations[index] {
      case .addRule(let chain, let rule): isTaken = take(rule, chain, error, &desired) || isTaken
      case .addSet(let name, _): isTaken = take(set: name, error, &desired) || isTaken
      case .addElements(let name, _, let added):
        if Self.isOfFrame(name, desired) {
          isTaken = true
          if added.count == 1 { leaveOut(added[0], name, error, &desired) } else { single.insert(name) }
        } else {
          isTaken = take(set: name, error, &desired) || isTaken
        }
      default: break
      }
    }
    return isTaken
  }

  private static func isOfFrame(_ set: String, _ ruleset: Ruleset) -> Bool {
    ruleset.chains.values.contains { !$0.isPolicy && $0.rules.contains { $0.sets.contains(set) } }
  }

  private mutating func take(_ rule: ChainRule, _ chain: String, _ error: RulesetError, _ desired: inout Ruleset) -> Bool {
    guard desired.chains[chain]?.isPolicy == true, !Self.isSubstitute(rule) else { return false }
    rules[chain, default: []].insert(rule)
    reasons["chain \(chain)"] = error
    substitute(chain, desired.chains[chain]!, &desired)
    return true
  }

  private mutating func take(set name: String, _ error: RulesetError, _ desired: inout Ruleset) -> Bool {
    guard let spec = desired.sets[name], !Self.isOfFrame(name, desired) else { return false }
    sets[name] = (spec, desired.elements[name] ?? [])
    reasons["set \(name)"] = error
    desired.sets[name] = nil
    desired.elements[name] = nil
    for (chain, content) in desired.chains where content.rules.contains(where: { $0.sets.contains(name) }) {
      substitute(chain, content, &desired)
    }
    return true
  }

  private mutating func leaveOut(_ element: SetElement, _ set: String, _ error: RulesetError, _ desired: inout Ruleset) {
    elements[set, default: []].insert(element)
    reasons["set \(set)"] = error
    desired.elements[set]?.remove(element)
    if desired.elements[set]?.isEmpty ?? false { desired.elements[set] = nil }
  }

  /// A whole chain of a policy, when the kernel does not say what of it is wrong.
  mutating func take(chain name: String, _ error: RulesetError, outOf desired: inout Ruleset) {
    guard let chain = desired.chains[name] else { return }
    rules[name] = Set(chain.rules)
    reasons["chain \(name)"] = error
    substitute(name, chain, &desired)
  }

  private mutating func substitute(_ name: String, _ chain: Chain, _ desired: inout Ruleset) {
    let wished = chains[name] ?? chain
    chains[name] = wished
    desired.chains[name] = substituted(name, wished)
  }
  private func substituted(_ name: String, _ chain: Chain) -> Chain {
    var chain = chain
    chain.rules = chain.rules.map { rule in
      guard rules[name]?.contains(rule) ?? false || rule.sets.contains(where: { sets[$0] != nil }) else { return rule }
      return ChainRule(.counter, .drop, comment: Self.mark + (rule.comment ?? name))
    }
    return chain
  }
  private static let mark = "refused by the kernel, denies all: "
  private static func isSubstitute(_ rule: ChainRule) -> Bool { rule.comment?.hasPrefix(mark) ?? false }

  // MARK: Wishes go on

  /// Takes a change of what is wished in, and returns what of it is for the kernel.
  mutating func merge(_ delta: RulesetDelta, in desired: Ruleset) -> RulesetDelta {
    guard !isEmpty else { return delta }
    var delta = delta
    for (name, spec) in delta.sets {
      // A new wish is tried anew, and so are the rules that look there.
      guard let held = sets.removeValue(forKey: name) else { continue }
      reasons["set \(name)"] = nil
      if spec == nil { delta.sets[name] = nil }
      if let spec {
        delta.sets[name] = spec
        let change = delta.elements[name] ?? RulesetDelta.Elements()
        delta.elements[name] = .init(added: held.elements.subtracting(change.removed).union(change.added))
      } else {
        delta.elements[name] = nil
      }
      for (chain, wished) in chains where wished.rules.contains(where: { $0.sets.contains(name) }) && delta.chains[chain] == nil {
        delta.chains[chain] = .some(wished)
      }
    }
    for (name, change) in delta.elements {
      if sets[name] != nil {
        sets[name]!.elements.subtract(change.removed)
        sets[name]!.elements.formUnion(change.added)
        delta.elements[name] = nil
      } else if let left = elements[name] {
        delta.elements[name]!.removed.subtract(left)
        elements[name] = left.subtracting(change.removed).subtracting(change.added)
        if elements[name]!.isEmpty {
          elements[name] = nil
          reasons["set \(name)"] = nil
        }
      }
    }
    for (name, wished) in delta.chains {
      chains[name] = nil
      rules[name] = nil
      reasons["chain \(name)"] = nil
      guard let wished, wished.rules.contains(where: { $0.sets.contains { sets[$0] != nil } }) else { continue }
      chains[name] = wished
      delta.chains[name] = .some(substituted(name, wished))
    }
    return delta
  }

  /// Everything back into the wish, to be tried again.
  mutating func release(into desired: inout Ruleset) {
    for (name, held) in sets {
      desired.sets[name] = held.spec
      if !held.elements.isEmpty { desired.elements[name] = held.elements }
    }
    for (name, chain) in chains { desired.chains[name] = chain }
    for (name, left) in elements { desired.elements[name, default: []].formUnion(left) }
    self = HeldBack()
  }

  /// For people: the objects, the kernel's words, and what that means.
  var problems: [String] {
    var result: [String] = []
    for (name, chain) in chains.sorted(by: { $0.key < $1.key }) {
      let words = chain.rules.filter { rule in rules[name]?.contains(rule) ?? false || rule.sets.contains { sets[$0] != nil } }
        .compactMap(\.comment)
      let rule =
        words.isEmpty ? "chain \(name)" : words.count > 3 ? "\(words[0]) and \(words.count - 1) more" : words.joined(separator: ", ")
      let setNames = chain.rules.flatMap(\.sets).filter { sets[$0] != nil }
      guard let reason = reasons["chain \(name)"] ?? setNames.compactMap({ reasons["set \($0)"] }).first else { continue }
      result.append("\(rule): denies all, for the kernel refuses it: \(reason); tried again at each resync")
    }
    for (name, left) in elements.sorted(by: { $0.key < $1.key }) {
      guard let reason = reasons["set \(name)"] else { continue }
      result.append(
        "\(left.count) elements of set \(name) are left out and their traffic is dropped: \(reason); tried again at each resync")
    }
    return result
  }
}

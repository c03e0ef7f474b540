/// The same change in nft's words, for its command line: what an operator's script or a controller that runs `nft` would send.

import KernelSandbox
import NetlinkEdge
import Rulesets

struct NftScript {
  let sandbox: KernelSandbox
  /// A namespace whose table holds the state after the change: its listing is nft's own text.
  let after: NetworkNamespace

  func listing(_ words: String...) throws -> String { try sandbox.run(after, "nft", ["list"] + words) }

  /// `before` is what the table held; the text is one transaction for `nft -f`.
  func text(_ delta: RulesetDelta, before: Ruleset, now: Ruleset) throws -> String {
    let table = "inet margay"
    var lines: [String] = []
    for (name, spec) in delta.sets where spec != nil && before.sets[name] == nil {
      lines.append(try listing(spec!.data == nil ? "set" : "map", "inet", "margay", name))
    }
    for (name, chain) in delta.chains where chain != nil && before.chains[name] == nil { lines.append("add chain \(table) \(name)") }
    func elements(_ verb: String, _ set: String, _ members: Set<SetElement>) {
      guard let spec = now.sets[set] ?? before.sets[set], !members.isEmpty else { return }
      lines.append("\(verb) element \(table) \(set) { \(members.map { RulesetText.element($0, spec) }.joined(separator: ", ")) }")
    }
    for (set, change) in delta.elements where before.sets[set] != nil && now.sets[set] != nil {
      elements("delete", set, change.removed)
      elements("add", set, change.added)
    }
    for (name, chain) in delta.chains where chain != nil {
      if before.chains[name] != nil { lines.append("flush chain \(table) \(name)") }
      lines.append(try listing("chain", "inet", "margay", name))
    }
    for (name, chain) in delta.chains where chain == nil { lines.append("flush chain \(table) \(name)") }
    for (name, spec) in delta.sets where spec == nil { lines.append("delete set \(table) \(name)") }
    for (name, chain) in delta.chains where chain == nil { lines.append("delete chain \(table) \(name)") }
    return lines.joined(separator: "\n") + "\n"
  }
}

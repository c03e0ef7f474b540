/// A ruleset as a script that `nft -f` takes: the table with all its sets, maps and chains.
///
/// `RulesetText` is for reading and comparing; nft's grammar wants commas between elements, the name of the family's own ICMP, and no quotes
/// within quotes.

import Addresses

extension RulesetText {
  public static func script(_ ruleset: Ruleset, table: String = "margay") -> String {
    var lines = ["table inet \(table) {"]
    for (name, spec) in ruleset.sets.sorted(by: { $0.key < $1.key }) {
      lines += scriptLines(set(name, spec, ruleset.elements[name] ?? []))
    }
    for (name, chain) in ruleset.chains.sorted(by: { ($0.value.hook == nil ? 1 : 0, $0.key) < ($1.value.hook == nil ? 1 : 0, $1.key) }) {
      var bare = chain
      bare.rules = []
      var text = scriptLines(Self.chain(name, bare))
      let end = text.removeLast()
      text += chain.rules.map { "    \(scriptLine($0))" }
      lines += text + [end]
    }
    return (lines + ["}"]).joined(separator: "\n") + "\n"
  }

  private static func scriptLines(_ lines: [String]) -> [String] {
    var isElement = false
    return lines.map { line in
      defer { if line == "  elements = {" { isElement = true } }
      if line == "  }" { isElement = false }
      return "  " + (isElement ? line + "," : unquoted(line))
    }
  }

  private static func scriptLine(_ rule: ChainRule) -> String {
    let isIPv6 = rule.statements.contains(.family(.v6)) || rule.statements.contains(.transport(58))
    var words = rule.statements.map { statement in
      let word = "\(statement)"
      return isIPv6 && word.hasPrefix("icmp ") ? "icmpv6 " + word.dropFirst("icmp ".count) : word
    }
    if let comment = rule.comment { words.append("comment \"\(comment.map { $0 == "\"" ? "'" : String($0) }.joined())\"") }
    return words.joined(separator: " ")
  }

  /// What stands in a comment may hold quotes of its own, for which nft's grammar has no word.
  private static func unquoted(_ line: String) -> String {
    let start = "  comment \""
    guard line.hasPrefix(start), line.hasSuffix("\"") else { return line }
    return start + line.dropFirst(start.count).dropLast().map { $0 == "\"" ? "'" : String($0) }.joined() + "\""
  }
}

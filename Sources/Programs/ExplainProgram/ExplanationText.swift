/// The explanation as a person reads it: the answer first, then each side in the order in which the packet meets it.
import Addresses
import Documents
import PolicyOracle
import Resources
public import Tables

extension Explanation {
  /// `isComplete`: also what did not match and why, what was not asked, and the labels that selectors saw.
  public func text(_ palette: Palette, isComplete: Bool = false, counters: LiveCounters? = nil) -> String {
    var text = ""
    for group in alike(isComplete || counters != nil) {
      if !text.isEmpty { text += "\n" }
      text += self.text(group, palette, isComplete, counters)
    }
    for (object, words) in findings { text += "\(palette("note", .yellow)) \(object): \(words)\n" }
    for problem in counters?.problems ?? [] { text += "\(palette("note", .yellow)) counters: \(problem)\n" }
    return text
  }

  /// Families with the same answer are told once, unless everything is wanted.
  private func alike(_ isComplete: Bool) -> [[Answer]] {
    guard answers.count == 2, !isComplete else { return answers.map { [$0] } }
    func essence(_ answer: Answer) -> [Verdict.Step] {
      answer.sides.flatMap { side in side.verdict.trail.filter { $0.outcome != .notMatched } } + answer.verdict.decisions + answer.proposals.flatMap(\.verdict.decisions)
    }
    return essence(answers[0]) == essence(answers[1]) ? [answers] : answers.map { [$0] }
  }

  private func text(_ group: [Answer], _ palette: Palette, _ isComplete: Bool, _ counters: LiveCounters?) -> String {
    let answer = group[0]
    let verdict = answer.verdict
    var text = verdict.isAllowed ? palette("allowed", .bold, .green) : palette("denied", .bold, .red)
    text += "  \(Self.words(answer.packet, from.name, to.name)), \(group.map(\.family.description).joined(separator: " and "))"
    if let last = verdict.decisions.last { text += verdict.isAllowed && last.direction != nil ? "" : ": \(Self.decision(last))" }
    text += "\n"
    for (word, end) in [("from", \Answer.from), ("to  ", \Answer.to)] {
      text += "  \(palette(word, .dim)) \(Self.words(group.map { $0[keyPath: end] }))\n"
    }
    for side in answer.sides { text += "\n" + self.text(side, answer, palette, isComplete, counters) }
    text += "\n\(Self.afterwards(answer))\n" + Self.text(answer.proposals, palette)
    return text
  }

  private func text(_ side: Side, _ answer: Answer, _ palette: Palette, _ isComplete: Bool, _ counters: LiveCounters?) -> String {
    let host = side.endpoint.node.isEmpty ? "" : ", on \(side.endpoint.node)"
    var text = "\(palette("\(Self.words(side)) of \(side.endpoint.name)", .bold))\(host): "
    let outcome = side.verdict.isAllowed ? palette("allowed", .green) : palette("denied", .red)
    if !side.isDecided {
      text += "nothing decides, on to the next place\n"
    } else {
      text += side.isAsked ? "\(outcome) by \(side.verdict.decidedBy)\n" : "not asked; would be \(outcome) by \(side.verdict.decidedBy)\n"
    }
    var lines: [(margin: Int, name: String, what: String, detail: String)] = []
    func add(_ margin: Int, _ consulted: Consulted) {
      let name = consulted.key.kind == .profile ? "profile \(consulted.key.name)" : consulted.key.description
      var shown = isComplete ? consulted.steps : consulted.telling
      if shown.isEmpty { shown = Array(consulted.steps.suffix(1)) }
      // That no rule decides goes without saying once one has matched.
      if shown.count > 1, case .decidesNothing? = shown.last?.finding { shown.removeLast() }
      if shown.isEmpty, isComplete { lines.append((margin, name, "not asked", "")) }
      for (index, step) in shown.enumerated() {
        let (what, detail) = Self.words(step, step.ruleIndex.flatMap { consulted.rules[$0]?.yamlLine })
        lines.append((margin, index == 0 ? name : "", what, detail))
        live(margin, step)
      }
    }
    func live(_ margin: Int, _ step: Verdict.Step) {
      for rule in counters?.rules(for: step, side, answer.family) ?? [] {
        lines.append((margin, "", "", palette("\(rule.packets) packets, \(rule.octets) octets: \(rule.text)", .dim)))
      }
    }
    for tier in side.tiers where isComplete || !tier.policies.allSatisfy(\.steps.isEmpty) {
      let order = tier.tier.order.isFinite ? ", order \(Self.number(tier.tier.order))" : ""
      lines.append((2, "tier \(tier.tier.name)\(order)", "", ""))
      for policy in tier.policies { add(4, policy) }
      if let end = tier.end {
        lines.append((4, "end of the tier", end.outcome == .denied ? "Deny" : "Pass", ""))
        live(4, end)
      }
    }
    for profile in side.profiles where isComplete || !profile.steps.isEmpty { add(2, profile) }
    if let end = side.end, case .failsafe = end.finding {
      lines.append((2, "failsafe port", end.outcome == .allowed ? "Allow" : "not asked here", end.reason))
    } else if let end = side.end {
      lines.append((2, side.endpoint.profiles.isEmpty ? "no policy applies, and there is no profile" : "no profile decides", "Deny", ""))
      live(2, end)
    }
    // A long name does not push everything else to the right.
    let width = lines.filter { !$0.what.isEmpty || !$0.detail.isEmpty }.map { $0.margin + $0.name.count }.max().map { min($0, 60) } ?? 0
    let whatWidth = min(lines.filter { !$0.detail.isEmpty }.map(\.what.count).max() ?? 0, 14)
    for line in lines {
      var words = String(repeating: " ", count: line.margin) + line.name
      func pad(to width: Int) { words += String(repeating: " ", count: max(width - words.count, 0)) }
      if !line.what.isEmpty || !line.detail.isEmpty {
        pad(to: width)
        words += "  \(line.what)"
      }
      if !line.detail.isEmpty {
        pad(to: width + 2 + whatWidth)
        words += "  \(line.detail)"
      }
      text += words + "\n"
    }
    if isComplete { text += Self.labels(of: side.endpoint) }
    return text
  }

  // MARK: Words

  /// `ingress`, `untracked ingress`, `forward egress`
  static func words(_ side: Side) -> String {
    switch side.stage {
    case .workload, .host: side.direction.rawValue.lowercased()
    default: "\(side.stage.rawValue) \(side.direction.rawValue.lowercased())"
    }
  }

  /// `TCP shop/client-1 → shop/web-1 port 80`
  static func words(_ packet: Packet, _ from: String, _ to: String) -> String {
    var text = "\(packet.ipProtocol) \(from)"
    if let port = packet.sourcePort, port != Question.ephemeralPort { text += " port \(port)" }
    text += " → \(to)"
    if let port = packet.destinationPort { text += " port \(port)" }
    if let type = packet.icmpType {
      let isPing = type == (packet.to.family == .v4 ? 8 : 128) && packet.icmpCode == 0
      text += isPing ? " echo request" : " type \(type) code \(packet.icmpCode ?? 0)"
    }
    return text
  }

  /// `shop/web-1 on host1, 10.65.0.7 and fd65::7; in GlobalNetworkSet office`
  private static func words(_ ends: [End]) -> String {
    let end = ends[0]
    let addresses = ends.map(\.address.description).joined(separator: " and ")
    var text: String
    switch (end.place.kind, end.endpoint) {
    case (.address, let endpoint?): text = "\(addresses): \(endpoint.name)" + (endpoint.node.isEmpty ? "" : " on \(endpoint.node)")
    case (.address, nil): text = "\(addresses): " + (end.node.map { "host \($0)" } ?? "no workload and no host that is stored")
    case (.node(let name), _): text = "host \(name), \(addresses)"
    case (.workload, let endpoint): text = "\(end.place.name)" + (endpoint.map { " on \($0.node)" } ?? "") + ", \(addresses)"
    }
    if !end.networkSets.isEmpty { text += "; in " + end.networkSets.map(\.description).joined(separator: ", ") }
    return text
  }

  private static func words(_ step: Verdict.Step, _ rule: String?) -> (what: String, detail: String) {
    func detail(_ reason: String) -> String { [rule, reason].compactMap(\.self).joined(separator: " ") }
    return switch step.finding {
    case .matches(let index, let action): ("rule \(index + 1) \(action.rawValue)", rule ?? "")
    case .doesNotMatch(let index, let why): ("rule \(index + 1) –", detail("does not match: \(why)"))
    case .cannotBeEnforced(let index, .log, let fault): ("rule \(index + 1) –", detail("is left out: \(fault)"))
    case .cannotBeEnforced(let index, _, let fault): ("rule \(index + 1) Deny", detail("cannot be enforced: \(fault)"))
    default: (step.reason, "")
    }
  }

  /// `ingress of shop/db-1, end of tier default (Deny)`
  static func decision(_ step: Verdict.Step) -> String {
    guard let direction = step.direction, let name = step.endpointName else { return step.brief }
    return "\(step.side(direction)) of \(name), \(step.brief)"
  }

  static func afterwards(_ answer: Answer) -> String {
    answer.verdict.isAllowed
      ? "Replies, and all further packets of the connection, pass without asking policy again."
      : "A connection that is established already goes on until it ends; this is about new ones."
  }

  private static func labels(of endpoint: Entity) -> String {
    var text = "  labels\n"
    for (label, value) in endpoint.labels.sorted(by: { $0.key < $1.key }) {
      text += "    \(label)=\(value)" + (endpoint.origins[label].map { "  (from profile \($0))" } ?? "") + "\n"
    }
    return text
  }

  static func number(_ order: Double) -> String { order == order.rounded() && abs(order) < 1e15 ? "\(Int64(order))" : "\(order)" }
}

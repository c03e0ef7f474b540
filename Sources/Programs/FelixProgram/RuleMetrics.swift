/// The kernel's counters of the rules of policies, as metrics: packets and octets of new connections, by policy and rule.
///
/// They are read when somebody asks, and at most a fiftieth of the time goes into it; of the rules with the most packets `seriesMax` are shown
/// each by itself, all of them in the sum of their policy.
import Logging
import MetricsText
import NetlinkEdge
import RulesetDriver
import Sockets

final class RuleMetrics {
  static let seriesMax = 1_000

  private let namespace: NetworkNamespace?
  private let log: Logger
  private var latest: (counts: [RuleCount], until: MonotonicInstant)?

  init(namespace: NetworkNamespace?, log: Logger) {
    self.namespace = namespace
    self.log = log
  }

  private func counts() -> [RuleCount] {
    let began = MonotonicInstant.now
    if let latest, began < latest.until { return latest.counts }
    var counts: [RuleCount] = []
    do throws(NetlinkError) {
      counts = try RuleCounts.read(namespace: namespace?.descriptor.borrowed)
    } catch { log.error("\(error)") }
    let end = MonotonicInstant.now
    latest = (counts, end + (end - began) * 50)
    return counts
  }

  /// What a comment of ours says: `NetworkPolicy default/web ingress rule 1`, with annotations or a fault behind it.
  struct Subject: Hashable, Comparable {
    var kind: String
    var name: String
    var direction: String
    var rule: Int
    init?(_ comment: String) {
      let words = comment.split(separator: " ", omittingEmptySubsequences: false)
      guard words.count >= 5, words[3] == "rule", ["ingress", "egress"].contains(words[2]),
        let number = Int(words[4].prefix { $0.isNumber }), words[0].hasSuffix("Policy") || words[0] == "Profile"
      else { return nil }
      (kind, name, direction, rule) = (String(words[0]), String(words[1]), String(words[2]), number)
    }
    static func < (a: Self, b: Self) -> Bool { (a.kind, a.name, a.direction, a.rule) < (b.kind, b.name, b.direction, b.rule) }
  }

  func add(to page: inout MetricsPage) {
    var rules: [Subject: (packets: UInt64, octets: UInt64)] = [:]
    for count in counts() {
      // A rule may be several of the kernel's: one for each family or set.
      guard let subject = Subject(count.comment) else { continue }
      let sum = rules[subject] ?? (0, 0)
      rules[subject] = (sum.packets &+ count.packets, sum.octets &+ count.octets)
    }
    var policies: [Subject: (packets: UInt64, octets: UInt64)] = [:]
    for (subject, count) in rules {
      var policy = subject
      policy.rule = 0
      let sum = policies[policy] ?? (0, 0)
      policies[policy] = (sum.packets &+ count.packets, sum.octets &+ count.octets)
    }
    for (policy, count) in policies.sorted(by: { $0.key < $1.key }) {
      let labels: MetricsPage.Labels = ["kind": policy.kind, "name": policy.name, "direction": policy.direction]
      page.counter("margay_felix_policy_packets_total", "Packets that the rules of a policy matched; of a staged one, would have.", Double(count.packets), labels)
    }
    for (policy, count) in policies.sorted(by: { $0.key < $1.key }) {
      let labels: MetricsPage.Labels = ["kind": policy.kind, "name": policy.name, "direction": policy.direction]
      page.counter("margay_felix_policy_bytes_total", "The octets of these packets.", Double(count.octets), labels)
    }
    let shown = rules.filter { $0.value.packets > 0 }.sorted { ($0.value.packets, $1.key) > ($1.value.packets, $0.key) }.prefix(Self.seriesMax)
    for (rule, count) in shown.sorted(by: { $0.key < $1.key }) {
      page.counter(
        "margay_felix_rule_packets_total", "Packets that a rule matched, of the rules that matched most.", Double(count.packets),
        ["kind": rule.kind, "name": rule.name, "direction": rule.direction, "rule": "\(rule.rule)"])
    }
  }
}

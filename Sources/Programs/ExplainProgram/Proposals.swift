/// What would be answered if staged policies were enforced: each by itself, and all of them together.
import Calculation
public import JSON
public import PolicyOracle
public import Resources
import Tables

extension Explanation {
  public struct Proposal: Sendable {
    /// Empty for all staged policies together.
    public var policies: [ResourceKey]
    public var verdict: Verdict
  }

  /// Those that would change who decides, or what.
  static func proposals(_ packet: Packet, _ verdict: Verdict, _ cluster: Cluster) -> [Proposal] {
    let staged = cluster.resources.filter { $0.stagedProposal.map { $0.action != .ignore } ?? false }.sorted { $0.key < $1.key }
    func answer(_ enforced: [Resource]) -> Verdict {
      PolicyOracle(resources: Resource.enforcing(enforced, in: cluster.resources), unreadable: cluster.unreadable).verdict(packet)
    }
    var proposals = staged.map { Proposal(policies: [$0.key], verdict: answer([$0])) }.filter { $0.verdict.decisions != verdict.decisions }
    if proposals.count > 1 { proposals.append(Proposal(policies: [], verdict: answer(staged))) }
    return proposals
  }

  static func text(_ proposals: [Proposal], _ palette: Palette) -> String {
    proposals.map { proposal in
      let name = proposal.policies.first?.description ?? "all staged policies together"
      let outcome = proposal.verdict.isAllowed ? palette("would allow", .green) : palette("would deny", .red)
      return "\(palette("staged", .yellow)) \(name): \(outcome): \(proposal.verdict.decisions.last.map(decision) ?? "no policy is asked")\n"
    }.joined()
  }

  static func json(_ proposals: [Proposal]) -> JSONValue {
    .array(
      proposals.map { proposal in
        [
          "policies": .array(proposal.policies.map { .string($0.description) }),
          "verdict": proposal.verdict.isAllowed ? "allowed" : "denied",
          "because": .string(proposal.verdict.decisions.last.map(decision) ?? ""),
        ]
      })
  }
}

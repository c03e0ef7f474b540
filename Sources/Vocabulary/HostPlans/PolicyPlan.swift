/// Rules as the kernel can match them: no selectors, only sets and literals.
import Addresses
import Resources

/// One side (source or destination) of a rule; all that is given must match.
public struct SidePlan: Hashable, Sendable {
  /// Empty means any; else one of them.
  public var nets: [IPPrefix] = []
  public var notNets: [IPPrefix] = []
  /// In every one of these sets.
  public var sets: [IPSetID] = []
  /// In none of these sets.
  public var notSets: [IPSetID] = []
  /// Empty (together with `namedPorts`) means any; else one of them. Ports need a protocol with ports in the rule.
  public var ports: [ClosedRange<UInt16>] = []
  public var namedPorts: [IPSetID] = []
  public var notPorts: [ClosedRange<UInt16>] = []
  public var notNamedPorts: [IPSetID] = []
  public init() {}
}

public struct RulePlan: Hashable, Sendable {
  public var action: RuleAction
  public var family: IPFamily?
  public var ipProtocol: NetworkProtocol?
  public var notProtocol: NetworkProtocol?
  public var icmp: ICMPMatch?
  public var notICMP: ICMPMatch?
  public var source = SidePlan()
  public var destination = SidePlan()
  public var annotations: [String: String] = [:]
  /// Its index among the rules as people wrote them, where rules before it are left out here; else nil.
  public var place: Int?
  /// Set when the rule stands for one that cannot be enforced: it then denies everything that reaches it.
  public var fault: String?
  public init(_ action: RuleAction) { self.action = action }
}

/// The rules of one policy or profile.
public struct PolicyPlan: Hashable, Sendable {
  public var ingress: [RulePlan]
  public var egress: [RulePlan]
  /// Of a policy; a profile has none. Log lines may name it.
  public var tier: String
  public init(ingress: [RulePlan] = [], egress: [RulePlan] = [], tier: String = "default") {
    self.ingress = ingress
    self.egress = egress
    self.tier = tier
  }
}

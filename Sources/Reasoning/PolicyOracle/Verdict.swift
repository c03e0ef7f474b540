/// The question to the oracle and its answer, both in words that people use.
import Addresses
import Resources

/// The first packet of a connection, with the addresses as they are once it is on its way (no translation in between).
public struct Packet: Hashable, Sendable, CustomStringConvertible {
  public var from: IPAddress
  public var to: IPAddress
  public var ipProtocol: NetworkProtocol
  /// Nil for protocols without ports.
  public var sourcePort: UInt16?
  public var destinationPort: UInt16?
  /// Nil unless the protocol is ICMP or ICMPv6.
  public var icmpType: UInt8?
  public var icmpCode: UInt8?
  public init(
    from: IPAddress, to: IPAddress, protocol ipProtocol: NetworkProtocol, sourcePort: UInt16? = nil, destinationPort: UInt16? = nil,
    icmpType: UInt8? = nil, icmpCode: UInt8? = nil
  ) {
    self.from = from
    self.to = to
    self.ipProtocol = ipProtocol
    self.sourcePort = sourcePort
    self.destinationPort = destinationPort
    self.icmpType = icmpType
    self.icmpCode = icmpCode
  }
  public var description: String {
    var text = "\(ipProtocol) \(from)"
    if let sourcePort { text += " port \(sourcePort)" }
    text += " -> \(to)"
    if let destinationPort { text += " port \(destinationPort)" }
    if icmpType != nil { text += " \(icmpText)" }
    return text
  }
  /// `type 8 code 0`
  var icmpText: String { "type \(icmpType.map(String.init) ?? "none")" + (icmpCode.map { " code \($0)" } ?? "") }
}

public struct Verdict: Hashable, Sendable, CustomStringConvertible {
  public var isAllowed: Bool
  /// Everything that was looked at, in order.
  public var trail: [Step]
  /// The steps that moved the packet on or stopped it; the last one decided.
  public var decisions: [Step] { trail.filter { $0.outcome != .notMatched && $0.outcome != .logged } }
  /// What had the last word, in short: `shop/web rule 2 (Allow)`, `end of tier security (Deny)`, `profile kns.shop`. Of an allowed
  /// packet that is the ingress policy of its destination, if it has one.
  public var decidedBy: String { decisions.last?.brief ?? "" }
  /// The same of one side; nil where no workload's policy was asked.
  public func decidedBy(_ direction: Direction) -> String? { decisions.last { $0.direction == direction }?.brief }
  /// `allowed` or `denied`, and one line per decision.
  public var description: String {
    ([isAllowed ? "allowed" : "denied"] + decisions.map { "  \($0)" }).joined(separator: "\n")
  }

  public enum Outcome: String, Hashable, Sendable {
    case allowed
    case denied
    /// On to the next tier, or to the profiles.
    case passed
    case logged
    case notMatched
  }

  /// What was found at one place. Rules count from 0 here, as in the document, and from 1 in words, as in the kernel's comments.
  public enum Finding: Hashable, Sendable {
    case matches(rule: Int, RuleAction)
    case doesNotMatch(rule: Int, why: String)
    /// The rule denies all that reaches it; a Log rule is left out instead.
    case cannotBeEnforced(rule: Int, RuleAction, fault: String)
    /// It cannot be told to which endpoints of its namespace the policy applies: it denies them all.
    case cannotBeRead(fault: String)
    /// The policy or profile applies and none of its rules decided; how many there are.
    case decidesNothing(rules: Int)
    case endOfTier(TierSpec.DefaultAction)
    /// The host's settings let it through here; `isLast` if nothing of the host is asked behind.
    case failsafe(String, isLast: Bool)
    case builtInProfile
    case missingProfile
    case endOfProfiles(isEmpty: Bool)
    /// Decided before or beside any policy.
    case beyondPolicy(isAllowed: Bool, why: String)
  }

  public struct Step: Hashable, Sendable, CustomStringConvertible {
    /// Nil where no workload's policy speaks.
    public var direction: Direction?
    public var stage: Stage? = nil
    public var endpoint: ResourceKey?
    /// `namespace/pod`, or the endpoint's qualified name.
    public var endpointName: String?
    public var tier: String?
    /// A policy or profile.
    public var policy: ResourceKey?
    public var finding: Finding

    public var outcome: Outcome {
      switch finding {
      case .matches(_, .allow), .builtInProfile, .failsafe(_, isLast: true), .beyondPolicy(isAllowed: true, _): .allowed
      case .failsafe(_, isLast: false), .matches(_, .pass), .endOfTier(.pass): .passed
      case .matches(_, .log): .logged
      case .doesNotMatch, .decidesNothing, .cannotBeEnforced(_, .log, _): .notMatched
      case .matches(_, .deny), .cannotBeEnforced, .cannotBeRead, .endOfTier(.deny), .missingProfile, .endOfProfiles,
        .beyondPolicy(isAllowed: false, _):
        .denied
      }
    }

    /// Within the policy's rules of `direction`.
    public var ruleIndex: Int? {
      switch finding {
      case .matches(let rule, _), .doesNotMatch(let rule, _), .cannotBeEnforced(let rule, _, _): rule
      default: nil
      }
    }

    public var reason: String {
      switch finding {
      case .matches(let rule, let action): "rule \(rule + 1), \(action.rawValue)"
      case .doesNotMatch(let rule, let why): "rule \(rule + 1) does not match: \(why)"
      case .cannotBeEnforced(let rule, .log, let fault): "rule \(rule + 1) cannot be enforced and is left out: \(fault)"
      case .cannotBeEnforced(let rule, _, let fault): "rule \(rule + 1) cannot be enforced: \(fault); Deny"
      case .cannotBeRead(let fault): "\(fault); Deny"
      case .decidesNothing(let rules): rules == 0 ? "no rules" : rules == 1 ? "its one rule decides nothing" : "none of its \(rules) rules decides"
      case .endOfTier(let action): "end of tier, \(action.rawValue)"
      case .failsafe(let why, let isLast): "failsafe port, \(isLast ? "Allow" : "not asked here"): \(why)"
      case .builtInProfile: "built-in profile, Allow"
      case .missingProfile: "the profile does not exist, Deny"
      case .endOfProfiles(let isEmpty): isEmpty ? "no policy and no profile, Deny" : "no profile matched, Deny"
      case .beyondPolicy(_, let why): why
      }
    }

    /// `shop/web rule 2 (Allow)`
    public var brief: String {
      let name = policy?.qualifiedName ?? ""
      if policy?.kind == .profile, outcome == .allowed { return "profile \(name)" }
      return switch finding {
      case .matches(let rule, let action): "\(name) rule \(rule + 1) (\(action.rawValue))"
      case .doesNotMatch(let rule, _): "\(name) rule \(rule + 1)"
      case .cannotBeEnforced(let rule, _, _): "\(name) rule \(rule + 1) (cannot be enforced, Deny)"
      case .cannotBeRead: "\(name) (cannot be read, Deny)"
      case .decidesNothing: name
      case .endOfTier(let action): "end of tier \(tier ?? "") (\(action.rawValue))"
      case .failsafe(_, let isLast): isLast ? "failsafe port (Allow)" : "failsafe port"
      case .builtInProfile: "profile \(name)"
      case .missingProfile: "profile \(name) (missing, Deny)"
      case .endOfProfiles(let isEmpty): isEmpty ? "no policy and no profile" : "no profile matched"
      case .beyondPolicy(_, let why): why
      }
    }

    /// `egress`, and of a host endpoint the place as well: `untracked ingress`, `forward egress`.
    package func side(_ direction: Direction) -> String {
      switch stage {
      case nil, .workload, .host: direction.rawValue.lowercased()
      case let stage?: "\(stage.rawValue) \(direction.rawValue.lowercased())"
      }
    }

    /// `egress of default/web-1: tier default, GlobalNetworkPolicy deny-all: end of tier, Deny`
    public var description: String {
      var parts: [String] = []
      if let direction, let endpointName { parts.append("\(side(direction)) of \(endpointName)") }
      let place = [tier.map { "tier \($0)" }, policy?.description].compactMap(\.self)
      if !place.isEmpty { parts.append(place.joined(separator: ", ")) }
      parts.append(reason)
      return parts.joined(separator: ": ")
    }
  }
}

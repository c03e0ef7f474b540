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
    if let icmpType { text += " type \(icmpType)" }
    if let icmpCode { text += " code \(icmpCode)" }
    return text
  }
}

public struct Verdict: Hashable, Sendable, CustomStringConvertible {
  public var isAllowed: Bool
  /// Everything that was looked at, in order.
  public var trail: [Step]
  /// The steps that moved the packet on or stopped it; the last one decided.
  public var decisions: [Step] { trail.filter { $0.outcome != .notMatched && $0.outcome != .logged } }
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

  public struct Step: Hashable, Sendable, CustomStringConvertible {
    /// Nil where no workload's policy speaks.
    public var direction: Direction?
    public var endpoint: ResourceKey?
    /// `namespace/pod`, or the endpoint's qualified name.
    public var endpointName: String?
    public var tier: String?
    /// A policy or profile.
    public var policy: ResourceKey?
    /// Counts from 0 within the policy's rules of `direction`.
    public var ruleIndex: Int?
    public var outcome: Outcome
    public var reason: String

    /// `egress of default/web-1: tier default, GlobalNetworkPolicy deny-all: end of tier, Deny`
    public var description: String {
      var parts: [String] = []
      if let direction, let endpointName { parts.append("\(direction.rawValue.lowercased()) of \(endpointName)") }
      let place = [tier.map { "tier \($0)" }, policy?.description].compactMap(\.self)
      if !place.isEmpty { parts.append(place.joined(separator: ", ")) }
      parts.append(reason)
      return parts.joined(separator: ": ")
    }
  }
}

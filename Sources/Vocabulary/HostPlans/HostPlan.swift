/// What one host's kernel should hold, as the calculation wants it and the drivers make it: no kernel words, no datastore words.
import Addresses
import Resources

/// The identity of a set of addresses: the unique id of the selector (`s:…`), or of selector, protocol and port name (`n:…`).
public struct IPSetID: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let text: String
  public init(_ text: String) { self.text = text }
  public static func < (a: Self, b: Self) -> Bool { a.text < b.text }
  public var description: String { text }
}

public enum IPSetMember: Hashable, Comparable, Sendable {
  case net(IPPrefix)
  case addressPort(IPAddress, NetworkProtocol, UInt16)
  public var family: IPFamily {
    switch self {
    case .net(let prefix): prefix.family
    case .addressPort(let address, _, _): address.family
    }
  }
  public static func < (a: Self, b: Self) -> Bool {
    switch (a, b) {
    case (.net(let a), .net(let b)): a < b
    case (.addressPort(let a, let p, let m), .addressPort(let b, let q, let n)): (a, p.number, m) < (b, q.number, n)
    case (.net, .addressPort): true
    case (.addressPort, .net): false
    }
  }
}

public struct IPSetPlan: Hashable, Sendable {
  public enum Content: Hashable, Sendable {
    case nets
    case addressPorts
  }
  public var content: Content
  /// Both families together; the driver splits them.
  public var members: Set<IPSetMember>
  /// The selector in words, for the comment in the kernel.
  public var explanation: String
  public init(content: Content, members: Set<IPSetMember>, explanation: String) {
    self.content = content
    self.members = members
    self.explanation = explanation
  }
}

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

/// The policies of one tier that apply to one endpoint in one direction, in order. Never empty.
public struct TierPlan: Hashable, Sendable {
  public var name: String
  public var policies: [ResourceKey]
  /// What happens to a packet that no policy of the tier decided.
  public var defaultAction: TierSpec.DefaultAction
  public init(name: String, policies: [ResourceKey], defaultAction: TierSpec.DefaultAction = .deny) {
    self.name = name
    self.policies = policies
    self.defaultAction = defaultAction
  }
}

/// One local workload endpoint.
public struct EndpointPlan: Hashable, Sendable {
  public var interfaceName: String
  public var mac: MACAddress?
  public var addresses: [IPAddress]
  /// Extra source prefixes that this endpoint may send from.
  public var allowedSources: [IPPrefix] = []
  public var ingress: [TierPlan]
  public var egress: [TierPlan]
  /// Names of profiles, consulted in order when no tier decided. A name without a profile denies.
  public var profiles: [String]
  public init(
    interfaceName: String, mac: MACAddress? = nil, addresses: [IPAddress] = [], ingress: [TierPlan] = [], egress: [TierPlan] = [],
    profiles: [String] = []
  ) {
    self.interfaceName = interfaceName
    self.mac = mac
    self.addresses = addresses
    self.ingress = ingress
    self.egress = egress
    self.profiles = profiles
  }
}

public enum RoutePlan: Hashable, Sendable {
  /// To a workload of this host over its interface.
  case workload(interfaceName: String)
  /// A block of this host: what no workload holds goes nowhere.
  case blackhole
}

/// Host-wide settings that the drivers obey.
public struct HostSettings: Hashable, Sendable {
  public var interfacePrefixes: [String] = ["cali"]
  public var endpointToHostAction: FelixConfigurationSpec.EndpointToHostAction = .drop
  public var ipv6 = true
  /// What begins the kernel's line for a packet that a Log rule matches, with the specifiers %t, %k, %n and %p.
  public var logPrefix = "calico-packet"
  /// How often a Log rule writes a line; nil is always.
  public var logLimit: LogLimit?
  public init() {}
}

/// All of it at one moment.
public struct HostPlan: Hashable, Sendable {
  public var settings = HostSettings()
  public var ipSets: [IPSetID: IPSetPlan] = [:]
  /// NetworkPolicy, GlobalNetworkPolicy and Profile keys.
  public var policies: [ResourceKey: PolicyPlan] = [:]
  /// By WorkloadEndpoint key.
  public var endpoints: [ResourceKey: EndpointPlan] = [:]
  public var routes: [IPPrefix: RoutePlan] = [:]
  public init() {}
}

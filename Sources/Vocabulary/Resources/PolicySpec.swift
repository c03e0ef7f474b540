/// Policies, profiles, tiers and sets: what decides about packets.
import Addresses

public enum RuleAction: String, Hashable, Sendable, CaseIterable {
  case allow = "Allow"
  case deny = "Deny"
  case log = "Log"
  /// Skip the rest of this tier.
  case pass = "Pass"
}

public enum Direction: String, Hashable, Sendable, CaseIterable, Comparable {
  case ingress = "Ingress"
  case egress = "Egress"
  public static func < (a: Self, b: Self) -> Bool { a == .ingress && b == .egress }
}

/// An IP protocol by number; the names that the API knows print as names.
public struct NetworkProtocol: Hashable, Sendable, CustomStringConvertible {
  /// 1...255
  public let number: UInt8
  public init(number: UInt8) { self.number = number }
  public static let icmp = NetworkProtocol(number: 1)
  public static let tcp = NetworkProtocol(number: 6)
  public static let udp = NetworkProtocol(number: 17)
  public static let icmpv6 = NetworkProtocol(number: 58)
  public static let sctp = NetworkProtocol(number: 132)
  public static let udpLite = NetworkProtocol(number: 136)
  static let names: [(String, NetworkProtocol)] = [
    ("TCP", .tcp), ("UDP", .udp), ("ICMP", .icmp), ("ICMPv6", .icmpv6), ("SCTP", .sctp), ("UDPLite", .udpLite),
  ]
  /// A name in any case, or decimal 1...255.
  public init?(_ text: String) {
    if let named = Self.names.first(where: { $0.0.lowercased() == text.lowercased() }) {
      self = named.1
    } else if let number = UInt8(text), number > 0 {
      self.number = number
    } else {
      return nil
    }
  }
  /// TCP, UDP, SCTP and UDPLite have ports.
  public var hasPorts: Bool { [.tcp, .udp, .sctp, .udpLite].contains(self) }
  public var description: String { Self.names.first { $0.1 == self }?.0 ?? "\(number)" }
}

public enum PortMatch: Hashable, Sendable, CustomStringConvertible {
  /// 0...65535, both ends included.
  case range(ClosedRange<UInt16>)
  case named(String)
  public static func port(_ number: UInt16) -> PortMatch { .range(number...number) }
  public var description: String {
    switch self {
    case .range(let range): range.count == 1 ? "\(range.lowerBound)" : "\(range.lowerBound):\(range.upperBound)"
    case .named(let name): name
    }
  }
}

public struct ICMPMatch: Hashable, Sendable {
  /// Nil matches every type.
  public var type: UInt8?
  /// Only together with a type.
  public var code: UInt8?
  public init(type: UInt8? = nil, code: UInt8? = nil) {
    self.type = type
    self.code = code
  }
}

public struct EntityRule: Hashable, Sendable {
  public var nets: [IPPrefix] = []
  public var notNets: [IPPrefix] = []
  /// Selector text; nil if the document has none.
  public var selector: String?
  public var notSelector: String?
  public var namespaceSelector: String?
  public var ports: [PortMatch] = []
  public var notPorts: [PortMatch] = []
  public var serviceAccounts: ServiceAccountMatch?
  public var services: ServiceMatch?
  public init() {}
  public var isEmpty: Bool { self == EntityRule() }
}

public struct ServiceAccountMatch: Hashable, Sendable {
  public var names: [String] = []
  public var selector: String?
  public init(names: [String] = [], selector: String? = nil) {
    self.names = names
    self.selector = selector
  }
}

public struct ServiceMatch: Hashable, Sendable {
  public var name: String
  public var namespace: String?
  public init(name: String, namespace: String? = nil) {
    self.name = name
    self.namespace = namespace
  }
}

/// HTTP requests of a rule. Packets cannot be matched by them, so a rule with one is kept, and denies where it is enforced.
public struct HTTPMatch: Hashable, Sendable {
  public enum Path: Hashable, Sendable {
    case exact(String)
    case prefix(String)
  }
  public var methods: [String] = []
  public var paths: [Path] = []
  public init(methods: [String] = [], paths: [Path] = []) {
    self.methods = methods
    self.paths = paths
  }
}

public struct Rule: Hashable, Sendable {
  public var action: RuleAction
  public var ipVersion: IPFamily?
  /// Spelled `protocol` in documents.
  public var ipProtocol: NetworkProtocol?
  public var notProtocol: NetworkProtocol?
  public var icmp: ICMPMatch?
  public var notICMP: ICMPMatch?
  public var source: EntityRule = EntityRule()
  public var destination: EntityRule = EntityRule()
  public var http: HTTPMatch?
  /// `metadata.annotations`; rendered into the kernel's rule comments.
  public var annotations: [String: String] = [:]
  /// Why this rule cannot be enforced as written (unreadable field, unsupported match). Such a rule acts as Deny of everything, at its own place.
  public var fault: String?
  public init(
    _ action: RuleAction, protocol ipProtocol: NetworkProtocol? = nil, source: EntityRule = EntityRule(),
    destination: EntityRule = EntityRule()
  ) {
    self.action = action
    self.ipProtocol = ipProtocol
    self.source = source
    self.destination = destination
  }
}

/// NetworkPolicy and GlobalNetworkPolicy; the last four fields exist only in the latter.
public struct PolicySpec: Hashable, Sendable {
  public enum PerformanceHint: String, Hashable, Sendable, CaseIterable {
    /// Every node works the policy out before it has an endpoint for it.
    case assumeNeededOnEveryNode = "AssumeNeededOnEveryNode"
  }
  public var tier: String = "default"
  /// Nil sorts last.
  public var order: Double?
  /// Empty selects all.
  public var selector: String = ""
  public var serviceAccountSelector: String?
  /// Empty: by the rules present, as `effectiveTypes` says. Reading a document leaves them empty in a staged deletion only.
  public var types: [Direction] = []
  public var ingress: [Rule] = []
  public var egress: [Rule] = []
  public var performanceHints: [PerformanceHint] = []
  public var namespaceSelector: String?
  public var doNotTrack = false
  public var preDNAT = false
  public var applyOnForward = false
  public init() {}

  /// What a stored policy without `types` governs: past the API nothing fills them in, and Felix takes their absence for both.
  public static let typesUnspelled: [Direction] = [.ingress, .egress]

  /// Without `types`: ingress, unless there are only egress rules; both if both have rules.
  public var effectiveTypes: Set<Direction> {
    if !types.isEmpty { return Set(types) }
    if egress.isEmpty { return [.ingress] }
    return ingress.isEmpty ? [.egress] : [.ingress, .egress]
  }
}

public struct TierSpec: Hashable, Sendable {
  public enum DefaultAction: String, Hashable, Sendable, CaseIterable {
    case deny = "Deny"
    case pass = "Pass"
  }
  /// Nil sorts last.
  public var order: Double?
  public var defaultAction: DefaultAction = .deny
  public init(order: Double? = nil, defaultAction: DefaultAction = .deny) {
    self.order = order
    self.defaultAction = defaultAction
  }
  /// The tiers that every cluster has. Neither their order nor their action can be another.
  public static let fixed: [String: TierSpec] = [
    "default": TierSpec(order: 1_000_000, defaultAction: .deny),
    "kube-admin": TierSpec(order: 1_000, defaultAction: .pass),
    "kube-baseline": TierSpec(order: 10_000_000, defaultAction: .pass),
  ]
}

public struct ProfileSpec: Hashable, Sendable {
  public var ingress: [Rule] = []
  public var egress: [Rule] = []
  public var labelsToApply: [String: String] = [:]
  public init(ingress: [Rule] = [], egress: [Rule] = [], labelsToApply: [String: String] = [:]) {
    self.ingress = ingress
    self.egress = egress
    self.labelsToApply = labelsToApply
  }
}

/// NetworkSet and GlobalNetworkSet.
public struct NetworkSetSpec: Hashable, Sendable {
  public var nets: [IPPrefix] = []
  public init(nets: [IPPrefix] = []) { self.nets = nets }
}

/// Policies that are looked at before they are enforced.
import Addresses

/// What a staged policy would do to the enforced one of the same name.
public enum StagedAction: String, Hashable, Sendable, CaseIterable {
  /// Create or replace it.
  case set = "Set"
  case delete = "Delete"
  /// A suggestion of a tool that learns policies from traffic.
  case learn = "Learn"
  case ignore = "Ignore"
}

/// StagedNetworkPolicy and StagedGlobalNetworkPolicy.
public struct StagedPolicySpec: Hashable, Sendable {
  public var stagedAction: StagedAction = .set
  public var policy = PolicySpec()
  public init(_ policy: PolicySpec = PolicySpec(), stagedAction: StagedAction = .set) {
    self.policy = policy
    self.stagedAction = stagedAction
  }
}

extension Resource.Spec {
  /// Changes the policy inside, for the kinds that hold one, staged or not.
  public mutating func changePolicy(_ change: (inout PolicySpec) -> Void) {
    switch self {
    case .networkPolicy(var policy):
      change(&policy)
      self = .networkPolicy(policy)
    case .globalNetworkPolicy(var policy):
      change(&policy)
      self = .globalNetworkPolicy(policy)
    case .stagedNetworkPolicy(var staged) where staged.stagedAction != .delete:
      change(&staged.policy)
      self = .stagedNetworkPolicy(staged)
    case .stagedGlobalNetworkPolicy(var staged) where staged.stagedAction != .delete:
      change(&staged.policy)
      self = .stagedGlobalNetworkPolicy(staged)
    default: break
    }
  }
}

/// Kubernetes' way to choose by labels: all of `matchLabels` and all of `matchExpressions`; an empty one selects everything.
public struct LabelSelector: Hashable, Sendable {
  public struct Requirement: Hashable, Sendable {
    public enum Operator: String, Hashable, Sendable, CaseIterable {
      case isIn = "In"
      case notIn = "NotIn"
      case exists = "Exists"
      case doesNotExist = "DoesNotExist"
    }
    public var key: String
    public var `operator`: Operator
    /// At least one for `In` and `NotIn`; none for the others.
    public var values: [String]
    public init(key: String, _ operator: Operator, values: [String] = []) {
      self.key = key
      self.operator = `operator`
      self.values = values
    }
  }
  public var matchLabels: [String: String] = [:]
  public var matchExpressions: [Requirement] = []
  public init() {}
}

/// A Kubernetes NetworkPolicy, staged.
public struct StagedKubernetesPolicySpec: Hashable, Sendable {
  public struct Rule: Hashable, Sendable {
    /// Empty matches every port.
    public var ports: [Port] = []
    /// Spelled `from` in ingress and `to` in egress rules. Empty matches every peer.
    public var peers: [Peer] = []
    public init() {}
  }
  public struct Port: Hashable, Sendable {
    /// Nil is TCP.
    public var ipProtocol: NetworkProtocol?
    /// A number or a name; nil matches all ports of the protocol.
    public var port: PortMatch?
    /// The last of a range that begins with the number in `port`.
    public var endPort: UInt16?
    public init() {}
  }
  /// Pods, or an address block.
  public struct Peer: Hashable, Sendable {
    public struct Block: Hashable, Sendable {
      public var cidr: IPPrefix
      public var except: [IPPrefix]
      public init(cidr: IPPrefix, except: [IPPrefix] = []) {
        self.cidr = cidr
        self.except = except
      }
    }
    public var podSelector: LabelSelector?
    public var namespaceSelector: LabelSelector?
    public var ipBlock: Block?
    public init() {}
  }
  public var stagedAction: StagedAction = .set
  /// An absent selector selects every pod of the namespace, as an empty one does.
  public var podSelector: LabelSelector?
  public var policyTypes: [Direction] = []
  public var ingress: [Rule] = []
  public var egress: [Rule] = []
  public init() {}
}

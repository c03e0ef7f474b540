/// What programs report about an object, beside what an operator wants of it (`spec`).

public enum ResourceStatus: Hashable, Sendable {
  case node(NodeStatus)
  case calicoNodeStatus(CalicoNodeReport)
  case kubeControllers(KubeControllersStatus)
  /// IPPool and other kinds that report nothing but conditions.
  case conditions([Condition])
}

public struct NodeStatus: Hashable, Sendable {
  public var wireguardPublicKey: String?
  public var wireguardPublicKeyV6: String?
  public var podCIDRs: [String] = []
  public init() {}
}

public struct KubeControllersStatus: Hashable, Sendable {
  /// After the environment's variables have had their say.
  public var runningConfig: KubeControllersConfigurationSpec?
  public var environmentVars: [String: String] = [:]
  public init() {}
}

/// Kubernetes' way to say that something about an object is so, and why.
public struct Condition: Hashable, Sendable {
  public enum Truth: String, Hashable, Sendable, CaseIterable {
    case yes = "True"
    case no = "False"
    case unknown = "Unknown"
  }
  /// For example `Allocatable`.
  public var type: String
  public var status: Truth
  /// One word, for example `CIDROverlap`.
  public var reason: String?
  public var message: String?
  /// RFC 3339.
  public var lastTransitionTime: String?
  public var observedGeneration: Int?
  public init(type: String, status: Truth, reason: String? = nil, message: String? = nil) {
    self.type = type
    self.status = status
    self.reason = reason
    self.message = message
  }
}

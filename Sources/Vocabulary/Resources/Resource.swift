/// Calico's API objects (`projectcalico.org/v3`) as plain values. Reading and writing their documents is the work of `Documents`.
import Addresses

/// The kinds that exist here, with the words people use for them.
public enum Kind: String, CaseIterable, Hashable, Comparable, Sendable {
  case bgpConfiguration = "BGPConfiguration"
  case bgpPeer = "BGPPeer"
  case clusterInformation = "ClusterInformation"
  case felixConfiguration = "FelixConfiguration"
  case globalNetworkPolicy = "GlobalNetworkPolicy"
  case globalNetworkSet = "GlobalNetworkSet"
  case ipPool = "IPPool"
  case networkPolicy = "NetworkPolicy"
  case networkSet = "NetworkSet"
  case node = "Node"
  case profile = "Profile"
  case tier = "Tier"
  case workloadEndpoint = "WorkloadEndpoint"

  /// The last part of the kind's key prefix: `/calico/resources/v3/projectcalico.org/<plural>/`.
  public var plural: String {
    switch self {
    case .globalNetworkPolicy: "globalnetworkpolicies"
    case .networkPolicy: "networkpolicies"
    default: rawValue.lowercased() + "s"
    }
  }
  public var isNamespaced: Bool { self == .networkPolicy || self == .networkSet || self == .workloadEndpoint }
  /// Calico's short names, besides singular and plural.
  public var shortNames: [String] {
    switch self {
    case .bgpConfiguration: ["bgpconfig", "bgpconfigs"]
    case .clusterInformation: ["clusterinfo", "clusterinfos"]
    case .felixConfiguration: ["felixconfig", "felixconfigs"]
    case .globalNetworkPolicy: ["gnp", "cgnp", "gnps"]
    case .globalNetworkSet: ["gns"]
    case .ipPool: ["pool", "pools", "ipp"]
    case .networkPolicy: ["np", "cnp", "policy", "policies"]
    case .networkSet: ["netset", "netsets", "ns"]
    case .workloadEndpoint: ["wep", "weps"]
    default: []
    }
  }
  /// A kind from any of its names, in any case.
  public init?(word: String) {
    let word = word.lowercased()
    guard
      let kind = Self.allCases.first(where: {
        $0.rawValue.lowercased() == word || $0.plural == word || $0.shortNames.contains(word)
      })
    else { return nil }
    self = kind
  }
  public static func < (a: Self, b: Self) -> Bool { a.rawValue < b.rawValue }
}

/// What identifies an object: kind, namespace where the kind has one, name.
public struct ResourceKey: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let kind: Kind
  /// Nil for kinds of cluster scope.
  public let namespace: String?
  public let name: String
  public init(_ kind: Kind, namespace: String? = nil, name: String) {
    self.kind = kind
    self.namespace = kind.isNamespaced ? namespace ?? "default" : nil
    self.name = name
  }
  /// `NetworkPolicy default/allow-web`, as messages name it.
  public var description: String { "\(kind.rawValue) \(qualifiedName)" }
  /// `namespace/name` or `name`.
  public var qualifiedName: String { namespace.map { "\($0)/\(name)" } ?? name }
  public static func < (a: Self, b: Self) -> Bool {
    (a.kind, a.namespace ?? "", a.name) < (b.kind, b.namespace ?? "", b.name)
  }
}

public struct Metadata: Hashable, Sendable {
  public var name: String
  public var namespace: String?
  public var uid: String?
  /// The revision of the stored object; decimal text of the datastore's modification revision. Empty before it is stored.
  public var resourceVersion: String?
  /// RFC 3339, UTC.
  public var creationTimestamp: String?
  public var labels: [String: String]
  public var annotations: [String: String]
  public init(
    name: String, namespace: String? = nil, uid: String? = nil, resourceVersion: String? = nil, creationTimestamp: String? = nil,
    labels: [String: String] = [:], annotations: [String: String] = [:]
  ) {
    self.name = name
    self.namespace = namespace
    self.uid = uid
    self.resourceVersion = resourceVersion
    self.creationTimestamp = creationTimestamp
    self.labels = labels
    self.annotations = annotations
  }
}

/// One API object.
public struct Resource: Hashable, Sendable {
  public var metadata: Metadata
  public var spec: Spec
  public init(_ metadata: Metadata, _ spec: Spec) {
    self.metadata = metadata
    self.spec = spec
  }
  public var kind: Kind { spec.kind }
  public var key: ResourceKey { ResourceKey(kind, namespace: metadata.namespace, name: metadata.name) }

  public enum Spec: Hashable, Sendable {
    case bgpConfiguration(BGPConfigurationSpec)
    case bgpPeer(BGPPeerSpec)
    case clusterInformation(ClusterInformationSpec)
    case felixConfiguration(FelixConfigurationSpec)
    case globalNetworkPolicy(PolicySpec)
    case globalNetworkSet(NetworkSetSpec)
    case ipPool(IPPoolSpec)
    case networkPolicy(PolicySpec)
    case networkSet(NetworkSetSpec)
    case node(NodeSpec)
    case profile(ProfileSpec)
    case tier(TierSpec)
    case workloadEndpoint(WorkloadEndpointSpec)

    public var kind: Kind {
      switch self {
      case .bgpConfiguration: .bgpConfiguration
      case .bgpPeer: .bgpPeer
      case .clusterInformation: .clusterInformation
      case .felixConfiguration: .felixConfiguration
      case .globalNetworkPolicy: .globalNetworkPolicy
      case .globalNetworkSet: .globalNetworkSet
      case .ipPool: .ipPool
      case .networkPolicy: .networkPolicy
      case .networkSet: .networkSet
      case .node: .node
      case .profile: .profile
      case .tier: .tier
      case .workloadEndpoint: .workloadEndpoint
      }
    }
  }
}

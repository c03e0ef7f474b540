/// Calico's API objects (`projectcalico.org/v3`) as plain values. Reading and writing their documents is the work of `Documents`.
import Addresses

/// The kinds that exist here, with the words people use for them.
public enum Kind: String, CaseIterable, Hashable, Comparable, Sendable {
case bgpConfiguration = "BGPConfiguration"
  case bgpFilter = "BGPFilter"
  case bgpPeer = "BGPPeer"
  case blockAffinity = "BlockAffinity"
  case calicoNodeStatus = "CalicoNodeStatus"
  case clusterInformation = "ClusterInformation"
  case felixConfiguration = "FelixConfiguration"
  case globalNetworkPolicy = "GlobalNetworkPolicy"
  case globalNetworkSet = "GlobalNetworkSet"
  case hostEndpoint = "HostEndpoint"
  case ipamConfiguration = "IPAMConfiguration"
  case ipPool = "IPPool"
  case ipReservation = "IPReservation"
  case kubeControllersConfiguration = "KubeControllersConfiguration"
  /// A slice of a Kubernetes service's endpoints, kept for rules that name services.
  case kubernetesEndpointSlice = "KubernetesEndpointSlice"
  case liveMigration = "LiveMigration"
  case networkPolicy = "NetworkPolicy"
  case networkSet = "NetworkSet"
  case node = "Node"
  case profile = "Profile"
  case stagedGlobalNetworkPolicy = "StagedGlobalNetworkPolicy"
  case stagedKubernetesNetworkPolicy = "StagedKubernetesNetworkPolicy"
  case stagedNetworkPolicy = "StagedNetworkPolicy"
  case tier = "Tier"
  case workloadEndpoint = "WorkloadEndpoint"

  /// The last part of the kind's key prefix: `/calico/resources/v3/projectcalico.org/<plural>/`.
  public var plural: String {
    switch self {
    case .blockAffinity: "blockaffinities"
    case .calicoNodeStatus: "caliconodestatuses"
    case .globalNetworkPolicy, .networkPolicy, .stagedGlobalNetworkPolicy, .stagedKubernetesNetworkPolicy, .stagedNetworkPolicy:
      rawValue.lowercased().dropLast() + "ies"
    default: rawValue.lowercased() + "s"
    }
  }
  public var isNamespaced: Bool {
    switch self {
    case .kubernetesEndpointSlice, .liveMigration, .networkPolicy, .networkSet, .stagedKubernetesNetworkPolicy, .stagedNetworkPolicy, .workloadEndpoint: true
    default: false
    }
  }
  /// Whether its fields stand beside the metadata, as in Kubernetes' own document, and not under `spec`.
  public var isFlat: Bool { self == .kubernetesEndpointSlice }
  /// Calico's short names, besides singular and plural.
  public var shortNames: [String] {
    switch self {
    case .bgpConfiguration: ["bgpconfig", "bgpconfigs"]
    case .blockAffinity: ["affinity", "affinities"]
    case .clusterInformation: ["clusterinfo", "clusterinfos"]
    case .felixConfiguration: ["felixconfig", "felixconfigs"]
    case .globalNetworkPolicy: ["gnp", "cgnp", "gnps"]
    case .globalNetworkSet: ["gns"]
    case .hostEndpoint: ["hep", "heps"]
    case .ipamConfiguration: ["ipamconfig", "ipamconfigs"]
    case .ipPool: ["pool", "pools", "ipp"]
    case .kubeControllersConfiguration: ["kcc", "kccs"]
    case .networkPolicy: ["np", "cnp", "policy", "policies"]
    case .networkSet: ["netset", "netsets", "ns"]
    case .stagedGlobalNetworkPolicy: ["sgnp"]
    case .stagedKubernetesNetworkPolicy: ["sknp"]
    case .stagedNetworkPolicy: ["snp", "scnp"]
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
  /// Nil where nothing is reported, and for kinds whose status is kept as it stands. Writing nil keeps what is stored.
  public var status: ResourceStatus?
  public init(_ metadata: Metadata, _ spec: Spec, status: ResourceStatus? = nil) {
    self.metadata = metadata
    self.spec = spec
    self.status = status
  }
  public var kind: Kind { spec.kind }
  public var key: ResourceKey { ResourceKey(kind, namespace: metadata.namespace, name: metadata.name) }

  public enum Spec: Hashable, Sendable {
    case bgpConfiguration(BGPConfigurationSpec)
    case bgpFilter(BGPFilterSpec)
    case bgpPeer(BGPPeerSpec)
    case blockAffinity(BlockAffinitySpec)
    case calicoNodeStatus(CalicoNodeStatusSpec)
    case clusterInformation(ClusterInformationSpec)
    case felixConfiguration(FelixConfigurationSpec)
    case globalNetworkPolicy(PolicySpec)
    case globalNetworkSet(NetworkSetSpec)
    case hostEndpoint(HostEndpointSpec)
    case ipamConfiguration(IPAMConfigurationSpec)
    case ipPool(IPPoolSpec)
    case ipReservation(IPReservationSpec)
    case kubeControllersConfiguration(KubeControllersConfigurationSpec)
    case kubernetesEndpointSlice(EndpointSliceSpec)
    case liveMigration(LiveMigrationSpec)
    case networkPolicy(PolicySpec)
    case networkSet(NetworkSetSpec)
    case node(NodeSpec)
    case profile(ProfileSpec)
    case stagedGlobalNetworkPolicy(StagedPolicySpec)
    case stagedKubernetesNetworkPolicy(StagedKubernetesPolicySpec)
    case stagedNetworkPolicy(StagedPolicySpec)
    case tier(TierSpec)
    case workloadEndpoint(WorkloadEndpointSpec)

    public var kind: Kind {
      switch self {
      case .bgpConfiguration: .bgpConfiguration
      case .bgpFilter: .bgpFilter
      case .bgpPeer: .bgpPeer
      case .blockAffinity: .blockAffinity
      case .calicoNodeStatus: .calicoNodeStatus
      case .clusterInformation: .clusterInformation
      case .felixConfiguration: .felixConfiguration
      case .globalNetworkPolicy: .globalNetworkPolicy
      case .globalNetworkSet: .globalNetworkSet
      case .hostEndpoint: .hostEndpoint
      case .ipamConfiguration: .ipamConfiguration
      case .ipPool: .ipPool
      case .ipReservation: .ipReservation
      case .kubeControllersConfiguration: .kubeControllersConfiguration
      case .kubernetesEndpointSlice: .kubernetesEndpointSlice
      case .liveMigration: .liveMigration
      case .networkPolicy: .networkPolicy
      case .networkSet: .networkSet
      case .node: .node
      case .profile: .profile
      case .stagedGlobalNetworkPolicy: .stagedGlobalNetworkPolicy
      case .stagedKubernetesNetworkPolicy: .stagedKubernetesNetworkPolicy
      case .stagedNetworkPolicy: .stagedNetworkPolicy
      case .tier: .tier
      case .workloadEndpoint: .workloadEndpoint
      }
    }
  }
}

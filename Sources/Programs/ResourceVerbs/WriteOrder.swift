/// The order in which objects of one command are written: what others need comes first. Deletion goes the other way.
///
/// Within a rank the order of the documents stays.
public import Resources

public enum WriteOrder {
  /// One reason per line.
  static let ranks: [[Kind]] = [
    // What daemons read before all else, so that the rest meets the settings it was written for.
    [.clusterInformation, .felixConfiguration, .kubeControllersConfiguration, .ipamConfiguration],
    // A policy is refused without its tier.
    [.tier],
    // A reservation written after its pool would come too late for the first address.
    [.ipReservation],
    // Nodes, endpoints and blocks have addresses of them.
    [.ipPool],
    // A peer names its filters.
    [.bgpFilter],
    // The mesh or its absence is settled before the first node brings sessions up.
    [.bgpConfiguration],
    [.node],
    // A peer selects nodes.
    [.bgpPeer],
    // Sets come before the policies that select them and endpoints come last, so that no traffic flows before what restricts it.
    [.networkSet, .globalNetworkSet, .kubernetesEndpointSlice],
    [.profile],
    [.globalNetworkPolicy, .networkPolicy, .stagedGlobalNetworkPolicy, .stagedNetworkPolicy, .stagedKubernetesNetworkPolicy],
    [.hostEndpoint],
    [.workloadEndpoint],
    // These speak of nodes and endpoints.
    [.blockAffinity, .calicoNodeStatus, .liveMigration],
  ]

  static func rank(of kind: Kind) -> Int { ranks.firstIndex { $0.contains(kind) } ?? ranks.count }

  public static func writing<Element>(_ elements: [Element], _ kind: (Element) -> Kind) -> [Element] {
    elements.enumerated().sorted { (rank(of: kind($0.element)), $0.offset) < (rank(of: kind($1.element)), $1.offset) }.map(\.element)
  }
  public static func deleting<Element>(_ elements: [Element], _ kind: (Element) -> Kind) -> [Element] {
    writing(elements, kind).reversed()
  }
}

/// What Felix reads of the datastore.
import AddressAssignment
import Datastore
import Resources

extension FelixAgent {
  static func feed(_ datastore: any Datastore, node: String) -> ResourceFeed {
    let kinds: [Kind] = [
      .bgpConfiguration, .felixConfiguration, .globalNetworkPolicy, .globalNetworkSet, .hostEndpoint, .ipPool, .kubernetesEndpointSlice,
      .liveMigration,
      .networkPolicy, .networkSet, .node, .profile, .stagedGlobalNetworkPolicy, .stagedKubernetesNetworkPolicy, .stagedNetworkPolicy, .tier, .workloadEndpoint,
    ]
    return ResourceFeed(datastore, kinds: kinds, rawPrefixes: BlockReading.prefixes)
  }
}

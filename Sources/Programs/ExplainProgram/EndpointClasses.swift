/// Endpoints that no policy can tell apart, so that a question about thousands of them is asked of a few.
///
/// What tells two apart: namespace, profiles, named ports, families, the labels that some selector asks for, and which of the networks that
/// some rule or set names hold their addresses. Where hosts have endpoints of their own, the host as well.
import Addresses
import PolicyOracle
import Resources
import Selectors

struct EndpointClass: Hashable, Sendable {
  var namespace: String?
  var profiles: [String]
  var ports: [WorkloadEndpointSpec.NamedPort]
  var labels: [String: String]
  var families: Set<IPFamily>
  var networks: Set<IPPrefix>
  var host: String?
}

/// What the objects of a cluster ask of endpoints.
struct PolicyVocabulary {
  private(set) var labels: Set<String> = [
    "projectcalico.org/namespace", "projectcalico.org/serviceaccount", "projectcalico.org/orchestrator",
  ]
  private(set) var networks: Set<IPPrefix> = []
  private(set) var hasHostEndpoints = false
  private var lengths: [IPFamily: Set<UInt8>] = [:]

  mutating func add(_ resources: [Resource]) {
    for resource in resources {
      switch resource.spec {
      case .networkPolicy(let spec), .globalNetworkPolicy(let spec):
        add([spec.selector, spec.namespaceSelector, spec.serviceAccountSelector])
        (spec.ingress + spec.egress).forEach { add($0) }
      case .profile(let spec): (spec.ingress + spec.egress).forEach { add($0) }
      case .networkSet(let spec), .globalNetworkSet(let spec): add(networks: spec.nets)
      case .kubernetesEndpointSlice(let slice): add(networks: slice.endpoints.flatMap(\.addresses).map(\.hostPrefix))
      case .hostEndpoint: hasHostEndpoints = true
      default: break
      }
    }
  }

  private mutating func add(_ rule: Rule) {
    for side in [rule.source, rule.destination] {
      add([side.selector, side.notSelector, side.namespaceSelector, side.serviceAccounts?.selector])
      add(networks: side.nets + side.notNets)
    }
  }
  private mutating func add(_ selectors: [String?]) {
    for text in selectors {
      guard let text, let selector = try? Selector(parsing: text) else { continue }
      for label in selector.labels { labels.formUnion([label, "pcns.\(label)", "pcsa.\(label)"]) }
    }
  }
  private mutating func add(networks nets: [IPPrefix]) {
    for net in nets where networks.insert(net).inserted { lengths[net.family, default: []].insert(net.length) }
  }

  /// The named networks that hold an address: one look-up for each length that there is.
  func networks(holding address: IPAddress) -> Set<IPPrefix> {
    Set((lengths[address.family] ?? []).map { IPPrefix(address, length: $0) }.filter(networks.contains))
  }

  func classify(_ endpoint: Entity) -> EndpointClass {
    EndpointClass(
      namespace: endpoint.namespace, profiles: endpoint.profiles, ports: endpoint.ports, labels: endpoint.labels.filter { labels.contains($0.key) },
      families: Set(endpoint.nets.map(\.family)), networks: Set(endpoint.nets.flatMap { networks(holding: $0.address) }),
      host: hasHostEndpoints ? endpoint.node : nil)
  }
}

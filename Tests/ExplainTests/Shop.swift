/// A small shop on two hosts, as an operator writes it: what the tests ask about.
import Datastore
import DatastoreMemory
import Documents
import ExplainProgram
import JSON
import Resources

enum Shop {
  static let documents = """
    apiVersion: projectcalico.org/v3
    kind: Node
    metadata: {name: host1}
    spec: {bgp: {ipv4Address: 172.30.1.2/24, ipv6Address: "fd30:0:0:1::2/64"}}
    ---
    apiVersion: projectcalico.org/v3
    kind: Node
    metadata: {name: host2}
    spec: {bgp: {ipv4Address: 172.30.2.2/24}}
    ---
    apiVersion: projectcalico.org/v3
    kind: Profile
    metadata: {name: kns.shop}
    spec:
      ingress: [{action: Allow}]
      egress: [{action: Allow}]
      labelsToApply: {pcns.zone: trusted}
    ---
    apiVersion: projectcalico.org/v3
    kind: WorkloadEndpoint
    metadata: {name: host1-k8s-client--1-eth0, namespace: shop, labels: {app: client}}
    spec:
      {orchestrator: k8s, node: host1, pod: client-1, endpoint: eth0, interfaceName: cali0a, profiles: [kns.shop],
       ipNetworks: [10.65.0.7/32, "fd65::7/128"]}
    ---
    apiVersion: projectcalico.org/v3
    kind: WorkloadEndpoint
    metadata: {name: host2-k8s-web--1-eth0, namespace: shop, labels: {app: web}}
    spec:
      {orchestrator: k8s, node: host2, pod: web-1, endpoint: eth0, interfaceName: cali0b, profiles: [kns.shop],
       ipNetworks: [10.65.1.2/32, "fd65::1:2/128"]}
    ---
    apiVersion: projectcalico.org/v3
    kind: WorkloadEndpoint
    metadata: {name: host2-k8s-db--1-eth0, namespace: shop, labels: {app: db}}
    spec:
      {orchestrator: k8s, node: host2, pod: db-1, endpoint: eth0, interfaceName: cali0c, profiles: [kns.shop],
       ipNetworks: [10.65.1.3/32]}
    ---
    apiVersion: projectcalico.org/v3
    kind: WorkloadEndpoint
    metadata: {name: host1-k8s-web--1-eth0, namespace: blog, labels: {app: web}}
    spec:
      {orchestrator: k8s, node: host1, pod: web-1, endpoint: eth0, interfaceName: cali0d, profiles: [kns.blog],
       ipNetworks: [10.65.0.8/32, "fd65::8/128"]}
    ---
    apiVersion: projectcalico.org/v3
    kind: GlobalNetworkSet
    metadata: {name: office, labels: {place: office}}
    spec: {nets: [192.0.2.0/24]}
    ---
    apiVersion: projectcalico.org/v3
    kind: Tier
    metadata: {name: security}
    spec: {order: 100}
    ---
    apiVersion: projectcalico.org/v3
    kind: GlobalNetworkPolicy
    metadata: {name: security.trusted-only}
    spec:
      tier: security
      order: 20
      selector: app in {"web", "db"}
      types: [Ingress]
      ingress:
        - {action: Log, protocol: UDP}
        - {action: Pass, source: {namespaceSelector: zone == "trusted"}}
        - {action: Deny}
    ---
    apiVersion: projectcalico.org/v3
    kind: NetworkPolicy
    metadata: {name: web, namespace: shop}
    spec:
      order: 100
      selector: app == "web"
      types: [Ingress]
      ingress:
        - {action: Allow, protocol: ICMP, icmp: {type: 8}}
        - {action: Allow, protocol: TCP, source: {selector: app == "client"}, destination: {ports: [80, "8000:8100"]}}
    ---
    apiVersion: projectcalico.org/v3
    kind: NetworkPolicy
    metadata: {name: watch, namespace: shop}
    spec:
      order: 200
      selector: app == "db"
      types: [Ingress]
      ingress:
        - {action: Log}

    """

  /// Stored and read back, as the command would find it; `more` is stored unchecked.
  static func cluster(_ more: [(key: ResourceKey, value: String)] = []) async throws -> Cluster {
    let store = ResourceStore(MemoryDatastore())
    for document in try DocumentReader.read(bytes: Array(documents.utf8), file: "shop.yaml") {
      let resource = try ResourceCodec.decodeStrict(document).get()
      try await store.apply(resource, document: document.value)
    }
    for (key, value) in more { _ = try await store.datastore.transact(if: [], then: [.put(key.path, Array(value.utf8))]) }
    return try await Cluster.read(store)
  }
}

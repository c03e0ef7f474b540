/// What the demo applies with `margay apply -f`: pools, BGP, profiles and policies, as an operator would write them.
import Addresses

public enum DemoDocuments {
  /// Pools for both families; BGP for one arrangement.
  public static func network(_ topology: Topology, _ arrangement: Topology.Arrangement) -> String {
    var text = """
      apiVersion: projectcalico.org/v3
      kind: IPPool
      metadata: {name: pool-v4}
      spec:
        cidr: \(Topology.pool4)
        blockSize: 26
      ---
      apiVersion: projectcalico.org/v3
      kind: IPPool
      metadata: {name: pool-v6}
      spec:
        cidr: \(Topology.pool6)
        blockSize: 122

      """
    text += bgp(topology, arrangement)
    return text
  }

  /// Only the BGP part, to change the arrangement of a running lab.
  public static func bgp(_ topology: Topology, _ arrangement: Topology.Arrangement) -> String {
    var text = """
      ---
      # \(arrangement == .mesh ? "All hosts in one AS with a full mesh between them." : "Every host an AS of its own; no mesh.")
      apiVersion: projectcalico.org/v3
      kind: BGPConfiguration
      metadata: {name: default}
      spec:
        nodeToNodeMeshEnabled: \(arrangement == .mesh)
        asNumber: 64512

      """
    for host in topology.hosts {
      for (family, address) in [("v4", host.routerAddress4.address), ("v6", host.routerAddress6.address)] {
        text += """
          ---
          apiVersion: projectcalico.org/v3
          kind: BGPPeer
          metadata: {name: \(host.name)-rack-\(family)}
          spec:
            node: \(host.name)
            peerIP: "\(address)"
            asNumber: \(topology.routerAS(arrangement))

          """
      }
    }
    return text
  }

  /// One profile for each namespace: it allows everything, so that policies alone take away.
  public static func profiles(_ namespaces: [String]) -> String {
    namespaces.map { namespace in
      """
      ---
      apiVersion: projectcalico.org/v3
      kind: Profile
      metadata: {name: kns.\(namespace)}
      spec:
        ingress: [{action: Allow}]
        egress: [{action: Allow}]
        labelsToApply:
          pcns.projectcalico.org/name: \(namespace)
          pcns.zone: \(namespace == "outside" ? "untrusted" : "trusted")

      """
    }.joined()
  }

  public static let policies = """
    # A tier that is asked first. What it passes on, the default tier decides.
    apiVersion: projectcalico.org/v3
    kind: Tier
    metadata: {name: security}
    spec: {order: 100}
    ---
    apiVersion: projectcalico.org/v3
    kind: GlobalNetworkPolicy
    metadata: {name: quarantine}
    spec:
      tier: security
      order: 10
      selector: app == "intruder"
      types: [Ingress, Egress]
      ingress:
        - action: Deny
      egress:
        - action: Pass
          protocol: UDP
          destination: {ports: [53]}
        - action: Deny
    ---
    apiVersion: projectcalico.org/v3
    kind: GlobalNetworkPolicy
    metadata: {name: trusted-only}
    spec:
      tier: security
      order: 20
      selector: app in {"web", "db"}
      types: [Ingress]
      ingress:
        - action: Pass
          source: {namespaceSelector: zone == "trusted"}
        - action: Pass
          protocol: UDP
        - action: Deny
    ---
    apiVersion: projectcalico.org/v3
    kind: NetworkPolicy
    metadata: {name: web, namespace: shop}
    spec:
      order: 100
      selector: app == "web"
      types: [Ingress]
      ingress:
        - action: Allow
          protocol: TCP
          destination: {ports: [80, "8000:8100"]}
        - action: Allow
          protocol: ICMP
          source: {selector: app == "client"}
        - action: Allow
          protocol: ICMPv6
          source: {selector: app == "client"}
    ---
    apiVersion: projectcalico.org/v3
    kind: NetworkPolicy
    metadata: {name: database, namespace: shop}
    spec:
      order: 100
      selector: app == "db"
      types: [Ingress, Egress]
      ingress:
        - action: Allow
          protocol: TCP
          source: {selector: app == "web"}
          destination: {ports: [5432]}
        - action: Allow
          protocol: UDP
          source: {notSelector: has(team)}
          destination: {notPorts: [5432]}
      egress:
        - action: Deny
          protocol: TCP
        - action: Allow
    ---
    apiVersion: projectcalico.org/v3
    kind: GlobalNetworkSet
    metadata:
      name: datacenter
      labels: {role: datacenter}
    spec:
      nets: ["\(Topology.pool4)", "\(Topology.pool6)"]
    ---
    apiVersion: projectcalico.org/v3
    kind: GlobalNetworkPolicy
    metadata: {name: red-team}
    spec:
      order: 200
      selector: team == "red"
      types: [Egress]
      egress:
        - action: Allow
          protocol: TCP
          destination: {selector: role == "datacenter", ports: [80]}
        - action: Allow
          notProtocol: TCP
          destination: {notNets: ["192.0.2.0/24"]}
        - action: Allow
          notProtocol: TCP
          destination: {notNets: ["2001:db8::/32"]}

    """

  /// Replaces `web`: the clients lose TCP port 80, and gain UDP port 53. Applied while traffic flows.
  public static let changedWeb = """
    apiVersion: projectcalico.org/v3
    kind: NetworkPolicy
    metadata: {name: web, namespace: shop}
    spec:
      order: 100
      selector: app == "web"
      types: [Ingress]
      ingress:
        - action: Allow
          protocol: UDP
          destination: {ports: [53]}
        - action: Allow
          protocol: ICMP
          source: {selector: app == "client"}
        - action: Allow
          protocol: ICMPv6
          source: {selector: app == "client"}

    """
}

/// The demo's policies, as an operator would write them. `Examples/datacenter-policies.yaml` is the same as a file; a test compares them.

public enum DemoDocuments {
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

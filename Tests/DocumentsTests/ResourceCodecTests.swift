import Addresses
import JSON
import Resources
import Testing

@testable import Documents

private func documents(_ text: String) throws -> [PositionedDocument] { try DocumentReader.read(bytes: Array(text.utf8), file: "p.yaml") }

private func errors(_ text: String) throws -> [String] {
  try documents(text).flatMap { document -> [String] in
    if case .failure(let errors) = ResourceCodec.decodeStrict(document) { errors.errors.map(\.description) } else { [] }
  }
}

private func resource(_ text: String) throws -> Resource { try ResourceCodec.decodeStrict(try documents(text)[0]).get() }

private func stored(_ kind: Kind, _ text: String) throws -> Resource {
  try ResourceCodec.decodeLenient(kind: kind, value: try documents(text)[0].value)
}

/// A policy with the given rule in its ingress list.
private func policy(_ rule: String, kind: String = "NetworkPolicy", direction: String = "ingress") -> String {
  """
  apiVersion: projectcalico.org/v3
  kind: \(kind)
  metadata: {name: p}
  spec:
    \(direction):
    - \(rule)
  """
}

@Suite("Resources: strict reading")
struct StrictTests {
  @Test("A full policy reads as written, with its defaults")
  func fullPolicy() throws {
    let resource = try resource(
      """
      apiVersion: projectcalico.org/v3
      kind: NetworkPolicy
      metadata:
        name: allow-web
        namespace: prod
        labels: {a.b/c: d}
      spec:
        order: 100.5
        selector: role == 'web'
        serviceAccountSelector: has(x)
        ingress:
        - action: Allow
          protocol: TCP
          ipVersion: 4
          source:
            selector: role == 'client'
            namespaceSelector: all()
            notNets: [10.0.0.0/8]
            serviceAccounts: {names: [a], selector: b == 'c'}
          destination: {ports: [80, "8000:8100", http, "443"], notPorts: [81]}
          metadata: {annotations: {why: because}}
        - {action: Deny, protocol: ICMP, icmp: {type: 8, code: 0}}
        - {action: Log, protocol: 47}
        - {action: Pass, source: {nets: [1.2.3.4, 10.0.0.0/8]}}
      """)
    guard case .networkPolicy(let spec) = resource.spec else { return #expect(Bool(false), "\(resource.spec)") }
    #expect(resource.key == ResourceKey(.networkPolicy, namespace: "prod", name: "allow-web"))
    #expect(spec.tier == "default" && spec.order == 100.5 && spec.types == [.ingress] && spec.serviceAccountSelector == "has(x)")
    let rule = spec.ingress[0]
    #expect(rule.action == .allow && rule.ipProtocol == .tcp && rule.ipVersion == .v4 && rule.annotations == ["why": "because"])
    #expect(rule.source.notNets == [IPPrefix("10.0.0.0/8")!] && rule.source.namespaceSelector == "all()")
    #expect(rule.source.serviceAccounts == ServiceAccountMatch(names: ["a"], selector: "b == 'c'"))
    #expect(
      rule.destination.ports == [.port(80), .range(8000...8100), .named("http"), .port(443)] && rule.destination.notPorts == [.port(81)])
    #expect(spec.ingress[1].icmp == ICMPMatch(type: 8, code: 0) && spec.ingress[2].ipProtocol == NetworkProtocol(number: 47))
    #expect(spec.ingress[3].source.nets == [IPPrefix("1.2.3.4/32")!, IPPrefix("10.0.0.0/8")!])
  }

  @Test(
    "Absent types are written out by the rules present",
    arguments: [
      ("{}", [.ingress]), ("{ingress: [{action: Allow}]}", [.ingress]), ("{egress: [{action: Allow}]}", [.egress]),
      ("{ingress: [{action: Allow}], egress: [{action: Allow}]}", [.ingress, .egress]), ("{types: [Egress]}", [.egress]),
    ] as [(String, [Direction])])
  func types(spec: String, types: [Direction]) throws {
    let resource = try resource("{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: p}, spec: \(spec)}")
    guard case .globalNetworkPolicy(let spec) = resource.spec else { return #expect(Bool(false)) }
    #expect(spec.types == types)
  }

  @Test("Every error of a document is reported, in its order, each with place and fix")
  func allErrors() throws {
    #expect(
      try errors(
        """
        apiVersion: projectcalico.org/v1
        kind: GlobalNetworkPolicy
        metadata:
          name: Allow-Web
          lables: {}
        spec:
          selector: role = 'web'
          order: "10"
          ingress:
          - action: Alow
            protocol: TCP
            source:
              nets:
              - 10.0.0.1/8
              selectr: all()
            destination:
              ports: [70000, "9:1"]
        """) == [
          "p.yaml:1:13: apiVersion: \"projectcalico.org/v1\" is not the API of this object; write projectcalico.org/v3",
          "p.yaml:4:9: metadata.name: \"Allow-Web\" is not a name for kind GlobalNetworkPolicy: 'A' is an upper-case letter; write \"allow-web\"",
          "p.yaml:5:3: metadata.lables: is not a field that exists here; did you mean labels?",
          "p.yaml:7:13: spec.selector: \"role = 'web'\" is not a selector: character 6: a single '='; write ==",
          "p.yaml:8:10: spec.order: \"10\" is not a number; remove the quotes",
          "p.yaml:10:13: spec.ingress[0].action: \"Alow\" is none of Allow, Deny, Log, Pass; did you mean Allow?",
          "p.yaml:14:9: spec.ingress[0].source.nets[0]: \"10.0.0.1/8\" is not a network: host bits are set; write 10.0.0.0/8",
          "p.yaml:15:7: spec.ingress[0].source.selectr: is not a field that exists here; did you mean selector?",
          "p.yaml:17:15: spec.ingress[0].destination.ports[0]: 70000 is not a whole number from 1 to 65535",
          "p.yaml:17:22: spec.ingress[0].destination.ports[1]: \"9:1\" is not a port or a range of ports from 1 to 65535, lower end first; "
            + "write a number, a range such as 8000:8100, or a port's name",
        ])
  }

  @Test("JSON input has the same positions")
  func jsonPositions() throws {
    let text =
      "{\"apiVersion\":\"projectcalico.org/v3\",\"kind\":\"Tier\",\n \"metadata\":{\"name\":\"t\"},\"spec\":{\"defaultAction\":\"Drop\"}}"
    #expect(try errors(text) == ["p.yaml:2:50: spec.defaultAction: \"Drop\" is none of Deny, Pass"])
  }

  @Test(
    "Rules that Calico refuses are refused",
    arguments: [
      ("{protocol: TCP}", "has no action"), ("{action: allow}", "did you mean Allow?"),
      ("{action: Allow, protocol: XYZ}", "is not a protocol"),
      ("{action: Allow, protocol: 0}", "is not a protocol"), ("{action: Allow, protocol: 256}", "is not a protocol"),
      ("{action: Allow, ipVersion: 5}", "neither 4 nor 6"), ("{action: Allow, destination: {ports: [80]}}", "no protocol"),
      ("{action: Allow, protocol: ICMP, destination: {ports: [80]}}", "has no ports"),
      ("{action: Allow, icmp: {type: 8}}", "needs protocol ICMP"),
      ("{action: Allow, protocol: ICMP, icmp: {code: 8}}", "code without a type"),
      ("{action: Allow, protocol: ICMP, icmp: {type: 255}}", "0 to 254"),
      ("{action: Allow, protocol: ICMP, ipVersion: 6}", "needs ipVersion 4"),
      ("{action: Allow, notProtocol: ICMPv6, ipVersion: 4}", "needs ipVersion 6"),
      ("{action: Allow, source: {nets: [10.0.0.0/8, 'fd00::/8']}}", "is IPv6, but"),
      ("{action: Allow, ipVersion: 6, source: {nets: [10.0.0.0/8]}}", "is IPv4, but"),
      ("{action: Allow, source: {nets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8']}}", "one rule per family"),
      ("{action: Allow, source: {notNets: [0.0.0.0/0]}}", "leaves no address"),
      ("{action: Allow, source: {nets: [10.0.0.0/33]}}", "0 to 32 for IPv4"),
      ("{action: Allow, source: {nets: [10]}}", "is not a text"), ("{action: Allow, source: {nets: 10.0.0.0/8}}", "is not a list"),
      ("{action: Allow, source: {selector: a}}", "stands alone"), ("{action: Allow, source: {selector: global()}}", "move it"),
      ("{action: Allow, source: {namespaceSelector: global() || has(a)}}", "use two rules"),
      ("{action: Deny, http: {methods: [GET]}}", "needs action Allow"),
      ("{action: Allow, protocol: UDP, http: {methods: [GET]}}", "needs protocol TCP"),
      ("{action: Allow, http: {methods: [GET, GET]}}", "appears twice"),
      ("{action: Allow, http: {paths: [{}]}}", "add exact or prefix"),
      ("{action: Allow, http: {paths: [{exact: /a, prefix: /b}]}}", "both exact and prefix"),
      ("{action: Allow, http: {paths: [{exact: a}]}}", "begin with '/'"),
      ("{action: Allow, http: {paths: [{prefix: '/a?b'}]}}", "'?' is not allowed"),
      ("{action: Allow, source: {serviceAccounts: {selector: global()}}}", "holds global()"),
      ("{action: Allow, destination: {services: {name: a}}}", "wrong side"),
      ("{action: Allow, source: {services: {name: a}, selector: all()}}", "cannot be combined"),
      ("{action: Allow, source: {services: {namespace: a}}}", "has no name"),
      ("{action: Allow, protocol: TCP, destination: {ports: ['a b']}}", "is not a port"),
      ("{action: Allow, protocol: TCP, destination: {ports: [0]}}", "1 to 65535"),
      ("{action: Allow, protocol: TCP, destination: {ports: ['1:65536']}}", "lower end first"),
      ("{action: Allow, protcol: TCP}", "did you mean protocol?"), ("Allow", "is not an object"),
      ("{action: Allow, source: []}", "is not an object"),
    ])
  func badRules(rule: String, part: String) throws {
    let errors = try errors(policy(rule))
    #expect(errors.count == 1 && errors[0].contains(part) && errors[0].hasPrefix("p.yaml:6:"), "\(errors)")
  }

  @Test(
    "Rules that look odd but are fine",
    arguments: [
      "{action: Allow, destination: {ports: [http]}}", "{action: Allow, protocol: tcp, destination: {ports: [1, 65535]}}",
      "{action: Allow, protocol: 132, destination: {ports: [80]}}", "{action: Allow, protocol: 58, icmp: {type: 128}}",
      "{action: Allow, source: null}",
      "{action: Allow, source: {namespaceSelector: global()}}", "{action: Allow, source: {services: {name: a}}}",
      "{action: Allow, source: {}}", "{action: Allow, protocol: TCP, source: {services: {name: a}, ports: [80]}}",
      "{action: Allow, source: {nets: ['::ffff:1.2.3.4', '::/0']}}",
    ])
  func goodRules(rule: String) throws { #expect(try errors(policy(rule)) == []) }

  @Test(
    "Documents that Calico refuses are refused",
    arguments: [
      ("[1]", "is not an object"), ("{kind: Tier, metadata: {name: a}}", "has no apiVersion"),
      ("{apiVersion: projectcalico.org/v3}", "has no kind"),
      ("{apiVersion: projectcalico.org/v3, kind: NetworkPolcy}", "did you mean NetworkPolicy?"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier}", "has no metadata"),
      ("{apiVersion: projectcalico.org/v3, kind: HostEndpont}", "did you mean HostEndpoint?"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {}}", "is missing"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a.b}}", "'.'"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: 7}}", "in quotes"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a, namespace: b}}", "has no namespace"),
      ("{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: a.b.c}}", "at most two"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a, labels: {-a: b}}}", "is not a label"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a, labels: {a: yes}}}", "put it in quotes"),
      ("{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: a}, spec: {doNotTrack: true}}", "applyOnForward"),
      ("{apiVersion: projectcalico.org/v3, kind: GlobalNetworkPolicy, metadata: {name: a}, spec: {selector: global()}}", "global()"),
      ("{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: a}, spec: {namespaceSelector: all()}}", "is not a field"),
      ("{apiVersion: projectcalico.org/v3, kind: NetworkPolicy, metadata: {name: a}, spec: {types: [Ingress, Ingress]}}", "twice"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: default}, spec: {order: 5}}", "spec.order: 5 is not that of tier default"),
      (
        "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: kube-admin}, spec: {order: 1000, defaultAction: Deny}}",
        "spec.defaultAction: \"Deny\" is not that of tier kube-admin, which cannot change; write Pass"
      ),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {generateName: a-}}", "only a Kubernetes API server"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a, finalizers: [-x]}}", "is not a finalizer"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a, ownerReferences: [{apiVersion: v1, kind: Pod, name: p}]}}", "has no uid"),
      ("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a, creationTimestamp: yesterday}}", "is not a time"),
      ("{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: a}, spec: {interfaceName: eth0}}", "spec.node: is missing"),
      ("{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: a}, spec: {node: n}}", "names no interface"),
      ("{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: a}, spec: {node: n, interfaceName: abcdefghijklmnop}}", "at most 15"),
      (
        "{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: a}, spec: {node: n, interfaceName: eth0, ports: [{name: a, protocol: ICMP, port: 1}]}}",
        "use TCP, UDP or SCTP"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: StagedNetworkPolicy, metadata: {name: a}, spec: {stagedAction: Delete, tier: t, selector: all()}}",
        "no place beside stagedAction Delete"
      ),
      ("{apiVersion: projectcalico.org/v3, kind: StagedNetworkPolicy, metadata: {name: a}, spec: {stagedAction: Sett}}", "did you mean Set?"),
      (
        "{apiVersion: projectcalico.org/v3, kind: StagedGlobalNetworkPolicy, metadata: {name: a}, spec: {preDNAT: true, applyOnForward: true, egress: [{action: Allow}]}}",
        "must be empty in a policy with preDNAT"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: StagedKubernetesNetworkPolicy, metadata: {name: a}, spec: {ingress: [{from: [{}]}]}}",
        "names no peer"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: StagedKubernetesNetworkPolicy, metadata: {name: a}, spec: {ingress: [{ports: [{port: http, endPort: 9}]}]}}",
        "needs a port that is a number"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: StagedKubernetesNetworkPolicy, metadata: {name: a}, spec: {podSelector: {matchExpressions: [{key: a, operator: In}]}}}",
        "must not be empty"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: StagedKubernetesNetworkPolicy, metadata: {name: a}, spec: {egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/8]}}]}]}}",
        "is not a part of 10.0.0.0/8"
      ),
      ("{apiVersion: projectcalico.org/v3, kind: LiveMigration, metadata: {name: a}, spec: {target: {selector: all()}}}", "spec.source: is missing"),
      (
        "{apiVersion: projectcalico.org/v3, kind: LiveMigration, metadata: {name: a}, spec: {target: {selector: all()}, source: {workload: {hostname: h, orchestratorID: openstack}}}}",
        "workloadID: is missing"
      ),
      ("{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}}", "cidr"),
      ("{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}, spec: {cidr: x}}", "is not a network"),
      ("{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}, spec: {cidr: 10.0.0.0/28}}", "blockSize 28"),
      ("{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}, spec: {cidr: 10.0.0.0/16, blockSize: 19}}", "20 to 32"),
      ("{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}, spec: {cidr: 'fd00::/64', ipipMode: Always}}", "IPv6 pool"),
      ("{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: a}, spec: {cidr: 169.254.1.0/24}}", "link-local"),
      ("{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {name: a}, spec: {peerIP: 1.2.3}}", "is not an address"),
      ("{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {name: a}, spec: {peerIP: 1.2.3.4}}", "without asNumber"),
      ("{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {name: a}, spec: {}}", "names no peer"),
      ("{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: a}, spec: {bgp: {}}}", "is empty"),
      ("{apiVersion: projectcalico.org/v3, kind: Node, metadata: {name: a}, spec: {bgp: {ipv4Address: 'fd00::1/64'}}}", "172.30.1.2/24"),
      (
        "{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {name: default}, spec: {ipv6Suport: true}}",
        "did you mean ipv6Support?"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {name: default}, spec: {routeRefreshInterval: 90}}",
        "put it in quotes"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {name: default}, spec: {routeRefreshInterval: soon}}", "90s"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: GlobalNetworkSet, metadata: {name: a, labels: {projectcalico.org/namespace: b}}}",
        "set by the system"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: n-k8s-p-eth0}, spec: {orchestrator: k8s, node: n, pod: q, endpoint: eth0}}",
        "write n-k8s-q-eth0"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: n-k8s-p-eth0}, spec: {orchestrator: k8s, node: n, pod: p, endpoint: eth0, ipNetworks: [10.0.0.0/24]}}",
        "write /32"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: n-k8s-p-eth0}, spec: {orchestrator: k8s, node: n, pod: p, endpoint: eth0, mac: x}}",
        "is not a MAC"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: n-k8s-p-eth0}, spec: {orchestrator: k8s, node: n, pod: p, endpoint: eth0, ipNetworks: [10.0.0.1], ipNATs: [{internalIP: 10.0.0.2, externalIP: 1.2.3.4}]}}",
        "none of the endpoint's addresses"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: n-k8s-p-eth0}, spec: {orchestrator: k8s, node: n, pod: p, endpoint: eth0, ipNetworks: [10.0.0.1], ipNATs: [{internalIP: 10.0.0.1, externalIP: 'fd00::1'}]}}",
        "is IPv6, but internalIP is IPv4"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: n-k8s-p-eth0}, spec: {orchestrator: k8s, node: n, pod: p, endpoint: eth0, qosControls: {ingressBandwidth: 999}}}",
        "from 1000 to 1000000000000000 (bits per second)"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: n-k8s-p-eth0}, spec: {orchestrator: k8s, node: n, pod: p, endpoint: eth0, qosControls: {dscp: 64}}}",
        "is not a code point"
      ),
      (
        "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: n-k8s-p-eth0}, spec: {orchestrator: k8s, node: n, pod: p, endpoint: eth0, ipv4Gateway: 'fe80::1'}}",
        "is not an IPv4 address"
      ),
    ])
  func badDocuments(text: String, part: String) throws {
    let errors = try errors("---\n" + text)
    #expect(errors.count == 1 && errors[0].contains(part), "\(errors)")
  }

  @Test(
    "Networking documents that Calico refuses are refused",
    arguments: [
      ("IPReservation", "default", "{reservedCIDRs: [10.0.0.1/8]}", "write 10.0.0.0/8"),
      ("IPAMConfiguration", "default", "{strictAffinity: false, autoAllocateBlocks: false}", "no node a block"),
      ("IPAMConfiguration", "default", "{maxBlocksPerHost: 3}", "strictAffinity: true"),
      ("IPAMConfiguration", "default", "{ipCooldownSeconds: 1201}", "0 to 1200"),
      ("IPAMConfiguration", "default", "{kubeVirtVMAddressPersistence: enabled}", "did you mean Enabled?"),
      ("BlockAffinity", "a", "{node: n, cidr: 10.0.0.0/26}", "spec.state: is missing"),
      ("BlockAffinity", "a", "{node: n, cidr: 10.0.0.0/26, state: confirmd}", "did you mean confirmed?"),
      ("CalicoNodeStatus", "a", "{node: n, classes: [], updatePeriodSeconds: 10}", "[Agent, BGP, Routes]"),
      ("CalicoNodeStatus", "a", "{node: n, classes: [BGP, BGP], updatePeriodSeconds: 10}", "BGP twice"),
      ("CalicoNodeStatus", "a", "{node: n, classes: [BGP], updatePeriodSeconds: 86401}", "0 to 86400"),
      ("CalicoNodeStatus", "a", "{classes: [BGP], updatePeriodSeconds: 1}", "spec.node: is missing"),
      ("KubeControllersConfiguration", "default", "{etcdV3CompactionPeriod: '10'}", "add the unit: 10s"),
      ("KubeControllersConfiguration", "default", "{etcdV3CompactionPeriod: -10m}", "is negative"),
      ("KubeControllersConfiguration", "default", "{controllers: {loadbalancer: {}}}", "did you mean loadBalancer?"),
      ("KubeControllersConfiguration", "default", "{controllers: {node: {hostEndpoint: {templates: [{generateName: a}]}}}}", "no interface"),
      (
        "KubeControllersConfiguration", "default", "{controllers: {node: {hostEndpoint: {templates: [{interfacePattern: '('}]}}}}",
        "regular expression"
      ),
      (
        "KubeControllersConfiguration", "default",
        "{controllers: {node: {hostEndpoint: {templates: [{generateName: a, interfacePattern: x}, {generateName: a, interfacePattern: y}]}}}}",
        "another template's"
      ),
      ("BGPFilter", "a", "{exportV4: [{}]}", "action: is missing"), ("BGPFilter", "a", "{exportV4: [{action: Deny}]}", "none of Accept, Reject"),
      ("BGPFilter", "a", "{exportV4: [{action: Accept, cidr: 10.0.0.0/8}]}", "without matchOperator"),
      ("BGPFilter", "a", "{exportV4: [{action: Accept, matchOperator: In}]}", "without cidr"),
      ("BGPFilter", "a", "{exportV4: [{action: Accept, cidr: 'fd00::/8', matchOperator: In}]}", "ends in V6"),
      ("BGPFilter", "a", "{importV6: [{action: Accept, prefixLength: {min: 3}}]}", "stands without cidr"),
      ("BGPFilter", "a", "{importV4: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 33}}]}", "0 to 32"),
      (
        "BGPFilter", "a", "{importV4: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In, prefixLength: {min: 30, max: 20}}]}",
        "min 30 is above"
      ),
      ("BGPFilter", "a", "{importV4: [{action: Accept, communities: {values: ['1:2', '1:3']}}]}", "exactly 1"),
      ("BGPFilter", "a", "{importV4: [{action: Accept, communities: {values: ['65536:2']}}]}", "0 to 65535"),
      ("BGPFilter", "a", "{importV4: [{action: Accept, priority: 2147483647}]}", "1 to 2147483646"),
      ("BGPFilter", "a", "{importV4: [{action: Accept, interface: 'a b'}]}", "' ' is not allowed"),
      ("BGPFilter", "a", "{importV4: [{action: Reject, operations: [{setPriority: {value: 1}}]}]}", "rule that rejects"),
      ("BGPFilter", "a", "{importV4: [{action: Accept, operations: [{}]}]}", "names no operation"),
      ("BGPConfiguration", "node1", "{}", "neither default nor node."), ("KubeControllersConfiguration", "other", "{}", "its name is default"),
      ("BGPConfiguration", "default", "{nodeToNodeMeshEnabled: false, nodeMeshMaxRestartTime: 10s}", "without the mesh"),
      (
        "BGPConfiguration", "default", "{nodeToNodeMeshEnabled: false, nodeMeshPassword: {secretKeyRef: {name: a, key: b}}}",
        "without the mesh"
      ),
      ("BGPConfiguration", "default", "{nodeMeshPassword: {secretKeyRef: {name: a}}}", "key: is missing"),
      ("BGPConfiguration", "default", "{nodeMeshMaxRestartTime: 2h}", "at most 4095"),
      ("BGPConfiguration", "default", "{communities: [{name: a, value: '1:2'}]}", "used nowhere"),
      (
        "BGPConfiguration", "default", "{communities: [{name: rack, value: '1:2'}], prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [rak]}]}",
        "did you mean rack?"
      ),
      ("BGPConfiguration", "default", "{prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: ['1:70000']}]}", "0 to 65535"),
      ("BGPConfiguration", "default", "{prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: ['1:2:4294967296']}]}", "0 to 4294967295"),
      ("BGPConfiguration", "default", "{prefixAdvertisements: [{cidr: 10.0.0.0/8}]}", "communities: is empty"),
      ("BGPConfiguration", "default", "{serviceClusterIPs: [{cidr: 10.96.0.1/12}]}", "write 10.96.0.0/12"),
      ("BGPConfiguration", "default", "{ignoredInterfaces: ['*']}", "every interface"),
      ("BGPConfiguration", "default", "{bindMode: nodeIP}", "did you mean NodeIP?"),
      ("BGPConfiguration", "default", "{logSeverityScreen: Warn}", "none of Debug, Info"),
      ("BGPConfiguration", "default", "{logSeverityScreen: info}", "write Info"),
      ("BGPConfiguration", "default", "{localWorkloadPeeringIPV4: 'fd00::1'}", "is not an IPv4 address"),
      ("BGPConfiguration", "default", "{ipv4NormalRoutePriority: 0}", "1 to 2147483646"),
      ("BGPPeer", "a", "{node: n, nodeSelector: has(a), peerIP: 10.0.0.1, asNumber: 1}", "excludes node"),
      ("BGPPeer", "a", "{peerSelector: has(a), peerIP: 10.0.0.1}", "excludes peerIP"),
      ("BGPPeer", "a", "{peerSelector: has(a), asNumber: 1}", "excludes peerSelector"),
      ("BGPPeer", "a", "{localWorkloadSelector: has(a)}", "stands without asNumber"),
      ("BGPPeer", "a", "{localWorkloadSelector: has(a), asNumber: 1, reachableBy: 10.0.0.1}", "of no use"),
      ("BGPPeer", "a", "{peerIP: 10.0.0.1, asNumber: 1, reachableBy: 'fd00::1'}", "is IPv6, but peerIP is IPv4"),
      ("BGPPeer", "a", "{peerIP: 10.0.0.1, asNumber: 1, keepOriginalNextHop: true, nextHopMode: Self}", "excludes nextHopMode"),
      ("BGPPeer", "a", "{peerIP: 10.0.0.1, asNumber: 1, filters: [a, a]}", "twice"),
      ("BGPPeer", "a", "{peerIP: 10.0.0.1, asNumber: 1, filters: [A]}", "upper-case"),
      ("BGPPeer", "a", "{peerIP: 10.0.0.1, asNumber: 1, password: {}}", "names no secret"),
      ("BGPPeer", "a", "{peerIP: 10.0.0.1, asNumber: 1, maxRestartTime: '90'}", "add the unit: 90s"),
      ("BGPPeer", "a", "{peerIP: 10.0.0.1, asNumber: 1, ttlSecurity: 256}", "1 to 255"),
      ("BGPPeer", "a", "{peerIP: 10.0.0.1, asNumber: 4294967296}", "is not an AS number"),
      ("Node", "a", "{addresses: [{address: x}]}", "is not an IP address"),
      ("Node", "a", "{addresses: [{address: 10.0.0.1, type: InternalIp}]}", "did you mean InternalIP?"),
      ("Node", "a", "{vxlanTunnelMACAddr: x}", "is not a MAC"), ("Node", "a", "{ipv4VXLANTunnelAddr: 'fd00::1'}", "is not an IPv4"),
      ("Node", "a", "{orchRefs: [{nodeName: a}]}", "orchestrator: is missing"),
      ("IPPool", "a", "{cidr: 10.0.0.0/16, allowedUses: [Tunnel], namespaceSelector: has(a)}", "tunnels alone"),
      ("IPPool", "a", "{cidr: 10.0.0.0/16, nodeSelector: global()}", "global()"),
      ("IPPool", "a", "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer, Workload]}", "another use"),
      ("IPPool", "a", "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], ipipMode: Always}", "excludes encapsulation"),
      ("IPPool", "a", "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer], nodeSelector: has(a)}", "must be all()"),
      ("IPPool", "a", "{cidr: 10.0.0.0/16, ipipMode: Always, vxlanMode: Always}", "excludes ipipMode"),
      (
        "BGPFilter", "a", "{importV4: [{action: Accept, operations: [{setPriority: {value: 1}, addCommunity: {value: '1:2'}}]}]}",
        "addCommunity and setPriority"
      ),
    ])
  func badNetworking(kind: String, name: String, spec: String, part: String) throws {
    let errors = try errors("{apiVersion: projectcalico.org/v3, kind: \(kind), metadata: {name: \(name)}, spec: \(spec)}")
    #expect(errors.count == 1 && errors[0].contains(part), "\(errors)")
  }

  @Test("Items of a list keep their own paths")
  func lists() throws {
    #expect(
      try errors("kind: TierList\nitems:\n- {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a}, spec: {order: x}}") == [
        "p.yaml:3:85: items[0].spec.order: \"x\" is not a number"
      ])
  }

  @Test("A port's name that looks like a range is kept with a warning: it would match nothing")
  func rangeLikeNames() throws {
    func warnings(_ port: String) throws -> [String] {
      let text = policy("{action: Allow, protocol: TCP, destination: {ports: ['\(port)']}}")
      return ResourceCodec.review(try documents(text)[0]).warnings.map(\.message)
    }
    #expect(
      try warnings("8000-8100") == [
        "spec.ingress[0].destination.ports[0]: \"8000-8100\" is the name of a port, not a range; a range is written \"8000:8100\""
      ])
    #expect(try warnings("http-2") == [] && warnings("8000:8100") == [])
  }

  @Test("Fields of Calico without effect here are kept with a warning")
  func warnings() throws {
    let document = try documents(
      "{apiVersion: projectcalico.org/v3, kind: BGPPeer, metadata: {name: a}, spec: {peerIP: '[fd00::1]:1790', asNumber: '1.10', maxRestartTime: 2m5s, filters: [x]}}"
    )[0]
    let review = ResourceCodec.review(document)
    #expect(review.errors == [] && review.warnings.map(\.message) == ["spec.filters: is kept, but has no effect yet"])
    guard case .bgpPeer(let peer) = review.resource?.spec else { return #expect(Bool(false)) }
    #expect(peer.peerIP == IPAddress("fd00::1") && peer.peerPort == 1790 && peer.asNumber == 65546 && peer.maxRestartTimeSeconds == 125)
    #expect(ResourceCodec.encode(review.resource!, onto: document.value)["spec"]?["filters"] == ["x"])
  }
}

@Suite("Resources: lenient reading")
struct LenientTests {
  @Test(
    "A rule that cannot be enforced denies at its own place and says why",
    arguments: [
      ("{action: Alow}", "Alow"), ("{action: Allow, http: {methods: 7}}", "not a list"), ("{action: Allow, source: {selector: 'a ='}}", "=="),
      ("{action: Allow, newMatch: 1}", "newMatch"), ("{action: Allow, source: {newMatch: 1}}", "newMatch"),
      ("{action: Allow, source: {nets: [x]}}", "\"x\""),
      ("{action: Allow, destination: {ports: [80]}}", "protocol"), ("7", "7"), ("{}", "action"),
    ])
  func faults(rule: String, part: String) throws {
    let text = "{metadata: {name: p}, spec: {ingress: [{action: Allow}, \(rule), {action: Pass}]}}"
    guard case .networkPolicy(let spec) = try stored(.networkPolicy, text).spec else { return #expect(Bool(false)) }
    #expect(spec.ingress.map(\.action) == [.allow, .deny, .pass] && spec.ingress.map { $0.fault == nil } == [true, false, true])
    #expect(spec.ingress[1].fault?.contains(part) == true, "\(spec.ingress[1].fault ?? "")")
    #expect(spec.ingress[1].source.isEmpty && spec.ingress[1].destination.isEmpty && spec.ingress[1].ipProtocol == nil)
  }

  @Test(
    "What is odd but clear is read",
    arguments: [
      "{action: Allow, source: {nets: [10.0.0.1/8]}}", "{action: Allow, source: {notNets: [0.0.0.0/0]}}",
      "{action: Allow, source: {nets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8']}}",
    ])
  func odd(rule: String) throws {
    guard case .networkPolicy(let spec) = try stored(.networkPolicy, "{metadata: {name: p}, spec: {ingress: [\(rule)]}}").spec else {
      return #expect(Bool(false))
    }
    #expect(spec.ingress[0].action == .allow && spec.ingress[0].fault == nil)
  }

  @Test("A rule of a BGPFilter that cannot be read keeps its place, holds nothing but its fault, and is written back word for word")
  func filterFaults() throws {
    let text = "{metadata: {name: f}, spec: {exportV4: [{action: Accept}, {action: Reject, cidr: x, matchOperator: In, future: 1}]}}"
    let value = try documents(text)[0].value
    guard case .bgpFilter(let spec) = try ResourceCodec.decodeLenient(kind: .bgpFilter, value: value).spec else { return #expect(Bool(false)) }
    #expect(spec.exportV4.count == 2 && spec.exportV4[0].fault == nil)
    #expect(spec.exportV4[1].action == .reject && spec.exportV4[1].fault?.contains("\"x\"") == true)
    var resource = try ResourceCodec.decodeLenient(kind: .bgpFilter, value: value)
    resource.metadata.labels = ["a": "b"]
    #expect(ResourceCodec.encode(resource, onto: value)["spec"] == value["spec"])
  }

  @Test("Unreadable selectors of a policy stay as text; unknown fields and wrong types cost only themselves")
  func policies() throws {
    let text = "{metadata: {name: P.q.r, x: 1}, spec: {selector: 'a =', order: x, types: [Ingres, Egress], new: 1}, status: 1}"
    let value = try documents(text)[0].value
    let (resource, faults) = try ResourceCodec.decodeReporting(kind: .globalNetworkPolicy, value: value)
    guard case .globalNetworkPolicy(let spec) = resource.spec else { return #expect(Bool(false)) }
    #expect(spec.selector == "a =" && spec.order == nil && spec.types == [.egress])
    #expect(faults.map(\.path.text) == ["spec.order", "spec.types[0]"])
  }

  @Test(
    "Only what is no object of the kind is an error",
    arguments: [
      (Kind.tier, "[1]"), (.tier, "{kind: Tier}"), (.tier, "{kind: IPPool, metadata: {name: a}}"),
      (.ipPool, "{metadata: {name: a}, spec: {cidr: x}}"),
      (.ipPool, "{metadata: {name: a}}"), (.tier, "{metadata: {name: ''}}"),
    ])
  func errors(kind: Kind, text: String) throws {
    let value = try YAMLReader.read(Array(text.utf8), file: "x")[0].value
    #expect(throws: DocumentError.self) { try ResourceCodec.decodeLenient(kind: kind, value: value) }
  }
}

@Suite("Resources: writing")
struct EncodingTests {
  static let samples: [String] = [
    "{kind: NetworkPolicy, metadata: {name: a, namespace: b, uid: u, resourceVersion: '7', creationTimestamp: '2026-01-01T00:00:00Z', labels: {l: m}, annotations: {n: o}}, spec: {tier: t, order: 5, selector: all(), types: [Ingress, Egress], serviceAccountSelector: has(a), ingress: [{action: Allow, ipVersion: 4, protocol: UDP, notProtocol: 47, source: {nets: [10.0.0.0/8], notNets: [10.1.0.0/16], selector: a == 'b', notSelector: has(c), namespaceSelector: global(), notPorts: [53], serviceAccounts: {names: [x], selector: has(y)}}, destination: {ports: [1, '2:3', n]}, metadata: {annotations: {p: q}}}, {action: Log, protocol: ICMP, icmp: {type: 3, code: 1}, notICMP: {type: 4}}, {action: Pass, source: {services: {name: s, namespace: t}}}], egress: [{action: Deny}]}}",
    "{kind: GlobalNetworkPolicy, metadata: {name: a}, spec: {order: 1.5, namespaceSelector: has(a), preDNAT: true, applyOnForward: true}}",
    "{kind: Profile, metadata: {name: kns.a}, spec: {ingress: [{action: Allow}], egress: [{action: Allow}], labelsToApply: {pcns.a: b}}}",
    "{kind: Tier, metadata: {name: t}, spec: {order: 10, defaultAction: Pass}}", "{kind: Tier, metadata: {name: t}}",
    "{kind: NetworkSet, metadata: {name: a, namespace: b}, spec: {nets: [10.0.0.1/8, 'fd00::1']}}",
    "{kind: GlobalNetworkSet, metadata: {name: a}, spec: {nets: []}}",
    "{kind: Node, metadata: {name: a}, spec: {bgp: {asNumber: 64512, ipv4Address: 172.30.1.2/24, ipv6Address: 'fd00::2/64', ipv4IPIPTunnelAddr: 10.65.0.1, routeReflectorClusterID: 244.0.0.1}, ipv4VXLANTunnelAddr: 10.65.0.2, ipv6VXLANTunnelAddr: 'fd65::2', vxlanTunnelMACAddr: '66:00:00:00:00:01', vxlanTunnelMACAddrV6: '66:00:00:00:00:02', wireguard: {interfaceIPv4Address: 10.65.0.3, interfaceIPv6Address: 'fd65::3'}, orchRefs: [{nodeName: a, orchestrator: k8s}], addresses: [{address: 172.30.1.2/24, type: CalicoNodeIP}, {address: 172.30.1.2, type: InternalIP}], interfaces: [{name: eth0, addresses: [172.30.1.2]}]}, status: {wireguardPublicKey: k, wireguardPublicKeyV6: l, podCIDRs: [10.65.0.0/24]}}",
    "{kind: IPPool, metadata: {name: a}, spec: {cidr: 10.0.0.0/16, blockSize: 28, vxlanMode: CrossSubnet, natOutgoing: true, disabled: true, disableBGPExport: true, nodeSelector: has(a), allowedUses: [Tunnel], assignmentMode: Manual}}",
    "{kind: IPPool, metadata: {name: b}, spec: {cidr: 10.0.0.0/16, namespaceSelector: has(a)}, status: {conditions: [{type: Allocatable, status: 'False', reason: PoolDisabled, message: m, lastTransitionTime: '2026-01-01T00:00:00Z', observedGeneration: 1}]}}",
    "{kind: IPPool, metadata: {name: a}, spec: {cidr: 'fd00::/48'}}",
    "{kind: BGPConfiguration, metadata: {name: default}, spec: {nodeToNodeMeshEnabled: true, asNumber: 65000, listenPort: 1790, logSeverityScreen: Info, serviceClusterIPs: [{cidr: 10.96.0.0/12}], serviceExternalIPs: [{cidr: 192.0.2.0/24}], serviceLoadBalancerIPs: [{cidr: 198.51.100.0/24}], serviceLoadBalancerAggregation: Disabled, communities: [{name: std, value: '65000:100'}, {name: large, value: '65000:100000:1'}], prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [std, large, '65000:7']}], nodeMeshPassword: {secretKeyRef: {name: s, key: k, optional: true}}, nodeMeshMaxRestartTime: 1m30.5s, bindMode: NodeIP, ignoredInterfaces: ['eth*'], localWorkloadPeeringIPV4: 169.254.0.179, localWorkloadPeeringIPV6: 'fd00::179', programClusterRoutes: Disabled, ipv4NormalRoutePriority: 100, ipv6NormalRoutePriority: 200}}",
    "{kind: BGPConfiguration, metadata: {name: node.n1}, spec: {nodeToNodeMeshEnabled: false}}",
    "{kind: BGPPeer, metadata: {name: a}, spec: {nodeSelector: has(a), peerIP: '10.0.0.1:1790', asNumber: 65001, keepOriginalNextHop: true, sourceAddress: None, maxRestartTime: 90s, keepaliveTime: 250ms, numAllowedLocalASNumbers: 1, ttlSecurity: 2, localASNumber: 65002, password: {secretKeyRef: {name: s, key: k}}, reachableBy: 10.0.0.254, filters: [a, b], reversePeering: Manual}}",
    "{kind: BGPPeer, metadata: {name: a}, spec: {node: n, peerSelector: has(rr), nextHopMode: Self}}",
    "{kind: BGPPeer, metadata: {name: a}, spec: {localWorkloadSelector: has(vm), asNumber: 65003}}",
    "{kind: FelixConfiguration, metadata: {name: default}, spec: {interfacePrefix: 'cali,tap', defaultEndpointToHostAction: Return, ipv6Support: false, logSeverityScreen: Debug, routeRefreshInterval: 60s, openstackRegion: r1, reportingInterval: 10s, reportingTTL: 30s, endpointReportingEnabled: false, endpointReportingDelay: 2s, healthEnabled: false, healthHost: '::1', healthPort: 9000, prometheusMetricsEnabled: true, prometheusMetricsHost: 10.0.0.1, prometheusMetricsPort: 9001}}",
    "{kind: ClusterInformation, metadata: {name: default}, spec: {clusterGUID: g, clusterType: t, calicoVersion: v, datastoreReady: true, variant: Calico}}",
    "{kind: WorkloadEndpoint, metadata: {name: n-k8s-web--1-eth0, namespace: d, labels: {a: b}}, spec: {orchestrator: k8s, node: n, pod: web-1, endpoint: eth0, containerID: c, serviceAccountName: s, ipNetworks: [10.0.0.1/32, 'fd00::1/128'], ipv4Gateway: 169.254.1.1, ipv6Gateway: 'fe80::1', profiles: [kns.d], interfaceName: cali0123456789a, mac: 'ee:ee:ee:ee:ee:ee', ports: [{name: http, protocol: TCP, port: 80}], allowSpoofedSourcePrefixes: [10.9.0.0/16]}}",
    "{kind: IPReservation, metadata: {name: a}, spec: {reservedCIDRs: [10.0.0.0/30, 'fd00::1']}}",
    "{kind: IPAMConfiguration, metadata: {name: default}, spec: {strictAffinity: true, autoAllocateBlocks: false, maxBlocksPerHost: 4, kubeVirtVMAddressPersistence: Enabled, ipCooldownSeconds: 30}}",
    "{kind: BlockAffinity, metadata: {name: n-10-0-0-0-26}, spec: {state: confirmed, node: n, type: host, cidr: 10.0.0.0/26, deleted: false}}",
    "{kind: CalicoNodeStatus, metadata: {name: a}, spec: {node: n, classes: [Agent, BGP, Routes], updatePeriodSeconds: 10}, status: {lastUpdated: '2026-01-01T00:00:00Z', agent: {birdV4: {state: Ready, version: v, routerID: 10.0.0.1, lastBootTime: b, lastReconfigurationTime: r}, birdV6: {state: NotReady}}, bgp: {numberEstablishedV4: 1, numberNotEstablishedV4: 0, numberEstablishedV6: 0, numberNotEstablishedV6: 2, peersV4: [{peerIP: 10.0.0.2, type: NodeMesh, state: Established, since: s}], peersV6: [{peerIP: 'fd00::2', state: OpenConfirm}]}, routes: {routesV4: [{type: FIB, destination: 10.1.0.0/26, gateway: 10.0.0.2, interface: eth0, learnedFrom: {sourceType: BGPPeer, peerIP: 10.0.0.2}}], routesV6: [{type: RIB}]}}}",
    "{kind: KubeControllersConfiguration, metadata: {name: default}, spec: {logSeverityScreen: Debug, healthChecks: Disabled, etcdV3CompactionPeriod: 1m30s, prometheusMetricsPort: 0, debugProfilePort: 9000, controllers: {node: {reconcilerPeriod: 5m, syncLabels: Enabled, leakGracePeriod: 15m, hostEndpoint: {autoCreate: Enabled, createDefaultHostEndpoint: Disabled, templates: [{generateName: t, interfaceCIDRs: [10.0.0.0/8], interfacePattern: 'eth0|eth1', labels: {a: b}, nodeSelector: has(a)}]}}, policy: {reconcilerPeriod: 1m}, workloadEndpoint: {}, serviceAccount: {reconcilerPeriod: 1h}, namespace: {}, loadBalancer: {assignIPs: RequestedServicesOnly}, policyMigration: {enabled: Disabled}}}, status: {runningConfig: {controllers: {node: {}}}, environmentVars: {A: b}}}",
    "{kind: BGPFilter, metadata: {name: a}, spec: {exportV4: [{action: Reject, cidr: 10.0.0.0/8, matchOperator: NotIn, prefixLength: {min: 24, max: 28}, source: RemotePeers, interface: '*.calico', peerType: eBGP}, {action: Accept, communities: {values: ['65000:1:2']}, asPathPrefix: [65000, 65001], priority: 512, operations: [{addCommunity: {value: '65000:100'}}, {prependASPath: {prefix: [65000, 65000]}}, {setPriority: {value: 2147483646}}]}], importV4: [{action: Reject}], exportV6: [{action: Accept, cidr: 'fd00::/8', matchOperator: Equal}], importV6: [{action: Accept, peerType: iBGP}]}}",
    "{kind: WorkloadEndpoint, metadata: {name: n-k8s-web--1-eth0, namespace: d, labels: {a: b}}, spec: {orchestrator: k8s, node: n, pod: web-1, endpoint: eth0, containerID: c, serviceAccountName: s, ipNetworks: [10.0.0.1/32, 'fd00::1/128'], ipv4Gateway: 169.254.1.1, ipv6Gateway: 'fe80::1', profiles: [kns.d], interfaceName: cali0123456789a, mac: 'ee:ee:ee:ee:ee:ee', ports: [{name: http, protocol: TCP, port: 80, hostPort: 8080, hostIP: 172.30.1.2}], allowSpoofedSourcePrefixes: [10.9.0.0/16], ipNATs: [{internalIP: 10.0.0.1, externalIP: 203.0.113.1}], qosControls: {ingressBandwidth: 1000000, egressMaxConnections: 9, dscp: AF11}, allowedIps: [10.9.0.1/32]}}",
    "{kind: HostEndpoint, metadata: {name: a, labels: {x: y}}, spec: {node: n, interfaceName: '*', expectedIPs: [172.30.1.2, 'fd00::2'], profiles: [p], ports: [{name: ssh, protocol: TCP, port: 22}]}}",
    "{kind: KubernetesEndpointSlice, metadata: {name: web-1, namespace: b, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1], conditions: {ready: true, serving: true}, nodeName: n}, {addresses: [10.0.0.2, 10.0.0.3], conditions: {ready: false}}], ports: [{name: http, protocol: TCP, port: 8080, appProtocol: http}, {protocol: UDP, port: 53}]}",
    "{kind: LiveMigration, metadata: {name: a, namespace: b}, spec: {source: {workloadEndpoint: {hostname: h, orchestratorID: openstack, workloadID: w, endpointID: e}}, target: {selector: has(a)}}}",
    "{kind: StagedNetworkPolicy, metadata: {name: a, namespace: b}, spec: {stagedAction: Learn, tier: t, order: 5, ingress: [{action: Allow, http: {methods: [GET], paths: [{exact: /a}, {prefix: /b}]}}], performanceHints: [AssumeNeededOnEveryNode]}}",
    "{kind: StagedGlobalNetworkPolicy, metadata: {name: a}, spec: {stagedAction: Delete, tier: t}}",
    "{kind: StagedKubernetesNetworkPolicy, metadata: {name: a, namespace: b}, spec: {podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{ports: [{protocol: UDP, port: 53}, {port: http}, {port: 1000, endPort: 2000}], from: [{podSelector: {matchLabels: {a: b}}, namespaceSelector: {}}]}, {}], egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}, {podSelector: {matchExpressions: [{key: a, operator: In, values: [b, c]}, {key: d, operator: Exists}]}}]}]}}",
  ]

  @Test("Every kind survives writing and reading, strictly and leniently", arguments: samples)
  func roundTrip(text: String) throws {
    let first = try resource(text.replacing("{kind", with: "{apiVersion: projectcalico.org/v3, kind", maxReplacements: 1))
    let written = ResourceCodec.encode(first)
    #expect(try resource(written.yamlText) == first)
    #expect(try ResourceCodec.decodeLenient(kind: first.kind, value: try JSONValue(parsing: written.text())) == first)
    #expect(ResourceCodec.encode(first, onto: written) == written)
  }

  @Test("The samples cover every kind")
  func coverage() throws {
    for kind in Kind.allCases { #expect(Self.samples.contains { $0.hasPrefix("{kind: \(kind.rawValue),") }) }
  }

  @Test("A write keeps what it does not understand, at every level")
  func keeping() throws {
    let old = try JSONValue(
      parsing: """
        {"apiVersion":"projectcalico.org/v3","kind":"NetworkPolicy","extra":{"a":1},
         "metadata":{"name":"p","namespace":"d","finalizers":["f"],"labels":{"a":"b","c":"d"}},
         "spec":{"order":"unreadable","performanceHints":["AssumeNeededOnEveryNode"],"ingress":[
           {"action":"Allow","http":{"methods":["GET"]}},
           {"action":"Allow","protocol":"TCP","source":{"nets":["10.0.0.1/8"],"future":7}},
           {"action":"Allow","protocol":"tcp","destination":{"ports":["80"]}}]},
         "status":{"x":[1,2]}}
        """)
    var resource = try ResourceCodec.decodeLenient(kind: .networkPolicy, value: old)
    #expect(ResourceCodec.encode(resource, onto: old) == old)

    resource.metadata.labels = ["a": "z"]
    guard case .networkPolicy(var spec) = resource.spec else { return #expect(Bool(false)) }
    spec.tier = "t"
    spec.ingress.insert(Rule(.deny), at: 0)
    spec.ingress.swapAt(2, 3)
    resource.spec = .networkPolicy(spec)
    let new = ResourceCodec.encode(resource, onto: old)
    #expect(new["extra"] == old["extra"] && new["status"] == old["status"])
    #expect(new["metadata"] == ["name": "p", "namespace": "d", "finalizers": ["f"], "labels": ["a": "z"]])
    #expect(
      new["spec"]?["order"] == "unreadable" && new["spec"]?["performanceHints"] == ["AssumeNeededOnEveryNode"]
        && new["spec"]?["tier"] == "t")
    let rules = old["spec"]!["ingress"]!.array!
    #expect(new["spec"]?["ingress"]?.array == [["action": "Deny"], rules[0], rules[2], rules[1]])
    #expect(try ResourceCodec.decodeLenient(kind: .networkPolicy, value: new) == resource)
  }

  @Test("A changed element keeps its unknown fields if the list is otherwise the same")
  func changedElement() throws {
    let old: JSONValue = [
      "metadata": ["name": "n-k8s-p-eth0"],
      "spec": ["ports": [["name": "a", "protocol": "TCP", "port": 80, "hostPort": 8080], ["name": "b", "protocol": "UDP", "port": 53]]],
    ]
    var resource = try ResourceCodec.decodeLenient(kind: .workloadEndpoint, value: old)
    guard case .workloadEndpoint(var spec) = resource.spec else { return #expect(Bool(false)) }
    spec.ports[0].port = 81
    resource.spec = .workloadEndpoint(spec)
    let ports = ResourceCodec.encode(resource, onto: old)["spec"]?["ports"]?.array
    #expect(ports?[0] == ["name": "a", "protocol": "TCP", "port": 81, "hostPort": 8080] && ports?[1]["port"] == 53)
  }
}

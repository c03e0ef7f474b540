/// What a topology means in Calico's objects: pools, nodes with their AS, reflectors by cluster id and label, peers. Applied with
/// `margay apply -f`, as an operator would.
import Addresses

struct NetworkDocuments {
  let fabric: Fabric
  private var topology: Topology { fabric.topology }

  init(_ fabric: Fabric) { self.fabric = fabric }

  var text: String { ([pools] + nodes + [configuration] + peers).joined(separator: "---\n") }

  /// Only what the arrangement decides, to change it in a running lab.
  var routing: String { (nodes + [configuration] + peers).joined(separator: "---\n") }

  private var pools: String {
    topology.pools.enumerated().map { index, pool in
      let family =
        topology.pools.count { $0.family == pool.family } > 1
        ? "\(pool.family)-\(index + 1)".lowercased() : pool.family == .v4 ? "v4" : "v6"
      return """
        apiVersion: projectcalico.org/v3
        kind: IPPool
        metadata: {name: pool-\(family)}
        spec:
          cidr: "\(pool)"
          blockSize: \(pool.family == .v4 ? 26 : 122)

        """
    }.joined(separator: "---\n")
  }

  /// Hosts, and the routers that Margay speaks for: they read their sessions from here as any node does.
  private var nodes: [String] {
    fabric.speakers.filter(\.isMargay).map { speaker in
      let labels = speaker.labels.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \"\($0.value)\"" }.joined(separator: ", ")
      var text = """
        apiVersion: projectcalico.org/v3
        kind: Node
        metadata:
          name: \(speaker.name)
          labels: {\(labels)}
        spec:
          bgp:
            ipv4Address: \(speaker.address4)
            ipv6Address: "\(speaker.address6)"
            asNumber: \(speaker.asNumber)

        """
      if let clusterID = speaker.clusterID { text += "    routeReflectorClusterID: \(clusterID)\n" }
      return text
    }
  }

  private var configuration: String {
    """
    # \(topology.arrangement.explanation)
    apiVersion: projectcalico.org/v3
    kind: BGPConfiguration
    metadata: {name: default}
    spec:
      nodeToNodeMeshEnabled: \(topology.arrangement == .mesh)
      asNumber: \(topology.asNumber)

    """
  }

  private var peers: [String] {
    var texts: [String] = []
    func margay(_ name: String) -> Bool { fabric.speaker(name)?.isMargay == true }
    /// Sessions between two nodes of ours that an object below gives.
    var covered: Set<Fabric.Session> = []
    func cover(_ a: String, _ b: String) { covered.formUnion([Fabric.Session(a: a, b: b), Fabric.Session(a: b, b: a)]) }
    func select(_ name: String, nodes: String, peers: String, _ why: String) {
      texts.append(
        """
        # \(why)
        apiVersion: projectcalico.org/v3
        kind: BGPPeer
        metadata: {name: \(name)}
        spec:
          nodeSelector: \(quoted(nodes))
          peerSelector: \(quoted(peers))

        """)
    }

    switch topology.arrangement {
    case .mesh:
      for a in fabric.speakers where a.isMargay { for b in fabric.speakers where b.isMargay { cover(a.name, b.name) } }
    case .reflectors:
      let ours = topology.reflectors.filter { margay($0.node) }
      if ours.count > 1 {
        select("reflectors", nodes: "has(route-reflector)", peers: "has(route-reflector)", "The reflectors among themselves.")
      }
      for reflector in ours {
        select(
          "\(reflector.node)-clients", nodes: reflector.clients, peers: "name == '\(reflector.node)'",
          "Whom \(reflector.node) reflects to: cluster \(reflector.clusterID).")
        for session in fabric.sessions {
          if let other = session.other(than: reflector.node), margay(other) { cover(other, reflector.node) }
        }
      }
    case .asPerRack, .asPerHost:
      for rack in topology.racks where rack.program == .margay {
        select(
          "\(rack.name)-hosts", nodes: "rack == '\(rack.name)' && role == 'host'", peers: "name == '\(rack.name)'",
          "The hosts of \(rack.name) with their router.")
        for host in topology.hosts where host.rack == rack.name { cover(host.name, rack.name) }
      }
    }
    for session in fabric.sessions where !covered.contains(session) {
      guard let a = fabric.speaker(session.a), let b = fabric.speaker(session.b) else { continue }
      if a.isMargay, b.isMargay {
        select("\(a.name)-\(b.name)", nodes: "name == '\(a.name)'", peers: "name == '\(b.name)'", "\(a.name) and \(b.name).")
        continue
      }
      for (own, peer) in [(a, b), (b, a)] where own.isMargay {
        for family in IPFamily.allCases {
          texts.append(
            """
            apiVersion: projectcalico.org/v3
            kind: BGPPeer
            metadata: {name: \(own.name)-\(peer.name)-\(family == .v4 ? "v4" : "v6")}
            spec:
              node: \(own.name)
              peerIP: "\(fabric.address(of: peer, for: own, family))"
              asNumber: \(peer.asNumber)

            """)
        }
      }
    }
    return texts
  }

  private func quoted(_ selector: String) -> String {
    "'" + selector.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
  }

  /// One profile for each namespace, as the Kubernetes controllers of Calico make them: it allows everything, so that policies alone take
  /// away.
  static func profiles(_ namespaces: [Topology.Namespace]) -> String {
    namespaces.map { namespace in
      let labels =
        (namespace.labels.sorted { $0.key < $1.key }.map { ("pcns.\($0.key)", $0.value) } + [
          ("pcns.projectcalico.org/name", namespace.name)
        ])
        .map { "    \"\($0.0)\": \"\($0.1)\"\n" }.joined()
      return """
        apiVersion: projectcalico.org/v3
        kind: Profile
        metadata: {name: kns.\(namespace.name)}
        spec:
          ingress: [{action: Allow}]
          egress: [{action: Allow}]
          labelsToApply:

        """ + labels
    }.joined(separator: "---\n")
  }
}

extension Topology.Arrangement {
  var explanation: String {
    switch self {
    case .mesh: "All in one AS, with a session between any two."
    case .reflectors: "All in one AS; the reflectors tell everyone what everyone has."
    case .asPerRack: "Every rack an AS of its own; its router reflects between its hosts."
    case .asPerHost: "Every host and every router an AS of its own; no mesh."
    }
  }
}

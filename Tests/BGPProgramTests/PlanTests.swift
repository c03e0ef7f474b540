import Addresses
import BGPMessages
import BGPProgram
import BGPRoutes
import Resources
import Testing

@Suite("The plan of a host's sessions")
struct PlanTests {
  private func resources(_ change: (inout BGPResources) -> Void = { _ in }) -> BGPResources {
    var resources = BGPResources()
    for (name, v4, v6) in [("a", "172.30.1.2/24", "fd30:1::2/64"), ("b", "172.30.1.10/24", "fd30:1::a/64"), ("c", "172.30.2.3/24", nil)] {
      resources.nodes[name] = .init(
        spec: NodeSpec(bgp: .init(ipv4Address: InterfaceAddress(v4), ipv6Address: v6.flatMap { InterfaceAddress($0) })),
        labels: ["rack": name == "c" ? "2" : "1"])
    }
    change(&resources)
    return resources
  }
  private func plan(_ node: String, _ change: (inout BGPResources) -> Void = { _ in }) throws -> BGPPlan {
    try #require(BGPPlan(for: node, resources(change)))
  }

  @Test("Without any configuration there is a mesh, one session for each family that both sides have")
  func mesh() throws {
    let plan = try plan("a")
    #expect(plan.sessions.keys.sorted() == ["Mesh_172_30_1_10", "Mesh_172_30_2_3", "Mesh_fd30_1__a"])
    #expect(plan.sessions.values.allSatisfy { $0.kind == .mesh && $0.peerAS == 64512 && !$0.isExternal })
    #expect(plan.routerID == RouterID("172.30.1.2"))
    #expect(plan.sessions["Mesh_fd30_1__a"]?.localAddress == IPAddress("fd30:1::2"))
  }

  @Test("Exactly one side of every mesh session dials: the one with the greater address as text")
  func dialling() throws {
    let plans = try ["a", "b", "c"].map { try plan($0) }
    for plan in plans {
      for session in plan.sessions.values {
        let other = try #require(
          plans.flatMap(\.sessions.values).first { $0.peer == session.localAddress && $0.localAddress == session.peer })
        #expect(session.isPassive != other.isPassive)
        #expect(session.isPassive == (session.peer.description > session.localAddress!.description))
      }
    }
    // As text, 172.30.1.2 is greater than 172.30.1.10.
    #expect(plans[0].sessions["Mesh_172_30_1_10"]?.isPassive == false)
  }

  @Test("No Node, or one without a BGP address, is no speaker")
  func none() {
    #expect(BGPPlan(for: "z", resources()) == nil)
    #expect(BGPPlan(for: "a", resources { $0.nodes["a"]!.spec.bgp = nil }) == nil)
  }

  @Test("A host without IPv4 takes its identifier from its name, the same every time")
  func routerID() throws {
    let first = try plan("a") { $0.nodes["a"]!.spec.bgp!.ipv4Address = nil }
    let second = try plan("a") { $0.nodes["a"]!.spec.bgp!.ipv4Address = nil }
    #expect(first.routerID == second.routerID && first.routerID.rawValue != 0)
    #expect(first.families == [.v6] && first.sessions.keys.sorted() == ["Mesh_fd30_1__a"])
  }

  @Test("An explicit peer takes the place of the mesh, a global one that of a node's; our own address is passed over")
  func precedence() throws {
    let plan = try plan("a") { resources in
      var peer = BGPPeerSpec()
      peer.peerIP = IPAddress("172.30.1.10")
      peer.asNumber = 65010
      resources.peers["z-global"] = peer
      peer.node = "a"
      peer.asNumber = 65011
      resources.peers["a-node"] = peer
      peer.peerIP = IPAddress("172.30.1.2")
      resources.peers["self"] = peer
      peer.peerIP = IPAddress("172.30.1.1")
      peer.peerPort = 1790
      resources.peers["port"] = peer
      peer.node = "b"
      peer.peerIP = IPAddress("172.30.9.9")
      resources.peers["other"] = peer
    }
    #expect(plan.sessions.keys.sorted() == ["Global_172_30_1_10", "Mesh_172_30_2_3", "Mesh_fd30_1__a", "Node_172_30_1_1_port_1790"])
    #expect(plan.sessions["Global_172_30_1_10"]?.peerAS == 65010)
    #expect(plan.sessions["Node_172_30_1_1_port_1790"]?.port == 1790)
  }

  @Test("What becomes of next hops is the peer's to say; the older field counts for external peers alone, and only without the newer", arguments: [
    (nil, false, UInt32(65010), NextHopMode.automatic), (nil, true, 65010, .keep), (nil, true, 64512, .automatic),
    (.auto, true, 65010, .automatic), (.own, false, 64512, .ownAddress), (.own, true, 65010, .ownAddress), (.keep, false, 65010, .keep),
  ] as [(BGPPeerSpec.NextHopMode?, Bool, UInt32, NextHopMode)])
  func nextHopMode(mode: BGPPeerSpec.NextHopMode?, keeps: Bool, asNumber: UInt32, expected: NextHopMode) throws {
    let plan = try plan("a") { resources in
      var peer = BGPPeerSpec()
      (peer.peerIP, peer.asNumber, peer.nextHopMode, peer.keepOriginalNextHop) = (IPAddress("172.30.1.1"), asNumber, mode, keeps)
      resources.peers["peer"] = peer
    }
    #expect(plan.sessions["Global_172_30_1_1"]?.nextHopMode == expected)
  }

  @Test("Peers are selected by the labels of nodes, in both directions")
  func selectors() throws {
    let change = { (resources: inout BGPResources) in
      resources.configurations["default"] = BGPConfigurationSpec(nodeToNodeMeshEnabled: false, asNumber: 65500)
      resources.nodes["c"]!.spec.bgp!.routeReflectorClusterID = IPv4Address("0.0.0.7")
      var peer = BGPPeerSpec()
      peer.nodeSelector = "rack == '1'"
      peer.peerSelector = "rack == '2'"
      resources.peers["to-reflector"] = peer
    }
    let client = try plan("a", change)
    #expect(client.sessions.keys.sorted() == ["Node_172_30_2_3"])
    #expect(client.sessions["Node_172_30_2_3"]?.isReflectorClient == false)
    let reflector = try plan("c", change)
    #expect(reflector.clusterID == RouterID("0.0.0.7"))
    #expect(reflector.sessions.keys.sorted() == ["Node_172_30_1_10", "Node_172_30_1_2"])
    #expect(reflector.sessions.values.allSatisfy { $0.isReflectorClient && $0.peerAS == 65500 })
  }

  @Test("A reflector is no part of the mesh")
  func reflectorMesh() throws {
    let change = { (resources: inout BGPResources) in resources.nodes["c"]!.spec.bgp!.routeReflectorClusterID = IPv4Address("0.0.0.7") }
    #expect(try plan("a", change).sessions["Mesh_172_30_2_3"] == nil)
    #expect(try plan("c", change).sessions.isEmpty)
  }

  @Test("What cannot be done is told with its object and the rest is done")
  func problems() throws {
    let plan = try plan("a") { resources in
      var peer = BGPPeerSpec()
      peer.nodeSelector = "rack =="
      resources.peers["broken"] = peer
      peer.nodeSelector = nil
      peer.peerIP = IPAddress("192.0.2.1")
      resources.peers["no-as"] = peer
    }
    #expect(plan.problems.count == 2 && plan.problems.contains { $0.hasPrefix("BGPPeer broken") })
    #expect(plan.sessions.count == 3)
  }

  @Test("Pools decide what is exported; a disabled one is as if absent")
  func pools() throws {
    let plan = try plan("a") { resources in
      resources.pools["one"] = IPPoolSpec(cidr: IPPrefix("10.65.0.0/16")!)
      resources.pools["two"] = IPPoolSpec(cidr: IPPrefix("10.66.0.0/16")!)
      resources.pools["two"]!.disableBGPExport = true
      resources.pools["three"] = IPPoolSpec(cidr: IPPrefix("10.67.0.0/16")!)
      resources.pools["three"]!.disabled = true
    }
    #expect(plan.pools == [IPPrefix("10.65.0.0/16")!] && plan.poolsNotExported == [IPPrefix("10.66.0.0/16")!])
  }
}

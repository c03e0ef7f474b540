import Addresses
import BGPProgram
import Documents
import JSON
import Resources
import Testing

@testable import LabProgram

@Suite("The fabric of a topology") struct FabricTests {
  /// The objects that a lab applies, as the daemons will read them.
  private func resources(_ fabric: Fabric) throws -> BGPResources {
    var resources = BGPResources()
    for document in try DocumentReader.read(bytes: Array(NetworkDocuments(fabric).text.utf8), file: "network.yaml") {
      let resource = try ResourceCodec.decodeStrict(document).get()
      switch resource.spec {
      case .node(let spec): resources.nodes[resource.key.name] = .init(spec: spec, labels: resource.metadata.labels)
      case .bgpPeer(let spec): resources.peers[resource.key.name] = spec
      case .bgpConfiguration(let spec): resources.configurations[resource.key.name] = spec
      case .ipPool(let spec): resources.pools[resource.key.name] = spec
      default: Issue.record("\(resource.key) does not belong to the network")
      }
    }
    return resources
  }

  @Test(
    "Calico's objects give every Margay speaker exactly the sessions of the fabric, with the right AS on both sides", arguments: examples)
  func objectsGiveTheSessions(_ name: String) throws {
    let fabric = Fabric(try example(name))
    let resources = try resources(fabric)
    for speaker in fabric.speakers where speaker.isMargay {
      let plan = try #require(BGPPlan(for: speaker.name, resources))
      #expect(plan.problems == [])
      let expected = fabric.sessions(of: speaker.name).flatMap { peer in
        IPFamily.allCases.map { family in
          let peer = fabric.speaker(peer)!
          return "\(fabric.address(of: peer, for: speaker, family)) AS \(peer.asNumber)"
        }
      }
      #expect(plan.sessions.values.map { "\($0.peer) AS \($0.peerAS)" }.sorted() == expected.sorted(), "\(speaker.name) of \(name)")
      #expect(plan.sessions.values.allSatisfy { $0.localAS.rawValue == speaker.asNumber })
      for peer in fabric.sessions(of: speaker.name).compactMap(fabric.speaker) {
        let sessions = plan.sessions.values.filter { $0.peer == fabric.address(of: peer, for: speaker, $0.peer.family) }
        #expect(sessions.allSatisfy { $0.isReflectorClient == fabric.reflects(speaker, to: peer) }, "\(speaker.name) to \(peer.name)")
      }
    }
  }

  @Test("BIRD's side of a session names the address that the other side has", arguments: examples)
  func birdAgrees(_ name: String) throws {
    let topology = try example(name)
    let fabric = Fabric(topology)
    for router in topology.routers where router.program == .bird {
      let text = BirdRouter(name: router.name, paths: LabPaths(lab: "t"), fabric: fabric).configuration()
      let own = try #require(fabric.speaker(router.name))
      for peer in fabric.sessions(of: router.name).compactMap(fabric.speaker) {
        for family in IPFamily.allCases {
          #expect(text.contains("local \(fabric.address(of: own, for: peer, family)) as \(own.asNumber);"))
          #expect(text.contains("neighbor \(fabric.address(of: peer, for: own, family)) as \(peer.asNumber);"))
        }
      }
    }
  }

  @Test("Every address of the underlay is used once, and every place has a way to every other", arguments: examples)
  func underlay(_ name: String) throws {
    let topology = try example(name)
    let fabric = Fabric(topology)
    let ends = fabric.cables.flatMap(\.ends)
    var addresses = ends.flatMap(\.addresses).map(\.address)
    addresses += fabric.speakers.filter(\.isRouter).flatMap { [$0.address4.address, $0.address6.address] }
    #expect(Set(addresses).count == addresses.count)

    let owner = Dictionary(uniqueKeysWithValues: ends.flatMap { end in end.addresses.map { ($0.address, end.place) } })
    for place in Set(ends.map(\.place)) {
      for target in addresses where owner[target] != place {
        // Follow the routes hop by hop, the first of several gateways each time.
        var here = place
        var hops = 0
        while !ends.contains(where: { $0.place == here && $0.addresses.contains { $0.prefix.contains(target) } }), hops < 10 {
          if fabric.speaker(here).map({ [$0.address4.address, $0.address6.address].contains(target) }) == true { break }
          let route = fabric.underlayRoutes(of: here).filter { $0.destination.contains(target) }.max {
            $0.destination.length < $1.destination.length
          }
          guard let gateway = route?.gateways.first, let next = owner[gateway] else {
            Issue.record("\(name): \(here) has no way to \(target)")
            break
          }
          here = next
          hops += 1
        }
        #expect(hops < 10, "\(name): \(place) to \(target) runs in circles")
      }
    }
  }

  @Test("Two spines are two equally short ways between racks")
  func equalWays() throws {
    let fabric = Fabric(try example("two-spines"))
    let route = fabric.underlayRoutes(of: "rack1").first { $0.destination == IPPrefix("172.30.2.0/24")! }
    #expect(route?.gateways.count == 2)
  }

  @Test("AS numbers follow from the arrangement unless the file gives them")
  func numbers() throws {
    func numbers(_ name: String) throws -> [String: UInt32] {
      Dictionary(uniqueKeysWithValues: Fabric(try example(name)).speakers.map { ($0.name, $0.asNumber) })
    }
    #expect(try numbers("as-per-host") == ["host1": 65001, "host2": 64700, "host3": 65003, "rack": 65000])
    #expect(
      try numbers("two-racks")
        == ["host1": 65001, "host2": 65001, "host3": 65002, "host4": 65002, "rack1": 65001, "rack2": 65002, "spine": 65000])
    #expect(Set(try numbers("reflectors").values) == [64512])
  }

  @Test("Profiles of namespaces with any label are valid objects")
  func profiles() throws {
    let text = NetworkDocuments.profiles([.init(name: "shop", labels: ["zone": "trusted", "tier/name": "a"]), .init(name: "street")])
    for document in try DocumentReader.read(bytes: Array(text.utf8), file: "profiles.yaml") {
      _ = try ResourceCodec.decodeStrict(document).get()
    }
  }
}

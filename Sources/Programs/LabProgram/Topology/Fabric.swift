/// The wiring plan of a topology: every cable's subnet, every speaker's address, AS and sessions, and the underlay's static routes. A pure
/// function of the topology, so that a lab is found again as it was made.
///
/// Cable N has 172.30.N.0/24 and fd30:0:0:N::/64: hosts count from 1, cables between routers from 201, the datastore's is 250. The router's
/// end is .1, the other .2. Router R has 172.30.255.R and fd30:0:0:ff::R for itself.
import Addresses
import Selectors

struct Fabric {
  struct End {
    let place: String
    let interface: String
    let address4: InterfaceAddress
    let address6: InterfaceAddress
    var addresses: [InterfaceAddress] { [address4, address6] }
  }

  struct Cable {
    let name: String
    let number: UInt8
    /// A host or the datastore, or the first of two routers.
    let a: End
    /// Always a router.
    let b: End
    let mtu: UInt32?
    var ends: [End] { [a, b] }
    func joins(_ x: String, _ y: String) -> Bool { (a.place, b.place) == (x, y) || (a.place, b.place) == (y, x) }
  }

  /// Who speaks BGP.
  struct Speaker {
    let name: String
    let isRouter: Bool
    let isMargay: Bool
    let rack: String?
    let asNumber: UInt32
    /// Its own: a host's on its cable, a router's on its loopback.
    let address4: InterfaceAddress
    let address6: InterfaceAddress
    /// Set on reflectors.
    let clusterID: IPv4Address?
    let labels: [String: String]
  }

  /// Two speakers with a session in each family.
  struct Session: Hashable {
    let a: String
    let b: String
    func other(than name: String) -> String? { a == name ? b : b == name ? a : nil }
  }

  static let hostsMax = 200
  static let routerCablesMax = 49
  static let routersMax = 50

  let topology: Topology
  let cables: [Cable]
  let speakers: [Speaker]
  let sessions: [Session]

  init(_ topology: Topology) {
    self.topology = topology
    cables = Self.cables(topology)
    speakers = Self.speakers(topology)
    sessions = Self.sessions(topology, speakers)
  }

  func speaker(_ name: String) -> Speaker? { speakers.first { $0.name == name } }
  func sessions(of name: String) -> [String] { sessions.compactMap { $0.other(than: name) } }

  // MARK: Addresses

  static func address4(_ number: UInt8, _ last: UInt8, length: UInt8 = 24) -> InterfaceAddress {
    InterfaceAddress(.v4(IPv4Address(172, 30, number, last)), length: length)
  }
  static func address6(_ number: UInt8, _ last: UInt8, length: UInt8 = 64) -> InterfaceAddress {
    InterfaceAddress(.v6(IPv6Address(high: 0xfd30_0000_0000_0000 | UInt64(number), low: UInt64(last))), length: length)
  }

  private static func cables(_ topology: Topology) -> [Cable] {
    func end(_ place: String, _ interface: String, _ number: UInt8, _ last: UInt8) -> End {
      End(place: place, interface: interface, address4: address4(number, last), address6: address6(number, last))
    }
    var routerNumber: UInt8 = 200
    var cables = topology.cables.map { cable in
      if let index = topology.hosts.firstIndex(where: { $0.name == cable.a }) {
        let number = UInt8(index + 1)
        return Cable(
          name: cable.name, number: number, a: end(cable.a, "eth0", number, 2), b: end(cable.b, cable.a, number, 1), mtu: cable.mtu)
      }
      routerNumber += 1
      return Cable(
        name: cable.name, number: routerNumber, a: end(cable.a, cable.b, routerNumber, 2), b: end(cable.b, cable.a, routerNumber, 1),
        mtu: cable.mtu)
    }
    if topology.datastore == .etcd, let router = topology.datastoreRouter {
      let etcd = Topology.etcd
      cables.append(Cable(name: "\(etcd)-\(router)", number: 250, a: end(etcd, "eth0", 250, 2), b: end(router, etcd, 250, 1), mtu: nil))
    }
    return cables
  }

  private static func speakers(_ topology: Topology) -> [Speaker] {
    let clusterIDs = topology.clusterIDs
    let hosts = topology.hosts.enumerated().map { index, host in
      Speaker(
        name: host.name, isRouter: false, isMargay: true, rack: host.rack, asNumber: topology.asNumber(of: host),
        address4: address4(UInt8(index + 1), 2), address6: address6(UInt8(index + 1), 2), clusterID: clusterIDs[host.name],
        labels: topology.labels(of: host))
    }
    let routers = topology.routers.enumerated().map { index, router in
      Speaker(
        name: router.name, isRouter: true, isMargay: router.program == .margay, rack: router.role == .rack ? router.name : nil,
        asNumber: topology.asNumber(of: router), address4: address4(255, UInt8(index + 1), length: 32),
        address6: address6(255, UInt8(index + 1), length: 128), clusterID: clusterIDs[router.name], labels: topology.labels(of: router))
    }
    return hosts + routers
  }

  /// Where `speaker` is reached by `peer`: BIRD at its end of the cable between them, if there is one, so that it notices a cut at once;
  /// everyone else at the address of its own.
  func address(of speaker: Speaker, for peer: Speaker, _ family: IPFamily) -> IPAddress {
    if speaker.isRouter, !speaker.isMargay, !(peer.isRouter && peer.isMargay),
      let cable = cables.first(where: { $0.joins(speaker.name, peer.name) })
    {
      let end = cable.a.place == speaker.name ? cable.a : cable.b
      return (family == .v4 ? end.address4 : end.address6).address
    }
    return (family == .v4 ? speaker.address4 : speaker.address6).address
  }

  /// Both ends' addresses are on one cable.
  func isDirect(_ x: Speaker, _ y: Speaker) -> Bool {
    guard let cable = cables.first(where: { $0.joins(x.name, y.name) }) else { return false }
    return Set(cable.ends.map(\.address4.address)) == [address(of: x, for: y, .v4), address(of: y, for: x, .v4)]
  }

  // MARK: Sessions

  private static func sessions(_ topology: Topology, _ speakers: [Speaker]) -> [Session] {
    var sessions: [Session] = []
    func add(_ a: String, _ b: String) {
      guard a != b, !sessions.contains(Session(a: a, b: b)), !sessions.contains(Session(a: b, b: a)) else { return }
      sessions.append(Session(a: a, b: b))
    }
    switch topology.arrangement {
    case .mesh: for a in speakers { for b in speakers { add(a.name, b.name) } }
    case .asPerRack, .asPerHost: for cable in topology.cables { add(cable.a, cable.b) }
    case .reflectors:
      for reflector in topology.reflectors {
        let selector = try? Selector(parsing: reflector.clients)
        for speaker in speakers where selector?.matches(speaker.labels) == true { add(speaker.name, reflector.node) }
        for other in topology.reflectors { add(other.node, reflector.node) }
      }
    }
    return sessions
  }

  /// Whether `reflector` passes on to `peer` what it hears within the AS.
  func reflects(_ reflector: Speaker, to peer: Speaker) -> Bool {
    reflector.clusterID != nil && reflector.asNumber == peer.asNumber && peer.clusterID != reflector.clusterID
  }

  // MARK: The underlay

  struct UnderlayRoute: Equatable {
    let destination: IPPrefix
    /// More than one: equally short ways.
    let gateways: [IPAddress]
  }

  /// The static routes of one place: a host's and the datastore's lead everything to their router, a router knows the shortest ways.
  func underlayRoutes(of place: String) -> [UnderlayRoute] {
    if !topology.routers.contains(where: { $0.name == place }) {
      guard let cable = cables.first(where: { $0.a.place == place }) else { return [] }
      return [
        UnderlayRoute(destination: Topology.underlay4, gateways: [cable.b.address4.address]),
        UnderlayRoute(destination: Topology.underlay6, gateways: [cable.b.address6.address]),
      ]
    }
    let distances = Dictionary(uniqueKeysWithValues: topology.routers.map { ($0.name, self.distances(from: $0.name)) })
    let neighbours = routerCables(of: place)
    var routes: [UnderlayRoute] = []
    /// The ways to whichever of `targets` is nearest.
    func add(_ destinations: [IPPrefix], at targets: [String]) {
      guard let best = targets.compactMap({ distances[place]?[$0] }).min() else { return }
      let ways = neighbours.filter { neighbour in targets.contains { distances[neighbour.far.place]?[$0] == best - 1 } }
      guard best > 0, !ways.isEmpty else { return }
      for destination in destinations {
        routes.append(
          UnderlayRoute(
            destination: destination, gateways: ways.map { (destination.family == .v4 ? $0.far.address4 : $0.far.address6).address }))
      }
    }
    for cable in cables where !cable.ends.contains(where: { $0.place == place }) {
      let targets = [cable.a.place, cable.b.place].filter { distances[$0] != nil }
      add([cable.b.address4.prefix, cable.b.address6.prefix], at: targets)
    }
    for speaker in speakers where speaker.isRouter && speaker.name != place {
      add([speaker.address4.prefix, speaker.address6.prefix], at: [speaker.name])
    }
    return routes
  }

  /// The cables of a router to other routers, each with its far end.
  private func routerCables(of router: String) -> [(cable: Cable, far: End)] {
    cables.compactMap { cable in
      guard let far = cable.ends.first(where: { $0.place != router }), cable.ends.contains(where: { $0.place == router }),
        topology.routers.contains(where: { $0.name == far.place })
      else { return nil }
      return (cable, far)
    }
  }

  /// Numbers of cables between routers, breadth first.
  func distances(from router: String) -> [String: Int] {
    var distances = [router: 0]
    var queue = [router]
    while !queue.isEmpty {
      let next = queue.removeFirst()
      for (_, far) in routerCables(of: next) where distances[far.place] == nil {
        distances[far.place] = distances[next]! + 1
        queue.append(far.place)
      }
    }
    return distances
  }
}

extension Topology {
  /// The router that the datastore's server hangs on.
  var datastoreRouter: String? { (routers.first { $0.role == .spine } ?? routers.first)?.name }

  /// Reflectors by the topology; and each rack's router, where every rack is an AS.
  var clusterIDs: [String: IPv4Address] {
    switch arrangement {
    case .reflectors: Dictionary(reflectors.map { ($0.node, $0.clusterID) }, uniquingKeysWith: { first, _ in first })
    case .asPerRack:
      Dictionary(uniqueKeysWithValues: racks.enumerated().map { ($0.element.name, IPv4Address(244, 0, 0, UInt8($0.offset + 1))) })
    case .mesh, .asPerHost: [:]
    }
  }

  /// 64512 for all; or a rack's, 65001 65002 …; or each host its own.
  func asNumber(of host: Host) -> UInt32 {
    if let number = host.asNumber { return number }
    switch arrangement {
    case .mesh, .reflectors: return asNumber
    case .asPerRack: return racks.first { $0.name == host.rack }.map(asNumber(of:)) ?? asNumber
    case .asPerHost: return 65001 + UInt32(hosts.firstIndex { $0.name == host.name } ?? 0)
    }
  }

  /// Routers that are no rack's AS count down from 65000.
  func asNumber(of router: Router) -> UInt32 {
    if let number = router.asNumber { return number }
    func place(_ routers: [Router]) -> UInt32 { UInt32(routers.firstIndex { $0.name == router.name } ?? 0) }
    switch arrangement {
    case .mesh, .reflectors: return asNumber
    case .asPerRack: return router.role == .rack ? 65001 + place(racks) : 65000 - place(routers.filter { $0.role == .spine })
    case .asPerHost: return 65000 - place(routers)
    }
  }

  /// What selectors of reflectors see; the labels of the Node objects.
  func labels(of host: Host) -> [String: String] {
    ["name": host.name, "role": "host", "rack": host.rack].merging(reflectorLabel(host.name)) { $1 }.merging(host.labels) { $1 }
  }
  func labels(of router: Router) -> [String: String] {
    let rack = router.role == .rack ? ["rack": router.name] : [:]
    return ["name": router.name, "role": "router"].merging(rack) { $1 }.merging(reflectorLabel(router.name)) { $1 }
      .merging(router.labels) { $1 }
  }
  private func reflectorLabel(_ name: String) -> [String: String] {
    clusterIDs[name].map { ["route-reflector": "\($0)"] } ?? [:]
  }
}

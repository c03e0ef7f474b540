/// rtnetlink's nouns against the kernel, with `ip` as the independent witness.

import Addresses
import Glibc
import KernelSandbox
import NetlinkEdge
import NetlinkMessages
import Octets
import Sockets
import Synchronization
import Testing

/// The kernel's text form may not matter; these parse ours.
func prefix(_ text: String) -> IPPrefix { IPPrefix(text)! }
func address(_ text: String) -> IPAddress { IPAddress(text)! }

@Suite("Route netlink", .enabled(if: KernelSandbox.isAvailable), .serialized, .timeLimit(.minutes(2)))
struct RouteNetlinkTests {
  @Test("A veth's peer is made directly in another namespace, and both ends know of each other")
  func veth() throws {
    let sandbox = KernelSandbox()
    let (host, guest) = (try sandbox.namespace("host"), try sandbox.namespace("guest"))
    let netlink = try RouteNetlink(namespace: host)
    let inside = try RouteNetlink(namespace: guest)
    let mac = MACAddress("02:00:00:00:00:07")!
    let peer = NewLink(name: "eth0", kind: .peer, mac: mac, mtu: 1400, namespace: guest.descriptor.borrowed)
    try netlink.apply(.addLink(NewLink(name: "cali1", kind: .veth(peer: peer), mac: .hostSide, mtu: 1400, isUp: true)))
    let made = try #require(try netlink.link(named: "cali1"))
    try netlink.apply(.changeLink(index: made.index, LinkChange(alias: "w1")))
    let ours = try #require(try netlink.link(named: "cali1"))
    #expect(ours.kind == "veth" && ours.mac == .hostSide && ours.mtu == 1400 && ours.isUp && !ours.isOperational && ours.alias == "w1")
    let theirs = try #require(try inside.link(named: "eth0"))
    #expect(theirs.mac == mac && theirs.mtu == 1400 && !theirs.isUp && theirs.linkIndex == ours.index)
    #expect(theirs.linkNamespace != nil)
    try inside.apply(.changeLink(index: theirs.index, LinkChange(isUp: true)))
    #expect(try netlink.link(index: ours.index)?.isOperational == true)
    #expect(try netlink.link(index: ours.index)?.operationalState == .up)

    try netlink.apply(.changeLink(index: ours.index, LinkChange(isUp: false)))
    try netlink.apply(.changeLink(index: ours.index, LinkChange(isUp: true, name: "cali2", mtu: 1300)))
    #expect(try netlink.link(named: "cali1") == nil)
    #expect(try netlink.link(named: "cali2")?.mtu == 1300)
    try netlink.apply(.changeLink(index: ours.index, LinkChange(namespace: guest.descriptor.borrowed)))
    #expect(try inside.links().map(\.name).sorted() == ["cali2", "eth0", "lo"])
    try inside.apply(.deleteLink(index: theirs.index))
    try inside.apply(.deleteLink(index: theirs.index))
    #expect(try inside.links().map(\.name) == ["lo"])
    #expect(try netlink.link(named: "a-name-longer-than-any-interface") == nil)
  }

  @Test("A bridge takes ports and lets them go")
  func bridge() throws {
    let sandbox = KernelSandbox()
    let host = try sandbox.namespace()
    let netlink = try RouteNetlink(namespace: host)
    try netlink.apply(
      .addLink(NewLink(name: "br0", kind: .bridge, isUp: true)),
      .addLink(NewLink(name: "p0", kind: .veth(peer: NewLink(name: "p1", kind: .peer)))))
    let bridge = try #require(try netlink.link(named: "br0"))
    let port = try #require(try netlink.link(named: "p0"))
    #expect(bridge.kind == "bridge")
    try netlink.apply(.changeLink(index: port.index, LinkChange(master: bridge.index)))
    #expect(try netlink.link(named: "p0")?.master == bridge.index)
    let monitor = try RouteMonitor([RouteGroup.link], namespace: host)
    try netlink.apply(.changeLink(index: port.index, LinkChange(master: 0)))
    #expect(try netlink.link(named: "p0")?.master == nil)
    // Leaving a bridge is told in the words of a removal; it is none.
    _ = monitor.receive { if case .linkRemoved = $0 { Issue.record("\($0)") } }
  }

  @Test("Addresses are set, dumped and deleted in both families")
  func addresses() throws {
    let sandbox = KernelSandbox()
    let host = try sandbox.namespace()
    let netlink = try RouteNetlink(namespace: host)
    try netlink.apply(.addLink(NewLink(name: "d0", kind: .bridge, isUp: true)))
    let index = try #require(try netlink.link(named: "d0")).index
    let wanted = [
      AssignedAddress(interface: index, address: InterfaceAddress("10.1.2.3/24")!),
      AssignedAddress(interface: index, address: InterfaceAddress("169.254.1.1/32")!, flags: .noPrefixRoute),
      AssignedAddress(interface: index, address: InterfaceAddress("2001:db8::3/64")!, flags: .noDuplicateDetection),
    ]
    #expect(try netlink.apply(wanted.map { .setAddress($0) }).allSatisfy { $0 == nil })
    #expect(try netlink.apply(wanted.map { .setAddress($0) }).allSatisfy { $0 == nil })
    let found = try netlink.addresses(interface: index).filter { $0.address.address.family == .v4 || !$0.address.address.isLinkLocal }
    #expect(Set(found.map(\.address)) == Set(wanted.map(\.address)))
    let linkLocal = try #require(found.first { $0.address == wanted[1].address })
    #expect(linkLocal.scope == .link && linkLocal.flags.contains(.noPrefixRoute))
    let v6 = try #require(found.first { $0.address == wanted[2].address })
    #expect(v6.flags.contains(.noDuplicateDetection) && !v6.flags.contains(.tentative))
    #expect(try netlink.addresses(family: .v4).filter { $0.interface != index }.map(\.address) == [InterfaceAddress("127.0.0.1/8")!])
    #expect(try netlink.apply(wanted.map { .deleteAddress($0) }).allSatisfy { $0 == nil })
    #expect(try netlink.apply(wanted.map { .deleteAddress($0) }).allSatisfy { $0 == nil })
    #expect(try netlink.addresses(family: .v4, interface: index) == [])
  }

  /// A host with two uplinks, up and addressed.
  static func uplinks(_ sandbox: KernelSandbox) throws -> (NetworkNamespace, RouteNetlink, UInt32, UInt32) {
    let (host, other) = (try sandbox.namespace("host"), try sandbox.namespace("tor"))
    try sandbox.connect(host, "up0", ["172.16.0.1/24", "2001:db8:1::1/64"], other, "d0", ["172.16.0.2/24", "2001:db8:1::2/64"])
    try sandbox.connect(host, "up1", ["172.16.1.1/24", "2001:db8:2::1/64"], other, "d1", ["172.16.1.2/24", "2001:db8:2::2/64"])
    let netlink = try RouteNetlink(namespace: host)
    return (host, netlink, try #require(try netlink.link(named: "up0")).index, try #require(try netlink.link(named: "up1")).index)
  }

  @Test("Every kind of route comes back from the kernel equal to what was sent")
  func routes() throws {
    let sandbox = KernelSandbox()
    let (host, netlink, up0, up1) = try Self.uplinks(sandbox)
    let wanted = [
      KernelRoute.device(prefix("10.65.0.7/32"), interface: up0, protocol: .felix),
      KernelRoute.blackhole(prefix("10.65.0.0/26"), protocol: .felix),
      KernelRoute(prefix("10.66.0.0/24"), nextHops: [NextHop(gateway: address("172.16.0.2"), interface: up0)], protocol: .felix),
      KernelRoute(
        prefix("10.67.0.0/24"),
        nextHops: [
          NextHop(gateway: address("172.16.1.2"), interface: up1, weight: 3), NextHop(gateway: address("172.16.0.2"), interface: up0),
        ], protocol: .felix),
      KernelRoute(prefix("10.68.0.0/24"), nextHops: [NextHop(gateway: address("2001:db8:1::2"), interface: up0)], protocol: .felix),
      KernelRoute(
        prefix("10.69.0.0/24"), nextHops: [NextHop(gateway: address("192.168.9.9"), interface: up1, isOnLink: true)], protocol: .felix,
        metric: 77, preferredSource: address("172.16.1.1")),
      KernelRoute(
        prefix("10.70.0.0/24"),
        nextHops: [
          NextHop(gateway: address("2001:db8:1::2"), interface: up0), NextHop(gateway: address("172.16.1.2"), interface: up1),
        ], protocol: .felix),
      KernelRoute(prefix("0.0.0.0/0"), nextHops: [NextHop(gateway: address("172.16.0.2"), interface: up0)], protocol: .felix),
      KernelRoute.device(prefix("2001:db8:65::7/128"), interface: up0, protocol: .felix),
      KernelRoute.blackhole(prefix("2001:db8:65::/122"), protocol: .felix),
      KernelRoute(
        prefix("2001:db8:66::/64"), nextHops: [NextHop(gateway: address("2001:db8:1::2"), interface: up0)], protocol: .felix, metric: 9),
      KernelRoute(
        prefix("2001:db8:67::/64"),
        nextHops: [
          NextHop(gateway: address("2001:db8:1::2"), interface: up0), NextHop(gateway: address("2001:db8:2::2"), interface: up1),
        ], protocol: .felix),
      KernelRoute(prefix("::/0"), nextHops: [NextHop(gateway: address("2001:db8:1::2"), interface: up0)], protocol: .felix),
    ]
    let results = try netlink.apply(wanted.map { .addRoute($0) })
    #expect(results.compactMap { $0?.description } == [])
    let found = try netlink.routes(protocol: .felix)
    #expect(Set(found) == Set(wanted), "only here: \(Set(found).subtracting(wanted)), missing: \(Set(wanted).subtracting(found))")
    #expect(try sandbox.ip(host, "route", "show", "proto", "80").contains("10.65.0.7 dev up0 scope link"))
    #expect(try netlink.apply(wanted.map { .addRoute($0) }).allSatisfy { $0?.isExists == true })
    #expect(try netlink.apply(wanted.map { .replaceRoute($0) }).allSatisfy { $0 == nil })
    #expect(Set(try netlink.routes(protocol: .felix)) == Set(wanted))
    #expect(try netlink.routes(protocol: .bgp) == [])
    #expect(try netlink.routes(table: 4711) == [])
    #expect(try netlink.apply(wanted.map { .deleteRoute($0) }).allSatisfy { $0 == nil })
    #expect(try netlink.routes(protocol: .felix) == [])
    #expect(try netlink.routes(protocol: .kernel, family: .v4).count == 2)
  }

  @Test("A deletion spares the route of another protocol at the same place")
  func deletionIsOwn() throws {
    let sandbox = KernelSandbox()
    let (_, netlink, up0, _) = try Self.uplinks(sandbox)
    for text in ["10.1.0.0/24", "2001:db8:a::/64"] {
      let foreign = KernelRoute.device(prefix(text), interface: up0, protocol: .static)
      let ours = KernelRoute.device(prefix(text), interface: up0, protocol: .felix)
      try netlink.apply(.addRoute(foreign))
      try netlink.apply(.deleteRoute(ours))
      #expect(try netlink.routes(protocol: .static).contains(foreign))
    }
  }

  @Test("An IPv6 route may go from one next hop to several and back")
  func multipathReplace() throws {
    let sandbox = KernelSandbox()
    let (_, netlink, up0, up1) = try Self.uplinks(sandbox)
    for (text, a, b) in [
      ("2001:db8:67::/64", "2001:db8:1::2", "2001:db8:2::2"), ("10.67.0.0/24", "172.16.0.2", "172.16.1.2"),
    ] {
      let one = KernelRoute(prefix(text), nextHops: [NextHop(gateway: address(a), interface: up0)], protocol: .bgp)
      let two = KernelRoute(
        prefix(text), nextHops: [NextHop(gateway: address(a), interface: up0), NextHop(gateway: address(b), interface: up1)],
        protocol: .bgp)
      let other = KernelRoute(prefix(text), nextHops: [NextHop(gateway: address(b), interface: up1)], protocol: .bgp)
      for route in [one, two, other, two, one] {
        try netlink.apply(.replaceRoute(route))
        #expect(try netlink.routes(protocol: .bgp, family: route.destination.family) == [route])
      }
    }
  }

  @Test("Permanent and proxy neighbours are set, told apart and deleted")
  func neighbours() throws {
    let sandbox = KernelSandbox()
    let (host, netlink, up0, _) = try Self.uplinks(sandbox)
    let mac = MACAddress("02:00:00:00:00:09")!
    let permanent = [
      Neighbour.permanent(address("172.16.0.9"), mac, interface: up0), .permanent(address("2001:db8:1::9"), mac, interface: up0),
    ]
    let proxies = [Neighbour.proxy(address("169.254.1.1"), interface: up0), .proxy(address("fe80::1"), interface: up0)]
    #expect(try netlink.apply((permanent + proxies).map { .setNeighbour($0) }).allSatisfy { $0 == nil })
    #expect(Set(try netlink.neighbours(interface: up0).filter { $0.state == .permanent }) == Set(permanent))
    let seen = try netlink.neighbours(proxies: true, interface: up0)
    #expect(Set(seen.map(\.address)) == Set(proxies.map(\.address)) && seen.allSatisfy(\.isProxy))
    #expect(try sandbox.ip(host, "neigh", "show", "proxy").contains("169.254.1.1 dev up0"))
    #expect(try netlink.apply((permanent + proxies).map { .deleteNeighbour($0) }).allSatisfy { $0 == nil })
    #expect(try netlink.apply((permanent + proxies).map { .deleteNeighbour($0) }).allSatisfy { $0 == nil })
    #expect(try netlink.neighbours(proxies: true, interface: up0) == [])
  }

  @Test("Each failure of a large batch is told with its object")
  func attribution() throws {
    let sandbox = KernelSandbox()
    let (_, netlink, up0, _) = try Self.uplinks(sandbox)
    let changes: [RouteNetlinkChange] = (0..<1000).map { number in
      let destination = prefix("10.\(100 + number / 250).\(number % 250).0/24")
      return number % 100 == 7
        ? .addRoute(KernelRoute(destination, nextHops: [NextHop(gateway: address("203.0.113.1"))], protocol: .bgp))
        : .addRoute(.device(destination, interface: up0, protocol: .bgp))
    }
    let results = try netlink.apply(changes)
    #expect(results.indices.filter { results[$0] != nil } == stride(from: 7, to: 1000, by: 100).map { $0 })
    let first = try #require(results[7])
    #expect(first.needsInterface)
    #expect(first.description.hasPrefix("route 10.100.7.0/24 via 203.0.113.1 proto 81: "), "\(first)")
    #expect(first.message == "Nexthop has invalid gateway")
    #expect(try netlink.routes(protocol: .bgp).count == 990)
  }

  @Test("A dump that changes under way comes out whole")
  func robustDump() throws {
    let sandbox = KernelSandbox()
    let (host, netlink, up0, _) = try Self.uplinks(sandbox)
    let stable = (0..<4000).map { KernelRoute.device(prefix("10.\(100 + $0 / 250).\($0 % 250).0/24"), interface: up0, protocol: .bgp) }
    #expect(try netlink.apply(stable.map { .addRoute($0) }).allSatisfy { $0 == nil })
    let links = (0..<60).map { NewLink(name: "s\($0)", kind: .bridge) }
    #expect(try netlink.apply(links.map { .addLink($0) }).allSatisfy { $0 == nil })

    // Another thread adds and removes links and routes as fast as it can while dumps run.
    let stop = StopFlag()
    try DedicatedThread.start {
      do {
        let churn = try RouteNetlink(namespace: host)
        var number = 0
        while !stop.isRequested {
          number += 1
          let name = "x\(number % 7)"
          try churn.apply(.addLink(NewLink(name: name, kind: .bridge)))
          if let index = try churn.link(named: name)?.index { try churn.apply(.deleteLink(index: index)) }
          let route = KernelRoute.device(prefix("10.99.\(number % 250).0/24"), interface: up0, protocol: .static)
          try churn.apply(.replaceRoute(route), .deleteRoute(route))
        }
      } catch { Issue.record(error) }
      stop.finish()
    }
    defer {
      stop.request()
      #expect(eventually { stop.isFinished })
    }
    // Until a dump was interrupted indeed, or the deadline.
    let deadline = MonotonicInstant.now + .seconds(20)
    var rounds = 0
    while rounds < 10 || netlink.socket.dumpsRepeated == 0, MonotonicInstant.now < deadline {
      rounds += 1
      let names = Set(try netlink.links().map(\.name))
      #expect(names.isSuperset(of: links.map(\.name)))
      let routes = try netlink.routes(protocol: .bgp, family: .v4)
      #expect(routes.count == 4000 && Set(routes) == Set(stable))
    }
    #expect(netlink.socket.dumpsRepeated > 0)
  }

  @Test("A monitor hears of links, addresses and routes at once, and says so when it lost some")
  func monitor() throws {
    let sandbox = KernelSandbox()
    let host = try sandbox.namespace()
    let monitor = try RouteMonitor(RouteMonitor.linksAndAddresses + RouteMonitor.routes, namespace: host)
    let netlink = try RouteNetlink(namespace: host)
    try netlink.apply(.addLink(NewLink(name: "cali1", kind: .bridge, isUp: true)))
    let index = try #require(try netlink.link(named: "cali1")).index
    try netlink.apply(.setAddress(AssignedAddress(interface: index, address: InterfaceAddress("10.0.0.1/24")!)))
    let route = KernelRoute.device(prefix("10.9.0.0/24"), interface: index, protocol: .felix)
    try netlink.apply(.addRoute(route), .deleteRoute(route), .deleteLink(index: index))
    var events: [RouteNetlinkEvent] = []
    #expect(monitor.receive { events.append($0) } == .drained)
    #expect(events.contains { if case .link(let link) = $0 { link.name == "cali1" } else { false } })
    #expect(events.contains { if case .address(let found) = $0 { found.address == InterfaceAddress("10.0.0.1/24") } else { false } })
    #expect(events.contains(.route(route)))
    #expect(events.contains(.routeRemoved(route)))
    #expect(events.contains { if case .linkRemoved(let link) = $0 { link.index == index } else { false } })

    let small = try NetlinkSocket(.route, groups: RouteMonitor.routes, namespace: host.descriptor.borrowed, bufferOctets: 4096)
    try netlink.apply(.addLink(NewLink(name: "cali1", kind: .bridge, isUp: true)))
    let again = try #require(try netlink.link(named: "cali1")).index
    let many = (0..<500).map { KernelRoute.device(prefix("10.9.\($0 % 250).\($0 / 250)/32"), interface: again, protocol: .felix) }
    _ = try netlink.apply(many.map { .addRoute($0) })
    #expect(small.receive { _, _ in } == .overrun)
    #expect(small.receive { _, _ in } == .drained)
  }

  @Test("No octets make the decoders crash", arguments: 1...20 as ClosedRange<UInt64>)
  func garbage(seed: UInt64) throws {
    var generator = SeededGenerator(state: seed)
    var batch = NetlinkBatch()
    for change in [
      RouteNetlinkChange.addLink(NewLink(name: "a", kind: .veth(peer: NewLink(name: "b", kind: .peer)), mac: .hostSide, mtu: 1)),
      .addRoute(
        KernelRoute(
          prefix("10.0.0.0/8"), nextHops: [NextHop(gateway: address("10.1.1.1")), NextHop(gateway: address("fe80::1"), interface: 3)],
          protocol: .bgp)),
      .setNeighbour(.permanent(address("::1"), .hostSide, interface: 2)),
      .setAddress(AssignedAddress(interface: 1, address: InterfaceAddress("10.0.0.1/8")!)),
    ] { change.encode(into: &batch) }
    var decoded = 0
    for round in 0..<3000 {
      let index = round % batch.count
      let start = batch.offsets[index] + NetlinkHeader.size
      var octets = Array(batch.octets[start..<(index + 1 < batch.count ? batch.offsets[index + 1] : batch.octetCount)])
      if round >= 4 {
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
          octets[Int.random(in: 0..<octets.count, using: &generator)] = [0, 1, 3, 4, 255, UInt8.random(in: 0...255, using: &generator)]
            .randomElement(using: &generator)!
        }
        octets.removeLast(Int.random(in: 0..<4, using: &generator) * Int.random(in: 0...1, using: &generator))
      }
      var reader = OctetReader(octets.span)
      if let event = try? RouteNetlinkEvent.decode(type: batch.type(ofMessage: index), &reader) {
        decoded += 1
        _ = "\(event)"
      }
    }
    #expect(decoded >= 4)
  }
}

/// Asks a thread to end and hears that it has.
final class StopFlag: Sendable {
  private let state = Mutex((requested: false, finished: false))
  var isRequested: Bool { state.withLock { $0.requested } }
  var isFinished: Bool { state.withLock { $0.finished } }
  func request() { state.withLock { $0.requested = true } }
  func finish() { state.withLock { $0.finished = true } }
}

@Suite("Routes that mean the same")
struct EqualRouteTests {
  @Test("The weight of an only next hop says nothing")
  func weight() {
    let destination = IPPrefix("10.0.0.0/24")!
    let heavy = KernelRoute(destination, nextHops: [NextHop(interface: 3, weight: 7)], protocol: .bgp)
    #expect(heavy == KernelRoute(destination, nextHops: [NextHop(interface: 3)], protocol: .bgp))
  }
}

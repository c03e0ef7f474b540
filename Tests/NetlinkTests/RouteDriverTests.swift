/// The route driver against the kernel: it makes things so, notices when they change, and touches nothing that is right or not its own.

import Addresses
import KernelSandbox
import NetlinkEdge
import NetlinkMessages
import RouteDriver
import Sockets
import Testing

/// A driver with the monitor that its program would have.
final class DrivenHost {
  let sandbox: KernelSandbox
  let host: NetworkNamespace
  let netlink: RouteNetlink
  let monitor: RouteMonitor
  let driver: RouteDriver

  init(
    _ sandbox: KernelSandbox, _ host: NetworkNamespace, protocol number: RouteProtocol = .felix, ownedInterfacePrefixes: [String] = [],
    yielding: Set<RouteProtocol> = [], deletionGrace: Duration = .zero
  ) throws {
    self.sandbox = sandbox
    self.host = host
    monitor = try RouteMonitor(RouteMonitor.linksAndAddresses + RouteMonitor.routes, namespace: host)
    netlink = try RouteNetlink(namespace: host)
    driver = RouteDriver(
      netlink: netlink, protocol: number, ownedInterfacePrefixes: ownedInterfacePrefixes, yielding: yielding,
      deletionGrace: deletionGrace)
    try driver.resync()
  }
  func hear() throws {
    if monitor.receive({ driver.handle($0) }) == .overrun { try driver.resync() }
  }
  @discardableResult
  func apply(now: MonotonicInstant = .now) throws -> RouteDriver.Report {
    try hear()
    let report = try driver.apply(now: now)
    try hear()
    return report
  }
  func routes() throws -> [String] {
    try netlink.routes(protocol: driver.protocol).map(\.destination).sorted().map(\.description)
  }
  func addLink(_ name: String) throws {
    try netlink.apply(.addLink(NewLink(name: name, kind: .veth(peer: NewLink(name: "p\(name)", kind: .peer)), isUp: true)))
    let peer = try #require(try netlink.link(named: "p\(name)"))
    try netlink.apply(.changeLink(index: peer.index, LinkChange(isUp: true)))
  }
  func deleteLink(_ name: String) throws {
    if let link = try netlink.link(named: name) { try netlink.apply(.deleteLink(index: link.index)) }
  }
}

@Suite("Route driver", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(2)))
struct RouteDriverTests {
  @Test("Gateways that another's route hides are within reach first: each by its own route, in the same apply, and last to go")
  func gatewaysFirst() throws {
    let sandbox = KernelSandbox()
    let felix = try DrivenHost(sandbox, try sandbox.namespace(), yielding: [.bgp])
    for name in ["up", "tunnel"] { try felix.addLink(name) }
    try sandbox.ip(felix.host, "address", "add", "fd30::1/64", "dev", "up", "nodad")
    for number in 1...20 { try sandbox.ip(felix.host, "route", "add", "fd65:\(number)::/64", "via", "fd30::2", "dev", "up", "proto", "81") }
    // One of the ends is where BGP has a route of its own.
    try sandbox.ip(felix.host, "route", "add", "fd65:7::/128", "via", "fd30::2", "dev", "up", "proto", "81")
    for number in 1...20 {
      let end = IPAddress("fd65:\(number)::")!
      felix.driver.want(RouteSpec(hops: [.init(gateway: end, device: "tunnel", isOnLink: true)]), for: IPPrefix(end, length: 64))
      felix.driver.want(.device("tunnel"), for: end.hostPrefix)
    }
    #expect(try felix.apply() == RouteDriver.Report(changed: 40))
    #expect(try felix.netlink.routes(protocol: .bgp) == [])
    let monitor = try RouteMonitor(RouteMonitor.routes, namespace: felix.host)
    for number in 1...20 { for length in [64, 128] { felix.driver.want(nil, for: IPPrefix(IPAddress("fd65:\(number)::")!, length: UInt8(length))) } }
    #expect(try felix.apply() == RouteDriver.Report(changed: 40))
    var removed: [UInt8] = []
    _ = monitor.receive { if case .routeRemoved(let route) = $0, route.protocol == .felix { removed.append(route.destination.length) } }
    #expect(removed == Array(repeating: 64, count: 20) + Array(repeating: 128, count: 20))
    #expect(try felix.routes() == [])
  }

  @Test("What BGP learned of an address far away gives way to the address that is here, in one step; other programs' routes do not")
  func yielding() throws {
    let sandbox = KernelSandbox()
    let felix = try DrivenHost(sandbox, try sandbox.namespace(), ownedInterfacePrefixes: ["cali"], yielding: [.bgp])
    let bgp = try DrivenHost(sandbox, felix.host, protocol: .bgp)
    for name in ["cali1", "up"] { try felix.addLink(name) }
    try sandbox.ip(felix.host, "address", "add", "172.30.0.1/24", "dev", "up")
    try sandbox.ip(felix.host, "address", "add", "fd30::1/64", "dev", "up", "nodad")
    let hosts = ["10.65.0.7/32", "2001:db8::7/128"].map { prefix($0) }
    for (host, gateway) in zip(hosts, ["172.30.0.2", "fd30::2"]) {
      bgp.driver.want(RouteSpec(hops: [.init(gateway: IPAddress(gateway)!, device: "up")]), for: host)
    }
    bgp.driver.want(RouteSpec(hops: [.init(gateway: IPAddress("172.30.0.2")!, device: "up")]), for: prefix("10.65.9.0/26"))
    #expect(try bgp.apply().changed == 3)
    for host in hosts { felix.driver.want(.device("cali1"), for: host) }
    felix.driver.want(.blackhole, for: prefix("10.65.9.0/26"))
    let monitor = try RouteMonitor(RouteMonitor.routes, namespace: felix.host)
    #expect(try felix.apply() == RouteDriver.Report(changed: 3))
    var removed: [KernelRoute] = []
    _ = monitor.receive { if case .routeRemoved(let route) = $0, route.destination.isHost { removed.append(route) } }
    #expect(removed.filter { $0.protocol == .felix }.isEmpty)
    #expect(try felix.routes() == ["10.65.0.7/32", "10.65.9.0/26", "2001:db8::7/128"])
    #expect(try bgp.routes() == [])
    // The other driver hears of it; when it no longer wants the route there is nothing left to do for it.
    for host in hosts + [prefix("10.65.9.0/26")] { bgp.driver.want(nil, for: host) }
    #expect(try bgp.apply() == RouteDriver.Report())
    #expect(try felix.routes() == ["10.65.0.7/32", "10.65.9.0/26", "2001:db8::7/128"])
    // Of a route that nobody gave leave to replace, the conflict is told.
    try sandbox.ip(felix.host, "route", "add", "10.65.0.8/32", "dev", "up", "proto", "static")
    felix.driver.want(.device("cali1"), for: prefix("10.65.0.8/32"))
    let report = try felix.apply()
    #expect(report.changed == 0 && report.problems.first?.reason.contains("stands in its place") == true)
  }

  @Test("The last IPv4 address of an interface takes its routes along in silence: they come back; one of several addresses takes none")
  func lastAddress() throws {
    let sandbox = KernelSandbox()
    let host = try DrivenHost(sandbox, try sandbox.namespace())
    try host.addLink("cali1")
    for address in ["169.254.1.1/32", "192.0.2.1/32"] { try sandbox.ip(host.host, "address", "add", address, "dev", "cali1") }
    for text in ["10.65.0.7/32", "2001:db8::7/128"] { host.driver.want(.device("cali1"), for: prefix(text)) }
    #expect(try host.apply() == RouteDriver.Report(changed: 2))
    try sandbox.ip(host.host, "address", "del", "192.0.2.1/32", "dev", "cali1")
    #expect(try host.apply() == RouteDriver.Report())
    try sandbox.ip(host.host, "address", "del", "169.254.1.1/32", "dev", "cali1")
    #expect(try host.routes() == ["2001:db8::7/128"])
    #expect(try host.apply() == RouteDriver.Report(changed: 1))
    #expect(try host.routes() == ["10.65.0.7/32", "2001:db8::7/128"])
  }

  @Test("Workload and block routes are made, changed and removed")
  func life() throws {
    let sandbox = KernelSandbox()
    let host = try DrivenHost(sandbox, try sandbox.namespace())
    try host.addLink("cali1")
    try host.addLink("cali2")
    host.driver.want(.device("cali1"), for: prefix("10.65.0.7/32"))
    host.driver.want(.device("cali1"), for: prefix("2001:db8::7/128"))
    host.driver.want(.blackhole, for: prefix("10.65.0.0/26"))
    host.driver.want(.blackhole, for: prefix("2001:db8::/122"))
    #expect(try host.apply() == RouteDriver.Report(changed: 4))
    #expect(try host.routes() == ["10.65.0.0/26", "10.65.0.7/32", "2001:db8::/122", "2001:db8::7/128"])
    #expect(try sandbox.ip(host.host, "route").contains("10.65.0.7 dev cali1 proto 80 scope link"))
    #expect(try host.apply().changed == 0)
    // Moves to another interface: one replacement, nothing else.
    host.driver.want(.device("cali2"), for: prefix("10.65.0.7/32"))
    #expect(try host.apply().changed == 1)
    #expect(try sandbox.ip(host.host, "route").contains("10.65.0.7 dev cali2 proto 80 scope link"))
    // Another metric is another route to the kernel: the new one, then the old one goes.
    host.driver.want(RouteSpec(hops: [.init(device: "cali2")], metric: 512), for: prefix("10.65.0.7/32"))
    #expect(try host.apply().changed == 2)
    #expect(try host.routes() == ["10.65.0.0/26", "10.65.0.7/32", "2001:db8::/122", "2001:db8::7/128"])
    for text in ["10.65.0.7/32", "2001:db8::7/128", "10.65.0.0/26", "2001:db8::/122"] { host.driver.want(nil, for: prefix(text)) }
    #expect(try host.apply().changed == 4)
    #expect(try host.routes() == [])
    #expect(host.driver.isSettled)
  }

  @Test("A route waits for its interface, says so, and comes with it; a vanished interface is no surprise")
  func waiting() throws {
    let sandbox = KernelSandbox()
    let host = try DrivenHost(sandbox, try sandbox.namespace())
    host.driver.want(.device("cali1"), for: prefix("10.65.0.7/32"))
    host.driver.want(.device("cali1"), for: prefix("2001:db8::7/128"))
    let reason = "route 10.65.0.7/32: cali1 does not exist; retrying when it appears"
    #expect(try host.apply().problems.first?.description == reason)
    for _ in 0..<3 {
      try host.addLink("cali1")
      #expect(try host.apply() == RouteDriver.Report(changed: 2))
      #expect(try host.routes() == ["10.65.0.7/32", "2001:db8::7/128"])
      let index = try #require(try host.netlink.link(named: "cali1")).index
      try host.netlink.apply(.changeLink(index: index, LinkChange(isUp: false)))
      #expect(try host.apply().problems.first?.reason == "cali1 is down; retrying when it is up")
      #expect(try host.routes() == [])
      try host.netlink.apply(.changeLink(index: index, LinkChange(isUp: true)))
      #expect(try host.apply().problems == [])
      #expect(try host.routes() == ["10.65.0.7/32", "2001:db8::7/128"])
      try host.deleteLink("cali1")
      #expect(try host.apply().problems.count == 2)
      #expect(try host.routes() == [])
    }
  }

  @Test("A renamed interface carries the route of its new name")
  func renamed() throws {
    let sandbox = KernelSandbox()
    let host = try DrivenHost(sandbox, try sandbox.namespace())
    try host.addLink("tmp1")
    host.driver.want(.device("cali1"), for: prefix("10.65.0.7/32"))
    #expect(try host.apply().changed == 0)
    let index = try #require(try host.netlink.link(named: "tmp1")).index
    try host.netlink.apply(.changeLink(index: index, LinkChange(isUp: false, name: "cali1")))
    try host.netlink.apply(.changeLink(index: index, LinkChange(isUp: true)))
    #expect(try host.apply() == RouteDriver.Report(changed: 1))
    #expect(try host.routes() == ["10.65.0.7/32"])
  }

  @Test("What is deleted or replaced behind our back comes again; what others own stays")
  func drift() throws {
    let sandbox = KernelSandbox()
    let host = try DrivenHost(sandbox, try sandbox.namespace())
    try host.addLink("cali1")
    try host.addLink("eth9")
    try sandbox.ip(host.host, "route", "add", "10.77.0.0/16", "dev", "eth9", "proto", "static")
    try sandbox.ip(host.host, "route", "add", "10.78.0.0/16", "dev", "eth9", "proto", "80")
    host.driver.want(.device("cali1"), for: prefix("10.65.0.7/32"))
    host.driver.want(.blackhole, for: prefix("10.65.0.0/26"))
    // The stray route with our protocol goes, the static one stays.
    #expect(try host.apply().changed == 3)
    try sandbox.ip(host.host, "route", "del", "10.65.0.7")
    try sandbox.ip(host.host, "route", "replace", "unreachable", "10.65.0.0/26", "proto", "80")
    #expect(try host.apply().changed == 2)
    try sandbox.ip(host.host, "route", "add", "10.79.0.0/16", "dev", "eth9", "proto", "80")
    #expect(try host.apply().changed == 1)
    #expect(try host.routes() == ["10.65.0.0/26", "10.65.0.7/32"])
    #expect(try sandbox.ip(host.host, "route").contains("10.77.0.0/16 dev eth9 proto static"))
    #expect(try sandbox.ip(host.host, "route").contains("blackhole 10.65.0.0/26"))
    try sandbox.ip(host.host, "route", "flush", "proto", "80")
    #expect(try host.apply().changed == 2)
  }

  @Test("A foreign route in our place is left alone and named, and ours comes when it goes")
  func conflict() throws {
    let sandbox = KernelSandbox()
    let host = try DrivenHost(sandbox, try sandbox.namespace(), protocol: .bgp)
    try host.addLink("eth0")
    try host.addLink("eth1")
    try sandbox.ip(host.host, "address", "add", "10.1.0.1/24", "dev", "eth0")
    host.driver.want(RouteSpec(hops: [.init(device: "eth1")]), for: prefix("10.1.0.0/24"))
    let report = try host.apply()
    #expect(report.changed == 0)
    #expect(report.problems.first?.reason.contains("a route of protocol kernel stands in its place") == true, "\(report)")
    #expect(try sandbox.ip(host.host, "route").contains("10.1.0.0/24 dev eth0 proto kernel"))
    // Another program takes a place of ours: noticed, though only its own addition is told.
    host.driver.want(RouteSpec(hops: [.init(device: "eth1")]), for: prefix("10.2.0.0/24"))
    #expect(try host.apply().changed == 1)
    try sandbox.ip(host.host, "route", "replace", "10.2.0.0/24", "dev", "eth0", "proto", "static")
    #expect(try host.apply().problems.count == 2)
    try sandbox.ip(host.host, "route", "del", "10.2.0.0/24")
    try sandbox.ip(host.host, "address", "del", "10.1.0.1/24", "dev", "eth0")
    #expect(try host.apply() == RouteDriver.Report(changed: 2))
  }

  @Test("Gateways may come later; several next hops are one route; an IPv6 gateway serves IPv4")
  func gateways() throws {
    let sandbox = KernelSandbox()
    let (hostSpace, _, up0, _) = try RouteNetlinkTests.uplinks(sandbox)
    let host = try DrivenHost(sandbox, hostSpace, protocol: .bgp)
    host.driver.want(.via([address("172.16.0.2"), address("172.16.1.2")]), for: prefix("10.66.0.0/24"))
    host.driver.want(.via([address("2001:db8:1::2"), address("2001:db8:2::2")]), for: prefix("2001:db8:66::/64"))
    host.driver.want(RouteSpec(hops: [.init(gateway: address("2001:db8:1::2"), device: "up0")]), for: prefix("10.67.0.0/24"))
    host.driver.want(.via([address("192.0.2.1")]), for: prefix("10.68.0.0/24"))
    let report = try host.apply()
    #expect(report.changed == 3)
    #expect(report.problems.map(\.prefix) == [prefix("10.68.0.0/24")])
    #expect(report.problems[0].reason.hasSuffix("retrying when an interface or address changes"), "\(report)")
    let text = try sandbox.ip(hostSpace, "route", "show", "10.66.0.0/24")
    #expect(text.contains("nexthop via 172.16.0.2 dev up0") && text.contains("nexthop via 172.16.1.2 dev up1"))
    #expect(try sandbox.ip(hostSpace, "route", "show", "10.67.0.0/24").contains("via inet6 2001:db8:1::2 dev up0"))
    try host.netlink.apply(.setAddress(AssignedAddress(interface: up0, address: InterfaceAddress("192.0.2.9/24")!)))
    #expect(try host.apply() == RouteDriver.Report(changed: 1))
    #expect(try host.apply() == RouteDriver.Report())
    // One of two gateways less, and again.
    host.driver.want(.via([address("172.16.1.2")]), for: prefix("10.66.0.0/24"))
    host.driver.want(.via([address("2001:db8:2::2")]), for: prefix("2001:db8:66::/64"))
    #expect(try host.apply() == RouteDriver.Report(changed: 2))
    host.driver.want(.via([address("172.16.1.2"), address("172.16.0.2")]), for: prefix("10.66.0.0/24"))
    #expect(try host.apply() == RouteDriver.Report(changed: 1))
    #expect(try host.apply() == RouteDriver.Report())
  }

  @Test("A route that just appeared is not removed before its grace is over")
  func grace() throws {
    let sandbox = KernelSandbox()
    let host = try DrivenHost(sandbox, try sandbox.namespace(), deletionGrace: .seconds(10))
    try host.addLink("cali1")
    try host.addLink("cali2")
    try sandbox.ip(host.host, "route", "add", "10.65.0.7", "dev", "cali1", "proto", "80", "scope", "link")
    try sandbox.ip(host.host, "route", "add", "10.65.0.8", "dev", "cali2", "proto", "80", "scope", "link")
    let start = MonotonicInstant.now
    let first = try host.apply(now: start)
    #expect(first.changed == 0)
    let again = try #require(first.again)
    #expect(again > start && again < start + .seconds(11))
    // The owner hears of the first: nothing to do. The other is a stray after all.
    host.driver.want(.device("cali1"), for: prefix("10.65.0.7/32"))
    #expect(try host.apply(now: again + .seconds(1)) == RouteDriver.Report(changed: 1))
    #expect(try host.routes() == ["10.65.0.7/32"])
    // What we made ourselves goes at once.
    host.driver.want(nil, for: prefix("10.65.0.7/32"))
    #expect(try host.apply(now: start).changed == 1)
  }

  @Test("Routes of other protocols on workload interfaces go, if asked for; the kernel's own stay")
  func external() throws {
    let sandbox = KernelSandbox()
    let space = try sandbox.namespace()
    let host = try DrivenHost(sandbox, space, ownedInterfacePrefixes: ["cali"])
    try host.addLink("cali1")
    try host.addLink("eth0")
    try sandbox.ip(space, "route", "add", "10.65.0.7", "dev", "cali1", "proto", "boot", "scope", "link")
    try sandbox.ip(space, "route", "add", "10.65.0.8", "dev", "cali1", "proto", "boot", "scope", "link")
    try sandbox.ip(space, "route", "add", "10.65.0.9", "dev", "eth0", "proto", "boot", "scope", "link")
    let before = try host.netlink.routes(protocol: .kernel)
    host.driver.want(.device("cali1"), for: prefix("10.65.0.7/32"))
    #expect(try host.apply() == RouteDriver.Report(changed: 2))
    #expect(try host.routes() == ["10.65.0.7/32"])
    #expect(try host.netlink.routes(protocol: .boot).map(\.destination) == [prefix("10.65.0.9/32")])
    #expect(try host.netlink.routes(protocol: .kernel) == before)
  }
}

@Suite("Restart", .serialized, .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(2)))
struct RestartTests {
  @Test("A restarted driver that finds everything right sends no change, and one that finds a difference sends only that")
  func zero() throws {
    let sandbox = KernelSandbox()
    let (space, _, _, _) = try RouteNetlinkTests.uplinks(sandbox)
    func want(_ driver: RouteDriver) {
      for number in 0..<300 {
        driver.want(.device(number % 2 == 0 ? "up0" : "up1"), for: prefix("10.65.\(number / 200).\(number % 200)/32"))
        driver.want(.device("up0"), for: prefix("2001:db8:65::\(String(number, radix: 16))/128"))
      }
      driver.want(.blackhole, for: prefix("10.65.0.0/26"))
      driver.want(.blackhole, for: prefix("2001:db8:65::/122"))
      driver.want(.via([address("172.16.0.2"), address("172.16.1.2")]), for: prefix("10.66.0.0/24"))
      driver.want(.via([address("2001:db8:1::2"), address("2001:db8:2::2")], metric: 32), for: prefix("2001:db8:66::/64"))
      driver.want(RouteSpec(hops: [.init(gateway: address("2001:db8:1::2"), device: "up0")]), for: prefix("10.67.0.0/24"))
    }
    do {
      let host = try DrivenHost(sandbox, space)
      want(host.driver)
      #expect(try host.apply() == RouteDriver.Report(changed: 605))
    }
    let host = try DrivenHost(sandbox, space)
    want(host.driver)
    let sent = host.netlink.socket.mutationsSent
    #expect(try host.apply() == RouteDriver.Report())
    #expect(host.netlink.socket.mutationsSent == sent)
    try sandbox.ip(space, "route", "del", "10.65.0.9")
    #expect(try host.apply() == RouteDriver.Report(changed: 1))
    #expect(host.netlink.socket.mutationsSent == sent + 1)
  }
}

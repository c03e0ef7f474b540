/// The link driver against the kernel: what a workload asks for is answered, and nothing is written twice.

import Addresses
import KernelSandbox
import LinkDriver
import NetlinkEdge
import NetlinkMessages
import Sockets
import Testing

/// A host without uplink or default route, and one workload behind cali1, addressed as the CNI plugin does it.
final class WorkloadRig {
  let sandbox = KernelSandbox()
  let host: NetworkNamespace
  let workload: NetworkNamespace
  let netlink: RouteNetlink
  let monitor: RouteMonitor
  let driver: LinkDriver
  static let mac = MACAddress("02:00:00:00:00:07")!
  static let wanted = WorkloadLink(name: "cali1", mac: mac, addresses: [address("10.65.0.7"), address("2001:db8::7")])

  init() throws {
    host = try sandbox.namespace("host")
    workload = try sandbox.namespace("w")
    monitor = try RouteMonitor(RouteMonitor.linksAndAddresses + RouteMonitor.neighboursAndSettings, namespace: host)
    netlink = try RouteNetlink(namespace: host)
    driver = LinkDriver(netlink: netlink, namespace: host)
    try driver.resync()
  }
  func hear() throws {
    if monitor.receive({ driver.handle($0) }) == .overrun { try driver.resync() }
  }
  func apply() throws -> LinkDriver.Report {
    try hear()
    let report = try driver.apply()
    try hear()
    return report
  }
  func addLink(up: Bool = true) throws {
    let peer = NewLink(name: "eth0", kind: .peer, mac: Self.mac, namespace: workload.descriptor.borrowed)
    try netlink.apply(.addLink(NewLink(name: "cali1", kind: .veth(peer: peer), mac: .hostSide, isUp: up)))
    try workload.ensureSysctl("0", "ipv6/conf/eth0/accept_dad")
    for arguments in [
      "link set eth0 up", "address add 10.65.0.7/32 dev eth0", "-6 address add 2001:db8::7/128 dev eth0 nodad",
      "route add 169.254.1.1 dev eth0 scope link", "route add default via 169.254.1.1",
      "-6 route add default via fe80::ecee:eeff:feee:eeee dev eth0",
    ] { try sandbox.ip(workload, arguments.split(separator: " ").map(String.init)) }
  }
  func addRoutes() throws {
    try sandbox.ip(host, "route", "add", "10.65.0.7", "dev", "cali1", "scope", "link")
    try sandbox.ip(host, "-6", "route", "add", "2001:db8::7", "dev", "cali1")
  }
}

@Suite("Link driver", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(2)))
struct LinkDriverTests {
  @Test("On a host without a default route the gateway answers ARP and ND with the host's address, also after a flush")
  func gateway() throws {
    let rig = try WorkloadRig()
    try rig.addLink()
    rig.driver.want(WorkloadRig.wanted, for: "cali1")
    #expect(try rig.apply().problems == [])
    #expect(rig.driver.isReady("cali1"))
    #expect(try rig.sandbox.ip(rig.host, "route").isEmpty)
    try rig.sandbox.ip(rig.workload, "neigh", "flush", "dev", "eth0")
    let arp = try rig.sandbox.run(rig.workload, "arping", ["-c", "1", "-w", "2", "-I", "eth0", "169.254.1.1"])
    #expect(arp.contains("ee:ee:ee:ee:ee:ee"), "\(arp)")
    let nd = try rig.sandbox.run(rig.workload, "ndisc6", ["-1", "-w", "2000", "fe80::ecee:eeff:feee:eeee", "eth0"])
    #expect(nd.contains("EE:EE:EE:EE:EE:EE"), "\(nd)")
    // Strict ARP, as kube-proxy sets it, changes nothing: the address stands on the asked interface.
    try rig.host.ensureSysctl("1", "ipv4/conf/all/arp_ignore")
    let strict = try rig.sandbox.run(rig.workload, "arping", ["-c", "1", "-w", "2", "-I", "eth0", "169.254.1.1"])
    #expect(strict.contains("ee:ee:ee:ee:ee:ee"), "\(strict)")
  }

  @Test("The gateway's address is not the source of what the host sends to the workload")
  func source() throws {
    let rig = try WorkloadRig()
    try rig.addLink()
    rig.driver.want(WorkloadRig.wanted, for: "cali1")
    _ = try rig.apply()
    try rig.addRoutes()
    #expect(try !rig.sandbox.ip(rig.host, "route", "get", "10.65.0.7").contains("169.254"))
    try rig.netlink.apply(.addLink(NewLink(name: "up0", kind: .bridge, isUp: true)))
    try rig.sandbox.ip(rig.host, "address", "add", "172.16.0.1/24", "dev", "up0")
    #expect(try rig.sandbox.ip(rig.host, "route", "get", "10.65.0.7").contains("src 172.16.0.1"))
    let ping = try rig.sandbox.tryRun(rig.host, "ping", ["-c", "1", "-W", "2", "10.65.0.7"])
    #expect(ping.code == 0, "\(ping.output)")
  }

  @Test("Neighbours are permanent from the start: the first packet needs no ARP; they follow the workload's addresses")
  func neighbours() throws {
    let rig = try WorkloadRig()
    try rig.addLink()
    rig.driver.want(WorkloadRig.wanted, for: "cali1")
    _ = try rig.apply()
    let index = try #require(try rig.netlink.link(named: "cali1")).index
    func permanent() throws -> [IPAddress] {
      try rig.netlink.neighbours(interface: index).filter { $0.state == .permanent && $0.mac == WorkloadRig.mac }.map(\.address).sorted()
    }
    #expect(try permanent() == WorkloadRig.wanted.addresses)
    rig.driver.want(WorkloadLink(name: "cali1", mac: WorkloadRig.mac, addresses: [address("10.65.0.8")]), for: "cali1")
    #expect(try rig.apply() == LinkDriver.Report(changed: 3))
    #expect(try permanent() == [address("10.65.0.8")])
  }

  @Test("A restart over a right kernel writes nothing; drift is found by a resync and mended alone")
  func restart() throws {
    let rig = try WorkloadRig()
    _ = try rig.driver.prepareHost()
    try rig.addLink()
    rig.driver.want(WorkloadRig.wanted, for: "cali1")
    let first = try rig.apply()
    #expect(first.problems == [] && first.changed > 8)
    #expect(try rig.apply() == LinkDriver.Report())

    let again = LinkDriver(netlink: rig.netlink, namespace: rig.host)
    try again.resync()
    again.want(WorkloadRig.wanted, for: "cali1")
    let sent = rig.netlink.socket.mutationsSent
    #expect(try again.prepareHost() == 0)
    #expect(try again.apply() == LinkDriver.Report())
    #expect(again.isReady("cali1"))
    #expect(rig.netlink.socket.mutationsSent == sent)

    #expect(try rig.host.ensureSysctl("0", "ipv4/conf/cali1/proxy_arp"))
    try rig.sandbox.ip(rig.host, "neigh", "del", "10.65.0.7", "dev", "cali1")
    _ = rig.monitor.receive { _ in }
    try again.resync()
    #expect(try again.apply() == LinkDriver.Report(changed: 2))
    #expect(try rig.host.readSysctl("ipv4/conf/cali1/proxy_arp") == "1")
    // A removed gateway address is heard of without a resync.
    try rig.sandbox.ip(rig.host, "address", "del", "169.254.1.1/32", "dev", "cali1")
    #expect(try rig.apply().changed >= 1)
    #expect(try rig.sandbox.ip(rig.host, "address", "show", "dev", "cali1").contains("169.254.1.1/32 scope host"))
  }

  @Test("Neighbours, forwarding, proxy_arp and the gateway's MAC address are mended as soon as somebody else changes them, without a resync")
  func disturbed() throws {
    let rig = try WorkloadRig()
    _ = try rig.driver.prepareHost()
    try rig.addLink()
    rig.driver.want(WorkloadRig.wanted, for: "cali1")
    _ = try rig.apply()
    #expect(try rig.apply() == LinkDriver.Report())
    func mended(_ what: String, changes: Int = 1, _ disturb: () throws -> Void) throws {
      try disturb()
      #expect(try rig.apply() == LinkDriver.Report(changed: changes), "\(what)")
      #expect(try rig.apply() == LinkDriver.Report(), "\(what)")
      #expect(rig.driver.isReady("cali1"), "\(what)")
    }
    for address in WorkloadRig.wanted.addresses {
      try mended("\(address) deleted") { try rig.sandbox.ip(rig.host, "neigh", "del", address.description, "dev", "cali1") }
      try mended("\(address) replaced") {
        try rig.sandbox.ip(rig.host, "neigh", "replace", address.description, "lladdr", "02:00:00:00:00:99", "dev", "cali1")
      }
    }
    try mended("added") { try rig.sandbox.ip(rig.host, "neigh", "add", "10.65.0.99", "lladdr", "02:00:00:00:00:99", "dev", "cali1") }
    for key in ["ipv4/conf/cali1/forwarding", "ipv6/conf/cali1/forwarding", "ipv4/conf/cali1/proxy_arp", "ipv6/conf/cali1/proxy_ndp"] {
      try mended(key) { try rig.host.ensureSysctl("0", key) }
    }
    // With an interface's address the kernel drops its neighbours, the permanent ones too.
    try mended("MAC address", changes: 3) { try rig.sandbox.ip(rig.host, "link", "set", "cali1", "address", "02:00:00:00:00:99") }
    #expect(try rig.netlink.link(named: "cali1")?.mac == .hostSide)
    // What the kernel learns by itself of other addresses is nobody's business.
    try rig.sandbox.ip(rig.host, "neigh", "add", "10.65.0.98", "lladdr", "02:00:00:00:00:98", "dev", "cali1", "nud", "stale")
    #expect(try rig.apply() == LinkDriver.Report())
  }

  @Test("The settings are the ones a routed workload needs")
  func settings() throws {
    let rig = try WorkloadRig()
    #expect(try rig.driver.prepareHost() >= 1)
    #expect(try rig.host.readSysctl("ipv4/ip_forward") == "1")
    #expect(try rig.host.readSysctl("ipv6/conf/all/forwarding") == "1")
    try rig.addLink()
    rig.driver.want(WorkloadRig.wanted, for: "cali1")
    _ = try rig.apply()
    for (key, value) in [
      "ipv4/conf/cali1/proxy_arp": "1", "ipv4/conf/cali1/forwarding": "1", "ipv4/conf/cali1/route_localnet": "0",
      "ipv4/neigh/cali1/proxy_delay": "0", "ipv6/conf/cali1/proxy_ndp": "1", "ipv6/conf/cali1/forwarding": "1",
      "ipv6/conf/cali1/accept_ra": "0", "ipv6/conf/cali1/disable_ipv6": "0",
    ] { #expect(try rig.host.readSysctl(key) == value, "\(key)") }
  }

  @Test("An interface that comes, is switched, goes and comes again is set up each time")
  func comesAndGoes() throws {
    let rig = try WorkloadRig()
    rig.driver.want(WorkloadRig.wanted, for: "cali1")
    #expect(try rig.apply().problems.map(\.description) == ["interface cali1: does not exist; waiting until it appears"])
    for _ in 0..<3 {
      try rig.addLink(up: false)
      #expect(try rig.apply().problems.map(\.reason) == ["is down; waiting until it is up"])
      let index = try #require(try rig.netlink.link(named: "cali1")).index
      for _ in 0..<2 {
        try rig.netlink.apply(.changeLink(index: index, LinkChange(isUp: true)))
        #expect(try rig.apply().problems == [])
        #expect(rig.driver.isReady("cali1"))
        #expect(try rig.netlink.neighbours(interface: index).filter { $0.state == .permanent && $0.mac == WorkloadRig.mac }.count == 2)
        let addresses = try rig.netlink.addresses(interface: index)
        #expect(addresses.contains { $0.address.address == LinkDriver.gateway6 && !$0.flags.contains(.tentative) })
        #expect(addresses.contains { $0.address.address == LinkDriver.gateway })
        try rig.netlink.apply(.changeLink(index: index, LinkChange(isUp: false)))
        #expect(try rig.apply().problems.count == 1)
        #expect(!rig.driver.isReady("cali1"))
      }
      try rig.netlink.apply(.deleteLink(index: index))
      #expect(try rig.apply().problems.count == 1)
    }
  }

  @Test("Creation, renaming and deletion are told within 100 ms, with both names; other interfaces are not")
  func transitions() throws {
    let rig = try WorkloadRig()
    let loop = try EventLoop()
    var seen: [(String, MonotonicInstant)] = []
    rig.driver.onTransition = { transition in
      let text =
        switch transition {
        case .appeared(let link): "appeared \(link.name)"
        case .renamed(let from, let link): "renamed \(from) \(link.name)"
        case .disappeared(let name, _): "disappeared \(name)"
        case .switched(let link): "switched \(link.name)"
        }
      seen.append((text, .now))
    }
    let monitor = rig.monitor
    let driver = rig.driver
    try loop.add(descriptor: monitor.descriptor, interest: .read) { _ in
      _ = monitor.receive { driver.handle($0) }
    }
    func expect(_ text: String, _ line: Int = #line, _ work: () throws -> Void) throws {
      seen = []
      let start = MonotonicInstant.now
      try work()
      let deadline = loop.schedule(after: .seconds(2)) {}
      while seen.isEmpty, deadline.isPending { loop.turn(wait: true) }
      deadline.cancel()
      #expect(seen.map(\.0) == [text], "line \(line)")
      if let first = seen.first { #expect(first.1 - start < .milliseconds(100)) }
    }
    let host = rig.host
    // Another socket, as a container runtime would use.
    let other = try RouteNetlink(namespace: host)
    try other.apply(.addLink(NewLink(name: "eth7", kind: .bridge)))
    try expect("appeared cali7") { try other.apply(.addLink(NewLink(name: "cali7", kind: .bridge))) }
    let index = try #require(try other.link(named: "cali7")).index
    try expect("switched cali7") { try other.apply(.changeLink(index: index, LinkChange(isUp: true))) }
    try expect("switched cali7") { try other.apply(.changeLink(index: index, LinkChange(isUp: false))) }
    try expect("renamed cali7 cali8") { try other.apply(.changeLink(index: index, LinkChange(name: "cali8"))) }
    try expect("renamed cali8 tmp8") { try other.apply(.changeLink(index: index, LinkChange(name: "tmp8"))) }
    try expect("renamed tmp8 cali9") { try other.apply(.changeLink(index: index, LinkChange(name: "cali9"))) }
    try expect("disappeared cali9") { try other.apply(.deleteLink(index: index)) }
  }
}

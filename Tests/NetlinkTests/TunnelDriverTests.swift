/// The tunnel driver on the kernel and on the fake: one contract for both.

import Addresses
import KernelSandbox
import NetlinkEdge
import NetlinkMessages
import Resources
import Sockets
import Testing
import TunnelDriver

/// A host with an interface in the network that carries tunnels, and somebody else's hand on its kernel.
private final class TunnelRig {
  let kernel: any RouteKernel
  private let sandbox: KernelSandbox?
  let namespace: NetworkNamespace?
  private let monitor: RouteMonitor?

  static let underlay = [IPAddress("172.31.0.1")!, IPAddress("fd31::1")!]

  init(fake: Bool) throws {
    if fake {
      let kernel = FakeRouteKernel()
      kernel.add("eth0", addresses: ["172.31.0.1/24", "fd31::1/64"])
      (self.kernel, sandbox, namespace, monitor) = (kernel, nil, nil, nil)
    } else {
      let sandbox = KernelSandbox()
      let host = try sandbox.namespace()
      let far = try sandbox.namespace("far")
      try sandbox.connect(host, "eth0", ["172.31.0.1/24", "fd31::1/64"], far, "eth0")
      kernel = try RouteNetlink(namespace: host)
      (self.sandbox, namespace) = (sandbox, host)
      monitor = try RouteMonitor(RouteMonitor.linksAndAddresses, namespace: host)
    }
  }
  func driver(grace: Duration = .seconds(10)) throws -> TunnelDriver {
    let driver = TunnelDriver(netlink: kernel, removalGrace: grace)
    try driver.resync()
    return driver
  }
  func hear(_ driver: TunnelDriver) throws {
    guard let monitor else { return try driver.resync() }
    _ = monitor.receive { driver.handle($0) }
  }
  func apply(_ changes: RouteNetlinkChange...) throws { for case let error? in try kernel.apply(changes) { throw error } }
}

private func device(_ kind: TunnelKind, address: String? = nil, mtu: UInt32? = nil, port: UInt16 = 4789, underlay: IPAddress? = nil) -> TunnelDevice {
  let isV6 = kind.family == .v6
  return TunnelDevice(
    kind: kind, name: kind == .ipip ? "tunl0" : isV6 ? "vxlan-v6.calico" : "vxlan.calico", underlay: underlay ?? TunnelRig.underlay[isV6 ? 1 : 0],
    address: address.map { IPAddress($0)! } ?? IPAddress(isV6 ? "fd65::1" : "10.65.0.1")!, mac: kind == .ipip ? nil : MACAddress("66:00:00:00:00:01")!,
    mtu: mtu, port: port)
}
private func end(_ number: Int, v6: Bool = false) -> TunnelEnd {
  TunnelEnd(
    underlay: IPAddress(v6 ? "fd31::\(number)" : "172.31.0.\(number)")!, address: IPAddress(v6 ? "fd65:\(number)::" : "10.65.\(number).0")!,
    mac: MACAddress(rawValue: 0x6600_0000_0000 + UInt64(number)))
}

@Suite("Tunnel driver", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(2)))
struct TunnelDriverTests {
  @Test(
    "A VXLAN interface stands with its address, size, neighbours and forwarding; a second look and a new driver write nothing",
    arguments: [TunnelKind.vxlan, .vxlanV6], [false, true])
  func made(_ kind: TunnelKind, fake: Bool) throws {
    let rig = try TunnelRig(fake: fake)
    let driver = try rig.driver()
    let isV6 = kind == .vxlanV6
    driver.want(device(kind), for: kind)
    driver.want(end(2, v6: isV6), of: "n2", on: kind)
    driver.want(end(3, v6: isV6), of: "n3", on: kind)
    #expect(try driver.apply().problems == [])
    try rig.hear(driver)
    let link = try #require(try rig.kernel.link(named: device(kind).name))
    #expect(link.isUp && link.mac == device(kind).mac && link.mtu == (isV6 ? 1430 : 1450))
    #expect(link.vxlan == VXLANOptions(id: 4096, port: 4789, local: device(kind).underlay))
    #expect(
      try rig.kernel.addresses(family: kind.family, interface: link.index).filter { !$0.address.address.isLinkLocal }.map(\.address)
        == [InterfaceAddress(device(kind).address!, length: isV6 ? 128 : 32)])
    #expect(Set(try rig.kernel.forwarding(interface: link.index)) == Set([2, 3].map {
      ForwardingEntry(interface: link.index, mac: end($0).mac, destination: end($0, v6: isV6).underlay)
    }))
    #expect(
      Set(try rig.kernel.neighbours(family: kind.family, proxies: false, interface: link.index).filter { $0.state.contains(.permanent) }.map(\.address))
        == Set([2, 3].map { end($0, v6: isV6).address }))
    #expect(try driver.apply() == TunnelDriver.Report())
    #expect(driver.isReady(kind))
    let next = try rig.driver()
    next.want(device(kind), for: kind)
    for number in [2, 3] { next.want(end(number, v6: isV6), of: "n\(number)", on: kind) }
    #expect(try next.apply() == TunnelDriver.Report(), "what stands is taken over as it is")
    // A far end moves, another goes.
    var moved = end(2, v6: isV6)
    moved.underlay = end(9, v6: isV6).underlay
    next.want(moved, of: "n2", on: kind)
    next.want(nil, of: "n3", on: kind)
    #expect(try next.apply().problems == [])
    #expect(try rig.kernel.forwarding(interface: link.index) == [ForwardingEntry(interface: link.index, mac: moved.mac, destination: moved.underlay)])
  }

  @Test("What the kernel can change stays the same interface; another port makes a new one; a stranger's kind gives way", arguments: [false, true])
  func changed(fake: Bool) throws {
    let rig = try TunnelRig(fake: fake)
    let driver = try rig.driver()
    driver.want(device(.vxlan), for: .vxlan)
    driver.want(end(2), of: "n2", on: .vxlan)
    _ = try driver.apply()
    let first = try #require(try rig.kernel.link(named: "vxlan.calico")).index
    try rig.apply(.setAddress(AssignedAddress(interface: try #require(try rig.kernel.link(named: "eth0")).index, address: InterfaceAddress("172.31.0.77/24")!)))
    try rig.hear(driver)
    driver.want(device(.vxlan, address: "10.65.0.9", mtu: 1400, underlay: IPAddress("172.31.0.77")!), for: .vxlan)
    let report = try driver.apply()
    #expect(report.problems == [], "\(report)")
    var link = try #require(try rig.kernel.link(named: "vxlan.calico"))
    #expect(link.index == first && link.mtu == 1400 && link.vxlan?.local == IPAddress("172.31.0.77"))
    #expect(try rig.kernel.addresses(family: .v4, interface: first).map(\.address.address) == [IPAddress("10.65.0.9")!])
    driver.want(device(.vxlan, port: 4790), for: .vxlan)
    #expect(try driver.apply().problems == [])
    link = try #require(try rig.kernel.link(named: "vxlan.calico"))
    #expect(link.index != first && link.vxlan?.port == 4790)
    #expect(try rig.kernel.forwarding(interface: link.index).count == 1, "the new interface knows the far ends")
  }

  @Test("Somebody deletes the interface, its entries, or switches it off: all is put back", arguments: [false, true])
  func repaired(fake: Bool) throws {
    let rig = try TunnelRig(fake: fake)
    let driver = try rig.driver()
    driver.want(device(.vxlan), for: .vxlan)
    driver.want(end(2), of: "n2", on: .vxlan)
    _ = try driver.apply()
    try rig.hear(driver)
    func check(_ what: String) throws {
      #expect(try driver.apply().problems == [], "\(what)")
      let link = try #require(try rig.kernel.link(named: "vxlan.calico"), "\(what)")
      #expect(link.isUp, "\(what)")
      #expect(try rig.kernel.forwarding(interface: link.index).count == 1, "\(what)")
      #expect(
        try rig.kernel.neighbours(family: .v4, proxies: false, interface: link.index).contains { $0.mac == end(2).mac && $0.address == end(2).address },
        "\(what)")
    }
    try rig.apply(.deleteLink(index: try #require(try rig.kernel.link(named: "vxlan.calico")).index))
    try rig.hear(driver)
    try check("deleted")
    try rig.hear(driver)
    try rig.apply(.changeLink(index: try #require(try rig.kernel.link(named: "vxlan.calico")).index, LinkChange(isUp: false)))
    try rig.hear(driver)
    try check("switched off")
    let index = try #require(try rig.kernel.link(named: "vxlan.calico")).index
    try rig.apply(
      .deleteForwarding(ForwardingEntry(interface: index, mac: end(2).mac, destination: end(2).underlay)),
      .setNeighbour(.permanent(end(2).address, end(3).mac, interface: index)),
      .setForwarding(ForwardingEntry(interface: index, mac: end(7).mac, destination: end(7).underlay)))
    try driver.resync()
    try check("entries changed")
  }

  @Test("An interface that nobody wants stays for the grace, then goes; one from an earlier run as well", arguments: [false, true])
  func removed(fake: Bool) throws {
    let rig = try TunnelRig(fake: fake)
    let driver = try rig.driver()
    driver.want(device(.vxlan), for: .vxlan)
    _ = try driver.apply()
    let now = MonotonicInstant.now
    driver.want(nil, for: .vxlan, now: now)
    #expect(try driver.apply(now: now + .seconds(9)).again == now + .seconds(10))
    #expect(try rig.kernel.link(named: "vxlan.calico") != nil)
    #expect(try driver.apply(now: now + .seconds(10)).changed == 1)
    #expect(try rig.kernel.link(named: "vxlan.calico") == nil)
    try rig.apply(.addLink(NewLink(name: "vxlan.calico", kind: .vxlan(VXLANOptions(id: 4096, port: 4789, local: TunnelRig.underlay[0])))))
    let next = try rig.driver(grace: .zero)
    next.disown("vxlan.calico", .vxlan)
    _ = try next.apply()
    #expect(try rig.kernel.link(named: "vxlan.calico") == nil)
  }

  @Test("Without this host's address on any interface there is no tunnel, and a word; with the address there is one")
  func waiting() throws {
    let rig = try TunnelRig(fake: false)
    let driver = try rig.driver()
    driver.want(device(.vxlan, underlay: IPAddress("172.31.9.9")!), for: .vxlan)
    #expect(try driver.apply().problems.map(\.description) == ["VXLAN tunnel: no interface has this host's address 172.31.9.9; waiting until one has"])
    try rig.apply(.setAddress(AssignedAddress(interface: try #require(try rig.kernel.link(named: "eth0")).index, address: InterfaceAddress("172.31.9.9/24")!)))
    try rig.hear(driver)
    #expect(try driver.apply().problems == [])
    #expect(driver.isReady(.vxlan))
  }

  @Test("IPIP: an interface without link address on the obeying fake; a kernel without it is told by name")
  func ipip() throws {
    let rig = try TunnelRig(fake: true)
    let driver = try rig.driver(grace: .zero)
    driver.want(device(.ipip), for: .ipip)
    #expect(try driver.apply().problems == [])
    let link = try #require(try rig.kernel.link(named: "tunl0"))
    #expect(link.kind == "ipip" && link.isUp && link.mtu == 1480)
    #expect(try driver.apply() == TunnelDriver.Report())
    // The kernel's own tunl0 cannot be removed: it is switched off.
    driver.want(nil, for: .ipip)
    _ = try driver.apply()
    #expect(try rig.kernel.link(named: "tunl0")?.isUp == false)
    (rig.kernel as! FakeRouteKernel).kinds.remove("vxlan")
    driver.want(device(.vxlan), for: .vxlan)
    #expect(
      try driver.apply().problems.first?.description
        == "VXLAN tunnel: make link vxlan.calico: Operation not supported: this kernel has no vxlan interfaces; retrying at the next full check")
  }
}

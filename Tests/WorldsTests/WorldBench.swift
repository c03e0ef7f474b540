/// The world of namespaces that random worlds are played in: the host with its uplink, four workloads, everybody else outside.
///
/// Nothing but the host has addresses or answers: packets are made by hand and looked for by hand, so that whether one arrives depends on
/// the host's rules alone. Neighbours are permanent; nobody has to be asked where anybody is.
import Addresses
import CLinux
import Calculation
import Glibc
import HostPlans
import KernelSandbox
import NetlinkEdge
import PlanReading
import PolicyOracle
import PolicyRendering
import RandomClusters
import Resources
import RulesetDriver
import Sockets

final class WorldBench {
  private let sandbox = KernelSandbox()
  private let host: NetworkNamespace
  /// By the name of the interface on the host.
  private var ports: [String: (host: RawSocket, there: RawSocket, hostMAC: [UInt8], mac: [UInt8])] = [:]
  private let senders: [IPFamily: RawSocket]
  private let receivers: [RawSocket]
  private var spaces: [NetworkNamespace] = []

  private var calculation = HostCalculation(node: RandomWorld.host)
  private var renderer = PolicyRenderer()
  private let driver: RulesetDriver
  private var present: [ResourceKey: Resource] = [:]
  private var serial: UInt64 = 0

  static let uplinks = [RandomWorld.host: PolicyOracle.Uplink(interfaceName: RandomWorld.uplink, addresses: Set(RandomWorld.hostAddresses))]

  init() throws {
    let (sandbox, host) = (sandbox, try sandbox.namespace("h"))
    self.host = host
    driver = try RulesetDriver(namespace: host.descriptor.borrowed)
    for setting in [
      "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.router_solicitations=0", "net.ipv4.ip_forward=1",
      "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0", "net.ipv4.icmp_ratelimit=0",
      // Connection tracking sums UDPLite up as if it were UDP and finds every packet wrong; packets here are right, and not the matter.
      "net.netfilter.nf_conntrack_checksum=0",
    ] { try sandbox.run(host, "sysctl", ["-qw", setting]) }
    for interface in RandomWorld.workloads.map(\.interface) + [RandomWorld.uplink] {
      let space = try sandbox.namespace("w")
      spaces.append(space)
      try sandbox.run(space, "sysctl", ["-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"])
      try sandbox.connect(host, interface, [], space, "eth0", [])
      let (hostMAC, mac) = (try Self.mac(sandbox, host, interface), try Self.mac(sandbox, space, "eth0"))
      ports[interface] = (try .frames(host, interface: interface), try .frames(space, interface: "eth0"), hostMAC, mac)
    }
    for address in RandomWorld.hostAddresses {
      let length = address.family.bits
      try sandbox.ip(host, ["address", "add", "\(address)/\(length)", "dev", RandomWorld.uplink] + (length == 128 ? ["nodad"] : []))
    }
    func text(_ octets: [UInt8]) -> String { MACAddress(octets: octets)!.description }
    for (interface, addresses) in RandomWorld.workloads {
      for address in addresses {
        let family = address.family == .v4 ? "-4" : "-6"
        try sandbox.ip(host, [family, "route", "add", "\(address.hostPrefix)", "dev", interface])
        try sandbox.ip(host, [family, "neigh", "add", "\(address)", "lladdr", text(ports[interface]!.mac), "dev", interface, "nud", "permanent"])
      }
    }
    for (family, gateway) in [("-4", "192.0.2.254"), ("-6", "fd00:9::254")] {
      try sandbox.ip(
        host, [family, "neigh", "add", gateway, "lladdr", text(ports[RandomWorld.uplink]!.mac), "dev", RandomWorld.uplink, "nud", "permanent"])
      try sandbox.ip(host, [family, "route", "add", "default", "via", gateway, "dev", RandomWorld.uplink, "onlink"])
    }
    senders = [.v4: try RawSocket(host, AF_INET, 255), .v6: try RawSocket(host, AF_INET6, 255)]
    receivers =
      try [1, 6, 17, 47, 132, 136].map { try RawSocket(host, AF_INET, $0) } + [6, 17, 47, 58, 132, 136].map { try RawSocket(host, AF_INET6, $0) }
    renderer.observe(interfaces: [RandomWorld.uplink: Set(RandomWorld.hostAddresses)])
    calculation.receive(.inSync)
  }

  private static func mac(_ sandbox: KernelSandbox, _ namespace: NetworkNamespace, _ interface: String) throws -> [UInt8] {
    let link = try sandbox.ip(namespace, "-o", "link", "show", interface)
    guard let range = link.firstRange(of: "link/ether "), let mac = MACAddress(link[range.upperBound...].prefix(17)) else {
      throw WireError("no link address in \(link)")
    }
    return mac.octets
  }

  /// The host as these objects want it, from whatever was before: in the calculation, and in the kernel. Returns its plan.
  func enter(_ resources: [Resource]) throws -> HostPlan {
    var wanted: [ResourceKey: Resource] = [:]
    for resource in resources { wanted[resource.key] = resource }
    for key in present.keys where wanted[key] == nil { calculation.receive(.resource(key, nil)) }
    for (key, resource) in wanted where present[key] != resource { calculation.receive(.resource(key, resource)) }
    present = wanted
    let report = try driver.apply(renderer.apply(calculation.flush()))
    if !report.failures.isEmpty { throw WireError("the kernel refused the rules: \(report.failures)") }
    return calculation.plan
  }

  /// Which of these packets come through. No connection is known before.
  func passes(_ packets: [Packet]) throws -> [Bool] {
    try sandbox.run(host, "conntrack", ["-F"])
    settle()
    let first = serial + 1
    for packet in packets {
      serial += 1
      let octets = Wire.packet(packet, mark: Wire.mark(serial))
      if let port = RandomWorld.owner(of: packet.from).flatMap({ ports[$0] }) {
        try port.there.send(frame: Wire.frame(octets, from: port.mac, to: port.hostMAC))
      } else {
        try senders[packet.to.family]!.send(packet: octets, to: packet.to)
      }
    }
    let arrived = try arrivals()
    return packets.enumerated().map { index, packet in
      arrived[RandomWorld.owner(of: packet.to) ?? ""]?.contains(first + UInt64(index)) ?? false
    }
  }

  private func settle() {
    for port in ports.values {
      port.host.drain { _ in }
      port.there.drain { _ in }
    }
    for receiver in receivers { receiver.drain { _ in } }
  }

  /// By place, the marks that came: workloads and uplink by interface, the host itself by "".
  ///
  /// When are all there that will come? One processor takes packets in the order in which they were sent, and a packet on its way through the
  /// host is queued twice; so after a second row of frames has arrived everywhere, which no rule of the host's sees, nothing older is left.
  private func arrivals() throws -> [String: Set<UInt64>] {
    var seen: [String: Set<UInt64>] = [:]
    for _ in 0..<2 {
      var awaited: [String: UInt64] = [:]
      for (interface, port) in ports {
        serial += 1
        awaited[interface] = serial
        // An experimental EtherType, which nobody takes.
        try port.host.send(frame: port.mac + port.hostMAC + [0x88, 0xb5] + Wire.mark(serial))
      }
      let isComplete = eventually(within: .seconds(10), step: .microseconds(200)) {
        for (interface, port) in ports {
          port.there.drain { octets in
            if let serial = Wire.serial(in: octets) { seen[interface, default: []].insert(serial) }
          }
        }
        return awaited.allSatisfy { seen[$0]?.contains($1) ?? false }
      }
      guard isComplete else { throw WireError("the last frames did not arrive within 10 s") }
    }
    for receiver in receivers {
      receiver.drain { octets in
        if let serial = Wire.serial(in: octets) { seen["", default: []].insert(serial) }
      }
    }
    return seen
  }

  /// Runs `body` on a thread of its own that stays on one processor.
  static func steadily<Value>(_ body: () throws -> Value) throws -> Value {
    try NetworkNamespace.current().run {
      guard (0..<1024).contains(where: { cl_set_affinity($0) == 0 }) else { throw WireError("no processor to stay on") }
      return try body()
    }
  }
}

extension Packet {
  init(_ flow: RandomWorld.Flow) {
    self.init(
      from: flow.from, to: flow.to, protocol: flow.ipProtocol, sourcePort: flow.ports?.source, destinationPort: flow.ports?.destination,
      icmpType: flow.icmp?.type, icmpCode: flow.icmp?.code)
  }
}

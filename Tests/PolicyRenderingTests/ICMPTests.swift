/// ICMP types and codes by real messages: what the oracle says of each, the kernel does.

import Addresses
import Calculation
import Glibc
import HostPlans
import KernelSandbox
import NetlinkEdge
import PolicyOracle
import Resources
import Sockets
import Testing

@testable import PolicyRendering

/// Raw sockets in one workload: sends any message, and hears all that arrives. Protocol 1 within IPv6 and 58 within IPv4 are possible too.
private final class RawEnd {
  struct Way: Hashable, CaseIterable {
    var family: IPFamily
    var ipProtocol: UInt8
    static let allCases = [Way(family: .v4, ipProtocol: 1), Way(family: .v6, ipProtocol: 58), Way(family: .v6, ipProtocol: 1),
      Way(family: .v4, ipProtocol: 58)]
  }
  private var sockets: [Way: CInt] = [:]
  static let magic: [UInt8] = Array("margay-icmp".utf8)

  init(_ namespace: NetworkNamespace) throws {
    try namespace.run {
      for way in Way.allCases {
        let made = Glibc.socket(way.family == .v4 ? AF_INET : AF_INET6, Int32(SOCK_RAW.rawValue) | Int32(SOCK_NONBLOCK.rawValue),
          Int32(way.ipProtocol))
        guard made >= 0 else { throw SystemError(code: errno, operation: "raw socket") }
        sockets[way] = made
      }
    }
  }
  deinit { for socket in sockets.values { close(socket) } }

  func send(_ way: Way, to: IPAddress, type: UInt8, code: UInt8, id: UInt16, content: [UInt8] = RawEnd.magic) {
    var message: [UInt8] = [type, code, 0, 0, UInt8(id >> 8), UInt8(id & 0xff), 0, 0] + content
    if message.count % 2 == 1 { message.append(0) }
    // Only the kernel knows the pseudo-header of ICMPv6, and fills this in itself.
    var sum = stride(from: 0, to: message.count, by: 2).reduce(UInt32(0)) { $0 + (UInt32(message[$1]) << 8 | UInt32(message[$1 + 1])) }
    while sum >> 16 != 0 { sum = (sum & 0xffff) + sum >> 16 }
    message[2] = UInt8(~sum >> 8 & 0xff)
    message[3] = UInt8(~sum & 0xff)
    let sent: Int
    if way.family == .v4 {
      var there = sockaddr_in()
      there.sin_family = sa_family_t(AF_INET)
      _ = withUnsafeMutableBytes(of: &there.sin_addr) { $0.copyBytes(from: to.octets) }
      sent = withUnsafePointer(to: &there) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          sendto(sockets[way]!, message, message.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    } else {
      var there = sockaddr_in6()
      there.sin6_family = sa_family_t(AF_INET6)
      _ = withUnsafeMutableBytes(of: &there.sin6_addr) { $0.copyBytes(from: to.octets) }
      sent = withUnsafePointer(to: &there) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          sendto(sockets[way]!, message, message.count, 0, $0, socklen_t(MemoryLayout<sockaddr_in6>.size))
        }
      }
    }
    if sent != message.count { Issue.record("sending type \(type): \(String(cString: strerror(errno)))") }
  }

  /// The ids of what has arrived, of our making.
  func heard() -> Set<UInt16> {
    var ids: Set<UInt16> = []
    var buffer = [UInt8](repeating: 0, count: 2048)
    for (way, socket) in sockets {
      while true {
        let count = recv(socket, &buffer, buffer.count, 0)
        guard count > 0 else { break }
        // Raw IPv4 sockets hand the header over as well.
        let start = way.family == .v4 ? Int(buffer[0] & 0xf) * 4 : 0
        guard count >= start + 8 + Self.magic.count, Array(buffer[(start + 8)..<(start + 8 + Self.magic.count)]) == Self.magic else { continue }
        ids.insert(UInt16(buffer[start + 4]) << 8 | UInt16(buffer[start + 5]))
      }
    }
    return ids
  }
}

/// A UDP client whose kernel tells it when its flow is unreachable.
private final class Client {
  let port: UInt16
  private let socket: CInt

  init(in namespace: NetworkNamespace, from: IPAddress, to: IPAddress, port there: UInt16) throws {
    func address(_ address: IPAddress, _ port: UInt16) -> (sockaddr_storage, socklen_t) {
      var storage = sockaddr_storage()
      let length = withUnsafeMutablePointer(to: &storage) { pointer -> Int in
        if address.family == .v4 {
          pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { 
            $0.pointee.sin_family = sa_family_t(AF_INET)
            $0.pointee.sin_port = port.bigEndian
            _ = withUnsafeMutableBytes(of: &$0.pointee.sin_addr) { $0.copyBytes(from: address.octets) }
          }
          return MemoryLayout<sockaddr_in>.size
        }
        pointer.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
          $0.pointee.sin6_family = sa_family_t(AF_INET6)
          $0.pointee.sin6_port = port.bigEndian
          _ = withUnsafeMutableBytes(of: &$0.pointee.sin6_addr) { $0.copyBytes(from: address.octets) }
        }
        return MemoryLayout<sockaddr_in6>.size
      }
      return (storage, socklen_t(length))
    }
    let family = from.family == .v4 ? AF_INET : AF_INET6
    var made: CInt = -1
    try namespace.run {
      made = Glibc.socket(family, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
      for (end, call) in [(address(from, 0), Glibc.bind), (address(to, there), Glibc.connect)] {
        var (storage, length) = end
        let result = withUnsafePointer(to: &storage) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { call(made, $0, length) } }
        guard result == 0 else { throw SystemError(code: errno, operation: "bind and connect") }
      }
    }
    socket = made
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    _ = withUnsafeMutablePointer(to: &storage) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(made, $0, &length) } }
    // The port stands at the same place in both families.
    port = withUnsafeBytes(of: &storage) { UInt16($0[2]) << 8 | UInt16($0[3]) }
  }
  deinit { close(socket) }

  func send() { _ = Glibc.send(socket, [1], 1, 0) }
  /// Once: asking takes the error away.
  func isRefused(within limit: Duration) -> Bool {
    eventually(within: limit) {
      var code: CInt = 0
      var length = socklen_t(MemoryLayout<CInt>.size)
      return getsockopt(socket, SOL_SOCKET, SO_ERROR, &code, &length) == 0 && code == ECONNREFUSED
    }
  }
}

@Suite("ICMP", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct ICMPTests {
  private static let addresses: [IPFamily: (from: IPAddress, to: IPAddress)] = [
    .v4: (address("10.65.0.1"), address("10.65.0.2")), .v6: (address("fd65::1"), address("fd65::2")),
  ]

  private static func workload(_ n: Int) -> Resource {
    var spec = WorkloadEndpointSpec()
    spec.orchestrator = "k8s"
    spec.node = "n1"
    spec.pod = "w\(n)"
    spec.endpoint = "eth0"
    spec.interfaceName = "cali\(n)"
    spec.ipNetworks = [prefix("10.65.0.\(n)/32"), prefix("fd65::\(n)/128")]
    spec.profiles = ["kns.default"]
    return Resource(Metadata(name: "n1-k8s-w\(n)-eth0", namespace: "default", labels: ["n": "\(n)"]), .workloadEndpoint(spec))
  }
  private static let shared = [
    workload(1), workload(2),
    Resource(Metadata(name: "kns.default"), .profile(ProfileSpec(ingress: [Rule(.allow)], egress: [Rule(.allow)]))),
  ]

  private struct Probe: Hashable {
    var way: RawEnd.Way
    var type: UInt8
    var code: UInt8
  }

  /// One host under test: resources go through calculation, rendering and kernel, messages from workload 1 to workload 2.
  private final class Bench {
    let fabric: Fabric
    let from: RawEnd
    let to: RawEnd
    var calculation = HostCalculation(node: "n1")
    private var id: UInt16 = 0

    init() throws {
      fabric = try Fabric()
      from = try RawEnd(fabric.workloads[0])
      to = try RawEnd(fabric.workloads[1])
      for resource in ICMPTests.shared { calculation.receive(.resource(resource.key, resource)) }
      calculation.receive(.inSync)
      try apply(nil)
      // Both families find their neighbours before anything is counted.
      for target in ["10.65.0.2", "fd65::2"] { #expect(try fabric.pings(fabric.workloads[0], target, expecting: true)) }
    }

    func apply(_ policy: Resource?) throws {
      if let policy { calculation.receive(.resource(policy.key, policy)) }
      let report = try fabric.rig.driver.apply(fabric.rig.renderer.apply(calculation.flush()))
      #expect(report.failures == [])
    }

    /// Sends everything, and answers what did not do as `oracle` says.
    func differences(_ probes: [Probe], _ oracle: PolicyOracle) throws -> (wrong: [String], passed: Int) {
      _ = to.heard()
      var sent: [UInt16: (probe: Probe, verdict: Verdict)] = [:]
      for probe in probes {
        id += 1
        let (from, to) = ICMPTests.addresses[probe.way.family]!
        let packet = Packet(
          from: from, to: to, protocol: NetworkProtocol(number: probe.way.ipProtocol), icmpType: probe.type, icmpCode: probe.code)
        sent[id] = (probe, oracle.verdict(packet))
        self.from.send(probe.way, to: to, type: probe.type, code: probe.code, id: id)
      }
      let expected = Set(sent.filter(\.value.verdict.isAllowed).keys)
      var heard: Set<UInt16> = []
      _ = eventually(within: Fabric.patience) {
        heard.formUnion(to.heard())
        return heard.isSuperset(of: expected)
      }
      // What must not come has had as long as what did, and a little longer.
      _ = eventually(within: Fabric.suspicion) {
        heard.formUnion(to.heard())
        return false
      }
      let wrong = heard.symmetricDifference(expected).sorted().compactMap { id in
        sent[id].map { "protocol \($0.probe.way.ipProtocol) in \($0.probe.way.family) type \($0.probe.type) code \($0.probe.code): "
          + "\(heard.contains(id) ? "arrived" : "did not arrive"), the oracle: \($0.verdict)" }
      }
      return (wrong, heard.count)
    }
  }

  @Test("Of all types, those that may begin a conversation do, and no others")
  func beginners() throws {
    let bench = try Bench()
    let oracle = PolicyOracle(resources: Self.shared)
    for way in [RawEnd.Way(family: .v4, ipProtocol: 1), RawEnd.Way(family: .v6, ipProtocol: 58)] {
      let (wrong, passed) = try bench.differences((0...255).map { Probe(way: way, type: $0, code: 0) }, oracle)
      #expect(wrong == [])
      #expect(passed == (way.family == .v4 ? 4 : 11), "\(way.family)")
    }
  }

  @Test("Random rules about types and codes: oracle and kernel agree on every message", arguments: 1...10 as ClosedRange<UInt64>)
  func random(seed: UInt64) throws {
    let bench = try Bench()
    var random = SplitMix(state: seed &* 6151)
    func chance(_ percent: Int) -> Bool { Int.random(in: 0..<100, using: &random) < percent }
    func pick<Value>(_ values: [Value]) -> Value { values.randomElement(using: &random)! }
    func match() -> ICMPMatch { ICMPMatch(type: chance(90) ? pick([0, 8, 13, 128, 135, 139, 254]) : nil) }
    func rule() -> Rule {
      var rule = Rule(pick([.allow, .allow, .deny, .pass, .log]))
      rule.ipProtocol = pick([.icmp, .icmp, .icmpv6, .icmpv6, .tcp, nil])
      if rule.ipProtocol == nil { rule.notProtocol = pick([.icmp, .icmpv6, .udp, nil]) }
      if chance(15) { rule.ipVersion = pick([.v4, .v6]) }
      let isICMP = rule.ipProtocol == .icmp || rule.ipProtocol == .icmpv6
      if chance(isICMP ? 60 : 3) { rule.icmp = match() }
      if chance(isICMP ? 40 : 2) { rule.notICMP = match() }
      if rule.icmp?.type != nil, chance(50) { rule.icmp!.code = pick([0, 1, 255]) }
      if rule.notICMP?.type != nil, chance(60) { rule.notICMP!.code = pick([0, 1, 255]) }
      return rule
    }
    var (passed, sent) = (0, 0)
    for _ in 0..<4 {
      var spec = PolicySpec()
      spec.selector = "n == '2'"
      spec.ingress = (0..<Int.random(in: 1...5, using: &random)).map { _ in rule() }
      let policy = Resource(Metadata(name: "p", namespace: "default"), .networkPolicy(spec))
      try bench.apply(policy)
      let probes = RawEnd.Way.allCases.flatMap { way in
        ([0, 8, 13, 128, 135, 139] as [UInt8]).flatMap { type in ([0, 1, 255] as [UInt8]).map { Probe(way: way, type: type, code: $0) } }
      }
      let (wrong, arrived) = try bench.differences(probes, PolicyOracle(resources: Self.shared + [policy]))
      guard wrong.isEmpty else {
        Issue.record("seed \(seed), \(spec.ingress): \(wrong.joined(separator: "\n"))")
        return
      }
      passed += arrived
      sent += probes.count
    }
    // Agreement on nothing but drops, or nothing but arrivals, would prove little.
    #expect(passed > 0 && passed < sent)
  }

  @Test("An error about a live flow passes from one of its ends and from routers; a workload's about flows of others asks policy")
  func related() throws {
    let fabric = try Fabric()
    let silent = [TierPlan(name: "default", policies: [policyKey("silent")])]
    // Workloads 2 and 3 may send nothing of their own.
    try fabric.apply(
      .policy(profileKey("kns.default"), PacketTests.allowAll), .policy(policyKey("silent"), PolicyPlan(egress: [])), fabric.endpoint(1),
      fabric.endpoint(2, egress: silent), fabric.endpoint(3, egress: silent))
    let (one, two, three) = (fabric.workloads[0], fabric.workloads[1], fabric.workloads[2])
    let senders = (two: try RawEnd(two), three: try RawEnd(three), outside: try RawEnd(fabric.outside))
    for (family, there) in [(IPFamily.v4, "10.65.0.2"), (.v6, "fd65::2")] {
      let (from, to) = (Self.addresses[family]!.from, address(there))
      let client = try Client(in: one, from: from, to: to, port: 5000)
      let way = RawEnd.Way(family: family, ipProtocol: family == .v4 ? 1 : 58)
      // Port unreachable, quoting the client's datagram.
      let udp: [UInt8] = [UInt8(client.port >> 8), UInt8(client.port & 0xff), 19, 136, 0, 9, 0, 0]
      let header: [UInt8] =
        family == .v4
        ? [0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0] + from.octets + to.octets : [0x60, 0, 0, 0, 0, 9, 17, 64] + from.octets + to.octets
      func complain(_ sender: RawEnd) {
        sender.send(way, to: from, type: family == .v4 ? 3 : 1, code: family == .v4 ? 3 : 4, id: 0, content: header + udp + [1])
      }
      // Nobody listens: the honest receiver's kernel says so, past its own egress policy.
      client.send()
      #expect(client.isRefused(within: Fabric.patience), "\(family): the receiver's own complaint")
      complain(senders.three)
      #expect(!client.isRefused(within: Fabric.suspicion), "\(family): workload 3 has no part in the flow")
      complain(senders.two)
      #expect(client.isRefused(within: Fabric.patience), "\(family): an end of the flow")
      complain(senders.outside)
      #expect(client.isRefused(within: Fabric.patience), "\(family): a router on the way")
    }
    // With an egress policy that lets it, workload 3 is heard like anybody.
    try fabric.apply(.policy(policyKey("silent"), PolicyPlan(egress: [rule(.allow) { $0.ipProtocol = .icmp }])))
    let listener = try socket(in: two) {
      let socket = try Socket.udp(.v4)
      try socket.bind(SocketAddress(Self.addresses[.v4]!.to, port: 5001))
      return socket
    }
    let client = try Client(in: one, from: Self.addresses[.v4]!.from, to: Self.addresses[.v4]!.to, port: 5001)
    client.send()
    #expect(try eventually(within: Fabric.patience) { try listener.receiveDatagram() != nil })
    let quoted: [UInt8] = [0x45, 0, 0, 29, 0, 0, 0, 0, 64, 17, 0, 0, 10, 65, 0, 1, 10, 65, 0, 2]
      + [UInt8(client.port >> 8), UInt8(client.port & 0xff), 19, 137, 0, 9, 0, 0, 1]
    senders.three.send(RawEnd.Way(family: .v4, ipProtocol: 1), to: Self.addresses[.v4]!.from, type: 3, code: 3, id: 0, content: quoted)
    #expect(client.isRefused(within: Fabric.patience))
  }
}

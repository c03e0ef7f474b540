/// What policy costs a packet: a sender forwards datagrams from one workload to another through a host with our ruleset, in turns with
/// hosts that have no rules, or connection tracking alone. The sender's thread does the forwarding, so its CPU time per packet is the
/// figure.

import Addresses
import CLinux
import Dispatch
import Glibc
import JSON
import KernelSandbox
import NetlinkEdge
import Resources
import Sockets
import Synchronization

enum PacketBench {
  private static let established = 100_000
  private static let new = 30_000
  private static let repetitions = 9

  /// A host between two workloads, numbers 2 and 3 of the cluster.
  private struct Path {
    var host: NetworkNamespace
    var from: NetworkNamespace
    var to: NetworkNamespace
    static let addresses = ["10.65.0.2", "10.65.0.3"]

    init(_ sandbox: KernelSandbox) throws {
      host = try sandbox.namespace("host")
      from = try sandbox.namespace("from")
      to = try sandbox.namespace("to")
      func ip(_ namespace: NetworkNamespace, _ line: String) throws {
        try sandbox.ip(namespace, line.split(separator: " ").map(String.init))
      }
      for (number, namespace) in [(2, from), (3, to)] {
        let (interface, mac, address) = (BenchCluster.interface(number), "02:00:00:00:00:0\(number)", Self.addresses[number - 2])
        let holder = "/proc/\(getpid())/fd/\(namespace.descriptor.borrowed)"
        try ip(host, "link add \(interface) address ee:ee:ee:ee:ee:ee type veth peer name eth0 address \(mac) netns \(holder)")
        try ip(namespace, "address add \(address)/32 dev eth0")
        try ip(namespace, "link set eth0 up")
        try ip(host, "link set \(interface) up")
        try ip(namespace, "route add 169.254.1.1 dev eth0 scope link")
        try ip(namespace, "route add default via 169.254.1.1")
        try ip(namespace, "neighbour add 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent")
        try ip(host, "neighbour add \(address) lladdr \(mac) dev \(interface) nud permanent")
        try ip(host, "route add \(address) dev \(interface)")
      }
      try host.ensureSysctl("1", "ipv4/ip_forward")
    }

    func socket(_ namespace: NetworkNamespace, port: UInt16) throws -> HeldSocket {
      try HeldSocket(in: namespace) { try $0.bind(SocketAddress(IPAddress(Self.addresses[namespace === from ? 0 : 1])!, port: port)) }
    }
  }

  /// What the packets meet.
  private enum Rules {
    case none
    /// Connection tracking and one rule: below this no stateful firewall comes.
    case floor
    /// The benches' cluster at the size asked for.
    case cluster
    /// Three policies of a hundred rules on each side, one port each.
    case folded
  }

  static func run(_ report: Report, _ options: Options) async throws {
    let sandbox = KernelSandbox()
    let kinds: [Rules] = [.cluster, .floor, .none, .folded]
    let paths = try kinds.map { _ in try Path(sandbox) }
    for (kind, path) in zip(kinds, paths) { try program(kind, path, sandbox, options) }
    let to = IPAddress(Path.addresses[1])!
    let senders = try paths.map { try $0.socket($0.from, port: 5000) }
    // One packet each way makes the flow established.
    for (index, path) in paths.enumerated() {
      let (sender, other) = (senders[index], try path.socket(path.to, port: 7000))
      try sender.limitWaiting(seconds: 2)
      try other.limitWaiting(seconds: 2)
      guard try sender.socket.connect(to: SocketAddress(to, port: 7000)) else { throw BenchProblem("connect of UDP waits") }
      _ = try sender.socket.send([1])
      guard let back = try other.socket.receiveDatagram()?.from, try other.socket.send([2], to: back),
        try sender.socket.receiveDatagram() != nil
      else { throw BenchProblem("the first packets do not pass") }
    }
    let before = try sandbox.run(paths[0].host, "conntrack", ["-L", "-p", "udp"])
    guard before.contains("dport=7000"), !before.contains("UNREPLIED") else { throw BenchProblem("the flow is not established: \(before)") }
    // From here on the receiver takes everything away before its stack would answer.
    for path in paths {
      let chain = "{ type filter hook prerouting priority -500; policy drop; }"
      try sandbox.run(path.to, "nft", ["add table inet sink; add chain inet sink everything \(chain)"])
    }

    var samples = [[Samples]](repeating: [Samples](repeating: Samples(), count: paths.count), count: 2)
    for repetition in 0...repetitions {
      for index in paths.indices {
        let raw = senders[index].socket.raw
        let nanoseconds = try pinned { established(raw) }
        if repetition > 0 { samples[0][index].add(nanoseconds) }
      }
    }
    for repetition in 0...repetitions {
      for index in paths.indices {
        if kinds[index] != .none { try sandbox.run(paths[index].host, "conntrack", ["-F"]) }
        let socket = try paths[index].socket(paths[index].from, port: UInt16(6000 + repetition))
        let raw = socket.socket.raw
        let nanoseconds = try pinned { newFlows(raw) }
        if repetition > 0 { samples[1][index].add(nanoseconds) }
      }
    }
    try check(sandbox, paths)
    let size = "\(options.endpoints) endpoints"
    let isMeasuredSize = options.endpoints == 1000
    for (kind, name) in [(0, "packet of an established flow"), (1, "first packet of a flow")] {
      let (ours, floor, none, folded) = (samples[kind][0], samples[kind][1], samples[kind][2], samples[kind][3])
      report.add("\(name), connection tracking alone (the floor)", "ns CPU", floor, peer: ("no rules", none))
      report.add(
        "\(name), \(size)", "ns CPU", ours, peer: ("the floor", floor), bar: kind == 0 && isMeasuredSize ? .ratio(1.15) : nil)
      func added(_ samples: Samples, to other: Samples) -> Samples { Samples(zip(samples.values, other.values).map { $0 - $1 }) }
      report.add("\(name), added to no rules, \(size)", "ns CPU", added(ours, to: none))
      report.add("\(name), added to the floor, \(size)", "ns CPU", added(ours, to: floor))
      report.add(
        "\(name), 3 policies × 100 rules on each side, added to the floor", "ns CPU", added(folded, to: floor),
        bar: kind == 1 ? .atMost(600) : nil)
    }
  }

  private static func program(_ kind: Rules, _ path: Path, _ sandbox: KernelSandbox, _ options: Options) throws {
    switch kind {
    case .none: return
    case .floor:
      let chain = "{ type filter hook forward priority 0; policy accept; ct state established,related accept; }"
      try sandbox.run(path.host, "nft", ["add table inet floor; add chain inet floor forward \(chain)"])
    case .cluster:
      let policy = try PolicyPath(path.host)
      BenchCluster(scale: PolicyScale.all[options.endpoints]!).forEachInput { policy.calculation.receive($0) }
      // Last in order: a new flow has gone by every other policy of its two workloads when this one lets it pass.
      try policy.commit([BenchCluster.input(udp("last", order: 1e6, ports: []))])
    case .folded:
      let policy = try PolicyPath(path.host)
      var profile = ProfileSpec(labelsToApply: [:])
      profile.ingress = []
      var inputs = [BenchCluster.input(Resource(Metadata(name: "kns.default"), .profile(profile)))]
      inputs.append(BenchCluster.input(Resource(Metadata(name: "default"), .tier(TierSpec(order: 1_000_000)))))
      for number in 2...3 { inputs.append(BenchCluster.input(BenchCluster.localEndpoint(number, group: 0))) }
      // Ports that the bench does not use.
      for number in 0..<3 {
        let ports = (0..<100).map { 100 * UInt16(number) + $0 + 1 }
        inputs.append(BenchCluster.input(udp("p\(number)", order: Double(number), ports: ports)))
      }
      inputs.append(BenchCluster.input(udp("last", order: 1e6, ports: [])))
      try policy.commit(inputs + [.inSync])
    }
  }

  /// Allows UDP in both directions, to these ports or to any.
  private static func udp(_ name: String, order: Double, ports: [UInt16]) -> Resource {
    var spec = PolicySpec()
    spec.selector = "has(app)"
    spec.order = order
    spec.types = [.ingress, .egress]
    spec.ingress = ports.map { port in
      var entity = EntityRule()
      entity.ports = [.port(port)]
      return Rule(.allow, protocol: .udp, destination: entity)
    }
    if ports.isEmpty { spec.ingress = [Rule(.allow, protocol: .udp)] }
    spec.egress = spec.ingress
    return Resource(Metadata(name: name), .globalNetworkPolicy(spec))
  }

  /// Every packet of every repetition reached the other side, on both hosts: what is dropped early would look cheap.
  private static func check(_ sandbox: KernelSandbox, _ paths: [Path]) throws {
    let expected = (repetitions + 1) * (established + new)
    for path in paths {
      let links = try sandbox.ip(path.to, "-s", "-j", "link", "show", "dev", "eth0")
      // {"rx":{"bytes":…,"packets":…
      let received = try JSONValue(parsing: Array(links.utf8)).array?.first?["stats64"]?["rx"]?["packets"]?.integer ?? 0
      guard received >= Int64(expected) else { throw BenchProblem("\(received) of \(expected) packets arrived") }
    }
  }

  /// Runs on a thread of its own on the last CPU.
  private static func pinned(_ body: @escaping @Sendable () -> Double) throws -> Double {
    let shared = Shared()
    let group = DispatchGroup()
    group.enter()
    try DedicatedThread.start {
      _ = cl_set_affinity(CInt(sysconf(Int32(_SC_NPROCESSORS_ONLN)) - 1))
      let value = body()
      shared.value.withLock { $0 = value }
      group.leave()
    }
    group.wait()
    return shared.value.withLock { $0 }
  }
  private final class Shared: Sendable {
    let value = Mutex(0.0)
  }

  private static func established(_ raw: CInt) -> Double {
    let batch = 50
    let bytes = [UInt8](repeating: 0x2e, count: 64 * batch)
    let before = CPUClock.thread
    var sent = 0
    while sent < established {
      let count = cl_send_many(raw, bytes, 64, CInt(batch), nil)
      if count > 0 { sent += Int(count) }
    }
    return (CPUClock.thread - before) * 1e9 / Double(sent)
  }

  private static func newFlows(_ raw: CInt) -> Double {
    let bytes = [UInt8](repeating: 0x2e, count: 64)
    var target = sockaddr_in()
    target.sin_family = sa_family_t(AF_INET)
    target.sin_addr.s_addr = UInt32(0x0a41_0003).bigEndian
    let before = CPUClock.thread
    for number in 0..<new {
      target.sin_port = UInt16(10_000 + number).bigEndian
      _ = withUnsafePointer(to: &target) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          sendto(raw, bytes, 64, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    }
    return (CPUClock.thread - before) * 1e9 / Double(new)
  }
}

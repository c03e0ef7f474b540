/// How long a change of policy takes to become a change of packets: written to the datastore by one process, enforced by another, seen by
/// probes of UDP between two workloads. A probe gets no answer, so its flow never counts as established and each one meets the policy.

import Addresses
import Datastore
import Glibc
import KernelSandbox
import NetlinkEdge
import Resources
import Sockets
import Synchronization

/// Numbered datagrams from one namespace to another, five each millisecond or so, with the times of sending and whether each arrived.
final class ProbeStream: @unchecked Sendable {
  // Written by one thread each and read by another: a slot is written before `sent` counts it, and `arrived` only turns true.
  private static let capacity = 4_000_000
  private let times = UnsafeMutablePointer<Int64>.allocate(capacity: capacity)
  private let arrivals = UnsafeMutablePointer<Bool>.allocate(capacity: capacity)
  private let sent = Atomic<Int>(0)
  private let isStopping = Atomic<Bool>(false)
  private let sender: HeldSocket
  private let receiver: HeldSocket

  init(from: NetworkNamespace, to: NetworkNamespace, address: IPAddress) throws {
    arrivals.initialize(repeating: false, count: Self.capacity)
    let port: UInt16 = 9999
    // Sockets keep the namespace that they were opened in.
    receiver = try HeldSocket(in: to) { try $0.bind(SocketAddress(address, port: port)) }
    sender = try HeldSocket(in: from) { _ = try $0.connect(to: SocketAddress(address, port: port)) }
    try receiver.limitWaiting(seconds: 0.1)
    try DedicatedThread.start { self.send() }
    try DedicatedThread.start { self.receive() }
  }
  func stop() { isStopping.store(true, ordering: .relaxed) }

  private func send() {
    var number: UInt64 = 0
    while !isStopping.load(ordering: .relaxed), Int(number) < Self.capacity {
      times[Int(number)] = MonotonicInstant.now.nanoseconds
      _ = withUnsafeBytes(of: &number) { Glibc.send(sender.socket.raw, $0.baseAddress, 8, Int32(MSG_DONTWAIT)) }
      number += 1
      sent.store(Int(number), ordering: .releasing)
      usleep(130)
    }
  }
  private func receive() {
    var number: UInt64 = 0
    while !isStopping.load(ordering: .relaxed) {
      let count = withUnsafeMutableBytes(of: &number) { recv(receiver.socket.raw, $0.baseAddress, 8, 0) }
      if count == 8, number < Self.capacity { arrivals[Int(number)] = true }
    }
  }

  var now: Int { sent.load(ordering: .acquiring) }

  /// The time of sending of the first probe after number `start` whose fate is `arrives` and that of ten after it as well. Waits for it.
  func first(after start: Int, arrives: Bool, within limit: Duration = .seconds(5)) throws -> Int64 {
    let needed = 10
    let deadline = MonotonicInstant.now + limit
    var candidate = start
    while MonotonicInstant.now < deadline {
      usleep(2000)
      // What was sent in the last milliseconds may still be on its way to our thread.
      let settled = now - 40
      while candidate + needed < settled {
        guard let other = (candidate..<(candidate + needed)).last(where: { arrivals[$0] != arrives }) else { return times[candidate] }
        candidate = other + 1
      }
    }
    throw BenchProblem("no probe \(arrives ? "arrived" : "was stopped") within \(limit)")
  }
}

enum VerdictBench {
  static let changes = 40

  static func run(_ report: Report, _ options: Options) async throws {
    for kind in StoreKind.allCases {
      do {
        try await run(kind, report, options)
      } catch {
        report.add(Row(what: "policy to packet, \(kind.rawValue)", unit: "", note: "\(error)"))
      }
    }
  }

  static func policy(_ action: RuleAction) -> Resource {
    var spec = PolicySpec()
    spec.selector = "role == 'server'"
    spec.types = [.ingress]
    spec.ingress = [Rule(action, protocol: .udp)]
    return Resource(Metadata(name: "bench"), .globalNetworkPolicy(spec))
  }

  private static func run(_ kind: StoreKind, _ report: Report, _ options: Options) async throws {
    let node = try await BenchNode(kind, options)
    let resources = ResourceStore(node.store.datastore)
    _ = try await resources.apply(policy(.allow))
    let (client, server) = (try node.container("client"), try node.container("server"))
    _ = try node.attach(client, labels: ["role": "client"])
    let address = try node.attach(server, labels: ["role": "server"])
    let probes = try ProbeStream(from: client.namespace, to: server.namespace, address: address)
    defer { probes.stop() }
    _ = try probes.first(after: 0, arrives: true)

    // The peer: the same decision by a rule that a script adds with nft, without a datastore on the way.
    let setup = [
      "add table inet peer", "add chain inet peer forward { type filter hook forward priority 10; policy accept; }",
      "add chain inet peer decide", "add rule inet peer forward ip daddr \(address) goto decide",
    ]
    try node.sandbox.run(node.host, "nft", [setup.joined(separator: "; ")])
    let scripts = ["deny": "add rule inet peer decide meta l4proto udp drop", "allow": "flush chain inet peer decide"]

    var ours = ["deny": Samples(), "allow": Samples()]
    var written = ours
    var afterWrite = ours
    var theirs = ours
    for round in 0..<(changes + 2) {
      for (verb, action) in [("deny", RuleAction.deny), ("allow", .allow)] {
        let start = probes.now
        let before = MonotonicInstant.now
        _ = try await resources.apply(policy(action))
        let stored = MonotonicInstant.now
        let seen = try probes.first(after: start, arrives: verb == "allow")
        guard round >= 2 else { continue }
        ours[verb]!.add(Double(seen - before.nanoseconds) / 1e6)
        written[verb]!.add(stored.seconds(since: before) * 1000)
        afterWrite[verb]!.add(max(0, Double(seen - stored.nanoseconds) / 1e6))
      }
      for verb in ["deny", "allow"] {
        let start = probes.now
        let before = MonotonicInstant.now
        try node.sandbox.run(node.host, "nft", [scripts[verb]!])
        let seen = try probes.first(after: start, arrives: verb == "allow")
        if round >= 2 { theirs[verb]!.add(Double(seen - before.nanoseconds) / 1e6) }
      }
    }
    for verb in ["deny", "allow"] {
      let first = verb == "deny" ? "first blocked" : "first passed"
      report.add(
        "\(verb) written → \(first), \(kind.rawValue)", "ms wall", ours[verb]!, peer: ("nft add rule by hand", theirs[verb]!))
      report.add("of it the write itself, \(kind.rawValue)", "ms wall", written[verb]!)
      report.add("\(verb) stored → \(first), \(kind.rawValue)", "ms wall", afterWrite[verb]!, bar: .atMost(2))
    }
    probes.stop()
    try await endpoints(node, resources, client, report)
    await node.end()
  }

  /// An endpoint's record goes and comes again while its interface stays: from the write to the first packet that reaches the workload.
  /// With rules, route, permanent neighbours and the link's settings on the way; a neighbour that had to be asked for would cost a second.
  private static func endpoints(_ node: BenchNode, _ resources: ResourceStore, _ client: Container, _ report: Report) async throws {
    let late = try node.container("late")
    let address = try node.attach(late, labels: ["role": "late"])
    let stored = try await resources.list(.workloadEndpoint).items.map(\.resource).first {
      if case .workloadEndpoint(let spec) = $0.spec { spec.ipNetworks.contains(address.hostPrefix) } else { false }
    }
    guard let endpoint = stored else { throw BenchProblem("the endpoint of \(address) is not stored") }
    let probes = try ProbeStream(from: client.namespace, to: late.namespace, address: address)
    defer { probes.stop() }
    _ = try probes.first(after: 0, arrives: true)
    var samples = Samples()
    for round in 0..<(changes + 2) {
      let start = probes.now
      try await resources.delete(endpoint.key)
      _ = try probes.first(after: start, arrives: false)
      let begun = probes.now
      let before = MonotonicInstant.now
      _ = try await resources.apply(endpoint)
      let seen = try probes.first(after: begun, arrives: true)
      if round >= 2 { samples.add(Double(seen - before.nanoseconds) / 1e6) }
    }
    report.add("endpoint written → first passed, \(node.store.kind.rawValue)", "ms wall", samples, bar: .atMost(10))
    report.add("the slowest of \(samples.count), \(node.store.kind.rawValue)", "ms wall", Samples(samples.quantile(1)), bar: .atMost(500))
  }
}

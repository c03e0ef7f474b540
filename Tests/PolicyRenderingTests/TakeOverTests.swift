/// A host that Calico's own Felix has programmed becomes ours while its traffic goes on: nothing allowed is lost, nothing denied gets
/// through.

import Addresses
import Foundation
import Glibc
import HostPlans
import KernelSandbox
import NetlinkEdge
@testable import PolicyRendering
import Resources
import RulesetDriver
import Rulesets
import Sockets
import Synchronization
import Testing

/// Traffic that goes on by itself, each flow on threads of its own, until it is told to end.
private final class Traffic: Sendable {
  let sent = Atomic<Int>(0)
  let received = Atomic<Int>(0)
  let trespassed = Atomic<Int>(0)
  let attempts = Atomic<Int>(0)
  let streamed = Atomic<Int>(0)
  let isListening = Atomic<Bool>(false)
  let isEnding = Atomic<Bool>(false)
  let isOver = Atomic<Bool>(false)
  let running = Atomic<Int>(0)

  private static func address(_ text: String, _ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    inet_pton(AF_INET, text, &address.sin_addr)
    return address
  }
  private static func withPointer<Result>(_ address: sockaddr_in, _ body: (UnsafePointer<sockaddr>) -> Result) -> Result {
    withUnsafePointer(to: address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1, body) }
  }
  private func run(in namespace: NetworkNamespace, _ body: @escaping @Sendable () -> Void) throws {
    running.add(1, ordering: .relaxed)
    try DedicatedThread.start {
      try? namespace.run { body() }
      self.running.subtract(1, ordering: .relaxed)
    }
  }

  /// Takes every datagram at `target`; those from `enemy` should not be there.
  func receive(at target: String, _ port: UInt16, in namespace: NetworkNamespace, enemy: String) throws {
    try run(in: namespace) {
      let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
      defer { close(socket) }
      // Both senders' datagrams that may be under way have room.
      var octets: CInt = 1 << 20
      setsockopt(socket, SOL_SOCKET, SO_RCVBUF, &octets, socklen_t(MemoryLayout<CInt>.size))
      let isBound = Self.withPointer(Self.address(target, port)) { bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) } == 0
      self.isListening.store(isBound, ordering: .relaxed)
      var from = sockaddr_in()
      let foe = Self.address(enemy, 0).sin_addr.s_addr
      var buffer = [UInt8](repeating: 0, count: 64)
      while !self.isOver.load(ordering: .relaxed) {
        var wait = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        guard poll(&wait, 1, 50) == 1 else { continue }
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let count = withUnsafeMutablePointer(to: &from) {
          $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { recvfrom(socket, &buffer, 64, 0, $0, &length) }
        }
        guard count > 0 else { continue }
        if from.sin_addr.s_addr == foe { self.trespassed.add(1, ordering: .relaxed) } else { self.received.add(1, ordering: .relaxed) }
      }
    }
  }
  /// Each datagram is the first of a flow. Those that are to arrive are waited for, a few behind.
  func send(to target: String, _ port: UInt16, in namespace: NetworkNamespace, isAllowed: Bool) throws {
    try run(in: namespace) {
      while !self.isEnding.load(ordering: .relaxed) {
        let ahead =
          isAllowed
          ? self.sent.load(ordering: .relaxed) - self.received.load(ordering: .relaxed)
          : self.attempts.load(ordering: .relaxed) - self.sent.load(ordering: .relaxed)
        if ahead > 32 {
          sched_yield()
          continue
        }
        let socket = Glibc.socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        let count = Self.withPointer(Self.address(target, port)) {
          sendto(socket, "x", 1, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
        close(socket)
        guard count == 1 else { continue }
        if isAllowed { self.sent.add(1, ordering: .relaxed) } else { self.attempts.add(1, ordering: .relaxed) }
      }
    }
  }
  /// One connection that never rests.
  func stream(_ client: CInt, _ server: CInt) throws {
    running.add(1, ordering: .relaxed)
    try DedicatedThread.start {
      var bytes = [UInt8](repeating: 1, count: 1000)
      while !self.isEnding.load(ordering: .relaxed) {
        guard Glibc.send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL)) > 0 else { break }
        var rest = bytes.count
        while rest > 0 {
          let count = recv(server, &bytes, rest, 0)
          guard count > 0 else { break }
          rest -= count
        }
        guard rest == 0 else { break }
        self.streamed.add(1, ordering: .relaxed)
      }
      self.running.subtract(1, ordering: .relaxed)
    }
  }
  /// The senders end, and what is under way arrives, if it does.
  func end() throws {
    isEnding.store(true, ordering: .relaxed)
    #expect(try eventually(within: .seconds(10)) { running.load(ordering: .relaxed) == 1 })
    _ = try eventually(within: .seconds(10)) { sent.load(ordering: .relaxed) == received.load(ordering: .relaxed) }
    isOver.store(true, ordering: .relaxed)
    #expect(try eventually(within: .seconds(10)) { running.load(ordering: .relaxed) == 0 })
  }
}

@Suite("Taking over from Calico's Felix", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct TakeOverTests {
  private static let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("Fixtures/felix-nftables/calico.nft").path

  private static func plan(_ fabric: Fabric) -> [HostPlanChange] {
    let web = PolicyPlan(
      ingress: [NetworkProtocol.tcp, .udp].map { ipProtocol in
        rule(.allow) {
          $0.ipProtocol = ipProtocol
          $0.source.nets = [prefix("10.65.0.1/32"), prefix("fd65::1/128")]
          $0.destination.ports = [8080...8081]
        }
      })
    let nothing = PolicyPlan(egress: [rule(.allow)])
    return [
      .policy(policyKey("web"), web), .policy(profileKey("kns.default"), nothing), fabric.endpoint(1),
      fabric.endpoint(2, ingress: [TierPlan(name: "default", policies: [policyKey("web")])]), fabric.endpoint(3),
    ]
  }

  /// Packets that found a processor's queue full (the second column of softnet_stat).
  private static func droppedAtTheDoor() throws -> Int {
    try Files.readText("/proc/net/softnet_stat").split(separator: "\n").reduce(0) {
      $0 + (Int($1.split(separator: " ")[1], radix: 16) ?? 0)
    }
  }

  @Test("Their tables go as soon as ours is in force: a stream and new flows go on, what was denied stays denied")
  func traffic() throws {
    let fabric = try Fabric()
    let (one, two, three) = (fabric.workloads[0], fabric.workloads[1], fabric.workloads[2])
    try fabric.sandbox.run(fabric.host, "nft", ["-f", Self.fixture])
    // A large cluster's policies keep the kernel busy for milliseconds when they go.
    let many = NSTemporaryDirectory() + "take-over-\(UUID()).nft"
    defer { try? FileManager.default.removeItem(atPath: many) }
    let rules = (0..<10_000).map { "ip saddr 10.66.\($0 / 256).\($0 % 256) accept\n" }.joined()
    try Data("table ip calico {\nchain filter-cali-pi-many {\n\(rules)}\n}\n".utf8).write(to: URL(fileURLWithPath: many))
    try fabric.sandbox.run(fabric.host, "nft", ["-f", many])
    // Neighbours are known before the traffic begins, so that nothing waits for them.
    for from in [one, three] { _ = try fabric.pings(from, "169.254.1.1", expecting: true) }
    #expect(try fabric.delivers(one, two, "10.65.0.2", 8080, expecting: true))
    #expect(try !fabric.delivers(three, two, "10.65.0.2", 8080, expecting: false))

    let there = SocketAddress(address("10.65.0.2"), port: 8081)
    let listener = try socket(in: two) { try Socket.listening(on: there) }
    let client = try socket(in: one) { try Socket.tcp(.v4) }
    _ = try client.connect(to: there)
    let server = Mutex<CInt>(-1)
    #expect(try eventually(within: .seconds(5)) {
      guard let connection = try listener.accept() else { return false }
      let taken = connection.take()
      server.withLock { $0 = dup(taken.raw) }
      return true
    })
    let serverRaw = server.withLock { $0 }
    defer { close(serverRaw) }
    for raw in [client.raw, serverRaw] {
      _ = fcntl(raw, F_SETFL, fcntl(raw, F_GETFL) & ~O_NONBLOCK)
      // A stream that stands still for this long is broken.
      var limit = timeval(tv_sec: 5, tv_usec: 0)
      setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
      setsockopt(raw, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
    let before = try Self.droppedAtTheDoor()
    let traffic = Traffic()
    try traffic.receive(at: "10.65.0.2", 8080, in: two, enemy: "10.65.0.3")
    #expect(try eventually(within: .seconds(10)) { traffic.isListening.load(ordering: .relaxed) })
    try traffic.stream(client.raw, serverRaw)
    try traffic.send(to: "10.65.0.2", 8080, in: one, isAllowed: true)
    try traffic.send(to: "10.65.0.2", 8080, in: three, isAllowed: false)
    func flows(_ more: Int) throws {
      let (new, stream, denied) = (
        traffic.received.load(ordering: .relaxed), traffic.streamed.load(ordering: .relaxed), traffic.attempts.load(ordering: .relaxed)
      )
      let goes = try eventually(within: .seconds(10)) {
        traffic.received.load(ordering: .relaxed) > new + more && traffic.streamed.load(ordering: .relaxed) > stream + more
          && traffic.attempts.load(ordering: .relaxed) > denied + more
      }
      #expect(goes, "traffic stands still")
    }
    try flows(200)
    let report = try fabric.rig.driver.apply(fabric.rig.renderer.apply(Self.plan(fabric)))
    #expect(report.failures == [] && Set(report.takenOver) == Set(ForeignTable.calico))
    try flows(200)
    try traffic.end()
    let (sent, received) = (traffic.sent.load(ordering: .relaxed), traffic.received.load(ordering: .relaxed))
    // A machine that is busy with other things drops at its doors, before any rule: that is counted by itself.
    #expect(sent - received <= (try Self.droppedAtTheDoor() - before), "\(sent) sent, \(received) received")
    #expect(traffic.trespassed.load(ordering: .relaxed) == 0, "of \(traffic.attempts.load(ordering: .relaxed)) attempts")
    let tables = try fabric.sandbox.run(fabric.host, "nft", ["list", "tables"])
    #expect(tables.split(separator: "\n") == ["table inet margay"])
    #expect(fabric.rig.driver.problems == [])

    // Another Felix is not fought.
    try fabric.sandbox.run(fabric.host, "nft", ["add", "table", "ip", "calico"])
    #expect(try fabric.rig.driver.resync().takenOver == [])
    #expect(fabric.rig.driver.problems.contains { $0.hasPrefix("table ip calico is there again: another Felix runs on this host") })
    #expect(try fabric.sandbox.run(fabric.host, "nft", ["list", "tables"]).contains("table ip calico"))
  }

  @Test("Before the first whole ruleset nothing of theirs is touched, and a refusal of ours leaves them in force")
  func notBefore() throws {
    let fabric = try Fabric()
    try fabric.sandbox.run(fabric.host, "nft", ["-f", Self.fixture])
    _ = try RulesetDriver(namespace: fabric.host.descriptor.borrowed)
    var broken = fabric.rig.renderer.apply(Self.plan(fabric))
    broken.chains["forward"] = Chain(hook: ChainHook(.forward, priority: 0), [ChainRule(.jump("nowhere"))])
    #expect(throws: RulesetError.self) { try fabric.rig.driver.apply(broken) }
    let tables = try fabric.sandbox.run(fabric.host, "nft", ["list", "tables"]).split(separator: "\n")
    #expect(Set(tables) == ["table ip calico", "table ip6 calico", "table arp calico"])
  }
}

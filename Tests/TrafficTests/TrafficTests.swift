/// Limits of bandwidth: the same suite on the fake and on the kernel, and octets counted as they come through.

import Addresses
import Glibc
import KernelSandbox
import NetlinkEdge
import NetlinkMessages
import Sockets
import Testing

@testable import TrafficDriver

enum Place: String, CaseIterable, CustomTestStringConvertible {
  case fake
  case kernel
  var testDescription: String { rawValue }
  static var available: [Place] { KernelSandbox.isAvailable ? allCases : [.fake] }
}

/// A host with the cables cali1 and cali2.
final class Bench {
  let kernel: any TrafficKernel
  let sandbox = KernelSandbox()
  private(set) var host: NetworkNamespace?
  init(_ place: Place) throws {
    guard place == .kernel else {
      kernel = FakeTraffic(links: [1, 2].map { Link(index: $0, name: "cali\($0)", kind: "veth", flags: .up) })
      return
    }
    let (host, workload) = (try sandbox.namespace("host"), try sandbox.namespace("w"))
    for n in [1, 2] { try sandbox.connect(host, "cali\(n)", [], workload, "eth\(n)", []) }
    kernel = NetlinkTraffic(try RouteNetlink(namespace: host))
    self.host = host
  }
  func link(_ name: String) throws -> Link? { try kernel.links().first { $0.name == name } }
  func remove(_ name: String) throws {
    if let fake = kernel as? FakeTraffic {
      fake.remove(link: try link(name)!.index)
    } else {
      try sandbox.ip(host!, "link", "delete", name)
    }
  }
  func devices() throws -> [Link] { try kernel.links().filter { $0.name.hasPrefix(TrafficDriver.devicePrefix) } }
  func bucket(_ name: String) throws -> Queue.Bucket? {
    let index = try link(name)?.index
    return try kernel.queues().first { $0.interface == index && $0.parent == Queue.root }?.bucket
  }
}

@Suite("Limits of bandwidth")
struct TrafficDriverTests {
  static let megabyte = TokenBucket(rate: 1_000_000, burst: 20_000, limit: 45_000)
  static let fast = TokenBucket(rate: 6_000_000_000, burst: 2_000_000, peakRate: 7_000_000_000, peakBurst: 3_000, limit: 4_000_000)

  @Test("Limits of both directions are set once, changed in place, and taken away with everything that they needed", arguments: Place.available)
  func life(place: Place) throws {
    let bench = try Bench(place)
    let driver = TrafficDriver(bench.kernel)
    driver.want(TrafficLimits(toWorkload: Self.megabyte, fromWorkload: Self.fast), for: "cali1")
    // A bucket, a device, its bucket, ingress and detour.
    #expect(try driver.apply().changed == 5)
    let device = try #require(try bench.devices().first)
    #expect(Self.megabyte.equals(try #require(try bench.bucket("cali1"))))
    #expect(Self.fast.equals(try #require(try bench.bucket(device.name))))
    #expect(try bench.kernel.detours(from: bench.link("cali1")!.index) == [device.index])
    driver.resync()
    #expect(try driver.apply() == TrafficDriver.Report(), "what stands is left alone")
    let successor = TrafficDriver(bench.kernel)
    successor.want(TrafficLimits(toWorkload: Self.megabyte, fromWorkload: Self.fast), for: "cali1")
    #expect(try successor.apply() == TrafficDriver.Report(), "also by the next agent")

    driver.want(TrafficLimits(toWorkload: Self.fast, fromWorkload: Self.fast), for: "cali1")
    #expect(try driver.apply().changed == 1)
    #expect(Self.fast.equals(try #require(try bench.bucket("cali1"))))
    driver.want(TrafficLimits(toWorkload: Self.fast), for: "cali1")
    #expect(try driver.apply().changed == 2, "ingress and device")
    #expect(try bench.devices().isEmpty)
    driver.want(nil, for: "cali1")
    #expect(try driver.apply().changed == 1)
    #expect(try bench.bucket("cali1") == nil)
    #expect(try bench.kernel.queues().allSatisfy { $0.parent != Queue.ingress })
  }

  @Test("A cable that goes takes its device along, and one that comes gets its limits; what a dead agent left is cleared", arguments: Place.available)
  func comingAndGoing(place: Place) throws {
    let bench = try Bench(place)
    let driver = TrafficDriver(bench.kernel)
    driver.want(TrafficLimits(fromWorkload: Self.megabyte), for: "cali1")
    driver.want(TrafficLimits(toWorkload: Self.megabyte, fromWorkload: Self.megabyte), for: "cali2")
    driver.want(TrafficLimits(toWorkload: Self.megabyte), for: "cali9")
    let first = try driver.apply()
    #expect(first.changed == 9 && first.problems.isEmpty, "cali9 may come later")
    let gone = try #require(try bench.link("cali1"))
    try bench.remove("cali1")
    driver.handle(.linkRemoved(gone))
    driver.want(nil, for: "cali1")
    _ = try driver.apply()
    #expect(try bench.devices().count == 1)
    let successor = TrafficDriver(bench.kernel)
    #expect(try successor.apply().changed == 3, "bucket, ingress, device of cali2")
    #expect(try bench.devices().isEmpty && bench.bucket("cali2") == nil)
  }

  @Test("What others have set on interfaces without limits stays")
  func foreign() throws {
    let fake = FakeTraffic(links: [Link(index: 1, name: "cali1", flags: .up), Link(index: 2, name: "br0", flags: .up)])
    try fake.apply(.setBucket(interface: 1, handle: 0x10000, Self.megabyte))
    try fake.apply(.addIngress(interface: 1))
    try fake.apply(.addDetour(from: 1, to: 2))
    #expect(try TrafficDriver(fake).apply() == TrafficDriver.Report())
  }

  @Test("A limit that the kernel refuses is told with its interface, and tried again")
  func refused() throws {
    let fake = FakeTraffic(links: [Link(index: 1, name: "cali1", flags: .up)])
    fake.refusals = [NetlinkError(code: EOPNOTSUPP, what: "limit what interface 1 sends to 1000000 octets per second")]
    let driver = TrafficDriver(fake)
    driver.want(TrafficLimits(toWorkload: Self.megabyte), for: "cali1")
    #expect(try driver.apply().problems.first?.hasPrefix("interface cali1: limit what interface 1 sends") == true)
    #expect(try driver.apply().changed == 1)
  }

  @Test("A small burst still holds a packet")
  func packet() {
    let bucket = TokenBucket(rate: 1000, burst: 125, peakRate: 2000, peakBurst: 1000, limit: 150).holding(packet: 1518)
    #expect(bucket == TokenBucket(rate: 1000, burst: 1518, peakRate: 2000, peakBurst: 1518, limit: 1518))
  }
}

@Suite("Traffic under limits", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct TrafficRateTests {
  /// Octets per second, with the headers that count, that come through while twice as much as `rate` is sent. What the bucket lets through at
  /// once at the start is not reckoned.
  private func rate(offering rate: Double, from: NetworkNamespace, to: NetworkNamespace, _ target: String) throws -> Double {
    func make(_ namespace: NetworkNamespace, _ make: () throws -> Socket) throws -> Socket {
      var made: Socket?
      try namespace.run { made = try make() }
      return made.take()!
    }
    let there = SocketAddress(IPAddress(target)!, port: 5001)
    let receiver = try make(to) {
      let socket = try Socket.udp(there.address.family)
      try socket.bind(there)
      // SO_RCVBUFFORCE: nothing is lost while this thread waits for the processor.
      try socket.setOption(level: SOL_SOCKET, name: 33, value: 16 << 20)
      return socket
    }
    let sender = try make(from) { try Socket.udp(there.address.family) }
    let payload = [UInt8](repeating: 7, count: 1000)
    let octets = Double(payload.count + 8 + 14 + (there.address.family == .v4 ? 20 : 40))
    let began = MonotonicInstant.now
    var (sent, received) = (0.0, 0.0)
    var start: (at: Double, received: Double)?
    while true {
      let elapsed = Double((MonotonicInstant.now - began).wholeNanoseconds) / 1e9
      if let start, elapsed > start.at + 1 { return (received - start.received) / (elapsed - start.at) }
      if start == nil, elapsed > 0.4 { start = (elapsed, received) }
      while sent < elapsed * 2 * rate {
        // What the queue refuses is told to the sender, and lost.
        _ = try? sender.send(payload, to: there)
        sent += octets
      }
      while try receiver.receiveDatagram() != nil { received += octets }
      usleep(500)
    }
  }

  @Test("What comes through is what the limit says, within 15 %, in each direction and family, and follows its changes")
  func rate() throws {
    let sandbox = KernelSandbox()
    let (host, workload) = (try sandbox.namespace("host"), try sandbox.namespace("w"))
    try sandbox.connect(host, "cali1", ["10.9.0.1/24", "fd09::1/64"], workload, "eth0", ["10.9.0.2/24", "fd09::2/64"])
    let driver = TrafficDriver(NetlinkTraffic(try RouteNetlink(namespace: host)))
    func limit(_ rate: UInt64) -> TokenBucket { TokenBucket(rate: rate, burst: UInt32(rate / 10), limit: UInt32(rate / 5)) }
    driver.want(TrafficLimits(toWorkload: limit(1_000_000), fromWorkload: limit(500_000)), for: "cali1")
    #expect(try driver.apply().problems == [])
    for (from, to, target, wanted) in [(host, workload, "10.9.0.2", 1_000_000.0), (workload, host, "fd09::1", 500_000.0)] {
      let seen = try rate(offering: wanted, from: from, to: to, target)
      #expect(abs(seen / wanted - 1) < 0.15, "\(seen) octets per second to \(target)")
    }
    driver.want(TrafficLimits(toWorkload: limit(2_000_000)), for: "cali1")
    #expect(try driver.apply().problems == [])
    let faster = try rate(offering: 2_000_000, from: host, to: workload, "fd09::2")
    #expect(abs(faster / 2_000_000 - 1) < 0.15, "\(faster) octets per second")
    driver.want(nil, for: "cali1")
    _ = try driver.apply()
    let free = try rate(offering: 1_000_000, from: workload, to: host, "10.9.0.1")
    #expect(free > 1_700_000, "\(free) octets per second: all that is sent")
  }
}

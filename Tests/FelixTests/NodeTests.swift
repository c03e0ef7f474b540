/// What a node does before its daemons start, and how it keeps them running.

import Addresses
import Datastore
import DatastoreMemory
import Glibc
import JSON
import KernelSandbox
import Logging
import NetlinkEdge
import Resources
import Sockets
import Synchronization
import Testing

@testable import NodeProgram

@Suite("Node startup", .timeLimit(.minutes(1)))
struct NodeStartupTests {
  let datastore = MemoryDatastore()
  private func address(_ text: String) -> InterfaceAddress { InterfaceAddress(text)! }
  private func node(_ resource: Resource) -> NodeSpec? { if case .node(let spec) = resource.spec { spec } else { nil } }

  @Test("The first start makes the cluster's fixed objects and the node; another node with the same address is refused, in both families")
  func conflict() async throws {
    let first = NodeStartup(name: "h1", ipv4: address("172.30.1.1/24"), ipv6: address("fd30::1/64"), asNumber: 64512)
    let made = try await first.run(datastore)
    #expect(node(made)?.bgp?.ipv4Address == address("172.30.1.1/24") && node(made)?.bgp?.asNumber == 64512)
    let store = ResourceStore(datastore)
    #expect(try await store.get(ResourceKey(.tier, name: "default")) != nil)
    #expect(try await store.get(ResourceKey(.clusterInformation, name: "default")) != nil)
    for second in [
      NodeStartup(name: "h2", ipv4: address("172.30.1.1/16"), ipv6: address("fd30::2/64")),
      NodeStartup(name: "h2", ipv4: address("172.30.1.2/24"), ipv6: address("fd30::1/64")),
    ] {
      let problem = await #expect(throws: NodeStartup.Problem.self) { try await second.run(datastore) }
      #expect(problem?.description.contains("belongs to Node h1") == true)
      #expect(try await store.get(ResourceKey(.node, name: "h2")) == nil)
    }
    // Its own address is no conflict.
    #expect(try await first.run(datastore).metadata.uid == made.metadata.uid)
  }

  @Test("A restart keeps labels, fields that it does not know, and an AS number given since; a given address replaces the stored one")
  func restart() async throws {
    let startup = NodeStartup(name: "h1", ipv4: address("172.30.1.1/24"), asNumber: 64512)
    _ = try await startup.run(datastore)
    let key = ResourceKey(.node, name: "h1")
    var document = try JSONValue(parsing: try #require(try await datastore.get(key.path)).value)
    document["metadata"]?["labels"] = ["rack": "r1"]
    document["spec"]?["wireguard"] = ["interfaceIPv4Address": "10.99.0.1"]
    document["spec"]?["bgp"]?["asNumber"] = 65001
    document["spec"]?["bgp"]?["routeReflectorClusterID"] = "224.0.0.1"
    _ = try await datastore.transact(if: [], then: [.put(key.path, document.bytes)])
    let moved = NodeStartup(name: "h1", ipv4: address("172.30.1.9/24"), asNumber: 64512)
    _ = try await moved.run(datastore)
    let after = try JSONValue(parsing: try #require(try await datastore.get(key.path)).value)
    #expect(after["metadata"]?["labels"]?["rack"]?.string == "r1")
    #expect(after["spec"]?["wireguard"]?["interfaceIPv4Address"]?.string == "10.99.0.1")
    #expect(after["spec"]?["bgp"]?["asNumber"]?.integer == 65001)
    #expect(after["spec"]?["bgp"]?["routeReflectorClusterID"]?.string == "224.0.0.1")
    #expect(after["spec"]?["bgp"]?["ipv4Address"]?.string == "172.30.1.9/24")
    let revision = try await datastore.get(key.path)?.modRevision
    _ = try await moved.run(datastore)
    #expect(try await datastore.get(key.path)?.modRevision == revision)
  }

  @Test("A label written while the node starts is not lost")
  func concurrent() async throws {
    let datastore = datastore
    let key = ResourceKey(.node, name: "h1")
    _ = try await NodeStartup(name: "h1", ipv4: address("172.30.1.1/24")).run(datastore)
    try await withThrowingTaskGroup { group in
      group.addTask {
        for number in 0..<200 {
          _ = try await NodeStartup(name: "h1", ipv4: InterfaceAddress("172.30.1.\(number % 2 + 1)/24")!).run(datastore)
        }
      }
      group.addTask {
        let store = ResourceStore(datastore)
        for number in 0..<100 {
          while true {
            var node = try #require(try await store.get(key)).resource
            node.metadata.labels["l\(number)"] = "x"
            do throws(ResourceStoreError) { try await store.update(node) } catch .conflict { continue }
            break
          }
          await Task.yield()
        }
      }
      try await group.waitForAll()
    }
    #expect(try await ResourceStore(datastore).get(key)?.resource.metadata.labels.count == 100)
  }

  @Test("Detection takes the first address of an interface that is up and is not a container's, a tunnel's or a workload's",
    .enabled(if: KernelSandbox.isAvailable))
  func detection() throws {
    let sandbox = KernelSandbox()
    let host = try sandbox.namespace("host")
    func detect() throws -> [InterfaceAddress?] {
      try [IPFamily.v4, .v6].map { try AddressDetection.firstFound.address($0, of: HostView.interfaces(in: host), internalAddresses: []) { _ in nil } }
    }
    func ip(_ line: String) throws { try sandbox.ip(host, line.split(separator: " ").map(String.init)) }
    try ip("address add 10.1.1.1/32 dev lo")
    for (number, name) in ["cali1", "docker0", "tunl9", "veth1", "down0", "lom1", "eth1"].enumerated() {
      try ip("link add \(name) type bridge")
      try ip("address add 10.2.\(number).1/24 dev \(name)")
      try ip("-6 address add fd02:\(number)::1/64 dev \(name) nodad")
    }
    #expect(try detect() == [nil, nil])
    for name in ["cali1", "docker0", "tunl9", "veth1"] { try ip("link set \(name) up") }
    #expect(try detect() == [nil, nil])
    try ip("link set eth1 up")
    #expect(try detect() == [address("10.2.6.1/24"), address("fd02:6::1/64")])
    // Loopback is `lo` alone: an interface whose name begins so is a network card.
    try ip("link set lom1 up")
    #expect(try detect() == [address("10.2.5.1/24"), address("fd02:5::1/64")])
  }

  @Test("What is detected serves where neither caller nor stored object says; a host with nothing is told which option gives an address")
  func detected() async throws {
    var startup = NodeStartup(name: "h1")
    startup.interfaces = { _ in [] }
    let problem = await #expect(throws: NodeStartup.Problem.self) { try await startup.run(datastore) }
    #expect(problem?.description.contains("--ipv4") == true)
    #expect(try await ResourceStore(datastore).get(ResourceKey(.node, name: "h1")) == nil)
    startup.interfaces = { _ in [HostInterface(name: "eth0", addresses: [InterfaceAddress("10.7.0.1/24")!])] }
    #expect(node(try await startup.run(datastore))?.bgp?.ipv4Address == address("10.7.0.1/24"))
    startup.interfaces = { _ in [HostInterface(name: "eth0", addresses: [InterfaceAddress("10.8.0.1/24")!])] }
    #expect(node(try await startup.run(datastore))?.bgp?.ipv4Address == address("10.7.0.1/24"))
  }
}

@Suite("Waiting for the datastore", .timeLimit(.minutes(1)))
struct DatastoreWaitTests {
  private let wait = DatastoreWait(log: Logger(label: "test"), pauseFirst: .milliseconds(1), pauseMax: .milliseconds(2))

  @Test("What needs the datastore is tried until it answers, also through the typed client")
  func waits() async throws {
    let datastore = MemoryDatastore()
    datastore.setOutage("not started")
    let tries = Mutex(0)
    try await wait.run(datastore) {
      // The datastore comes back between the third try and the fourth.
      if tries.withLock({ $0 += 1; return $0 }) == 4 { datastore.setOutage(nil) }
      try await ResourceStore(datastore).ensureDefaults()
    }
    #expect(tries.withLock { $0 } == 4)
    #expect(try await ResourceStore(datastore).list(.tier).items.count == 3)
  }

  @Test("What waiting does not mend is told at once", arguments: [DatastoreError.refused("wrong password"), .unusable("newer schema")])
  func refuses(error: DatastoreError) async throws {
    let tries = Mutex(0)
    await #expect(throws: error) {
      try await wait.run(MemoryDatastore()) {
        tries.withLock { $0 += 1 }
        throw error
      }
    }
    #expect(tries.withLock { $0 } == 1)
  }
}

@Suite("What the children of a node may do")
struct CapabilityTests {
  @Test(
    "A child has what it needs and can never get more, whatever it executes", .enabled(if: geteuid() == 0),
    arguments: [SupervisedChild.Needs.felix, SupervisedChild.Needs.bgp, SupervisedChild.Needs.controllers])
  func confined(needs: Capabilities) throws {
    var command = ChildCommand("/bin/sh", ["-c", "/bin/sh -c 'cat /proc/self/status'"])
    command.capabilities = needs
    let (code, output) = try command.runToEnd()
    #expect(code == 0)
    var status: [String: String] = [:]
    for line in output.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      if parts.count == 2 { status[String(parts[0])] = parts[1].filter { $0 != "\t" && $0 != " " } }
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
      let bits = try #require(status[set].flatMap { UInt64($0, radix: 16) })
      switch set {
      case "CapEff", "CapPrm", "CapBnd": #expect(bits == needs.rawValue)
      // No more than that, whatever the kernel makes of it at exec.
      default: #expect(bits & ~needs.rawValue == 0)
      }
    }
    #expect(status["NoNewPrivs"] == "1")
  }
}

@Suite("Supervisor", .timeLimit(.minutes(1)))
struct SupervisorTests {
  /// The probe in a process of its own, with shell scripts as its children.
  private final class Probe {
    let child: ChildProcess
    let directory: String
    init(_ children: String...) throws {
      directory = try Files.makeTemporaryDirectory(prefix: "margay-node-")
      var buffer = [CChar](repeating: 0, count: 4096)
      let count = readlink("/proc/self/exe", &buffer, 4095)
      let own = String(decoding: buffer[..<max(count, 0)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
      let directory = directory
      let sink = OwnedDescriptor(owning: open("/dev/null", O_WRONLY | O_CLOEXEC))
      child = try ChildCommand(
        "\(Files.parent(of: own))/supervisor-probe", [directory] + children.map { $0.replacing("DIR", with: directory) },
        output: sink.borrowed, error: sink.borrowed
      ).start()
    }
    deinit {
      try? child.signal(SIGKILL)
      try? Files.removeTree(directory)
    }
    func read(_ name: String) -> String { (try? Files.readText("\(directory)/\(name)")) ?? "" }
    func lines(_ name: String) -> [Substring] { read(name).split(separator: "\n") }
    /// By `node.pids`.
    func pid(_ name: String) -> Int32? {
      lines("node.pids").first { $0.hasPrefix("\(name) ") }.flatMap { Int32($0.dropFirst(name.count + 1)) }
    }
  }
  private static func runs(_ pid: Int32) -> Bool { kill(pid, 0) == 0 }

  @Test("A child that crashes is started again, later each time, and no other is touched")
  func restarts() async throws {
    let probe = try Probe("steady=echo up >> DIR/steady; exec sleep 60", "bad=date +%s%N >> DIR/bad; kill -SEGV $$")
    try await eventually("four starts") { probe.lines("bad").count >= 4 }
    let times = probe.lines("bad").compactMap { Int64($0) }
    let gaps = zip(times.dropFirst(), times).map { ($0 - $1) / 1_000_000 }
    #expect(gaps[0] >= 100 && gaps[1] >= 200 && gaps[2] >= 400, "\(gaps) ms")
    #expect(probe.lines("steady").count == 1)
    let steady = try #require(probe.pid("steady"))
    #expect(Self.runs(steady))
    try probe.child.signal(SIGTERM)
    let code = try await Self.end(probe)
    #expect(code == 0)
    #expect(!Self.runs(steady))
  }

  @Test("SIGTERM ends every child before the supervisor ends, also one that takes its time; nothing is left in the run directory")
  func terminates() async throws {
    let slow = "trap 'sleep 0.3; echo done > DIR/slow; exit 0' TERM; echo up > DIR/up; while :; do sleep 0.05; done"
    let probe = try Probe("slow=\(slow)", "quick=exec sleep 60")
    try await eventually("both run") { probe.read("up") == "up\n" && probe.pid("quick") != nil }
    let pids = try [#require(probe.pid("slow")), #require(probe.pid("quick"))]
    #expect(probe.pid("node") == probe.child.pid)
    try probe.child.signal(SIGTERM)
    let code = try await Self.end(probe)
    #expect(code == 0)
    #expect(probe.read("slow") == "done\n")
    for pid in pids { #expect(!Self.runs(pid)) }
    #expect(!Files.exists("\(probe.directory)/node.pids"))
  }

  @Test("Children of a killed supervisor end with it")
  func killed() async throws {
    let probe = try Probe("one=exec sleep 60", "two=exec sleep 60")
    try await eventually("both run") { probe.pid("one") != nil && probe.pid("two") != nil }
    let pids = try [#require(probe.pid("one")), #require(probe.pid("two"))]
    try probe.child.signal(SIGKILL)
    _ = try await Self.end(probe)
    try await eventually("the children end") { !pids.contains(where: Self.runs) }
  }

  @Test("Delays double from 100 ms to 10 s, and begin anew after a minute of good health")
  func pace() {
    var pace = RestartPace()
    var delays = (0..<9).map { _ in pace.next(livedFor: .seconds(1)) }
    #expect(delays == [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000].map { .milliseconds($0) })
    delays = [pace.next(livedFor: .seconds(61)), pace.next(livedFor: .zero)]
    #expect(delays == [.milliseconds(100), .milliseconds(200)])
  }

  private static func end(_ probe: Probe) async throws -> CInt {
    var code: CInt?
    try await eventually("the supervisor ends") {
      code = try probe.child.reap()
      return code != nil
    }
    return code ?? -1
  }
}

import Addresses
import BGPProgram
import Datastore
import DatastoreMemory
import JSON
import KernelSandbox
import Logging
import NetlinkEdge
import Sockets
import Testing

@Suite("The whole program", .enabled(if: KernelSandbox.isAvailable), .serialized)
struct ProgramTests {
  private func put(_ store: MemoryDatastore, _ plural: String, _ name: String, _ spec: String, labels: String = "{}") async throws {
    let kind = ["nodes": "Node", "ippools": "IPPool", "bgppeers": "BGPPeer"][plural]!
    let head = #""kind":"\#(kind)","apiVersion":"projectcalico.org/v3""#
    let document = #"{\#(head),"metadata":{"name":"\#(name)","labels":\#(labels)},"spec":\#(spec)}"#
    _ = try await store.transact(
      if: [], then: [.put("/calico/resources/v3/projectcalico.org/\(plural)/\(name)", Array(document.utf8))])
  }

  /// The status as a stranger reads it: connect and read to the end.
  private func status(_ directory: String) -> JSONValue? {
    guard let socket = try? Socket.connecting(toUnix: BGPProgram.Options.statusPath(directory)) else { return nil }
    var octets: [UInt8] = []
    while let count = try? socket.receive(into: &octets), count > 0 {}
    return try? JSONValue(parsing: octets)
  }

  @Test("Resources in the datastore become sessions and routes, changes are followed, and the status tells", .timeLimit(.minutes(1)))
  func datastoreToKernel() async throws {
    let sandbox = KernelSandbox()
    let node = try sandbox.namespace("node")
    let tor = try sandbox.namespace("tor")
    try sandbox.connect(node, "eth0", ["172.30.1.2/24", "fd30:1::2/64"], tor, "eth0", ["172.30.1.1/24", "fd30:1::1/64"])
    try sandbox.ip(node, "route", "add", "blackhole", "10.65.1.0/26", "proto", "80")
    let bird = try Bird(sandbox, tor, BirdTests.configuration)
    let directory = try Files.makeTemporaryDirectory(prefix: "bgp-")
    defer { try? Files.removeTree(directory) }
    let store = MemoryDatastore()
    let started = Latch<EventLoop.Mailbox>()
    let ended = Latch<String>()
    try DedicatedThread.start {
      do {
        try node.run { () throws -> Void in
          let loop = try EventLoop()
          var log = Logger(label: "bgp")
          log.logLevel = .critical
          var options = BGPProgram.Options(nodeName: "n1", runDirectory: directory, datastore: store, loop: loop, log: log)
          options.handlesSignals = false
          started.set(loop.mailbox)
          try BGPProgram.run(options)
        }
        ended.set("")
      } catch {
        ended.set("\(error)")
      }
    }
    let mailbox = started.wait()
    #expect(eventually { status(directory)?["isReady"]?.bool == false }, "without a Node there is a status, and no session")

    try await put(store, "nodes", "n1", #"{"bgp":{"ipv4Address":"172.30.1.2/24","ipv6Address":"fd30:1::2/64"}}"#)
    try await put(store, "ippools", "p", #"{"cidr":"10.65.0.0/16"}"#)
    try await put(store, "bgppeers", "tor4", #"{"peerIP":"172.30.1.1","asNumber":65000}"#)
    try await put(store, "bgppeers", "tor6", #"{"node":"n1","peerIP":"fd30:1::1","asNumber":"65000"}"#)
    #expect(try eventually(within: .seconds(15)) { try bird.routes().contains("10.65.1.0/26") }, "\(bird.log)")
    #expect(eventually {
      let sessions = status(directory)?["sessions"]?.array ?? []
      return sessions.count == 2 && sessions.allSatisfy { $0["state"]?.string == "Established" }
    })
    let routes = try #require(status(directory)?["routes"]?.array)
    #expect(routes.contains {
      $0["prefix"]?.string == "10.99.0.0/16" && $0["from"]?.string == "Global_172_30_1_1" && $0["installed"]?.bool == true
    })
    #expect(routes.contains { $0["prefix"]?.string == "10.65.1.0/26" && $0["from"]?.string == "local" && $0["best"]?.bool == true })

    // A document that cannot be read leaves the last good one in force; a good one is followed.
    try await put(store, "bgppeers", "tor4", #"{"peerIP":"nonsense"}"#)
    try await put(store, "ippools", "p", #"{"cidr":"10.65.0.0/16","disableBGPExport":true}"#)
    #expect(try eventually { try !bird.routes().contains("10.65.1.0/26") })
    #expect(status(directory)?["sessions"]?.array?.count == 2)
    let problems = status(directory)?["problems"]?.array ?? []
    #expect(problems.contains { ($0.string ?? "").contains("tor4") && ($0.string ?? "").contains("last good version") }, "\(problems)")
    _ = try await store.transact(if: [], then: [.delete("/calico/resources/v3/projectcalico.org/bgppeers/tor4")])
    #expect(eventually { status(directory)?["sessions"]?.array?.count == 1 })
    #expect(try eventually { try sandbox.ip(node, "-4", "route", "show", "proto", "81").isEmpty })

    mailbox.stop()
    #expect(ended.wait() == "")
    #expect(status(directory) == nil)
    #expect(try sandbox.ip(node, "-6", "route", "show", "proto", "81").contains("fd00:99::/48"), "routes stay in the kernel")
  }
}

/// The netlink socket and namespaces against the kernel.

import Addresses
import Glibc
import KernelSandbox
import NetlinkEdge
import NetlinkMessages
import Octets
import Sockets
import Testing

@Suite("Network namespaces", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(1)))
struct NetworkNamespaceTests {
  @Test("A named namespace is one for the ip command, and deleting removes it")
  func named() throws {
    let name = "mt\(getpid())-named"
    let namespace = try NetworkNamespace.create(named: name)
    let inside = try ChildCommand("ip", ["netns", "exec", name, "readlink", "/proc/self/ns/net"]).runToEnd()
    #expect(inside.code == 0)
    let seen = try namespace.run { try Files.identity("/proc/thread-self/ns/net").inode }
    #expect(inside.output == "net:[\(seen)]\n")
    #expect(throws: SystemError.self) { _ = try NetworkNamespace.create(named: name) }
    try NetworkNamespace.delete(named: name)
    #expect(!NetworkNamespace.names().contains(name))
    try NetworkNamespace.delete(named: name)
  }

  @Test("Work inside a namespace leaves this thread where it was, and its errors come out")
  func runs() throws {
    let before = try Files.identity("/proc/thread-self/ns/net").inode
    let namespace = try NetworkNamespace.make()
    let inside = try namespace.run { try Files.identity("/proc/thread-self/ns/net").inode }
    #expect(inside != before)
    #expect(try Files.identity("/proc/thread-self/ns/net").inode == before)
    #expect(throws: SystemError.self) { try namespace.run { throw SystemError(code: EPERM, operation: "test") } }
  }

  @Test("Sysctls are of the namespace, names with dots included, and an equal value is not written")
  func sysctls() throws {
    let sandbox = KernelSandbox()
    let namespace = try sandbox.namespace()
    try sandbox.ip(namespace, "link", "add", "d.1", "type", "veth", "peer", "name", "d.2")
    let writes = Sysctls.writes
    #expect(try namespace.ensureSysctl("1", "ipv4/conf/d.1/proxy_arp"))
    #expect(try !namespace.ensureSysctl("1", "ipv4/conf/d.1/proxy_arp"))
    #expect(try namespace.readSysctl("ipv4/conf/d.1/proxy_arp") == "1")
    #expect(Sysctls.writes == writes + 1)
  }

  @Test("The sandbox takes its namespaces along when it goes")
  func cleans() throws {
    var name = ""
    do {
      let sandbox = KernelSandbox()
      name = String(try sandbox.namespace("x").name.dropFirst(NetworkNamespace.directory.count + 1))
      #expect(NetworkNamespace.names().contains(name))
    }
    #expect(!NetworkNamespace.names().contains(name))
  }
}

@Suite("Netlink socket", .enabled(if: KernelSandbox.isAvailable), .serialized, .timeLimit(.minutes(1)))
struct NetlinkSocketTests {
  /// RTM_NEWLINK by name with a dummy body, enough to provoke answers.
  static func newLink(_ batch: inout NetlinkBatch, _ name: String, kind: String) {
    batch.add(type: 16, flags: [.create, .exclusive, .acknowledge]) { writer in
      writer.zeros(16)
      writer.attribute(3, text: name)
      writer.nest(18) { $0.attribute(1, text: kind) }
    }
  }

  @Test("Each message of a batch gets its own answer, with the kernel's words")
  func attribution() throws {
    let namespace = try NetworkNamespace.make()
    let socket = try namespace.netlink(.route)
    var batch = NetlinkBatch()
    let before = NetlinkStatistics.mutations(.route)
    Self.newLink(&batch, "a", kind: "bridge")
    Self.newLink(&batch, "b", kind: "no-such-kind")
    Self.newLink(&batch, "a", kind: "bridge")
    Self.newLink(&batch, "c", kind: "bridge")
    let results = try socket.request(&batch, what: "make links")
    #expect(results.map { $0?.code ?? 0 } == [0, EOPNOTSUPP, EEXIST, 0])
    #expect(results[1]?.message == "Unknown device type")
    #expect(results[1]?.description == "make links: Operation not supported (Unknown device type)")
    #expect(NetlinkStatistics.mutations(.route) >= before + 4)
  }

  @Test("A dump sees everything, message after message")
  func dump() throws {
    let namespace = try NetworkNamespace.make()
    let socket = try namespace.netlink(.route)
    var batch = NetlinkBatch()
    for index in 0..<200 { Self.newLink(&batch, "br\(index)", kind: "bridge") }
    #expect(try socket.request(&batch).allSatisfy { $0 == nil })
    let names = try socket.dump(type: 18, what: "links", body: { $0.zeros(16) }) { _, body throws(WireError) -> String? in
      try body.skip(16)
      var name: String?
      try body.attributes { type, value throws(WireError) in if type == 3 { name = try value.text() } }
      return name
    }
    #expect(Set(names) == Set(["lo"] + (0..<200).map { "br\($0)" }))
  }

  @Test("A batch larger than the send buffer makes the buffer grow")
  func large() throws {
    let namespace = try NetworkNamespace.make()
    let socket = try NetlinkSocket(.route, namespace: namespace.descriptor.borrowed, bufferOctets: 1 << 16)
    var batch = NetlinkBatch()
    for _ in 0..<3000 {
      batch.add(type: 16, flags: []) { writer in
        writer.zeros(16)
        writer.attribute(3, [UInt8](repeating: 0, count: 200))
      }
    }
    // Without an acknowledgement asked for, only errors come back: more than the small receive buffer holds, so some are lost; the
    // batch itself must have been sent.
    _ = try socket.request(&batch)
    #expect(batch.octetCount > 600_000)
  }

  @Test("An nftables transaction is one batch: the answer to each message, nothing applied when one fails")
  func netfilter() throws {
    let namespace = try NetworkNamespace.make()
    let socket = try namespace.netlink(.netfilter)
    func table(_ name: String, begin: Bool = true, bad: Bool = false) -> NetlinkBatch {
      var batch = NetlinkBatch()
      batch.add(type: 0x10, flags: []) { $0.append([0, 0, 0, 10]) }
      batch.add(type: 10 << 8 | 0, flags: [.create, .acknowledge]) { writer in
        writer.append([1, 0, 0, 0])
        writer.attribute(1, text: name)
      }
      if bad {
        batch.add(type: 10 << 8 | 2, flags: [.acknowledge]) { writer in
          writer.append([1, 0, 0, 0])
          writer.attribute(1, text: "missing")
        }
      }
      batch.add(type: 0x11, flags: []) { $0.append([0, 0, 0, 10]) }
      return batch
    }
    func tables() throws -> [String] {
      try socket.dump(type: 10 << 8 | 1, what: "tables", body: { $0.append([0, 0, 0, 0]) }) { _, body throws(WireError) -> String? in
        try body.skip(4)
        var name: String?
        try body.attributes { type, value throws(WireError) in if type == 1 { name = try value.text() } }
        return name
      }
    }
    let before = NetlinkStatistics.mutations(.netfilter)
    var bad = table("bad", bad: true)
    #expect(try socket.request(&bad).map { $0?.code ?? 0 } == [0, 0, ENOENT, 0])
    #expect(try tables() == [])
    var good = table("good")
    #expect(try socket.request(&good).allSatisfy { $0 == nil })
    #expect(try tables() == ["good"])
    #expect(NetlinkStatistics.mutations(.netfilter) >= before + 3)
  }
}

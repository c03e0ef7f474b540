import CNIMessages
import CNIServer
import Glibc
import JSON
import KernelSandbox
import NetlinkEdge
import Sockets
import Testing

@Suite("CNI: when one side is missing, late or foreign", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(2)))
struct AbsenceTests {
  @Test("VERSION needs no node and no input")
  func version() async throws {
    let rig = try Rig()
    let answer = try await rig.plugin("VERSION", "dummy", nil)
    #expect(answer.code == 0 && answer.json?["cniVersion"] == "1.0.0")
  }

  @Test("ADD without a node says so, and that trying again helps")
  func addWithoutNode() async throws {
    let rig = try Rig()
    let answer = try await rig.plugin("ADD", "c1", try rig.sandbox.namespace("c"))
    #expect(answer.code == 1 && answer.errorCode == 11, "\(answer.text)")
    #expect(answer.message.contains(rig.socket) && answer.json?["details"]?.string?.contains("margay node") == true, "\(answer.text)")
  }

  @Test("A DEL without a node is kept on disk, and finished when the node comes")
  func tombstoneAtStart() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    let added = try await rig.serving { try await rig.plugin("ADD", "c1", container) }
    #expect(added.code == 0, "\(added.text)")
    let deleted = try await rig.plugin("DEL", "c1", container)
    #expect(deleted.code == 0 && deleted.text.isEmpty, "\(deleted.text)")
    #expect(try Files.list(rig.tombstones) == ["c1+eth0.del.json"])
    let isClean = try await rig.serving { try await blocking { try eventually { try rig.leftovers() == "" } } }
    #expect(isClean)
  }

  @Test("A DEL that is left while the node serves is noticed at once")
  func tombstoneLater() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      #expect(try await rig.plugin("ADD", "c1", container).code == 0)
      let request = NodeRequest(
        call: CNICall(command: .delete, containerID: "c1", networkNamespace: "", interfaceName: "eth0"), configuration: Rig.configuration)
      try Files.writeAtomically(request.json.bytes, to: "\(rig.tombstones)/\(request.tombstoneName)")
      #expect(try await blocking { try eventually(within: .seconds(2)) { try rig.leftovers() == "" } })
    }
  }

  @Test("The DEL of a container's former life does not end its new one")
  func tombstoneAndRestart() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    let added = try await rig.serving { try await rig.plugin("ADD", "c1", container) }
    #expect(added.code == 0, "\(added.text)")
    #expect(try await rig.plugin("DEL", "c1", container).code == 0)
    try await rig.serving { () async throws in
      #expect(try await rig.plugin("ADD", "c1", container).code == 0)
      #expect(try await blocking { try eventually { try Files.list(rig.tombstones).isEmpty } })
      #expect(try rig.ping(container, "10.0.0.1"))
      #expect(rig.records.keys.count == 2 && rig.addresses.all.count == 1)
      #expect(try await rig.plugin("CHECK", "c1", container).code == 0)
    }
  }

  @Test("A node that stops while an ADD waits for Felix undoes it and tells the runtime to come again")
  func stopping() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    rig.felix.hangs.withLock { $0 = true }
    let waiting = try await rig.serving { () async throws in
      let waiting = Task { () async throws in try await rig.plugin("ADD", "c1", container) }
      let isRecorded = try await blocking { eventually { rig.records.keys.contains { $0.kind == .workloadEndpoint } } }
      #expect(isRecorded)
      return waiting
    }
    let answer = try await waiting.value
    #expect(answer.errorCode == 11 && answer.message.contains("stopping"), "\(answer.text)")
    #expect(try rig.leftovers() == "")
  }

  @Test("An ADD that Felix does not finish in time fails with the endpoint's name")
  func deadline() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    rig.felix.hangs.withLock { $0 = true }
    var configuration = Rig.configuration
    configuration["margay"] = ["timeoutSeconds": 1]
    try await rig.serving { () async throws in
      let answer = try await rig.plugin("ADD", "c1", container, configuration: configuration)
      #expect(answer.errorCode == 103 && answer.message.contains("default/node1-cni-c1-eth0"), "\(answer.text)")
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("Only root and the node's own user are served")
  func credentials() async throws {
    let rig = try Rig()
    try await rig.serving { () async throws in
      // The socket's permissions keep others out already; here they are opened to see the second lock.
      for path in [rig.directory, rig.socket] { chmod(path, 0o777) }
      let script = "printf '\\0\\0\\0\\2{}' | nc -U -w 2 \(rig.socket)"
      let answer = try await blocking {
        try ChildCommand("/usr/bin/setpriv", ["--reuid=65534", "--clear-groups", "sh", "-c", script]).runToEnd()
      }
      #expect(answer.output.contains("user 65534 may not ask for networks"), "\(answer.code) \(answer.output)")
    }
  }

  @Test("Nonsense on the socket is answered with an error, and the next caller is served")
  func nonsense() async throws {
    let rig = try Rig()
    try await rig.serving { () async throws in
      for octets in [[0xff, 0xff, 0xff, 0xff], [0, 0, 0, 1, 0x5d], Array("GET / HTTP/1.1\r\n\r\n".utf8)] as [[UInt8]] {
        let socket = try Socket.connecting(toUnix: rig.socket)
        try socket.sendAll(octets)
        var answer: [UInt8] = []
        while try socket.receive(into: &answer) ?? 0 > 0 {}
        let json = try #require(try NodeProtocol.unframe(answer))
        #expect(json["error"]?["code"] == 102, "\(json.text())")
      }
      #expect(try await rig.plugin("DEL", "c1", nil).code == 0)
    }
  }

  @Test("A second server at the same socket is refused")
  func secondServer() async throws {
    let rig = try Rig()
    try await rig.serving { () async throws in
      let second = rig.server()
      do {
        try await second.run()
        Issue.record("two servers at one socket")
      } catch let error as SystemError {
        #expect(error.code == EADDRINUSE)
      }
      #expect(try await rig.plugin("DEL", "c1", nil).code == 0)
    }
  }
}

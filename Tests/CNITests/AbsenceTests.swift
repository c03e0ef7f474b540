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

  @Test("Many DELs that were left are finished; a damaged one is counted and told apart, and stays for a person to look at")
  func manyTombstones() async throws {
    let rig = try Rig()
    let containers = try (0..<24).map { _ in try rig.sandbox.namespace("c") }
    try await rig.serving { () async throws in
      for (number, container) in containers.enumerated() {
        #expect(try await rig.plugin("ADD", "many-\(number)", container).code == 0)
      }
    }
    for (number, container) in containers.enumerated() {
      #expect(try await rig.plugin("DEL", "many-\(number)", container).code == 0)
      // Again, as runtimes do: still one file each.
      #expect(try await rig.plugin("DEL", "many-\(number)", nil).code == 0)
    }
    #expect(try Files.list(rig.tombstones).count == 24)
    let torn = "\(rig.tombstones)/torn+eth0.del.json"
    try Files.write(Array(#"{"protocol":2,"comma"#.utf8), to: torn, create: true)
    try Files.write(Array(#"{"protocol":2}"#.utf8), to: "\(rig.tombstones)/left.7-7.new", create: true)
    let server = rig.server()
    try await rig.serving(server) { () async throws in
      let isDone = try await blocking { try eventually { try Files.list(rig.tombstones).count == 2 } }
      #expect(isDone, "\((try? Files.list(rig.tombstones)) ?? [])")
      #expect(rig.addresses.all.isEmpty && rig.records.keys.filter { $0.kind == .workloadEndpoint }.isEmpty)
      let isTold = await blockingTruth { server.status["tombstones"]?["damaged"] == ["torn+eth0.del.json"] }
      #expect(isTold, "\(server.status.text())")
      #expect(server.status["tombstones"]?["waiting"] == 0)
      #expect(Files.exists(torn))
    }
  }

  @Test("A DEL that cannot be finished is tried again, and its age and its problem are told")
  func retriedTombstone() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    let added = try await rig.serving { try await rig.plugin("ADD", "c1", container) }
    #expect(added.code == 0, "\(added.text)")
    #expect(try await rig.plugin("DEL", "c1", container).code == 0)
    // An hour ago, by the file's own word.
    var times = [timeval(tv_sec: time(nil) - 3600, tv_usec: 0), timeval(tv_sec: time(nil) - 3600, tv_usec: 0)]
    #expect(utimes("\(rig.tombstones)/c1+eth0.del.json", &times) == 0)
    rig.faults.set(["delete"])
    let server = rig.server()
    try await rig.serving(server) { () async throws in
      let isTold = await blockingTruth { server.status["tombstones"]?["problem"]?.string?.contains("injected: delete") == true }
      #expect(isTold, "\(server.status.text())")
      let age = server.status["tombstones"]?["oldestSeconds"]?.integer ?? 0
      #expect((3600..<3700).contains(age), "\(age)")
      #expect(rig.addresses.all.count == 1)
      rig.faults.set([])
      // Whatever appears in the directory begins a round; without it the next would come within ten seconds.
      #expect(try await rig.plugin("DEL", "another", nil).code == 0)
      try Files.write([0x7b], to: "\(rig.tombstones)/x", create: true)
      try Files.remove("\(rig.tombstones)/x")
      let isClean = try await blocking { try eventually { try rig.leftovers() == "" } }
      #expect(isClean)
      #expect(server.status["tombstones"]?["problem"]?.isNull == true)
    }
  }

  @Test("A disk that is full makes DEL fail with words, instead of being forgotten")
  func fullDisk() async throws {
    let rig = try Rig()
    try Files.makeDirectories(rig.tombstones)
    #expect(try ChildCommand("/usr/bin/mount", ["-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "tmpfs", rig.tombstones]).runToEnd().code == 0)
    defer { umount2(rig.tombstones, CInt(MNT_DETACH)) }
    #expect(try await rig.plugin("DEL", "c1", nil).code == 0)
    let second = try await rig.plugin("DEL", "c2", nil)
    #expect(second.errorCode == 11 && second.message.contains("No space left on device") && second.message.contains("c2"), "\(second.text)")
    #expect(second.json?["details"]?.string?.contains(rig.tombstones) == true)
    #expect(try Files.list(rig.tombstones) == ["c1+eth0.del.json"], "a torn file stays")
  }

  @Test("An ADD that is not answered is taken back by whoever serves next")
  func unansweredAdd() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    // A node that takes the request and dies.
    let dying = DyingNode(socket: try Socket.listening(atUnix: rig.socket))
    let waiting = Task { () async throws in try await rig.plugin("ADD", "c1", container) }
    let isTaken = await blockingTruth { dying.takesOne() }
    #expect(isTaken)
    let answer = try await waiting.value
    #expect(answer.errorCode == 11 && answer.message.contains("did not answer"), "\(answer.text)")
    #expect(try Files.list(rig.tombstones) == ["c1+eth0.del.json"])
    try Files.remove(rig.socket)
    try await rig.serving { () async throws in
      let isClean = try await blocking { try eventually { try rig.leftovers() == "" } }
      #expect(isClean)
      #expect(try await rig.plugin("ADD", "c1", container).code == 0)
      #expect(try rig.ping(container, "10.0.0.1"))
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
      let script = "import socket as s; c = s.socket(s.AF_UNIX); c.connect('\(rig.socket)'); c.sendall(b'\\0\\0\\0\\2{}'); print(c.recv(9999))"
      let answer = try await blocking {
        try ChildCommand("/usr/bin/setpriv", ["--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", script]).runToEnd()
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

/// Accepts a connection, and closes it.
private final class DyingNode: Sendable {
  let socket: Socket
  init(socket: consuming Socket) { self.socket = socket }
  func takesOne() -> Bool {
    guard let taken = try? socket.accept() else { return false }
    _ = consume taken
    return true
  }
}

/// The edge to the operating system: the loop, sockets, files, children.

import Addresses
import Foundation
import Glibc
import Sockets
import Synchronization
import Testing

@Suite("Event loop", .timeLimit(.minutes(1)))
struct EventLoopTests {
  @Test("Timers fire in the order of their deadlines, equal ones in the order of scheduling, cancelled ones never")
  func timers() throws {
    let loop = try EventLoop()
    var fired: [Int] = []
    let start = MonotonicInstant.now
    loop.schedule(at: start + .milliseconds(20)) {
      fired.append(3)
      loop.stop()
    }
    loop.schedule(at: start + .milliseconds(5)) { fired.append(1) }
    loop.schedule(at: start + .milliseconds(5)) { fired.append(2) }
    let cancelled = loop.schedule(at: start + .milliseconds(6)) { fired.append(9) }
    loop.schedule(after: .zero) {
      fired.append(0)
      cancelled.cancel()
    }
    loop.run()
    #expect(fired == [0, 1, 2, 3])
    #expect(MonotonicInstant.now - start >= .milliseconds(20))
  }

  @Test("A thousand timers in random order come out sorted")
  func heap() throws {
    let loop = try EventLoop()
    var generator = SystemRandomNumberGenerator()
    let start = MonotonicInstant.now
    var fired: [Int] = []
    for delay in (0..<1000).shuffled(using: &generator) {
      let handle = loop.schedule(at: start + .microseconds(delay)) { fired.append(delay) }
      if delay % 3 == 0 { handle.cancel() }
    }
    loop.schedule(at: start + .milliseconds(30)) { loop.stop() }
    loop.run()
    #expect(fired == (0..<1000).filter { $0 % 3 != 0 })
  }

  @Test("Work posted from other threads runs on the loop's thread, all of it, in the order of each poster")
  func posts() throws {
    let loop = try EventLoop()
    let mailbox = loop.mailbox
    let home = pthread_self()
    let seen = Mutex<[[Int]]>([[], [], []])
    for poster in 0..<3 {
      try DedicatedThread.start {
        for number in 0..<2000 {
          mailbox.post {
            precondition(pthread_equal(pthread_self(), home) != 0)
            let total = seen.withLock { lists in
              lists[poster].append(number)
              return lists.reduce(0) { $0 + $1.count }
            }
            if total == 6000 { mailbox.stop() }
          }
        }
      }
    }
    loop.run()
    #expect(seen.withLock { $0 } == Array(repeating: Array(0..<2000), count: 3))
  }

  @Test("A watch that a handler of the same round cancels does not run")
  func cancelled() throws {
    let loop = try EventLoop()
    let one = try Socket.pair()
    let two = try Socket.pair()
    var ran = 0
    var watches: [EventLoop.Watch] = []
    let handler: (Interest) -> Void = { _ in
      ran += 1
      for watch in watches { watch.cancel() }
      loop.stop()
    }
    watches.append(try loop.add(descriptor: one.first.raw, interest: .read, handler: handler))
    watches.append(try loop.add(descriptor: two.first.raw, interest: .read, handler: handler))
    try one.second.sendAll([1])
    try two.second.sendAll([1])
    loop.run()
    loop.turn(wait: false)
    #expect(ran == 1)
  }

  @Test("A signal becomes an input")
  func signals() throws {
    let loop = try EventLoop()
    var got: [CInt] = []
    try loop.onSignal([SIGUSR1]) {
      got.append($0)
      loop.stop()
    }
    pthread_kill(pthread_self(), SIGUSR1)
    loop.run()
    #expect(got == [SIGUSR1])
  }
}

@Suite("Sockets", .timeLimit(.minutes(1)))
struct SocketTests {
  @Test("A non-blocking TCP connection carries octets both ways", arguments: ["127.0.0.1", "::1"])
  func tcp(text: String) throws {
    let address = try #require(IPAddress(text))
    let listener = try Socket.listening(on: SocketAddress(address, port: 0))
    let bound = try #require(try listener.localAddress())
    #expect(bound.address == address)
    let client = try Socket.tcp(address.family)
    let loop = try EventLoop()
    var received: [UInt8] = []
    _ = try client.connect(to: bound)
    try loop.add(descriptor: listener.raw, interest: .read) { _ in
      do {
        guard let accepted = try listener.accept() else { return }
        #expect(accepted.peer?.address == address)
        let socket = accepted.take()
        try socket.setNoDelay()
        try socket.setTimeToLiveMin(1, address.family)
        #expect(try socket.send(Array("hello".utf8)) == 5)
      } catch { Issue.record(error) }
    }
    try loop.add(descriptor: client.raw, interest: .read) { _ in
      do {
        if try client.receive(into: &received) == 0 { loop.stop() }
      } catch { Issue.record(error) }
    }
    loop.run()
    #expect(received == Array("hello".utf8))
    #expect(client.pendingError() == nil)
  }

  @Test("A refused connection is told by the pending error")
  func refused() throws {
    let loopback = SocketAddress(.v4(.loopback), port: 1)
    let client = try Socket.tcp(.v4)
    var code: CInt?
    do throws(SystemError) {
      if try client.connect(to: loopback) { Issue.record("nobody listens on port 1") }
      let loop = try EventLoop()
      try loop.add(descriptor: client.raw, interest: .write) { _ in
        code = client.pendingError()?.code
        loop.stop()
      }
      loop.run()
    } catch { code = error.code }
    #expect(code == ECONNREFUSED)
  }

  @Test("A TCP MD5 key that both sides share lets the connection through; a wrong one lets nothing through", arguments: [true, false])
  func signature(shared: Bool) throws {
    let here = IPAddress.v4(.loopback)
    let listener = try Socket.listening(on: SocketAddress(here, port: 0))
    try listener.setMD5(key: Array("secret".utf8), peer: here)
    let client = try Socket.tcp(.v4)
    try client.setMD5(key: Array((shared ? "secret" : "other").utf8), peer: here)
    try client.setTimeToLive(255, .v4)
    let bound = try #require(try listener.localAddress())
    let loop = try EventLoop()
    var connected = false
    try loop.add(descriptor: client.raw, interest: .write) { _ in
      connected = client.pendingError() == nil
      loop.stop()
    }
    loop.schedule(after: .milliseconds(shared ? 5000 : 100)) { loop.stop() }
    _ = try client.connect(to: bound)
    loop.run()
    #expect(connected == shared)
  }

  @Test("Descriptors and credentials travel over a unix socket")
  func passing() throws {
    let directory = try Files.makeTemporaryDirectory(prefix: "margay-test-")
    defer { try? Files.removeTree(directory) }
    let path = "\(directory)/socket"
    let listener = try Socket.listening(atUnix: path)
    let client = try Socket.connecting(toUnix: path)
    guard let connection = try listener.accept() else {
      Issue.record("the connection waits: connect has returned")
      return
    }
    let accepted = connection.take()
    let credentials = try accepted.peerCredentials()
    #expect(credentials.process == getpid())
    #expect(credentials.user == geteuid())
    let pair = try Socket.pair()
    #expect(try client.send([7], passing: [pair.first.raw, pair.second.raw]) == 1)
    var bytes: [UInt8] = []
    var passed: [CInt] = []
    #expect(try accepted.receive(into: &bytes, descriptor: { passed.append($0.release()) }) == 1)
    #expect(bytes == [7])
    try #require(passed.count == 2)
    let ours = Socket(owning: OwnedDescriptor(owning: passed[0]))
    _ = Socket(owning: OwnedDescriptor(owning: passed[1]))
    try ours.sendAll([42])
    var echoed: [UInt8] = []
    _ = try pair.second.receive(into: &echoed)
    #expect(echoed == [42])
  }

  @Test("A socket file that nobody serves is replaced; a served one is refused")
  func stale() throws {
    let directory = try Files.makeTemporaryDirectory(prefix: "margay-test-")
    defer { try? Files.removeTree(directory) }
    let path = "\(directory)/socket"
    do { _ = try Socket.listening(atUnix: path) }
    let second = try Socket.listening(atUnix: path)
    #expect(throws: SystemError.self) { _ = try Socket.listening(atUnix: path) }
    _ = consume second
  }
}

@Suite("Files", .timeLimit(.minutes(1)))
struct FilesTests {
  @Test("An atomic write is read back, leaves no other file, and tells a watcher")
  func writes() throws {
    let directory = try Files.makeTemporaryDirectory(prefix: "margay-test-")
    defer { try? Files.removeTree(directory) }
    try Files.makeDirectories("\(directory)/a/b")
    let watcher = try FileWatcher()
    try watcher.watch("\(directory)/a/b")
    try Files.writeAtomically(Array("one".utf8), to: "\(directory)/a/b/file", durable: true)
    try Files.writeAtomically(Array("two".utf8), to: "\(directory)/a/b/file", mode: 0o600)
    #expect(try Files.readText("\(directory)/a/b/file") == "two")
    #expect(try Files.list("\(directory)/a/b") == ["file"])
    #expect(watcher.read().filter { $0.name == "file" && $0.mask & UInt32(IN_MOVED_TO) != 0 }.count == 2)
    try Files.removeTree("\(directory)/a")
    #expect(!Files.exists("\(directory)/a"))
    try Files.removeTree("\(directory)/a")
    #expect(throws: SystemError.self) { try Files.read("\(directory)/a") }
  }
}

@Suite("Status sockets", .timeLimit(.minutes(1)))
struct StatusSocketTests {
  /// Connects, reads to the end while the loop turns, and answers what came.
  private func ask(_ path: String, _ loop: EventLoop) throws -> [UInt8] {
    let socket = try Socket.connecting(toUnix: path, nonblocking: true)
    var octets: [UInt8] = []
    let watch = try loop.add(descriptor: socket.raw, interest: .read) { _ in
      while let count = try? socket.receive(into: &octets) { if count == 0 { return loop.stop() } }
    }
    loop.run()
    watch.cancel()
    return octets
  }

  @Test("Readers who do not read are dropped from the oldest on, and others are served meanwhile")
  func crowd() throws {
    let directory = try Files.makeTemporaryDirectory(prefix: "status")
    defer { try? Files.removeTree(directory) }
    let loop = try EventLoop()
    // More than a socket's buffer takes.
    let status = try StatusSocket(path: "\(directory)/s", loop: loop) { [UInt8](repeating: 7, count: 1 << 20) }
    let before = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
    let idle = try (0..<100).map { _ in Idle(try Socket.connecting(toUnix: "\(directory)/s")) }
    #expect(try ask("\(directory)/s", loop).count == 1 << 20)
    let open = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count - before - idle.count
    #expect(open <= StatusSocket.readersMax, "\(open) descriptors for readers who do not read")
    status.close()
  }

  private final class Idle {
    let socket: Socket
    init(_ socket: consuming Socket) { self.socket = socket }
  }
}

@Suite("Child processes", .timeLimit(.minutes(1)))
struct ChildProcessTests {
  @Test("Output and exit code come back; the environment is what was given")
  func runs() throws {
    let result = try ChildCommand("sh", ["-c", "echo $WORD; exit 3"], environment: ["WORD=margay", "PATH=/usr/bin:/bin"]).runToEnd()
    #expect(result.code == 3)
    #expect(result.output == "margay\n")
  }
  @Test("A program that does not exist is refused at the start")
  func missing() {
    #expect(throws: SystemError.self) { _ = try ChildCommand("/no/such/program").start() }
  }
  @Test("The loop hears of a child's end through its pidfd")
  func ends() throws {
    let loop = try EventLoop()
    let child = try ChildCommand("sleep", ["60"], newProcessGroup: true).start()
    var code: CInt?
    try loop.add(descriptor: child.pidDescriptor.borrowed, interest: .read) { _ in
      code = try? child.reap()
      loop.stop()
    }
    try child.signal(SIGTERM)
    loop.run()
    #expect(code == 128 + SIGTERM)
  }
}

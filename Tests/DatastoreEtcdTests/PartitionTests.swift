/// A network that swallows what is sent: a daemon and its store in two network namespaces, and the cable between them.
import CLinux
import Datastore
import DatastoreEtcd
import EtcdServer
import Glibc
import KernelSandbox
import NetlinkEdge
import Sockets
import Synchronization
import Testing

@Suite(
  "etcd: partitions", .enabled(if: EtcdServer.isInstalled && KernelSandbox.isAvailable, "needs etcd, and root for namespaces"),
  .timeLimit(.minutes(2)))
struct PartitionTests {
  private static let prefix = "/calico/ipam/v2/host/h/"

  @Test("Cut off without a word: noticed within the keepalive's time, back within seconds, nothing deleted, nothing read anew")
  func partitions() async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for how in ["packets dropped", "link down"] { group.addTask { try await Self.partition(how) } }
      try await group.waitForAll()
    }
  }
  private static func partition(_ how: String) async throws {
    let sandbox = KernelSandbox()
    let (store, daemon) = (try sandbox.namespace("store"), try sandbox.namespace("daemon"))
    try sandbox.connect(store, "s0", ["10.99.0.1/24"], daemon, "d0", ["10.99.0.2/24"])
    var options = EtcdServer.Options()
    options.namespace = store.descriptor.borrowed
    options.address = "10.99.0.1"
    try await withServer(options) { server in
      try server.control(["put", prefix + "a", "1"])
      try server.control(["put", prefix + "b", "1"])
      let probe = try ProbeProcess(["etcd://\(server.endpoints[0])", prefix], in: daemon)
      defer { probe.kill() }
      try await probe.wait("the first list", within: .seconds(20)) { $0.contains("in-sync") }
      if how == "packets dropped" {
        try sandbox.run(daemon, "nft", ["add table inet cut; add chain inet cut in { type filter hook input priority 0; policy drop; }"])
      } else {
        // On the store's side: the daemon's link loses its carrier and keeps its address and route.
        try sandbox.ip(store, "link", "set", "s0", "down")
      }
      let cut = ContinuousClock.now
      let lines = try await probe.wait("word of the cut", within: .seconds(40)) { $0.contains { $0.hasPrefix("problem") } }
      let noticed = ContinuousClock.now - cut
      // 6 s of silence and 4 s for the PING's answer, looked at once a second; the rest is for a loaded machine.
      #expect(noticed < .seconds(20), "\(how): noticed after \(noticed): \(lines)")
      if how == "packets dropped" {
        try sandbox.run(daemon, "nft", ["delete table inet cut"])
      } else {
        try sandbox.ip(store, "link", "set", "s0", "up")
      }
      let mended = ContinuousClock.now
      try server.control(["put", prefix + "b", "2"])
      let all = try await probe.wait("the change after the cut", within: .seconds(40)) { $0.contains("put \(prefix)b 2") }
      let back = ContinuousClock.now - mended
      #expect(back < .seconds(15), "\(how): back after \(back): \(all)")
      #expect(!all.contains { $0.hasPrefix("delete") }, "\(how): \(all)")
      #expect(all.count { $0 == "put \(prefix)a 1" } == 1, "\(how): \(all)")
      #expect(all.last { $0.hasPrefix("counts") } == "counts 1 1", "\(how): \(all)")
    }
  }
}

/// `feed-probe` in a namespace, line by line.
private final class ProbeProcess: Sendable {
  private let pid: Int32
  private let lines = Mutex<[String]>([])
  private let changes: AsyncStream<Void>

  init(_ arguments: [String], in namespace: borrowing NetworkNamespace) throws {
    var buffer = [CChar](repeating: 0, count: 4096)
    let count = readlink("/proc/self/exe", &buffer, 4095)
    let own = String(decoding: buffer[..<max(count, 0)].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    var ends: [CInt] = [-1, -1]
    guard cl_pipe(&ends) == 0 else { throw TooLate(description: "no pipe") }
    let child = try ChildCommand(
      Files.parent(of: own) + "/feed-probe", arguments, output: ends[1], networkNamespace: namespace.descriptor.borrowed
    ).start()
    close(ends[1])
    pid = child.pid
    let (changes, continuation) = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))
    self.changes = changes
    let input = ends[0]
    try DedicatedThread.start { [self] in
      guard let file = fdopen(input, "r") else { return }
      defer { fclose(file) }
      var line: UnsafeMutablePointer<CChar>?
      var size = 0
      while getline(&line, &size, file) > 0, let line {
        let text = String(cString: line)
        lines.withLock { $0.append(String(text.dropLast())) }
        continuation.yield()
      }
      free(line)
      continuation.finish()
    }
  }
  /// The kernel reaps it with us.
  func kill() { _ = Glibc.kill(pid, SIGKILL) }

  @discardableResult
  func wait(_ what: String, within limit: Duration, _ isSo: @escaping @Sendable ([String]) -> Bool) async throws -> [String] {
    try await DatastoreEtcdTests.within(limit, what) { [self] in
      while true {
        let now = lines.withLock { $0 }
        if isSo(now) { return now }
        for await _ in changes { break }
        try Task.checkCancellation()
      }
    }
  }
}

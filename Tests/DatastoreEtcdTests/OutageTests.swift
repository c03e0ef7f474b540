/// What a daemon that reads a cluster goes through: each way in which the store can be away, moved, emptied of its past or replaced. After
/// each of them the daemon has what the store has, heard of nothing that did not happen, and read everything anew only where it had to.
import Datastore
import DatastoreEtcd
import EtcdServer
import Glibc
import Sockets
import Testing

@Suite("etcd: outages under a feed", .serialized, .enabled(if: EtcdServer.isInstalled, "etcd is not installed"), .timeLimit(.minutes(2)))
struct OutageTests {
  static let prefix = "/calico/ipam/v2/host/h/"

  /// A feed on the server, past its first list.
  private struct Reading {
    let datastore: EtcdDatastore
    let feed: ResourceFeed
    let seen = Seen()
    let task: Task<Void, Never>
    init(_ configuration: EtcdConfiguration, _ prefixes: [String] = [prefix]) async throws {
      let datastore = try EtcdDatastore(configuration)
      let feed = ResourceFeed(datastore, kinds: [], rawPrefixes: prefixes)
      (self.datastore, self.feed) = (datastore, feed)
      task = Task { [seen] in await feed.run(seen.take) }
      try await seen.wait("the first list") { $0.inSyncs == 1 }
    }
    func end() async throws {
      task.cancel()
      await datastore.close()
      try await within(.seconds(10), "the end of the feed") { [task] in await task.value }
    }
    var counts: FeedMeter.Counts { feed.meter.counts }
  }

  @Test("Killed and back: the watch goes on behind what was seen; nothing is read anew, nothing comes twice, nothing is deleted")
  func killed() async throws {
    try await withServer { server in
      let reading = try await Reading(server.configuration)
      for name in ["a", "b"] { try await reading.datastore.put(Self.prefix + name, "1") }
      try await reading.seen.wait("both") { $0.raw.count == 2 }
      for round in 1...2 {
        await server.stop(signal: SIGKILL)
        try await reading.seen.wait("word of the outage") { $0.problem?.contains("refused") == true }
        try await server.start()
        try await reading.seen.wait("its end") { $0.problem == nil }
        try await reading.datastore.put(Self.prefix + "a", "after \(round)")
        try await reading.seen.wait("a change") { $0.rawDeliveries.last == "\(Self.prefix)a=after \(round)" }
      }
      #expect(reading.seen.now.rawDeliveries == ["a=1", "b=1", "a=after 1", "a=after 2"].map { Self.prefix + $0 })
      #expect(reading.counts.lists == 1 && reading.counts.resumes >= 2 && reading.counts.compactions == 0)
      let report = try #require(reading.datastore.connection)
      #expect(report.made == 3 && report.failed >= 1 && report.problem == nil && report.endpoint == "\(server.endpoints[0])")
      try await reading.end()
    }
  }

  @Test("Compacted under the watch: it goes on. Compacted while away: everything is read anew, and only what differs is told")
  func compacted() async throws {
    try await withServer { server in
      let reading = try await Reading(server.configuration)
      for name in ["a", "b", "c"] { try await reading.datastore.put(Self.prefix + name, "1") }
      try await reading.seen.wait("three") { $0.raw.count == 3 }
      let elsewhere = try await reading.datastore.put("/elsewhere", "1")
      try await reading.datastore.compact(upTo: elsewhere)
      try await reading.datastore.put(Self.prefix + "a", "2")
      try await reading.seen.wait("the change") { $0.rawDeliveries.last == "\(Self.prefix)a=2" }
      #expect(reading.counts.lists == 1)

      await server.stop()
      try await reading.seen.wait("word of the outage") { $0.problem != nil }
      let hidden = try await Hidden(server)
      try await hidden.store.put(Self.prefix + "b", "2")
      _ = try await hidden.store.transact(if: [], then: [.delete(Self.prefix + "c")])
      let last = try await hidden.store.put(Self.prefix + "d", "1")
      try await hidden.store.compact(upTo: last)
      try await hidden.show()
      try await reading.seen.wait("everything") { $0.revision >= last }
      #expect(Array(reading.seen.now.rawDeliveries.dropFirst(4)) == ["b=2", "d=1", "c gone"].map { Self.prefix + $0 })
      #expect(reading.counts.lists == 2 && reading.counts.compactions == 1)
      try await reading.end()
    }
  }

  @Test("An idle watch moves on with what it passes over, so that its place does not fall behind compaction")
  func idle() async throws {
    try await withServer { server in
      // The range from the first prefix to the last holds keys that nobody wants.
      let reading = try await Reading(server.configuration, ["/a/", "/z/"])
      let last = try await reading.datastore.put("/m", "1")
      try await eventually("the feed's place follows") { reading.counts.position >= last }
      #expect(reading.seen.now.rawDeliveries.isEmpty)
      try await reading.datastore.compact(upTo: last)
      await server.stop()
      try await reading.seen.wait("word of the outage") { $0.problem != nil }
      try await server.start()
      try await reading.seen.wait("its end") { $0.problem == nil }
      #expect(reading.counts.lists == 1 && reading.counts.compactions == 0)
      try await reading.end()
    }
  }

  @Test("Of three members the leader is moved, then each is killed in turn: every change comes, in order, and nothing is read anew")
  func members() async throws {
    var options = EtcdServer.Options()
    options.members = 3
    try await withServer(options) { server in
      let reading = try await Reading(server.configuration)
      var count = 0
      func write(_ what: String) async throws {
        count += 1
        let value = "\(count)"
        try await eventually("a write \(what)") {
          do {
            try await reading.datastore.put(Self.prefix + "k", value)
            return true
          } catch DatastoreError.unavailable {
            // It may have been carried out.
            return (try? await reading.datastore.text(Self.prefix + "k")) == value
          }
        }
      }
      for _ in 0..<5 { try await write("at the start") }
      try server.moveLeader()
      for _ in 0..<5 { try await write("with another leader") }
      for index in 0..<3 {
        await server.stop([index], signal: SIGKILL)
        for _ in 0..<3 { try await write("without member \(index)") }
        try await server.start([index])
        try await server.waitUntilReady(at: [server.endpoints[index]])
      }
      let last = "\(Self.prefix)k=\(count)"
      try await reading.seen.wait("the last change") { $0.rawDeliveries.last == last }
      let told = reading.seen.now.rawDeliveries.map { String($0.dropFirst(Self.prefix.count + 2)) }
      // A write whose answer was lost may have been carried out twice: its value comes twice then, and never out of order.
      #expect(told.reduce(into: [String]()) { if $0.last != $1 { $0.append($1) } } == (1...count).map { "\($0)" })
      #expect(reading.counts.lists == 1)
      try await reading.end()
    }
  }

  @Test("Put back to an old snapshot, whether its revisions have caught up or not, as the same cluster or as a new one: what differs is told")
  func restored() async throws {
    // Side by side: what is waited for is other processes.
    try await withThrowingTaskGroup(of: Void.self) { group in
      for catchesUp in [false, true] {
        for isNewCluster in [false, true] { group.addTask { try await Self.restored(catchesUp: catchesUp, isNewCluster: isNewCluster) } }
      }
      try await group.waitForAll()
    }
  }
  private static func restored(catchesUp: Bool, isNewCluster: Bool) async throws {
    try await withServer { server in
      let reading = try await Reading(server.configuration)
      for name in ["same", "changed", "gone later"] { try await reading.datastore.put(prefix + name, "1") }
      let snapshot = try server.snapshot()
      try await reading.datastore.put(prefix + "changed", "2")
      try await reading.datastore.put(prefix + "new", "1")
      _ = try await reading.datastore.transact(if: [], then: [.delete(prefix + "gone later")])
      let position = try await reading.datastore.put(prefix + "last", "1")
      try await reading.seen.wait("everything") { $0.revision >= position }
      let before = reading.seen.now.rawDeliveries.count

      await server.stop()
      try await reading.seen.wait("word of the outage") { $0.problem != nil }
      try server.restore(snapshot, token: isNewCluster ? "another" : nil)
      let hidden = try await Hidden(server)
      // The very key that was written last before.
      if catchesUp { for index in 0..<20 { try await hidden.store.put(prefix + "last", "\(index)") } }
      try await hidden.show()
      try await reading.seen.wait("its end") { $0.problem == nil && $0.rawDeliveries.contains("\(prefix)new gone") }
      let expected = ["changed=1", "gone later=1", catchesUp ? "last=19" : "last gone", "new gone"]
      let what = "caught up: \(catchesUp), new cluster: \(isNewCluster)"
      #expect(Set(reading.seen.now.rawDeliveries.dropFirst(before)) == Set(expected.map { prefix + $0 }), "\(what)")
      #expect(reading.seen.now.rawDeliveries.count == before + expected.count, "\(what)")
      #expect(reading.datastore.connection?.replaced ?? 0 >= 1, "\(what)")
      // And the watch goes on.
      try await reading.datastore.put(prefix + "same", "2")
      try await reading.seen.wait("a change afterwards") { $0.rawDeliveries.last == "\(prefix)same=2" }
      try await reading.end()
    }
  }

  @Test(
    "Certificates end: the words say whose and when; replaced in place, they are taken up without a restart of ours",
    .enabled(if: TestCertificates.isPossible, "openssl is not installed"))
  func certificates() async throws {
    let certificates = try TestCertificates(in: try EtcdServer().folder + "-expiry")
    defer { certificates.remove() }
    var options = EtcdServer.Options()
    options.tls = certificates
    options.isClientCertificateWanted = true
    try await withServer(options) { server in
      let reading = try await Reading(server.configuration)
      for (name, words) in [("server", "its certificate expired on 20"), ("client", "our certificate \(certificates.clientCertificate) expired on 20")] {
        try certificates.issue(name, days: -1)
        await server.stop()
        try await server.start()
        try await reading.seen.wait("word of the end of the \(name)'s certificate") { $0.problem?.contains(words) == true }
        try certificates.issue(name, days: 2)
        try await reading.seen.wait("its renewal") { $0.problem == nil }
      }
      try await reading.datastore.put(Self.prefix + "a", "1")
      try await reading.seen.wait("a change") { $0.raw.count == 1 }
      #expect(reading.counts.lists == 1)
      try await reading.end()
    }
  }

  @Test("The password is changed: the words say what to set; changed back, the feed goes on")
  func password() async throws {
    try await withServer { server in
      try server.control(["user", "add", "root:secret"])
      try server.control(["user", "grant-role", "root", "root"])
      try server.control(["auth", "enable"])
      var configuration = server.configuration
      configuration.credentials = .init(user: "root", password: "secret")
      let reading = try await Reading(configuration)
      try server.control(["user", "passwd", "root", "--interactive=false"], user: "root:secret", input: "other\n")
      // The token is void at once; a watch that stands is not ended by etcd.
      let refused = await reading.datastore.failure { try await $0.put(Self.prefix + "a", "1") }
      #expect(refused.contains("ETCD_PASSWORD") && !refused.contains("secret"), "\(refused)")
      await server.stop()
      try await server.start()
      try await reading.seen.wait("word of the password") { $0.problem?.contains("check ETCD_USERNAME and ETCD_PASSWORD") == true }
      try server.control(["user", "passwd", "root", "--interactive=false"], user: "root:other", input: "secret\n")
      try await reading.seen.wait("its end") { $0.problem == nil }
      try await reading.datastore.put(Self.prefix + "a", "1")
      try await reading.seen.wait("a change") { $0.raw.count == 1 }
      #expect(reading.counts.lists == 1)
      try await reading.end()
    }
  }

  @Test("A full store (NOSPACE) is read on; status waits, says why, and is written when there is room again")
  func full() async throws {
    var options = EtcdServer.Options()
    options.arguments = ["--quota-backend-bytes", "4000000"]
    try await withServer(options) { server in
      let reading = try await Reading(server.configuration)
      let status = LeasedKeys(reading.datastore, prefixes: [])
      let telling = Task { await status.run() }
      status.begin(.init(delay: .zero), prefixes: [])
      status.want(octets("1"), for: "/status")
      try await eventually("the first status") { try await reading.datastore.text("/status") == "1" }
      var (last, isFull) = (Revision.zero, false)
      while !isFull {
        do throws(DatastoreError) {
          let result = try await reading.datastore.transact(if: [], then: [.put("/fill", [UInt8](repeating: 1, count: 1_000_000))])
          if case .committed(let revision) = result { last = revision }
        } catch {
          isFull = error.description.contains("NOSPACE")
        }
      }
      status.want(octets("2"), for: "/status")
      try await eventually("word of the full store") { status.problem?.contains("NOSPACE") == true }
      #expect(try await reading.datastore.text("/status") == "1")
      try await reading.datastore.compact(upTo: last)
      try server.control(["defrag"])
      try server.control(["alarm", "disarm"])
      try await eventually("the status") { try await reading.datastore.text("/status") == "2" }
      try await eventually("no problem") { status.problem == nil }
      try await reading.datastore.put(Self.prefix + "a", "1")
      try await reading.seen.wait("a change") { $0.raw.count == 1 }
      telling.cancel()
      try await reading.end()
    }
  }
}

/// The server on a port that the feed does not know, until it is shown.
private struct Hidden {
  let server: EtcdServer
  let store: EtcdDatastore
  private let urls: (hidden: String, shown: String)
  init(_ server: EtcdServer) async throws {
    self.server = server
    let port = try EtcdServer.freePorts(1)[0]
    urls = ("http://127.0.0.1:\(port)", "http://\(server.endpoints[0])")
    let endpoints = [EtcdEndpoint(host: "127.0.0.1", port: port)]
    server.setArguments(["--listen-client-urls", urls.hidden])
    try await server.start()
    try await server.waitUntilReady(at: endpoints)
    store = try EtcdDatastore(EtcdConfiguration(endpoints: endpoints))
  }
  func show() async throws {
    await store.close()
    await server.stop()
    server.setArguments(["--listen-client-urls", "\(urls.hidden),\(urls.shown)"])
    try await server.start()
  }
}

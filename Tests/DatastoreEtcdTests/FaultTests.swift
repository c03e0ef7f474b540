/// Members that die, hang or are cut off, and what a client notices of it.
import Addresses
import Datastore
import DatastoreEtcd
import Documents
import EtcdServer
import Resources
import Synchronization
import Testing

@Suite("etcd: faults", .serialized, .enabled(if: EtcdServer.isInstalled, "etcd is not installed"), .timeLimit(.minutes(2)))
struct FaultTests {
  @Test("Any one of three members may die: calls go on, a cut-off one refuses, and nothing wrong is read")
  func failover() async throws {
    var options = EtcdServer.Options()
    options.members = 3
    try await withServer(options) { server in
      let store = try EtcdDatastore(server.configuration)
      var last = Revision.zero
      for index in 0..<3 {
        try await store.put("/f", "before \(index)")
        await server.stop([index])
        // If it was the leader, the others need a second to elect one; a write in that time may be refused, a read is asked again.
        try await eventually("a write without member \(index)") {
          do { last = try await store.put("/f", "without \(index)") } catch DatastoreError.unavailable { return false }
          return true
        }
        #expect(try await store.text("/f") == "without \(index)")
        #expect(try await store.list(prefix: "/f").revision >= last)
        try await server.start([index])
        try await server.waitUntilReady(at: [server.endpoints[index]])
      }

      // Two of three gone: the third must neither answer with the past nor keep a watch that will hear nothing.
      var alone = server.configuration
      alone.endpoints = [server.endpoints[2]]
      let cutOff = try EtcdDatastore(alone)
      _ = try await cutOff.get("/f")
      let watching = Task {
        for try await _ in cutOff.watch(prefixes: ["/f"], after: last) {}
      }
      await server.stop([0, 1])
      let end = try await within(.seconds(20), "the end of the watch on a member without leader") { await watching.result }
      guard case .failure(let error) = end, case DatastoreError.unavailable(let why) = error else {
        Issue.record("the watch ended with \(end)")
        return
      }
      #expect(why.contains("leader"))
      let refusal = await cutOff.failure { _ = try await $0.get("/f") }
      #expect(refusal.contains("leader") && refusal.contains("not available"))
      #expect(await cutOff.failure { try await $0.put("/f", "x") }.contains("leader"))

      try await server.start([0, 1])
      try await eventually("the cluster back") {
        do { return try await cutOff.text("/f") == "without 2" } catch DatastoreError.unavailable { return false }
      }
      await store.close()
      await cutOff.close()
    }
  }

  @Test("A host that vanishes without a word is noticed: the watch ends, calls go to another member")
  func halfOpen() async throws {
    var options = EtcdServer.Options()
    options.members = 3
    try await withServer(options) { server in
      var configuration = server.configuration
      configuration.endpoints = [server.endpoints[1]]
      configuration.times.keepaliveAfter = .seconds(1)
      configuration.times.keepaliveTimeout = .seconds(1)
      configuration.times.call = .seconds(4)
      configuration.times.dial = .seconds(2)
      let one = try EtcdDatastore(configuration)
      configuration.endpoints = [server.endpoints[1], server.endpoints[2], server.endpoints[0]]
      configuration.times.dialOfMany = .seconds(1)
      let many = try EtcdDatastore(configuration)
      let start = try await one.put("/h", "1")
      #expect(try await many.text("/h") == "1")
      let watching = Task {
        for try await _ in one.watch(prefixes: ["/h"], after: start) {}
      }
      // The watch is under way when it has heard something.
      server.freeze(1)
      let end = try await within(.seconds(15), "the end of a watch on a silent member") { await watching.result }
      if case .success = end { Issue.record("the watch on a silent member ended in peace") }
      #expect(await one.failure { _ = try await $0.get("/h") }.contains("not available"))
      // The leader may be the frozen one: then the others elect first.
      try await eventually("a read by way of another member") {
        do { return try await many.text("/h") == "1" } catch DatastoreError.unavailable { return false }
      }
      server.thaw(1)
      await one.close()
      await many.close()
    }
  }

  @Test("etcd restarts under a feed: what changed and what was deleted meanwhile arrives, also if history was compacted; nothing comes twice")
  func restartUnderFeed() async throws {
    try await withServer { server in
      let datastore = try EtcdDatastore(server.configuration)
      let store = ResourceStore(datastore)
      func set(_ name: String, _ net: String) -> Resource {
        Resource(Metadata(name: name), .globalNetworkSet(NetworkSetSpec(nets: [IPPrefix(net)!])))
      }
      for name in ["same", "changed", "deleted"] { try await store.create(set(name, "10.0.0.0/8")) }
      let seen = Seen()
      let feed = Task { await ResourceFeed(datastore, kinds: [.globalNetworkSet], rawPrefixes: ["/calico/ipam/v2/host/h/"]).run(seen.take) }
      try await seen.wait("the first list") { $0.inSyncs == 1 }

      // The feed cannot see the server that comes back first: it listens on another port.
      let (seenURL, hidden) = ("http://\(server.endpoints[0])", try EtcdServer.freePorts(1)[0])
      let hiddenURL = "http://127.0.0.1:\(hidden)"
      let aside = [EtcdEndpoint(host: "127.0.0.1", port: hidden)]
      await server.stop()
      try await seen.wait("word of the outage") { $0.problem != nil }
      server.setArguments(["--listen-client-urls", hiddenURL])
      try await server.start()
      try await server.waitUntilReady(at: aside)
      let away = try EtcdDatastore(EtcdConfiguration(endpoints: aside))
      let others = ResourceStore(away)
      try await others.apply(set("changed", "11.0.0.0/8"))
      try await others.delete(ResourceKey(.globalNetworkSet, name: "deleted"))
      try await others.create(set("new", "10.0.0.0/8"))
      let last = try await away.put("/calico/ipam/v2/host/h/x", "{}")
      try await away.compact(upTo: last)
      await away.close()
      await server.stop()
      server.setArguments(["--listen-client-urls", "\(hiddenURL),\(seenURL)"])
      try await server.start()
      let state = try await seen.wait("everything") { $0.revision >= last }
      #expect(Set(state.names) == ["same", "changed", "new"] && state.raw == ["/calico/ipam/v2/host/h/x"])
      #expect(state.deliveries.filter { $0 == "same" }.count == 1 && state.inSyncs == 1 && state.problem == nil)

      // And the watch goes on.
      try await store.apply(set("same", "12.0.0.0/8"))
      try await seen.wait("a change afterwards") { $0.deliveries.filter { $0 == "same" }.count == 2 }
      feed.cancel()
      try await within(.seconds(10), "the end of the feed") { await feed.value }
      await datastore.close()
    }
  }

  @Test("A cancelled task still has its last word, cancelled and dropped watches leave nothing on the server, and closing ends the rest")
  func cancellation() async throws {
    try await withServer { server in
      let store = try EtcdDatastore(server.configuration)
      let start = try await store.put("/c", "1")
      let word = Task {
        withUnsafeCurrentTask { $0?.cancel() }
        return try await store.put("/last", "word")
      }
      _ = try await word.value
      #expect(try await store.text("/last") == "word")

      let watches = (0..<40).map { index in
        Task {
          for try await _ in store.watch(prefixes: ["/c"], after: start) where index % 2 == 0 { break }
        }
      }
      try await eventually("40 watches on the server") { try server.metric("etcd_debugging_mvcc_watcher_total") == 40 }
      // Half of them leave their loop at the first event, the others are cancelled.
      try await store.put("/c", "2")
      for (index, watch) in watches.enumerated() where index % 2 == 1 { watch.cancel() }
      for watch in watches { _ = try await within(.seconds(10), "the end of a watch") { await watch.result } }
      try await eventually("no watch on the server") { try server.metric("etcd_debugging_mvcc_watcher_total") == 0 }

      let kept = Task {
        for try await _ in store.watch(prefixes: ["/c"], after: start) {}
      }
      try await eventually("a watch on the server") { try server.metric("etcd_debugging_mvcc_watcher_total") == 1 }
      await store.close()
      let end = try await within(.seconds(5), "the end of a watch on a closed store") { await kept.result }
      if case .success = end { Issue.record("the watch on a closed store ended in peace") }
      #expect(await store.failure { _ = try await $0.get("/c") }.contains("closed"))
    }
  }
}

/// Many calls, many keys, large values, slow readers.
import Datastore
import DatastoreEtcd
import EtcdServer
import Sockets
import Synchronization
import Testing

@Suite("etcd: scale", .serialized, .enabled(if: EtcdServer.isInstalled, "etcd is not installed"), .timeLimit(.minutes(2)))
struct ScaleTests {
  @Test("A thousand calls within seconds stay on one connection: the server's PINGs are no attack")
  func manyCalls() async throws {
    try await withServer { server in
      let store = try EtcdDatastore(server.configuration)
      // A watch would end with its connection.
      let watching = Task {
        var events = 0
        for try await batch in store.watch(prefixes: ["/n"], after: .zero) {
          events += batch.events.count
          if events >= 500 { return true }
        }
        return false
      }
      for index in 0..<1000 {
        // Reads as well as writes: it is the answers' data that the server measures with.
        _ = index % 2 == 0 ? try await store.put("/n", "\(index)") : Revision(rawValue: Int64(try await store.get("/n")?.value.count ?? 0))
      }
      #expect(try await store.text("/n") == "998")
      #expect(try await within(.seconds(20), "the last event") { try await watching.value })
      await store.close()
    }
  }

  @Test("A list in many pages is one truth while keys change in pairs and history is compacted")
  func listIsOneTruth() async throws {
    try await withServer { server in
      let store = try EtcdDatastore(server.configuration)
      let count = 12_000
      for start in stride(from: 0, to: count, by: 4000) {
        _ = try await store.transact(if: [], then: (start..<start + 4000).map { .put("/big/\($0 + 100_000)", octets("0")) })
      }
      #expect(try await store.list(prefix: "/big/").items.count == count)
      let isDone = Mutex(false)
      // The first and the last key always change together; a list put together of two truths would show two values.
      let writer = Task {
        var revision = Revision.zero
        for round in 1... {
          if isDone.withLock({ $0 }) { return round }
          let value = octets("\(round)")
          guard case .committed(let now) = try await store.transact(if: [], then: [.put("/big/100000", value), .put("/big/111999", value)])
          else { continue }
          if round % 40 == 0 { try await store.compact(upTo: revision) }
          revision = now
        }
        return 0
      }
      for _ in 0..<10 {
        let (items, revision) = try await store.list(prefix: "/big/")
        #expect(items.count == count && items.first?.value == items.last?.value)
        #expect(items.map(\.key) == (0..<count).map { "/big/\($0 + 100_000)" })
        #expect(items.allSatisfy { $0.modRevision <= revision })
      }
      isDone.withLock { $0 = true }
      #expect(try await writer.value > 10)
      await store.close()
    }
  }

  @Test("A watch replays twenty thousand changes, none lost, doubled or out of order")
  func replay() async throws {
    try await withServer { server in
      let store = try EtcdDatastore(server.configuration)
      let start = try await store.put("/r", "start")
      for round in 0..<200 {
        _ = try await store.transact(if: [], then: (0..<100).map { .put("/r/\($0)", octets("\(round)")) })
      }
      var (count, last) = (0, start)
      for try await batch in store.watch(prefixes: ["/r/"], after: start) {
        for event in batch.events {
          guard case .put(let item) = event else { continue }
          #expect(item.modRevision >= last)
          last = item.modRevision
        }
        count += batch.events.count
        if count >= 20_000 { break }
      }
      #expect(count == 20_000 && last.rawValue == start.rawValue + 200)
      await store.close()
    }
  }

  @Test("Values of a megabyte are listed and watched, in pieces where an answer would be too large, with no revision split")
  func largeValues() async throws {
    try await withServer { server in
      let store = try EtcdDatastore(server.configuration)
      let value = [UInt8](repeating: 7, count: 1 << 20)
      let start = try await store.put("/v", "start")
      for index in 0..<48 { try await store.put("/v/\(index + 100)", value) }
      let listed = try await store.list(prefix: "/v/")
      #expect(listed.items.count == 48 && listed.items.allSatisfy { $0.value.count == 1 << 20 })
      var revisions: [Revision] = []
      for try await batch in store.watch(prefixes: ["/v/"], after: start) {
        for case .put(let item) in batch.events {
          #expect(item.value.count == 1 << 20)
          revisions.append(item.modRevision)
        }
        if revisions.count >= 48 { break }
      }
      #expect(revisions == (1...48).map { Revision(rawValue: start.rawValue + $0) })
      await store.close()
    }
  }

  @Test("A reader that does not read holds up the server, not our memory, and misses nothing")
  func slowReader() async throws {
    try await withServer { server in
      let (writer, reader) = (try EtcdDatastore(server.configuration), try EtcdDatastore(server.configuration))
      let start = try await writer.put("/s", "start")
      var iterator = reader.watch(prefixes: ["/s/"], after: start).makeAsyncIterator()
      let value = [UInt8](repeating: 7, count: 256 << 10)
      try await writer.put("/s/0", value)
      #expect(try await iterator.next()?.events.count == 1)
      let before = try residentOctets()
      for index in 1...300 { try await writer.put("/s/\(index)", value) }
      // 75 MiB were written; the stream's window is 8, the inbox takes 4.
      #expect(try residentOctets() - before < 45 << 20)
      #expect(try await reader.text("/s") == "start")
      var keys: [String] = []
      while keys.count < 300, let batch = try await iterator.next() { keys += batch.events.map(\.key) }
      #expect(keys == (1...300).map { "/s/\($0)" })
      await writer.close()
      await reader.close()
    }
  }

  private func residentOctets() throws -> Int {
    let pages = try Files.readText("/proc/self/statm").split(separator: " ")[1]
    return Int(pages)! * 4096
  }
}

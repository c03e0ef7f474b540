/// The same counting as on SQLite, by processes on the distribution's etcd.
import Datastore
import DatastoreEtcd
import EtcdServer
import Testing

@Suite("etcd: many processes", .serialized, .enabled(if: EtcdServer.isInstalled, "etcd is not installed"))
struct EtcdCountingTests {
  @Test("20 processes count by compare-and-swap, each killed on the way, and lose no step")
  func twentyCounters() async throws {
    let server = try EtcdServer()
    try await server.start()
    try await server.waitUntilReady()
    let store = try EtcdDatastore(server.configuration)
    let before = try await store.list(prefix: "").revision
    try await Counters.run(store.name, processes: 20, steps: 20)
    #expect(try await store.get("/count")?.value == Array("400".utf8))
    let logs = try await store.list(prefix: "/log/")
    #expect(logs.items.count == 400)
    #expect(logs.items.allSatisfy { $0.createRevision == $0.modRevision }, "a step was counted twice")
    #expect(logs.revision.rawValue - before.rawValue == 400)
    await store.close()
    await server.stop()
  }
}

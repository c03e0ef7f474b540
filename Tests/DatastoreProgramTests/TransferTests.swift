/// Backup, restore, migration: the same content arrives, whatever happens on the way.
import Datastore
import DatastoreEtcd
import DatastoreMemory
import DatastoreSQLite
import EtcdServer
import Foundation
import JSON
import NodeProgram
import Resources
import Sockets
import Synchronization
import Testing

@testable import DatastoreProgram

/// The words of what `body` throws.
private func words(_ body: () async throws -> Void) async -> String {
  do {
    try await body()
    return "no error"
  } catch {
    return "\(error)"
  }
}

@Suite("Backup and restore")
struct BackupTests {
  private func backup(_ store: any Datastore) async throws -> BackupFile {
    BackupFile(try await StoreContent.read(store), of: store.name, program: "test", time: "2026-01-01T00:00:00Z")
  }

  @Test("A backup restored is the same content, without leased keys, and comes into force at the end")
  func roundTrip() async throws {
    let store = MemoryDatastore()
    try await fill(store, endpoints: 250)
    let file = try await backup(store)
    #expect(file.leasedCount == 1)
    let target = MemoryDatastore(name: "target")
    let digest = try await BackupFile(decoding: file.encoded, file: "f").restore(to: target)
    var wanted = try await store.contents()
    wanted["/calico/felix/v2/no-region/host/host1/status"] = nil
    #expect(try await target.contents() == wanted)
    #expect(digest == file.digest && digest.count == wanted.count)
    #expect(try await target.get(TransferMarker.path) == nil)
  }

  @Test("Any changed, lost or doubled line of a backup is found")
  func damage() async throws {
    let store = MemoryDatastore()
    try await fill(store, endpoints: 2)
    let octets = try await backup(store).encoded
    #expect(throws: Never.self) { try BackupFile(decoding: octets, file: "f") }
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      var changed = octets
      let place = Int.random(in: 0..<octets.count, using: &generator)
      changed[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      // What the first line tells of time, program and origin is for people, and not part of the content.
      guard let decoded = try? BackupFile(decoding: changed, file: "f") else { continue }
      #expect(decoded.digest.sha256 == ContentDigest(decoded.items).sha256)
      #expect(decoded.items.map(\.value) == (try BackupFile(decoding: octets, file: "f")).items.map(\.value), "octet \(place) changed unnoticed")
    }
    let lines = octets.split(separator: 0x0a)
    // A later form of the file.
    let later = String(decoding: octets, as: UTF8.self).replacingOccurrences(of: #""version":1,"#, with: #""version":2,"#)
    #expect(await words { _ = try BackupFile(decoding: Array(later.utf8), file: "f") }.contains("use a newer program"))
    for index in lines.indices {
      var fewer = lines
      fewer.remove(at: index)
      #expect(throws: BackupFile.Problem.self) { try BackupFile(decoding: Array(fewer.joined(separator: [0x0a])), file: "f") }
      var more = lines
      more.insert(lines[index], at: index)
      #expect(throws: BackupFile.Problem.self) { try BackupFile(decoding: Array(more.joined(separator: [0x0a])), file: "f") }
    }
  }

  @Test("Killed after any number of transactions, a restore goes on when repeated; `margay node` does not start on what is not complete")
  func interrupted() async throws {
    let store = MemoryDatastore()
    try await fill(store, endpoints: 350)
    let file = try await backup(store)
    let target = MemoryDatastore(name: "target")
    var attempts = 0
    while true {
      attempts += 1
      do {
        _ = try await file.restore(to: MortalDatastore(target, transactions: attempts == 1 ? 1 : 2))
        break
      } catch DatastoreError.unavailable {
        #expect(try await target.get(TransferMarker.path) != nil)
        let why = await words { _ = try await NodeStartup(name: "n").run(target) }
        #expect(why.contains("is not complete") && why.contains("a backup of memory:"), "\(why)")
        // Another backup does not mix with it.
        let other = MemoryDatastore()
        try await fill(other, endpoints: 1)
        #expect(await words { _ = try await backup(other).restore(to: target) }.contains("another transfer into it is not finished"))
      }
      #expect(attempts < 20)
    }
    #expect(attempts > 3)
    #expect(try await StoreContent.read(target).digest == file.digest)
    #expect(await words { _ = try await file.restore(to: target) }.contains("is not empty"))
  }

  @Test("The difference of two contents makes the one of the other, in portions that etcd takes")
  func difference() {
    var generator = SystemRandomNumberGenerator()
    func content() -> [String: [UInt8]] {
      Dictionary(uniqueKeysWithValues: (0..<400).filter { _ in Bool.random() }.map { ("/k/\($0)", [UInt8.random(in: 0...1, using: &generator)]) })
    }
    func items(_ content: [String: [UInt8]]) -> [KeyValue] {
      content.sorted { KeyOrder.precedes($0.key, $1.key) }.map { KeyValue(key: $0.key, value: $0.value, createRevision: .zero, modRevision: .zero) }
    }
    for _ in 0..<20 {
      let (from, to) = (content(), content())
      var result = from
      let operations = Transfer.difference(from: items(from), to: items(to))
      for operation in operations {
        if case .put(let key, let value, _) = operation { result[key] = value } else { result[operation.key] = nil }
      }
      #expect(result == to)
      let portions = Transfer.portions(operations)
      #expect(portions.flatMap { $0 } == operations && portions.allSatisfy { (1...100).contains($0.count) })
    }
    let large = (0..<5).map { DatastoreOperation.put("/large/\($0)", [UInt8](repeating: 0, count: 700_000)) }
    #expect(Transfer.portions(large).map(\.count) == [1, 1, 1, 1, 1])
  }
}

@Suite("Migration", .serialized)
struct MigrationTests {
  /// From one kind of store to another, in both directions.
  enum Route: String, CaseIterable { case memoryToMemory, sqliteToEtcd, etcdToSQLite }

  private func withStores(_ route: Route, _ body: (any Datastore, any Datastore) async throws -> Void) async throws {
    let folder = try Files.makeTemporaryDirectory(prefix: "margay-migration-")
    defer { try? Files.removeTree(folder) }
    func etcd() async throws -> (EtcdServer, any Datastore) {
      let server = try await startedEtcd()
      return (server, try EtcdDatastore(server.configuration))
    }
    switch route {
    case .memoryToMemory: try await body(MemoryDatastore(name: "a"), MemoryDatastore(name: "b"))
    case .sqliteToEtcd:
      let (server, store) = try await etcd()
      let file = try SQLiteDatastore(path: folder + "/store.db")
      try await body(file, store)
      await store.close()
      await file.close()
      withExtendedLifetime(server) {}
    case .etcdToSQLite:
      let (server, store) = try await etcd()
      let file = try SQLiteDatastore(path: folder + "/store.db")
      try await body(store, file)
      await store.close()
      await file.close()
      withExtendedLifetime(server) {}
    }
  }

  @Test("While somebody writes all the time: copied, followed, switched, and both hold the same", arguments: Route.allCases)
  func online(route: Route) async throws {
    guard route == .memoryToMemory || EtcdServer.isInstalled else { return }
    try await withStores(route) { source, target in
      try await fill(source)
      let events = Mutex<[Migration.Event]>([])
      let (arrivals, arrival) = AsyncStream<Void>.makeStream()
      let migration = try await Migration(from: source, to: target) { event in
        if case .followed = event { arrival.yield() }
      }
      let writer = Task {
        var round = 0
        while !Task.isCancelled {
          round += 1
          try await source.put("/calico/v1/config/busy\(round % 7)", "\(round)")
          if round % 5 == 0 { _ = try await source.transact(if: [], then: [.delete("/calico/v1/config/busy\(round % 7)")]) }
          try await Task.sleep(for: .milliseconds(2))
        }
      }
      let revision = try await migration.copy()
      let following = Task { try await migration.follow(after: revision) }
      var heard = 0
      for await _ in arrivals {
        heard += 1
        // History may be forgotten in the middle of it.
        if heard == 5 { try await source.compact(upTo: try await source.list(prefix: "/calico/v1/").revision) }
        if heard == 12 { break }
      }
      following.cancel()
      #expect(try await following.value > revision)
      writer.cancel()
      _ = await writer.result
      let digest = try await migration.finish()
      var wanted = try await source.contents()
      wanted["/calico/felix/v2/no-region/host/host1/status"] = nil
      let information = ResourceKey(.clusterInformation, name: "default").path
      #expect(try JSONValue(parsing: try #require(wanted[information]))["spec"]?["datastoreReady"]?.bool == false, "the source is locked")
      var found = try await target.contents()
      #expect(try JSONValue(parsing: try #require(found[information]))["spec"]?["datastoreReady"]?.bool == true, "the target is in force")
      wanted[information] = nil
      found[information] = nil
      #expect(found == wanted)
      #expect(digest.count == wanted.count + 1)
      #expect(try await target.get(TransferMarker.path) == nil)
      _ = events
      #expect(await words { _ = try await Migration(from: source, to: target).copy() }.contains("is not empty"))
    }
  }

  @Test("A target of another origin, a source that is half filled, and a way from here to here are refused")
  func refusals() async throws {
    let (source, target) = (MemoryDatastore(name: "a"), MemoryDatastore(name: "b"))
    #expect(await words { _ = try await Migration(from: source, to: target) }.contains("a is empty"))
    try await fill(source, endpoints: 1)
    #expect(await words { _ = try await Migration(from: source, to: source) }.contains("both where from and where to"))
    _ = try await Migration(from: source, to: target).copy()
    // The same again is the same migration; from elsewhere it is not.
    _ = try await Migration(from: source, to: target).copy()
    let other = MemoryDatastore(name: "c")
    try await fill(other, endpoints: 1)
    #expect(await words { _ = try await Migration(from: other, to: target).copy() }.contains("another transfer into it is not finished: from a"))
    #expect(await words { _ = try await Migration(from: target, to: other) }.contains("not finished"))
    try await target.put("/calico/v1/config/other", "x")
    _ = try await Migration(from: source, to: target).copy()
    #expect(try await target.get("/calico/v1/config/other") == nil, "what is not the source's goes")
  }

  @Test("Killed after any number of transactions, it goes on; changes and deletions of the meantime arrive")
  func resumed() async throws {
    let (source, target) = (MemoryDatastore(name: "a"), MemoryDatastore(name: "b"))
    try await fill(source, endpoints: 500)
    var attempts = 0
    while true {
      attempts += 1
      do {
        let migration = try await Migration(from: source, to: MortalDatastore(target, transactions: 2))
        _ = try await migration.copy()
        _ = try await migration.finish()
        break
      } catch DatastoreError.unavailable {
        try await source.put("/calico/v1/config/attempt\(attempts)", "x")
        _ = try await source.transact(if: [], then: [.delete(ResourceKey(.workloadEndpoint, namespace: "shop", name: "host1-k8s-web\(attempts)-eth0").path)])
      }
      #expect(attempts < 30)
    }
    #expect(attempts > 3)
    let (a, b) = (try await StoreContent.read(source).items, try await StoreContent.read(target).items)
    #expect(a.map(\.key) == b.map(\.key))
  }

  @Test("Locking keeps what it does not understand, and says whether it was so already")
  func locking() async throws {
    let store = MemoryDatastore()
    let key = ResourceKey(.clusterInformation, name: "default")
    try await store.put(key, spec: #"{"clusterGUID":"abc","datastoreReady":true,"calicoVersion":"v3.30","future":{"a":1}}"#)
    #expect(try await DatastoreLock(store).set(isReady: false))
    #expect(try await !DatastoreLock(store).set(isReady: false))
    let spec = try JSONValue(parsing: try #require(try await store.get(key.path)).value)["spec"]
    #expect(spec?["datastoreReady"]?.bool == false && spec?["future"]?["a"]?.integer == 1 && spec?["clusterGUID"]?.string == "abc")
    #expect(try await DatastoreLock(store).set(isReady: true))
  }
}

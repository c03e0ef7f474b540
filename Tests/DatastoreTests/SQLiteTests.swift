/// The contract on SQLite, and what only a store of many processes on one machine can be asked: latency between processes, a writer
/// killed at any point, leases over restarts of the machine, files that are not ours.
import Datastore
import DatastoreContract
import DatastoreSQLite
import Foundation
import Sockets
import Synchronization
import Testing

/// A folder of its own for a store, gone with the test.
final class StoreFolder: Sendable {
  let path: String
  init() throws { path = try Files.makeTemporaryDirectory(prefix: "margay-datastore-") }
  deinit { try? Files.removeTree(path) }
  var store: String { path + "/deep/store.db" }
}

/// The second process.
final class ProbeProcess: Sendable {
  private let process: Process
  private let input = Pipe()
  private let output = Pipe()
  convenience init(_ arguments: String...) throws { try self.init(Self.executable, arguments) }
  /// Runs the script in a mount namespace of its own; `$0` is the probe.
  convenience init(mounting script: String, _ arguments: String...) throws {
    try self.init(
      URL(fileURLWithPath: "/usr/bin/unshare"),
      ["--mount", "--propagation", "private", "/bin/sh", "-c", script, Self.executable.path] + arguments)
  }
  private init(_ executable: URL, _ arguments: [String]) throws {
    process = Process()
    process.executableURL = executable
    process.arguments = arguments
    process.standardInput = input
    process.standardOutput = output
    try process.run()
  }
  var pid: Int32 { process.processIdentifier }
  private static var executable: URL {
    // The tests run from a bundle beside the executables of the package, or deeper; look upwards from there.
    var folder = URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
    for _ in 0..<6 {
      for candidate in ["datastore-probe", ".build/debug/datastore-probe"] {
        let url = folder.appendingPathComponent(candidate)
        if FileManager.default.isExecutableFile(atPath: url.path) { return url }
      }
      folder.deleteLastPathComponent()
    }
    return URL(fileURLWithPath: ".build/debug/datastore-probe")
  }
  func send(line: String) { input.fileHandleForWriting.write(Data((line + "\n").utf8)) }
  /// Blocks until there is output; nil at its end.
  func read() -> String? {
    let data = output.fileHandleForReading.availableData
    return data.isEmpty ? nil : String(decoding: data, as: UTF8.self)
  }
  func kill() { Foundation.kill(process.processIdentifier, SIGKILL) }
  /// Reads to the end of the output and returns the exit code.
  @discardableResult
  func finish() -> (output: String, code: Int32) {
    try? input.fileHandleForWriting.close()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (text, process.terminationStatus)
  }
}

private func surroundings(_ clock: TestClock, machine: String? = "machine-a", boot: String = "boot-1") -> SQLiteDatastore.Surroundings {
  SQLiteDatastore.Surroundings(machineID: machine, bootID: boot) {
    let (seconds, attoseconds) = clock.now.components
    return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
  }
}

@Suite("Datastore contract: SQLite", .serialized)
struct SQLiteContractTests {
  @Test("The contract holds for two handles on one file", arguments: DatastoreContract.claims)
  func contract(claim: ContractClaim) async throws {
    let folder = try StoreFolder()
    try await claim.check {
      let clock = TestClock()
      let first = try SQLiteDatastore(path: folder.store, surroundings: surroundings(clock))
      let second = try SQLiteDatastore(path: folder.store, surroundings: surroundings(clock))
      return StoreUnderTest(
        first: first, second: second, compact: { try await first.compact(upTo: $0) },
        elapse: {
          clock.step(seconds: $0)
          try await first.expireLeases()
        },
        dispose: {
          await first.close()
          await second.close()
        })
    }
  }
}

@Suite("SQLite: many processes on one machine", .serialized)
struct SQLiteProcessTests {
  @Test("A change is seen in another process within 10 ms, by the median")
  func latency() async throws {
    let folder = try StoreFolder()
    let store = try SQLiteDatastore(path: folder.store)
    let count = 101
    let probe = try ProbeProcess("write", folder.store, "\(count)")
    #expect(probe.read() == "ready\n")
    let start = try await store.list(prefix: "").revision
    var latencies: [Double] = []
    let watch = store.watch(prefixes: ["/probe"], after: start)
    probe.send(line: "go")
    for try await batch in watch {
      let now = MonotonicInstant.now.nanoseconds
      guard case .put(let item)? = batch.events.last, let then = Int64(String(decoding: item.value, as: UTF8.self)) else {
        Issue.record("an event that the probe did not write: \(batch)")
        break
      }
      latencies.append(Double(now - then) / 1e6)
      if latencies.count == count { break }
      probe.send(line: "go")
    }
    #expect(probe.finish().code == 0)
    await store.close()
    latencies.sort()
    let (median, high) = (latencies[count / 2], latencies[count * 9 / 10])
    print("put in one process to event in another: median \(median) ms, 90 % within \(high) ms")
    #expect(median <= 10)
  }

  @Test("A writer that dies before it announces its commit is noticed within seconds")
  func silentWriter() async throws {
    let folder = try StoreFolder()
    let store = try SQLiteDatastore(path: folder.store)
    let start = try await store.list(prefix: "").revision
    async let seen: Bool = {
      for try await batch in store.watch(prefixes: ["/silent"], after: start) where !batch.events.isEmpty { return true }
      return false
    }()
    #expect(try ProbeProcess("silent", folder.store).finish().code == 0)
    #expect(try await seen)
    await store.close()
  }
}

/// Why the store is unusable; empty if it is not.
private func refusal(_ open: () throws -> SQLiteDatastore) -> String {
  do {
    _ = try open()
  } catch let error as DatastoreError {
    if case .unusable(let why) = error { return why }
  } catch {}
  return ""
}

@Suite("SQLite: the file", .serialized)
struct SQLiteFileTests {
  @Test("The folder is made, and nobody else may read the files")
  func permissions() async throws {
    let folder = try StoreFolder()
    let store = try SQLiteDatastore(path: folder.store)
    _ = try await store.transact(if: [], then: [.put("/secret", [1])])
    for name in try Files.list(Files.parent(of: folder.store)) {
      let attributes = try FileManager.default.attributesOfItem(atPath: Files.parent(of: folder.store) + "/" + name)
      #expect((attributes[.posixPermissions] as? Int) == 0o600, "\(name)")
    }
    await store.close()
  }

  @Test("What was written is there after closing and opening again")
  func reopening() async throws {
    let folder = try StoreFolder()
    let first = try SQLiteDatastore(path: folder.store)
    _ = try await first.transact(if: [], then: [.put("/a", [1])])
    let before = try await first.list(prefix: "")
    await first.close()
    let second = try SQLiteDatastore(path: folder.store)
    let after = try await second.list(prefix: "")
    #expect(after.items == before.items && after.revision == before.revision)
    await second.close()
  }

  @Test("A store of another machine is refused; a machine without a name is let in")
  func otherMachine() async throws {
    let folder = try StoreFolder()
    let clock = TestClock()
    await (try SQLiteDatastore(path: folder.store, surroundings: surroundings(clock, machine: nil))).close()
    await (try SQLiteDatastore(path: folder.store, surroundings: surroundings(clock, machine: "machine-a"))).close()
    let why = refusal { try SQLiteDatastore(path: folder.store, machineID: "machine-b") }
    #expect(why.contains("machine-a") && why.contains("machine-b") && why.contains("etcd"))
    await (try SQLiteDatastore(path: folder.store, surroundings: surroundings(clock, machine: nil))).close()
  }

  @Test("A newer schema, another program's database and a file that is no database are refused")
  func foreignFiles() async throws {
    let folder = try StoreFolder()
    await (try SQLiteDatastore(path: folder.store)).close()
    // The user version is a 32-bit number at octet 60 of the file (SQLite's file format, section 1.3).
    var octets = try Files.read(folder.store)
    octets[63] = 99
    try Files.write(octets, to: folder.store)
    #expect(refusal { try SQLiteDatastore(path: folder.store) }.contains("schema version 99"))
    // The application id is at octet 68.
    octets[63] = 1
    octets[68] = 0
    try Files.write(octets, to: folder.store)
    #expect(refusal { try SQLiteDatastore(path: folder.store) }.contains("another program"))
    let text = folder.path + "/text"
    try Files.write([UInt8](repeating: 0x61, count: 4096), to: text, create: true)
    #expect(refusal { try SQLiteDatastore(path: text) }.contains("no SQLite database"))
    #expect(try Files.read(text) == [UInt8](repeating: 0x61, count: 4096))
  }

  @Test("A file removed while it is open ends watches and calls, with the reason")
  func removedFile() async throws {
    let folder = try StoreFolder()
    let store = try SQLiteDatastore(path: folder.store)
    let watching = Task {
      for try await _ in store.watch(prefixes: [""], after: .zero) {}
    }
    for suffix in ["", "-wal", "-shm"] { try Files.remove(folder.store + suffix) }
    let outcome = await watching.result
    guard case .failure(let error) = outcome, case DatastoreError.unusable(let why) = error else {
      Issue.record("it ended with \(outcome)")
      return
    }
    #expect(why.contains("removed or replaced"))
    await #expect(throws: DatastoreError.unusable(why)) { _ = try await store.get("/a") }
    await store.close()
  }

  @Test("History is kept up to its length, and a watcher from before is told so")
  func retention() async throws {
    let folder = try StoreFolder()
    let store = try SQLiteDatastore(
      path: folder.store, surroundings: .machine, retention: .init(revisionsMax: 100, ageMaxSeconds: 600, revisionsMin: 10))
    for index in 0..<600 { _ = try await store.transact(if: [], then: [.put("/h", [UInt8(index % 256)])]) }
    await #expect(throws: DatastoreError.compacted) {
      for try await _ in store.watch(prefixes: ["/h"], after: Revision(rawValue: 300)) { break }
    }
    for try await batch in store.watch(prefixes: ["/h"], after: Revision(rawValue: 500)) {
      #expect(batch.events.count == 100)
      break
    }
    await store.close()
  }

  @Test("A lease outlives a restart of the machine by its whole length, and no longer")
  func leaseOverReboot() async throws {
    let folder = try StoreFolder()
    let early = TestClock()
    early.step(seconds: 1_000_000)
    let before = try SQLiteDatastore(path: folder.store, surroundings: surroundings(early, boot: "boot-1"))
    let lease = try await before.grantLease(seconds: 90)
    _ = try await before.transact(if: [], then: [.put("/l", [], lease: lease)])
    await before.close()
    // The boot-time clock begins again: by the old numbers the lease would last for eleven days.
    let late = TestClock()
    late.step(seconds: 10)
    let after = try SQLiteDatastore(path: folder.store, surroundings: surroundings(late, boot: "boot-2"))
    late.step(seconds: 80)
    try await after.expireLeases()
    #expect(try await after.get("/l") != nil)
    late.step(seconds: 11)
    try await after.expireLeases()
    #expect(try await after.get("/l") == nil)
    await after.close()
  }

  @Test("Leases that ended while no process was there are gone when the store is opened")
  func leaseWhileClosed() async throws {
    let folder = try StoreFolder()
    let clock = TestClock()
    let before = try SQLiteDatastore(path: folder.store, surroundings: surroundings(clock))
    let lease = try await before.grantLease(seconds: 90)
    _ = try await before.transact(if: [], then: [.put("/l", [], lease: lease)])
    await before.close()
    clock.step(seconds: 91)
    let after = try SQLiteDatastore(path: folder.store, surroundings: surroundings(clock))
    #expect(try await after.get("/l") == nil)
    await after.close()
  }

  @Test("The wall clock steps by years, either way: leases do not notice, and the newest history stays for watchers")
  func wallClockSteps() async throws {
    let folder = try StoreFolder()
    let (boottime, wall) = (TestClock(), TestClock())
    wall.step(seconds: 2_000_000_000)
    let store = try SQLiteDatastore(
      path: folder.store,
      surroundings: SQLiteDatastore.Surroundings(
        machineID: "machine-a", bootID: "boot-1", boottime: { boottime.now.components.seconds * 1_000_000_000 },
        wallclock: { wall.now.components.seconds }), retention: .init(revisionsMax: 1_000, ageMaxSeconds: 600, revisionsMin: 10))
    let lease = try await store.grantLease(seconds: 90)
    for index in 0..<50 { _ = try await store.transact(if: [], then: [.put("/h", [UInt8(index)], lease: lease)]) }
    func heard(after revision: Int64) async throws -> Int {
      for try await batch in store.watch(prefixes: ["/h"], after: Revision(rawValue: revision)) { return batch.events.count }
      return 0
    }
    // Back: nothing seems old, nothing is forgotten.
    wall.step(seconds: -100_000_000)
    try await store.compactByAge()
    try await store.expireLeases()
    #expect(try await heard(after: 0) == 50)
    // Forward: everything seems old, and the newest stay all the same.
    wall.step(seconds: 200_000_000)
    try await store.compactByAge()
    try await store.expireLeases()
    #expect(try await heard(after: 40) == 10)
    await #expect(throws: DatastoreError.compacted) { _ = try await heard(after: 39) }
    #expect(try await store.get("/h")?.lease == lease)
    boottime.step(seconds: 91)
    try await store.expireLeases()
    #expect(try await store.get("/h") == nil)
    await store.close()
  }

  @Test("A cancelled task still writes its last word")
  func cancelledWriter() async throws {
    let folder = try StoreFolder()
    let store = try SQLiteDatastore(path: folder.store)
    let task = Task {
      withUnsafeCurrentTask { $0?.cancel() }
      return try await store.transact(if: [], then: [.put("/last", [1])])
    }
    #expect(try await task.value == .committed(Revision(rawValue: 1)))
    await store.close()
  }
}

/// What goes wrong around a store on a machine: writers killed by the hundred, locks held for long, a full disk, a read-only file system, a
/// damaged file, programs of two versions.
import Datastore
import DatastoreSQLite
import Foundation
import Sockets
import Testing

@Suite("SQLite: writers are killed", .serialized)
struct SQLiteKillTests {
  /// More with `MARGAY_KILLS`.
  static let kills = ProcessInfo.processInfo.environment["MARGAY_KILLS"].flatMap(Int.init) ?? 200

  private struct Seen {
    var revision: Int64
    var keys: [String] = []
    var values: Set<[UInt8]> = []
  }

  @Test("Writers killed by the hundred: revisions without gaps or repeats, a watcher that misses nothing, a file without damage")
  func killedByTheHundred() async throws {
    let folder = try StoreFolder()
    let store = try SQLiteDatastore(path: folder.store)
    let start = try await store.list(prefix: "").revision
    // The watcher keeps every event: what it saw is compared with what the writers were told and with what stands in the end.
    let watcher = Task { () -> [Seen] in
      var seen: [Seen] = []
      for try await batch in store.watch(prefixes: ["/pair/", "/end"], after: start) {
        for case .put(let item) in batch.events {
          if seen.last?.revision != item.modRevision.rawValue { seen.append(Seen(revision: item.modRevision.rawValue)) }
          seen[seen.count - 1].keys.append(item.key)
          seen[seen.count - 1].values.insert(item.value)
        }
        if batch.events.contains(where: { $0.key == "/end" }) { break }
      }
      return seen
    }
    // Four writers at a time; each is killed when it has said a number of revisions that differs, and another takes its place.
    let path = folder.store
    let committed = try await withThrowingTaskGroup(of: [Int64].self) { group in
      for lane in 0..<4 {
        group.addTask {
          var told: [Int64] = []
          for round in 0..<(Self.kills / 4) {
            let probe = try ProbeProcess("hammer", path)
            var text = ""
            let wanted = (lane * 7 + round * 5) % 23
            while text.utf8.count(where: { $0 == 0x0a }) < wanted, let more = probe.read() { text += more }
            probe.kill()
            text += probe.finish().output
            // The last line may be cut off.
            told += text.split(separator: "\n", omittingEmptySubsequences: false).dropLast().compactMap { Int64($0) }
          }
          return told
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
    guard case .committed(let end) = try await store.transact(if: [], then: [.put("/end", [])]) else {
      Issue.record("a put without comparisons conflicts")
      return
    }
    let events = try await watcher.value
    #expect(events.map(\.revision) == Array((start.rawValue + 1)...end.rawValue))
    #expect(events.dropLast().allSatisfy { $0.keys == ["/pair/a", "/pair/b"] && $0.values.count == 1 })
    #expect(Set(committed).count == committed.count, "a revision was given twice")
    #expect(committed.allSatisfy { $0 <= end.rawValue })
    #expect(committed.count > Self.kills, "the writers were killed before they wrote: this proves little")
    print("\(Self.kills) writers killed; \(end.rawValue - start.rawValue) revisions, \(committed.count) of them told")
    await store.close()
    #expect(try await SQLiteDatastore.damages(path: folder.store).isEmpty)
  }

  @Test("20 processes count by compare-and-swap, each killed on the way, and lose no step")
  func twentyCounters() async throws {
    let folder = try StoreFolder()
    try await Counters.run("sqlite:\(folder.store)", processes: 20, steps: 20)
    let store = try SQLiteDatastore(path: folder.store)
    #expect(try await store.get("/count")?.value == Array("400".utf8))
    #expect(try await store.list(prefix: "/log/").items.count == 400)
    #expect(try await store.list(prefix: "").revision == Revision(rawValue: 400))
    await store.close()
  }
}

/// Processes of `datastore-probe count`, each killed twice at points that differ, and started again to the end.
enum Counters {
  static func run(_ name: String, processes: Int, steps: Int) async throws {
    try await withThrowingTaskGroup(of: Void.self) { group in
      for writer in 0..<processes {
        group.addTask {
          for life in 0..<2 {
            let probe = try ProbeProcess("count", name, "\(writer)", "\(steps)")
            // It says nothing; the clock decides where it is.
            try await Task.sleep(for: .milliseconds(40 + (writer * 37 + life * 91) % 200))
            probe.kill()
            probe.finish()
          }
          #expect(try ProbeProcess("count", name, "\(writer)", "\(steps)").finish().code == 0)
        }
      }
      try await group.waitForAll()
    }
  }
}

/// Opening or using it must fail; the words.
private func words(_ body: () async throws -> Void) async -> String {
  do {
    try await body()
    return "no error"
  } catch {
    return "\(error)"
  }
}

private var impatient: SQLiteDatastore.Surroundings {
  var surroundings = SQLiteDatastore.Surroundings.machine
  surroundings.patience = .seconds(1)
  return surroundings
}

@Suite("SQLite: locks, disks, damage", .serialized)
struct SQLiteFaultTests {
  @Test("A write lock held by another process: reading goes on, writing waits for a bounded time, the error names the process")
  func heldLock() async throws {
    let folder = try StoreFolder()
    let store = try SQLiteDatastore(path: folder.store, surroundings: impatient)
    _ = try await store.transact(if: [], then: [.put("/a", [1])])
    let holder = try ProbeProcess("hold", folder.store)
    #expect(holder.read() == "held\n")
    #expect(try await store.get("/a")?.value == [1])
    // A reading command starts and reads meanwhile.
    let second = try SQLiteDatastore(path: folder.store, surroundings: impatient, creating: false)
    #expect(try await second.list(prefix: "").items.count == 1)
    let why = await words { _ = try await store.transact(if: [], then: [.put("/a", [2])]) }
    #expect(why.contains("datastore-probe hold") && why.contains("(pid \(holder.pid))") && why.contains("nothing of this change is stored"), "\(why)")
    #expect(holder.finish().code == 0)
    #expect(try await store.transact(if: [], then: [.put("/a", [3])]) == .committed(Revision(rawValue: 2)))
    await store.close()
    await second.close()
  }

  @Test("Lines of /proc/locks: holders count, waiters, other files and other octets do not")
  func lockTable() {
    let table = """
      1: POSIX  ADVISORY  WRITE 4711 00:2d:31137 120 120
      1: -> POSIX  ADVISORY  WRITE 4712 00:2d:31137 120 120
      2: POSIX  ADVISORY  READ  4713 00:2d:31137 123 123
      3: POSIX  ADVISORY  WRITE 4714 00:2d:31138 120 120
      4: FLOCK  ADVISORY  READ  4715 00:2d:31137 0 EOF
      5: POSIX  ADVISORY  READ  4716 00:2d:31137 0 EOF
      6: OFDLCK ADVISORY  READ  -1 00:2d:31137 0 EOF
      """
    #expect(LockHolders.processes(in: table, type: "POSIX", inode: 31137, octet: 120) == [4711, 4716])
    #expect(LockHolders.processes(in: table, type: "FLOCK", inode: 31137, octet: 0) == [4715])
  }

  @Test("A full disk: a clear error, nothing lost, and work goes on when there is room again", .enabled(if: geteuid() == 0))
  func fullDisk() throws {
    let folder = try StoreFolder()
    let script = "mount -t tmpfs -o size=1500k none \"$1\" && exec \"$0\" fill \"$1\""
    let (output, code) = try ProbeProcess(mounting: script, folder.path).finish()
    print(output)
    #expect(code == 0 && !output.contains("BROKEN") && output.contains("the file is whole"), "\(output)")
  }

  @Test("A read-only file system is named as such", .enabled(if: geteuid() == 0))
  func readOnly() throws {
    let folder = try StoreFolder()
    let script = """
      mount -t tmpfs none "$1" && "$0" count "sqlite:$1/store.db" a 3 && mount -o remount,ro "$1" && exec "$0" read "$1/store.db"
      """
    let (output, code) = try ProbeProcess(mounting: script, folder.path).finish()
    #expect(code == 0 && output.contains("read-only file system") && output.contains("\(folder.path)/store.db"), "\(output)")
  }

  @Test("A damaged file is refused with what is damaged, and nothing is written over it")
  func damage() async throws {
    let folder = try StoreFolder()
    let store = try SQLiteDatastore(path: folder.store)
    for index in 0..<300 { _ = try await store.transact(if: [], then: [.put("/d/\(1000 + index)", [UInt8](repeating: 7, count: 1000))]) }
    await store.close()
    #expect(try await SQLiteDatastore.damages(path: folder.store).isEmpty)
    var octets = try Files.read(folder.store)
    // Every second page of the later half, where the values are.
    for place in stride(from: octets.count / 8192 * 4096, to: octets.count, by: 8192) { octets.replaceSubrange(place..<(place + 64), with: repeatElement(0xee, count: 64)) }
    try Files.write(octets, to: folder.store)
    let damages = try await SQLiteDatastore.damages(path: folder.store)
    #expect(!damages.isEmpty)
    #expect(try Files.read(folder.store) == octets)
    let damaged = try SQLiteDatastore(path: folder.store)
    let why = await words { _ = try await damaged.list(prefix: "/d/") }
    #expect(why.contains("is damaged") && why.contains("margay datastore check") && why.contains(folder.store), "\(why)")
    // From the first sign on, nothing is written.
    #expect(await words { _ = try await damaged.transact(if: [], then: [.put("/e", [])]) } == why)
    await damaged.close()
    #expect(try Files.read(folder.store).dropFirst(4096).elementsEqual(octets.dropFirst(4096)))
  }

  @Test("A mistyped path is not made into an empty store; a file of no size is none")
  func missing() async throws {
    let folder = try StoreFolder()
    let path = folder.path + "/typo.db"
    #expect(await words { _ = try SQLiteDatastore(path: path, creating: false) }.contains("there is no datastore at \(path)"))
    #expect(try Files.list(folder.path) == [])
    try Files.write([], to: path, create: true)
    #expect(await words { _ = try SQLiteDatastore(path: path, creating: false) }.contains("there is no datastore at \(path)"))
    let made = try SQLiteDatastore(path: path)
    #expect(made.isNew)
    let again = try SQLiteDatastore(path: path, creating: false)
    #expect(!again.isNew)
    await made.close()
    await again.close()
  }

  @Test("Another program's database keeps its journal mode")
  func foreignDatabase() async throws {
    let folder = try StoreFolder()
    let path = folder.path + "/other.db"
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/sqlite3")
    process.arguments = [path, "CREATE TABLE photo (id INTEGER); INSERT INTO photo VALUES (1)"]
    try process.run()
    process.waitUntilExit()
    let before = try Files.read(path)
    #expect(await words { _ = try SQLiteDatastore(path: path) }.contains("another program"))
    #expect(try Files.read(path) == before)
  }
}

@Suite("SQLite: programs of two versions", .serialized)
struct SQLiteVersionTests {
  /// A made-up next version.
  static let next = StoreSchema(
    version: StoreSchema.current.version + 1,
    steps: StoreSchema.current.steps.merging([StoreSchema.current.version + 1: "ALTER TABLE item ADD COLUMN note TEXT"]) { $1 })
  private func openNext(_ path: String) throws -> SQLiteDatastore {
    try SQLiteDatastore(path: path, surroundings: impatient, creating: true, schema: Self.next)
  }

  @Test("A newer program changes no schema under a running older one, and names it; alone, it does, and the older is refused from then on")
  func upgrade() async throws {
    let folder = try StoreFolder()
    let old = try ProbeProcess("sit", folder.store)
    #expect(old.read() == "sitting\n")
    let why = await words { _ = try openNext(folder.store) }
    #expect(why.contains("schema version 1") && why.contains("datastore-probe sit") && why.contains("(pid \(old.pid))"), "\(why)")
    // The older one is not disturbed, and others of its version may come.
    old.send(line: "write")
    let peer = try SQLiteDatastore(path: folder.store, creating: false)
    for try await batch in peer.watch(prefixes: ["/sat"], after: .zero) where !batch.events.isEmpty { break }
    await peer.close()
    #expect(old.finish().code == 0)

    let new = try openNext(folder.store)
    #expect(try await new.get("/sat") != nil)
    #expect(try await new.transact(if: [], then: [.put("/new", [1])]) == .committed(Revision(rawValue: 2)))
    #expect(await words { _ = try SQLiteDatastore(path: folder.store) }.contains("schema version 2"))
    await new.close()
    #expect(await words { _ = try SQLiteDatastore(path: folder.store) }.contains("use the newer program"))
  }

  @Test("A killed older program does not stand in the way")
  func killedOlder() async throws {
    let folder = try StoreFolder()
    let old = try ProbeProcess("sit", folder.store)
    #expect(old.read() == "sitting\n")
    old.kill()
    old.finish()
    await (try openNext(folder.store)).close()
  }

  @Test("A new store of the newer program has its version from the start")
  func newStore() async throws {
    let folder = try StoreFolder()
    let new = try openNext(folder.store)
    _ = try await new.transact(if: [], then: [.put("/a", [1])])
    await new.close()
    #expect(await words { _ = try SQLiteDatastore(path: folder.store) }.contains("schema version 2"))
  }
}

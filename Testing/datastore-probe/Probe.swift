/// Another process for the tests of the datastores: it does one thing with a store, through the same code, and says what it did.
import Datastore
import DatastoreSQLite
import Datastores
import GRDB
import Glibc
import Sockets

/// `write PATH COUNT` waits for a line on its input before each of COUNT puts to `/probe`; the value is the monotonic time before the put.
/// `hammer PATH` writes pairs of keys until it is killed, and prints each revision once it is committed.
/// `count NAME WRITER COUNT` adds to `/count` by compare-and-swap and puts `/log/WRITER/<n>` with it, until there are COUNT of these; started
/// again, it goes on where it was.
/// `silent PATH` puts `/silent` and dies without announcing it.
/// `sit PATH` opens the store and keeps it open until its input ends.
/// `hold PATH` takes the write lock and keeps it until its input ends.
/// `fill FOLDER` fills the small disk at FOLDER, and says what the store there does about it.
/// `read PATH` prints the number of keys, or why there is none.
@main
struct Probe {
  /// Unbuffered: what is said before a kill is heard.
  static func say(_ line: String) throws { try Files.write(Array("\(line)\n".utf8), descriptor: 1, name: "output") }

  static func main() async throws {
    let arguments = CommandLine.arguments
    let place = arguments[2]
    switch arguments[1] {
    case "write":
      let store = try SQLiteDatastore(path: place)
      try say("ready")
      for _ in 0..<Int(arguments[3])! {
        guard readLine() != nil else { return }
        _ = try await store.transact(if: [], then: [.put("/probe", Array("\(MonotonicInstant.now.nanoseconds)".utf8))])
      }
      await store.close()
    case "hammer":
      let store = try SQLiteDatastore(path: place)
      var round = 0
      while true {
        round += 1
        let value = Array("\(getpid())-\(round)".utf8) + [UInt8](repeating: 0x2e, count: 3000)
        guard case .committed(let revision) = try await store.transact(if: [], then: [.put("/pair/a", value), .put("/pair/b", value)])
        else { fatalError("a put without comparisons conflicts") }
        try say("\(revision)")
      }
    case "count":
      try await count(
        try DatastoreChoice(option: place, environment: { _ in nil }).open(creating: true), writer: arguments[3], Int(arguments[4])!)
    case "silent":
      let store = try SQLiteDatastore(path: place)
      // Without the file beside the store there is nothing to announce on: as if the process died after COMMIT.
      unlink(place + "-changed")
      mkdir(place + "-changed", 0o700)
      _ = try await store.transact(if: [], then: [.put("/silent", [])])
      rmdir(place + "-changed")
      await store.close()
    case "sit":
      let store = try SQLiteDatastore(path: place)
      try say("sitting")
      while readLine() != nil { _ = try await store.transact(if: [], then: [.put("/sat", [])]) }
      await store.close()
    case "hold":
      let queue = try DatabaseQueue(path: place)
      try queue.inTransaction(.immediate) { _ in
        try say("held")
        while readLine() != nil {}
        return .rollback
      }
    case "fill": try await FullDisk(folder: place).run()
    case "read":
      do {
        let store = try SQLiteDatastore(path: place, creating: false)
        try say("\(try await store.list(prefix: "").items.count) keys")
      } catch {
        try say("\(error)")
      }
    default: fatalError("unknown verb \(arguments[1])")
    }
  }

  static func count(_ store: any Datastore, writer: String, _ wanted: Int) async throws {
    while true {
      // The answer to the last transaction before a kill is not known; what stands is.
      let done = try await store.list(prefix: "/log/\(writer)/").items.count
      if done >= wanted { break }
      let item = try await store.get("/count")
      let count = item.flatMap { Int(String(decoding: $0.value, as: UTF8.self)) } ?? 0
      let log = "/log/\(writer)/\(done)"
      let comparisons = [item.map { Comparison.modRevision("/count", equals: $0.modRevision) } ?? .absent("/count"), .absent(log)]
      _ = try await store.transact(if: comparisons, then: [.put("/count", Array("\(count + 1)".utf8)), .put(log, [])])
    }
    await store.close()
  }
}

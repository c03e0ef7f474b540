/// A second process for the tests of the SQLite store: it does one thing with a store, through the same code, and says what it did.
import Datastore
import DatastoreSQLite
import Glibc
import Sockets

/// `write PATH COUNT` waits for a line on its input before each of COUNT puts to `/probe`; the value is the monotonic time before the put.
/// `hammer PATH` writes pairs of keys until it is killed, and prints each revision once it is committed.
/// `count PATH WRITER COUNT` adds COUNT times one to `/count` by compare-and-swap and puts `/log/WRITER/<n>`.
/// `silent PATH` puts `/silent` and dies without announcing it.
@main
struct Probe {
  /// Unbuffered: what is said before a kill is heard.
  static func say(_ line: String) throws { try Files.write(Array("\(line)\n".utf8), descriptor: 1, name: "output") }

  static func main() async throws {
    let arguments = CommandLine.arguments
    let store = try SQLiteDatastore(path: arguments[2])
    switch arguments[1] {
    case "write":
      try say("ready")
      for _ in 0..<Int(arguments[3])! {
        guard readLine() != nil else { return }
        _ = try await store.transact(if: [], then: [.put("/probe", Array("\(MonotonicInstant.now.nanoseconds)".utf8))])
      }
    case "hammer":
      var round = 0
      while true {
        round += 1
        let value = Array("\(round)".utf8) + [UInt8](repeating: 0x2e, count: 3000)
        guard case .committed(let revision) = try await store.transact(if: [], then: [.put("/pair/a", value), .put("/pair/b", value)])
        else { fatalError("a put without comparisons conflicts") }
        try say("\(revision)")
      }
    case "count":
      for round in 0..<Int(arguments[4])! {
        while true {
          let item = try await store.get("/count")
          let count = item.flatMap { Int(String(decoding: $0.value, as: UTF8.self)) } ?? 0
          let result = try await store.transact(
            if: [item.map { .modRevision("/count", equals: $0.modRevision) } ?? .absent("/count")],
            then: [.put("/count", Array("\(count + 1)".utf8)), .put("/log/\(arguments[3])/\(round)", [])])
          if case .committed = result { break }
        }
      }
    case "silent":
      // Without the file beside the store there is nothing to announce on: as if the process died after COMMIT.
      unlink(arguments[2] + "-changed")
      mkdir(arguments[2] + "-changed", 0o700)
      _ = try await store.transact(if: [], then: [.put("/silent", [])])
      rmdir(arguments[2] + "-changed")
    default: fatalError("unknown verb \(arguments[1])")
    }
    await store.close()
  }
}

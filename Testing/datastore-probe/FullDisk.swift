/// A store on a disk that is full, and then is not: each step is said, and a broken promise ends the program.
import Datastore
import DatastoreSQLite
import Glibc
import Sockets

struct FullDisk {
  let folder: String
  private var path: String { folder + "/store.db" }
  private static let value = [UInt8](repeating: 0x2e, count: 2000)

  private func promise(_ isKept: Bool, _ text: String) throws {
    try Probe.say(isKept ? text : "BROKEN: \(text)")
    if !isKept { exit(1) }
  }

  /// Puts until the store refuses; the number of puts that it took, and its words.
  private func fill(_ store: SQLiteDatastore, from first: Int) async throws -> (next: Int, refusal: String) {
    var number = first
    while true {
      do throws(DatastoreError) {
        _ = try await store.transact(if: [], then: [.put("/keep/\(1_000_000 + number)", Self.value), .put("/newest", Array("\(number)".utf8))])
        number += 1
      } catch {
        return (number, "\(error)")
      }
    }
  }

  func run() async throws {
    let filler = folder + "/filler"
    try Files.write([UInt8](repeating: 1, count: 300_000), to: filler, create: true)
    let store = try SQLiteDatastore(path: path)
    let (count, refusal) = try await fill(store, from: 0)
    try promise(refusal.contains("full") && refusal.contains(path), "refused after \(count) puts: \(refusal)")
    let before = try await store.list(prefix: "/")
    try promise(
      before.items.count == count + 1 && before.items.last?.value == Array("\(count - 1)".utf8) && before.revision.rawValue == Int64(count),
      "everything that was stored is there, and nothing of the refused transaction")
    let reader = try SQLiteDatastore(path: path, creating: false)
    try promise(try await reader.list(prefix: "/").items == before.items, "another handle opens on the full disk, and reads the same")

    try Files.remove(filler)
    async let heard: [WatchEvent] = {
      for try await batch in reader.watch(prefixes: ["/newest"], after: before.revision) where !batch.events.isEmpty { return batch.events }
      return []
    }()
    let result = try await store.transact(if: [], then: [.put("/newest", Array("again".utf8))])
    try promise(result == .committed(Revision(rawValue: Int64(count) + 1)), "with room again the next write is the next revision")
    try promise(try await heard.map(\.key) == ["/newest"], "and the watcher of the other handle hears of it")

    let (again, second) = try await fill(store, from: count)
    try promise(second.contains("full") && again > count, "filled once more, to \(again) puts")
    let full = try await store.list(prefix: "/")
    await store.close()
    await reader.close()
    let reopened = try SQLiteDatastore(path: path, creating: false)
    try promise(try await reopened.list(prefix: "/").items == full.items, "closed and opened on the full disk, it has everything")
    await reopened.close()
    try promise(try await SQLiteDatastore.damages(path: path).isEmpty, "the file is whole")
  }
}

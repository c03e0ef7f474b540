/// The directory where plugins leave what they could not deliver: one file for each attachment whose DEL (or whose ADD's undoing) is due.

import CNIMessages
import Glibc
import JSON
import Sockets
import Synchronization

final class Tombstones: Sendable {
  let directory: String
  /// Files that are no requests: said once each, and left for a person to look at.
  private let damaged = Mutex<Set<String>>([])
  /// Why the last attempt at a file failed.
  private let problems = Mutex<[String: String]>([:])

  init(directory: String) { self.directory = directory }

  func path(_ name: String) -> String { "\(directory)/\(name)" }
  var names: [String] { ((try? Files.list(directory)) ?? []).filter { $0.hasSuffix(NodeRequest.tombstoneSuffix) } }

  enum Content {
    case request(NodeRequest)
    case missing
    /// `isNew`: nobody was told of it yet.
    case damaged(String, isNew: Bool)
  }
  func read(_ name: String) -> Content {
    guard Files.exists(path(name)) else { return .missing }
    let why: String
    do {
      let request = try NodeRequest(JSONValue(parsing: try Files.read(path(name))))
      if request.call.command == .delete { return .request(request) }
      why = "it holds a call of \(request.call.command.rawValue)"
    } catch {
      why = "\(error)"
    }
    return .damaged(why, isNew: damaged.withLock { $0.insert(name).inserted })
  }
  func isDone(_ name: String) {
    try? Files.remove(path(name))
    problems.withLock { $0[name] = nil }
    damaged.withLock { _ = $0.remove(name) }
  }
  func failed(_ name: String, _ why: String) { problems.withLock { $0[name] = why } }

  /// For people: how many, since when, and what is in the way of one of them.
  var status: JSONValue {
    let names = names
    var clock = timespec()
    unsafe clock_gettime(CLOCK_REALTIME, &clock)
    let oldest = names.compactMap { try? Files.modified(path($0)) }.min()
    let damaged = damaged.withLock { $0.intersection(names).sorted() }
    let problems = problems.withLock { $0.filter { names.contains($0.key) } }.sorted { $0.key < $1.key }
    return [
      "directory": .string(directory), "waiting": .integer(Int64(names.count - damaged.count)),
      "oldestSeconds": oldest.map { .integer(max(Int64(clock.tv_sec) - $0, 0)) } ?? nil,
      "problem": problems.first.map { .string("\($0.key): \($0.value)") } ?? nil,
      "damaged": .array(damaged.map { .string($0) }),
    ]
  }
}

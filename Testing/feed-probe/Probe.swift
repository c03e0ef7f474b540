/// A daemon's reading of a datastore as a process of its own, so that tests can put it into a network namespace: says each event in a line.
///
/// `feed-probe DATASTORE PREFIX…`: `put KEY VALUE`, `delete KEY`, `in-sync`, `revision N`, `problem WHY`, `works`, and after each `works`, and at
/// the first in-sync, `counts LISTS RESUMES`.
import Datastore
import Datastores
import Sockets
import Synchronization

@main
struct Probe {
  static func main() async throws {
    let arguments = CommandLine.arguments
    let datastore = try DatastoreChoice(option: arguments[1], environment: { _ in nil }).open()
    let feed = ResourceFeed(datastore, kinds: [], rawPrefixes: Array(arguments[2...]))
    await feed.run { events in
      for event in events {
        switch event {
        case .raw(let key, let value?): say("put \(key) \(String(decoding: value, as: UTF8.self))")
        case .raw(let key, nil): say("delete \(key)")
        case .inSync: say("in-sync")
        case .revision(let revision): say("revision \(revision)")
        case .connection(let problem?): say("problem \(problem)")
        case .connection(nil): say("works")
        case .resource, .unreadable: break
        }
        if case .connection(nil) = event { say("counts \(feed.meter.counts.lists) \(feed.meter.counts.resumes)") }
      }
    }
  }
  /// Unbuffered: whoever reads waits for the line.
  private static func say(_ line: String) { try? Files.write(Array("\(line)\n".utf8), descriptor: 1, name: "output") }
}

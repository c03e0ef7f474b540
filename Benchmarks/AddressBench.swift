/// An address for a workload: from the call to the committed transaction, of one node alone and of twenty at once, as a node does it (with
/// its desk) and as a command does it (everything read afresh).

import AddressAssignment
import Addresses
import Datastore
import Datastores
import Glibc
import Resources
import Sockets

enum AddressBench {
  static func run(_ report: Report, _ options: Options) async throws {
    for kind in StoreKind.allCases {
      do {
        try await run(kind, report, options)
      } catch {
        report.add(Row(what: "addresses, \(kind.rawValue)", unit: "", note: "\(error)"))
      }
    }
  }

  private static func run(_ kind: StoreKind, _ report: Report, _ options: Options) async throws {
    let store = try await BenchStore(kind, scratch: options.scratch)
    for (name, cidr, size) in [("four", "10.64.0.0/12", UInt8(24)), ("six", "fd65::/108", 120)] {
      let pool = Resource(Metadata(name: name), .ipPool(IPPoolSpec(cidr: IPPrefix(cidr)!, blockSize: size)))
      _ = try await ResourceStore(store.datastore).create(pool)
    }
    let families: [IPFamily: AssignmentTerms] = [.v4: .init(), .v6: .init()]
    var (assigns, releases, afresh) = (Samples(), Samples(), Samples())
    let (desk, following) = try await openDesk(store.datastore, "alone")
    let book = desk.book
    for round in 0..<220 {
      var started = MonotonicInstant.now
      _ = try await book.assign(families, handle: "alone-\(round)", attributes: ["node": "alone", "namespace": "default", "pod": "p\(round)"])
      if round >= 20 { assigns.add(MonotonicInstant.now.seconds(since: started) * 1e6) }
      guard round % 2 == 0 else { continue }
      started = .now
      _ = try await book.holding(of: "alone-\(round)")
      _ = try await book.release(handle: "alone-\(round)")
      if round >= 20 { releases.add(MonotonicInstant.now.seconds(since: started) * 1e6) }
    }
    following.cancel()
    let plain = AddressBook(datastore: store.datastore, node: "afresh")
    for round in 0..<120 {
      let started = MonotonicInstant.now
      _ = try await plain.assign(families, handle: "afresh-\(round)", attributes: ["node": "afresh"])
      if round >= 20 { afresh.add(MonotonicInstant.now.seconds(since: started) * 1e6) }
    }
    report.add("dual-stack assignment, from the desk, \(kind.rawValue)", "µs wall", assigns)
    report.add("dual-stack release, from the desk, \(kind.rawValue)", "µs wall", releases)
    report.add("dual-stack assignment, all read afresh, \(kind.rawValue)", "µs wall", afresh)

    // Twenty nodes, each with a connection of its own; every one assigns as fast as it can.
    let name = store.name
    let crowd = try await withThrowingTaskGroup(of: [Double].self) { group in
      for number in 0..<20 {
        group.addTask { [families] in
          let own = try DatastoreChoice(option: name, environment: { _ in nil }).open()
          var times: [Double] = []
          let (desk, following) = try await openDesk(own, "node\(number)")
          for round in 0..<60 {
            let started = MonotonicInstant.now
            _ = try await desk.book.assign(families, handle: "n\(number)-\(round)", attributes: ["node": "node\(number)"])
            if round >= 5 { times.append(MonotonicInstant.now.seconds(since: started) * 1e6) }
          }
          following.cancel()
          await own.close()
          return times
        }
      }
      return try await group.reduce(into: Samples()) { samples, times in for time in times { samples.add(time) } }
    }
    report.add("dual-stack assignment, 20 nodes at once, \(kind.rawValue)", "µs wall", crowd)
    await store.end()
  }

  /// A desk that is up to date, and the task that keeps it so.
  private static func openDesk(_ datastore: any Datastore, _ node: String) async throws -> (AddressDesk, Task<Void, Never>) {
    let desk = AddressDesk(datastore, node: node)
    let following = Task { await desk.run() }
    let deadline = MonotonicInstant.now + .seconds(20)
    while !desk.isLive {
      guard MonotonicInstant.now < deadline else { throw BenchProblem("the desk does not come to life") }
      try await Task.sleep(for: .milliseconds(2))
    }
    return (desk, following)
  }
}

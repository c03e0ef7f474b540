/// One of many processes that assign and release addresses on one datastore, through the same code as a node, and die at random steps.
///
/// `run DATASTORE NODE ROUNDS SEED LOG DEATHS`: goes on where the log says that this node's last life ended. A round attaches a workload
/// as a node does (address, then endpoint) or detaches one (endpoint, then address). At each named step of the protocol, before and after its
/// transaction, it kills itself with SIGKILL with the chance of one in DEATHS; 0: never. Exits with 0 when all rounds are done.
/// `prepare DATASTORE NODES`: pools and nodes.
/// Now and then it does what another program's steps leave behind: an affinity that is pending, a count without an address.
/// `repair DATASTORE GRACE_SECONDS SEED LOG DEATHS`: a repairer that looks again and again until its input ends.
/// `settle DATASTORE SEED LOG DEATHS`: looks until there is nothing to do any more, as if the grace period were over.
///
/// The log, one for all processes, is written by single appends. Of addresses: `grant TIME NODE HANDLE ADDRESS` when the assignment has
/// returned, `giving TIME NODE HANDLE ADDRESS` before the release begins, `gone TIME NODE HANDLE` when it has ended, `lost TIME NODE
/// HANDLE` when a new life does not know what became of a handle and will not use it. Of steps: `step NAME MOMENT`, and `death NAME
/// MOMENT` before the kill. `done NODE ROUND`.
import AddressAssignment
import AddressPlans
import Addresses
import Datastore
import Datastores
import Glibc
import JSON
import Names
import Resources
import Sockets
import Synchronization

@main
struct AddressProbe {
  static func main() async throws {
    let words = CommandLine.arguments
    let store = try DatastoreChoice(option: words[2], environment: { _ in nil }).open(creating: true) { _ in }
    switch words[1] {
    case "prepare": try await prepare(store, nodes: Int(words[3])!)
    case "run":
      let life = Life(
        store: store, node: words[3], rounds: Int(words[4])!, seed: UInt64(words[5])!, log: words[6], deaths: UInt64(words[7])!)
      try await life.run()
    case "repair":
      let life = Life(store: store, node: "repairer", rounds: 0, seed: UInt64(words[4])!, log: words[5], deaths: UInt64(words[6])!)
      try await repair(store, grace: Int64(words[3])!, life)
    case "settle":
      let life = Life(store: store, node: "repairer", rounds: 0, seed: UInt64(words[3])!, log: words[4], deaths: UInt64(words[5])!)
      try await settle(store, life)
    default: fatalError("unknown verb \(words[1])")
    }
    await store.close()
  }

  static func prepare(_ store: any Datastore, nodes: Int) async throws {
    let objects = ResourceStore(store)
    for (name, cidr, size) in [("four", "10.65.0.0/24", UInt8(29)), ("six", "fd65::/112", 124)] {
      _ = try await objects.create(Resource(Metadata(name: name), .ipPool(IPPoolSpec(cidr: IPPrefix(cidr)!, blockSize: size))))
    }
    for number in 0..<nodes { _ = try await objects.create(Resource(Metadata(name: "node\(number)"), .node(NodeSpec()))) }
  }

  static func repair(_ store: any Datastore, grace: Int64, _ life: Life) async throws {
    // A signal is not needed: the parent closes our input.
    let ended = Mutex(false)
    Task.detached {
      while readLine() != nil {}
      ended.withLock { $0 = true }
    }
    var repairer = AddressRepairer(store, onStep: life.onStep)
    while !ended.withLock({ $0 }) {
      let report = try await repairer.look(.init(grace: .seconds(grace)))
      for action in report.done { life.write("repaired \(action)") }
      for (action, why) in report.failed { life.write("failed \(action): \(why)") }
      try await Task.sleep(for: .milliseconds(500))
    }
  }

  static func settle(_ store: any Datastore, _ life: Life) async throws {
    let clock = Mutex(UTCTime.now().unixSeconds)
    var repairer = AddressRepairer(store, now: { UTCTime(unixSeconds: clock.withLock { $0 }) }, onStep: life.onStep)
    var quiet = 0
    while quiet < 4 {
      let report = try await repairer.look()
      for action in report.done { life.write("settled \(action)") }
      for (action, why) in report.failed { life.write("failed \(action): \(why)") }
      quiet = report.done.isEmpty && report.coldCount == 0 ? quiet + 1 : 0
      clock.withLock { $0 += 1300 }
    }
  }
}

/// One life of one process.
final class Life: Sendable {
  private struct State {
    var random: UInt64
    /// Handles that are attached: their addresses.
    var attached: [String: [IPAddress]] = [:]
    /// Handles whose detachment a life before this one did not end.
    var leaving: Set<String> = []
    var round = 0
    var handles = 0
  }
  private let store: any Datastore
  private let node: String
  private let rounds: Int
  private let deaths: UInt64
  private let log: OwnedDescriptor
  private let state: Mutex<State>

  init(store: any Datastore, node: String, rounds: Int, seed: UInt64, log path: String, deaths: UInt64) {
    (self.store, self.node, self.rounds, self.deaths) = (store, node, rounds, deaths)
    log = OwnedDescriptor(owning: open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0o644))
    state = Mutex(State(random: seed))
    recall(path)
  }

  /// What the lives before this one wrote.
  private func recall(_ path: String) {
    guard let text = try? Files.readText(path) else { return }
    state.withLock { state in
      for line in text.split(separator: "\n") {
        let words = line.split(separator: " ")
        switch words.first {
        case "grant" where words.count == 5 && words[2] == node: state.attached[String(words[3]), default: []].append(IPAddress(words[4])!)
        case "giving" where words.count == 5 && words[2] == node:
          state.attached[String(words[3])] = nil
          state.leaving.insert(String(words[3]))
        case "gone" where words.count == 4 && words[2] == node: state.leaving.remove(String(words[3]))
        case "lost" where words.count == 4 && words[2] == node: state.attached[String(words[3])] = nil
        case "done" where words.count == 3 && words[1] == node: state.round = Int(words[2])! + 1
        default: break
        }
        if words.count >= 4, words[2] == node { state.handles += 1 }
      }
    }
  }

  func write(_ line: String) { try? Files.write(Array("\(line)\n".utf8), descriptor: log.borrowed, name: "log") }
  private var time: Int64 { MonotonicInstant.now.nanoseconds }
  private func random(_ below: UInt64) -> UInt64 {
    state.withLock { state in
      state.random = state.random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state.random >> 33) % below
    }
  }
  private static let seldom: Set<String> = ["reclaim", "finish-affinity", "heal-handle", "give-up", "drop-affinity"]
  private func step(_ name: String, _ moment: String) {
    // Steps that are seldom taken are deadlier, so that each has its deaths.
    let chance = Self.seldom.contains(name) ? max(2, deaths / 8) : deaths
    guard deaths > 0, random(chance) == 0 else { return write("step \(name) \(moment)") }
    write("death \(name) \(moment)")
    kill(getpid(), SIGKILL)
  }
  private func endpoint(_ handle: String) -> String {
    ResourceKey(.workloadEndpoint, namespace: "shop", name: "\(node)-k8s-\(handle)-eth0").path
  }

  var onStep: AddressStepHook { { [self] step, moment in self.step(step.rawValue, moment.rawValue) } }

  func run() async throws {
    let desk = AddressDesk(store, node: node)
    let following = Task { await desk.run() }
    defer { following.cancel() }
    // The last one's clock runs ahead: to it others' empty blocks are old enough to be taken over.
    let books = [
      AddressBook(datastore: store, owner: .host(node), desk: desk, onStep: onStep),
      AddressBook(datastore: store, owner: .host(node), onStep: onStep),
      AddressBook(
        datastore: store, owner: .host(node), now: { UTCTime(unixSeconds: UTCTime.now().unixSeconds + 300) }, onStep: onStep),
    ]
    // What was granted and has no endpoint was attached by a life that ended in between: nobody uses it.
    for handle in state.withLock({ $0.attached.keys.sorted() }) where try await store.get(endpoint(handle)) == nil {
      write("lost \(time) \(node) \(handle)")
      state.withLock { $0.attached[handle] = nil }
    }
    // A runtime repeats its DEL until it has an answer.
    for handle in state.withLock({ $0.leaving.sorted() }) { try await leave(handle, books[0]) }
    while state.withLock({ $0.round }) < rounds {
      let book = books[Int(random(3))]
      if random(8) == 0 { try await leaveHalf() }
      if random(24) == 0 { _ = try await book.releaseAffinities(in: IPPrefix("10.65.0.0/24")!, onlyIfEmpty: true) }
      let attached = state.withLock { $0.attached.keys.sorted() }
      // Now and then a node is emptied: its blocks can be taken over.
      if random(40) == 0 { for handle in attached { try await detach(handle, book) } }
      let left = state.withLock { $0.attached.keys.sorted() }
      // Nearly everything is asked for, so that nodes borrow, and take over what others left.
      if left.count >= 13 || (!left.isEmpty && random(4) == 0) {
        try await detach(left[Int(random(UInt64(left.count)))], book)
      } else {
        try await attach(book)
      }
      write("done \(node) \(state.withLock { $0.round })")
      state.withLock { $0.round += 1 }
    }
  }

  /// What Calico's steps would leave if it died between them.
  private func leaveHalf() async throws {
    let cidr = IPPrefix(IPAddress("10.65.0.\(random(256))")!, length: 29)
    let key = AddressKeys.affinity(node: node, cidr)
    let pending = Array(#"{"state":"pending","deleted":false}"#.utf8)
    _ = try await store.transact(if: [.absent(key)], then: [.put(key, pending)])
    // A count of a block that is not there, under a handle that the next detachment releases by its addresses.
    let ghost = "\(node)-ghost"
    let count = Array(#"{"block":{"\#(cidr)":1},"deleted":false}"#.utf8)
    _ = try await store.transact(if: [.absent(AddressKeys.handle(ghost))], then: [.put(AddressKeys.handle(ghost), count)])
    if random(2) == 0 { try await AddressBook(datastore: store, owner: .host(node), onStep: onStep).release(handle: ghost) }
  }

  private func attach(_ book: AddressBook) async throws {
    let number = state.withLock { state in
      state.handles += 1
      return state.handles
    }
    let handle = "\(node)-\(number)-\(getpid())"
    let attributes = ["node": node, "namespace": "shop", "pod": handle]
    var given: [IPAddress] = []
    do {
      switch random(8) {
      case 0:
        // Any address of the pool by its name, if it is free.
        let wanted = IPAddress("10.65.0.\(random(256))")!
        do throws(AddressBookError) {
          try await book.assign(wanted, handle: handle, attributes: attributes)
          given = [wanted]
        } catch {
          if case .taken = error { return }
          throw error
        }
      case 1...3: given = try await book.assign([.v4: .init(), .v6: .init()], handle: handle, attributes: attributes)
      default: given = [try await book.assign(.v4, handle: handle, attributes: attributes)]
      }
    } catch let error as AddressBookError {
      switch error {
      case .exhausted, .contention: return write("refused \(node) \(error)")
      default: throw error
      }
    }
    for address in given { write("grant \(time) \(node) \(handle) \(address)") }
    step("endpoint", "before")
    let networks = given.map { JSONValue.string("\($0)/\($0.family.bits)") }
    let document: JSONValue = [
      "metadata": ["name": .string("\(node)-k8s-\(handle)-eth0"), "namespace": "shop"],
      "spec": ["node": .string(node), "ipNetworks": .array(networks)],
    ]
    _ = try await store.transact(if: [], then: [.put(endpoint(handle), document.bytes)])
    state.withLock { $0.attached[handle] = given }
    step("endpoint", "after")
  }

  private func detach(_ handle: String, _ book: AddressBook) async throws {
    for address in state.withLock({ $0.attached[handle] ?? [] }) { write("giving \(time) \(node) \(handle) \(address)") }
    state.withLock { $0.attached[handle] = nil }
    try await leave(handle, book)
  }

  private func leave(_ handle: String, _ book: AddressBook) async throws {
    step("detach", "before")
    _ = try await store.transact(if: [], then: [.delete(endpoint(handle))])
    step("detach", "after")
    // Now and then the release is forgotten: a leak.
    if random(16) > 0 { try await book.release(handle: handle) }
    write("gone \(time) \(node) \(handle)")
  }
}

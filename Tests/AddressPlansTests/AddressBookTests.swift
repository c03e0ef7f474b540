/// The address book on a datastore: no address twice, whoever runs at once and wherever somebody stopped.
import Addresses
import Datastore
import DatastoreMemory
import DatastoreSQLite
import JSON
import Names
import Resources
import Sockets
import Synchronization
import Testing

@testable import AddressAssignment
@testable import AddressPlans

/// A datastore that counts transactions, and fails the one it is told to fail, before or after it was carried out.
final class CountingDatastore: Datastore {
  enum Failure { case before, after }
  private let base: any Datastore
  private let state = Mutex((count: 0, failAt: Int?.none, failure: Failure.before))
  private let readCount = Mutex(0)
  init(_ base: any Datastore) { self.base = base }
  var name: String { base.name }
  var transactions: Int { state.withLock { $0.count } }
  func fail(_ failure: Failure, at number: Int) { state.withLock { $0 = (0, number, failure) } }
  var reads: Int { readCount.withLock { $0 } }
  func get(_ key: String) async throws(DatastoreError) -> KeyValue? {
    readCount.withLock { $0 += 1 }
    return try await base.get(key)
  }
  func list(prefix: String) async throws(DatastoreError) -> (items: [KeyValue], revision: Revision) {
    readCount.withLock { $0 += 1 }
    return try await base.list(prefix: prefix)
  }
  func transact(if comparisons: [Comparison], then operations: [DatastoreOperation]) async throws(DatastoreError) -> TransactionResult {
    let failure = state.withLock { state -> Failure? in
      state.count += 1
      return state.failAt == state.count ? state.failure : nil
    }
    if failure == .before { throw .unavailable("stopped before") }
    let result = try await base.transact(if: comparisons, then: operations)
    if failure == .after { throw .unavailable("stopped after") }
    return result
  }
  func watch(prefixes: [String], after revision: Revision) -> AsyncThrowingStream<WatchBatch, any Error> {
    base.watch(prefixes: prefixes, after: revision)
  }
  func grantLease(seconds: Int) async throws(DatastoreError) -> LeaseID { try await base.grantLease(seconds: seconds) }
  func keepAlive(_ lease: LeaseID) async throws(DatastoreError) { try await base.keepAlive(lease) }
  func revoke(_ lease: LeaseID) async throws(DatastoreError) { try await base.revoke(lease) }
  func compact(upTo revision: Revision) async throws(DatastoreError) { try await base.compact(upTo: revision) }
  func close() async { await base.close() }
}

/// Every address held in blocks, by handle; checks that handles count what blocks hold, and that affinities and owners agree.
func audit(_ datastore: any Datastore) async throws -> [String: [IPAddress]] {
  var held: [String: [IPAddress]] = [:]
  var counted: [String: [String: Int64]] = [:]
  for family in IPFamily.allCases {
    var covered: [IPPrefix] = []
    for item in try await datastore.list(prefix: AddressKeys.blocks(family)).items {
      let block = try AllocationBlock(parsing: JSONValue(parsing: item.value))
      #expect(AddressKeys.block(block.cidr) == item.key)
      #expect(!covered.contains { $0.overlaps(block.cidr) }, "blocks overlap at \(block.cidr)")
      covered.append(block.cidr)
      for (ordinal, index) in block.allocations.enumerated() {
        guard let index, let handle = block.attributes[index].handleID else { continue }
        for handle in [handle, block.attributes[index].alternate?.handleID].compactMap({ $0 }) {
          held[handle, default: []].append(block.address(ordinal))
          counted[handle, default: [:]][block.cidr.description, default: 0] += 1
        }
      }
      if let owner = block.affinity {
        let affinity = try await datastore.get(AddressKeys.affinity(node: String(owner.dropFirst(5)), block.cidr))
        #expect(affinity.map { AddressKeys.isConfirmed(affinity: $0.value) } == true, "\(block.cidr) of \(owner)")
      }
    }
  }
  for item in try await datastore.list(prefix: "/calico/ipam/v2/handle/").items {
    let handle = KeyPart.unescape(item.key.dropFirst("/calico/ipam/v2/handle/".count))
    let stored = try JSONValue(parsing: item.value)["block"]?.object?.members.map { ($0.name, $0.value.integer ?? -1) } ?? []
    #expect(Dictionary(uniqueKeysWithValues: stored) == counted[handle] ?? [:], "the counts of \(handle)")
    counted[handle] = nil
  }
  #expect(counted.isEmpty, "holders without a handle record: \(counted.keys)")
  return held
}

@Suite("AddressBook")
struct AddressBookTests {
  let datastore: CountingDatastore
  init() { datastore = CountingDatastore(MemoryDatastore()) }

  private func book(_ node: String = "node1") -> AddressBook { AddressBook(datastore: datastore, node: node) }
  private func bookLater(_ node: String, seconds: Int64) -> AddressBook {
    AddressBook(datastore: datastore, node: node, now: { UTCTime(unixSeconds: UTCTime.now().unixSeconds + seconds) })
  }
  private func addPool(_ name: String, _ cidr: String, blockSize: UInt8? = nil) async throws {
    let spec = IPPoolSpec(cidr: IPPrefix(cidr)!, blockSize: blockSize)
    _ = try await ResourceStore(datastore).create(Resource(Metadata(name: name), .ipPool(spec)))
  }
  private func put(_ key: String, _ text: String) async throws {
    _ = try await datastore.transact(if: [], then: [.put(key, Array(text.utf8))])
  }
  private func text(_ key: String) async throws -> String? {
    try await datastore.get(key).map { String(decoding: $0.value, as: UTF8.self) }
  }
  private func keys(_ prefix: String) async throws -> [String] {
    try await datastore.list(prefix: prefix).items.map { String($0.key.dropFirst(prefix.count)) }
  }
  private func address(_ text: String) -> IPAddress { IPAddress(text)! }
  private func message(_ body: () async throws -> Void) async -> String {
    do {
      try await body()
      return ""
    } catch {
      return "\(error)"
    }
  }

  private func audit() async throws -> [String: [IPAddress]] { try await AddressPlansTests.audit(datastore) }

  @Test("The first address claims a block; all records are Calico's, and one transaction wrote them")
  func firstAddress() async throws {
    try await addPool("pool", "10.65.0.0/24")
    let before = datastore.transactions
    let given = try await book().assign(.v4, handle: "k8s-pod-network.c1", attributes: ["pod": "web-1", "namespace": "default"])
    #expect(datastore.transactions == before + 1)
    let blocks = try await keys("/calico/ipam/v2/assignment/ipv4/block/")
    #expect(blocks.count == 1)
    #expect(try await keys("/calico/ipam/v2/host/node1/ipv4/block/") == blocks)
    #expect(try await text("/calico/ipam/v2/host/node1/ipv4/block/\(blocks[0])") == #"{"state":"confirmed","deleted":false}"#)
    let cidr = blocks[0].split(separator: "-").joined(separator: "/")
    #expect(try await text("/calico/ipam/v2/handle/k8s-pod-network.c1") == #"{"block":{"\#(cidr)":1},"deleted":false}"#)
    #expect(try await audit() == ["k8s-pod-network.c1": [given]])
    #expect(try await book().addresses(heldBy: "k8s-pod-network.c1") == [given])
  }

  @Test("The next attachments cost one transaction each, and take the block's addresses in order")
  func furtherAddresses() async throws {
    try await addPool("pool", "10.65.0.0/26")
    let before = datastore.transactions
    var given: [String] = []
    for index in 0..<10 { given.append("\(try await book().assign(.v4, handle: "h\(index)"))") }
    #expect(given == (0..<10).map { "10.65.0.\($0)" })
    #expect(datastore.transactions == before + 10)
  }

  @Test("Dual stack: both families of one handle")
  func dualStack() async throws {
    try await addPool("four", "10.65.0.0/24")
    try await addPool("six", "fd65::/112")
    let assignment = try await book().autoAssign(v4: 2, v6: 3, handle: "h")
    #expect(assignment.v4.count == 2 && assignment.v6.count == 3 && assignment.messages.isEmpty)
    #expect(assignment.v6.allSatisfy { IPPrefix("fd65::/112")!.contains($0) })
    #expect(try await book().addresses(heldBy: "h") == (assignment.v4 + assignment.v6).sorted())
    #expect(try await book().release(handle: "h").count == 5)
    #expect(try await audit() == [:])
  }

  @Test("Concurrent allocators of several nodes never hand out an address twice, until the pool is empty")
  func concurrency() async throws {
    try await addPool("pool", "10.65.0.0/24", blockSize: 28)
    let given = try await withThrowingTaskGroup(of: IPAddress?.self) { group in
      for index in 0..<300 {
        group.addTask {
          do {
            return try await book("node\(index % 6)").assign(.v4, handle: "h\(index)")
          } catch AddressBookError.exhausted {
            return nil
          }
        }
      }
      return try await group.reduce(into: [IPAddress]()) { if let address = $1 { $0.append(address) } }
    }
    #expect(given.count == 256 && Set(given).count == 256)
    #expect(try await audit().values.map(\.count).reduce(0, +) == 256)
  }

  @Test("Assigning and releasing at once leaves the records in agreement", arguments: [UInt64(1), 2, 3])
  func churn(seed: UInt64) async throws {
    try await addPool("pool", "10.65.0.0/25", blockSize: 29)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for worker in 0..<8 {
        group.addTask {
          for round in 0..<12 {
            let handle = "h\(worker)-\((UInt64(round) &* seed) % 4)"
            let book = book("node\((worker + round) % 3)")
            if (UInt64(round) &* seed &+ UInt64(worker)) % 3 == 2 {
              try await book.release(handle: handle)
            } else {
              _ = try await book.autoAssign(v4: 1 + round % 3, handle: handle)
            }
          }
        }
      }
      try await group.waitForAll()
    }
    let held = try await audit()
    #expect(Set(held.values.joined()).count == held.values.map(\.count).reduce(0, +))
    for handle in held.keys { try await book().release(handle: handle) }
    #expect(try await audit() == [:])
    #expect(try await keys("/calico/ipam/v2/handle/") == [])
  }

  @Test("Stopped before or after any write, an attachment holds nothing or all of it, and its release cleans up")
  func crashes() async throws {
    try await addPool("pool", "10.65.0.0/24", blockSize: 29)
    for (index, failure) in [CountingDatastore.Failure.before, .after].enumerated() {
      let handle = "h\(index)"
      datastore.fail(failure, at: 1)
      await #expect(throws: AddressBookError.self) { try await book().assign(.v4, handle: handle) }
      #expect(try await audit()[handle]?.count == (failure == .before ? nil : 1))
      datastore.fail(failure, at: 1)
      if failure == .after { await #expect(throws: AddressBookError.self) { try await book().release(handle: handle) } }
      datastore.fail(.before, at: -1)
      try await book().release(handle: handle)
      #expect(try await audit()[handle] == nil)
    }
  }

  @Test("What Calico's steps leave half-way is taken up: a pending affinity without block, and one with it")
  func pendingAffinity() async throws {
    try await addPool("pool", "10.65.0.0/24")
    try await put("/calico/ipam/v2/host/node1/ipv4/block/10.65.0.64-26", #"{"state":"pending","deleted":false}"#)
    #expect(try await book().assign(.v4, handle: "a") == address("10.65.0.64"))
    #expect(try await text("/calico/ipam/v2/host/node1/ipv4/block/10.65.0.64-26")?.contains("confirmed") == true)
    // Block written, affinity still pending.
    try await put("/calico/ipam/v2/host/node1/ipv4/block/10.65.0.64-26", #"{"state":"pending","deleted":false}"#)
    #expect(try await book().assign(.v4, handle: "b") == address("10.65.0.65"))
    #expect(try await audit().count == 2)
  }

  @Test("A pending affinity for a block that another node won is dropped")
  func lostAffinity() async throws {
    try await addPool("pool", "10.65.0.0/26")
    let first = try await book("node2").assign(.v4, handle: "a")
    try await put("/calico/ipam/v2/host/node1/ipv4/block/10.65.0.0-26", #"{"state":"pending","deleted":false}"#)
    #expect(try await book("node1").assign(.v4, handle: "b") != first)
    #expect(try await keys("/calico/ipam/v2/host/node1/ipv4/block/") == [])
  }

  @Test("A handle counted for addresses that no block holds is healed by its release")
  func countedHandle() async throws {
    try await addPool("pool", "10.65.0.0/24")
    let given = try await book().assign(.v4, handle: "h")
    let cidr = try await keys("/calico/ipam/v2/assignment/ipv4/block/")[0].split(separator: "-").joined(separator: "/")
    try await put("/calico/ipam/v2/handle/h", #"{"block":{"\#(cidr)":3,"10.99.0.0/26":1},"deleted":false}"#)
    #expect(try await book().release(handle: "h") == [given])
    #expect(try await text("/calico/ipam/v2/handle/h") == nil)
    // Nothing held at all, only counted.
    try await put("/calico/ipam/v2/handle/h", #"{"block":{"\#(cidr)":1},"deleted":false}"#)
    #expect(try await book().release(handle: "h") == [])
    #expect(try await text("/calico/ipam/v2/handle/h") == nil)
  }

  @Test("Exhaustion says of which pools, and why no block could be had")
  func exhaustion() async throws {
    #expect(await message { _ = try await book().assign(.v4, handle: "h") }.contains("no enabled IPv4 pool selects node node1"))
    try await addPool("pool", "10.65.0.0/30", blockSize: 30)
    for index in 0..<4 { _ = try await book().assign(.v4, handle: "h\(index)") }
    #expect(await message { _ = try await book().assign(.v4, handle: "h") }.contains("10.65.0.0/30"))
    #expect(await message { _ = try await book().assign(.v4, handle: "h", pools: ["other"]) }.contains("other"))
    let partial = try await book().autoAssign(v4: 2, v6: 1, handle: "h")
    #expect(partial.v4.isEmpty && partial.messages.count == 2 && partial.messages[0].hasPrefix("0 of 2 IPv4 addresses"))
    try await book().release(handle: "h1")
    #expect(try await book().autoAssign(v4: 2, handle: "h").v4 == [address("10.65.0.1")])
  }

  @Test("Without a free block a node borrows, unless affinity is strict")
  func borrowing() async throws {
    try await addPool("pool", "10.65.0.0/29", blockSize: 29)
    _ = try await book("node1").assign(.v4, handle: "a")
    let borrowed = try await book("node2").assign(.v4, handle: "b")
    #expect(borrowed == address("10.65.0.1"))
    #expect(try await keys("/calico/ipam/v2/host/node2/ipv4/block/") == [])
    try await put("/calico/ipam/v2/config", #"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":0}"#)
    #expect(await message { _ = try await book("node2").assign(.v4, handle: "c") }.contains("strict affinity"))
    #expect(await message { try await book("node2").assign(address("10.65.0.5"), handle: "c") }.contains("strict affinity"))
    _ = try await book("node1").assign(.v4, handle: "c")
    #expect(try await book("node2").release(handle: "b") == [borrowed])
  }

  @Test("The limit of blocks per node holds, and so does the ban of new blocks")
  func blockLimit() async throws {
    try await addPool("pool", "10.65.0.0/24", blockSize: 30)
    try await put("/calico/ipam/v2/config", #"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":2}"#)
    let assignment = try await book().autoAssign(v4: 12, handle: "h")
    #expect(assignment.v4.count == 8 && assignment.messages.first?.contains("2 blocks") == true)
    try await put("/calico/ipam/v2/config", #"{"strict_affinity":false,"auto_allocate_blocks":false}"#)
    #expect(try await book("node2").autoAssign(v4: 1, handle: "i").v4.isEmpty)
    #expect(try await keys("/calico/ipam/v2/assignment/ipv4/block/").count == 2)
  }

  @Test("An empty block of another node is taken over when it is old enough, and only then")
  func reclaim() async throws {
    try await addPool("pool", "10.65.0.0/29", blockSize: 29)
    try await put("/calico/ipam/v2/config", #"{"strict_affinity":true,"auto_allocate_blocks":true}"#)
    _ = try await book("node1").assign(.v4, handle: "a")
    #expect(try await bookLater("node2", seconds: 100).autoAssign(v4: 1, handle: "b").v4.isEmpty, "the block is in use")
    try await book("node1").release(handle: "a")
    #expect(try await bookLater("node2", seconds: 30).autoAssign(v4: 1, handle: "b").v4.isEmpty, "the claim is young")
    #expect(try await bookLater("node2", seconds: 100).autoAssign(v4: 1, handle: "b").v4.count == 1)
    #expect(try await keys("/calico/ipam/v2/host/node1/ipv4/block/") == [])
    #expect(try await keys("/calico/ipam/v2/host/node2/ipv4/block/") == ["10.65.0.0-29"])
    #expect(try await audit().keys.sorted() == ["b"])
  }

  @Test("Blocks of another size from an earlier pool are never overlapped")
  func foreignBlocks() async throws {
    try await addPool("old", "10.65.0.0/24", blockSize: 28)
    _ = try await book("node2").autoAssign(v4: 20, handle: "old")
    // As older programs do it: ours would refuse both.
    let (old, new) = (ResourceKey(.ipPool, name: "old").path, ResourceKey(.ipPool, name: "new").path)
    _ = try await datastore.transact(if: [], then: [.delete(old)])
    try await put(new, #"{"kind":"IPPool","metadata":{"name":"new"},"spec":{"cidr":"10.65.0.0/24","blockSize":26}}"#)
    for index in 0..<40 { _ = try await book("node\(index % 3)").autoAssign(v4: 2, handle: "n\(index)") }
    let held = try await audit()
    #expect(Set(held.values.joined()).count == held.values.map(\.count).reduce(0, +))
  }

  @Test("Reserved addresses are given only by name")
  func reservations() async throws {
    try await addPool("pool", "10.65.0.0/29", blockSize: 29)
    try await put(
      "/calico/resources/v3/projectcalico.org/ipreservations/r",
      #"{"metadata":{"name":"r"},"spec":{"reservedCIDRs":["10.65.0.0/31","10.65.0.5"]}}"#)
    let given = try await book().autoAssign(v4: 8, handle: "h").v4
    #expect(given.map(\.description) == ["10.65.0.2", "10.65.0.3", "10.65.0.4", "10.65.0.6", "10.65.0.7"])
    try await book().assign(address("10.65.0.5"), handle: "i")
    #expect(try await book().addresses(heldBy: "i") == [address("10.65.0.5")])
  }

  @Test("A given address is assigned once; outside of pools not at all")
  func exact() async throws {
    try await addPool("pool", "10.65.0.0/24")
    try await book().assign(address("10.65.0.200"), handle: "a", attributes: ["pod": "x"])
    #expect(await message { try await book("node2").assign(address("10.65.0.200"), handle: "b") } == "10.65.0.200 is taken by a")
    #expect(await message { try await book().assign(address("10.66.0.1"), handle: "b") } == "10.66.0.1 is in no enabled pool")
    #expect(try await audit() == ["a": [address("10.65.0.200")]])
  }

  @Test("Addresses are released by themselves, checked against the handle, and rest at the tail")
  func releaseByAddress() async throws {
    try await addPool("pool", "10.65.0.0/29", blockSize: 29)
    _ = try await book().autoAssign(v4: 2, handle: "a")
    _ = try await book().autoAssign(v4: 2, handle: "b")
    let both = [address("10.65.0.0"), address("10.65.0.2")]
    #expect(try await book().release(both, handle: "b") == [address("10.65.0.2")])
    #expect(try await book().release(both + [address("10.65.0.7"), address("10.99.0.1")]) == [address("10.65.0.0")])
    #expect(try await audit() == ["a": [address("10.65.0.1")], "b": [address("10.65.0.3")]])
    let rest = try await book().autoAssign(v4: 6, handle: "c").v4
    #expect(rest.map(\.description) == ["10.65.0.4", "10.65.0.5", "10.65.0.6", "10.65.0.7", "10.65.0.2", "10.65.0.0"])
  }

  @Test("A block that cannot be read is an error that names its key, and no address is guessed")
  func damagedBlock() async throws {
    try await addPool("pool", "10.65.0.0/26")
    try await put("/calico/ipam/v2/host/node1/ipv4/block/10.65.0.0-26", "")
    try await put("/calico/ipam/v2/assignment/ipv4/block/10.65.0.0-26", #"{"cidr":"10.65.0.0/26"}"#)
    #expect(await message { _ = try await book().assign(.v4, handle: "h") }.contains("block/10.65.0.0-26"))
  }
}

@Suite("AddressBook on SQLite")
struct AddressBookOnSQLiteTests {
  @Test("Allocators in several handles on one file never hand out an address twice")
  func handles() async throws {
    let folder = try Files.makeTemporaryDirectory(prefix: "margay-addresses-")
    defer { try? Files.removeTree(folder) }
    let stores = try (0..<3).map { _ in try SQLiteDatastore(path: folder + "/store.db") }
    let pool = IPPoolSpec(cidr: IPPrefix("10.65.0.0/24")!, blockSize: 28)
    _ = try await ResourceStore(stores[0]).create(Resource(Metadata(name: "pool"), .ipPool(pool)))
    let start = MonotonicInstant.now
    let given = try await withThrowingTaskGroup(of: [IPAddress].self) { group in
      for (index, store) in stores.enumerated() {
        group.addTask {
          let book = AddressBook(datastore: store, node: "node\(index)")
          var given: [IPAddress] = []
          for round in 0..<80 { given.append(try await book.assign(.v4, handle: "h\(index)-\(round)", attributes: ["pod": "p\(round)"])) }
          return given
        }
      }
      return try await group.reduce(into: []) { $0 += $1 }
    }
    print("240 assignments through three handles on one SQLite file: \(MonotonicInstant.now - start)")
    #expect(given.count == 240 && Set(given).count == 240)
    #expect(Set(try await audit(stores[1]).values.joined()) == Set(given))
    for store in stores { await store.close() }
  }
}

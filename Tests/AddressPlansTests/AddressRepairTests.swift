/// What is wrong with the records of addresses, and what is put right when.
import Addresses
import Datastore
import DatastoreMemory
import JSON
import Names
import Resources
import Testing

@testable import AddressAssignment
@testable import AddressPlans

@Suite("Repair of addresses")
struct AddressRepairTests {
  let datastore = CountingDatastore(MemoryDatastore())
  let clock = StandingClock()
  static let grace: Int64 = 900

  private func book(_ node: String = "a") -> AddressBook { AddressBook(datastore: datastore, owner: .host(node), now: { [clock] in clock.now }) }
  private func repairer() -> AddressRepairer { AddressRepairer(datastore, now: { [clock] in clock.now }) }
  private func put(_ key: String, _ text: String) async throws {
    _ = try await datastore.transact(if: [], then: [.put(key, Array(text.utf8))])
  }
  private func cluster(_ nodes: [String] = ["a", "b"], blockSize: UInt8 = 28) async throws {
    let store = ResourceStore(datastore)
    _ = try await store.create(Resource(Metadata(name: "pool"), .ipPool(IPPoolSpec(cidr: IPPrefix("10.65.0.0/24")!, blockSize: blockSize))))
    for node in nodes { _ = try await store.create(Resource(Metadata(name: node), .node(NodeSpec()))) }
  }
  private func removeNode(_ name: String) async throws {
    try await ResourceStore(datastore).delete(ResourceKey(.node, name: name))
  }
  @discardableResult
  private func pod(_ name: String, _ node: String = "a", hasEndpoint: Bool = true) async throws -> IPAddress {
    let address = try await book(node).assign(.v4, handle: "net.\(name)", attributes: ["node": node, "namespace": "shop", "pod": name])
    if hasEndpoint { try await endpoint(name, node, [address]) }
    return address
  }
  private func endpoint(_ pod: String, _ node: String, _ addresses: [IPAddress]) async throws {
    let key = ResourceKey(.workloadEndpoint, namespace: "shop", name: "\(node)-k8s-\(pod)-eth0")
    let networks = addresses.map { "\"\($0)/\($0.family.bits)\"" }.joined(separator: ",")
    try await put(key.path, #"{"metadata":{"name":"\#(key.name)","namespace":"shop"},"spec":{"node":"\#(node)","ipNetworks":[\#(networks)]}}"#)
  }
  private func findings() async throws -> AddressFindings { AddressFindings(try await AddressCensus.read(datastore)) }
  private func texts(_ report: RepairReport) -> [String] { report.done.map(\.description) }

  @Test("An address without an endpoint is released after the grace period, in the second look at the earliest; one in use never")
  func leak() async throws {
    try await cluster()
    let used = try await pod("used")
    let leaked = try await pod("leaked", hasEndpoint: false)
    #expect(try await findings().leaked.map(\.address) == [leaked])
    var repairer = repairer()
    #expect(try await repairer.look().done.isEmpty)
    clock.advance(Self.grace - 1)
    #expect(try await repairer.look().done.isEmpty)
    clock.advance(1)
    let report = try await repairer.look()
    #expect(report.done.count == 1 && texts(report)[0].hasPrefix("release \(leaked) of net.leaked"))
    #expect(try await audit(datastore) == ["net.used": [used]])
    #expect(try await findings().problemCount == 0)
    // Another process that begins to look has seen nothing yet.
    let again = try await pod("again", hasEndpoint: false)
    clock.advance(10 * Self.grace)
    var fresh = self.repairer()
    #expect(try await fresh.look().done.isEmpty)
    #expect(try await book().addresses(heldBy: "net.again") == [again])
  }

  @Test("An endpoint that comes within the grace period ends the suspicion; a leak afterwards begins anew")
  func lateEndpoint() async throws {
    try await cluster()
    let address = try await pod("slow", hasEndpoint: false)
    var repairer = repairer()
    #expect(try await repairer.look().suspectCount == 1)
    clock.advance(600)
    try await endpoint("slow", "a", [address])
    #expect(try await repairer.look().suspectCount == 0)
    try await ResourceStore(datastore).delete(ResourceKey(.workloadEndpoint, namespace: "shop", name: "a-k8s-slow-eth0"))
    clock.advance(600)
    #expect(try await repairer.look().done.isEmpty)
    clock.advance(600)
    #expect(try await repairer.look().done.isEmpty)
    #expect(try await book().addresses(heldBy: "net.slow") == [address])
  }

  @Test("Released and assigned anew between two looks, it is another assignment: its time begins anew")
  func assignedAnew() async throws {
    try await cluster(blockSize: 32)
    let first = try await pod("x", hasEndpoint: false)
    var repairer = repairer()
    _ = try await repairer.look()
    clock.advance(Self.grace)
    try await book().release(handle: "net.x")
    try await book().assign(first, handle: "net.x", attributes: ["node": "a", "namespace": "shop", "pod": "x"])
    #expect(try await repairer.look().done.isEmpty)
    #expect(try await book().addresses(heldBy: "net.x") == [first])
  }

  @Test("All or none: a handle of which one address is in use has none that is leaked")
  func dualStack() async throws {
    try await cluster()
    _ = try await ResourceStore(datastore).create(Resource(Metadata(name: "six"), .ipPool(IPPoolSpec(cidr: IPPrefix("fd65::/112")!))))
    let both = try await book().assign([.v4: .init(), .v6: .init()], handle: "net.two", attributes: ["node": "a", "namespace": "shop", "pod": "two"])
    try await endpoint("two", "a", [both[0]])
    var repairer = repairer()
    for _ in 0..<3 {
      #expect(try await repairer.look().done.isEmpty)
      clock.advance(Self.grace)
    }
    #expect(try await findings().leaked.isEmpty)
  }

  @Test("What nobody says the use of is left alone: assigned by hand, for a load balancer, for another plugin's interface, for a tunnel")
  func unknown() async throws {
    try await cluster()
    _ = try await book().assign(.v4, handle: "by-hand", attributes: ["node": "a", "note": "printer"])
    _ = try await book().assign(.v4, handle: "bare")
    _ = try await book().assign(.v4, handle: "net.bridge", attributes: ["node": "a", "namespace": "shop", "pod": "p", "margay/endpoint": "none"])
    _ = try await book().tunnelAddress(.ipip)
    _ = try await AddressBook(datastore: datastore, owner: .loadBalancer).autoAssign(v4: 1, handle: "lb-1", attributes: ["node": "a", "namespace": "shop"])
    var repairer = repairer()
    for _ in 0..<3 {
      #expect(try await repairer.look().done.isEmpty)
      clock.advance(Self.grace)
    }
    // The node's own go with it, at once.
    try await removeNode("a")
    let words = texts(try await repairer.look())
    #expect(words.count { $0.hasPrefix("release") } == 2)
    #expect(words.contains { $0.contains("ipip-tunnel-addr-a") } && words.contains { $0.contains("net.bridge") })
  }

  @Test("A lost node's addresses are released at once, but for those in use; its blocks follow after two looks, with what others borrowed left to them")
  func lostNode() async throws {
    try await cluster()
    let gone = try await pod("gone", "b", hasEndpoint: false)
    let used = try await pod("used", "b")
    let borrowed = IPAddress("10.65.0.77")!
    try await book("b").assign(borrowed, handle: "tmp", attributes: ["node": "b"])
    try await book("b").release(handle: "tmp")
    try await book("a").assign(borrowed, handle: "net.guest", attributes: ["node": "a", "namespace": "shop", "pod": "guest"])
    try await endpoint("guest", "a", [borrowed])
    try await removeNode("b")
    var repairer = repairer()
    #expect(texts(try await repairer.look()) .contains { $0.hasPrefix("release \(gone)") })
    _ = try await repairer.look()
    #expect(try await book("b").addresses(heldBy: "net.used") == [used], "its endpoint is still there")
    let ofGuest = try #require(try await AddressCensus.read(datastore).blocks.first { $0.key.contains(borrowed) })
    if ofGuest.key != IPPrefix(used, length: 28) { #expect(ofGuest.value.block.affinity == nil) }
    try await ResourceStore(datastore).delete(ResourceKey(.workloadEndpoint, namespace: "shop", name: "b-k8s-used-eth0"))
    for _ in 0..<3 { _ = try await repairer.look() }
    #expect(try await audit(datastore) == ["net.guest": [borrowed]])
    #expect(try await datastore.list(prefix: AddressKeys.affinities(node: "b")).items.isEmpty)
    #expect(try await findings().problemCount == 0)
  }

  @Test("Empty blocks beyond a node's last one go after two looks that saw them unchanged")
  func emptyBlocks() async throws {
    try await cluster(blockSize: 30)
    for index in 0..<9 { _ = try await book().assign(.v4, handle: "h\(index)", attributes: ["node": "a"]) }
    #expect(try await datastore.list(prefix: AddressKeys.affinities(node: "a")).items.count == 3)
    for index in 0..<9 { try await book().release(handle: "h\(index)") }
    var repairer = repairer()
    #expect(try await repairer.look().done.isEmpty)
    // A block that was used in between is another one.
    let address = try await book().assign(.v4, handle: "short", attributes: ["node": "a"])
    try await book().release(handle: "short")
    _ = try await repairer.look()
    let kept = try await datastore.list(prefix: AddressKeys.affinities(node: "a")).items.compactMap { AddressKeys.cidr(ofKey: $0.key) }
    #expect(kept.contains(IPPrefix(address, length: 30)))
    for _ in 0..<4 { _ = try await repairer.look() }
    #expect(try await datastore.list(prefix: AddressKeys.affinities(node: "a")).items.count == 1)
    #expect(try await findings().problemCount == 0)
  }

  @Test("Handles that count what no block bears out, and holders without a record, are counted anew after the grace period")
  func handles() async throws {
    try await cluster()
    let address = try await pod("x")
    let cidr = IPPrefix(address, length: 28)
    try await put(AddressKeys.handle("ghost"), #"{"block":{"\#(cidr)":2,"10.99.0.0/28":1},"deleted":false}"#)
    try await put(AddressKeys.handle("net.x"), #"{"block":{"\#(cidr)":4},"deleted":false,"extra":7}"#)
    let other = try await pod("y")
    _ = try await datastore.transact(if: [], then: [.delete(AddressKeys.handle("net.y"))])
    #expect(try await findings().miscounted.map(\.handle).sorted() == ["ghost", "ghost", "net.x", "net.y"])
    var repairer = repairer()
    _ = try await repairer.look()
    // Blocks are busy meanwhile: that is no reason to wait longer.
    _ = try await pod("z")
    clock.advance(Self.grace)
    #expect(try await repairer.look().done.count == 3)
    #expect(try await datastore.get(AddressKeys.handle("ghost")) == nil)
    let healed = try await datastore.get(AddressKeys.handle("net.x")).map { String(decoding: $0.value, as: UTF8.self) }
    #expect(healed == #"{"block":{"\#(cidr)":1},"deleted":false,"extra":7}"#, "what is not understood stays")
    #expect(try await book().release(handle: "net.y") == [other])
    _ = try await audit(datastore)
  }

  @Test("Half-made affinities: without a block they go, of one's own block they are confirmed, of another's they go; a lost record is written")
  func affinities() async throws {
    try await cluster()
    let own = IPPrefix(try await pod("x"), length: 28)
    let others = IPPrefix(try await pod("y", "b"), length: 28)
    let pending = #"{"state":"pending","deleted":false}"#
    try await put(AddressKeys.affinity(node: "a", IPPrefix("10.65.0.240/28")!), pending)
    try await put(AddressKeys.affinity(node: "a", own), pending)
    try await put(AddressKeys.affinity(node: "a", others), pending)
    _ = try await datastore.transact(if: [], then: [.delete(AddressKeys.affinity(node: "b", others))])
    #expect(try await findings().affinities.count == 4)
    var repairer = repairer()
    #expect(try await repairer.look().done.isEmpty)
    clock.advance(Self.grace)
    #expect(try await repairer.look().done.count == 4)
    #expect(try await findings().problemCount == 0)
    _ = try await audit(datastore)
  }

  @Test("A release that somebody overtakes is none: the census is older than the record")
  func overtaken() async throws {
    try await cluster()
    let address = try await pod("x", hasEndpoint: false)
    let census = try await AddressCensus.read(datastore)
    var repair = AddressRepair()
    _ = repair.decide(census, at: clock.now)
    clock.advance(Self.grace)
    guard case .release(_, let handle, let sequence, let block)? = repair.decide(census, at: clock.now).first else {
      Issue.record("nothing is due")
      return
    }
    try await book().release(handle: "net.x")
    try await book().assign(address, handle: "net.x", attributes: ["node": "a", "namespace": "shop", "pod": "x"])
    #expect(try await book().release(in: block, handle: handle) { _ in [.init(address, sequence: sequence)] } == [])
    #expect(try await book().addresses(heldBy: "net.x") == [address])
  }

  @Test("A block that cannot be read is told, and nothing that may stand in it is taken for wrong")
  func unreadable() async throws {
    try await cluster()
    let cidr = IPPrefix(try await pod("x"), length: 28)
    try await put(AddressKeys.block(cidr), #"{"cidr":"\#(cidr)"}"#)
    var repairer = repairer()
    for _ in 0..<3 {
      #expect(try await repairer.look().done.isEmpty)
      clock.advance(Self.grace)
    }
    #expect(try await findings().unreadable.count == 1)
    #expect(try await datastore.get(AddressKeys.handle("net.x")) != nil)
  }

  @Test("What is in use and not assigned, or in use by two, is told; a workload on its way from one host to another is one")
  func users() async throws {
    try await cluster()
    let stray = IPAddress("10.65.0.200")!
    try await endpoint("stray", "a", [stray])
    let twice = try await pod("p", "a")
    try await endpoint("q", "b", [twice])
    let moving = try await pod("moving", "a")
    try await endpoint("moving", "b", [moving])
    try await endpoint("elsewhere", "a", [IPAddress("192.0.2.1")!])
    let findings = try await findings()
    #expect(findings.unassigned.map(\.address) == [stray])
    #expect(findings.contested.map(\.address) == [twice])
  }

  @Test("Blocks outside of pools and overlapping ones are told")
  func blocks() async throws {
    try await cluster()
    _ = try await pod("x")
    for (cidr, size) in [("10.99.0.0/30", 4), ("10.99.0.0/31", 2)] {
      let block = AllocationBlock(cidr: IPPrefix(cidr)!, affinity: nil, claimTime: nil, sequenceNumber: 1)
      #expect(block.capacity == size)
      try await put(AddressKeys.block(block.cidr), block.json().text())
    }
    let findings = try await findings()
    #expect(findings.blocksOutsidePools.map(\.description) == ["10.99.0.0/30", "10.99.0.0/31"])
    #expect(findings.overlappingBlocks.count == 1)
  }

  @Test("Usage counts as a set: reserved and held addresses overlap, and reservations overlap each other")
  func usage() {
    var block = AllocationBlock(cidr: IPPrefix("10.65.0.0/28")!, affinity: nil, claimTime: nil, sequenceNumber: 1)
    _ = block.allocate(4, for: .init(handleID: "h", secondary: [:]))
    _ = block.release([.init(IPAddress("10.65.0.3")!)], restingFrom: clock.now)
    let reserved = ["10.65.0.2/31", "10.65.0.3/32", "10.65.0.8/29", "10.0.0.0/30"].map { IPPrefix($0)! }
    let usage = AddressUsage(block, reserved: reserved)
    #expect(usage.capacity == 16 && usage.inUse == 3 && usage.cooling == 1 && usage.reserved == 8 && usage.available == 4)
    let pool = AddressUsage(IPPrefix("10.65.0.0/24")!, blocks: [block], reserved: reserved)
    #expect(pool.capacity == 256 && pool.reserved == 8 && pool.available == 244)
    #expect(AddressUsage(IPPrefix("fd00::/48")!, blocks: [], reserved: []).available == .max)
  }

  static let splits: [(String, UInt8, Int, String)] = [
    ("10.65.0.0/24", 26, 4, "10.65.0.0/26 10.65.0.64/26 10.65.0.128/26 10.65.0.192/26"), ("fd00::/48", 122, 2, "fd00::/49 fd00:0:0:8000::/49"),
    ("fd00::/63", 122, 4, "fd00::/65 fd00:0:0:0:8000::/65 fd00:0:0:1::/65 fd00:0:0:1:8000::/65"), ("fd00::/120", 122, 2, "fd00::/121 fd00::80/121"),
    ("10.65.0.0/24", 26, 8, "10.65.0.0/24 has 4 blocks"), ("10.65.0.0/24", 26, 3, "2, 4, 8"), ("10.65.0.0/24", 26, 1, "2, 4, 8"),
    ("10.65.0.0/26", 26, 2, "it cannot be split"), ("10.0.0.0/8", 26, 128, "at most 64 parts"),
  ]
  @Test("A pool is divided into equal parts that are whole blocks, or the refusal says why not", arguments: splits)
  func split(cidr: String, size: UInt8, count: Int, expected: String) {
    do {
      let parts = try PoolSplit.parts(of: IPPoolSpec(cidr: IPPrefix(cidr)!, blockSize: size), count: count)
      #expect(parts == expected.split(separator: " ").compactMap { IPPrefix($0) }.sorted())
    } catch {
      #expect(error.description.contains(expected))
    }
  }

  @Test("Splitting a pool loses no address, and assignments go on meanwhile")
  func splitOnline() async throws {
    try await cluster()
    try await withThrowingTaskGroup(of: Void.self) { group in
      group.addTask {
        for round in 0..<40 {
          let handle = "net.p\(round)"
          _ = try await book(round % 2 == 0 ? "a" : "b").assign(.v4, handle: handle, attributes: ["node": "a"])
          if round % 4 == 3 { try await book().release(handle: handle) }
        }
      }
      group.addTask { _ = try await PoolSplitting.split("pool", into: 4, datastore) }
      try await group.waitForAll()
    }
    let pools = try await ResourceStore(datastore).list(.ipPool).items.map(\.resource.metadata.name)
    #expect(pools == (0..<4).map { "split-pool-\($0)" })
    #expect(try await audit(datastore).values.map(\.count).reduce(0, +) == 30)
    #expect(try await findings().blocksOutsidePools.isEmpty)
    await #expect(throws: AddressBookError.self) { try await PoolSplitting.split("pool", into: 2, datastore) }
    try await put(
      ResourceKey(.ipPool, name: "split-split-pool-1-0").path, #"{"metadata":{"name":"split-split-pool-1-0"},"spec":{"cidr":"10.70.0.0/24"}}"#)
    do {
      _ = try await PoolSplitting.split("split-pool-1", into: 2, datastore)
      Issue.record("a part of that name is there already")
    } catch {
      #expect(error.description.contains("split-split-pool-1-0 exists already; nothing was changed"))
    }
  }
}

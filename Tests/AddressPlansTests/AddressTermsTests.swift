/// Where addresses may come from and how they come back: selectors, uses, limits, owners, cooldown, sequence numbers, and the desk.
import Addresses
import Datastore
import DatastoreMemory
import JSON
import Names
import Resources
import Synchronization
import Testing

@testable import AddressAssignment
@testable import AddressPlans

/// Time that stands until it is moved.
final class StandingClock: Sendable {
  private let seconds = Mutex(Int64(1_800_000_000))
  var now: UTCTime { UTCTime(unixSeconds: seconds.withLock { $0 }) }
  func advance(_ more: Int64) { seconds.withLock { $0 += more } }
}

@Suite("Terms of assignment")
struct AddressTermsTests {
  let datastore = CountingDatastore(MemoryDatastore())
  let clock = StandingClock()

  private func book(_ owner: BlockOwner = .host("node1"), desk: AddressDesk? = nil) -> AddressBook {
    AddressBook(datastore: datastore, owner: owner, desk: desk, now: { [clock] in clock.now })
  }
  private func put(_ key: String, _ text: String) async throws {
    _ = try await datastore.transact(if: [], then: [.put(key, Array(text.utf8))])
  }
  /// `spec`: members beside cidr.
  private func pool(_ name: String, _ cidr: String, _ spec: String = "") async throws {
    try await put(
      "/calico/resources/v3/projectcalico.org/ippools/\(name)",
      #"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"\#(name)"},"spec":{"cidr":"\#(cidr)"\#(spec)}}"#)
  }
  private func node(_ name: String, _ labels: String) async throws {
    try await put(
      "/calico/resources/v3/projectcalico.org/nodes/\(name)",
      #"{"kind":"Node","apiVersion":"projectcalico.org/v3","metadata":{"name":"\#(name)","labels":\#(labels)},"spec":{}}"#)
  }
  private func message(_ body: () async throws -> Void) async -> String {
    do {
      try await body()
      return ""
    } catch {
      return "\(error)"
    }
  }
  private func blocks(_ owner: BlockOwner) async throws -> [IPPrefix] {
    try await datastore.list(prefix: AddressKeys.affinities(of: owner)).items.compactMap { AddressKeys.cidr(ofKey: $0.key) }
  }
  private func block(_ cidr: String) async throws -> AllocationBlock? {
    try await datastore.get(AddressKeys.block(IPPrefix(cidr)!)).map { try AllocationBlock(parsing: JSONValue(parsing: $0.value)) }
  }

  @Test("A pool for chosen namespaces gives to those whose profile has the labels")
  func namespaces() async throws {
    try await pool("chosen", "10.65.0.0/24", #","namespaceSelector":"team == 'red'""#)
    try await put(
      "/calico/resources/v3/projectcalico.org/profiles/kns.shop",
      #"{"metadata":{"name":"kns.shop"},"spec":{"labelsToApply":{"pcns.team":"red","pcns.projectcalico.org/name":"shop"}}}"#)
    #expect(IPPrefix("10.65.0.0/24")!.contains(try await book().assign(.v4, handle: "a", attributes: ["namespace": "shop"])))
    for attributes in [["namespace": "other"], [:]] {
      #expect(await message { _ = try await book().assign(.v4, handle: "b", attributes: attributes) }.contains("no enabled IPv4 pool"))
    }
    #expect(
      await message { _ = try await book().assign(.v4, handle: "b", attributes: ["namespace": "other"], pools: ["chosen"]) }
        == "no address to give: pool chosen does not select this namespace (team == 'red')")
  }

  @Test("A pool gives for the uses it allows, and one that is being deleted gives nothing")
  func uses() async throws {
    try await pool("tunnels", "10.70.0.0/24", #","allowedUses":["Tunnel"]"#)
    try await pool("services", "10.71.0.0/24", #","allowedUses":["LoadBalancer"]"#)
    try await put(
      "/calico/resources/v3/projectcalico.org/ippools/leaving",
      #"{"metadata":{"name":"leaving","deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"cidr":"10.72.0.0/24"}}"#)
    #expect(await message { _ = try await book().assign(.v4, handle: "a") }.contains("no enabled IPv4 pool"))
    #expect(await message { _ = try await book().assign(.v4, handle: "a", pools: ["leaving"]) }.contains("is being deleted"))
    #expect(await message { _ = try await book().assign(.v4, handle: "a", pools: ["tunnels"]) }.contains("is not for workloads"))
    let tunnel = try await book().tunnelAddress(.ipip)
    #expect(IPPrefix("10.70.0.0/24")!.contains(tunnel))
    let holder = try await block("\(IPPrefix(tunnel, length: 26))")?.holder(of: tunnel)
    #expect(holder?.handleID == "ipip-tunnel-addr-node1" && holder?.secondary == ["node": "node1", "type": "ipipTunnelAddress"])
    #expect(try await book().tunnelAddress(.ipip) == tunnel, "a second call finds it")
    try await book().releaseTunnelAddress(.ipip)
    #expect(try await audit(datastore) == [:])
  }

  @Test("Blocks of a virtual owner stand under its own name; nodes neither borrow from them nor take them over, nor the other way round")
  func virtualOwner() async throws {
    try await pool("services", "10.71.0.0/30", #","blockSize":30,"allowedUses":["LoadBalancer","Workload"]"#)
    let services = book(.loadBalancer)
    let given = try await services.autoAssign(v4: 1, handle: "lb-1", terms: AssignmentTerms(use: .loadBalancer)).v4
    #expect(given.count == 1)
    #expect(try await block("10.71.0.0/30")?.affinity == "virtual:load-balancer")
    #expect(try await datastore.get("/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.71.0.0-30") != nil)
    #expect(try await book().autoAssign(v4: 1, handle: "a").v4 == [])
    try await services.release(handle: "lb-1")
    clock.advance(1000)
    #expect(try await book().autoAssign(v4: 1, handle: "a").v4 == [], "empty and old, and still not for workloads")
    _ = try await services.leave()
    #expect(try await book().autoAssign(v4: 1, handle: "a").v4.count == 1)
    try await book().release(handle: "a")
    clock.advance(1000)
    #expect(try await services.autoAssign(v4: 1, handle: "lb", terms: AssignmentTerms(use: .loadBalancer)).v4 == [])
  }

  @Test("A handle holds at most so many addresses of a family, also when two ask at once")
  func perHandleMax() async throws {
    try await pool("pool", "10.65.0.0/24")
    try await pool("six", "fd65::/112")
    let terms = AssignmentTerms(perHandleMax: 3)
    #expect(try await book().autoAssign(v4: 2, v6: 1, handle: "h", terms: terms).v4.count == 2)
    let partial = try await book().autoAssign(v4: 2, handle: "h", terms: terms)
    #expect(partial.v4.count == 1 && partial.messages.first?.contains("a handle may hold at most 3") == true)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<6 { group.addTask { _ = try await book().autoAssign(v4: 1, v6: 1, handle: "h", terms: terms) } }
      try await group.waitForAll()
    }
    let held = try await book().addresses(heldBy: "h")
    #expect(held.count { $0.family == .v4 } == 3 && held.count { $0.family == .v6 } == 3)
  }

  @Test("The request's limit of blocks holds beside the configuration's")
  func blocksMax() async throws {
    try await pool("pool", "10.65.0.0/24", #","blockSize":30"#)
    _ = try await book().configure { $0.strictAffinity = true }
    #expect(try await book().autoAssign(v4: 12, handle: "h", terms: AssignmentTerms(blocksMax: 2)).v4.count == 8)
  }

  @Test("An empty block of a pool that no longer selects the node is given back on the way to an address; one in use stays")
  func selectorChange() async throws {
    try await node("node1", #"{"rack":"a"}"#)
    try await pool("rack-a", "10.65.0.0/24", #","blockSize":28,"nodeSelector":"rack == 'a'""#)
    try await pool("rack-b", "10.66.0.0/24", #","nodeSelector":"rack == 'b'""#)
    _ = try await book().autoAssign(v4: 20, handle: "many")
    let kept = try await book().assign(.v4, handle: "kept")
    try await book().release(handle: "many")
    #expect(try await blocks(.host("node1")).count == 2)
    try await node("node1", #"{"rack":"b"}"#)
    let moved = try await book().assign(.v4, handle: "moved")
    #expect(IPPrefix("10.66.0.0/24")!.contains(moved))
    #expect(try await blocks(.host("node1")).filter { IPPrefix("10.65.0.0/24")!.contains($0) } == [IPPrefix(kept, length: 28)])
    _ = try await audit(datastore)
  }

  @Test("The configuration's rules are kept, and what of it is not understood stays")
  func configuration() async throws {
    try await put(AddressKeys.configuration, #"{"strict_affinity":false,"auto_allocate_blocks":true,"kubeVirtVMAddressPersistence":"Enabled"}"#)
    #expect(await message { _ = try await book().configure { $0.autoAllocateBlocks = false } }.contains("without strict affinity blocks must be"))
    #expect(await message { _ = try await book().configure { $0.blocksPerHostMax = 3 } }.contains("needs strict affinity"))
    #expect(await message { _ = try await book().configure { $0.cooldownSeconds = 1201 } }.contains("0 to 1200 s"))
    _ = try await book().configure {
      $0.strictAffinity = true
      $0.blocksPerHostMax = 3
      $0.cooldownSeconds = 60
    }
    let text = try await datastore.get(AddressKeys.configuration).map { String(decoding: $0.value, as: UTF8.self) }
    #expect(
      text == #"{"strict_affinity":true,"auto_allocate_blocks":true,"kubeVirtVMAddressPersistence":"Enabled","maxBlocksPerHost":3,"ipCooldownSeconds":60}"#)
  }

  @Test("A released address rests for the cooldown, and is nobody's meanwhile")
  func cooldown() async throws {
    try await pool("pool", "10.65.0.0/30", #","blockSize":30"#)
    _ = try await book().configure { $0.cooldownSeconds = 60 }
    let given = try await book().autoAssign(v4: 4, handle: "a").v4
    #expect(try await book().release(handle: "a") == given)
    #expect(try await datastore.get(AddressKeys.handle("a")) == nil)
    #expect(try await block("10.65.0.0/30")?.cooling == given)
    #expect(try await book().autoAssign(v4: 1, handle: "b").v4 == [])
    #expect(await message { try await book().assign(given[2], handle: "b") }.contains("rests for the cooldown"))
    #expect(try await book().release(given) == [], "it is released already")
    #expect(try await book().leave().deletedBlocks.isEmpty, "a block with resting addresses stays")
    clock.advance(59)
    #expect(try await book().collectCold() == [])
    clock.advance(1)
    try await book().assign(given[2], handle: "b")
    #expect(try await book().autoAssign(v4: 4, handle: "c").v4.count == 3)
    _ = try await audit(datastore)
  }

  @Test("A release with a sequence number releases what was assigned under it, and nothing that was assigned anew")
  func sequenceNumbers() async throws {
    try await pool("pool", "10.65.0.0/32", #","blockSize":32"#)
    let address = try await book().assign(.v4, handle: "a")
    let sequence = try #require(try await block("10.65.0.0/32")?.sequence(of: address))
    try await book().release(handle: "a")
    try await book().assign(address, handle: "a")
    #expect(try await book().release([.init(address, sequence: sequence)]) == [])
    #expect(try await book().addresses(heldBy: "a") == [address])
    let current = try #require(try await block("10.65.0.0/32")?.sequence(of: address))
    #expect(current > sequence)
    #expect(try await book().release([.init(address, sequence: current)]) == [address])
  }

  @Test("Owners of an address are told apart: the active one's attributes and the other's are set by whoever has the handle")
  func owners() async throws {
    try await pool("pool", "10.65.0.0/26")
    let address = try await book().assign(.v4, handle: "vm", attributes: ["pod": "a"])
    try await book().setOwners(of: address, handle: "vm", active: ["pod": "b"], alternate: ["pod": "c"])
    let document = try await datastore.get(AddressKeys.block(IPPrefix("10.65.0.0/26")!)).map { try JSONValue(parsing: $0.value) }
    #expect(document?["attributes"]?.array?.first?.text() == #"{"handle_id":"vm","secondary":{"pod":"b"},"alternateOwnerAttrs":{"pod":"c"}}"#)
    await #expect(throws: AddressBookError.self) {
      try await book().setOwners(of: address, handle: "other", active: [:], alternate: nil)
    }
  }

  @Test("A pool's blocks are given up whoever owns them; held addresses stay held")
  func poolRelease() async throws {
    try await pool("pool", "10.65.0.0/24", #","blockSize":28"#)
    let held = try await book(.host("node1")).assign(.v4, handle: "a")
    _ = try await book(.host("node2")).assign(.v4, handle: "b")
    try await book(.host("node2")).release(handle: "b")
    let range = IPPrefix("10.65.0.0/24")!
    let empty = try await AddressBook.releaseAffinities(ofPool: range, onlyIfEmpty: true, datastore)
    #expect(empty.deletedBlocks.count == 1 && empty.orphanedBlocks.isEmpty)
    let all = try await AddressBook.releaseAffinities(ofPool: range, onlyIfEmpty: false, datastore)
    #expect(all.orphanedBlocks == [IPPrefix(held, length: 28)])
    #expect(try await audit(datastore) == ["a": [held]])
    // What nobody owns is borrowed from.
    #expect(try await book(.host("node3")).autoAssign(v4: 1, handle: "c", terms: AssignmentTerms(blocksMax: 0)).v4.count == 1)
  }

  // MARK: The desk

  /// Runs `body` with a desk that follows the datastore.
  private func withDesk(_ body: (AddressDesk) async throws -> Void) async throws {
    let desk = AddressDesk(datastore, owner: .host("node1"))
    let following = Task { await desk.run() }
    defer { following.cancel() }
    try await eventually { desk.isLive }
    try await body(desk)
  }
  private func eventually(_ condition: () async throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(30)
    while try await !condition() {
      try #require(ContinuousClock.now < deadline)
      await Task.yield()
    }
  }

  @Test("From the desk, both families of an attachment cost one transaction and no read; its end three reads and one transaction")
  func deskCosts() async throws {
    try await pool("four", "10.65.0.0/24")
    try await pool("six", "fd65::/112")
    try await withDesk { desk in
      let book = book(desk: desk)
      let families: [IPFamily: AssignmentTerms] = [.v4: .init(), .v6: .init()]
      _ = try await book.assign(families, handle: "first")
      try await eventually { desk.knowledge?.confirmed.count == 2 }
      for round in 0..<5 {
        let (reads, transactions) = (datastore.reads, datastore.transactions)
        let given = try await book.assign(families, handle: "h\(round)")
        #expect(given.map(\.family) == [.v4, .v6])
        #expect(datastore.reads == reads && datastore.transactions == transactions + 1)
      }
      let (reads, transactions) = (datastore.reads, datastore.transactions)
      #expect(try await book.holding(of: "h3").addresses.count == 2)
      #expect(try await book.release(handle: "h3").count == 2)
      #expect(datastore.reads == reads + 3 && datastore.transactions == transactions + 1)
      #expect(try await audit(datastore).count == 5)
    }
  }

  @Test("Whatever others do to the blocks that the desk knows, no address is given twice and no count is lost")
  func deskAmongOthers() async throws {
    try await pool("four", "10.65.0.0/27", #","blockSize":29"#)
    try await withDesk { desk in
      let (mine, other) = (book(desk: desk), book(.host("node1")))
      try await withThrowingTaskGroup(of: Void.self) { group in
        for worker in 0..<6 {
          group.addTask {
            for round in 0..<25 {
              let handle = "h\(worker)-\(round % 3)"
              let book = (worker + round) % 2 == 0 ? mine : other
              if round % 3 == 2 { try await book.release(handle: handle) } else { _ = try? await book.assign(.v4, handle: handle) }
            }
          }
        }
        try await group.waitForAll()
      }
      let held = try await audit(datastore)
      #expect(Set(held.values.joined()).count == held.values.map(\.count).reduce(0, +))
      for handle in held.keys { try await mine.release(handle: handle) }
      #expect(try await audit(datastore) == [:])
    }
  }

  @Test("A stale desk loses nothing: a release of what it does not know of is a release of what is stored")
  func staleDesk() async throws {
    try await pool("four", "10.65.0.0/26")
    try await withDesk { desk in
      let (mine, other) = (book(desk: desk), book(.host("node1")))
      _ = try await mine.assign(.v4, handle: "first")
      try await eventually { desk.knowledge?.confirmed.count == 1 }
      _ = try await mine.assign(.v4, handle: "second")
      let address = try await other.assign(.v4, handle: "third")
      #expect(try await mine.release(handle: "third") == [address])
      #expect(try await audit(datastore).keys.sorted() == ["first", "second"])
    }
  }

  @Test("What changes in pools, labels, reservations and configuration reaches the desk; a new pool serves at once")
  func deskFollows() async throws {
    try await withDesk { desk in
      let mine = book(desk: desk)
      #expect(await message { _ = try await mine.assign(.v4, handle: "a") }.contains("no enabled IPv4 pool"))
      try await pool("four", "10.65.0.0/29", #","blockSize":29"#)
      #expect(try await mine.assign(.v4, handle: "a") == IPAddress("10.65.0.0"))
      try await put("/calico/resources/v3/projectcalico.org/ipreservations/r", #"{"metadata":{"name":"r"},"spec":{"reservedCIDRs":["10.65.0.1"]}}"#)
      try await put(AddressKeys.configuration, #"{"strict_affinity":true,"ipCooldownSeconds":30}"#)
      try await node("node1", #"{"rack":"b"}"#)
      try await eventually {
        desk.knowledge.map { $0.reserved.count == 1 && $0.configuration.cooldownSeconds == 30 && $0.nodeLabels == ["rack": "b"] } ?? false
      }
      #expect(try await mine.assign(.v4, handle: "b") == IPAddress("10.65.0.2"))
      try await pool("four", "10.65.0.0/29", #","blockSize":29,"nodeSelector":"rack == 'a'""#)
      try await eventually { desk.pools?.first?.spec.nodeSelector == "rack == 'a'" }
      #expect(await message { _ = try await mine.assign(.v4, handle: "c") }.contains("no enabled IPv4 pool"))
    }
  }
}

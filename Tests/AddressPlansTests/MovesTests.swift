/// A pod moves from host to host with its address: its two attachments come and go in any order.
import Addresses
import Datastore
import DatastoreMemory
import DatastoreSQLite
import JSON
import Resources
import Testing

@testable import AddressAssignment
@testable import AddressPlans

@Suite("A pod moves with its address")
struct MovesTests {
  let datastore = MemoryDatastore()
  let addresses = ["10.65.0.9", "fd65::9"].map { IPAddress($0)! }
  static let pod = ["namespace": "shop", "pod": "web-2"]

  private func book(_ node: String) -> AddressBook { AddressBook(datastore: datastore, node: node) }
  private func pools() async throws {
    for (name, cidr, size) in [("four", "10.65.0.0/24", UInt8(26)), ("six", "fd65::/112", 122)] {
      _ = try await ResourceStore(datastore).create(
        Resource(Metadata(name: name), .ipPool(IPPoolSpec(cidr: IPPrefix(cidr)!, blockSize: size))))
    }
  }
  private func add(_ node: String, _ handle: String, _ who: [String: String] = pod) async throws {
    for address in addresses {
      try await book(node).assign(address, handle: handle, attributes: who.merging(["node": node]) { $1 })
    }
  }
  private func holder(_ address: IPAddress) async throws -> AllocationBlock.Attribute? {
    for item in try await datastore.list(prefix: AddressKeys.blocks(address.family)).items {
      let block = try AllocationBlock(parsing: JSONValue(parsing: item.value))
      if block.cidr.contains(address) { return block.holder(of: address) }
    }
    return nil
  }

  enum Step: String, Sendable { case addNew, deleteOld, deleteNew, addThird }
  /// What is left: who holds the address at the end.
  static let orders: [([Step], String?)] = [
    ([.deleteOld, .addNew], "new"),
    ([.addNew, .deleteOld], "new"),
    ([.addNew, .deleteOld, .deleteOld], "new"),
    ([.addNew, .deleteNew], "old"),
    ([.addNew, .deleteNew, .deleteOld], nil),
    ([.addNew, .deleteOld, .deleteNew], nil),
    ([.deleteOld, .addNew, .deleteOld, .deleteNew], nil),
    ([.addNew, .deleteOld, .addThird, .deleteNew], "third"),
    ([.addNew, .deleteNew, .addThird, .deleteOld], "third"),
  ]

  @Test("Whatever the order of ADD and DEL on the two hosts, an attachment that is there holds its addresses, and nothing leaks", arguments: orders)
  func order(steps: [Step], last: String?) async throws {
    try await pools()
    try await add("host3", "net.old")
    for step in steps {
      switch step {
      case .addNew: try await add("host1", "net.new")
      case .addThird: try await add("host2", "net.third")
      case .deleteOld: try await book("").release(handle: "net.old")
      case .deleteNew: try await book("").release(handle: "net.new")
      }
      let held = try await audit(datastore)
      for (handle, addresses) in held { #expect(addresses == self.addresses, "\(handle) after \(step)") }
    }
    #expect(try await audit(datastore) == (last.map { ["net.\($0)": addresses] } ?? [:]))
    for address in addresses {
      let holder = try await holder(address)
      #expect(holder?.handleID == last.map { "net.\($0)" })
      #expect(holder?.secondary["node"] == last.map { ["old": "host3", "new": "host1", "third": "host2"][$0]! })
      #expect(holder?.alternate == nil)
    }
    // The block stays where it was claimed, and the address goes to nobody else meanwhile.
    if last != nil {
      await #expect(throws: AddressBookError.self) { try await add("host2", "net.thief", ["namespace": "shop", "pod": "web-3"]) }
    }
  }

  @Test("While both attachments stand the record names both, and each knows that it shares")
  func both() async throws {
    try await pools()
    try await add("host3", "net.old")
    try await add("host1", "net.new")
    for address in addresses {
      let holder = try await holder(address)
      #expect(holder?.handleID == "net.old" && holder?.secondary["node"] == "host3")
      #expect(holder?.alternate?.handleID == "net.new" && holder?.alternate?.secondary["node"] == "host1")
    }
    for handle in ["net.old", "net.new"] {
      #expect(try await book("").addresses(heldBy: handle) == addresses)
      #expect(try await book("").addresses(sharedBy: handle) == addresses)
    }
    // A third at the same time is one too many.
    await #expect(throws: AddressBookError.self) { try await add("host2", "net.third") }
    // An operator's release frees the address from both.
    #expect(try await book("").release(addresses) == addresses)
    #expect(try await audit(datastore) == [:])
  }

  @Test("Another pod, a pod of the same name elsewhere, and a container without a pod are refused", arguments: [
    ["namespace": "shop", "pod": "web-3"], ["namespace": "other", "pod": "web-2"], ["namespace": "shop"], [:],
  ])
  func strangers(who: [String: String]) async throws {
    try await pools()
    try await add("host3", "net.old")
    await #expect(throws: AddressBookError.self) { try await add("host1", "net.new", who) }
    #expect(try await audit(datastore) == ["net.old": addresses])
  }

  @Test("A lost node's addresses and blocks are free; what other nodes borrowed of its blocks stays theirs, as does what moved away before")
  func departure() async throws {
    try await pools()
    let lost = try await book("host3").assign(.v4, handle: "net.lost", attributes: ["node": "host3", "pod": "a", "namespace": "x"])
    let borrowed = IPAddress("10.65.0.200")!
    try await book("host3").assign(borrowed, handle: "net.b", attributes: ["node": "host3"])
    try await book("host3").release(handle: "net.b")
    try await book("host1").assign(borrowed, handle: "net.borrower", attributes: ["node": "host1", "pod": "b", "namespace": "x"])
    try await add("host3", "net.old")
    try await add("host1", "net.new")
    let owned = try await datastore.list(prefix: AddressKeys.affinities(node: "host3")).items.compactMap { AddressKeys.cidr(ofKey: $0.key) }
    let departure = try await book("host3").leave()
    #expect(departure.released == [lost])
    #expect(Set(departure.deletedBlocks + departure.orphanedBlocks) == Set(owned))
    #expect(departure.orphanedBlocks.contains { $0.contains(borrowed) })
    #expect(try await audit(datastore) == ["net.borrower": [borrowed], "net.new": addresses])
    #expect(try await datastore.list(prefix: "/calico/ipam/v2/host/host3").items.isEmpty)
    #expect(try await book("host3").leave().isEmpty, "a second time there is nothing to do")
    // The address can be given again.
    try await book("host1").assign(lost, handle: "net.heir", attributes: ["node": "host1"])
    _ = try await audit(datastore)
  }
}

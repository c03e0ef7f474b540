/// Blocks and pools as values: Calico's layout, the order of addresses, the choice of pools and blocks.
import Addresses
import JSON
import Resources
import Testing

@testable import AddressPlans

@Suite("AllocationBlock")
struct AllocationBlockTests {
  static let layout = """
    {"cidr":"192.168.5.0/29","affinity":"host:node1","affinity_claim_time":"2026-01-01T00:00:00Z",\
    "allocations":[0,null,1,null,null,null,null,null],"unallocated":[3,4,5,6,7,1],\
    "attributes":[{"handle_id":"k8s-pod-network.c1","secondary":{"namespace":"default","node":"node1","pod":"web-1"}},\
    {"handle_id":null,"secondary":{},"releasedAt":"2026-01-02T00:00:00Z","alternateOwnerAttrs":{"vm":"x"}}],\
    "sequenceNumber":1767225600000000007,"sequenceNumberForAllocation":{"0":1767225600000000003,"2":18446744073709551615},\
    "deleted":false,"hostAffinity":null}
    """
  private func block(_ cidr: String) -> AllocationBlock {
    AllocationBlock(cidr: IPPrefix(cidr)!, affinity: "host:n", claimTime: nil, sequenceNumber: 100)
  }
  private func holder(_ id: String) -> AllocationBlock.Attribute { .init(handleID: id, secondary: ["pod": id]) }
  private func texts(_ addresses: [IPAddress]) -> [String] { addresses.map(\.description) }

  @Test("Calico's document is read and written back without loss")
  func roundTrip() throws {
    let document = try JSONValue(parsing: Array(Self.layout.utf8))
    let block = try AllocationBlock(parsing: document)
    #expect(block.json() == document)
    #expect(block.affinity == "host:node1" && block.freeCount == 6 && block.capacity == 8)
    #expect(block.holder(of: IPAddress("192.168.5.0")!)?.handleID == "k8s-pod-network.c1")
    #expect(block.holder(of: IPAddress("192.168.5.1")!) == nil && block.holder(of: IPAddress("192.168.6.0")!) == nil)
  }

  @Test("A new block has the members that Calico reads")
  func newLayout() throws {
    var block = AllocationBlock(cidr: IPPrefix("fd00::/126")!, affinity: "host:n", claimTime: "2026-01-01T00:00:00Z", sequenceNumber: 5)
    _ = block.allocate(1, for: holder("h"))
    let text = """
      {"cidr":"fd00::/126","affinity":"host:n","affinity_claim_time":"2026-01-01T00:00:00Z","allocations":[0,null,null,null],\
      "unallocated":[1,2,3],\
      "attributes":[{"handle_id":"h","secondary":{"pod":"h"}}],"sequenceNumber":6,"sequenceNumberForAllocation":{"0":5},"deleted":false}
      """
    #expect(block.json().text() == text)
  }

  @Test("Addresses are taken from the head and come back at the tail")
  func order() {
    var block = block("10.0.0.0/29")
    #expect(texts(block.allocate(2, for: holder("a"))) == ["10.0.0.0", "10.0.0.1"])
    #expect(texts(block.allocate(1, for: holder("b"))) == ["10.0.0.2"])
    #expect(texts(block.release([IPAddress("10.0.0.0")!], handle: "a").map(\.address)) == ["10.0.0.0"])
    #expect(texts(block.allocate(9, for: holder("c"))) == ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.0"])
    #expect(block.freeCount == 0 && block.allocate(1, for: holder("d")).isEmpty)
  }

  @Test("Reserved addresses are left where they stand")
  func reserved() {
    var block = block("10.0.0.0/30")
    let reserved = IPAddress("10.0.0.1")!
    #expect(texts(block.allocate(4, for: holder("a"), isReserved: { $0 == reserved })) == ["10.0.0.0", "10.0.0.2", "10.0.0.3"])
    #expect(texts(block.allocate(1, for: holder("b"))) == ["10.0.0.1"])
  }

  @Test("Holders with the same handle and attributes share an entry, and an entry nobody uses goes")
  func attributes() {
    var block = block("10.0.0.0/29")
    _ = block.allocate(2, for: holder("a"))
    _ = block.allocate(1, for: holder("b"))
    _ = block.allocate(1, for: holder("a"))
    #expect(block.attributes.map(\.handleID) == ["a", "b"])
    #expect(texts(block.addresses(heldBy: "a")) == ["10.0.0.0", "10.0.0.1", "10.0.0.3"])
    #expect(block.release(block.addresses(heldBy: "a"), handle: "a").count == 3)
    #expect(block.attributes.map(\.handleID) == ["b"] && block.holder(of: IPAddress("10.0.0.2")!)?.handleID == "b")
    #expect(!block.isEmpty)
  }

  @Test("Releasing checks the holder, and what is free is no error")
  func releaseChecks() {
    var block = block("10.0.0.0/29")
    _ = block.allocate(1, for: holder("a"))
    let before = block
    #expect(block.release([IPAddress("10.0.0.0")!], handle: "b").isEmpty)
    #expect(block.release([IPAddress("10.0.0.5")!, IPAddress("10.9.0.0")!]).isEmpty)
    #expect(block == before)
  }

  @Test("The sequence number grows with each change, and an allocation remembers its own")
  func sequence() {
    var block = block("10.0.0.0/29")
    _ = block.allocate(2, for: holder("a"))
    #expect(block.sequenceNumber == 101 && block.sequenceNumberForAllocation == [0: 100, 1: 100])
    _ = block.release([IPAddress("10.0.0.0")!])
    #expect(block.sequenceNumber == 102 && block.sequenceNumberForAllocation == [1: 100])
  }

  @Test("A given address is taken once, and only in its block")
  func exact() throws {
    var block = block("10.0.0.0/29")
    try block.assign(IPAddress("10.0.0.4")!, for: holder("a"))
    let (inside, outside) = (IPAddress("10.0.0.4")!, IPAddress("10.0.0.8")!)
    #expect(throws: AllocationBlock.Fault.taken(inside, by: "a")) { try block.assign(inside, for: holder("b")) }
    #expect(throws: AllocationBlock.Fault.notInBlock(outside)) { try block.assign(outside, for: holder("b")) }
    #expect(!texts(block.allocate(8, for: holder("c"))).contains("10.0.0.4"))
  }

  @Test(
    "Documents that would hand out an address twice or trap are refused",
    arguments: [
      "{}", #"{"cidr":"10.0.0.0/8","allocations":[]}"#, #"{"cidr":"10.0.0.0/30","allocations":[null,null]}"#,
      #"{"cidr":"10.0.0.0/30","allocations":[0,null,null,null],"attributes":[]}"#,
      #"{"cidr":"10.0.0.0/30","allocations":[-1,null,null,null],"attributes":[{}]}"#,
      #"{"cidr":"10.0.0.0/30","allocations":["x",null,null,null],"attributes":[{}]}"#, #"{"cidr":"x"}"#, "[]",
    ])
  func unreadable(text: String) throws {
    let document = try JSONValue(parsing: Array(text.utf8))
    #expect(throws: AllocationBlock.Fault.self) { try AllocationBlock(parsing: document) }
  }

  @Test("A free list that lost, doubles or names held ordinals is repaired")
  func repair() throws {
    let text = #"{"cidr":"10.0.0.0/30","allocations":[0,null,null,null],"unallocated":[2,2,0,99,-3],"attributes":[{"handle_id":"a"}]}"#
    let block = try AllocationBlock(parsing: JSONValue(parsing: Array(text.utf8)))
    #expect(block.unallocated == [2, 1, 3])
  }
}

@Suite("PoolChoice")
struct PoolChoiceTests {
  private func pool(_ name: String, _ cidr: String, _ change: (inout IPPoolSpec) -> Void = { _ in }) -> Resource {
    var spec = IPPoolSpec(cidr: IPPrefix(cidr)!)
    change(&spec)
    return Resource(Metadata(name: name), .ipPool(spec))
  }
  private func chosen(
    _ pools: [Resource], _ family: IPFamily = .v4, labels: [String: String] = [:], requested: [String] = []
  ) -> ([String], [String]) {
    let (chosen, problems) = PoolChoice.pools(pools.compactMap { PoolChoice.Pool($0) }, family: family, nodeLabels: labels, requested: requested)
    return (chosen.map(\.cidr.description), problems)
  }

  @Test("Only enabled, automatic, suitable pools of the family are chosen, in order of names")
  func choice() {
    let pools = [
      pool("z", "10.1.0.0/16"), pool("a", "10.2.0.0/16"), pool("six", "fd00::/64"), pool("off", "10.3.0.0/16") { $0.disabled = true },
      pool("manual", "10.4.0.0/16") { $0.assignmentMode = .manual }, pool("tunnel", "10.5.0.0/16") { $0.allowedUses = [.tunnel] },
      pool("rack", "10.6.0.0/16") { $0.nodeSelector = "rack == '1'" }, pool("odd", "10.7.0.0/16") { $0.nodeSelector = "rack ==" },
      pool("tiny", "10.8.0.0/28"), pool("wild", "10.9.0.0/16") { $0.blockSize = 16 },
    ]
    #expect(chosen(pools).0 == ["10.2.0.0/16", "10.1.0.0/16"])
    #expect(chosen(pools, .v6).0 == ["fd00::/64"])
    #expect(chosen(pools, labels: ["rack": "1"]).0 == ["10.2.0.0/16", "10.6.0.0/16", "10.1.0.0/16"])
  }

  @Test("Requested pools are found by name or CIDR, manual ones too; each that cannot be used has a reason")
  func requested() {
    let pools = [
      pool("a", "10.2.0.0/16"), pool("manual", "10.4.0.0/16") { $0.assignmentMode = .manual },
      pool("off", "10.3.0.0/16") { $0.disabled = true },
      pool("rack", "10.6.0.0/16") { $0.nodeSelector = "rack == '1'" },
    ]
    let (found, problems) = chosen(pools, requested: ["10.2.0.0/16", "manual", "off", "rack", "none"])
    #expect(found == ["10.2.0.0/16", "10.4.0.0/16"])
    #expect(problems.count == 3)
    #expect(problems[0].contains("off") && problems[0].contains("disabled"))
    #expect(problems[1].contains("rack == '1'") && problems[2].contains("none"))
  }

  @Test("A node looks at every block of a pool once, from a place of its own", arguments: ["10.0.0.0/22", "10.0.0.0/26", "fd00::/118"])
  func candidates(cidr: String) {
    let pool = IPPoolSpec(cidr: IPPrefix(cidr)!)
    var starts: Set<IPPrefix> = []
    for node in (0..<20).map({ "node\($0)" }) {
      let blocks = Array(PoolChoice.candidateBlocks(pool, host: node))
      #expect(blocks.count == Int(PoolChoice.blockCount(pool)) && Set(blocks).count == blocks.count)
      #expect(blocks.allSatisfy { pool.cidr.contains($0) && $0.length == pool.blockSize })
      #expect(blocks == Array(PoolChoice.candidateBlocks(pool, host: node)))
      starts.insert(blocks[0])
    }
    #expect(PoolChoice.blockCount(pool) == 1 || starts.count > 5)
  }

  @Test("The widest pool has candidates, and finding the first ones is cheap")
  func widest() {
    let pool = IPPoolSpec(cidr: IPPrefix("fd00::/8")!)
    #expect(PoolChoice.candidateBlocks(pool, host: "n").prefix(3).allSatisfy { pool.cidr.contains($0) })
  }
}

@Suite("Blocks that somebody else wrote")
struct ForeignBlockTests {
  @Test("Any sequence number and many unknown members are taken, and written back")
  func odd() throws {
    let unknown = (0..<20_000).map { JSONObject.Member("member\($0)", 1) }
    var attribute = JSONValue.object(JSONObject(unknown))
    attribute["handle_id"] = "h"
    let document: JSONValue = [
      "cidr": "10.65.0.0/30", "allocations": [0, nil, nil, nil], "unallocated": [1, 2, 3], "attributes": [attribute],
      "sequenceNumber": .unsigned(.max),
    ]
    var block = try AllocationBlock(parsing: document)
    #expect(block.allocate(1, for: .init(handleID: "i", secondary: [:])).count == 1)
    #expect(block.json()["attributes"]?.array?.first?.object?.members.count == 20_002)
  }
}

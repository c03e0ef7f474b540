/// Pools that get their encapsulation while BGP's routes stand, by the whole agent.

import AddressAssignment
import Addresses
import Datastore
import JSON
import KernelSandbox
import Resources
import Testing

@Suite("Routes into tunnels", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(2)))
struct TunnelRouteTests {
  @Test("A pool gets VXLAN while BGP's route to the other host's block stands: both families lead into the tunnel; without it nothing is left")
  func switchedOn() async throws {
    let rig = try await FelixRig()
    let blocks = ["10.66.2.0/26", "fd66:0:0:2::/122"].map { IPPrefix($0)! }
    try await blocking { [rig] in
      let far = try rig.sandbox.namespace("far")
      try rig.sandbox.connect(rig.host, "eth0", ["172.31.0.1/24", "fd31::1/64"], far, "eth0", ["172.31.0.2/24", "fd31::2/64"])
    }
    for (block, gateway) in zip(blocks, ["172.31.0.2", "fd31::2"]) {
      _ = try await rig.ip("route add \(block) via \(gateway) dev eth0 proto 81")
      let allocations = JSONValue.array([.integer(0)] + Array(repeating: .null, count: 63))
      let document: JSONValue = [
        "cidr": .string(block.description), "affinity": "host:h2", "allocations": allocations, "attributes": [["handle_id": "tunnel"]],
        "unallocated": .array((1..<64).map { .integer(Int64($0)) }), "deleted": false,
      ]
      let write = try await rig.datastore.transact(if: [], then: [.put(AddressKeys.block(block), Array(document.text().utf8))])
      guard case .committed = write else { throw Unmet(description: "a write without conditions commits") }
    }
    let felix = try await rig.felix()
    let pools = ["v4": "10.66.0.0/16", "v6": "fd66::/48"]
    for (number, ends) in [(1, ("10.66.1.0", "fd66:0:0:1::")), (2, ("10.66.2.0", "fd66:0:0:2::"))] {
      try await rig.put(
        ResourceKey(.node, name: "h\(number)"),
        spec: [
          "bgp": ["ipv4Address": .string("172.31.0.\(number)/24"), "ipv6Address": .string("fd31::\(number)/64")],
          "ipv4VXLANTunnelAddr": .string(ends.0), "ipv6VXLANTunnelAddr": .string(ends.1),
        ])
    }
    var last: Revision?
    for (name, cidr) in pools { last = try await rig.put(ResourceKey(.ipPool, name: name), spec: ["cidr": .string(cidr)]) }
    try await felix.until(last!)
    let before = try await rig.ip("-6 route show proto 81")
    #expect(before.contains("\(blocks[1]) via fd31::2 dev eth0"), "BGP carries it: \(before)")

    for (name, cidr) in pools {
      last = try await rig.put(ResourceKey(.ipPool, name: name), spec: ["cidr": .string(cidr), "vxlanMode": "Always"])
    }
    try await felix.until(last!)
    let v4 = try await rig.ip("route show proto 80"), v6 = try await rig.ip("-6 route show proto 80")
    #expect(v4.contains("10.66.2.0/26 via 10.66.2.0 dev vxlan.calico onlink"), "\(v4)")
    #expect(v6.contains("\(blocks[1]) via \(blocks[1].address) dev vxlan-v6.calico"), "\(v6)")
    #expect(v6.contains("\(blocks[1].address) dev vxlan-v6.calico"), "the end itself: \(v6)")
    #expect(try await rig.ip("-6 route show proto 81").isEmpty)
    #expect(await felix.status()["problems"]?.array?.isEmpty != false)

    // Somebody takes the end's route away.
    _ = try await rig.ip("-6 route delete \(blocks[1].address)/128 proto 80")
    try await eventually("it is back") { try await rig.ip("-6 route show \(blocks[1].address)/128").contains("dev vxlan-v6.calico") }

    for name in pools.keys { last = try await rig.remove(ResourceKey(.ipPool, name: name)) }
    for number in [1, 2] { last = try await rig.remove(ResourceKey(.node, name: "h\(number)")) }
    try await felix.until(last!)
    #expect(try await rig.ip("-6 route show proto 80").isEmpty)
    #expect(try await rig.ip("route show proto 80").isEmpty)
    try await felix.stop()
  }
}

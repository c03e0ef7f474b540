import CNIMessages
import CNIServer
import Glibc
import JSON
import KernelSandbox
import NetlinkEdge
import Sockets
import Testing

@Suite("CNI: calico-ipam, a plugin of its own", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(2)))
struct AddressCallTests {
  static let id = AttachmentTests.id
  static var configuration: JSONValue {
    var configuration = Rig.configuration
    configuration["type"] = "bridge"
    return configuration
  }

  @Test("ADD gives addresses with their block's length under Calico's handle, and makes no interface; DEL, any number of times, returns them")
  func wholeLife() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      func call(_ command: String, _ configuration: JSONValue = Self.configuration, arguments: String = "") async throws -> Rig.Outcome {
        try await rig.plugin(command, Self.id, container, arguments: arguments, configuration: configuration, program: "calico-ipam")
      }
      let added = try await call("ADD")
      #expect(
        added.json?.text() == #"{"cniVersion":"1.0.0","interfaces":[],"ips":[{"address":"10.65.0.1/26"},{"address":"fd00:65::1/122"}],"dns":{}}"#)
      #expect(rig.addresses.all.keys.sorted() == ["net.\(Self.id)"])
      #expect(rig.records.keys == [])
      #expect(try RouteNetlink(namespace: container).links().map(\.name) == ["lo"])
      var checking = Self.configuration
      checking["prevResult"] = added.json
      #expect(try await call("CHECK", checking).code == 0)
      checking["prevResult"] = ["ips": [["address": "10.65.0.77/26"]]]
      let other = try await call("CHECK", checking)
      #expect(other.errorCode == 101 && other.message.contains("does not hold 10.65.0.77"), "\(other.text)")
      for _ in 0..<4 {
        let deleted = try await call("DEL")
        #expect(deleted.code == 0 && deleted.text.isEmpty, "\(deleted.text)")
      }
      #expect(rig.addresses.all.isEmpty)
      #expect(try await call("CHECK", checking).errorCode == 101)
      let asked = try await call("ADD", arguments: "IP=10.65.0.30")
      #expect(asked.json?["ips"] == [["address": "10.65.0.30/32"]], "\(asked.text)")
    }
  }

  @Test("What fails half-way holds nothing", arguments: ["isReady", "assign", "assign halfway"])
  func failure(_ step: String) async throws {
    let rig = try Rig()
    rig.faults.set([step])
    try await rig.serving { () async throws in
      let failed = try await rig.plugin("ADD", Self.id, rig.host, configuration: Self.configuration, program: "calico-ipam")
      #expect(failed.code == 1 && failed.message.contains("injected: \(step)"), "\(failed.text)")
      if step != "assign halfway" { #expect(rig.addresses.all.isEmpty) }
    }
  }

  @Test("Without a node: ADD says so, DEL is kept and finished later, apart from a DEL of the network's own")
  func absence() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    func call(_ command: String, program: String = "calico-ipam") async throws -> Rig.Outcome {
      try await rig.plugin(command, "c1", container, configuration: Self.configuration, program: program)
    }
    #expect(try await call("ADD").errorCode == 11)
    let added = try await rig.serving { try await call("ADD") }
    #expect(added.code == 0, "\(added.text)")
    #expect(try await call("DEL").code == 0)
    #expect(try Files.list(rig.tombstones) == ["c1+eth0+ipam.del.json"])
    // The next life of the container finishes it first, and keeps what it gets itself.
    try await rig.serving { () async throws in
      #expect(try await call("ADD").code == 0)
      #expect(await blockingTruth { (try? Files.list(rig.tombstones)) == [] })
      #expect(rig.addresses.all["net.c1"]?.count == 2)
    }
  }

  @Test("The reference plugin bridge gets its addresses from calico-ipam: two containers on one bridge reach each other", .enabled(if: Rig.hasReferencePlugins))
  func bridge() async throws {
    let rig = try Rig()
    let containers = try (0..<2).map { _ in try rig.sandbox.namespace("c") }
    _ = try rig.link("calico-ipam")
    var configuration = Self.configuration
    configuration["bridge"] = "br0"
    try await rig.serving { () async throws in
      func call(_ command: String, _ number: Int) async throws -> Rig.Outcome {
        try await rig.execute(
          "\(Rig.referencePlugins)/bridge", rig.environment(command, "bridged-\(number)", containers[number].name), input: configuration.bytes,
          in: rig.host)
      }
      for number in 0..<2 {
        let added = try await call("ADD", number)
        #expect(added.code == 0, "\(added.text)")
      }
      let addresses = (rig.addresses.all["net.bridged-1"] ?? []).map(\.description)
      #expect(addresses.count == 2)
      #expect(try rig.ping(containers[0], addresses[0]))
      for number in 0..<2 {
        let deleted = try await call("DEL", number)
        #expect(deleted.code == 0, "\(deleted.text)")
      }
      #expect(rig.addresses.all.isEmpty)
    }
  }
}

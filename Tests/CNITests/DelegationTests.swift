import Addresses
import CNIMessages
import CNIServer
import Glibc
import JSON
import KernelSandbox
import NetlinkEdge
import Resources
import Sockets
import Testing

@Suite(
  "CNI: addresses of another IPAM plugin (host-local of the distribution)", .enabled(if: KernelSandbox.isAvailable && Rig.hasReferencePlugins),
  .timeLimit(.minutes(2)))
struct DelegationTests {
  static func configuration(_ rig: Rig, _ more: [(String, JSONValue)] = []) -> JSONValue {
    var ipam: JSONValue = [
      "type": "host-local", "dataDir": .string("\(rig.directory)/leases"),
      "ranges": [[["subnet": "10.77.0.0/24", "rangeStart": "10.77.0.5", "rangeEnd": "10.77.0.6"]], [["subnet": "fd00:77::/64"]]],
    ]
    for (name, value) in more { ipam[name] = value }
    return ["cniVersion": "1.0.0", "name": "net", "type": "calico", "ipam": ipam]
  }
  /// Addresses that host-local has given and not got back.
  static func leases(_ rig: Rig) -> [String] {
    ((try? Files.list("\(rig.directory)/leases/net")) ?? []).filter { IPAddress($0) != nil }
  }
  static let id = AttachmentTests.id

  @Test("The container has host-local's addresses, the record knows them, traffic flows; DEL, four times, returns them")
  func wholeLife() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    let configuration = Self.configuration(rig)
    try await rig.serving { () async throws in
      let added = try await rig.plugin("ADD", Self.id, container, configuration: configuration, program: "calico")
      #expect(added.code == 0, "\(added.text)")
      #expect(added.json?["ips"]?.array?.map { $0["address"]?.string } == ["10.77.0.5/32", "fd00:77::2/128"], "\(added.text)")
      #expect(added.json?["ips"]?.array?.allSatisfy { $0["gateway"] == nil } == true, "host-local's gateway is nobody's here")
      #expect(try rig.ping(container, "10.0.0.1"))
      #expect(try rig.ping(container, "fd00::1"))
      #expect(rig.addresses.all.isEmpty, "none of ours")
      let record = try #require(rig.records.object(ResourceKey(.workloadEndpoint, namespace: "default", name: "node1-cni-\(Self.id)-eth0")))
      #expect(record.workloadAddresses == ["10.77.0.5/32", "fd00:77::2/128"])
      #expect(Self.leases(rig).count == 2)
      var checking = configuration
      checking["prevResult"] = added.json
      let checked = try await rig.plugin("CHECK", Self.id, container, configuration: checking, program: "calico")
      #expect(checked.code == 0, "\(checked.text)")
      // ADD once more breaks the specification; host-local refuses it, and what stands goes on standing.
      let again = try await rig.plugin("ADD", Self.id, container, configuration: configuration, program: "calico")
      #expect(again.code == 1 && again.message.contains("ipam plugin host-local"), "\(again.text)")
      #expect(try rig.ping(container, "10.0.0.1"))
      #expect(Self.leases(rig).count == 2)
      for namespace in [container, container, nil, nil] {
        let deleted = try await rig.plugin("DEL", Self.id, namespace, configuration: configuration, program: "calico")
        #expect(deleted.code == 0 && deleted.text.isEmpty, "\(deleted.text)")
      }
      #expect(Self.leases(rig) == [])
      #expect(try rig.leftovers() == "")
      let unknown = try await rig.plugin("CHECK", Self.id, container, configuration: checking, program: "calico")
      #expect(unknown.code == 1 && unknown.message.contains("host-local"), "\(unknown.text)")
    }
  }

  @Test("Routes that the IPAM plugin lists replace the default ones; include_default_routes keeps both; CHECK misses one that is gone")
  func listedRoutes() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    var configuration = Self.configuration(rig, [("routes", [["dst": "10.0.0.0/8"], ["dst": "fd00::/16", "gw": "fd00:77::1"]])])
    try await rig.serving { () async throws in
      let added = try await rig.plugin("ADD", Self.id, container, configuration: configuration)
      #expect(added.code == 0, "\(added.text)")
      let routes = try rig.sandbox.ip(container, "route") + rig.sandbox.ip(container, "-6", "route")
      #expect(routes.contains("10.0.0.0/8 via 169.254.1.1 dev eth0") && routes.contains("fd00::/16 via fe80::ecee:eeff:feee:eeee"), "\(routes)")
      #expect(!routes.contains("default"), "\(routes)")
      #expect(try rig.ping(container, "10.0.0.1"))
      #expect(try rig.ping(container, "fd00::1"))
      var checking = configuration
      checking["prevResult"] = added.json
      #expect(try await rig.plugin("CHECK", Self.id, container, configuration: checking).code == 0)
      try rig.sandbox.ip(container, "route", "delete", "10.0.0.0/8")
      let checked = try await rig.plugin("CHECK", Self.id, container, configuration: checking)
      #expect(checked.errorCode == 101 && checked.message.contains("lacks the route 10.0.0.0/8"), "\(checked.text)")
      _ = try await rig.plugin("DEL", Self.id, container, configuration: configuration)
      configuration["include_default_routes"] = true
      #expect(try await rig.plugin("ADD", Self.id, container, configuration: configuration).code == 0)
      let both = try rig.sandbox.ip(container, "route")
      #expect(both.contains("default via 169.254.1.1") && both.contains("10.0.0.0/8 via 169.254.1.1"), "\(both)")
    }
  }

  @Test("An ADD that fails afterwards gives the addresses back", arguments: ["isReady", "put", "programmed"])
  func failure(_ step: String) async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      rig.faults.set([step])
      let failed = try await rig.plugin("ADD", Self.id, container, configuration: Self.configuration(rig))
      #expect(failed.code == 1 && failed.message.contains("injected: \(step)"), "\(failed.text)")
      #expect(Self.leases(rig) == [])
      #expect(try rig.leftovers() == "")
    }
    let without = try await rig.plugin("ADD", Self.id, container, configuration: Self.configuration(rig))
    #expect(without.errorCode == 11, "\(without.text)")
    #expect(Self.leases(rig) == [], "no node")
  }

  @Test("A plugin that has no address left says so in its own words, and nothing is made")
  func exhausted() async throws {
    let rig = try Rig()
    let containers = try (0..<3).map { _ in try rig.sandbox.namespace("c") }
    try await rig.serving { () async throws in
      for number in 0..<2 {
        #expect(try await rig.plugin("ADD", "c\(number)", containers[number], configuration: Self.configuration(rig)).code == 0)
      }
      let third = try await rig.plugin("ADD", "c2", containers[2], configuration: Self.configuration(rig))
      #expect(third.message.contains("ipam plugin host-local") && third.message.contains("no IP addresses available"), "\(third.text)")
      #expect(try RouteNetlink(namespace: containers[2]).links().map(\.name) == ["lo"])
      #expect(rig.records.keys.filter { $0.kind == .workloadEndpoint }.count == 2)
    }
  }

  @Test("An address that comes again is given to nobody before its former holder's DEL, left on disk, is finished")
  func reuse() async throws {
    let rig = try Rig()
    let old = try rig.sandbox.namespace("old")
    let new = try rig.sandbox.namespace("new")
    var configuration = Self.configuration(rig)
    // A plugin that always gives the same address.
    configuration["ipam"] = ["type": "static", "addresses": [["address": "10.77.0.9/24"]]]
    let added = try await rig.serving { () async throws in try await rig.plugin("ADD", "old", old, configuration: configuration) }
    #expect(added.code == 0, "\(added.text)")
    #expect(try await rig.plugin("DEL", "old", old, configuration: configuration).code == 0)
    #expect(try Files.list(rig.tombstones) == ["old+eth0.del.json"])
    rig.faults.set(["delete"])
    try await rig.serving { () async throws in
      let refused = try await rig.plugin("ADD", "new", new, configuration: configuration)
      #expect(refused.errorCode == 11 && refused.message.contains("old+eth0.del.json"), "\(refused.text)")
      rig.faults.set([])
      let taken = try await rig.plugin("ADD", "new", new, configuration: configuration)
      #expect(taken.code == 0, "\(taken.text)")
      #expect(try Files.list(rig.tombstones) == [])
      #expect(try RouteNetlink(namespace: old).link(named: "eth0") == nil)
      #expect(try rig.ping(new, "10.0.0.1"))
    }
  }

  @Test("What cannot be delegated is refused with its name", arguments: [
    (#"{"type":"host-local","subnet":"usePodCidr"}"#, "subnet \"usePodCidr\" needs the node's podCIDR"),
    (#"{"type":"host-local","ranges":[[{"subnet":"usePodCidrIPv6"}]]}"#, "subnet \"usePodCidrIPv6\""),
    (#"{"type":"nobody-has-this"}"#, "\"nobody-has-this\" is not in CNI_PATH"),
    (#"{"type":"calico"}"#, "\"calico\" is no IPAM plugin"), (#"{"type":"../host-local"}"#, "is no IPAM plugin"),
  ])
  func refusals(_ ipam: String, _ words: String) async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    var configuration = Self.configuration(rig)
    configuration["ipam"] = try JSONValue(parsing: ipam)
    try await rig.serving { () async throws in
      let refused = try await rig.plugin("ADD", Self.id, container, configuration: configuration, program: "calico")
      #expect(refused.errorCode == 7 && refused.message.contains(words), "\(refused.text)")
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("A plugin that prints nonsense, or an address that no workload can have, ends the ADD", arguments: [
    ("echo hello", "its result is no JSON"), ("echo '{}'", "returned no IP addresses"), ("echo oops; exit 3", "exit code 3: oops"),
    (#"echo '{"ips":[{"address":"127.0.0.1/8"}]}'"#, "gave 127.0.0.1"), (#"echo '{"ips":[{"address":"x"}]}'"#, "an address is not IP/LENGTH"),
    (#"echo '{"code":42,"msg":"sorry","details":"d"}'; exit 1"#, "ipam plugin odd: sorry"), ("kill -9 $$", "exit code 137"),
    ("exec yes", "exit code 141"),
  ])
  func oddPlugins(_ script: String, _ words: String) async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try Files.write(Array("#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\n\(script)\n".utf8), to: "\(rig.directory)/odd", create: true, mode: 0o755)
    let configuration: JSONValue = ["cniVersion": "1.0.0", "name": "net", "type": "calico", "ipam": ["type": "odd"]]
    try await rig.serving { () async throws in
      let failed = try await rig.plugin("ADD", Self.id, container, configuration: configuration)
      #expect(failed.code == 1 && failed.message.contains(words), "\(failed.text)")
      #expect(try rig.leftovers() == "")
    }
  }
}

extension Resource {
  var workloadAddresses: [String] {
    if case .workloadEndpoint(let spec) = spec { spec.ipNetworks.map(\.description) } else { [] }
  }
}

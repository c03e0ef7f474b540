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

@Suite("CNI: containers on a real kernel", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(2)))
struct AttachmentTests {
  static let id = String(repeating: "0123456789abcdef", count: 4)
  static let pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=front-1;K8S_POD_INFRA_CONTAINER_ID=x"

  @Test("After ADD the container reaches the host in both families at once; CHECK agrees; DEL leaves nothing")
  func wholeLife() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      let added = try await rig.plugin("ADD", Self.id, container, arguments: Self.pod)
      #expect(added.code == 0, "\(added.text)")
      #expect(try rig.ping(container, "10.0.0.1"))
      #expect(try rig.ping(container, "fd00::1"))

      let json = try #require(added.json)
      let mac = try #require(json["interfaces"]?.array?[1]["mac"]?.string)
      // cali + SHA-1("web.front-1"), cut to 11 digits: `printf web.front-1 | sha1sum`.
      #expect(
        json.text()
          == #"{"cniVersion":"1.0.0","interfaces":[{"name":"cali41fd834da14","mac":"ee:ee:ee:ee:ee:ee"},{"name":"eth0","mac":"\#(mac)","sandbox":"\#(container.name)"}],"ips":[{"interface":1,"address":"10.65.0.1/32"},{"interface":1,"address":"fd00:65::1/128"}],"dns":{}}"#)

      // Seen by iproute2, which shares no code with us.
      let routes = try rig.sandbox.ip(container, "route")
      #expect(routes.contains("default via 169.254.1.1 dev eth0") && routes.contains("169.254.1.1 dev eth0 scope link"), "\(routes)")
      #expect(try rig.sandbox.ip(container, "-6", "route").contains("default via fe80::ecee:eeff:feee:eeee dev eth0"))
      let neighbours = try rig.sandbox.ip(container, "neigh")
      #expect(neighbours.contains("169.254.1.1 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT"), "\(neighbours)")
      #expect(neighbours.contains("fe80::ecee:eeff:feee:eeee dev eth0 lladdr ee:ee:ee:ee:ee:ee"), "\(neighbours)")
      #expect(!(try rig.sandbox.ip(container, "address")).contains("tentative"))

      let key = ResourceKey(.workloadEndpoint, namespace: "web", name: "node1-k8s-front--1-eth0")
      let record = try #require(rig.records.object(key))
      #expect(record.metadata.labels == ["projectcalico.org/namespace": "web", "projectcalico.org/orchestrator": "k8s"])
      guard case .workloadEndpoint(let spec) = record.spec else { return }
      #expect(spec.pod == "front-1" && spec.containerID == Self.id && spec.profiles == ["kns.web"] && spec.mac?.description == mac)
      #expect(rig.addresses.all.keys.sorted() == ["net.\(Self.id)"])

      #expect(try await rig.plugin("CHECK", Self.id, container, arguments: Self.pod).code == 0)
      let deleted = try await rig.plugin("DEL", Self.id, container, arguments: Self.pod)
      #expect(deleted.code == 0 && deleted.text.isEmpty, "\(deleted.text)")
      #expect(try rig.leftovers() == "")
      #expect(try RouteNetlink(namespace: container).link(named: "eth0") == nil)
      #expect(rig.felix.openedEarly.withLock { $0 } == [], "switched on before the rules were in the kernel")
    }
    #expect(!Files.exists(rig.socket))
  }

  @Test("A container without an orchestrator gets the network's profile; labels come from configuration and arguments")
  func plainContainer() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    var configuration = Rig.configuration
    configuration["args"] = ["cni": ["labels": [["key": "app", "value": "web"], ["key": "tier", "value": "a"]]]]
    configuration["margay"] = ["labels": ["tier": "b"], "namespace": "shop"]
    configuration["cniVersion"] = "0.3.1"
    try await rig.serving { () async throws in
      let added = try await rig.plugin("ADD", Self.id, container, arguments: "MARGAY_LABELS=zone=x", configuration: configuration)
      #expect(added.code == 0, "\(added.text)")
      #expect(added.json?["interfaces"]?.array?[0]["name"] == "cali0123456789a")
      #expect(added.json?["ips"]?.array?[0]["version"] == "4")
      let key = ResourceKey(.workloadEndpoint, namespace: "shop", name: "node1-cni-\(Self.id)-eth0")
      let record = try #require(rig.records.object(key))
      #expect(
        record.metadata.labels == [
          "app": "web", "tier": "b", "zone": "x", "projectcalico.org/namespace": "shop", "projectcalico.org/orchestrator": "cni",
        ])
      guard case .profile(let profile)? = rig.records.object(ResourceKey(.profile, name: "net"))?.spec else {
        Issue.record("no profile")
        return
      }
      #expect(profile.labelsToApply == ["net": ""] && profile.ingress.first?.source.selector == "has(net)" && profile.egress.count == 1)
      #expect(try await rig.plugin("DEL", Self.id, container, configuration: configuration).code == 0)
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("ADD again changes nothing and says the same")
  func repeatedAdd() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      let first = try await rig.plugin("ADD", Self.id, container, arguments: Self.pod)
      let second = try await rig.plugin("ADD", Self.id, container, arguments: Self.pod)
      #expect(first.code == 0 && first.text == second.text)
      #expect(rig.addresses.all.count == 1 && rig.records.keys.count == 1)
      _ = try await rig.plugin("DEL", Self.id, container, arguments: Self.pod)
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("An attachment whose interface was lost is made anew")
  func lostInterface() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      _ = try await rig.plugin("ADD", Self.id, container)
      try rig.sandbox.ip(container, "link", "delete", "eth0")
      #expect(try await rig.plugin("CHECK", Self.id, container).errorCode == 101)
      let again = try await rig.plugin("ADD", Self.id, container)
      #expect(again.code == 0, "\(again.text)")
      #expect(try rig.ping(container, "10.0.0.1"))
      #expect(rig.addresses.all.values.joined().count == 2)
      _ = try await rig.plugin("DEL", Self.id, container)
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("A new container takes its pod's place, and a late DEL of the old one does it no harm")
  func replacedContainer() async throws {
    let rig = try Rig()
    let old = try rig.sandbox.namespace("old")
    let new = try rig.sandbox.namespace("new")
    try await rig.serving { () async throws in
      _ = try await rig.plugin("ADD", "aaa", old, arguments: Self.pod)
      let added = try await rig.plugin("ADD", "bbb", new, arguments: Self.pod)
      #expect(added.code == 0, "\(added.text)")
      #expect(try RouteNetlink(namespace: old).link(named: "eth0") == nil)
      #expect(rig.addresses.all.keys.sorted() == ["net.bbb"])
      #expect(try await rig.plugin("DEL", "aaa", old, arguments: Self.pod).code == 0)
      #expect(rig.records.keys.count == 1)
      #expect(try rig.ping(new, "10.0.0.1"))
      #expect(try rig.ping(new, "fd00::1"))
      _ = try await rig.plugin("DEL", "bbb", new, arguments: Self.pod)
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("Whichever step of ADD fails, what was done is undone, and the next ADD succeeds", arguments: [
    "isReady", "endpoint", "assign", "assign halfway", "ensureProfile", "put", "protected", "programmed",
  ])
  func undo(_ step: String) async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      rig.faults.set([step])
      let failed = try await rig.plugin("ADD", Self.id, container)
      #expect(failed.code == 1 && failed.message.contains("injected: \(step)"), "\(failed.text)")
      #expect(try rig.leftovers() == "")
      #expect(try RouteNetlink(namespace: container).links().map(\.name) == ["lo"])
      rig.faults.set([])
      #expect(try await rig.plugin("ADD", Self.id, container).code == 0)
      #expect(try rig.ping(container, "10.0.0.1"))
    }
  }

  @Test("An interface name that is taken inside the container fails without a trace")
  func takenName() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try rig.sandbox.ip(container, "link", "add", "eth0", "type", "bridge")
    try await rig.serving { () async throws in
      let failed = try await rig.plugin("ADD", Self.id, container)
      #expect(failed.errorCode == 100 && failed.message.contains("File exists"), "\(failed.text)")
      #expect(try rig.leftovers() == "")
      #expect(try RouteNetlink(namespace: container).link(named: "eth0")?.kind == "bridge")
    }
  }

  @Test("The host's own namespace is refused, a datastore that is locked is an invitation to come again")
  func refusals() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      let host = try await rig.plugin("ADD", Self.id, rig.host)
      #expect(host.errorCode == 4 && host.message.contains("of the host itself"), "\(host.text)")
      rig.records.setReady(false)
      let locked = try await rig.plugin("ADD", Self.id, container)
      #expect(locked.errorCode == 11 && locked.message == "Calico is currently not ready to process requests")
      rig.records.setReady(true)
      var other = Rig.configuration
      other["nodename"] = "node2"
      #expect(try await rig.plugin("ADD", Self.id, container, configuration: other).errorCode == 7)
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("DEL succeeds when the namespace, the interface, the record or everything is gone already")
  func deletesOfNothing() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      #expect(try await rig.plugin("DEL", Self.id, container).code == 0)
      #expect(try await rig.plugin("DEL", Self.id, nil).code == 0)
      _ = try await rig.plugin("ADD", Self.id, container)
      try rig.sandbox.ip(container, "link", "delete", "eth0")
      #expect(try await rig.plugin("DEL", Self.id, nil).code == 0)
      #expect(try rig.leftovers() == "")
      _ = try await rig.plugin("ADD", Self.id, container)
      let key = try #require(rig.records.keys.first { $0.kind == .workloadEndpoint })
      try await rig.records.delete(key) { _ in true }
      #expect(try await rig.plugin("DEL", Self.id, container).code == 0)
      #expect(try await rig.plugin("DEL", Self.id, container).code == 0)
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("Addresses stay held while the interface of their holder may still be there")
  func failingDelete() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      _ = try await rig.plugin("ADD", Self.id, container)
      rig.faults.set(["delete"])
      let failed = try await rig.plugin("DEL", Self.id, container)
      #expect(failed.code == 1 && failed.message.contains("injected: delete"))
      #expect(rig.addresses.all.count == 1)
      rig.faults.set([])
      #expect(try await rig.plugin("DEL", Self.id, container).code == 0)
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("CHECK names what is missing", arguments: [
    (["address", "delete", "10.65.0.1/32", "dev", "eth0"], "lacks the address 10.65.0.1"),
    (["route", "delete", "default"], "lacks the route 0.0.0.0/0"),
    (["-6", "route", "delete", "default"], "lacks the route ::/0"),
    (["link", "set", "eth0", "down"], "eth0 is switched off"),
    (["link", "set", "eth0", "address", "02:00:00:00:00:09"], "MAC address 02:00:00:00:00:09"),
    (["link", "set", "eth0", "mtu", "1400"], "eth0 has the MTU 1400 instead of 1500"),
    (["link", "delete", "eth0"], "no interface"),
  ] as [([String], String)])
  func check(_ damage: [String], _ words: String) async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      _ = try await rig.plugin("ADD", Self.id, container)
      #expect(try await rig.plugin("CHECK", Self.id, container).code == 0)
      try rig.sandbox.ip(container, damage)
      let checked = try await rig.plugin("CHECK", Self.id, container)
      #expect(checked.errorCode == 101 && checked.message.contains(words), "\(checked.text)")
    }
  }

  @Test("CHECK looks at the host's end as well, and at who holds the addresses")
  func checkOfTheHost() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      func seen() async throws -> Rig.Outcome { try await rig.plugin("CHECK", Self.id, container) }
      func expectFault(_ words: String) async throws {
        let checked = try await seen()
        #expect(checked.errorCode == 101 && checked.message.contains(words), "\(checked.text)")
      }
      try await expectFault("is not recorded for container")
      _ = try await rig.plugin("ADD", Self.id, container)
      let interface = "cali0123456789a"
      try rig.sandbox.ip(rig.host, "link", "set", interface, "mtu", "1300")
      try await expectFault("\(interface) has the MTU 1300")
      try rig.sandbox.ip(rig.host, "link", "set", interface, "mtu", "1500")
      try rig.sandbox.ip(rig.host, "link", "set", interface, "address", "02:00:00:00:00:07")
      try await expectFault("\(interface) has the MAC address 02:00:00:00:00:07")
      try rig.sandbox.ip(rig.host, "link", "set", interface, "address", "ee:ee:ee:ee:ee:ee")
      #expect(try await seen().code == 0)
      try await rig.addresses.release(handle: "net.\(Self.id)")
      try await expectFault("does not hold the address 10.65.0.1")
    }
  }

  @Test("CHECK speaks for the kernel's routes to the container, and for Felix's rules")
  func checkOfFelix() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      _ = try await rig.plugin("ADD", Self.id, container)
      rig.felix.idles.withLock { $0 = true }
      try rig.sandbox.ip(rig.host, "route", "delete", "10.65.0.1")
      let checked = try await rig.plugin("CHECK", Self.id, container)
      #expect(checked.errorCode == 101 && checked.message.contains("no route to 10.65.0.1"), "\(checked.text)")
      rig.felix.idles.withLock { $0 = false }
      try rig.sandbox.ip(rig.host, "route", "add", "10.65.0.1", "dev", "cali0123456789a")
      #expect(try await rig.plugin("CHECK", Self.id, container).code == 0)
      rig.faults.set(["programmed"])
      #expect(try await rig.plugin("CHECK", Self.id, container).errorCode == 103)
    }
  }

  @Test("CHECK compares with what ADD told the runtime", arguments: [
    (#"{"interfaces":[],"ips":[]}"#, "prevResult has no interface eth0"),
    (#"{"interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01","sandbox":"/x"}],"ips":[]}"#, "prevResult has eth0 with 02:00:00:00:00:01"),
    (#"{"interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"interface":0,"address":"10.65.0.9/32"}]}"#, "prevResult has the address 10.65.0.9"),
    (#"{"interfaces":[{"name":"eth0","sandbox":"/x"}],"ips":[{"interface":0,"address":"10.65.0.1/32"}]}"#, "the record has the address fd00:65::1"),
  ])
  func previousResult(_ text: String, _ words: String) async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    var configuration = Rig.configuration
    try await rig.serving { () async throws in
      let added = try await rig.plugin("ADD", Self.id, container)
      configuration["prevResult"] = added.json
      #expect(try await rig.plugin("CHECK", Self.id, container, configuration: configuration).code == 0)
      configuration["prevResult"] = try JSONValue(parsing: text)
      let checked = try await rig.plugin("CHECK", Self.id, container, configuration: configuration)
      #expect(checked.errorCode == 101 && checked.message.contains(words), "\(checked.text)")
    }
  }

  @Test("DEL while ADD is under way waits for it, and leaves nothing")
  func deleteDuringAdd() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    try await rig.serving { () async throws in
      rig.felix.hangs.withLock { $0 = true }
      var configuration = Rig.configuration
      configuration["margay"] = ["timeoutSeconds": 2]
      let adding = Task { [configuration] () async throws in
        try await rig.plugin("ADD", Self.id, container, configuration: configuration)
      }
      #expect(await blockingTruth { rig.records.keys.contains { $0.kind == .workloadEndpoint } })
      let deleted = try await rig.plugin("DEL", Self.id, container)
      #expect(deleted.code == 0, "\(deleted.text)")
      #expect(try await adding.value.errorCode == 103)
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("Sixteen containers at once get sixteen addresses, and all of them work")
  func concurrency() async throws {
    let rig = try Rig()
    let containers = try (0..<16).map { _ in try rig.sandbox.namespace("c") }
    try await rig.serving { () async throws in
      try await withThrowingTaskGroup(of: Void.self) { group in
        for (number, container) in containers.enumerated() {
          group.addTask {
            let added = try await rig.plugin("ADD", "workload-number-\(number)", container)
            #expect(added.code == 0, "\(added.text)")
          }
        }
        try await group.waitForAll()
      }
      #expect(Set(rig.addresses.all.values.joined()).count == 32)
      for container in containers { #expect(try rig.ping(container, "10.0.0.1")) }
      try await withThrowingTaskGroup(of: Void.self) { group in
        for (number, container) in containers.enumerated() {
          // Twice, as containerd does.
          for _ in 0..<2 {
            group.addTask {
              let deleted = try await rig.plugin("DEL", "workload-number-\(number)", container)
              #expect(deleted.code == 0, "\(deleted.text)")
            }
          }
        }
        try await group.waitForAll()
      }
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("Two networks of one container do not share an interface on the host")
  func twoInterfaces() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    var second = Rig.configuration
    second["name"] = "other"
    try await rig.serving { () async throws in
      #expect(try await rig.plugin("ADD", Self.id, container).code == 0)
      #expect(try await rig.plugin("ADD", Self.id, container, interface: "eth1", configuration: second).code == 0)
      #expect(try RouteNetlink(namespace: rig.host).links().count == 3)
      _ = try await rig.plugin("DEL", Self.id, container)
      #expect(try RouteNetlink(namespace: container).link(named: "eth1")?.isUp == true)
      _ = try await rig.plugin("DEL", Self.id, container, interface: "eth1", configuration: second)
      #expect(try rig.leftovers() == "")
    }
  }

  @Test("An address that is given back takes its flows along")
  func conntrack() async throws {
    let rig = try Rig()
    let container = try rig.sandbox.namespace("c")
    // Connection tracking runs in a namespace once a rule asks for it.
    let rules = "add table inet t; add chain inet t i { type filter hook input priority 0; }; add rule inet t i ct state established accept"
    try rig.sandbox.run(rig.host, "nft", [rules])
    func flows() throws -> [Substring] {
      let lists = try ["ipv4", "ipv6"].map { try rig.sandbox.run(rig.host, "conntrack", ["-L", "-f", $0, "-o", "extended"]) }
      return lists.joined(separator: "\n").split(separator: "\n").filter { $0.contains("src=") }
    }
    try await rig.serving { () async throws in
      _ = try await rig.plugin("ADD", Self.id, container)
      #expect(try rig.ping(container, "10.0.0.1"))
      #expect(try rig.ping(container, "fd00::1"))
      // Begun by the host: the container is the destination.
      #expect(try rig.ping(rig.host, "10.65.0.1"))
      // Another's flow, which must stay.
      #expect(try rig.ping(rig.host, "10.0.0.1"))
      let before = try flows()
      #expect(before.filter { $0.contains("10.65.0.1") }.count == 2 && before.filter { $0.contains("fd00:65::1") }.count == 1, "\(before)")
      #expect(try await rig.plugin("DEL", Self.id, container).code == 0)
      let after = try flows()
      #expect(after.filter { $0.contains("10.65.0.1") || $0.contains("fd00:65::1") } == [], "\(after)")
      #expect(after.contains { $0.contains("src=10.0.0.1 dst=10.0.0.1") }, "\(after)")
    }
  }
}

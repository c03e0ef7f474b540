import Addresses
import Datastore
import DatastoreMemory
import JSON
import KernelSandbox
import Logging
import NetlinkEdge
import Resources
import Sockets
import Synchronization
import Testing

@testable import NodeProgram

@Suite("Where a node's address comes from")
struct AddressDetectionTests {
  private let host = [
    HostInterface(name: "lo", addresses: [InterfaceAddress("127.0.0.1/8")!, InterfaceAddress("10.255.0.1/32")!]),
    HostInterface(name: "docker0", addresses: [InterfaceAddress("172.17.0.1/16")!]),
    HostInterface(name: "eth0", isUp: false, addresses: [InterfaceAddress("10.0.0.9/24")!]),
    HostInterface(name: "eth1", addresses: [InterfaceAddress("169.254.7.7/16")!, InterfaceAddress("10.1.0.9/24")!, InterfaceAddress("fe80::1/64")!]),
    HostInterface(name: "bond0", addresses: [InterfaceAddress("10.2.0.9/20")!, InterfaceAddress("fd02::9/64")!]),
    HostInterface(name: "cali7", addresses: [InterfaceAddress("10.3.0.9/32")!]),
  ]
  private func address(_ method: String, _ family: IPFamily = .v4) throws -> String? {
    try AddressDetection(parsing: method).address(
      family, of: host, internalAddresses: [IPAddress("203.0.113.5")!, IPAddress("fd02::9")!],
      source: { $0 == "192.0.2.1" ? IPAddress("10.2.0.9") : $0 == "2001:db8::1" ? IPAddress("fd02::9") : nil }
    )?.description
  }

  @Test(
    "Each method",
    arguments: [
      ("first-found", "10.1.0.9/24", "fd02::9/64"), ("interface=bond.*", "10.2.0.9/20", "fd02::9/64"),
      ("interface=eth0,bond,eth1", "10.2.0.9/20", "fd02::9/64"), ("interface=cali", "10.3.0.9/32", nil), ("interface=^eth1$", "10.1.0.9/24", nil),
      ("skip-interface=eth.*", "10.2.0.9/20", "fd02::9/64"), ("skip-interface=eth1,bond", nil, nil), ("cidr=10.2.0.0/16", "10.2.0.9/20", nil),
      ("cidr=192.168.0.0/16,172.16.0.0/12,fd02::/16", "172.17.0.1/16", "fd02::9/64"), ("can-reach=192.0.2.1", "10.2.0.9/20", nil),
      ("can-reach=2001:db8::1", nil, "fd02::9/64"), ("can-reach=198.51.100.1", nil, nil),
      ("kubernetes-internal-ip", "203.0.113.5/32", "fd02::9/64"),
    ] as [(String, String?, String?)])
  func methods(method: String, v4: String?, v6: String?) throws {
    #expect(try address(method) == v4)
    #expect(try address(method, .v6) == v6)
  }

  @Test(
    "What is no method is told",
    arguments: ["first", "first-found=x", "interface", "interface=(", "can-reach=", "cidr=ten", "skip-interface=", "=x", ""])
  func faults(text: String) { #expect(throws: AddressDetection.Fault.self) { try AddressDetection(parsing: text) } }

  @Test("The way to a destination is the kernel's choice, in both families", .enabled(if: KernelSandbox.isAvailable))
  func reach() throws {
    let sandbox = KernelSandbox()
    let host = try sandbox.namespace("reach")
    func ip(_ line: String) throws { try sandbox.ip(host, line.split(separator: " ").map(String.init)) }
    for (name, v4, v6) in [("eth0", "10.1.0.1/24", "fd01::1/64"), ("eth1", "10.2.0.1/24", "fd02::1/64")] {
      try ip("link add \(name) type bridge")
      try ip("address add \(v4) dev \(name)")
      try ip("-6 address add \(v6) dev \(name) nodad")
      try ip("link set \(name) up")
    }
    try ip("route add 192.0.2.0/24 via 10.2.0.2 dev eth1")
    try ip("-6 route add 2001:db8::/32 via fd02::2 dev eth1")
    func detect(_ method: String, _ family: IPFamily) throws -> String? {
      try AddressDetection(parsing: method).address(family, of: HostView.interfaces(in: host), internalAddresses: []) {
        try HostView.source(towards: $0, family, in: host)
      }?.description
    }
    #expect(try detect("first-found", .v4) == "10.1.0.1/24")
    #expect(try detect("can-reach=192.0.2.7", .v4) == "10.2.0.1/24")
    #expect(try detect("can-reach=2001:db8::7", .v6) == "fd02::1/64")
    #expect(try detect("can-reach=198.51.100.7", .v4) == nil)
    #expect(try detect("cidr=fd02::/16", .v6) == "fd02::1/64")
  }

  @Test("A detected address follows the host's: at once, and not while it has none", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(1)))
  func follows() async throws {
    let sandbox = KernelSandbox()
    let host = try sandbox.namespace("follow")
    func ip(_ line: String) throws { try sandbox.ip(host, line.split(separator: " ").map(String.init)) }
    try ip("link add eth0 type bridge")
    try ip("link set eth0 up")
    try ip("address add 10.1.0.1/24 dev eth0")
    let datastore = MemoryDatastore()
    var startup = NodeStartup(name: "h1")
    startup.namespace = host
    startup.choices = [.v4: .detected(.firstFound), .v6: .stored(orElse: .firstFound)]
    #expect(startup.follows)
    _ = try await startup.run(datastore)
    let store = ResourceStore(datastore)
    func stored() async throws -> String? {
      guard case .node(let node)? = try await store.get(ResourceKey(.node, name: "h1"))?.resource.spec else { return nil }
      return node.bgp?.ipv4Address?.description
    }
    #expect(try await stored() == "10.1.0.1/24")
    let mailbox = Shared<EventLoop.Mailbox?>(nil)
    let looks = Shared(0)
    let monitoring = Task { [startup] in
      try await blocking {
        let loop = try EventLoop()
        let quiet = Logger(label: "node") { _ in SwiftLogNoOpLogHandler() }
        let monitor = try AddressMonitor(startup, datastore, loop: loop, pollInterval: .zero, log: quiet)
        monitor.onLook = { looks.withLock { $0 += 1 } }
        mailbox.withLock { $0 = loop.mailbox }
        withExtendedLifetime(monitor) { loop.run() }
        loop.clear()
      }
    }
    func eventuallyLooked(more than: Int) async throws {
      let deadline = ContinuousClock.now + .seconds(20)
      while looks.withLock({ $0 }) <= than {
        try #require(ContinuousClock.now < deadline)
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    try await eventuallyLooked(more: 0)
    try ip("address del 10.1.0.1/24 dev eth0")
    try await eventuallyLooked(more: looks.withLock { $0 })
    #expect(try await stored() == "10.1.0.1/24")
    try ip("address add 10.9.0.1/16 dev eth0")
    let deadline = ContinuousClock.now + .seconds(20)
    while try await stored() != "10.9.0.1/16" {
      try #require(ContinuousClock.now < deadline)
      try await Task.sleep(for: .milliseconds(5))
    }
    mailbox.withLock { $0 }?.stop()
    try await monitoring.value
  }
}

@Suite("What Calico's variables say of a node")
struct NodeEnvironmentTests {
  @Test("Names, addresses, numbers and words")
  func values() throws {
    let environment = try NodeEnvironment([
      "NODENAME": "n1", "HOSTNAME": "H1", "IP": "autodetect", "IP_AUTODETECTION_METHOD": "interface=eth.*", "IP6": "fd00::1/64", "AS": "64999",
      "CLUSTER_TYPE": "k8s,bgp", "CALICO_K8S_NODE_REF": "k1", "DISABLE_NODE_IP_CHECK": "true", "AUTODETECT_POLL_INTERVAL": "5s", "NODE_IP": "10.0.0.1,fd00::1",
    ])
    #expect(environment.name == "n1" && environment.asNumber == 64999 && environment.kubernetesName == "k1" && environment.toleratesConflicts)
    #expect(environment.choices == [.v4: .detected(.interface(["eth.*"])), .v6: .given(InterfaceAddress("fd00::1/64")!)])
    #expect(environment.clusterTypes == ["k8s", "bgp"] && environment.pollInterval == .seconds(5) && environment.internalAddresses.count == 2)
    #expect(environment.defaultPools == nil)
    let none = try NodeEnvironment(["IP": "", "IP6": "none", "HOSTNAME": "Host", "AS": "1.10"])
    #expect(none.choices == [.v4: .stored(orElse: .firstFound), .v6: AddressChoice.none] && none.name == "host" && none.asNumber == 65546)
  }

  @Test(
    "A variable that says nothing sensible stops the start, by its name",
    arguments: [
      ["IP": "here"], ["IP": "fd00::1"], ["IP6_AUTODETECTION_METHOD": "guess"], ["AS": "-1"], ["DISABLE_NODE_IP_CHECK": "perhaps"],
      ["AUTODETECT_POLL_INTERVAL": "often"], ["CALICO_IPV4POOL_CIDR": "fd00::/8"], ["CALICO_IPV4POOL_BLOCK_SIZE": "33"],
      ["CALICO_IPV4POOL_VXLAN": "sometimes"], ["CALICO_IPV4POOL_VXLAN": "Always", "CALICO_IPV4POOL_IPIP": "Always"], ["CALICO_IPV6POOL_IPIP": "Always"],
    ])
  func faults(variables: [String: String]) {
    let fault = #expect(throws: NodeEnvironment.Fault.self) { try NodeEnvironment(variables) }
    #expect(variables.keys.contains { fault?.description.hasPrefix($0) == true })
  }

  @Test("Default pools: asked for by their variables, beside nothing of their family, where the host is not")
  func pools() async throws {
    let environment = try NodeEnvironment([
      "CALICO_IPV4POOL_VXLAN": "CrossSubnet", "CALICO_IPV4POOL_BLOCK_SIZE": "28", "CALICO_IPV4POOL_NODE_SELECTOR": "rack == 'a'",
      "CALICO_IPV6POOL_CIDR": "fd10::/64", "CALICO_IPV6POOL_NAT_OUTGOING": "true",
    ])
    let pools = try #require(environment.defaultPools)
    let datastore = MemoryDatastore()
    let store = ResourceStore(datastore)
    let eth0 = HostInterface(name: "eth0", addresses: [InterfaceAddress("192.168.7.7/24")!, InterfaceAddress("172.16.1.1/12")!])
    await #expect(throws: NodeStartup.Problem.self) { try await pools.create(store, interfaces: [eth0]) }
    let lan = HostInterface(name: "eth0", addresses: [InterfaceAddress("192.168.7.7/24")!, InterfaceAddress("172.16.1.1/16")!])
    // Many nodes at once.
    try await withThrowingTaskGroup { group in
      for _ in 0..<20 { group.addTask { try await pools.create(store, interfaces: [lan]) } }
      try await group.waitForAll()
    }
    func spec(_ name: String) async throws -> IPPoolSpec? {
      if case .ipPool(let spec)? = try await store.get(ResourceKey(.ipPool, name: name))?.resource.spec { spec } else { nil }
    }
    let v4 = try #require(try await spec("default-ipv4-ippool"))
    #expect(v4.cidr == IPPrefix("172.17.0.0/16") && v4.blockSize == 28 && v4.vxlanMode == .crossSubnet && v4.natOutgoing)
    #expect(v4.nodeSelector == "rack == 'a'")
    let v6 = try #require(try await spec("default-ipv6-ippool"))
    #expect(v6.cidr == IPPrefix("fd10::/64") && v6.blockSize == 122 && v6.natOutgoing && v6.ipipMode == .never)
    #expect(try NodeEnvironment(["CALICO_IPV4POOL_CIDR": "none"]).defaultPools == nil)
    #expect(try NodeEnvironment(["CALICO_IPV4POOL_CIDR": "10.0.0.0/8", "NO_DEFAULT_POOLS": "true"]).defaultPools == nil)
    #expect(DefaultPools.choose(.v6, interfaces: [], random: [1, 2, 3, 4, 5]) == IPPrefix("fd01:203:405::/48"))
  }

  @Test("The start leaves the cluster's types, the name in Kubernetes and the pools; what is there stays")
  func start() async throws {
    let datastore = MemoryDatastore()
    var startup = NodeStartup(name: "h1", ipv4: InterfaceAddress("10.0.0.1/24")!)
    startup.interfaces = { _ in [] }
    startup.clusterTypes = ["k8s", "margay"]
    startup.kubernetesName = "k1"
    startup.defaultPools = DefaultPools([.v4: .init(.v4)])
    for _ in 0..<2 { _ = try await startup.run(datastore) }
    let store = ResourceStore(datastore)
    guard case .clusterInformation(let information)? = try await store.get(ResourceKey(.clusterInformation, name: "default"))?.resource.spec,
      case .node(let node)? = try await store.get(ResourceKey(.node, name: "h1"))?.resource.spec
    else {
      Issue.record("the objects are missing")
      return
    }
    #expect(information.clusterType == "margay,k8s")
    #expect(node.orchRefs == [.init(orchestrator: "k8s", nodeName: "k1")])
    #expect(try await store.list(.ipPool).items.count == 1)
    // An address that another node has stops a start, unless whoever starts it says that it may be.
    var other = NodeStartup(name: "h2", ipv4: InterfaceAddress("10.0.0.1/24")!)
    other.interfaces = { _ in [] }
    await #expect(throws: NodeStartup.Problem.self) { try await other.run(datastore) }
    other.toleratesConflicts = true
    _ = try await other.run(datastore)
  }

  @Test("Of nodes that start at the same moment with one address, one gets it")
  func race() async throws {
    let datastore = MemoryDatastore()
    let won = try await withThrowingTaskGroup(of: Bool.self) { group in
      for number in 0..<16 {
        group.addTask {
          var startup = NodeStartup(name: "h\(number)", ipv4: InterfaceAddress("10.0.0.1/24")!, ipv6: InterfaceAddress("fd00::\(number + 1)/64")!)
          startup.interfaces = { _ in [] }
          do { _ = try await startup.run(datastore) } catch is NodeStartup.Problem { return false }
          return true
        }
      }
      return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(won == 1)
    #expect(try await ResourceStore(datastore).list(.node).items.count == 1)
  }
}

private final class Shared<Value: Sendable>: Sendable {
  private let value: Mutex<Value>
  init(_ value: Value) { self.value = Mutex(value) }
  func withLock<Result: Sendable>(_ body: (inout Value) -> Result) -> Result { value.withLock { value in
      var copy = value
      let result = body(&copy)
      value = copy
      return result
    } }
}

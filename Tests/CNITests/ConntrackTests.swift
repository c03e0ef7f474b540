import Addresses
@testable import CNIServer
import KernelSandbox
import NetlinkEdge
import Testing

/// Flows made by real packets, read by the `conntrack` program, which shares no code with what is tested.
@Suite("Flows of addresses that are gone", .enabled(if: KernelSandbox.isAvailable), .timeLimit(.minutes(1)))
struct ConntrackTests {
  static func host(_ sandbox: KernelSandbox) throws -> NetworkNamespace {
    let host = try sandbox.namespace("h")
    let rules = "add table inet t; add chain inet t i { type filter hook input priority 0; }; add rule inet t i ct state established accept"
    try sandbox.run(host, "nft", [rules])
    for address in ["10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32", "fd00::1/128", "fd00::2/128", "fd00::3/128"] {
      try sandbox.ip(host, "address", "add", address, "dev", "lo")
    }
    for (from, to) in [("10.0.0.1", "10.0.0.2"), ("10.0.0.3", "10.0.0.1"), ("10.0.0.2", "10.0.0.3"), ("fd00::1", "fd00::2"),
      ("fd00::3", "fd00::1"), ("fd00::2", "fd00::3")]
    {
      try sandbox.run(host, "ping", ["-c", "1", "-W", "1", "-I", from, to])
    }
    return host
  }
  static func flows(_ sandbox: KernelSandbox, _ host: NetworkNamespace) throws -> [String] {
    let lists = try ["ipv4", "ipv6"].map { try sandbox.run(host, "conntrack", ["-L", "-f", $0]) }
    return lists.joined(separator: "\n").split(separator: "\n").filter { $0.contains("src=") }.map { line in
      line.split(separator: " ").filter { $0.hasPrefix("src=") || $0.hasPrefix("dst=") }.prefix(2).joined(separator: " ")
    }.sorted()
  }

  @Test("Begun by the address or to it, in either family, by either way of asking the kernel; others' flows stay", arguments: [5_000, 0])
  func both(_ fewFlows: Int) throws {
    let sandbox = KernelSandbox()
    let host = try Self.host(sandbox)
    #expect(try Self.flows(sandbox, host).count == 6)
    var flush = try ConntrackFlush(namespace: host)
    flush.fewFlows = fewFlows
    #expect(try flush.forget([IPAddress("10.0.0.1")!]) == 2)
    #expect(try Self.flows(sandbox, host).filter { $0.contains("10.") } == ["src=10.0.0.2 dst=10.0.0.3"])
    #expect(try flush.forget([IPAddress("fd00::1")!, IPAddress("10.0.0.9")!]) == 2)
    #expect(try Self.flows(sandbox, host) == ["src=10.0.0.2 dst=10.0.0.3", "src=fd00::2 dst=fd00::3"])
    #expect(try flush.forget([IPAddress("10.0.0.1")!, IPAddress("fd00::1")!]) == 0)
  }

  @Test("Of an address that moved away, flows with those who are still here stay", arguments: [5_000, 0])
  func movedAway(_ fewFlows: Int) throws {
    let sandbox = KernelSandbox()
    let host = try Self.host(sandbox)
    var flush = try ConntrackFlush(namespace: host)
    flush.fewFlows = fewFlows
    let local = Set(["10.0.0.3", "fd00::2"].map { IPAddress($0)! })
    #expect(try flush.forget([IPAddress("10.0.0.1")!, IPAddress("fd00::1")!], butFlowsWith: local) == 2)
    #expect(try Self.flows(sandbox, host) == [
      "src=10.0.0.2 dst=10.0.0.3", "src=10.0.0.3 dst=10.0.0.1", "src=fd00::1 dst=fd00::2", "src=fd00::2 dst=fd00::3",
    ])
  }

  @Test("Twenty that ask at once are all answered, and all their flows are gone")
  func shared() async throws {
    let sandbox = KernelSandbox()
    let host = try Self.host(sandbox)
    let memory = FlowMemory(namespace: host)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for number in 0..<20 {
        group.addTask { try await memory.forget([IPAddress(number % 2 == 0 ? "10.0.0.\(number % 4 + 1)" : "fd00::\(number % 4)")!]) }
      }
      try await group.waitForAll()
    }
    #expect(try Self.flows(sandbox, host) == [])
  }

  @Test("A namespace that tracks nothing is asked and left alone")
  func nothing() throws {
    let sandbox = KernelSandbox()
    #expect(try ConntrackFlush(namespace: try sandbox.namespace()).forget([IPAddress("10.0.0.1")!]) == 0)
  }
}

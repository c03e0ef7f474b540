/// One host for tests: a namespace with an agent in it, a datastore in memory, and workloads behind real cables.

import Addresses
import Datastore
import DatastoreMemory
import Dispatch
import Glibc
import HealthServer
import JSON
import KernelSandbox
import Logging
import NetlinkEdge
import Resources
import Sockets
import Synchronization
import Testing

@testable import FelixProgram

/// Blocks a thread of its own instead of one of the few that run tasks.
///
/// What `body` holds is let go before the caller goes on: a sandbox that the thread held last would outlive the process's last test.
func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  let work = Mutex<(@Sendable () throws -> Value)?>(body)
  return try await blockingTaken { try work.withLock { $0.take() }!() }
}
private func blockingTaken<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    do {
      try DedicatedThread.start {
        let result = Result { try body() }
        continuation.resume(with: result)
      }
    } catch {
      continuation.resume(throwing: error)
    }
  }
}

struct Unmet: Error, CustomStringConvertible {
  let description: String
}

/// An agent on a thread of its own, for a host namespace, with its feed.
///
/// Sendable: the agent and the waiters are touched only on the loop's thread, by work posted to its mailbox.
final class RunningFelix: @unchecked Sendable {
  private final class Inside: @unchecked Sendable {
    var flows: FlowSocket?
    var loop: EventLoop!
    var agent: FelixAgent!
    var waiters: [() -> Bool] = []
    func check() { waiters.removeAll { $0() } }
  }
  private let inside: Inside
  private let mailbox: EventLoop.Mailbox
  private let feeding: Task<Void, Never>
  private let ended: Task<Void, any Error>
  private let reporting: Task<Void, Never>?
  let readiness: ReadinessBoard

  init(_ host: NetworkNamespace, _ datastore: any Datastore, resyncInterval: Duration? = nil, reports: Bool = false) async throws {
    let inside = Inside()
    let readiness = ReadinessBoard()
    let (starts, started) = AsyncThrowingStream.makeStream(of: EventLoop.Mailbox.self)
    ended = Task {
      try await blocking {
        do {
          let loop = try EventLoop()
          var log = Logger(label: "felix")
          log.logLevel = getenv("FELIX_TEST_LOG") == nil ? .critical : .debug
          inside.loop = loop
          inside.agent = try FelixAgent(
            node: "h1", loop: loop, readiness: readiness, namespace: host, resyncInterval: resyncInterval, log: log)
          inside.agent.onRound = { inside.check() }
          if reports { inside.agent.reporter = StatusReporter(datastore, node: "h1", loop: loop) }
          started.yield(loop.mailbox)
          loop.run()
          inside.waiters = []
          inside.flows?.close()
          inside.flows = nil
          inside.agent = nil
          inside.loop = nil
        } catch {
          started.finish(throwing: error)
        }
      }
    }
    var iterator = starts.makeAsyncIterator()
    guard let mailbox = try await iterator.next() else { throw Unmet(description: "the agent's thread ended") }
    self.inside = inside
    self.mailbox = mailbox
    self.readiness = readiness
    let (keys, reported) = AsyncStream.makeStream(of: LeasedKeys.self)
    mailbox.post {
      if let reporter = inside.agent.reporter { reported.yield(reporter.leased) }
      reported.finish()
    }
    reporting = reports ? Task.detached { for await leased in keys { await leased.run() } } : nil
    let feed = FelixAgent.feed(datastore, node: "h1")
    feeding = Task.detached { await feed.run { events in mailbox.post { inside.agent.receive(events) } } }
  }

  /// The pages of its health, with what the program adds around the agent left out.
  var pages: HealthServer.Pages {
    let inside = inside
    return FelixAgent.pages(mailbox, ProbePatience()) { inside.agent }
  }
  /// Holds the loop's thread until the latch is opened.
  func block(until latch: DispatchSemaphore) { mailbox.post { latch.wait() } }

  func ask<Value: Sendable>(_ question: @escaping @Sendable (FelixAgent) -> Value) async -> Value {
    let inside = inside
    return await withCheckedContinuation { continuation in mailbox.post { continuation.resume(returning: question(inside.agent)) } }
  }
  func status() async -> JSONValue { await ask { $0.status() } }

  /// Waits, round by round, until the status is so; throws with the status when it does not come.
  func until(
    _ what: String, within limit: Duration = .seconds(10), _ condition: @escaping @Sendable (JSONValue) -> Bool
  ) async throws {
    let inside = inside
    let failure: String? = await withCheckedContinuation { continuation in
      mailbox.post {
        if condition(inside.agent.status()) { return continuation.resume(returning: nil) }
        var isDone = false
        let deadline = inside.loop.schedule(after: limit) {
          isDone = true
          continuation.resume(returning: "\(what): \(inside.agent.status().text())")
        }
        inside.waiters.append {
          if isDone { return true }
          guard condition(inside.agent.status()) else { return false }
          isDone = true
          deadline.cancel()
          continuation.resume(returning: nil)
          return true
        }
      }
    }
    if let failure { throw Unmet(description: failure) }
  }
  /// Until everything up to the revision has gone through the kernel.
  func until(_ revision: Revision) async throws {
    try await until("revision \(revision)") { ($0["revision"]?.integer ?? -1) >= revision.rawValue && $0["inSync"]?.bool == true }
  }
  func until(_ workload: Workload, is state: String) async throws {
    try await until("\(workload.name) \(state)") { $0.endpoint(workload)?["state"]?.string == state }
  }
  /// Serves flow records until the agent ends.
  func serveFlows(at path: String) async throws {
    let inside = inside
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      mailbox.post {
        continuation.resume(with: Result { inside.flows = try FlowSocket(path: path, loop: inside.loop, flows: inside.agent.flowLog) })
      }
    }
  }
  /// Ends the agent and its sockets, as the end of its process would.
  func stop() async throws {
    feeding.cancel()
    await feeding.value
    reporting?.cancel()
    await reporting?.value
    mailbox.stop()
    try await ended.value
  }
}

extension JSONValue {
  func endpoint(_ workload: Workload) -> JSONValue? { self["endpoints"]?.array?.first { $0["interface"]?.string == workload.interface } }
  func finding(_ key: ResourceKey) -> String? {
    self["findings"]?.array?.first { $0["object"]?.string == key.description }?["finding"]?.string
  }
}

struct Workload: Sendable {
  let number: Int
  let namespace: NetworkNamespace
  var name: String { "w\(number)" }
  var interface: String { "caliw\(number)" }
  var address: String { "10.65.0.\(number)" }
  var address6: String { "fd65::\(number)" }
  var mac: String { "02:00:00:00:00:0\(number)" }
  var key: ResourceKey { ResourceKey(.workloadEndpoint, name: "h1-k8s-w\(number)-eth0") }
}

final class FelixRig: Sendable {
  let sandbox = KernelSandbox()
  let host: NetworkNamespace
  let datastore = MemoryDatastore()
  var store: ResourceStore { ResourceStore(datastore) }

  init() async throws {
    host = try sandbox.namespace("host")
    try sandbox.ip(host, "address", "add", "10.0.0.1/32", "dev", "lo")
    try await store.ensureDefaults()
  }

  func felix(resyncInterval: Duration? = nil, reports: Bool = false) async throws -> RunningFelix {
    try await RunningFelix(host, datastore, resyncInterval: resyncInterval, reports: reports)
  }

  /// Namespace and cable, addressed as the CNI plugin does it, switched on.
  func workload(_ number: Int) async throws -> Workload {
    let workload = Workload(number: number, namespace: try sandbox.namespace("w"))
    try await addCable(workload)
    return workload
  }
  func addCable(_ workload: Workload) async throws {
    let (sandbox, host) = (sandbox, host)
    try await blocking {
      let inside = workload.namespace
      let holder = "/proc/\(getpid())/fd/\(inside.descriptor.borrowed)"
      let peer = "peer name eth0 address \(workload.mac) netns \(holder)"
      let cable = "link add \(workload.interface) address ee:ee:ee:ee:ee:ee type veth \(peer)"
      try sandbox.ip(host, cable.split(separator: " ").map(String.init))
      try inside.ensureSysctl("0", "ipv6/conf/eth0/accept_dad")
      for line in [
        "link set eth0 up", "address add \(workload.address)/32 dev eth0", "-6 address add \(workload.address6)/128 dev eth0 nodad",
        "route add 169.254.1.1 dev eth0 scope link", "route add default via 169.254.1.1",
        "-6 route add default via fe80::ecee:eeff:feee:eeee dev eth0",
      ] { try sandbox.ip(inside, line.split(separator: " ").map(String.init)) }
      try sandbox.ip(host, "link", "set", workload.interface, "up")
    }
  }

  /// Writes the endpoint's record; returns the revision.
  @discardableResult
  func record(
    _ workload: Workload, labels: [String: String] = [:], addresses: [String]? = nil, node: String = "h1"
  ) async throws -> Revision {
    var spec = WorkloadEndpointSpec()
    spec.orchestrator = "k8s"
    spec.node = node
    spec.pod = workload.name
    spec.endpoint = "eth0"
    spec.interfaceName = workload.interface
    spec.mac = MACAddress(workload.mac)
    spec.ipNetworks = (addresses ?? [workload.address, workload.address6]).map { IPAddress($0)!.hostPrefix }
    spec.profiles = ["projectcalico-default-allow"]
    let metadata = Metadata(
      name: workload.key.name, namespace: "default", labels: labels.merging(["name": workload.name]) { first, _ in first })
    return try await store.apply(Resource(metadata, .workloadEndpoint(spec))).stored.revision
  }

  /// Stores a document as it is, whatever it says.
  @discardableResult
  func put(_ key: ResourceKey, spec: JSONValue) async throws -> Revision {
    var metadata: JSONValue = ["name": .string(key.name)]
    if let namespace = key.namespace { metadata["namespace"] = .string(namespace) }
    let document: JSONValue = [
      "apiVersion": "projectcalico.org/v3", "kind": .string(key.kind.rawValue), "metadata": metadata, "spec": spec,
    ]
    return try await put(key, text: document.text())
  }
  @discardableResult
  func put(_ key: ResourceKey, text: String) async throws -> Revision {
    guard case .committed(let revision) = try await datastore.transact(if: [], then: [.put(key.path, Array(text.utf8))]) else {
      throw Unmet(description: "a write without conditions commits")
    }
    return revision
  }
  @discardableResult
  func remove(_ key: ResourceKey) async throws -> Revision {
    guard case .committed(let revision) = try await datastore.transact(if: [], then: [.delete(key.path)]) else {
      throw Unmet(description: "a write without conditions commits")
    }
    return revision
  }

  func ip(_ arguments: String) async throws -> String {
    let (sandbox, host) = (sandbox, host)
    return try await blocking { try sandbox.ip(host, arguments.split(separator: " ").map(String.init)) }
  }
  func run(_ namespace: NetworkNamespace, _ path: String, _ arguments: String...) async throws -> (code: CInt, output: String) {
    let sandbox = sandbox
    return try await blocking { try sandbox.tryRun(namespace, path, arguments) }
  }
  func table() async throws -> String { try await run(host, "nft", "list", "table", "inet", "margay").output }
  func ping(_ from: NetworkNamespace, _ to: String) async throws -> Bool {
    try await run(from, "ping", "-c", "1", "-W", "0.5", to).code == 0
  }
  func ping(_ from: Workload, _ to: Workload) async throws -> Bool { try await ping(from.namespace, to.address) }
  /// Flows through the host with the address as source or destination.
  func flows(_ address: String) async throws -> [Substring] {
    try await run(host, "conntrack", "-L").output.split(separator: "\n").filter { $0.contains("=\(address) ") }
  }
}

/// Asks again every few milliseconds, for what nobody tells of; does not hold a thread meanwhile.
func eventually(_ what: String, within limit: Duration = .seconds(10), _ condition: () async throws -> Bool) async throws {
  let deadline = ContinuousClock.now + limit
  while try await !condition() {
    guard ContinuousClock.now < deadline else { throw Unmet(description: what) }
    try await Task.sleep(for: .milliseconds(5))
  }
}

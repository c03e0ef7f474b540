/// A daemon's first reading of a large cluster on etcd, and how late it hears of a change: through the feed that every daemon reads, beside
/// etcd's own command on the same keys.

import Datastore
import Datastores
import Glibc
import Resources
import Sockets

enum EndpointBench {
  static let count = 100_000

  static func run(_ report: Report, _ options: Options) async throws {
    let store = try await BenchStore(.etcd, scratch: options.scratch)
    let prefix = ResourceKey.prefix(of: .workloadEndpoint)
    for start in stride(from: 0, to: count, by: 100) {
      let operations = (start..<start + 100).map { number -> DatastoreOperation in
        let (name, document) = endpoint(number)
        return .put("\(prefix)shop/\(name)", document)
      }
      guard case .committed = try await store.datastore.transact(if: [], then: operations) else { throw BenchProblem("a put conflicts") }
    }
    var (ours, peers, lists) = (Measured(), Measured(), Measured())
    for round in 0..<6 {
      let read = try measure([Main.executablePath(), "feed", store.name])
      let listed = try measure([Main.executablePath(), "list", store.name, prefix])
      let peer = try measure(["etcdctl", "--endpoints", store.endpoint, "get", "--prefix", prefix])
      // The first round warms the server's caches up.
      guard round > 0 else { continue }
      ours.add(read)
      lists.add(listed)
      peers.add(peer)
    }
    report.add("100k workload endpoints, keys and values only", "ms wall", lists.wall, peer: ("etcdctl get", peers.wall))
    report.add("…, the client", "µs CPU/key", lists.cpu, peer: ("etcdctl get", peers.cpu))
    report.add("…, peak memory", "MB", lists.memory, peer: ("etcdctl get", peers.memory))
    report.add("100k workload endpoints read, decoded and in sync", "ms wall", ours.wall, peer: ("etcdctl get", peers.wall))
    report.add("…, the client", "µs CPU/key", ours.cpu, peer: ("etcdctl get", peers.cpu))
    report.add("…, peak memory", "MB", ours.memory, peer: ("etcdctl get", peers.memory))
    try await watching(store, report)
    await store.end()
  }

  /// An endpoint as Calico's CNI plugin writes it.
  private static func endpoint(_ number: Int) -> (name: String, document: [UInt8]) {
    let (host, pod) = ("host-\(number % 1000)", "web-\(number)")
    let name = "host--\(number % 1000)-k8s-web--\(number)-eth0"
    let address = "10.\(number >> 16 & 255).\(number >> 8 & 255).\(number & 255)/32"
    let text = """
      {"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"\(name)","namespace":"shop",\
      "uid":"27d22f08-6f45-4197-b9cd-254a177e8fa1","creationTimestamp":"2026-11-23T07:31:25Z","labels":{"app":"web","tier":"front",\
      "pod-template-hash":"6c9b8d7f5","projectcalico.org/namespace":"shop","projectcalico.org/orchestrator":"k8s",\
      "projectcalico.org/serviceaccount":"default"}},"spec":{"orchestrator":"k8s","workload":"","node":"\(host)",\
      "containerID":"f6a1c2c9f3b84e70a1b2c3d4e5f60718293a4b5c6d7e8f90","pod":"\(pod)","endpoint":"eth0","serviceAccountName":"default",\
      "ipNetworks":["\(address)"],"profiles":["kns.shop","ksa.shop.default"],"interfaceName":"cali\(number)","mac":"0e:5f:3a:11:22:33",\
      "ports":[{"name":"http","protocol":"TCP","port":8080}]}}
      """
    return (name, Array(text.utf8))
  }

  // MARK: Readers in processes of their own

  /// `margay-bench feed STORE`: until everything was reported.
  static func feed(_ name: String) async throws {
    let store = try DatastoreChoice(option: name, environment: { _ in nil }).open()
    let feed = ResourceFeed(store, kinds: [.workloadEndpoint])
    let (done, continuation) = AsyncStream<Int>.makeStream()
    let reading = Task {
      await feed.run { events in
        var (read, isInSync) = (0, false)
        for event in events {
          switch event {
          case .resource(_, _?): read += 1
          case .unreadable(_, let reason): tell(reason)
          case .inSync: isInSync = true
          default: break
          }
        }
        continuation.yield(read)
        if isInSync { continuation.finish() }
      }
    }
    let read = await done.reduce(0, +)
    reading.cancel()
    guard read == count else { throw BenchProblem("\(read) of \(count) endpoints read") }
  }
  /// `margay-bench list STORE PREFIX`
  static func list(_ name: String, _ prefix: String) async throws {
    let store = try DatastoreChoice(option: name, environment: { _ in nil }).open()
    var read = 0
    _ = try await store.eachPage(prefix: prefix) { read += $0.count }
    guard read == count else { throw BenchProblem("\(read) of \(count) keys read") }
  }
  /// `margay-bench cost COMMAND…`: runs it with its output thrown away, and says seconds of CPU, of wall, and the most memory in KiB.
  static func cost(_ words: [String]) throws {
    let null = try Files.null()
    var code: CInt = 0
    let cost = try costOfChildren {
      code = try ChildCommand(words[0], Array(words[1...]), environment: ["ETCDCTL_API=3", "PATH=/usr/bin:/bin"], output: null.borrowed).start()
        .wait()
    }
    guard code == 0 else { throw BenchProblem("\(words.joined(separator: " ")): exit code \(code)") }
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_CHILDREN.rawValue), &usage)
    say("\(cost.cpu) \(cost.wall) \(usage.ru_maxrss)")
  }

  private struct Measured {
    var (cpu, wall, memory) = (Samples(), Samples(), Samples())
    mutating func add(_ other: Measured) {
      cpu.values += other.cpu.values
      wall.values += other.wall.values
      memory.values += other.memory.values
    }
  }
  /// The kernel tells the most memory of all children that were waited for, so each is measured by a process that has no other.
  private static func measure(_ words: [String]) throws -> Measured {
    let result = try ChildCommand(Main.executablePath(), ["cost"] + words).runToEnd()
    let numbers = result.output.split { $0 == " " || $0 == "\n" }.compactMap { Double($0) }
    guard result.code == 0, numbers.count == 3 else { throw BenchProblem(result.output) }
    return Measured(
      cpu: Samples(numbers[0] * 1e6 / Double(count)), wall: Samples(numbers[1] * 1000), memory: Samples(numbers[2] * 1024 / 1e6))
  }

  // MARK: Watching

  /// Another process puts at a steady rate; the value is the time before the put. Both watchers hear of the same puts.
  private static func watching(_ store: BenchStore, _ report: Report) async throws {
    let key = ResourceKey.prefix(of: .globalNetworkSet) + "bench"
    let rounds = 2200
    let revision = try await store.datastore.list(prefix: key).revision
    let pipe = try Pipe()
    let peer = try ServerProcess(
      ChildCommand(
        "etcdctl", ["--endpoints", store.endpoint, "watch", key, "--rev", "\(revision.rawValue + 1)"],
        environment: ["ETCDCTL_API=3", "PATH=/usr/bin:/bin"], output: pipe.writing.borrowed, deathSignal: SIGKILL))
    let input = pipe.reading.borrowed
    let (theirs, continuation) = AsyncStream<[Double]>.makeStream()
    try DedicatedThread.start {
      guard let file = fdopen(dup(input), "r") else { return }
      var (line, size, samples): (UnsafeMutablePointer<CChar>?, Int, [Double]) = (nil, 0, [])
      while samples.count < rounds, getline(&line, &size, file) > 0, let line {
        let now = MonotonicInstant.now.nanoseconds
        if let written = Int64(String(cString: line).dropLast()) { samples.append(Double(now - written) / 1000) }
      }
      fclose(file)
      continuation.yield(samples)
      continuation.finish()
    }
    let name = store.name
    let writer = try ServerProcess(
      ChildCommand(Main.executablePath(), ["steady", name, key, "\(rounds)"], deathSignal: SIGKILL))
    var samples: [Double] = []
    watch: for try await batch in store.datastore.watch(prefixes: [key], after: revision) {
      let now = MonotonicInstant.now.nanoseconds
      for case .put(let item) in batch.events {
        guard let written = Int64(String(decoding: item.value, as: UTF8.self)) else { continue }
        samples.append(Double(now - written) / 1000)
        if samples.count == rounds { break watch }
      }
    }
    var peers: [Double] = []
    for await found in theirs { peers = found }
    writer.end()
    peer.end()
    // The first two hundred warm up.
    let (ours, other) = (Samples(Array(samples.dropFirst(200))), Samples(Array(peers.dropFirst(200))))
    report.add("put in one process → event in another, 500 a second", "µs wall", ours, peer: ("etcdctl watch", other))
    report.add(
      "…, p99", "µs wall", Samples(ours.quantile(0.99)), peer: ("etcdctl watch", Samples(other.quantile(0.99))))
  }

  /// `margay-bench steady STORE KEY COUNT`: puts, 500 a second.
  static func steady(_ name: String, _ key: String, _ count: Int) async throws {
    let store = try DatastoreChoice(option: name, environment: { _ in nil }).open()
    _ = try await store.get(key)
    let clock = ContinuousClock()
    let began = clock.now
    for number in 0..<count {
      try await Task.sleep(until: began + .milliseconds(2 * number), clock: clock)
      _ = try await store.transact(if: [], then: [.put(key, Array("\(MonotonicInstant.now.nanoseconds)".utf8))])
    }
    await store.close()
  }
}

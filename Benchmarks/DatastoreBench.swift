/// The datastores as a client meets them: writing, listing, and hearing of what another process wrote.

import Datastore
import Datastores
import Glibc
import Sockets

enum DatastoreBench {
  static let value = [UInt8](repeating: UInt8(ascii: "v"), count: 256)

  static func run(_ report: Report, _ options: Options) async throws {
    for kind in StoreKind.allCases {
      do {
        try await run(kind, report, options)
      } catch {
        report.add(Row(what: "datastore, \(kind.rawValue)", unit: "", note: "\(error)"))
      }
    }
  }

  private static func put(_ store: any Datastore, _ operations: [DatastoreOperation]) async throws {
    guard case .committed = try await store.transact(if: [], then: operations) else { throw BenchProblem("a put conflicts") }
  }

  /// Another process: a put for each line that it is given; the value is the time before the put.
  static func writer(_ name: String, count: Int) async throws {
    let store = try DatastoreChoice(option: name, environment: { _ in nil }).open(creating: true)
    _ = try await store.get("/bench")
    say("ready")
    for _ in 0..<count {
      guard readLine() != nil else { return }
      try await put(store, [.put("/bench/watched", Array("\(MonotonicInstant.now.nanoseconds)".utf8))])
    }
    await store.close()
  }

  private static func run(_ kind: StoreKind, _ report: Report, _ options: Options) async throws {
    let word = kind.rawValue
    let store = try await BenchStore(kind, scratch: options.scratch)
    let datastore = store.datastore
    let plain = kind == .sqlite ? try PlainSQLite(folder: options.scratch) : nil

    var waits = Samples()
    for number in 0..<1000 {
      let started = MonotonicInstant.now
      try await put(datastore, [.put("/bench/one/\(number % 100)", value)])
      if number >= 100 { waits.add(MonotonicInstant.now.seconds(since: started) * 1e6) }
    }
    // The peer's puts are those of one process from one script, whose start and reading count.
    let plainOnes = try plain.map { plain in Samples(try (0..<3).map { _ in try plain.put("/bench/one/", portions: 1000, portion: 1, keys: 100) * 1e6 }) }
    report.add("one put after the other, \(word)", "µs wall", waits, peer: plainOnes.map { (PlainSQLite.name, $0) })

    var wall = MonotonicInstant.now
    try await withThrowingTaskGroup(of: Void.self) { group in
      for lane in 0..<64 {
        group.addTask { for number in 0..<60 { try await put(datastore, [.put("/bench/many/\(lane)-\(number)", value)]) } }
      }
      try await group.waitForAll()
    }
    let crowd = MonotonicInstant.now.seconds(since: wall)
    report.add("64 writers at once, time for each put, \(word)", "µs wall", Samples(crowd * 1e6 / 3840))

    try await watching(store, report, options)

    let keys = 100_000
    let before = try await datastore.list(prefix: "/bench/watched").revision
    wall = .now
    for start in stride(from: 0, to: keys, by: 100) {
      try await put(
        datastore,
        (start..<(start + 100)).map { .put("/bench/list/\(String(repeating: "0", count: 6 - "\($0)".count))\($0)", value) })
    }
    let byHundred = Samples(MonotonicInstant.now.seconds(since: wall) * 1e6 / Double(keys))
    let plainHundreds = try plain.map { Samples(try $0.put("/bench/list/", portions: keys / 100, portion: 100, keys: keys) * 1e6) }
    report.add("puts by the hundred, \(word)", "µs wall/put", byHundred, peer: plainHundreds.map { (PlainSQLite.name, $0) })
    var cpu = Samples()
    var walls = Samples()
    var peerCPU = Samples()
    var peerWalls = Samples()
    for round in 0..<6 {
      let (started, cpuBefore) = (MonotonicInstant.now, CPUClock.own)
      let items = try await datastore.list(prefix: "/bench/list/").items
      guard items.count == keys else { throw BenchProblem("\(items.count) of \(keys) keys listed") }
      let seconds = MonotonicInstant.now.seconds(since: started)
      guard round > 0 else { continue }
      cpu.add((CPUClock.own - cpuBefore) * 1e6 / Double(keys))
      walls.add(seconds * 1000)
      guard let cost = kind == .sqlite ? try plain?.list("/bench/list/") : try etcdctlList(store) else { continue }
      peerCPU.add(cost.cpu * 1e6 / Double(keys))
      peerWalls.add(cost.wall * 1000)
    }
    let peer = kind == .etcd ? "etcdctl get" : plain.map { _ in PlainSQLite.name }
    report.add("list of 100k keys, \(word)", "ms wall", walls, peer: peer.map { ($0, peerWalls) })
    report.add("list of 100k keys, the client, \(word)", "µs CPU/key", cpu, peer: peer.map { ($0, peerCPU) })
    wall = .now
    var heard = 0
    for try await batch in datastore.watch(prefixes: ["/bench/list/"], after: before) {
      heard += batch.events.count
      if heard >= keys { break }
    }
    let caughtUp = Samples(MonotonicInstant.now.seconds(since: wall) * 1000)
    let plainHistory = try plain.map { Samples(try $0.history("/bench/list/").wall * 1000) }
    report.add(
      "watch that catches up 100k events, \(word)", "ms wall", caughtUp, peer: plainHistory.map { (PlainSQLite.name, $0) })
    await store.end()
  }

  private static func etcdctlList(_ store: BenchStore) throws -> Cost {
    try costOfChildren {
      let null = try Files.null()
      let code = try ChildCommand(
        "etcdctl", ["--endpoints", store.endpoint, "get", "--prefix", "/bench/list/"],
        environment: ["ETCDCTL_API=3", "PATH=/usr/bin:/bin"], output: null.borrowed
      ).start().wait()
      guard code == 0 else { throw BenchProblem("etcdctl get: exit code \(code)") }
    }
  }

  private static func watching(_ store: BenchStore, _ report: Report, _ options: Options) async throws {
    let rounds = 320
    let (toWriter, fromWriter) = (try Pipe(), try Pipe())
    let child = try ServerProcess(
      ChildCommand(
        Main.executablePath(), ["write", store.name, "\(rounds)"], input: toWriter.reading.borrowed, output: fromWriter.writing.borrowed,
        deathSignal: SIGKILL))
    defer { child.end() }
    var byte: UInt8 = 0
    while byte != UInt8(ascii: "\n") {
      guard read(fromWriter.reading.borrowed, &byte, 1) == 1 else { throw BenchProblem("the writing process ended") }
    }
    let revision = try await store.datastore.list(prefix: "/bench/watched").revision
    var samples = Samples()
    var round = 0
    func next() throws { try Files.write([0x0a], descriptor: toWriter.writing.borrowed, name: "writer") }
    try next()
    for try await batch in store.datastore.watch(prefixes: ["/bench/watched"], after: revision) {
      let now = MonotonicInstant.now.nanoseconds
      for case .put(let item) in batch.events {
        guard let written = Int64(String(decoding: item.value, as: UTF8.self)) else { continue }
        round += 1
        if round > 20 { samples.add(Double(now - written) / 1000) }
      }
      if round == rounds { break }
      try next()
    }
    report.add("put in one process → event in another, \(store.kind.rawValue)", "µs wall", samples)
  }
}

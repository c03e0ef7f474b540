/// Health and metrics: the text that Prometheus reads, where it is served, and the server as a stranger sees it.
import Addresses
import Glibc
import FelixSettings
import HealthServer
import JSON
import Logging
import MetricsText
import Resources
import Sockets
import Synchronization
import Testing

@Suite("Prometheus' text format")
struct MetricsTests {
  static func page() -> String {
    var page = MetricsPage()
    page.gauge("m_state", "What \"it\" is:\none of \\ many.", 2, ["name": "a\"b\\c\nd", "peer": "fd00::1"])
    page.counter("m_total", "Things.", 12_345_678_901)
    // Of the same family, and late.
    page.gauge("m_state", "ignored", -0.25, ["name": "e", "peer": "ä"])
    var histogram = Histogram(bounds: [0.1, 1, 10])
    for value in [0.05, 0.1, 0.5, 20, 10] { histogram.observe(value) }
    page.histogram("m_seconds", "How long.", histogram, ["of": "x"])
    var summary = Summary()
    summary.observe(0.5)
    summary.observe(1)
    page.summary("m_time_seconds", "How long in all.", summary)
    page.gauge("m_odd", "Odd numbers.", .infinity, ["is": "inf"])
    page.gauge("m_odd", "", -.infinity, ["is": "-inf"])
    page.gauge("m_odd", "", .nan, ["is": "nan"])
    page.gauge("m_odd", "", 1e300, ["is": "big"])
    return page.text
  }

  @Test("Families, escapes, buckets and numbers, as a golden")
  func golden() throws {
    let folder = #filePath.split(separator: "/").dropLast(2).reduce("") { "\($0)/\($1)" } + "/Goldens/Metrics"
    let path = "\(folder)/page.txt"
    let text = Self.page()
    if unsafe getenv("UPDATE_GOLDENS") != nil { try Files.writeAtomically(Array(text.utf8), to: path) }
    #expect(text == (try Files.readText(path)))
  }

  @Test("The process tells its memory, time and start")
  func process() throws {
    var page = MetricsPage()
    ProcessMetrics.add(to: &page)
    func value(_ name: String) -> Double? {
      page.text.split(separator: "\n").first { $0.hasPrefix("\(name) ") }.flatMap { Double($0.split(separator: " ")[1]) }
    }
    #expect(try #require(value("process_resident_memory_bytes")) > 1_000_000)
    #expect(try #require(value("process_cpu_seconds_total")) > 0)
    let start = try #require(value("process_start_time_seconds"))
    let now = Double(SystemClock.realtimeNanoseconds) / 1e9
    #expect(start < now + 2 && start > now - 86_400)
  }
}

@Suite("Where health and metrics are served")
struct ServingPlanTests {
  private func plan(
    _ role: ServingPlan.Role = .felix, _ changes: [(inout FelixConfigurationSpec) -> Void] = [], _ environment: [String: String] = [:]
  ) -> ServingPlan {
    let stored = changes.map {
      var spec = FelixConfigurationSpec()
      $0(&spec)
      return spec
    }
    let variables = FelixConfigurationSpec(SettingsLayer(environment: environment).values)
    return ServingPlan(role, FelixConfigurationSpec(merging: stored + [variables]), environment: environment)
  }
  private let all: Set<HealthPage> = [.liveness, .readiness, .metrics]

  @Test("Without settings: everything on localhost, on a port of each daemon's own")
  func defaults() {
    #expect(plan().places == [ServingPlace(host: "localhost", port: 9099): all])
    #expect(plan(.bgp).places == [ServingPlace(host: "localhost", port: 9097): all])
  }

  @Test("The node's configuration overrules the cluster's field by field, and the environment both")
  func order() {
    let cluster: (inout FelixConfigurationSpec) -> Void = {
      $0.healthPort = 1000
      $0.healthHost = "10.0.0.1"
      $0.prometheusMetricsEnabled = true
    }
    let node: (inout FelixConfigurationSpec) -> Void = { $0.healthPort = 2000 }
    #expect(
      plan(.felix, [cluster, node]).places
        == [ServingPlace(host: "10.0.0.1", port: 2000): all, ServingPlace(host: "0.0.0.0", port: 9091): [.metrics]])
    #expect(
      plan(.felix, [cluster, node], ["FELIX_HEALTHENABLED": "False", "FELIX_PROMETHEUSMETRICSPORT": "3000"]).places
        == [ServingPlace(host: "0.0.0.0", port: 3000): [.metrics]])
    // Felix's numbers are not bgp's: both would never get one.
    #expect(
      plan(.bgp, [cluster, node], ["MARGAY_BGP_HEALTHPORT": "4000", "FELIX_HEALTHPORT": "5000"]).places
        == [ServingPlace(host: "10.0.0.1", port: 4000): all, ServingPlace(host: "0.0.0.0", port: 9095): [.metrics]])
  }

  @Test("One place for both is one place")
  func same() {
    let both: (inout FelixConfigurationSpec) -> Void = {
      $0.healthPort = 1000
      $0.healthHost = "::"
      $0.prometheusMetricsEnabled = true
      $0.prometheusMetricsHost = "::"
      $0.prometheusMetricsPort = 1000
    }
    #expect(plan(.felix, [both]).places == [ServingPlace(host: "::", port: 1000): all])
  }

  @Test("Metrics that shall be protected are not served open, and that is told", arguments: ["Cert", "Key", "CA"])
  func closed(file: String) {
    let plan = plan(.felix, [{
      $0.prometheusMetricsEnabled = true
      $0.values["prometheusMetrics\(file)File"] = .text("/c")
    }])
    #expect(plan.places.keys.map(\.port) == [9099])
    #expect(plan.problems.count == 1)
  }

  @Test("A variable that says nothing sensible is told and ignored", arguments: ["maybe", "0", "70000"])
  func nonsense(value: String) {
    let plan = plan(.bgp, [], ["MARGAY_BGP_HEALTHPORT": value])
    #expect(plan.places == [ServingPlace(host: "localhost", port: 9097): all])
    #expect(plan.problems.count == 1)
    #expect(plan.problems.first?.contains("MARGAY_BGP_HEALTHPORT") == true && plan.problems.first?.contains(value) == true)
  }
}

@Suite("The health server", .serialized, .timeLimit(.minutes(1)))
struct HealthServerTests {
  private final class Daemon: Sendable {
    let isGood = Mutex(true)
    var pages: HealthServer.Pages {
      HealthServer.Pages(
        liveness: { HealthReport([.init("loop")]) },
        readiness: { HealthReport([.init("loop"), .init("rules", fault: self.isGood.withLock { $0 } ? nil : "refused \"x\"")]) },
        metrics: { self.isGood.withLock { $0 } ? "m 1\n" : nil })
    }
  }
  /// Somebody else with a port.
  private final class Holder {
    let socket: Socket
    let port: UInt16
    init() throws {
      socket = try Socket.listening(on: SocketAddress(.v4(IPv4Address("127.0.0.1")!), port: 0))
      port = try socket.localAddress()?.port ?? 0
    }
  }
  private let place = ServingPlace(host: "localhost", port: 0)
  private var log: Logger {
    var log = Logger(label: "health")
    log.logLevel = .critical
    return log
  }
  private func eventually(_ what: String, _ condition: () throws -> Bool) async throws {
    let deadline = ContinuousClock.now + .seconds(10)
    while try !condition() {
      try #require(ContinuousClock.now < deadline, "\(what)")
      try await Task.sleep(for: .milliseconds(5))
    }
  }
  /// What a plain client reads: head and body, until the server closes.
  private func get(_ port: Int, _ path: String) throws -> (head: String, body: String) {
    let socket = try Socket.tcp(.v4, nonblocking: false)
    _ = try socket.connect(to: SocketAddress(.v4(IPv4Address("127.0.0.1")!), port: UInt16(port)))
    try socket.sendAll(Array("GET \(path) HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".utf8))
    var octets: [UInt8] = []
    while let count = try socket.receive(into: &octets), count > 0 {}
    let text = String(decoding: octets, as: UTF8.self)
    let end = try #require(text.firstRange(of: "\r\n\r\n"))
    return (String(text[..<end.lowerBound]), String(text[end.upperBound...]))
  }

  @Test("The three pages: 200 or 503, with each reporter by name")
  func pages() async throws {
    let daemon = Daemon()
    let server = HealthServer(daemon.pages, log: log)
    let task = Task.detached { await server.run() }
    server.want(ServingPlan(places: [place: [.liveness, .readiness, .metrics]]))
    try await eventually("open") { server.ports[place] != nil }
    let port = try #require(server.ports[place])
    let live = try get(port, "/liveness")
    #expect(live.head.hasPrefix("HTTP/1.1 200 "))
    #expect(try JSONValue(parsing: Array(live.body.utf8)) == ["ok": true, "reporters": [["name": "loop", "ok": true]]])
    #expect(try get(port, "/readiness").head.hasPrefix("HTTP/1.1 200 "))
    let metrics = try get(port, "/metrics")
    #expect(metrics.head.lowercased().contains("content-type: text/plain; version=0.0.4"))
    #expect(metrics.body == "m 1\n")
    #expect(try get(port, "/").head.hasPrefix("HTTP/1.1 404 "))
    daemon.isGood.withLock { $0 = false }
    let ready = try get(port, "/readiness")
    #expect(ready.head.hasPrefix("HTTP/1.1 503 "))
    let report = try JSONValue(parsing: Array(ready.body.utf8))
    #expect(report["ok"]?.bool == false)
    #expect(report["reporters"]?.array?.last == ["name": "rules", "ok": false, "reason": "refused \"x\""])
    #expect(try get(port, "/metrics").head.hasPrefix("HTTP/1.1 503 "))
    task.cancel()
    await task.value
    #expect(throws: (any Error).self) { try get(port, "/liveness") }
  }

  @Test("A port that is taken is told, and served once it is free")
  func taken() async throws {
    var holder: Holder? = try Holder()
    let port = try #require(holder?.port)
    let server = HealthServer(Daemon().pages, log: log, retry: .milliseconds(50))
    let task = Task.detached { await server.run() }
    let taken = ServingPlace(host: "127.0.0.1", port: Int(port))
    server.want(ServingPlan(places: [taken: [.liveness], place: [.liveness]]))
    try await eventually("told") { server.problems.contains { $0.contains("127.0.0.1:\(port)") && $0.contains("in use") } }
    try await eventually("the other is served") { server.ports[place] != nil }
    holder = nil
    try await eventually("served") { server.ports[taken] != nil && server.problems.isEmpty }
    #expect(try get(Int(port), "/liveness").head.hasPrefix("HTTP/1.1 200 "))
    // Moved in place: what stays the same stays open.
    let stays = server.ports[place]
    server.want(ServingPlan(places: [place: [.liveness]]))
    try await eventually("closed") { server.ports[taken] == nil }
    #expect(server.ports[place] == stays)
    #expect(throws: (any Error).self) { try get(Int(port), "/liveness") }
    task.cancel()
    await task.value
  }

  @Test("A client that says nothing does not keep others out")
  func silent() async throws {
    let server = HealthServer(Daemon().pages, log: log)
    let task = Task.detached { await server.run() }
    server.want(ServingPlan(places: [place: [.liveness]]))
    try await eventually("open") { server.ports[place] != nil }
    let port = try #require(server.ports[place])
    let silent = try Socket.tcp(.v4, nonblocking: false)
    _ = try silent.connect(to: SocketAddress(.v4(IPv4Address("127.0.0.1")!), port: UInt16(port)))
    #expect(try get(port, "/liveness").head.hasPrefix("HTTP/1.1 200 "))
    task.cancel()
    await task.value
  }
}

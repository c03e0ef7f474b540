/// What Felix tells the datastore and who probes it, over a real kernel.

import Datastore
import DatastoreMemory
import Dispatch
import JSON
import KernelSandbox
import Names
import Resources
import Sockets
import Testing

@testable import FelixProgram

@Suite("Felix's status", .enabled(if: KernelSandbox.isAvailable), .serialized, .timeLimit(.minutes(2)))
struct StatusTests {
  static let base = "/calico/felix/v2/no-region/host/h1"
  static func path(_ workload: Workload) -> String { "\(base)/workload/k8s/default%2f\(workload.name)/endpoint/eth0" }
  static let configuration = ResourceKey(.felixConfiguration, name: "default")

  private func document(_ rig: FelixRig, _ path: String) async throws -> JSONValue? {
    try await rig.datastore.get(path).map { try JSONValue(parsing: $0.value) }
  }
  private func until(_ rig: FelixRig, _ workload: Workload, is status: String?) async throws {
    try await eventually("\(workload.name) \(status ?? "gone")") {
      try await document(rig, Self.path(workload))?["status"]?.string == status
    }
  }

  @Test("An endpoint's key follows its interface and goes with its record; the host's keys stand where Calico's readers look")
  func life() async throws {
    let rig = try await FelixRig()
    try await rig.put(Self.configuration, spec: ["endpointReportingDelay": "0s"])
    let w1 = try await rig.workload(1)
    try await rig.record(w1)
    let felix = try await rig.felix(reports: true)
    try await until(rig, w1, is: "up")
    #expect(try await document(rig, Self.path(w1))?["reason"] == nil)
    let item = try #require(try await rig.datastore.get("\(Self.base)/status"))
    #expect(item.lease != nil)
    let status = try JSONValue(parsing: item.value)
    #expect(status["time"]?.string.flatMap { UTCTime($0) } != nil)
    #expect(status["uptime"]?.double != nil)
    #expect(status["first_update"]?.bool == true)
    #expect(try await rig.datastore.get("\(Self.base)/last_reported_status")?.lease == .some(nil))
    #expect(try await rig.datastore.get(Self.path(w1))?.lease == item.lease)

    _ = try await rig.ip("link set \(w1.interface) down")
    try await until(rig, w1, is: "down")
    #expect(try await document(rig, Self.path(w1))?["reason"]?.string == "interface caliw1 is down")
    _ = try await rig.ip("link set \(w1.interface) up")
    try await until(rig, w1, is: "up")
    _ = try await rig.ip("link delete \(w1.interface)")
    try await until(rig, w1, is: "down")
    #expect(try await document(rig, Self.path(w1))?["reason"]?.string == "interface caliw1 does not exist")
    try await rig.remove(w1.key)
    try await until(rig, w1, is: nil)
    try await felix.stop()
  }

  @Test("What the kernel cannot be made to hold is an error with the reason, at the endpoint and at the host")
  func refusal() async throws {
    let rig = try await FelixRig()
    try await rig.put(Self.configuration, spec: ["endpointReportingDelay": "0s"])
    let w1 = try await rig.workload(1)
    try await rig.record(w1)
    _ = try await rig.ip("route add unreachable \(w1.address)/32 proto static")
    let felix = try await rig.felix(reports: true)
    try await eventually("the error") { try await document(rig, Self.path(w1))?["status"]?.string == "error" }
    let endpoint = try #require(try await document(rig, Self.path(w1)))
    #expect(endpoint["reason"]?.string?.contains(w1.address) == true, "\(endpoint.text())")
    try await eventually("the host's problem") {
      try await document(rig, "\(Self.base)/status")?["margay"]?["problems"]?.array?.contains {
        $0["problem"]?.string?.contains(w1.address) == true && $0["since"]?.string.flatMap { UTCTime($0) } != nil
      } == true
    }
    _ = try await rig.ip("route delete unreachable \(w1.address)/32 proto static")
    try await until(rig, w1, is: "up")
    try await eventually("no problem") { try await document(rig, "\(Self.base)/status")?["margay"]?["problems"]?.array?.isEmpty == true }
    try await felix.stop()
  }

  @Test("A policy that cannot be read is a finding of the host's status, by its name")
  func finding() async throws {
    let rig = try await FelixRig()
    let w1 = try await rig.workload(1)
    try await rig.record(w1)
    let policy = ResourceKey(.networkPolicy, name: "web")
    try await rig.put(policy, text: "{ no JSON")
    let felix = try await rig.felix(reports: true)
    try await eventually("the finding") {
      let findings = try await document(rig, "\(Self.base)/status")?["margay"]?["findings"]?.array
      return findings?.contains { $0["object"]?.string == policy.description } == true
    }
    try await felix.stop()
  }

  @Test("A restart over a right kernel changes no status and no since, and removes what is left of endpoints that went meanwhile")
  func restart() async throws {
    let rig = try await FelixRig()
    let (w1, w2) = (try await rig.workload(1), try await rig.workload(2))
    try await rig.record(w1)
    try await rig.record(w2)
    let first = try await rig.felix(reports: true)
    try await until(rig, w1, is: "up")
    try await until(rig, w2, is: "up")
    // A time that no clock gives now, to be found again.
    let before: JSONValue = ["status": "up", "since": "2001-01-01T00:00:00Z"]
    try await first.stop()
    _ = try await rig.datastore.transact(if: [], then: [.put(Self.path(w1), before.bytes(pretty: false))])
    let start = try await rig.datastore.list(prefix: Self.base).revision
    let watch = rig.datastore.watch(prefixes: ["\(Self.base)/workload/"], after: start)
    try await rig.remove(w2.key)
    let second = try await rig.felix(reports: true)
    try await until(rig, w2, is: nil)
    try await eventually("w1 under the new lease") { try await rig.datastore.get(Self.path(w1))?.lease != nil }
    #expect(try await document(rig, Self.path(w1)) == before)
    var seen: [WatchEvent] = []
    for try await batch in watch {
      seen += batch.events
      if seen.count >= 2 { break }
    }
    for case .put(let item) in seen {
      #expect(item.key == Self.path(w1))
      #expect(item.value == before.bytes(pretty: false))
    }
    try await second.stop()
  }

  @Test("Regions, and reporting switched off and on, take effect in place")
  func settings() async throws {
    let rig = try await FelixRig()
    let w1 = try await rig.workload(1)
    try await rig.record(w1)
    let felix = try await rig.felix(reports: true)
    try await until(rig, w1, is: "up")
    try await rig.put(Self.configuration, spec: ["openstackRegion": "north"])
    let moved = Self.path(w1).replacing("no-region", with: "region-north")
    try await eventually("the key of the region") { try await rig.datastore.get(moved) != nil }
    try await eventually("the old keys gone") { try await rig.datastore.list(prefix: Self.base).items.isEmpty }
    try await rig.put(Self.configuration, spec: ["endpointReportingEnabled": false])
    try await eventually("no endpoints") {
      try await rig.datastore.list(prefix: "/calico/felix/v2/").items.allSatisfy { $0.key.hasSuffix("status") }
    }
    try await rig.put(Self.configuration, spec: ["reportingInterval": "0s"])
    try await until(rig, w1, is: "up")
    try await eventually("no status of the host") { try await rig.datastore.get("\(Self.base)/status") == nil }
    try await felix.stop()
  }

  @Test("A loop that hangs fails liveness and readiness, and answers again when it goes on")
  func hanging() async throws {
    let rig = try await FelixRig()
    let felix = try await rig.felix(reports: true)
    try await felix.until("sync") { $0["inSync"]?.bool == true }
    #expect(await felix.pages.liveness().isGood)
    #expect(await felix.pages.readiness().isGood)
    let metrics = try #require(await felix.pages.metrics())
    #expect(metrics.contains("\nfelix_resync_state 2\n"))
    #expect(metrics.contains("\nmargay_felix_endpoints{state=\"up\"} 0\n"))
    let latch = DispatchSemaphore(value: 0)
    felix.block(until: latch)
    let pages = felix.pages
    async let liveness = pages.liveness()
    async let readiness = pages.readiness()
    let answers = await [liveness, readiness]
    for answer in answers {
      #expect(!answer.isGood)
      #expect(answer.reporters.first?.name == "loop")
    }
    latch.signal()
    #expect(await felix.pages.liveness().isGood)
    try await felix.stop()
  }

  @Test("Before the datastore has been read, Felix lives and is not ready, and says why; a later outage leaves it ready")
  func readiness() async throws {
    let rig = try await FelixRig()
    rig.datastore.setOutage("no power")
    let felix = try await rig.felix(reports: true)
    try await felix.until("the outage") { $0["datastore"]?.string?.contains("no power") == true || $0["inSync"]?.bool == false }
    #expect(await felix.pages.liveness().isGood)
    try await eventually("the reason") {
      await felix.pages.readiness().reporters.contains { $0.name == "datastore" && $0.fault?.contains("no power") == true }
    }
    rig.datastore.setOutage(nil)
    try await eventually("ready") { await felix.pages.readiness().isGood }
    rig.datastore.setOutage("no power again")
    try await eventually("the note") { await felix.pages.readiness().reporters.contains { $0.note?.contains("no power again") == true } }
    #expect(await felix.pages.readiness().isGood)
    rig.datastore.setOutage(nil)
    try await felix.stop()
  }

  @Test("Status and settings as values")
  func values() {
    let time = UTCTime("2026-01-01T00:00:00Z")!
    #expect(EndpointStatus.up.document(since: time).text() == #"{"status":"up","since":"2026-01-01T00:00:00Z"}"#)
    #expect(
      EndpointStatus.error("no").document(since: time).text() == #"{"status":"error","reason":"no","since":"2026-01-01T00:00:00Z"}"#)
    var status = HostStatus()
    let long = String(repeating: "ä", count: 500)
    for number in 0..<80 { status.problems.append(.init(object: nil, text: "\(number) \(long)", since: time)) }
    let document = status.document(time: time, uptime: 12.345, isFirst: true)
    #expect(document.text().hasPrefix(#"{"time":"2026-01-01T00:00:00Z","uptime":12.3,"first_update":true,"margay":{"#))
    #expect(document["margay"]?["problemCount"]?.integer == 80)
    #expect(document["margay"]?["problems"]?.array?.count == 50)
    #expect(document.text().utf8.count < 50 * 500)

    var cluster = FelixConfigurationSpec()
    cluster.reportingIntervalSeconds = 0
    cluster.reportingTTLSeconds = 5
    var node = FelixConfigurationSpec()
    node.reportingIntervalSeconds = 7
    let settings = ReportingSettings(FelixConfigurationSpec(merging: [cluster, node]))
    #expect(settings.interval == .seconds(7))
    #expect(settings.terms == LeasedKeys.Terms(ttlSeconds: 5, delay: .seconds(1)))
    #expect(settings.reportsEndpoints)
    #expect(ReportingSettings(cluster).interval == nil)
  }
}

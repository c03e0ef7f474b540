/// The demo: a datacenter from nothing to packets, a policy changed and a host's processes killed under traffic, and everything gone again.
import Addresses
import Glibc
import JSON
import NetlinkEdge
import PolicyOracle
import Resources
import Sockets
import Tables

/// Where the demo reads what is stored, to ask the oracle about it. Given by the command, which knows the datastores.
public typealias ResourceReader = () throws -> [Resource]

public struct Demo {
  let lab: Lab
  let readResources: ResourceReader
  var narrator: Narrator { lab.narrator }
  static let tcpPorts: [UInt16] = [80, 5432]
  static let udpPorts: [UInt16] = [53]
  public static let services: [Service] = [.icmp, .tcp(80), .tcp(5432), .udp(53)]

  public struct Result: Sendable {
    public var cells = 0
    public var wrong = 0
    public var lost = 0
    public var problems: [String] = []
    public var isGood: Bool { wrong == 0 && lost == 0 && problems.isEmpty }
  }

  public init(lab: Lab, readResources: @escaping ResourceReader) {
    self.lab = lab
    self.readResources = readResources
  }

  /// Runs the scenario of one arrangement after the other. The lab must not stand yet; it stands afterwards.
  public func run(_ arrangements: [Topology.Arrangement]) throws -> Result {
    var result = Result()
    narrator.heading("A datacenter: a rack router, \(lab.topology.hosts.count) hosts, \(lab.topology.workloads.count) workloads")
    try lab.up()
    let traffic = try narrator.step("echo servers in every workload") {
      try Traffic(stations: lab.stations(), tcpPorts: Self.tcpPorts, udpPorts: Self.udpPorts)
    }
    defer { traffic.close() }
    try narrator.step("margay apply: policies") { try lab.apply(DemoDocuments.policies, as: "policies.yaml") }
    try showMatrix("Who reaches whom, with policies in two tiers", traffic, &result)
    showRouting()
    try changePolicy(traffic, &result)
    try restart(traffic, &result)
    for arrangement in arrangements.dropFirst() {
      narrator.heading("The same datacenter, other routing: \(arrangement.rawValue)")
      try narrator.step("margay apply: \(arrangement == .mesh ? "full mesh" : "no mesh, one AS for each host"); birdc configure") {
        try lab.rearrange(arrangement)
      }
      try narrator.step("BGP sessions established") { try lab.waitForSessions() }
      try showMatrix("Who reaches whom", traffic, &result)
      showRouting()
      try restart(traffic, &result)
    }
    return result
  }

  // MARK: The matrix

  /// The oracle's answer for every probe.
  func expectations() throws -> [Probe: (isAllowed: Bool, because: String)] {
    let oracle = PolicyOracle(resources: try readResources())
    var expected: [Probe: (isAllowed: Bool, because: String)] = [:]
    for from in lab.topology.workloads {
      for to in lab.topology.workloads where to.name != from.name {
        for family in IPFamily.allCases {
          guard let source = lab.attached[from.name]?.addresses[family], let destination = lab.attached[to.name]?.addresses[family] else {
            continue
          }
          for service in Self.services {
            let verdict = oracle.verdict(Self.packet(source, destination, service))
            expected[Probe(from: from.name, to: to.name, family: family, service: service)] = (
              verdict.isAllowed, "\(verdict.decisions.last.map { "\($0)" } ?? "")"
            )
          }
        }
      }
    }
    return expected
  }

  static func packet(_ source: IPAddress, _ destination: IPAddress, _ service: Service) -> Packet {
    switch service {
    case .icmp:
      source.family == .v4
        ? Packet(from: source, to: destination, protocol: .icmp, icmpType: 8, icmpCode: 0)
        : Packet(from: source, to: destination, protocol: .icmpv6, icmpType: 128, icmpCode: 0)
    case .tcp(let port): Packet(from: source, to: destination, protocol: .tcp, sourcePort: 40000, destinationPort: port)
    case .udp(let port): Packet(from: source, to: destination, protocol: .udp, sourcePort: 40000, destinationPort: port)
    }
  }

  /// Asks until seen equals expected, at most `settle`: a policy needs a moment from the datastore to five kernels.
  func matrix(_ traffic: Traffic, settle: Duration) throws -> (matrix: Matrix, tries: Int) {
    let expected = try expectations()
    let deadline = MonotonicInstant.now + settle
    var tries = 0
    while true {
      tries += 1
      let seen = try traffic.ask(Array(expected.keys))
      let cells = expected.map { probe, expectation in
        Matrix.Cell(
          probe: probe, isExpected: expectation.isAllowed, because: expectation.because, outcome: seen[probe] ?? .silent)
      }
      let matrix = Matrix(cells: cells)
      if matrix.wrong.isEmpty || MonotonicInstant.now > deadline { return (matrix, tries) }
    }
  }

  /// The matrix of a lab that stands.
  public func matrixNow() throws -> Matrix {
    let traffic = try Traffic(stations: lab.stations(), tcpPorts: Self.tcpPorts, udpPorts: Self.udpPorts)
    defer { traffic.close() }
    return try matrix(traffic, settle: .zero).matrix
  }

  func showMatrix(_ title: String, _ traffic: Traffic, _ result: inout Result) throws {
    narrator.heading(title)
    let (matrix, tries) = try narrator.step(
      "\(Self.services.count) services × \(lab.topology.workloads.count) workloads × 2 families, real packets"
    ) {
      try self.matrix(traffic, settle: Duration.seconds(6))
    }
    narrator.say(matrix.text(narrator.palette, names: lab.topology.workloads.map(\.name), services: Self.services))
    let allowed = matrix.cells.count { $0.isExpected }
    narrator.say(
      "  \(matrix.cells.count) cells: \(allowed) expected to be reached, \(matrix.cells.count - allowed) not; "
        + (matrix.wrong.isEmpty ? narrator.palette("all as expected", .green) : narrator.palette("\(matrix.wrong.count) wrong", .red))
        + (tries > 1 ? " (after \(tries) rounds)" : ""))
    result.cells += matrix.cells.count
    result.wrong += matrix.wrong.count
  }

  // MARK: Routing

  func showRouting() {
    narrator.heading("BGP sessions and routes")
    narrator.say(LabReport.sessions(LabReport.documents(lab, "bgp")).text(narrator.palette, indent: 2))
    narrator.say(LabReport.routes(LabReport.documents(lab, "bgp")).text(narrator.palette, indent: 2))
  }

  // MARK: A policy changes under traffic

  func changePolicy(_ traffic: Traffic, _ result: inout Result) throws {
    narrator.heading("A policy changes while traffic flows")
    narrator.say("  policy `web` takes TCP port 80 away from the clients and gives them UDP port 53")
    let gained = IPFamily.allCases.map { Probe(from: "client-1", to: "web-1", family: $0, service: .udp(53)) }
    // A new UDP probe for each datagram would measure the socket; one flow that was denied so far has no conntrack entry and serves as well.
    try traffic.startStreams(gained, interval: .milliseconds(1))
    let applied = try narrator.step("margay apply: policy web") {
      let started = MonotonicInstant.now
      try lab.apply(DemoDocuments.changedWeb, as: "web.yaml")
      return (started, MonotonicInstant.now)
    }
    try lab.waitUntil("the first datagram passes", seconds: 5) { gained.allSatisfy { traffic.answersSoFar($0) > 0 } }
    for report in traffic.stopStreams() {
      guard let first = report.firstSent(after: applied.0, answered: true) else {
        result.problems.append("\(report.probe.family): no datagram passed after the policy allowed it")
        continue
      }
      let early = report.answeredAt.enumerated().count { $0.element != nil && report.sentAt[$0.offset] < applied.0 }
      if early > 0 { result.problems.append("\(report.probe.family): \(early) datagrams passed before the policy allowed them") }
      narrator.say(
        "  \(report.probe.family): first datagram through \(seconds(first - applied.0)) after the command started"
          + (first > applied.1 ? ", \(seconds(first - applied.1)) after it ended" : ", before it ended"))
    }
    try showMatrix("Who reaches whom now", traffic, &result)
  }

  // MARK: Processes die under traffic

  func restart(_ traffic: Traffic, _ result: inout Result) throws {
    guard let host = lab.topology.hosts.first(where: { $0.name == "host2" }) ?? lab.topology.hosts.first else { return }
    narrator.heading("Every Margay process of \(host.name) is killed and started again while traffic flows")
    let crossing = try expectations().filter { probe, expectation in
      expectation.isAllowed && (lab.attached[probe.from]?.host == host.name || lab.attached[probe.to]?.host == host.name)
    }.keys.sorted { "\($0)" < "\($1)" }
    try traffic.startStreams(crossing, interval: .milliseconds(5))
    try lab.waitUntil("traffic flows", seconds: 5) { crossing.allSatisfy { traffic.answersSoFar($0) > 0 } }
    let killed = try narrator.step("kill -9 \(host.name): node, felix, bgp") { try lab.killNode(host) }
    if killed < 3 { result.problems.append("only \(killed) processes of \(host.name) were there to kill") }
    usleep(1_500_000)
    try narrator.step("margay node on \(host.name) again; in sync, sessions established") {
      try lab.startNode(host)
      try lab.waitForSessions()
    }
    try narrator.step("routes settled") {
      try lab.waitUntil("bgp on \(host.name) has finished its restart", seconds: 30) {
        lab.status(of: host, "bgp")?["isDeferring"]?.bool == false
      }
    }
    usleep(500_000)
    let reports = traffic.stopStreams()
    let sent = reports.reduce(0) { $0 + $1.sent }
    let lost = reports.reduce(0) { $0 + $1.lost }
    var byService = TextTable(["service", "streams>", "requests>", "lost>", "longest gap>"])
    for service in Self.services {
      let group = reports.filter { $0.probe.service == service }
      guard !group.isEmpty else { continue }
      byService.append([
        TextTable.Cell(service.description), TextTable.Cell("\(group.count)"), TextTable.Cell("\(group.reduce(0) { $0 + $1.sent })"),
        TextTable.Cell("\(group.reduce(0) { $0 + $1.lost })"), TextTable.Cell(seconds(group.map(\.gapMax).max() ?? .zero)),
      ])
    }
    narrator.say(byService.text(narrator.palette, indent: 2))
    let felix = lab.status(of: host, "felix")?["kernelChanges"]?.integer
    let bgp = lab.status(of: host, "bgp")?["kernelChanges"]?.integer
    narrator.say(
      "  \(sent) requests, \(lost == 0 ? narrator.palette("none lost", .green) : narrator.palette("\(lost) lost", .red)); "
        + "changes the new processes made to the kernel: felix \(felix.map { "\($0)" } ?? "?"), bgp \(bgp.map { "\($0)" } ?? "?")")
    for report in reports where report.lost > 0 || report.failure != nil {
      let problem = report.failure.map { " (\($0))" } ?? ""
      narrator.say(
        "  \(narrator.palette("lost", .red)): \(report.probe.from) → \(report.probe.to) \(report.probe.service) \(report.probe.family): \(report.lost) of \(report.sent)\(problem)"
      )
    }
    if felix != 0 || bgp != 0 {
      result.problems.append("the restart on \(host.name) changed a kernel that was right: felix \(felix ?? -1), bgp \(bgp ?? -1)")
    }
    for report in reports { if let failure = report.failure { result.problems.append("\(report.probe): \(failure)") } }
    result.lost += lost
  }
}

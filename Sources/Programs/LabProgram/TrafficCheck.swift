/// Who should reach whom, and who does: the policy oracle's answer and that of real packets, for the workloads and services asked about.
import Addresses
import PolicyOracle
import Resources
import Sockets

public struct TrafficCheck {
  let lab: Lab
  /// Names of workloads that ask and that answer, and what for.
  public let from: [String]
  public let to: [String]
  public let services: [Service]

  /// So many sockets at a time stay far below a process's limit of descriptors.
  private static let probesAtOnce = 600

  /// All workloads and the topology's services, unless fewer are named.
  public init(lab: Lab, from: [String] = [], to: [String] = [], services: [Service] = []) throws {
    for name in from + to { _ = try lab.workload(name) }
    let names = lab.topology.workloads.map(\.name)
    self.lab = lab
    self.from = from.isEmpty ? names : from
    self.to = to.isEmpty ? names : to
    self.services = services.isEmpty ? lab.topology.services : services
  }

  /// The echo servers that the probes need.
  public func open() throws -> Traffic {
    var tcp: [UInt16] = []
    var udp: [UInt16] = []
    for service in services {
      switch service {
      case .icmp: break
      case .tcp(let port): tcp.append(port)
      case .udp(let port): udp.append(port)
      }
    }
    return try Traffic(stations: lab.stations(), tcpPorts: tcp, udpPorts: udp)
  }

  /// The oracle's answer for every probe.
  public func expectations() throws -> [Probe: Verdict] {
    let objects = try lab.objects()
    let oracle = PolicyOracle(resources: objects.resources, unreadable: objects.unreadable)
    var expected: [Probe: Verdict] = [:]
    for from in from {
      for to in to where to != from {
        for family in IPFamily.allCases {
          guard let source = lab.attached[from]?.addresses[family], let destination = lab.attached[to]?.addresses[family] else { continue }
          for service in services {
            let probe = Probe(from: from, to: to, family: family, service: service)
            expected[probe] = oracle.verdict(Self.packet(source, destination, service))
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

  /// Asks until seen equals expected, at most `settle`: a policy needs a moment from the datastore to every kernel.
  public func matrix(_ traffic: Traffic, settle: Duration) throws -> (matrix: Matrix, tries: Int) {
    try matrix(traffic, expected: try expectations(), settle: settle)
  }

  func matrix(_ traffic: Traffic, expected: [Probe: Verdict], settle: Duration) throws -> (matrix: Matrix, tries: Int) {
    let probes = expected.keys.sorted { "\($0)" < "\($1)" }
    let deadline = MonotonicInstant.now + settle
    var tries = 0
    while true {
      tries += 1
      var seen: [Probe: Outcome] = [:]
      for start in stride(from: 0, to: probes.count, by: Self.probesAtOnce) {
        Interruption.stopHere()
        seen.merge(try traffic.ask(Array(probes[start..<min(start + Self.probesAtOnce, probes.count)]))) { $1 }
      }
      let matrix = Matrix(
        cells: probes.map { Matrix.Cell(probe: $0, verdict: expected[$0]!, outcome: seen[$0] ?? .silent) }, from: from, to: to,
        services: services)
      if matrix.wrong.isEmpty || MonotonicInstant.now > deadline { return (matrix, tries) }
    }
  }
}

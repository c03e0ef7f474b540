/// Who reaches whom: the oracle's answer beside that of real packets.
import Addresses
import JSON
import PolicyOracle
import Resources
import Sockets
import Tables

extension Demo {
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
}

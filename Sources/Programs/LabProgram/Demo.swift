/// The demo: a datacenter from nothing to packets, a policy changed and a host's processes killed under traffic, and everything gone again.
import Resources

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
    for scene in Scene.all { try scene.play(self, traffic, &result) }
    for arrangement in arrangements.dropFirst() {
      narrator.heading("The same datacenter, other routing: \(arrangement.rawValue)")
      try narrator.step("margay apply: \(arrangement == .mesh ? "full mesh" : "no mesh, one AS for each host"); birdc configure") {
        try lab.rearrange(arrangement)
      }
      try narrator.step("BGP sessions established") { try lab.waitForSessions() }
      for scene in Scene.all where scene.isRepeated { try scene.play(self, traffic, &result) }
    }
    return result
  }
}

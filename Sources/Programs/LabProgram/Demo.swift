/// The demo: a datacenter from nothing to packets, a policy changed and a host's processes killed under traffic, and everything gone again.

public struct Demo {
  let lab: Lab
  /// Every workload and service of the lab.
  let check: TrafficCheck
  var narrator: Narrator { lab.narrator }

  public struct Result: Sendable {
    public var cells = 0
    public var wrong = 0
    public var lost = 0
    public var problems: [String] = []
    public var isGood: Bool { wrong == 0 && lost == 0 && problems.isEmpty }
  }

  public init(lab: Lab) throws {
    self.lab = lab
    check = try TrafficCheck(lab: lab)
  }

  /// Runs the scenario of one arrangement after the other. The lab must not stand yet; it stands afterwards.
  public func run(_ arrangements: [Topology.Arrangement]) throws -> Result {
    var result = Result()
    narrator.heading("A datacenter: a rack router, \(lab.topology.hosts.count) hosts, \(lab.topology.workloads.count) workloads")
    try lab.up()
    let traffic = try narrator.step("echo servers in every workload") {
      try check.open()
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

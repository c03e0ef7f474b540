/// What the demo shows, one scene after the other, each in a file of its own.

/// One thing shown with the lab standing and echo servers in every workload.
public struct Scene: Sendable {
  public let name: String
  /// Shown again when the demo has changed how routes travel.
  let isRepeated: Bool
  let play: @Sendable (Demo, Traffic, inout Demo.Result) throws -> Void

  /// In the order in which they are played. Each leaves the lab as it found it, except for policies.
  public static let all: [Scene] = [
    Scene(name: "matrix", isRepeated: true) { demo, traffic, result in
      try demo.showMatrix("Who reaches whom", traffic, &result)
    },
    Scene(name: "routing", isRepeated: true) { demo, _, _ in demo.showRouting() },
    Scene(name: "policy-change", isRepeated: false) { demo, traffic, result in try demo.changePolicy(traffic, &result) },
    Scene(name: "datastore-outage", isRepeated: false) { demo, traffic, result in try demo.loseDatastore(traffic, &result) },
    Scene(name: "move", isRepeated: true) { demo, traffic, result in try demo.moveWorkload(traffic, &result) },
    Scene(name: "restart", isRepeated: true) { demo, traffic, result in try demo.restart(traffic, &result) },
  ]
}
